"""The late-binding queue of one endpoint: which request runs when, on which worker, with which others.

A request waits here until a worker asks for work, and not in a worker, so that everything that may change until the last
moment (who is ready, who has gone, whose time is over) is decided at the last moment. This is the whole decision: plain
state, no I/O; `now` (seconds, any monotonic origin) comes in with each event. The gateway's shell performs what it says.

    offer ──> WAITING ──assign──> RUNNING ──answered──> GONE
                 ^                   │
                 └── failed (of several), lost (once), returned
    WAITING, RUNNING ── cancel, expire, failed (alone), lost (twice) ──> GONE

**Order.** Earliest deadline first, then arrival. With one timeout for all that is first come, first served.

**Batches** are formed per lane (one model version) and group (what makes requests fit together: the shape of a row), up to
`batch_rows_max` rows. There is no delay: an idle worker is given what waits at once. While all are busy requests gather,
so batches grow with load by themselves. A worker that is busy and has a credit left is sent a second batch only when it
is a full one: that hides the way between gateway and worker and keeps batches large. A request of more rows than a batch
may have runs alone.

**Failure.** A batch that the model refuses is halved until the request that is at fault fails alone. When a worker is
lost, each request of its batch is run once more, alone, on another: inference has no effects, and alone a request that
kills workers takes no other with it. Lost twice, it fails. A batch that a worker gives back unrun just waits again.

**Bounds.** `rows_max` rows may wait; beyond, `offer` refuses and says after how many seconds it is worth coming again,
from the measured rate at which rows are answered. Deadlines are kept before compute: what is late is never run.
"""

import enum
import heapq
import itertools
import operator
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

DRAIN_SAMPLES = 64
"""Answered batches from which the drain rate is measured: enough to be steady, few enough to follow a change of load."""

STALE_MIN = 64
"""Places of requests that have gone are dropped together once there are this many and more than of those that wait."""


class Phase(enum.Enum):
    """Where a request stands."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"
    """Answered, failed, expired or cancelled: the queue has nothing to do with it any more."""


WAITING, RUNNING, GONE = Phase.WAITING, Phase.RUNNING, Phase.GONE


class Request:
    """What waits: `rows` rows of one `group`, until `deadline_s`. `payload` is the caller's and never looked at."""

    __slots__ = (
        "alone",
        "arrival",
        "batch",
        "deadline_s",
        "group",
        "home",
        "lane",
        "lost",
        "payload",
        "phase",
        "row",
        "rows",
    )

    def __init__(
        self, rows: int, deadline_s: float, group: Hashable, payload: object = None, *, alone: bool = False
    ) -> None:
        self.rows = rows
        self.deadline_s = deadline_s
        self.group = group
        self.payload = payload
        self.alone = alone
        """Never put together with others: the model is not batchable, or a worker was lost while it ran."""
        self.phase = WAITING
        self.lane: str = ""
        self.home: _Group | None = None
        """Where it waits to be put together with others; `None` where it waits as part of a batch to be run again."""
        self.arrival = 0
        self.batch: Batch | None = None
        self.row = 0
        """Its first row in its batch."""
        self.lost = False
        """Whether a worker was lost while it ran."""

    def __repr__(self) -> str:
        return f"<Request {self.arrival} {self.phase.value} rows={self.rows} deadline_s={self.deadline_s}>"


@dataclass(slots=True, eq=False)
class Batch:
    """What one worker is given at once: all rows of its requests, in their order."""

    lane: str
    worker: Hashable
    requests: list[Request]
    rows: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """No room: `retry_after_s` is when some can be expected."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A request has no answer, for a reason of the model's or its workers'."""

    request: Request
    message: str
    lost: bool = False
    """Whether the reason is that workers were lost, and not what the model said."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A request's time is over. `worker_seen`: whether its lane had a worker then."""

    request: Request
    worker_seen: bool


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """What `Queue.statistics` tells."""

    rows_waiting: int
    requests_waiting: int
    batches_running: int
    workers: int
    batches_halved: int
    workers_lost: int


@dataclass(slots=True, eq=False)
class _Group:
    """Requests that fit together: a heap by deadline, then arrival. Who has gone is dropped when it comes up."""

    heap: list[tuple[float, int, Request]] = field(default_factory=list)
    rows: int = 0
    requests: int = 0


