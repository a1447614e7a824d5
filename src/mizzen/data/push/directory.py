"""Which datasets take pushed rows, and whose keys open them: as the API server says, by watch.

A key is known by its SHA-256 alone. Keys of predictions do not write data: a Secret says in `datasets` which datasets
of its namespace its key opens (`*` for all).
"""

import base64
import hashlib
from collections.abc import Iterable
from typing import Literal, Protocol

from lightkube.resources.core_v1 import Secret

from mizzen.kinds import Dataset
from mizzen.kinds.names import LABEL_API_KEY, SECRET_TYPE_API_KEY
from mizzen.kube.client import Client
from mizzen.kube.informer import Informers

Verdict = Literal["allowed", "no key", "unknown key", "forbidden"]
KEY_CHARACTERS_MAX = 1024


class Directory(Protocol):
    """What the server asks of its surroundings."""

    def dataset(self, namespace: str, name: str) -> Dataset | None:
        """The Dataset, where it is there and takes pushed rows."""

    def pushed_to(self) -> Iterable[Dataset]:
        """All Datasets that take pushed rows."""

    def judge(self, key: str | None, namespace: str, name: str) -> Verdict:
        """What becomes of who shows this key and sends rows to this dataset, whether or not it exists."""


class KubernetesDirectory:
    """Follows one API server; run its informers."""

    def __init__(self, client: Client) -> None:
        self.informers = Informers(client)
        self._datasets = self.informers.of(Dataset)
        self._secrets = self.informers.of(Secret, labels={LABEL_API_KEY: "true"})
        self._secrets.add_index("hash", lambda secret: [_value(secret, "hash")])

    async def synced(self) -> None:
        """Returns when everything has been listed."""
        await self._datasets.synced()
        await self._secrets.synced()

    def dataset(self, namespace: str, name: str) -> Dataset | None:
        found = self._datasets.get(namespace, name)
        return found if found is not None and found.spec.source.push is not None else None

    def pushed_to(self) -> list[Dataset]:
        return [dataset for dataset in self._datasets.list() if dataset.spec.source.push is not None]

    def judge(self, key: str | None, namespace: str, name: str) -> Verdict:
        if not key or len(key) > KEY_CHARACTERS_MAX:
            return "no key"
        secrets = self._secrets.by_index("hash", hashlib.sha256(key.encode()).hexdigest())
        if not secrets:
            return "unknown key"
        for secret in secrets:
            if secret.type != SECRET_TYPE_API_KEY:
                continue
            opened = {each.strip() for each in _value(secret, "datasets").split(",")}
            if secret.metadata is not None and secret.metadata.namespace == namespace and opened & {"*", name}:
                return "allowed"
        return "forbidden"


def _value(secret: Secret, name: str) -> str:
    try:
        return base64.b64decode((secret.data or {}).get(name, "")).decode()
    except ValueError:
        return ""
