"""The queue of one endpoint: every event, and what is to be done about it. `mizzen.policy.queue` has the theory."""

from collections.abc import Hashable

from mizzen.policy.queue.commands import Command, Expired, Failed, GiveUp, QueueStatistics, Reason, Refused
from mizzen.policy.queue.entitlement import least_entitled, too_late
from mizzen.policy.queue.forming import Late
from mizzen.policy.queue.lane import Lane, Worker, lane_statistics
from mizzen.policy.queue.request import GONE, RUNNING, WAITING, Batch, Request
from mizzen.policy.queue.rules import BACKGROUND, Rules
from mizzen.policy.queue.yielding import Yielding

SPARE_S = 0.005
"""A second batch is sent ahead to a worker that is expected to be free in this time: sooner it is worth more to decide
late than to hide the way between.
"""
RETRY_AFTER_MAX_S = 30.0
"""Nobody is told to wait longer: a rate measured now says little about a time that far off."""
LOST_TWICE = "two workers were lost while they ran this request"


class Queue:
    """The queue of one endpoint. Every method is an event; the commands it returns are for the shell to perform."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._lanes: dict[str, Lane] = {}
        self._lane_of: dict[Hashable, Lane] = {}
        """By worker."""
        self._arrivals = 0.0
        """A whole number, kept as what it becomes in `Request.arrival`."""
        self._batches_running = 0
        self._batches_halved = 0
        self._yields = False
        """Whether there ever was something of the background."""
        self.workers_lost = 0
        """While they ran something."""
        self._pushed_out = 0

    @property
    def rules(self) -> Rules:
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        for lane in self._lanes.values():
            lane.rules = rules

    @property
    def rows_waiting(self) -> int:
        """Rows that wait, of all lanes."""
        rows = 0
        for lane in self._lanes.values():
            rows += lane.rows
        return rows

    @property
    def bytes_waiting(self) -> int:
        """Bytes of inputs that wait, of all lanes."""
        size = 0
        for lane in self._lanes.values():
            size += lane.size
        return size

    # Requests

    def offer(self, request: Request, lane: str, now: float) -> list[Refused]:
        """A request arrives: it waits, unless it is among those refused. Others may be, to make room for it."""
        rules = self._rules
        lanes = self._lanes
        found = lanes.get(lane)
        if found is None:
            found = self._lane(lane)
        known = rules.priority_levels > 1 or request.priority == BACKGROUND
        request.priority = rules.priority(request.priority, request.tenant) if known else 1
        self._arrivals += 1
        request.arrival = self._arrivals
        request.came_s = now
        if found.count or not found.idle or len(lanes) > 1:
            if not found.forecast.enough_time(found.cost + request.cost, request.deadline_s - now):
                refused = too_late(request, found, now)
                if refused is not None:
                    return [refused]
            rows, size = (found.rows, found.size) if len(lanes) == 1 else (self.rows_waiting, self.bytes_waiting)
            if rows and (rows + request.rows > rules.rows_max or size + request.size > rules.bytes_max):
                return self._make_room(request, found, now)
        self._enter(request, found, now)
        return []

    def foresee(self, tenant: str, lane: str, row_bytes: int, deadline_s: float, now: float) -> Refused | None:
        """The refusal that awaits whatever this tenant offers now, told before it is read; `None`: it may have a place.

        It is that of one row. Where rows differ in size (`row_bytes` 0) no time can be told for one, and where requests
        have priorities nothing can be, before they are read. (One of the background is refused where others are.)
        """
        rules, found = self._rules, self._lanes.get(lane)
        if found is None or not found.count or rules.priority_levels > 1:
            return None
        in_time = not row_bytes or found.forecast.enough_time(found.cost + 1, deadline_s - now)
        full = self.rows_waiting >= rules.rows_max
        if in_time and not full:
            return None
        least = Request(1, deadline_s, None, size=row_bytes, by_size=not row_bytes, tenant=tenant, priority=1)
        refused = None if in_time else too_late(least, found, now)
        if refused is None and full and least_entitled(least, found) is None:
            refused = Refused(least, Reason.FULL, self.retry_after_s(least, lane, now))
        return refused

    def cancel(self, request: Request) -> list[GiveUp]:
        """Nobody waits for that answer any more."""
        return self._drop(request)

    def expire(self, now: float) -> list[Command]:
        """Takes out everything whose time is over by now, waiting or running."""
        commands: list[Command] = []
        for lane in self._lanes.values():
            for request in lane.late(now):
                commands.append(Expired(request.whole or request, bool(lane.workers)))
                commands += self._drop(request)
        return commands

    def deadline_s(self) -> float | None:
        """When `expire` will have something to do at the earliest; `None` while nothing waits or runs."""
        deadlines = (lane.deadline_s() for lane in self._lanes.values())
        return min((deadline_s for deadline_s in deadlines if deadline_s is not None), default=None)

    def held_until_s(self) -> float | None:
        """When `assign` will have something to do though nothing happens; `None`: it will not."""
        if not self._rules.batch_delay_s and not self._yields:
            return None
        times = (lane.held_until_s() for lane in self._lanes.values() if lane.idle)
        return min((time_s for time_s in times if time_s is not None), default=None)

    def evict(self, lane: str) -> list[Request]:
        """Takes out all that wait for a lane, in order, to be offered to another (`offer_again`).

        A request of which some parts have run already is taken out whole: its parts run there for nobody.
        """
        found = self._lanes.get(lane)
        if found is None:
            return []
        wholes = list(dict.fromkeys(request.whole or request for request in found.evict()))
        for whole in wholes:
            self._drop(whole)
        return wholes

    def offer_again(self, request: Request, lane: str, now: float) -> None:
        """A request that was evicted waits in another lane; its place is by its deadline and first arrival."""
        self._enter(request, self._lane(lane), now)

    def retry_after_s(self, request: Request, lane: str, now: float) -> float:
        """Seconds until such a request can expect room: what waits, at the rate at which it is worked off.

        While that is not known it is when the next request's time is over, which is all there is to say.
        """
        found = self._lanes.get(lane)
        per_s = found.per_s(request) if found is not None else 0.0
        if found is None or not per_s:
            deadline_s = self.deadline_s()
            wait_s = max(0.0, deadline_s - now) if deadline_s is not None else 0.0
        else:
            wait_s = found.cost / per_s
        return min(wait_s, RETRY_AFTER_MAX_S)

    # Workers

    def join(self, worker: Hashable, lane: str, batches: int) -> None:
        """A worker is ready and will take so many batches before its first answer."""
        found = self._lane_of[worker] = self._lane(lane)
        found.workers[worker] = Worker(batches)
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

    def lost(self, worker: Hashable, now: float) -> list[Command]:
        """A worker is gone, and with it the answers to what it had.

        Its first batch is what it ran. Each request of that is run once more, alone, and has failed where that was so
        before. What had not begun waits again.
        """
        lane = self._lane_of.pop(worker, None)
        if lane is None:
            return []
        running = lane.workers.pop(worker).running
        lane.place(worker)
        for batch in running:
            self._ended(lane, batch, now)
        commands: list[Command] = []
        self.workers_lost += bool(running)
        self._batches_running -= len(running)
        for batch in reversed(running[1:]):
            self._wait_again(lane, batch.close(), now)
        for request in running[0].close() if running else ():
            if request.lost:
                commands.append(Failed(request.whole or request, LOST_TWICE, lost=True))
                commands += self._drop(request)
            else:
                request.lost = request.alone = True
                lane.add_again([request])
        return commands

    def workers(self, lane: str) -> int:
        """How many workers a lane has, those that drain left out."""
        found = self._lanes.get(lane)
        return sum([not worker.draining for worker in found.workers.values()]) if found is not None else 0

    def is_used(self, lane: str) -> bool:
        """Whether a lane has a worker, though it may drain, or anything that waits."""
        return bool(self._lanes.get(lane))

    # Batches

    def assign(self, now: float) -> list[Command]:
        """Gives workers what they can take. Each batch is to be sent to its worker; who came up late has expired."""
        commands: list[Command] = []
        empty = False
        for lane in self._lanes.values():
            if lane.count:
                self._assign_of(lane, now, commands)
            empty = empty or not (lane.workers or lane.count)
        if empty and len(self._lanes) > 1:
            self._lanes = {key: lane for key, lane in self._lanes.items() if lane}
        return commands

    def _assign_of(self, lane: Lane, now: float, commands: list[Command]) -> None:
        late: list[Late] = []
        lane.resting = lane.yielding is not None and now < lane.yielding.resume_s
        may_hold = self._yields or bool(self._rules.batch_delay_s)
        held_until_s = lane.held_until_s() if may_hold else None
        while lane.idle and lane.count and (held_until_s is None or held_until_s <= now):
            if requests := lane.take(now, now, late):
                commands.append(self._start(lane, next(iter(lane.idle)), requests, now))
            if may_hold:
                held_until_s = lane.held_until_s()
        while not lane.idle and lane.spare and lane.has_full_batch():
            worker = next((key for key in lane.spare if lane.workers[key].free_s - now <= SPARE_S), None)
            if worker is None:
                break
            if requests := lane.take(max(now, lane.workers[worker].free_s), now, late):
                commands.append(self._start(lane, worker, requests, now))
        wholes = {one.request.whole or one.request: one.needed_s for one in late}
        for whole, needed_s in wholes.items():
            commands.append(Expired(whole, bool(lane.workers), needed_s))
            commands += self._drop(whole)

    def answered(self, batch: Batch, now: float, waited_s: float = 0.0) -> list[Command]:
        """The worker answered, after the batch had lain there for `waited_s`. Who is late by now has expired."""
        lane, wanted = self._finish(batch, now)
        took_s = now - batch.sent_s - waited_s
        cost_max = lane.cost_max(batch.requests[0])
        lane.forecast.answered(batch.cost, took_s, now, len(lane.workers), cost_max, more_waits=lane.count > 0)
        commands: list[Command] = []
        for request in wanted:
            if request.phase is not RUNNING:
                continue  # another part of the same request was late
            if request.deadline_s < now:
                commands.append(Expired(request.whole or request, worker_seen=True))
                commands += self._drop(request)
            else:
                request.phase = GONE
                whole = request.whole
                if whole is not None:
                    whole.left -= 1
                    if not whole.left:
                        whole.phase = GONE
                        whole.unite()
        if lane.yielding is not None and not batch.background:
            for request in wanted:
                lane.yielding.answered(request.came_s, now)
        return commands

    def failed(self, batch: Batch, message: str, now: float, *, invalid: bool = False) -> list[Command]:
        """The model refused the batch. One request alone is at fault; of several, each half is tried."""
        lane, live = self._finish(batch, now)
        commands: list[Command] = []
        if len(batch.requests) == 1:
            for request in live:
                commands.append(Failed(request.whole or request, message, invalid=invalid))
                commands += self._drop(request)
            return commands
        self._batches_halved += 1
        half = (len(live) + 1) // 2
        for part in (live[half:], live[:half]):
            if part:
                lane.add_again(part, first=True)
        return commands

    def returned(self, batch: Batch, now: float) -> None:
        """The worker gave the batch back unrun: it is going, or was told that it need not run it."""
        lane, live = self._finish(batch, now)
        self._wait_again(lane, live, now)

    def statistics(self) -> QueueStatistics:
        """How things stand."""
        workers = [worker for lane in self._lanes.values() for worker in lane.workers.values()]
        return QueueStatistics(
            rows_waiting=self.rows_waiting,
            requests_waiting=sum(lane.count for lane in self._lanes.values()),
            batches_running=self._batches_running,
            workers=len(self._lane_of),
            batches_halved=self._batches_halved,
            workers_lost=self.workers_lost,
            bytes_waiting=self.bytes_waiting,
            requests_running=sum(len(batch.requests) for worker in workers for batch in worker.running),
            credits=sum(worker.credits for worker in workers),
            pushed_out=self._pushed_out,
            lanes=tuple(lane_statistics(lane) for lane in self._lanes.values()),
        )

    # Inside: what comes

    def _enter(self, request: Request, lane: Lane, now: float) -> None:
        rules = self._rules
        request.phase = WAITING
        if request.priority > rules.priority_levels:
            rows_max, size_max = lane.batch_max(request)
            request.split(max(1, int(rows_max)), max(1, int(size_max)))
            if lane.yielding is None:
                lane.yielding, self._yields = Yielding(), True
        elif request.rows > rules.batch_rows_max or request.size > rules.batch_bytes_max:
            request.split(rules.batch_rows_max, rules.batch_bytes_max)
        if request.parts is None:
            lane.add(request, now)
        else:
            request.lane = lane.key
            for part in request.parts:
                lane.add(part, now)

    def _make_room(self, request: Request, lane: Lane, now: float) -> list[Refused]:
        """The queue is full: who is least entitled to a place gives it up, which may be the request itself."""
        retry_after_s = self.retry_after_s(request, lane.key, now)
        rules, refused = self._rules, list[Refused]()
        rows, size = self.rows_waiting + request.rows, self.bytes_waiting + request.size
        while rows > rules.rows_max or size > rules.bytes_max:
            victim = least_entitled(request, lane)
            if victim is None:
                break
            before_rows, before_size = lane.rows, lane.size
            whole = victim.whole or victim
            self._drop(victim)
            refused.append(Refused(whole, Reason.PUSHED_OUT, retry_after_s))
            rows -= before_rows - lane.rows
            size -= before_size - lane.size
        self._pushed_out += len(refused)
        if rows > rules.rows_max or size > rules.bytes_max:
            refused.append(Refused(request, Reason.FULL, retry_after_s))
        else:
            self._enter(request, lane, now)
        return refused

    # Inside: what goes

    def _drop(self, request: Request) -> list[GiveUp]:
        """The request, or that which it is a part of, is over. Returns what of it need not be run any more."""
        whole = request.whole or request
        running: dict[Batch, None] = {}
        for one in whole.unite():
            if one.phase is WAITING:
                self._lanes[one.lane].remove(one)
            elif one.phase is RUNNING and one.batch is not None:
                running[one.batch] = None
            one.phase = GONE
        whole.phase = GONE
        return [GiveUp(batch) for batch in running if self._is_given_up(batch)]

    def _is_given_up(self, batch: Batch) -> bool:
        """Whether the worker is to be told, once: nobody waits for it, or somebody left before it can have begun."""
        if batch.called_back:
            return False
        first = self._lane_of[batch.worker].workers[batch.worker].running[0]
        batch.called_back = batch is not first or not batch.live()
        return batch.called_back

    def _lane(self, key: str) -> Lane:
        lane = self._lanes.get(key)
        return lane if lane is not None else self._lanes.setdefault(key, Lane(key, self._rules))

    def _wait_again(self, lane: Lane, requests: list[Request], now: float) -> None:
        for request in requests:
            if request.lost:
                lane.add_again([request])
            else:
                lane.add(request, now)

    def _start(self, lane: Lane, key: Hashable, requests: list[Request], now: float) -> Batch:
        batch = Batch(lane.key, key, requests, now)
        if lane.yielding is not None and requests[0].priority > self._rules.priority_levels:
            batch.background = True
            lane.yielding.began()
        for request in requests:
            request.phase, request.batch = RUNNING, batch
        worker = lane.workers[key]
        worker.free_s = max(now, worker.free_s) + lane.forecast.durations.likely_s(batch.cost)
        worker.credits -= 1
        worker.running.append(batch)
        self._batches_running += 1
        lane.place(key)
        return batch

    def _finish(self, batch: Batch, now: float) -> tuple[Lane, list[Request]]:
        """It runs no more. Returns its lane, and those of it that still wait for an answer."""
        lane = self._lane_of[batch.worker]
        worker = lane.workers[batch.worker]
        worker.running.remove(batch)
        worker.free_s = now + sum([lane.forecast.durations.likely_s(other.cost) for other in worker.running])
        self._batches_running -= 1
        lane.place(batch.worker)
        self._ended(lane, batch, now)
        return lane, batch.close()

    @staticmethod
    def _ended(lane: Lane, batch: Batch, now: float) -> None:
        """A worker has that batch no more; the background rests after each of its own."""
        if batch.background and lane.yielding is not None:
            lane.yielding.ended(now, now - batch.sent_s, len(lane.workers))
