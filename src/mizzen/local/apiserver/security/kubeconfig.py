"""The kubeconfig of a home: where the server is, whom to trust, and the admin's token."""

import base64
from pathlib import Path
from typing import Any

import yaml

from mizzen.local.apiserver.security.files import read_private, write_private

CLUSTER = "mizzen"
ADMIN = "admin"


def write(path: Path, *, server: str, ca_pem: bytes, token: str, user: str = ADMIN, namespace: str = "default") -> None:
    """Writes the file with mode 0600, whole or not at all. `server` is a URL such as `https://127.0.0.1:6443`."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": CLUSTER,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(ca_pem).decode(),
                },
            }
        ],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": CLUSTER, "context": {"cluster": CLUSTER, "user": user, "namespace": namespace}}],
        "current-context": CLUSTER,
    }
    write_private(path, yaml.safe_dump(document, sort_keys=False).encode())


def token_in(path: Path) -> str | None:
    """The bearer token of the current context; None where there is no such file, or it is not as written here."""
    content = read_private(path)
    if content is None:
        return None
    try:
        document: Any = yaml.safe_load(content)
        contexts = {entry["name"]: entry["context"] for entry in document["contexts"]}
        users = {entry["name"]: entry["user"] for entry in document["users"]}
        token = users[contexts[document["current-context"]]["user"]].get("token")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
    return token if isinstance(token, str) else None
