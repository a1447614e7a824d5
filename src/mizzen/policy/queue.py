"""The late-binding queue of one endpoint: which request runs when, on which worker, with which others.

A request waits here until a worker asks for work, and not in a worker, so that everything that may change until the
last moment (who is ready, who has gone, whose time is over) is decided at the last moment. This is the whole decision:
plain state, no I/O; `now` (seconds, any monotonic origin) comes in with each event. The gateway's shell performs what
it says.

    offer ──> WAITING ──assign──> RUNNING ──answered──> GONE
                 ^                   │
                 └── failed (of several), lost (once), returned
    WAITING, RUNNING ── cancel, expire, failed (alone), lost (twice) ──> GONE

**Order.** Earliest deadline first, then arrival. With one timeout for all that is first come, first served.

**Batches** are formed per lane (one model version) and group (what makes requests fit together: the shape of a row), up
to `batch_rows_max` rows. There is no delay: an idle worker is given what waits at once. While all are busy requests
gather, so batches grow with load by themselves. A worker that is busy and has a credit left is sent a second batch only
when it is a full one: that hides the way between gateway and worker and keeps batches large. A request of more rows
than a batch may have runs alone.

**Failure.** A batch that the model refuses is halved until the request that is at fault fails alone. When a worker is
lost, each request of its batch is run once more, alone, on another: inference has no effects, and alone a request that
kills workers takes no other with it. Lost twice, it fails. A batch that a worker gives back unrun just waits again.

**Bounds.** `rows_max` rows may wait; beyond, `offer` refuses and says after how many seconds it is worth coming again,
from the measured rate at which rows are answered. Deadlines are kept before compute: what is late is never run.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from mizzen.policy.lane import GONE, RUNNING, WAITING, Batch, Lane, Phase, Request, Worker

__all__ = ["Batch", "Expired", "Failed", "Phase", "Queue", "QueueStatistics", "Refusal", "Request"]

DRAIN_SAMPLES = 64
"""Answered batches from which the drain rate is measured: enough to be steady, few enough to follow the load."""


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
    """While they ran something."""


class Queue:
    """The queue of one endpoint. Every method is an event; what it returns is for the shell to perform."""

    def __init__(self, batch_rows_max: int, rows_max: int) -> None:
        self.batch_rows_max = batch_rows_max
        self.rows_max = rows_max
        self._lanes: dict[str, Lane] = {}
        self._lane_of: dict[Hashable, Lane] = {}
        """By worker."""
        self._arrivals = 0
        self._batches_running = 0
        self._answers: deque[tuple[float, int]] = deque(maxlen=DRAIN_SAMPLES)
        self._batches_halved = 0
        self._workers_lost = 0

    @property
    def rows_waiting(self) -> int:
        """Rows that wait, of all lanes."""
        return sum([lane.rows for lane in self._lanes.values()])

    # Requests

    def offer(self, request: Request, lane: str, now: float) -> Refusal | None:
        """A request arrives: it waits, unless there is no room."""
        waiting = self.rows_waiting
        if waiting:
            if waiting + request.rows > self.rows_max:
                return Refusal(self.retry_after_s(now))
        elif not self._batches_running:
            self._answers.clear()  # what follows an idle time says nothing about the rate under load
        self._arrivals += 1
        request.arrival = self._arrivals
        self._lane(lane).add(request)
        return None

    def cancel(self, request: Request) -> Batch | None:
        """Nobody waits for that answer any more. Returns its running batch where that is now so for all of it."""
        batch = request.batch if request.phase is RUNNING else None
        if request.phase is WAITING:
            self._lanes[request.lane].remove(request)
        request.phase = GONE
        return batch if batch is not None and not batch.live() else None

    def expire(self, now: float) -> list[Expired]:
        """Takes out everything whose time is over by now, waiting or running."""
        expired = []
        for lane in self._lanes.values():
            for request in lane.take_late(now):
                request.phase = GONE
                expired.append(Expired(request, bool(lane.workers)))
        return expired

    def deadline_s(self) -> float | None:
        """When `expire` will have something to do at the earliest; `None` while nothing waits or runs."""
        deadlines = (lane.deadline_s() for lane in self._lanes.values())
        return min((deadline_s for deadline_s in deadlines if deadline_s is not None), default=None)

    def evict(self, lane: str) -> list[Request]:
        """Takes out all that wait for a lane, in order, to be offered to another (`offer_again`)."""
        found = self._lanes.get(lane)
        return found.evict() if found is not None else []

    def offer_again(self, request: Request, lane: str) -> None:
        """A request that was evicted waits in another lane; its place is by its deadline and first arrival."""
        self._lane(lane).add(request)

    def retry_after_s(self, now: float) -> float:
        """Seconds until a request that comes now can expect room: what waits, at the rate at which rows are answered.

        At the latest it is when the next request's time is over: all there is to say while nothing is answered.
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

    # Workers

    def join(self, worker: Hashable, lane: str, batches: int) -> None:
        """A worker is ready and will take so many batches before its first answer."""
        found = self._lane_of[worker] = self._lane(lane)
        found.workers[worker] = Worker(lane, batches)
        found.place(worker)

    def grant(self, worker: Hashable, batches: int) -> None:
        """A worker will take so many batches more."""
        lane = self._lane_of.get(worker)
        if lane is not None and not lane.workers[worker].draining:
            lane.workers[worker].credits += batches
            lane.place(worker)

    def drain(self, worker: Hashable) -> None:
        """A worker takes no more; what it has it will answer or give back."""
        lane = self._lane_of.get(worker)
        if lane is not None:
            found = lane.workers[worker]
            found.draining, found.credits = True, 0
            lane.place(worker)

    def lost(self, worker: Hashable) -> list[Failed]:
        """A worker is gone, and with it the answers to what it had: each is run once more, alone, or has failed."""
        lane = self._lane_of.pop(worker, None)
        if lane is None:
            return []
        running = lane.workers.pop(worker).running
        lane.place(worker)
        failed: list[Failed] = []
        self._workers_lost += bool(running)
        for batch in running:
            self._batches_running -= 1
            for request in batch.close():
                if request.lost:
                    request.phase = GONE
                    failed.append(Failed(request, "two workers were lost while they ran this request", lost=True))
                else:
                    request.lost = request.alone = True
                    lane.add_again([request])
        return failed

    def workers(self, lane: str) -> int:
        """How many workers a lane has, those that drain left out."""
        found = self._lanes.get(lane)
        return sum([not worker.draining for worker in found.workers.values()]) if found is not None else 0

    def is_used(self, lane: str) -> bool:
        """Whether a lane has a worker, though it may drain, or anything that waits."""
        return bool(self._lanes.get(lane))

    # Batches

    def assign(self, now: float) -> list[Batch | Expired]:
        """Gives workers what they can take. Each batch is to be sent to its worker; who came up late has expired."""
        commands: list[Batch | Expired] = []
        late: list[Request] = []
        for lane in self._lanes.values():
            while lane.idle and (requests := lane.take(now, self.batch_rows_max, late)):
                commands.append(self._start(lane, next(iter(lane.idle)), requests))
            while lane.spare and lane.has_batch_of(self.batch_rows_max):
                if requests := lane.take(now, self.batch_rows_max, late):
                    commands.append(self._start(lane, next(iter(lane.spare)), requests))
            for request in late:
                request.phase = GONE
                commands.append(Expired(request, bool(lane.workers)))
            late.clear()
        self._forget_empty_lanes()
        return commands

    def answered(self, batch: Batch, now: float) -> list[Request]:
        """The worker answered. Returns the requests that still waited for it."""
        _, wanted = self._finish(batch)
        self._answers.append((now, batch.rows))
        for request in wanted:
            request.phase = GONE
        return wanted

    def failed(self, batch: Batch, message: str) -> list[Failed]:
        """The model refused the batch. One request alone is at fault; of several, each half is tried."""
        lane, live = self._finish(batch)
        if len(batch.requests) == 1:
            for request in live:
                request.phase = GONE
            return [Failed(request, message) for request in live]
        self._batches_halved += 1
        half = (len(live) + 1) // 2
        for part in (live[half:], live[:half]):
            if part:
                lane.add_again(part, first=True)
        return []

    def returned(self, batch: Batch) -> None:
        """The worker gave the batch back unrun (it is going, or was told that nobody waits)."""
        lane, live = self._finish(batch)
        for request in live:
            lane.add(request)

    def statistics(self) -> QueueStatistics:
        """How things stand."""
        return QueueStatistics(
            rows_waiting=self.rows_waiting,
            requests_waiting=sum(len(lane.waiting()) for lane in self._lanes.values()),
            batches_running=self._batches_running,
            workers=len(self._lane_of),
            batches_halved=self._batches_halved,
            workers_lost=self._workers_lost,
        )

    def _lane(self, key: str) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        return lane

    def _forget_empty_lanes(self) -> None:
        if len(self._lanes) > 1:
            self._lanes = {key: lane for key, lane in self._lanes.items() if lane}

    def _start(self, lane: Lane, key: Hashable, requests: list[Request]) -> Batch:
        rows = 0
        batch = Batch(lane.key, key, requests, 0)
        for request in requests:
            request.phase, request.batch = RUNNING, batch
            rows += request.rows
        batch.rows = rows
        worker = lane.workers[key]
        worker.credits -= 1
        worker.running.append(batch)
        self._batches_running += 1
        lane.place(key)
        return batch

    def _finish(self, batch: Batch) -> tuple[Lane, list[Request]]:
        """It runs no more. Returns its lane, and those of it that still wait for an answer."""
        lane = self._lane_of[batch.worker]
        lane.workers[batch.worker].running.remove(batch)
        self._batches_running -= 1
        lane.place(batch.worker)
        return lane, batch.close()
