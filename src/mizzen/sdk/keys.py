"""API keys of endpoints: made, listed, revoked, and the one this user's own tools use.

A key is shown once, when it is made. The cluster keeps its SHA-256 alone, in a Secret (see docs/architecture.md).
"""

import base64
import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Secret

from mizzen.kinds.names import LABEL_API_KEY, SECRET_TYPE_API_KEY
from mizzen.kube.client import Client
from mizzen.kube.errors import NotFound

ALL_ENDPOINTS = "*"
PREFIX = "mzn_"
"""Lets people and secret scanners see what the text is."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the cluster knows it: its name and the endpoints it opens."""

    name: str
    namespace: str
    endpoints: tuple[str, ...]
    created: str


def hash_of(key: str) -> str:
    """What is kept of a key: the hex SHA-256. A key has 256 random bits, so it needs no salt."""
    return hashlib.sha256(key.encode()).hexdigest()


async def create(
    client: Client,
    name: str,
    namespace: str,
    endpoints: tuple[str, ...] = (ALL_ENDPOINTS,),
    datasets: tuple[str, ...] = (),
    features: tuple[str, ...] = (),
) -> str:
    """Makes a key and returns it, once; rows may be sent to `datasets` with it, and `features` (views) be read.

    Raises `AlreadyExists`.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    opened = {name: ",".join(each) for name, each in (("datasets", datasets), ("features", features)) if each}
    secret = Secret(
        metadata=ObjectMeta(name=name, namespace=namespace, labels={LABEL_API_KEY: "true"}),
        type=SECRET_TYPE_API_KEY,
        stringData={"hash": hash_of(key), "endpoints": ",".join(endpoints), **opened},
        immutable=True,
    )
    await client.create(secret)
    return key


async def list_keys(client: Client, namespace: str | None) -> list[ApiKey]:
    """The keys of a namespace, or of all."""
    found = await client.list(Secret, namespace, labels={LABEL_API_KEY: "true"})
    return [_key(secret) for secret in found]


def _key(secret: Secret) -> ApiKey:
    meta = secret.metadata or ObjectMeta()
    endpoints = base64.b64decode((secret.data or {}).get("endpoints", "")).decode()
    created = f"{meta.creationTimestamp:%Y-%m-%d %H:%M}" if meta.creationTimestamp is not None else ""
    return ApiKey(meta.name or "", meta.namespace or "", tuple(endpoints.split(",")), created)


async def revoke(client: Client, name: str, namespace: str) -> None:
    """Takes the key away: the gateways stop taking it as soon as they hear of it. Raises `NotFound`."""
    secret = await client.get(Secret, name, namespace)
    if secret.type != SECRET_TYPE_API_KEY:
        raise NotFound({"code": 404, "reason": "NotFound", "message": f"Secret {namespace}/{name} is no API key"})
    await client.delete(Secret, name, namespace)


async def own_key(client: Client, namespace: str, home: Path) -> str:
    """The key of this user's own tools on this machine: `MIZZEN_API_KEY`, else one made once and kept in the home."""
    given = os.environ.get("MIZZEN_API_KEY")
    if given:
        return given
    user = re.sub(r"[^a-z0-9]+", "-", os.environ.get("USER", "user").lower()).strip("-") or "user"
    name = f"cli-{user}"
    path = home / "keys" / f"{namespace}.key"
    stored = path.read_text().strip() if path.exists() else ""
    try:
        secret = await client.get(Secret, name, namespace)
        known = base64.b64decode((secret.data or {}).get("hash", "")).decode()
        if stored and known == hash_of(stored):
            return stored
        await client.delete(Secret, name, namespace)
    except NotFound:
        pass
    key = await create(client, name, namespace)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(key)
    return key
