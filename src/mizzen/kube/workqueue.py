"""A queue of keys to reconcile. A key waits at most once and is worked on by at most one worker at a time.

A key added while it is worked on is queued again when that work is done: no change is missed and none is reconciled by
two at once. It holds no objects and no reasons: what to do is read from the state when a worker gets to the key.

    add ──► waiting ──get──► working ──done──► (added meanwhile? waiting again)
    add_after, add_rate_limited ──► later ──► add

Failed keys come back after growing waits of their own, and all failing keys together are held to an overall rate, so
that a server in trouble is not hammered by a thousand keys that fail at once.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mizzen.kube.backoff import Growth

K = TypeVar("K", bound=Hashable)

RETRY_GROWTH = Growth(first_s=0.05, longest_s=120.0)
"""A first retry that nobody notices; a key that keeps failing is tried every two minutes."""


class TokenBucket:
    """`burst` at once, then `rate_per_s`. Knows no clock: the time is given."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at_s: float | None = None

    def take(self, now_s: float) -> float:
        """Takes a token, ahead of time if need be, and returns the wait until it is really there."""
        self._fill(now_s)
        self._tokens -= 1.0
        return max(0.0, -self._tokens / self._rate_per_s)

    def try_take(self, now_s: float) -> bool:
        """Takes a token if there is one."""
        self._fill(now_s)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _fill(self, now_s: float) -> None:
        if self._at_s is not None:
            self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """The queue now, and since the start."""

    waiting: int
    working: int
    later: int
    """Keys with a timer."""
    failing: int
    """Keys whose last work failed."""
    added: int
    retries: int
    oldest_s: float
    """How long the first in line has waited."""


class WorkQueue(Generic[K]):
    """See the module. All on one event loop; only `get` waits."""

    def __init__(
        self,
        *,
        growth: Growth = RETRY_GROWTH,
        retries_per_s: float = 20.0,
        retries_burst: int = 100,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._growth = growth
        self._bucket = TokenBucket(retries_per_s, retries_burst)
        self._rng = rng
        self._waiting: deque[K] = deque()
        self._since_s: dict[K, float] = {}
        """Keys that wait, and those to wait again when their work is done: since when."""
        self._working: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._shut = False
        self._added = self._retries = 0

    def add(self, key: K) -> None:
        """To be worked on as soon as a worker is free."""
        if self._shut or key in self._since_s:
            return
        self._added += 1
        self._since_s[key] = self._now_s()
        if key not in self._working:
            self._waiting.append(key)
            self._wake.set()

    def add_after(self, key: K, wait_s: float) -> None:
        """To be added after that time; of several such for one key, the earliest counts."""
        if self._shut:
            return
        if wait_s <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        due_s = loop.time() + wait_s
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= due_s:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due_s, self._due, key)

    def add_rate_limited(self, key: K) -> float:
        """To be tried again after a failure. Returns the wait."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._retries += 1
        wait_s = max(self._growth.wait_s(failures, self._rng()), self._bucket.take(self._now_s()))
        self.add_after(key, wait_s)
        return wait_s

    def forget(self, key: K) -> None:
        """The key's work succeeded: its next failure is its first."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """How often the key failed in a row."""
        return self._failures.get(key, 0)

    async def get(self) -> K | None:
        """The next key, to be given back with `done`; `None` once the queue is shut."""
        while not self._waiting and not self._shut:
            self._wake.clear()
            await self._wake.wait()
        if self._shut:
            return None
        key = self._waiting.popleft()
        del self._since_s[key]
        self._working.add(key)
        self._idle.clear()
        return key

    def done(self, key: K) -> None:
        """The work on the key is over, well or badly."""
        self._working.discard(key)
        if not self._working:
            self._idle.set()
        if key in self._since_s and not self._shut:
            self._waiting.append(key)
            self._wake.set()

    def shutdown(self) -> None:
        """Gives out no more keys. What waits is dropped: the state still says what there is to do."""
        self._shut = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._wake.set()

    async def idle(self) -> None:
        """Waits until no key is being worked on."""
        await self._idle.wait()

    def statistics(self) -> QueueStatistics:
        oldest_s = self._now_s() - self._since_s[self._waiting[0]] if self._waiting else 0.0
        return QueueStatistics(
            len(self._waiting), len(self._working), len(self._timers), len(self._failures),
            self._added, self._retries, oldest_s,
        )  # fmt: skip

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
