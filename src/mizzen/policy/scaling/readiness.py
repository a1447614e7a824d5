"""How long a worker takes from being asked for to being ready, as measured: the horizon of the forecast.

The value used is a high one (nine in ten starts were faster), because a forecast that looks too short ahead is late
every time, and one that looks a little too far costs a few worker-seconds.
"""

from collections import deque

STARTS_KEPT = 64
QUANTILE = 0.9


class Readiness:
    """The last starts of one endpoint's workers."""

    __slots__ = ("_seconds", "_time_to_ready_s")

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=STARTS_KEPT)
        self._time_to_ready_s: float | None = None

    def add(self, seconds: float) -> None:
        """A worker was ready so long after it was asked for."""
        self._seconds.append(max(0.0, seconds))
        ordered = sorted(self._seconds)
        self._time_to_ready_s = ordered[min(len(ordered) - 1, int(QUANTILE * len(ordered)))]

    @property
    def time_to_ready_s(self) -> float | None:
        """`None` until a start was seen."""
        return self._time_to_ready_s
