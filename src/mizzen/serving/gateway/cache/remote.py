"""The tier of all gateways that know the same Redis (or Valkey).

It may be slow or away, and no request waits for it longer than `TIMEOUT_S`: a look-up that fails is a miss, and after
a failure it is left alone for a while. Entries carry the wall clock's time of their end, and Redis forgets them by
itself; so a version that is replaced is freed there when its entries' time is over.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mizzen.serving.gateway.cache.entry import Entry, packed, unpacked

log = logging.getLogger("mizzen.gateway")
TIMEOUT_S = 0.05
"""A request waits so long: more than a look-up on another machine of the same network takes, less than most models."""
REST_S_FIRST = 0.5
REST_S_MAX = 30.0
WRITES_MAX = 256
"""Writes on their way; beyond, what comes is not kept."""


@dataclasses.dataclass(slots=True)
class RemoteStatistics:
    """What `RemoteCache.statistics` tells."""

    failures: int = 0
    dropped: int = 0
    """Writes that were not done: too many on their way, or Redis is left alone."""


class RemoteCache:
    """One Redis, as one gateway process sees it."""

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Raises `ValueError` for a URL that is none of Redis."""
        self.statistics = RemoteStatistics()
        self._redis: Redis = Redis.from_url(url, socket_timeout=timeout_s * 4, socket_connect_timeout=timeout_s * 4)
        self._timeout_s = timeout_s
        self._clock, self._wall = clock, wall
        self._again_at_s = 0.0
        self._rest_s = REST_S_FIRST
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def is_up(self) -> bool:
        """Whether it is worth asking."""
        return self._clock() >= self._again_at_s

    async def get(self, place: str) -> Entry | None:
        """The entry there, its end on this process's clock. Never raises, and takes `TIMEOUT_S` at most."""
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._redis.get(place)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        self._rest_s = REST_S_FIRST
        entry = unpacked(data) if isinstance(data, bytes) else None
        if entry is None:
            return None
        left_s = entry.expires_s - self._wall()
        return msgspec.structs.replace(entry, expires_s=self._clock() + left_s) if left_s > 0 else None

    def put(self, place: str, entry: Entry, ttl_s: float) -> None:
        """Keeps the entry, soon."""
        if not self.is_up or len(self._writes) >= WRITES_MAX:
            self.statistics.dropped += 1
            return
        data = packed(msgspec.structs.replace(entry, expires_s=self._wall() + ttl_s))
        task = asyncio.get_running_loop().create_task(self._write(place, data, ttl_s))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def settled(self) -> None:
        """Waits until all writes are through."""
        while self._writes:
            await asyncio.gather(*self._writes)

    async def close(self) -> None:
        """Ends its connections."""
        for task in self._writes:
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._redis.aclose()

    async def _write(self, place: str, data: bytes, ttl_s: float) -> None:
        try:
            await self._redis.set(place, data, px=max(1, round(ttl_s * 1000)))
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.statistics.failures += 1
        if self.is_up:
            log.warning("Redis is left alone for %.1f s: %r", self._rest_s, error)
            self._again_at_s = self._clock() + self._rest_s
            self._rest_s = min(2 * self._rest_s, REST_S_MAX)
