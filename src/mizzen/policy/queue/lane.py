"""What waits for one model version, and who can run it. A part of `mizzen.policy.queue`, which has the theory."""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from mizzen.policy.queue.durations import Durations
from mizzen.policy.queue.fairness import Band, Flow, Group
from mizzen.policy.queue.pace import Pace
from mizzen.policy.queue.request import GONE, WAITING, Batch, Request, order
from mizzen.policy.queue.rules import Rules

PASSED_MAX = 15
"""So many batches in a row may pass a band over in which something waits; then one is headed by it."""
FEW_BATCHES = 3
INFINITY = float("inf")


@dataclass(slots=True, eq=False)
class Worker:
    """Who runs batches: how many more it will take, and what it has."""

    credits: int
    running: list[Batch] = field(default_factory=list)
    draining: bool = False
    free_s: float = 0.0
    """When it is expected to be done with what it has."""


@dataclass(slots=True)
class Late:
    """A request that was given up. `needed_s`: what a worker would have needed, where its time was not over."""

    request: Request
    needed_s: float


class Lane:
    """The requests and workers of one model version."""

    def __init__(self, key: str, rules: Rules) -> None:
        self.key = key
        self.rules = rules
        self.rows = self.size = self.cost = self.count = 0
        """Of all that waits, in bands or to be run again."""
        self.workers: dict[Hashable, Worker] = {}
        self.idle: dict[Hashable, None] = {}
        """Workers with a credit and nothing to do; the longest idle first."""
        self.spare: dict[Hashable, None] = {}
        """Workers that are busy and have a credit left."""
        self.durations = Durations()
        self.drain_s = 0.0
        """Seconds for each unit of cost that waits, and"""
        self.few_batches_s = 0.0
        """what is surely enough for those that run and one more: a quick estimate, made with each answer."""
        self._pace = Pace()
        self._bands: list[Band] = [Band()]
        """The most urgent first."""
        self._groups: dict[Hashable, Group] = {}
        self._again: deque[list[Request]] = deque()
        """Batches to be run as they are, before all others: halves of failed ones, requests of lost workers."""
        self._held_since_s = 0.0
        """Since when what waits could have been a batch: the lane was empty until then, or a batch was taken."""

    def __bool__(self) -> bool:
        """Whether there is any reason to keep it."""
        return bool(self.workers or self.count)

    # What waits

    def add(self, request: Request, now: float) -> None:
        """It waits in its line."""
        bands = self._bands
        while len(bands) < request.priority:
            bands.append(Band())
        band = bands[request.priority - 1]
        flow = band.flows.get(request.tenant)
        if flow is None:
            flow = band.flow(request.tenant)
        line = flow.lines.get(request.group)
        if line is None:
            group = self._groups.get(request.group)
            if group is None:
                group = self._groups[request.group] = Group()
            line = flow.line(request.group, group)
        else:
            group = line.group
            if not group.count:
                group = line.group = self._groups.setdefault(request.group, group)
        request.phase, request.lane, request.home, request.batch = WAITING, self.key, line, None
        cost = request.cost
        request.horizon = horizon = math.frexp(request.deadline_s - now)[1]
        flow.horizons[horizon] = flow.horizons.get(horizon, 0) + cost
        band.cost += cost
        band.count += 1
        flow.cost += cost
        flow.count += 1
        if flow.count == 1:
            band.came(flow, self.rules.weights.get(request.tenant, 1.0))
        group.count += 1
        group.rows += request.rows
        group.size += request.size
        flow.push(request, line)
        if not self.count:
            self._held_since_s = now
        self._count(request, 1)

    def add_again(self, requests: list[Request], *, first: bool = False) -> None:
        """They wait to be run as one batch, just so."""
        for request in requests:
            request.phase, request.lane, request.home, request.batch = WAITING, self.key, None, None
            self._count(request, 1)
        (self._again.appendleft if first else self._again.append)(requests)

    def remove(self, request: Request) -> None:
        """A waiting request waits no more; its place stays in its line's heap. It is gone unless it is run now."""
        self._count(request, -1)
        request.phase = GONE
        line, request.home = request.home, None
        if line is None:
            return
        flow, group, cost = line.flow, line.group, request.cost
        band = flow.band
        line.count -= 1
        group.count -= 1
        group.rows -= request.rows
        group.size -= request.size
        flow.count -= 1
        flow.cost -= cost
        band.count -= 1
        band.cost -= cost
        flow.horizons[request.horizon] -= cost
        if not flow.count:
            flow.emptied()
            band.went(flow)
        if not group.count:
            del self._groups[request.group]
        line.tidy()

    def _count(self, request: Request, sign: int) -> None:
        self.count += sign
        self.rows += sign * request.rows
        self.size += sign * request.size
        self.cost += sign * request.cost
        if not self.count:
            self._pace.emptied()

    def late(self, now: float) -> Iterator[Request]:
        """All whose time is over, waiting or running. Each is to be taken out before the next is asked for."""
        for flow in self._flows():
            while (head := flow.first()) is not None and head.deadline_s <= now:
                yield head
        for request in list(self._others()):
            if request.deadline_s <= now and request.phase is not GONE:
                yield request

    def deadline_s(self) -> float | None:
        """The first deadline of all that wait or run."""
        heads = (flow.first() for flow in self._flows())
        deadlines = (request.deadline_s for request in itertools.chain(heads, self._others()) if request is not None)
        return min(deadlines, default=None)

    def waiting(self) -> list[Request]:
        """All that wait, in order of their deadlines."""
        lines = (line for flow in self._flows() for line in flow.lines.values())
        grouped = (entry[2] for line in lines for entry in line.heap if entry[2].home is line)
        return sorted((*grouped, *self._waiting_again()), key=order)

    def evict(self) -> list[Request]:
        """Takes out all that wait, in order of their deadlines."""
        waiting = self.waiting()
        for request in waiting:
            self.remove(request)
        for band in self._bands:
            for flow in band.flows.values():
                flow.lines.clear()  # no place is left behind: they may come back
        self._again.clear()
        return waiting

    def last_of(self, flow: Flow) -> Request | None:
        """One of the flow's last requests."""
        lasts = (line.last() for line in reversed(flow.lines.values()))
        return next((last for last in lasts if last is not None), None)

    def band(self, priority: int) -> Band | None:
        """The requests of that priority; `None` where there never were any."""
        return self._bands[priority - 1] if priority <= len(self._bands) else None

    def least_urgent(self) -> int:
        """The lowest priority in which something waits; 0 where nothing does."""
        return next((index for index in range(len(self._bands), 0, -1) if self._bands[index - 1].count), 0)

    # What is run next

    def take(self, start_s: float, now: float, late: list[Late]) -> list[Request]:
        """What a worker is given that can begin at `start_s`; empty where nothing waits.

        Who cannot be answered in time is not given but added to `late`.
        """
        fixed_s, cost_s = self.durations.upper() if self.durations.trusted(now) else (0.0, 0.0)
        while self._again:
            requests: list[Request] = []
            for request in self._again.popleft():
                if request.phase is WAITING and request.home is None:
                    self.remove(request)
                    if request.deadline_s <= now:
                        late.append(Late(request, 0.0))
                    else:
                        requests.append(request)
            if requests:
                return requests
        batch = _Forming(start_s, now, fixed_s, cost_s, late)
        while not batch.requests and (band := self._next_band()) is not None:
            flow = band.first()
            head = flow.first() if flow is not None else None
            if flow is None or head is None:
                break
            self._take(head)
            if batch.is_late(head):
                continue
            self._headed_by(band)
            band.start = flow.tag
            band.charge(flow, head.cost)
            batch.take(head)
            if not head.alone and self.count:
                self._fill(batch, head.group, band)
        self._held_since_s = now
        return batch.requests

    def _take(self, head: Request) -> None:
        """The first of its line waits no more, and leaves no place behind: it may come back."""
        if head.home is not None:
            heapq.heappop(head.home.heap)
        self.remove(head)

    def _fill(self, batch: "_Forming", group: Hashable, heading: Band) -> None:
        """Adds what fits together with the head: its band's first, then what is more and less urgent."""
        rows_max, size_max = self.batch_max(batch.requests[0])
        for band in (heading, *(band for band in self._bands if band is not heading)):
            aside: list[Flow] = []
            while batch.rows < rows_max and (flow := band.first()) is not None:
                line = flow.lines.get(group)
                head = line.head() if line is not None else None
                if head is None or (not batch.fits(head, rows_max, size_max) and not batch.is_over(head)):
                    aside.append(band.put_aside())
                    continue
                self._take(head)
                if not batch.is_late(head):
                    band.charge(flow, head.cost)
                    batch.take(head)
            for flow in aside:
                band.put_back(flow)

    def _next_band(self) -> Band | None:
        """The most urgent one with something waiting, unless another was passed over too often."""
        chosen: Band | None = None
        for band in self._bands:
            if band.count and (chosen is None or (band.passed >= PASSED_MAX and band.passed > chosen.passed)):
                chosen = band
        return chosen

    def _first(self) -> Request | None:
        band = self._next_band()
        flow = band.first() if band is not None else None
        return flow.first() if flow is not None else None

    def _headed_by(self, chosen: Band) -> None:
        if len(self._bands) > 1:
            for band in self._bands:
                band.passed = band.passed + 1 if band.count and band is not chosen else 0

    def batch_max(self, request: Request) -> tuple[float, float]:
        """Rows and bytes of a batch of requests such as this one."""
        rules = self.rules
        if rules.latency_target_s is None:
            return rules.batch_rows_max, rules.batch_bytes_max
        cost_max = self.durations.cost_max(rules.latency_target_s / 2)
        if request.by_size:
            return rules.batch_rows_max, min(rules.batch_bytes_max, cost_max)
        return min(rules.batch_rows_max, cost_max), rules.batch_bytes_max

    def has_full_batch(self) -> bool:
        """Whether what comes next is a batch that nothing fits into any more."""
        head = self._first()
        if head is None or head.alone:
            return False
        group = self._groups[head.group]
        rows_max, size_max = self.batch_max(head)
        return group.rows >= rows_max or group.size >= size_max

    def held_until_s(self) -> float | None:
        """Until when an idle worker waits for what waits to become a full batch; `None`: it does not wait.

        Never so long that what is first would be late.
        """
        delay_s = self.rules.batch_delay_s
        head = self._first()
        if not delay_s or head is None or self._again or self.has_full_batch():
            return None
        fixed_s, cost_s = self.durations.upper()
        return min(self._held_since_s + delay_s, head.deadline_s - max(delay_s, fixed_s + cost_s * head.cost))

    # How long it will take

    def measured(self, cost: int, took_s: float, now: float) -> None:
        """A batch was answered that its worker could begin `took_s` ago."""
        self.durations.add(cost, took_s, now)
        self._pace.answered(cost, now, len(self.workers), more_waits=self.count > 0)
        per_s = self.per_s()
        if per_s:
            fixed_s, cost_s = self.durations.upper()
            self.drain_s = 1 / per_s
            self.few_batches_s = FEW_BATCHES * (fixed_s + cost_s * self.durations.cost_max(INFINITY))

    def per_s(self) -> float:
        """Cost that the workers work off each second, as measured, else as learned; 0 while nothing is known."""
        workers = sum([not worker.draining for worker in self.workers.values()])
        measured = self._pace.per_s(workers)
        if measured or not self.durations.known:
            return measured
        fixed_s, cost_s = self.durations.upper()
        cost = self.durations.cost_max(INFINITY)
        return workers * cost / (fixed_s + cost_s * cost)

    def ahead(self, request: Request, now: float) -> float:
        """The cost that is likely run before that request if it comes now."""
        cost = float(sum(band.cost for band in self._bands[: request.priority - 1]))
        band = self.band(request.priority)
        if band is None:
            return cost
        flow = band.flows.get(request.tenant)
        own, waiting = 0, 0
        weight = self.rules.weights.get(request.tenant, 1.0)
        others_weight = band.weight
        if flow is not None and flow.count:
            horizon = math.frexp(request.deadline_s - now)[1]
            own = sum(cost for other, cost in flow.horizons.items() if other <= horizon)
            waiting = flow.cost
            others_weight -= flow.weight
        others = min(band.cost - waiting, (own + request.cost) * others_weight / weight)
        return cost + own + others

    def free_s(self, now: float) -> float:
        """When a worker is expected to be free."""
        return now if self.idle else min((max(now, worker.free_s) for worker in self.workers.values()), default=now)

    # Workers

    def place(self, key: Hashable) -> None:
        """A worker's credits or batches have changed."""
        self.idle.pop(key, None)
        self.spare.pop(key, None)
        worker = self.workers.get(key)
        if worker is not None and worker.credits > 0:
            if not worker.running:
                self.idle[key] = None
            elif not worker.running[-1].suspect:
                self.spare[key] = None

    # Inside

    def _flows(self) -> Iterator[Flow]:
        for band in self._bands:
            for flow in band.flows.values():
                if flow.count:
                    yield flow

    def _waiting_again(self) -> Iterator[Request]:
        for requests in self._again:
            for request in requests:
                if request.phase is WAITING and request.home is None:
                    yield request

    def _others(self) -> Iterator[Request]:
        """Who waits to be run again, and who runs."""
        yield from self._waiting_again()
        for worker in self.workers.values():
            for batch in worker.running:
                yield from batch.live()


