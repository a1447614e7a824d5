"""Arrivals by second as a fluid: for traces of so many requests that each cannot be an event.

A second's arrivals are a stretch of fluid that came evenly over that second. Ready workers take it in order, at
`slots / service_s` requests a second each. While nothing is left over, a second costs a few additions; what is left
over waits in stretches, whose first and last drop waited for known times, and the waits between them lie on a line: how
many waited longer than allowed is the part of that line above it. What waits longer than the time-out goes unanswered.

What a fluid does not show: the waits within a fleet that is busy but not overloaded, since its drops do not collide.
`discrete` shows them; a test holds the two together where they must agree.
"""

from collections import deque
from collections.abc import Sequence

from mizzen.policy.scaling.decision import Policy, Seen
from mizzen.policy.scaling.meter import Flow
from mizzen.simulate.fleet import Fleet
from mizzen.simulate.outcome import Outcome
from mizzen.simulate.scenario import Scenario

TICK_SECONDS = 2
SERIES_EVERY_S = 60


class _Backlog:
    """What waits: stretches of (first came, last came, how much), in order."""

    __slots__ = ("_stretches", "_timeout_s", "amount")

    def __init__(self, timeout_s: float) -> None:
        self._stretches: deque[tuple[float, float, float]] = deque()
        self._timeout_s = timeout_s
        self.amount = 0.0

    def add(self, came: float, amount: float) -> None:
        """A second's arrivals."""
        self._stretches.append((came, came + 1.0, amount))
        self.amount += amount

    def give_up(self, now: float) -> float:
        """Takes out what came too long ago; how much it was."""
        gone, limit = 0.0, now - self._timeout_s
        while self._stretches and self._stretches[0][1] <= limit:
            gone += self._stretches.popleft()[2]
        self.amount -= gone
        return gone

    def serve(self, begin: float, rate: float, outcome: Outcome, allowed_s: float) -> tuple[float, float]:
        """Serves for a second at this rate. Returns how much was served, and how much of it was late."""
        served = late = 0.0
        at, end = begin, begin + 1.0
        while self._stretches and at < end:
            came, came_last, amount = self._stretches[0]
            # No drop is served before it came.
            duration = max(amount / rate, came_last - at)
            part = min(1.0, (end - at) / duration)
            until = at + part * duration
            last = came + part * (came_last - came)
            first_wait, last_wait = max(0.0, at - came), max(0.0, until - last)
            moved = amount * part
            served += moved
            late += moved * _above(first_wait, last_wait, allowed_s)
            outcome.waited((first_wait + last_wait) / 2, moved)
            if part >= 1.0 - 1e-12:
                self._stretches.popleft()
            else:
                self._stretches[0] = (last, came_last, amount - moved)
            at = until
        self.amount = max(0.0, self.amount - served) if self._stretches else 0.0
        return served, late


def _above(first: float, last: float, limit: float) -> float:
    """The share of a line from `first` to `last` that is above the limit."""
    low, high = min(first, last), max(first, last)
    if high <= limit:
        return 0.0
    return 1.0 if low > limit else (high - limit) / (high - low)


def simulate(counts: Sequence[int], policy: Policy, name: str, scenario: Scenario, wall_s: float = 0.0) -> Outcome:
    """The policy over arrivals by second. `wall_s`: when the trace began, for the time of day."""
    outcome = Outcome(name)
    fleet = Fleet(outcome, scenario.time_to_ready, scenario.ready_at_start)
    backlog = _Backlog(scenario.timeout_s)
    slots, service_s, allowed_s = scenario.slots, scenario.service_s, scenario.wait_s_max
    rate_of_one = slots / service_s
    report, advance = policy.report, fleet.advance
    peak_need = busy_total = requests = 0.0
    for second, count in enumerate(counts):
        now = float(second)
        if second % TICK_SECONDS == 0:
            for seconds in fleet.starts_done:
                policy.started(seconds)
            fleet.starts_done.clear()
            running = 1 if backlog.amount or (second and counts[second - 1]) else 0
            seen = Seen(fleet.ready, fleet.wanted, int(backlog.amount), running)
            desired = policy.decide(now, wall_s + now, seen).desired
            if desired != fleet.wanted:
                if not fleet.wanted and backlog.amount:
                    outcome.cold_starts += 1
                fleet.scale(now, desired)
        advance(now)
        rate = fleet.ready * rate_of_one
        requests += count
        if not fleet.ready:
            outcome.cold += count
        if backlog.amount == 0.0 and count <= rate:
            served, late, left = float(count), 0.0, 0.0
            outcome.waits_s[0.0] = outcome.waits_s.get(0.0, 0.0) + served
        else:
            gone = backlog.give_up(now)
            outcome.unanswered += gone
            outcome.late += gone
            before = backlog.amount
            if count:
                backlog.add(now, float(count))
            served, late = backlog.serve(now, rate, outcome, allowed_s) if rate else (0.0, 0.0)
            outcome.late += late
            left = (before + backlog.amount) / 2
        busy = served * service_s
        busy_total += busy
        report(now, wall_s + now, Flow(float(count), busy + left, busy / slots, served, left))
        need = (busy + left) / slots
        peak_need = max(peak_need, need)
        if second % SERIES_EVERY_S == 0:
            outcome.series.append((now, peak_need, fleet.wanted))
            peak_need = 0.0
    end = float(len(counts))
    fleet.advance(end)
    outcome.requests, outcome.busy_s = requests, busy_total / slots
    outcome.late += backlog.amount
    outcome.unanswered += backlog.amount
    return outcome