@dataclass(slots=True, eq=False)
class _Worker:
    lane: str
    credits: int
    running: list[Batch] = field(default_factory=list)
    draining: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    """The requests and workers of one model version."""

    groups: dict[Hashable, _Group] = field(default_factory=dict)
    again: deque[list[Request]] = field(default_factory=deque)
    """Batches to be run as they are, before all others: halves of failed ones, requests of lost workers."""
    workers: set[Hashable] = field(default_factory=set)
    idle: dict[Hashable, None] = field(default_factory=dict)
    """Workers with a credit and nothing to do; the longest idle first."""
    spare: dict[Hashable, None] = field(default_factory=dict)
    """Workers that are busy and have a credit left."""


class Queue:
    """The queue of one endpoint. Every method is an event; what it returns is for the shell to perform."""

    def __init__(self, batch_rows_max: int, rows_max: int) -> None:
        self.batch_rows_max = batch_rows_max
        self.rows_max = rows_max
        self.rows_waiting = 0
        self.batches_running = 0
        self._lanes: dict[str, _Lane] = {}
        self._workers: dict[Hashable, _Worker] = {}
        self._arrivals = 0
        self._answers: deque[tuple[float, int]] = deque(maxlen=DRAIN_SAMPLES)
        self._batches_halved = 0
        self._workers_lost = 0

    # Requests ---------------------------------------------------------------------------------------------------------

    def offer(self, request: Request, lane: str, now: float) -> Refusal | None:
        """A request arrives: it waits, unless there is no room."""
        if self.rows_waiting:
            if self.rows_waiting + request.rows > self.rows_max:
                return Refusal(self.retry_after_s(now))
        elif not self.batches_running:
            self._answers.clear()  # what follows an idle time says nothing about the rate under load
        self._arrivals += 1
        request.arrival = self._arrivals
        self._wait(request, lane)
        return None

    def cancel(self, request: Request) -> Batch | None:
        """Nobody waits for that answer any more. Returns its running batch where that is now so for all of it."""
        if request.phase is WAITING:
            self._unwait(request)
        request.phase = GONE
        batch = request.batch
        if batch is not None and all(other.phase is GONE for other in batch.requests):
            return batch
        return None

    def expire(self, now: float) -> list[Expired]:
        """Takes out everything whose time is over by now, waiting or running."""
        expired: list[Expired] = []
        for lane in list(self._lanes.values()):
            for group in list(lane.groups):
                while (head := self._head(lane, group)) is not None and head.deadline_s <= now:
                    expired.append(self._expired(head, lane))
            for request in [*_flat(lane.again), *self._running(lane)]:
                if request.deadline_s <= now and request.phase is not GONE:
                    expired.append(self._expired(request, lane))
        return expired

    def deadline_s(self) -> float | None:
        """When `expire` will have something to do at the earliest; `None` while nothing waits or runs."""
        deadlines = []
        for lane in self._lanes.values():
            for group in list(lane.groups):
                if (head := self._head(lane, group)) is not None:
                    deadlines.append(head.deadline_s)
            others = (*_flat(lane.again), *self._running(lane))
            deadlines += [request.deadline_s for request in others if request.phase is not GONE]
        return min(deadlines, default=None)

    def evict(self, lane: str) -> list[Request]:
        """Takes out all that wait for a lane, in order, to be offered to another (`offer_again`)."""
        found = self._lanes.get(lane)
        if found is None:
            return []
        entries = (entry[2] for group in found.groups.values() for entry in group.heap)
        waiting = sorted((r for r in (*entries, *_flat(found.again)) if r.phase is WAITING), key=_order)
        for request in waiting:
            self._unwait(request)
        found.groups.clear()
        found.again.clear()
        self._forget_if_empty(lane)
        return waiting

    def offer_again(self, request: Request, lane: str) -> None:
        """A request that was evicted waits in another lane; its place is by its deadline and first arrival."""
        self._wait(request, lane)

    def retry_after_s(self, now: float) -> float:
        """Seconds until a request that comes now can expect room: what waits, at the rate at which rows were answered.

        At the latest it is when the next request's time is over, which is all there is to say while nothing is answered.
        """
        deadline_s = self.deadline_s()
        latest_s = max(0.0, deadline_s - now) if deadline_s is not None else 0.0
        rows_per_s = self.drain_rows_per_s(now)
        return min(latest_s, self.rows_waiting / rows_per_s) if rows_per_s else latest_s

    def drain_rows_per_s(self, now: float) -> float:
        """Rows answered each second since the oldest of the last `DRAIN_SAMPLES` answers; 0 where that says nothing."""
        if len(self._answers) < 2 or now <= self._answers[0][0]:
            return 0.0
        rows = sum(rows for _, rows in self._answers) - self._answers[0][1]
        return rows / (now - self._answers[0][0])

    # Workers ----------------------------------------------------------------------------------------------------------

    def join(self, worker: Hashable, lane: str, credits: int) -> None:
        """A worker is ready and will take that many batches before its first answer."""
        self._workers[worker] = _Worker(lane, credits)
        self._lane(lane).workers.add(worker)
        self._place(worker)

    def grant(self, worker: Hashable, credits: int) -> None:
        """A worker will take so many batches more."""
        found = self._workers.get(worker)
        if found is not None and not found.draining:
            found.credits += credits
            self._place(worker)

    def drain(self, worker: Hashable) -> None:
        """A worker takes no more; what it has it will answer or give back."""
        found = self._workers.get(worker)
        if found is not None:
            found.draining, found.credits = True, 0
            self._place(worker)

    def lost(self, worker: Hashable) -> list[Failed]:
        """A worker is gone, and with it the answers to what it had: each is run once more, alone, or has failed."""
        found = self._workers.pop(worker, None)
        if found is None:
            return []
        lane = self._lane(found.lane)
        lane.workers.discard(worker)
        lane.idle.pop(worker, None)
        lane.spare.pop(worker, None)
        failed: list[Failed] = []
        self._workers_lost += bool(found.running)
        for batch in found.running:
            self.batches_running -= 1
            for request in _live(batch):
                request.batch = None
                if request.lost:
                    request.phase = GONE
                    failed.append(Failed(request, "two workers were lost while they ran this request", lost=True))
                else:
                    request.lost = request.alone = True
                    self._wait_again([request], found.lane)
        self._forget_if_empty(found.lane)
        return failed

    # Batches ----------------------------------------------------------------------------------------------------------

    def assign(self, now: float) -> list[Batch | Expired]:
        """Gives workers what they can take. Each batch is to be sent to its worker; who came up late has expired."""
        commands: list[Batch | Expired] = []
        for key, lane in self._lanes.items():
            while lane.idle:
                requests = self._take(lane, now, commands)
                if not requests:
                    break
                commands.append(self._start(key, next(iter(lane.idle)), requests))
            while lane.spare and any(group.rows >= self.batch_rows_max for group in lane.groups.values()):
                requests = self._take(lane, now, commands)
                if requests:
                    commands.append(self._start(key, next(iter(lane.spare)), requests))
        return commands

    def answered(self, batch: Batch, now: float) -> list[Request]:
        """The worker answered. Returns the requests that still wait for it: each has its rows from `row` on."""
        self._finish(batch)
        self._answers.append((now, batch.rows))
        wanted = _live(batch)
        for request in wanted:
            request.phase = GONE
        return wanted

    def failed(self, batch: Batch, message: str) -> list[Failed]:
        """The model refused the batch. One request alone is at fault; of several, each half is tried."""
        self._finish(batch)
        live = _live(batch)
        if len(batch.requests) == 1:
            for request in live:
                request.phase = GONE
            return [Failed(request, message) for request in live]
        self._batches_halved += 1
        half = (len(live) + 1) // 2
        for part in (live[half:], live[:half]):
            if part:
                self._wait_again(part, batch.lane, first=True)
        return []

    def returned(self, batch: Batch) -> None:
        """The worker gave the batch back unrun (it is going, or it was told that nobody waits)."""
        self._finish(batch)
        for request in _live(batch):
            if request.lost:
                self._wait_again([request], batch.lane)
            else:
                self._wait(request, batch.lane)

    def statistics(self) -> QueueStatistics:
        """How things stand."""
        waiting = sum(group.requests for lane in self._lanes.values() for group in lane.groups.values())
        again = sum(r.phase is WAITING for lane in self._lanes.values() for r in _flat(lane.again))
        return QueueStatistics(
            rows_waiting=self.rows_waiting,
            requests_waiting=waiting + again,
            batches_running=self.batches_running,
            workers=len(self._workers),
            batches_halved=self._batches_halved,
            workers_lost=self._workers_lost,
        )

    def workers(self, lane: str) -> int:
        """How many workers a lane has."""
        found = self._lanes.get(lane)
        return len(found.workers) if found is not None else 0

    # Inside -----------------------------------------------------------------------------------------------------------

    def _lane(self, key: str) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
        return lane

    def _forget_if_empty(self, key: str) -> None:
        lane = self._lanes[key]
        if not (lane.groups or lane.again or lane.workers):
            del self._lanes[key]

    def _wait(self, request: Request, key: str) -> None:
        groups = self._lane(key).groups
        group = groups.get(request.group)
        if group is None:
            group = groups[request.group] = _Group()
        request.phase, request.lane, request.home, request.batch = WAITING, key, group, None
        heapq.heappush(group.heap, (request.deadline_s, request.arrival, request))
        group.rows += request.rows
        group.requests += 1
        self.rows_waiting += request.rows

    def _wait_again(self, requests: list[Request], key: str, *, first: bool = False) -> None:
        for request in requests:
            request.phase, request.lane, request.home, request.batch = WAITING, key, None, None
            self.rows_waiting += request.rows
        again = self._lane(key).again
        (again.appendleft if first else again.append)(requests)

    def _unwait(self, request: Request) -> None:
        """It is no longer counted; its place in heap or list is dropped when it comes up, or when too many are such."""
        self.rows_waiting -= request.rows
        group, request.home = request.home, None
        if group is not None:
            group.rows -= request.rows
            group.requests -= 1
            if len(group.heap) > STALE_MIN and group.requests * 2 < len(group.heap):
                group.heap[:] = [entry for entry in group.heap if entry[2].home is group]
                heapq.heapify(group.heap)

    def _head(self, lane: _Lane, key: Hashable) -> Request | None:
        """The first that waits in a group; a group where none does is forgotten."""
        group = lane.groups[key]
        heap = group.heap
        while heap and heap[0][2].home is not group:
            heapq.heappop(heap)
        if heap:
            return heap[0][2]
        del lane.groups[key]
        return None

    def _first_group(self, lane: _Lane) -> Hashable | None:
        """The group whose first request comes before those of all others. XX linear in groups, of which a client can make
        many where a model has open dimensions besides the rows; each of its requests is then a batch of its own anyway."""
        heads = [(head.deadline_s, head.arrival, key) for key in list(lane.groups) if (head := self._head(lane, key))]
        return min(heads, key=_two)[2] if heads else None

    def _take(self, lane: _Lane, now: float, commands: list[Batch | Expired]) -> list[Request]:
        """What the next worker is given; empty where nothing waits. Who is late is not run but has expired."""
        while lane.again:
            requests = []
            for request in lane.again.popleft():
                if request.phase is WAITING and request.deadline_s <= now:
                    commands.append(self._expired(request, lane))
                elif request.phase is WAITING:
                    self._unwait(request)
                    requests.append(request)
            if requests:
                return requests
        while lane.groups:
            key = next(iter(lane.groups)) if len(lane.groups) == 1 else self._first_group(lane)
            requests = self._form(lane, key, now, commands)
            if requests:
                return requests
        return []

    def _form(self, lane: _Lane, key: Hashable, now: float, commands: list[Batch | Expired]) -> list[Request]:
        taken: list[Request] = []
        rows = 0
        while (head := self._head(lane, key)) is not None:
            if head.deadline_s <= now:
                commands.append(self._expired(head, lane))
                continue
            if taken and (head.alone or taken[0].alone or rows + head.rows > self.batch_rows_max):
                break
            heapq.heappop(lane.groups[key].heap)
            self._unwait(head)
            taken.append(head)
            rows += head.rows
        return taken

    def _start(self, key: str, worker: Hashable, requests: list[Request]) -> Batch:
        row = 0
        batch = Batch(key, worker, requests, 0)
        for request in requests:
            request.phase, request.batch, request.row = RUNNING, batch, row
            row += request.rows
        batch.rows = row
        found = self._workers[worker]
        found.credits -= 1
        found.running.append(batch)
        self.batches_running += 1
        self._place(worker)
        return batch

    def _finish(self, batch: Batch) -> None:
        found = self._workers[batch.worker]
        found.running.remove(batch)
        self.batches_running -= 1
        self._place(batch.worker)

    def _place(self, key: Hashable) -> None:
        worker = self._workers[key]
        lane = self._lanes[worker.lane]
        lane.idle.pop(key, None)
        lane.spare.pop(key, None)
        if worker.credits > 0:
            (lane.spare if worker.running else lane.idle)[key] = None

    def _running(self, lane: _Lane) -> list[Request]:
        return [r for worker in lane.workers for batch in self._workers[worker].running for r in batch.requests]

    def _expired(self, request: Request, lane: _Lane) -> Expired:
        self.cancel(request)
        return Expired(request, bool(lane.workers))


def _live(batch: Batch) -> list[Request]:
    return [request for request in batch.requests if request.phase is RUNNING]


def _flat(batches: Iterable[list[Request]]) -> Iterator[Request]:
    return itertools.chain.from_iterable(batches)


def _order(request: Request) -> tuple[float, int]:
    return request.deadline_s, request.arrival


_two = operator.itemgetter(0, 1)