class _Forming:
    """A batch while it is put together."""

    __slots__ = (
        "_cost",
        "_cost_s",
        "_deadline_s",
        "_fixed_s",
        "_late",
        "_now",
        "_size",
        "_start_s",
        "requests",
        "rows",
    )

    def __init__(self, start_s: float, now: float, fixed_s: float, cost_s: float, late: list[Late]) -> None:
        self.requests: list[Request] = []
        self.rows = 0
        self._size = self._cost = 0
        self._deadline_s = float("inf")
        """The first of all in it."""
        self._start_s, self._now = start_s, now
        self._fixed_s, self._cost_s = fixed_s, cost_s
        self._late = late

    def is_over(self, request: Request) -> bool:
        """Whether it cannot be answered in time, even alone."""
        return request.deadline_s <= self._now or (
            self._start_s + self._fixed_s + self._cost_s * request.cost > request.deadline_s
        )

    def is_late(self, request: Request) -> bool:
        """Notes who cannot be answered in time."""
        if request.deadline_s <= self._now:
            self._late.append(Late(request, 0.0))
            return True
        needed_s = self._start_s - self._now + self._fixed_s + self._cost_s * request.cost
        if self._now + needed_s > request.deadline_s:
            self._late.append(Late(request, needed_s))
            return True
        return False

    def fits(self, request: Request, rows_max: float, size_max: float) -> bool:
        """Whether there is room for it, and all would still be answered in time."""
        if request.alone or self.rows + request.rows > rows_max or self._size + request.size > size_max:
            return False
        finish_s = self._start_s + self._fixed_s + self._cost_s * (self._cost + request.cost)
        return finish_s <= self._deadline_s and finish_s <= request.deadline_s

    def take(self, request: Request) -> None:
        self.requests.append(request)
        self.rows += request.rows
        self._size += request.size
        self._cost += request.cost
        self._deadline_s = min(self._deadline_s, request.deadline_s)
