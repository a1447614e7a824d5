"""How long things will take at one model version, from what was measured."""

from mizzen.policy.queue.durations import Durations
from mizzen.policy.queue.pace import Pace

FEW_BATCHES = 3
INFINITY = float("inf")


class Forecast:
    """Durations and pace, and quick estimates made from them now and then."""

    __slots__ = ("drain_s", "durations", "few_batches_s", "pace")

    def __init__(self) -> None:
        self.durations = Durations()
        self.pace = Pace()
        self.drain_s = 0.0
        """Seconds for each unit of cost that waits, and"""
        self.few_batches_s = 0.0
        """what is surely enough for those that run and one more; both 0 while nothing is known."""

    def answered(self, cost: int, took_s: float, now: float, workers: int, *, more_waits: bool) -> None:
        """A batch was answered that its worker could begin `took_s` ago."""
        self.pace.answered(cost, now, workers, more_waits=more_waits)
        durations = self.durations
        if durations.add(cost, took_s, now):
            per_s = self.per_s(workers)
            if per_s:
                fixed_s, cost_s = durations.upper()
                self.drain_s = 1 / per_s
                self.few_batches_s = FEW_BATCHES * (fixed_s + cost_s * durations.cost_max(INFINITY))

    def per_s(self, workers: int) -> float:
        """Cost that so many workers work off each second, as measured, else as learned; 0 while nothing is known."""
        measured = self.pace.per_s(workers)
        if measured or not self.durations.known:
            return measured
        fixed_s, cost_s = self.durations.upper()
        cost = self.durations.cost_max(INFINITY)
        return workers * cost / (fixed_s + cost_s * cost)

    def enough_time(self, cost: int, left_s: float) -> bool:
        """Whether there surely is time for all of that cost: the usual case, told fast."""
        return cost * self.drain_s + self.few_batches_s <= left_s
