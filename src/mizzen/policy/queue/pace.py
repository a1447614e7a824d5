"""How much slower work is done than its batches alone would take: measured between answers while there was more to do.

The durations of batches (`durations`) say how long a backlog takes if workers never wait for anything. What they miss
(a gateway that is busy itself, workers that share a processor) shows in the time between answers. So `slowness` is the
ratio of two decayed sums: worker seconds that passed, over seconds that the batches answered in them were to take. An
interval counts only if something waited all the time in between; with less to do than the workers could, it would say
how often requests come, and not how fast they are worked off.

It is a ratio, and not a rate of rows, because a rate depends on how large the batches happened to be: a queue that is
kept short by refusals makes small batches, whose low rate would refuse more, and so on down.
"""

KEEP = 1 - 1 / 32
"""What an answer leaves of what was known: about the last 32 count."""


class Pace:
    """The drain of one model version, and what comes to it."""

    __slots__ = ("_came", "_came_s", "_planned_s", "_since_s", "_worker_s")

    def __init__(self) -> None:
        self._planned_s = 0.0
        self._worker_s = 0.0
        self._since_s: float | None = None
        """The last answer, where something has waited ever since."""
        self._came = self._came_s = 0.0

    def came(self, cost: int, elapsed_s: float) -> None:
        """So much came between two batches."""
        self._came = KEEP * self._came + cost
        self._came_s = KEEP * self._came_s + elapsed_s

    @property
    def comes_per_s(self) -> float:
        """The cost of what comes and is taken in each second."""
        return self._came / self._came_s if self._came_s > 0 else 0.0

    def answered(self, planned_s: float, now: float, workers: int, *, more_waits: bool) -> None:
        """A batch that was to take `planned_s` was answered; `more_waits`: whether anything waits at this moment."""
        if self._since_s is not None:
            self._planned_s = KEEP * self._planned_s + planned_s
            self._worker_s = KEEP * self._worker_s + (now - self._since_s) * workers
        self._since_s = now if more_waits else None

    def emptied(self) -> None:
        """Nothing waits any more."""
        self._since_s = None

    @property
    def slowness(self) -> float:
        """At least 1, which is also what there is to say while nothing is known."""
        return max(1.0, self._worker_s / self._planned_s) if self._planned_s > 0 else 1.0
