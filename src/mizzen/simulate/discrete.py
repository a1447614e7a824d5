"""Each request an event: arrivals, ends, workers that become ready or die, reports and decisions, in their order.

Requests wait in one queue for all workers, first come first served, as in the gateway. A worker that is taken away
finishes what it has and is paid until then. One that dies loses what it had: each of those requests is run once more,
and fails the second time, which is the gateway's rule. While an endpoint has nothing in it, time jumps to the next
arrival or to when the policy asked to be asked again, so that weeks of an idle endpoint cost nothing.
"""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from mizzen.policy.scaling.decision import Policy, Seen
from mizzen.policy.scaling.meter import Flow
from mizzen.simulate.fleet import Fleet
from mizzen.simulate.outcome import Outcome
from mizzen.simulate.scenario import Scenario

REPORT_S = 1.0
TICK_REPORTS = 2
"""A decision every second report: Knative's 2 s."""
SERIES_S = 60.0


@dataclass(slots=True)
class Ends:
    """How each request ended, by its number: the ledger in which none may be missing."""

    answered: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)


class Discrete:
    """One endpoint. `crashes` are times at which a ready worker dies; `silences` are (from, to) in which no report
    reaches the controller.
    """

    def __init__(
        self,
        arrivals_s: Sequence[float],
        services_s: Sequence[float],
        policy: Policy,
        name: str,
        scenario: Scenario,
        *,
        wall_s: float = 0.0,
        crashes: Sequence[float] = (),
        silences: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.outcome = Outcome(name)
        self.ends = Ends()
        self.decided: list[int] = []
        """Every number that was decided, for those who check them."""
        self._arrivals, self._services = arrivals_s, services_s
        self._policy, self._scenario, self._wall_s = policy, scenario, wall_s
        self._crashes, self._silences = deque(sorted(crashes)), silences
        self._fleet = Fleet(self.outcome, scenario.time_to_ready, scenario.ready_at_start)
        self._now = 0.0
        self._next = 0
        self._queue: deque[int] = deque()
        self._running: list[tuple[float, int]] = []
        """A heap: when it ends, and which."""
        self._lost: set[int] = set()
        self._flow = [0.0] * 5
        self._unsent = [0.0] * 5
        """What happened while nothing was told."""
        self._tick_at: float = 0.0
        self._reports = 0
        self._series_at = 0.0

    def run(self, until_s: float | None = None) -> Outcome:
        """To the end of the last request, or of the time given."""
        end = until_s if until_s is not None else math.inf
        while True:
            at = self._next_event()
            if at > end or (until_s is None and self._is_over()):
                break
            self._advance(at)
            self._happen(at)
        if until_s is not None:
            self._advance(end)
        self._fleet.advance(self._now)
        return self.outcome

    def _is_over(self) -> bool:
        return self._next >= len(self._arrivals) and not self._queue and not self._running

    def _next_event(self) -> float:
        times = [self._tick_at]
        if self._next < len(self._arrivals):
            times.append(self._arrivals[self._next])
        if self._running:
            times.append(self._running[0][0])
        if self._queue:
            times.append(self._arrivals[self._queue[0]] + self._scenario.timeout_s)
        ready = self._fleet.next_ready()
        if ready is not None:
            times.append(ready)
        if self._crashes:
            times.append(self._crashes[0])
        return max(min(times), self._now)

    def _advance(self, at: float) -> None:
        """Time passes, and what is in the system with it."""
        passed, slots = at - self._now, self._scenario.slots
        if passed > 0:
            running, waiting = len(self._running), len(self._queue)
            self._flow[1] += passed * (running + waiting)
            self._flow[2] += passed * running / slots
            self._flow[4] += passed * waiting
            self.outcome.busy_s += passed * running / slots
            # Workers that were taken away are paid until they are done.
            self.outcome.replica_s += passed * max(0, math.ceil(running / slots) - self._fleet.ready)
            self._now = at
        self._fleet.advance(at)

    def _happen(self, at: float) -> None:
        """Everything that is due."""
        while self._running and self._running[0][0] <= at:
            _, request = heapq.heappop(self._running)
            self._flow[3] += 1
            self.ends.answered.append(request)
        while self._crashes and self._crashes[0] <= at:
            self._crashes.popleft()
            self._crash(at)
        while self._queue and self._arrivals[self._queue[0]] + self._scenario.timeout_s <= at:
            self._give_up(self._queue.popleft())
        woken = False
        while self._next < len(self._arrivals) and self._arrivals[self._next] <= at:
            woken = self._arrive() or woken
        self._assign(at)
        if at >= self._tick_at or woken:
            self._report_and_decide(at, at_once=woken)

    def _arrive(self) -> bool:
        """Whether the controller is to be told at once: a request has come where no worker is."""
        self._queue.append(self._next)
        self._next += 1
        self._flow[0] += 1
        self.outcome.requests += 1
        if not self._fleet.ready:
            self.outcome.cold += 1
        idle = self._tick_at > self._now + TICK_REPORTS * REPORT_S
        return idle or (not self._fleet.wanted and len(self._queue) == 1)

    def _give_up(self, request: int) -> None:
        self.ends.expired.append(request)
        self.outcome.unanswered += 1
        self.outcome.late += 1

    def _assign(self, at: float) -> None:
        free = self._fleet.ready * self._scenario.slots - len(self._running)
        while free > 0 and self._queue:
            request = self._queue.popleft()
            free -= 1
            wait_s = at - self._arrivals[request]
            if request not in self._lost:
                self.outcome.waited(wait_s)
                if wait_s > self._scenario.wait_s_max:
                    self.outcome.late += 1
            heapq.heappush(self._running, (at + self._services[request], request))

    def _crash(self, at: float) -> None:
        """A ready worker dies with as many requests as it can have; which is as good as chance."""
        if not self._fleet.ready:
            return
        share = math.ceil(len(self._running) / self._fleet.ready)
        dying = self._running[:share]
        self._running = self._running[share:]
        heapq.heapify(self._running)
        for _, request in dying:
            if request in self._lost:
                self.ends.failed.append(request)
            else:
                self._lost.add(request)
                self._queue.appendleft(request)
        self._fleet.lose(at)

    def _report_and_decide(self, at: float, *, at_once: bool) -> None:
        fleet, wall_s = self._fleet, self._wall_s + at
        silent = any(begin <= at < end for begin, end in self._silences)
        self._unsent = [a + b for a, b in zip(self._unsent, self._flow, strict=True)]
        self._flow = [0.0] * 5
        if not silent:
            self._policy.report(at, wall_s, Flow(*self._unsent))
            self._unsent = [0.0] * 5
        for seconds in fleet.starts_done:
            self._policy.started(seconds)
        fleet.starts_done.clear()
        self._reports += 1
        waiting, running = len(self._queue), len(self._running)
        again_s = REPORT_S
        if at_once or self._reports % TICK_REPORTS == 0:
            seen = Seen(fleet.ready, fleet.wanted, 0 if silent else waiting, 0 if silent else running, not silent)
            decision = self._policy.decide(at, wall_s, seen)
            self.decided.append(decision.desired)
            if decision.desired != fleet.wanted:
                if not fleet.wanted and waiting:
                    self.outcome.cold_starts += 1
                fleet.scale(at, decision.desired)
                self._assign(at)
            if decision.again_s > TICK_REPORTS * REPORT_S and not silent:
                again_s = decision.again_s
                self._reports = TICK_REPORTS - 1
        self._tick_at = at + again_s
        if at >= self._series_at:
            self.outcome.series.append((at, (waiting + running) / self._scenario.slots, fleet.wanted))
            self._series_at = at + SERIES_S
