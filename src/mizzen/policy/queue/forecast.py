"""How long things will take at one model version, from what was measured."""

from collections.abc import Iterable

from mizzen.policy.queue.durations import Durations
from mizzen.policy.queue.pace import Pace

FEW_BATCHES = 3
HEADROOM = 0.8
"""A request is taken only if it is expected within this part of its time: what is not foreseen needs the rest."""


class Forecast:
    """Durations and pace, and quick estimates made from them now and then."""

    __slots__ = ("_drain_s", "_few_batches_s", "durations", "pace")

    def __init__(self) -> None:
        self.durations = Durations()
        self.pace = Pace()
        self._drain_s = 0.0
        """Seconds for each unit of cost that waits, and"""
        self._few_batches_s = 0.0
        """what is surely enough for those that run and one more; both 0 while nothing is known."""

    def answered(
        self, cost: int, took_s: float, now: float, workers: int, cost_max: float, *, more_waits: bool
    ) -> None:
        """A batch was answered that its worker could begin `took_s` ago; it may have been as large as `cost_max`."""
        durations = self.durations
        fitted = durations.add(cost, took_s, now)
        if durations.known:
            self.pace.answered(durations.likely_s(cost), now, workers, more_waits=more_waits)
            if fitted:
                self._drain_s = 1 / self.per_s(workers, cost_max)
                self._few_batches_s = FEW_BATCHES * durations.upper_s(cost_max)

    def per_s(self, workers: int, cost_max: float) -> float:
        """Cost that so many workers work off each second in batches of that size; 0 while that is not known."""
        durations = self.durations
        if not durations.known or not workers:
            return 0.0
        return workers * cost_max / (durations.likely_s(cost_max) * self.pace.slowness)

    def enough_time(self, cost: int, left_s: float) -> bool:
        """Whether there surely is time for all of that cost: the usual case, told fast."""
        return cost * self._drain_s + self._few_batches_s <= HEADROOM * left_s

    def answer_s(self, ahead: float, cost: int, cost_max: float, free_s: Iterable[float]) -> float:
        """How long a request of that cost takes that comes behind `ahead`, where workers are free in `free_s`.

        What is ahead is worked off in batches of `cost_max`, each by the worker that is free first. The last of them
        takes the request along, and what comes until then.
        """
        durations = self.durations
        batches = int(ahead / cost_max)
        free = sorted(free_s)
        turns, place = divmod(batches, len(free))
        batch_s = durations.likely_s(cost_max) * self.pace.slowness
        begins_s = free[place] + turns * batch_s
        own = ahead - batches * cost_max + cost + self.pace.comes_per_s * begins_s
        return begins_s + durations.upper_s(max(cost, min(own, cost_max)))
