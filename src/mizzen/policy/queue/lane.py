"""What waits for one model version, and who can run it. A part of `mizzen.policy.queue`, which has the theory."""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from mizzen.policy.queue.commands import LaneStatistics
from mizzen.policy.queue.fairness import STALE_MIN, Band, Flow, Group, Line
from mizzen.policy.queue.forecast import Forecast
from mizzen.policy.queue.forming import Forming, Late
from mizzen.policy.queue.request import GONE, WAITING, Batch, Request, order
from mizzen.policy.queue.rules import BACKGROUND_S, BACKGROUND_SHARE, Rules
from mizzen.policy.queue.yielding import Yielding

PASSED_MAX = 15
"""So many batches in a row may pass a band over in which something waits; then one is headed by it."""


@dataclass(slots=True, eq=False)
class Worker:
    """Who runs batches: how many more it will take, and what it has."""

    credits: int
    running: list[Batch] = field(default_factory=list)
    draining: bool = False
    free_s: float = 0.0
    """When it is expected to be done with what it has."""


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
        self.forecast = Forecast()
        self.yielding: Yielding | None = None
        """Where there ever was something of the background."""
        self.resting = False
        """Whether the background is passed over just now."""
        self._bands: list[Band] = [Band()]
        """The most urgent first."""
        self._groups: dict[Hashable, Group] = {}
        self._again: deque[list[Request]] = deque()
        """Batches to be run as they are, before all others: halves of failed ones, requests of lost workers."""
        self._came, self._taken_s = 0, 0.0
        """The cost of what came since the last batch was taken, and when that was."""
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
        band.count += 1
        flow.cost += request.cost
        flow.count += 1
        if flow.count == 1:
            band.came(flow, self.rules.weights.get(request.tenant, 1.0))
        group.count += 1
        group.rows += request.rows
        group.size += request.size
        flow.push(request, line)
        if not self.count:
            self._held_since_s = now
        self.count += 1
        self.rows += request.rows
        self.size += request.size
        self.cost += request.cost
        self._came += request.cost

    def add_again(self, requests: list[Request], *, first: bool = False) -> None:
        """They wait to be run as one batch, just so."""
        for request in requests:
            request.phase, request.lane, request.home, request.batch = WAITING, self.key, None, None
            self.count += 1
            self.rows += request.rows
            self.size += request.size
            self.cost += request.cost
        (self._again.appendleft if first else self._again.append)(requests)

    def remove(self, request: Request) -> None:
        """A waiting request waits no more; its place stays in its line's heap. It is gone unless it is run now."""
        request.phase = GONE
        line, request.home = request.home, None
        if line is not None:
            self._removed(line, request.group, 1, request.rows, request.size, request.cost)
        else:
            self._fewer(1, request.rows, request.size, request.cost)

    def _removed(self, line: Line, group_key: Hashable, count: int, rows: int, size: int, cost: int) -> None:
        """So many requests of that line, with so much in all, wait there no more."""
        flow, group = line.flow, line.group
        band = flow.band
        line.count -= count
        band.count -= count
        flow.count -= count
        flow.cost -= cost
        if not flow.count:
            flow.emptied()
            band.went(flow)
        group.count -= count
        group.rows -= rows
        group.size -= size
        if not group.count:
            del self._groups[group_key]
        if len(line.heap) > STALE_MIN:
            line.tidy()
        self._fewer(count, rows, size, cost)

    def _fewer(self, count: int, rows: int, size: int, cost: int) -> None:
        self.count -= count
        self.rows -= rows
        self.size -= size
        self.cost -= cost
        if not self.count:
            self.forecast.pace.emptied()

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
        self.forecast.pace.came(self._came, now - self._taken_s)
        self._came, self._taken_s = 0, now
        self._held_since_s = now
        while self._again:
            if requests := self._take_again(self._again.popleft(), now, late):
                return requests
        durations = self.forecast.durations
        fixed_s, cost_s = (durations.fixed_s, durations.cost_s) if durations.trusted(now) else (0.0, 0.0)
        batch = Forming(start_s + fixed_s, cost_s, now, late, self.remove, self._removed)
        while (band := self._next_band()) is not None:
            flow = band.first()
            head = flow.first() if flow is not None else None
            if flow is None or head is None or head.home is None:
                break
            heapq.heappop(head.home.heap)
            taken = batch.take(head)
            if taken:
                self._headed_by(band)
                band.start = flow.tag
                band.charge(flow, head.cost)
            self.remove(head)
            if not taken:
                continue
            if not head.alone and self.count:
                batch.rows_max, batch.size_max = self.batch_max(head)
                batch.fill(band)
                for other in self._bands[: self.rules.priority_levels]:  # nobody waits for the background
                    if other is not band and (first := other.first()) is not None:
                        other.start = max(other.start, first.tag)
                        batch.fill(other)
            break
        return batch.requests

    def _take_again(self, batch: list[Request], now: float, late: list[Late]) -> list[Request]:
        requests = []
        for request in batch:
            if request.phase is WAITING and request.home is None:
                self.remove(request)
                if request.deadline_s <= now:
                    late.append(Late(request, 0.0))
                else:
                    requests.append(request)
        return requests

    def _next_band(self) -> Band | None:
        """The most urgent one with something waiting, unless another was passed over too often."""
        if len(self._bands) == 1:
            return self._bands[0] if self._bands[0].count else None
        chosen: Band | None = None
        for band in self._bands[: self.rules.priority_levels] if self.resting else self._bands:
            if band.count and (chosen is None or (band.passed >= PASSED_MAX and band.passed > chosen.passed)):
                chosen = band
        return chosen

    def _first(self) -> Request | None:
        band = self._next_band()
        flow = band.first() if band is not None else None
        return flow.first() if flow is not None else None

    def _headed_by(self, chosen: Band) -> None:
        if len(self._bands) > 1:
            for band in self._bands[: self.rules.priority_levels] if self.resting else self._bands:
                band.passed = band.passed + 1 if band.count and band is not chosen else 0

    def batch_max(self, request: Request) -> tuple[float, float]:
        """Rows and bytes of a batch of requests such as this one."""
        rules = self.rules
        target_s = None if rules.latency_target_s is None else rules.latency_target_s / 2
        if request.priority > rules.priority_levels:
            short_s = BACKGROUND_S if self.yielding is None else self.yielding.batch_s
            target_s = min(short_s, BACKGROUND_SHARE * (rules.latency_target_s or math.inf))
        if target_s is None:
            return rules.batch_rows_max, rules.batch_bytes_max
        cost_max = self.forecast.durations.cost_max(target_s)
        if request.by_size:
            return rules.batch_rows_max, min(rules.batch_bytes_max, cost_max)
        return min(rules.batch_rows_max, cost_max), rules.batch_bytes_max

    def has_full_batch(self) -> bool:
        """Whether what comes next is a batch that nothing fits into, and not one that is run again as it is.

        One of the background never is: a worker is not sent it ahead, where others would have to wait for it.
        """
        head = self._first()
        if head is None or head.alone or self._again or head.priority > self.rules.priority_levels:
            return False
        group = self._groups[head.group]
        rows_max, size_max = self.batch_max(head)
        return group.rows >= rows_max or group.size >= size_max

    def held_until_s(self) -> float | None:
        """Until when an idle worker waits for what waits to become a full batch; `None`: it does not wait.

        Never so long that what is first would be late. Where nothing but the background waits: until that has rested.
        """
        if self.yielding is not None and self.count and self.count == self._background_count():
            return self.yielding.resume_s
        delay_s = self.rules.batch_delay_s
        head = self._first()
        if not delay_s or head is None or self._again or self.has_full_batch():
            return None
        needed_s = self.forecast.durations.upper_s(head.cost)
        return min(self._held_since_s + delay_s, head.deadline_s - max(delay_s, needed_s))

    def _background_count(self) -> int:
        return sum([band.count for band in self._bands[self.rules.priority_levels :]])

    # How long it will take

    def cost_max(self, request: Request) -> float:
        """The largest cost of a batch of requests such as this one."""
        rows_max, size_max = self.batch_max(request)
        return size_max if request.by_size else min(rows_max, size_max * request.rows / max(1, request.size))

    def per_s(self, request: Request) -> float:
        """Cost of requests such as this one that its workers work off each second; 0 while that is not known."""
        workers = sum([not worker.draining for worker in self.workers.values()])
        return self.forecast.per_s(workers, self.cost_max(request))

    def answer_s(self, request: Request, now: float) -> float | None:
        """How long that request is likely to take if it comes now; `None` while that is not known."""
        free_s = [max(0.0, worker.free_s - now) for worker in self.workers.values() if not worker.draining]
        if not free_s or not self.forecast.durations.trusted(now):
            return None
        return self.forecast.answer_s(self.ahead(request), request.cost, self.cost_max(request), free_s)

    def ahead(self, request: Request) -> float:
        """The cost that is likely run before that request if it comes now."""
        cost = float(sum(band.cost for band in self._bands[: request.priority - 1]))
        band = self.band(request.priority)
        if band is None:
            return cost
        flow = band.flows.get(request.tenant)
        own, waiting = 0.0, 0
        weight = self.rules.weights.get(request.tenant, 1.0)
        others_weight = band.weight
        if flow is not None and flow.count:
            own = flow.cost_before(request.deadline_s)
            waiting = flow.cost
            others_weight -= flow.weight
        others = min(band.cost - waiting, (own + request.cost) * others_weight / weight)
        return cost + own + others

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


def lane_statistics(lane: Lane) -> LaneStatistics:
    """How a lane stands, and what was learned of it."""
    durations = lane.forecast.durations
    target_s = lane.rules.latency_target_s
    return LaneStatistics(
        lane=lane.key,
        rows_waiting=lane.rows,
        workers=len(lane.workers),
        fixed_s=durations.fixed_s,
        cost_s=durations.cost_s,
        spread=durations.spread,
        batch_cost_max=float("inf") if target_s is None else durations.cost_max(target_s / 2),
        drain_per_s=lane.forecast.per_s(len(lane.workers), durations.largest),
    )
