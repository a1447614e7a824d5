"""How fast what waits is worked off: measured between answers while there was always more to do.

An interval between two answers counts only if something waited all the time in between: with less to do than the
workers could, the rate would be that of the arrivals and say nothing of how long a backlog takes. It is kept for each
worker, so that it holds when workers come or go, and as a ratio of decayed sums (cost over worker seconds), so that
batches of all sizes weigh as they should.
"""

KEEP = 1 - 1 / 32
"""What an answer leaves of what was known: about the last 32 count."""


class Pace:
    """The drain rate of one model version."""

    __slots__ = ("_cost", "_since_s", "_worker_s")

    def __init__(self) -> None:
        self._cost = 0.0
        self._worker_s = 0.0
        self._since_s: float | None = None
        """The last answer, where something has waited ever since."""

    def answered(self, cost: int, now: float, workers: int, *, more_waits: bool) -> None:
        """A batch was answered; `more_waits`: whether anything waits at this moment."""
        if self._since_s is not None:
            self._cost = KEEP * self._cost + cost
            self._worker_s = KEEP * self._worker_s + (now - self._since_s) * workers
        self._since_s = now if more_waits else None

    def emptied(self) -> None:
        """Nothing waits any more."""
        self._since_s = None

    def per_s(self, workers: int) -> float:
        """Cost worked off each second by so many workers; 0 while that is not known."""
        return workers * self._cost / self._worker_s if self._worker_s > 0 else 0.0
