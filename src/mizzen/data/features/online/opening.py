"""Online stores by URL: `lmdb:///var/lib/mizzen/online`, `redis://host:6379/0`, `rediss://…`, `valkey://…`.

The module of a kind of store is imported when one is opened: whoever keeps features in LMDB needs no Redis client.
"""

import importlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from mizzen.data.features.definition import Definition
from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.view import OnlineView, described_key

_REDIS = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}


def open_store(url: str) -> OnlineStore:
    """The store at a URL.

    Raises `ValueError` for a URL of another kind, and `StoreUnavailable` where the store cannot be opened.
    """
    parts = urlsplit(url)
    if parts.scheme == "lmdb" and parts.netloc == "" and parts.path.startswith("/"):
        return LmdbStore(Path(unquote(parts.path)))
    if parts.scheme not in _REDIS:
        raise ValueError(f"expected a URL such as lmdb:///var/lib/mizzen/online or redis://host:6379/0, got {url!r}")
    try:
        module = importlib.import_module("mizzen.data.features.online.redis_store")
    except ModuleNotFoundError as error:
        raise StoreUnavailable(f"{error.name} is not installed, which {url} needs: install mizzen[redis]") from error
    store: OnlineStore = module.RedisStore(url.replace(parts.scheme, _REDIS[parts.scheme], 1))
    return store


def open_view(store: OnlineStore, namespace: str, definition: Definition) -> OnlineView:
    """The view as its writers described it in the store.

    Raises `StoreUnavailable` where none of them was there yet.
    """
    (described,) = store.get([described_key(namespace, definition)])
    if described is None:
        raise StoreUnavailable(
            f"FeatureView {definition.name}: version {definition.version} is not in the online store yet"
        )
    return OnlineView(definition, pa.ipc.read_schema(pa.py_buffer(described)))
