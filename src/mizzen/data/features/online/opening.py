"""Online stores by URL: `lmdb:///var/lib/mizzen/online`, `redis://host:6379/0`, `rediss://…`, `valkey://…`.

The module of a kind of store is imported when one is opened: whoever keeps features in LMDB needs no Redis client.
"""

import importlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.store import OnlineStore

_REDIS = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}


def open_store(url: str, *, durable: bool = True) -> OnlineStore:
    """The store at a URL. Where what is written may be lost with the machine, `durable=False` writes faster (LMDB).

    Raises `ValueError` for a URL of another kind, and `StoreUnavailable` where the store cannot be opened.
    """
    parts = urlsplit(url)
    if parts.scheme == "lmdb" and parts.netloc == "" and parts.path.startswith("/"):
        return LmdbStore(Path(unquote(parts.path)), durable=durable)
    if parts.scheme not in _REDIS:
        raise ValueError(f"expected a URL such as lmdb:///var/lib/mizzen/online or redis://host:6379/0, got {url!r}")
    try:
        module = importlib.import_module("mizzen.data.features.online.redis_store")
    except ModuleNotFoundError as error:
        raise StoreUnavailable(f"{error.name} is not installed, which {url} needs: install mizzen[redis]") from error
    store: OnlineStore = module.RedisStore(url.replace(parts.scheme, _REDIS[parts.scheme], 1))
    return store
