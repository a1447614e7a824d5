"""Whatever fails, leaves or is late: each request has one end, the right one; the queue agrees with a naive oracle.

The machine plays clients, workers and the clock at random, on virtual time. Some requests are bad (a batch with one is
refused by the model), some kill the worker that runs them. The oracle keeps one plain list and sorts it each time.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mizzen.policy.queue import Batch, Expired, Phase, Queue, Request

LANES = ("v1", "v2")
BATCH_ROWS_MAX = 6
ROWS_MAX = 24


@dataclass(eq=False)
class Call:
    """What a request is to the oracle: its payload."""

    bad: bool
    kills: bool
    ends: list[str] = field(default_factory=list)


@dataclass
class NaiveLane:
    """Who waits: in one plain list, and in batches to be run again."""

    waiting: list[Request] = field(default_factory=list)
    again: list[list[Request]] = field(default_factory=list)

    def take(self, now: float) -> list[Request]:
        """What a worker should be given now, by sorting and scanning."""
        for requests in self.again:
            if live := [request for request in requests if request.deadline_s > now]:
                return live
        live = sorted((r for r in self.waiting if r.deadline_s > now), key=lambda r: (r.deadline_s, r.arrival))
        taken: list[Request] = []
        for request in live:
            if request.group != live[0].group:
                continue
            if taken and (request.alone or taken[0].alone):
                break
            if taken and sum(r.rows for r in taken) + request.rows > BATCH_ROWS_MAX:
                break
            taken.append(request)
        return taken

    def remove(self, gone: list[Request]) -> None:
        self.waiting = [request for request in self.waiting if request not in gone]
        self.again = [left for part in self.again if (left := [request for request in part if request not in gone])]


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(BATCH_ROWS_MAX, ROWS_MAX)
        self.now = 0.0
        self.requests: list[Request] = []
        self.naive = {lane: NaiveLane() for lane in LANES}
        self.running: dict[str, list[Batch]] = {}
        self.lane_of: dict[str, str] = {}
        self.draining: set[str] = set()
        self.names = 0

    # What happens

    @rule(
        rows=st.integers(1, 8), timeout_s=st.sampled_from([0.5, 5.0, 5.0, 30.0]), group=st.sampled_from([None, "a"]),
        lane=st.sampled_from(LANES), bad=st.sampled_from([False] * 7 + [True]),
        kills=st.sampled_from([False] * 11 + [True]), alone=st.sampled_from([False] * 5 + [True]),
    )  # fmt: skip
    def offer(self, rows, timeout_s, group, lane, bad, kills, alone):
        waiting = self.rows_waiting()
        request = Request(rows, self.now + timeout_s, group, Call(bad, kills), alone=alone)
        refusal = self.queue.offer(request, lane, self.now)
        assert (refusal is not None) == (waiting > 0 and waiting + rows > ROWS_MAX)
        if refusal is None:
            self.requests.append(request)
            self.naive[lane].waiting.append(request)
        else:
            assert 0.0 <= refusal.retry_after_s <= 30.0

    @rule(dt_s=st.sampled_from([0.01, 0.4, 3.0]))
    def pass_time(self, dt_s):
        self.now += dt_s

    @rule()
    def expire(self):
        expected = {r for r in self.requests if r.phase is not Phase.GONE and r.deadline_s <= self.now}
        expired = self.queue.expire(self.now)
        assert {one.request for one in expired} == expected
        self.end("late", *(one.request for one in expired))
        left = [r.deadline_s for r in self.requests if r.phase is not Phase.GONE]
        assert self.queue.deadline_s() == min(left, default=None)

    @rule(lane=st.sampled_from(LANES), batches=st.integers(1, 2))
    def join(self, lane, batches):
        self.names += 1
        name = f"w{self.names}"
        self.running[name], self.lane_of[name] = [], lane
        self.queue.join(name, lane, batches)

    @rule()
    def assign(self):
        for command in self.queue.assign(self.now):
            if isinstance(command, Expired):
                assert command.request.deadline_s <= self.now
                self.end("late", command.request)
            else:
                naive = self.naive[command.lane]
                assert naive.take(self.now) == command.requests
                naive.remove(command.requests)
                assert command.rows == sum(request.rows for request in command.requests)
                assert command.worker not in self.draining
                assert self.lane_of[command.worker] == command.lane
                self.running[command.worker].append(command)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def worker_comes_back(self, data):
        """A worker is done with its oldest batch, in the way that the batch's requests decide."""
        name = data.draw(st.sampled_from([name for name, batches in self.running.items() if batches]))
        batch = self.running[name][0]
        if any(request.payload.kills for request in batch.requests):
            self.lose(name)
            return
        self.running[name].remove(batch)
        if any(request.payload.bad for request in batch.requests):
            self.failed(batch)
        else:
            wanted = [r for r in batch.requests if r.phase is Phase.RUNNING]
            assert self.queue.answered(batch, self.now) == wanted
            self.end("answered", *wanted)
        self.queue.grant(name, 1)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def worker_is_lost(self, data):
        self.lose(data.draw(st.sampled_from(sorted(self.running))))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def worker_drains(self, data):
        name = data.draw(st.sampled_from(sorted(self.running)))
        self.draining.add(name)
        self.queue.drain(name)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def batch_is_given_back(self, data):
        name = data.draw(st.sampled_from([name for name, batches in self.running.items() if batches]))
        batch = self.running[name].pop()
        live = [r for r in batch.requests if r.phase is Phase.RUNNING]
        self.queue.returned(batch)
        self.queue.grant(name, 1)
        self.naive[batch.lane].waiting += live

    @precondition(lambda self: any(r.phase is not Phase.GONE for r in self.requests))
    @rule(data=st.data())
    def client_leaves(self, data):
        request = data.draw(st.sampled_from([r for r in self.requests if r.phase is not Phase.GONE]))
        batch = request.batch if request.phase is Phase.RUNNING else None
        given_up = self.queue.cancel(request)
        self.end("left", request)
        empty = batch is not None and all(r.phase is Phase.GONE for r in batch.requests)
        assert given_up is (batch if empty else None)

    @rule(lane=st.sampled_from(LANES))
    def version_is_replaced(self, lane):
        other = LANES[1 - LANES.index(lane)]
        naive = self.naive[lane]
        expected = [*naive.waiting, *(request for part in naive.again for request in part)]
        moved = self.queue.evict(lane)
        assert moved == sorted(expected, key=lambda r: (r.deadline_s, r.arrival))
        naive.waiting, naive.again = [], []
        for request in moved:
            self.queue.offer_again(request, other)
            self.naive[other].waiting.append(request)

    # What must hold

    def lose(self, name: str) -> None:
        batches = self.running.pop(name)
        self.draining.discard(name)
        failed = self.queue.lost(name)
        assert all(one.lost and one.request.lost for one in failed)
        self.end("lost twice", *(one.request for one in failed))
        for batch in batches:
            self.naive[batch.lane].again += [[r] for r in batch.requests if r.phase is Phase.WAITING]

    def failed(self, batch: Batch) -> None:
        live = [r for r in batch.requests if r.phase is Phase.RUNNING]
        failed = self.queue.failed(batch, "bad")
        if len(batch.requests) == 1:
            assert [one.request for one in failed] == live
            self.end("failed", *live)
        else:
            assert failed == []
            half = (len(live) + 1) // 2
            self.naive[batch.lane].again[:0] = [part for part in (live[:half], live[half:]) if part]

    def end(self, how: str, *requests: Request) -> None:
        for request in requests:
            assert request.phase is Phase.GONE
            request.payload.ends.append(how)
        for naive in self.naive.values():
            naive.remove(list(requests))

    def rows_waiting(self) -> int:
        return sum(r.rows for r in self.requests if r.phase is Phase.WAITING)

    @invariant()
    def counts_are_true(self):
        found = self.queue.statistics()
        assert found.rows_waiting == self.rows_waiting()
        assert found.requests_waiting == sum(r.phase is Phase.WAITING for r in self.requests)
        assert found.batches_running == sum(len(batches) for batches in self.running.values())
        assert found.workers == len(self.running)

    @invariant()
    def nobody_ends_twice(self):
        assert all(len(r.payload.ends) == (r.phase is Phase.GONE) for r in self.requests)

    def teardown(self):
        """With good workers and time enough, everyone who is left ends, and who did nothing wrong is answered."""
        for _ in range(1000):
            for lane in LANES:
                self.join(lane, 2)
            self.assign()
            for name in list(self.running):
                while self.running.get(name):
                    batch = self.running[name][0]
                    if any(r.payload.kills for r in batch.requests):
                        self.lose(name)
                        break
                    self.running[name].remove(batch)
                    if any(r.payload.bad for r in batch.requests):
                        self.failed(batch)
                    else:
                        self.end("answered", *self.queue.answered(batch, self.now))
                    self.queue.grant(name, 1)
            if all(r.phase is Phase.GONE for r in self.requests):
                break
        for request in self.requests:
            (how,) = request.payload.ends
            if how == "failed":
                assert request.payload.bad
            if how == "answered":
                assert not request.payload.bad
                assert not request.payload.kills


_UNHURRIED = settings(deadline=None, stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow])

TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(_UNHURRIED, max_examples=200)


class LongQueueMachine(QueueMachine):
    """The same, longer and more often."""


TestQueueAtLength = pytest.mark.slow(LongQueueMachine.TestCase)
TestQueueAtLength.settings = settings(_UNHURRIED, max_examples=3000, stateful_step_count=80)
