"""What waits for one model version, in order, and who can run it. A part of `mizzen.policy.queue`, which has the
theory.

Requests that fit together form a group: a heap by deadline, then arrival. A request that goes leaves its place behind,
which is dropped when it comes up, or together with others once most places are such; `Request.home` tells which is
which.
"""

import enum
import heapq
import itertools
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

STALE_MIN = 64
"""Places left behind are dropped together once there are this many and more than of those that wait."""


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
        "alone", "arrival", "batch", "deadline_s", "group", "home", "lane", "lost", "payload", "phase", "rows",
    )  # fmt: skip

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
        self.arrival = 0
        self.lane = ""
        self.home: _Group | None = None
        """Where it waits to be put together with others; `None` where it waits as part of a batch to be run again."""
        self.batch: Batch | None = None
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

    def live(self) -> list[Request]:
        """Those that still wait for the answer."""
        return [request for request in self.requests if request.phase is RUNNING]

    def close(self) -> list[Request]:
        """It is over: returns the live ones. No request leads back to it, so that nothing is left for the collector."""
        for request in self.requests:
            request.batch = None
        return self.live()


@dataclass(slots=True, eq=False)
class Worker:
    """Who runs batches: how many more it will take, and what it has."""

    lane: str
    credits: int
    running: list[Batch] = field(default_factory=list)
    draining: bool = False


@dataclass(slots=True, eq=False)
class _Group:
    heap: list[tuple[float, int, Request]] = field(default_factory=list)
    rows: int = 0
    requests: int = 0


class Lane:
    """The requests and workers of one model version."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.rows = 0
        """Rows that wait, in groups or to be run again."""
        self.workers: dict[Hashable, Worker] = {}
        self.idle: dict[Hashable, None] = {}
        """Workers with a credit and nothing to do; the longest idle first."""
        self.spare: dict[Hashable, None] = {}
        """Workers that are busy and have a credit left."""
        self._groups: dict[Hashable, _Group] = {}
        self._again: deque[list[Request]] = deque()
        """Batches to be run as they are, before all others: halves of failed ones, requests of lost workers."""

    def __bool__(self) -> bool:
        """Whether there is any reason to keep it."""
        return bool(self.workers or self.rows or self._groups or self._again)

    def add(self, request: Request) -> None:
        """It waits in its group."""
        group = self._groups.get(request.group)
        if group is None:
            group = self._groups[request.group] = _Group()
        request.phase, request.lane, request.home, request.batch = WAITING, self.key, group, None
        heapq.heappush(group.heap, (request.deadline_s, request.arrival, request))
        group.rows += request.rows
        group.requests += 1
        self.rows += request.rows

    def add_again(self, requests: list[Request], *, first: bool = False) -> None:
        """They wait to be run as one batch, just so."""
        for request in requests:
            request.phase, request.lane, request.home, request.batch = WAITING, self.key, None, None
            self.rows += request.rows
        (self._again.appendleft if first else self._again.append)(requests)

    def remove(self, request: Request) -> None:
        """A waiting request waits no more."""
        self.rows -= request.rows
        group, request.home = request.home, None
        if group is not None:
            group.rows -= request.rows
            group.requests -= 1
            if len(group.heap) > STALE_MIN and group.requests * 2 < len(group.heap):
                group.heap[:] = [entry for entry in group.heap if entry[2].home is group]
                heapq.heapify(group.heap)

    def take_late(self, now: float) -> list[Request]:
        """Those whose time is over: who waited waits no more, who runs is left to run."""
        late = []
        for key in list(self._groups):
            while (head := self._head(key)) is not None and head.deadline_s <= now:
                heapq.heappop(self._groups[key].heap)
                late.append(head)
        late += [request for request in self._others() if request.deadline_s <= now]
        for request in late:
            if request.phase is WAITING:
                self.remove(request)
        return late

    def deadline_s(self) -> float | None:
        """The first deadline of all that wait or run."""
        heads = (self._head(key) for key in list(self._groups))
        deadlines = (request.deadline_s for request in itertools.chain(heads, self._others()) if request is not None)
        return min(deadlines, default=None)

    def waiting(self) -> list[Request]:
        """All that wait, in order."""
        grouped = (entry[2] for group in self._groups.values() for entry in group.heap if entry[2].home is group)
        again = (request for requests in self._again for request in requests if request.phase is WAITING)
        return sorted((*grouped, *again), key=order)

    def evict(self) -> list[Request]:
        """Takes out all that wait, in order."""
        waiting = self.waiting()
        for request in waiting:
            self.remove(request)
        self._groups.clear()  # no place is left behind: they may come back
        self._again.clear()
        return waiting

    def has_batch_of(self, rows: int) -> bool:
        """Whether so many rows wait in one group."""
        return any(group.rows >= rows for group in self._groups.values())

    def take(self, now: float, rows_max: int, late: list[Request]) -> list[Request]:
        """What the next worker is given; empty where nothing waits. Who is late is not given but added to `late`."""
        while self._again:
            requests: list[Request] = []
            for request in self._again.popleft():
                if request.phase is WAITING:
                    self.remove(request)
                    (late if request.deadline_s <= now else requests).append(request)
            if requests:
                return requests
        while (first := self._first()) is not None:
            requests = self._form(first.group, now, rows_max, late)
            if requests:
                return requests
        return []

    def place(self, key: Hashable) -> None:
        """A worker's credits or batches have changed."""
        self.idle.pop(key, None)
        self.spare.pop(key, None)
        worker = self.workers.get(key)
        if worker is not None and worker.credits > 0:
            (self.spare if worker.running else self.idle)[key] = None

    def _head(self, key: Hashable) -> Request | None:
        """The first that waits in a group; a group where none does is forgotten."""
        group = self._groups[key]
        heap = group.heap
        while heap and heap[0][2].home is not group:
            heapq.heappop(heap)
        if heap:
            return heap[0][2]
        del self._groups[key]
        return None

    def _first(self) -> Request | None:
        """The first of all that wait in groups.

        XX linear in groups, of which a client can make many where a model has open dimensions besides its rows.
        """
        heads = [head for key in list(self._groups) if (head := self._head(key)) is not None]
        return min(heads, key=order) if len(heads) > 1 else heads[0] if heads else None

    def _form(self, key: Hashable, now: float, rows_max: int, late: list[Request]) -> list[Request]:
        """A batch from the head of a group; empty where the head is late, since then another group may come first."""
        taken: list[Request] = []
        rows = 0
        while (head := self._head(key)) is not None:
            is_late = head.deadline_s <= now
            if taken and (head.alone or taken[0].alone or rows + head.rows > rows_max):
                break
            heapq.heappop(self._groups[key].heap)
            self.remove(head)
            if is_late:
                late.append(head)
                break
            taken.append(head)
            rows += head.rows
        return taken

    def _others(self) -> Iterator[Request]:
        """Who waits to be run again, and who runs."""
        for requests in self._again:
            yield from (request for request in requests if request.phase is WAITING)
        for worker in self.workers.values():
            for batch in worker.running:
                yield from batch.live()


def order(request: Request) -> tuple[float, int]:
    """Earliest deadline first, then arrival."""
    return request.deadline_s, request.arrival
