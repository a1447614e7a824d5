"""Records in Redis or Valkey.

A transaction watches its place: where another writer was first, it is run again on what that one stored, after a pause
by chance, so that writers who collided do not do so again. The place and
the records go in one MULTI, which the server applies whole; with `appendonly yes` it is durable within the server's own
`appendfsync`. A server that comes back empty has no place either, so the next materialisation starts from the
beginning.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.online.store import Changes

_ATTEMPTS = 20
_TIMEOUT_S = 2.0
_PAUSE_S, _PAUSE_S_MAX = 0.001, 0.1
"""Of the first pause, and the longest; each may be twice the one before."""


class RedisStore:
    """A store on a server at a URL: `redis://host:6379/0`, `rediss://…`."""

    def __init__(self, url: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._client: Any = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        self._where = f"online store {self._client.connection_pool.connection_kwargs.get('host', url)}"

    def __repr__(self) -> str:
        return f"RedisStore({self._where!r})"

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as error:
            raise StoreUnavailable(f"{self._where}: {error}") from error

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._errors():
            found: list[bytes | None] = self._client.mget(keys) if keys else []
            return found

    def write(
        self, keys: Sequence[bytes], place: bytes, change: Callable[[bytes | None, list[bytes | None]], Changes]
    ) -> None:
        with self._errors():
            for attempt in range(_ATTEMPTS):
                if attempt:
                    time.sleep(random.uniform(0.0, min(_PAUSE_S * 2**attempt, _PAUSE_S_MAX)))  # noqa: S311 - no secret
                with self._client.pipeline(transaction=True) as pipeline, contextlib.suppress(redis.WatchError):
                    pipeline.watch(place)
                    kept, *records = pipeline.mget([place, *keys])
                    changes = change(kept, records)
                    pipeline.multi()
                    for key, record in changes.items():
                        if record is None:
                            pipeline.delete(key)
                        else:
                            pipeline.set(key, record)
                    pipeline.execute()
                    return
        raise StoreUnavailable(f"{self._where}: {_ATTEMPTS} other writers came first; try again")

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        pattern = b"".join(b"\\" + bytes((byte,)) if byte in b"*?[]\\^-" else bytes((byte,)) for byte in prefix) + b"*"
        with self._errors():
            for key in self._client.scan_iter(match=pattern, count=1000):
                record = self._client.get(key)
                if record is not None:
                    yield key, record

    def close(self) -> None:
        self._client.close()
