"""The queue on virtual time: clients that come when they please, workers whose batches take `fixed_s + row_s * rows`.

Requests arrive in an open loop: whether or not earlier ones were answered, as the clients of a service do. Everything
that the gateway's shell would do is done here by the book, and every request's fate is noted.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from mizzen.policy.queue import (
    BACKGROUND,
    Batch,
    Command,
    Expired,
    Failed,
    GiveUp,
    Queue,
    QueueStatistics,
    Refused,
    Request,
    Rules,
)

ROW_BYTES = 8
LANE = "v1"


@dataclass(eq=False)
class Call:
    """One request of a client."""

    came_s: float
    rows: int = 1
    timeout_s: float = 0.1
    tenant: str = ""
    priority: int = 0
    group: str | None = None
    leaves_after_s: float | None = None
    bad: bool = False
    kills: bool = False
    outcome: str = ""
    ended_s: float = 0.0
    started_s: list[float] = field(default_factory=list)
    """When a worker began a batch with rows of it."""

    @property
    def took_s(self) -> float:
        return self.ended_s - self.came_s


@dataclass(eq=False)
class SimulatedWorker:
    """Runs what it was sent, one batch after the other."""

    name: str
    batches: list[tuple[Batch, float]] = field(default_factory=list)
    """With when each came."""
    cancelled: set[Batch] = field(default_factory=set)
    """Those that need not be run."""
    alive: bool = True


class Simulation:
    """One endpoint."""

    def __init__(
        self, rules: Rules, *, workers: int = 1, fixed_s: float = 0.005, row_s: float = 0.0001, credits_each: int = 2,
        noise: Callable[[Random], float] = lambda _: 1.0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.queue = Queue(rules)
        self.now = 0.0
        self.fixed_s, self.row_s = fixed_s, row_s
        self.noise, self.random = noise, Random(seed)
        self.credits_each = credits_each
        self.batches_run: list[tuple[float, list[Request]]] = []
        self.rows_run = self.rows_wasted = 0
        self.calls: list[Call] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._workers: dict[str, SimulatedWorker] = {}
        self._requests: dict[Call, Request] = {}
        self._assigned_for = -1.0
        self._timer_s = float("inf")
        for _ in range(workers):
            self.join()

    # What happens

    def at(self, time_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(time_s, self.now), next(self._numbers), do))

    def play(self, calls: Iterable[Call], until_s: float = float("inf")) -> list[Call]:
        """Lets these come, and time pass until nothing happens any more."""
        self.calls = list(calls)
        for call in self.calls:
            self.at(call.came_s, lambda call=call: self._come(call))
        while self._events and self._events[0][0] <= until_s:
            self.now, _, do = heapq.heappop(self._events)
            do()
        return self.calls

    def join(self) -> None:
        worker = SimulatedWorker(f"w{next(self._numbers)}")
        self._workers[worker.name] = worker
        self.queue.join(worker.name, LANE, self.credits_each)
        self._assign_soon()

    def _come(self, call: Call) -> None:
        request = Request(
            call.rows, self.now + call.timeout_s, call.group, call, size=call.rows * ROW_BYTES, tenant=call.tenant,
            priority=call.priority,
        )  # fmt: skip
        self._requests[call] = request
        foreseen = self.queue.foresee(request.tenant, LANE, ROW_BYTES, request.deadline_s, self.now)
        commands = self.queue.offer(request, LANE, self.now)
        if foreseen is not None and call.priority != BACKGROUND:  # who comes behind all may be told so, too
            refused = [one for one in commands if isinstance(one, Refused) and one.request is request]
            assert refused, f"{foreseen.reason} was foreseen"
        self._perform(commands)
        if not call.outcome and call.leaves_after_s is not None:
            self.at(self.now + call.leaves_after_s, lambda: self._leave(call))
        self._wake_at(request.deadline_s)
        self._assign_soon()

    def _leave(self, call: Call) -> None:
        if not call.outcome:
            self._end(call, "left")
            self._perform(self.queue.cancel(self._requests[call]))

    def _end(self, call: Call, outcome: str) -> None:
        assert not call.outcome, f"{call} ends as {outcome} too"
        call.outcome, call.ended_s = outcome, self.now

    # What the queue says

    def _perform(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if isinstance(command, Batch):
                worker = self._workers[str(command.worker)]
                worker.batches.append((command, self.now))
                if len(worker.batches) == 1:
                    self._run(worker)
            elif isinstance(command, GiveUp):
                self._workers[str(command.batch.worker)].cancelled.add(command.batch)
            elif isinstance(command, Expired):
                self._end(command.request.payload, "dropped" if command.needed_s else "late")
            elif isinstance(command, Failed):
                self._end(command.request.payload, "lost" if command.lost else "failed")
            elif isinstance(command, Refused):
                self._end(command.request.payload, command.reason.value)

    def _assign_soon(self) -> None:
        """Once for all that happens at this moment, as at the end of a turn of the event loop."""
        if self._assigned_for != self.now:
            self._assigned_for = self.now
            self.at(self.now, self._assign)

    def _assign(self) -> None:
        self._assigned_for = -1.0
        self._perform(self.queue.assign(self.now))
        held_until_s = self.queue.held_until_s()
        if held_until_s is not None:
            self._wake_at(held_until_s)

    def _wake_at(self, time_s: float) -> None:
        if time_s < self._timer_s:
            self._timer_s = time_s
            self.at(time_s, lambda: self._on_time(time_s))

    def _on_time(self, time_s: float) -> None:
        if time_s != self._timer_s:
            return
        self._timer_s = float("inf")
        self._perform(self.queue.expire(self.now))
        deadline_s = self.queue.deadline_s()
        if deadline_s is not None:
            self._wake_at(max(deadline_s, self.now + 0.001))
        self._assign()

    # Workers

    def _run(self, worker: SimulatedWorker) -> None:
        batch, came_s = worker.batches[0]
        if batch in worker.cancelled:
            self.at(self.now, lambda: self._give_back(worker))
            return
        for request in batch.requests:
            request.payload.started_s.append(self.now)
        waited_s = self.now - came_s
        self.batches_run.append((self.now, list(batch.requests)))
        self.rows_run += batch.rows
        took_s = (self.fixed_s + self.row_s * batch.rows) * self.noise(self.random)
        self.at(self.now + took_s, lambda: self._done(worker, batch, waited_s))

    def _give_back(self, worker: SimulatedWorker) -> None:
        batch, _ = worker.batches.pop(0)
        worker.cancelled.discard(batch)
        self.queue.returned(batch, self.now)
        self._next(worker)

    def _done(self, worker: SimulatedWorker, batch: Batch, waited_s: float) -> None:
        if any(request.payload.kills for request in batch.requests):
            del self._workers[worker.name]
            self._perform(self.queue.lost(worker.name, self.now))
            self.join()
            return
        worker.batches.pop(0)
        worker.cancelled.discard(batch)
        if any(request.payload.bad for request in batch.requests):
            self._perform(self.queue.failed(batch, "bad", self.now))
        else:
            wanted = [request for request in batch.requests if not request.payload.outcome]
            self.rows_wasted += batch.rows - sum(request.rows for request in wanted)
            self._perform(self.queue.answered(batch, self.now, waited_s))
            for request in wanted:
                call = request.payload
                whole = self._requests[call]
                if not call.outcome and (whole is request or not whole.left):
                    self._end(call, "ok")
        self._next(worker)

    def _next(self, worker: SimulatedWorker) -> None:
        self.queue.grant(worker.name, 1)
        if worker.batches:
            self._run(worker)
        self._assign_soon()

    # What came of it

    def outcomes(self) -> Counter[str]:
        return Counter(call.outcome for call in self.calls)

    def statistics(self) -> QueueStatistics:
        return self.queue.statistics()


def arrivals(rate_per_s: float, seconds: float, random: Random, make: Callable[[float], Call]) -> list[Call]:
    """A Poisson process of that rate."""
    calls, now = [], 0.0
    while (now := now + random.expovariate(rate_per_s)) < seconds:
        calls.append(make(now))
    return calls


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
