"""Growing waits: each twice the last, with jitter so that many who failed together do not come back together."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Growth:
    """How waits grow: `first_s`, then `factor` times the last, at most `longest_s`; each less up to `jitter` of it."""

    first_s: float = 0.1
    longest_s: float = 10.0
    factor: float = 2.0
    jitter: float = 0.3

    def wait_s(self, failures: int, random_: float) -> float:
        """The wait after that many failures in a row (at least 1); `random_` is in [0, 1)."""
        # 2 ** 64 is beyond any wait there is, and a larger exponent would overflow.
        full = min(self.first_s * self.factor ** min(failures - 1, 64), self.longest_s)
        return full * (1.0 - self.jitter * random_)


class Backoff:
    """Counts failures in a row and says how long to wait."""

    def __init__(self, growth: Growth | None = None, rng: Callable[[], float] = random.random) -> None:
        self._growth = growth or Growth()
        self._rng = rng
        self.failures = 0

    def next_s(self) -> float:
        """One more failure: the wait before trying again."""
        self.failures += 1
        return self._growth.wait_s(self.failures, self._rng())

    def reset(self) -> None:
        self.failures = 0
