"""Whatever fails, leaves or is late: each request has one end, the right one; the queue agrees with a naive oracle.

The machine plays clients, workers and the clock at random, on virtual time. Some requests are bad (a batch with one is
refused by the model), some kill the worker that runs them. The oracle (`naive`) keeps plain lists and sorts them each
time. Durations are not learned here, so that who is next does not depend on them; `test_queue_schedules` has that.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mizzen.policy.queue import Batch, Expired, Failed, GiveUp, Phase, Queue, Reason, Request, Rules, durations

from .naive import NaiveQueue

LANES = ("v1", "v2")
RULES = Rules(
    rows_max=24, batch_rows_max=6, priority_levels=3, priority_default=2, weights={"a": 2.0}, priority_floors={"b": 2}
)


@dataclass(eq=False)
class Call:
    """What a request is to its client: the payload."""

    bad: bool
    kills: bool
    ends: list[str] = field(default_factory=list)
    parts_answered: list[int] = field(default_factory=list)


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(durations, "SAMPLES_MIN", 10**9)
        self.queue = Queue(RULES)
        self.now = 0.0
        self.requests: list[Request] = []
        """As offered: those that are larger than a batch have parts."""
        self.naive = NaiveQueue(RULES)
        self.running: dict[str, list[Batch]] = {}
        self.lane_of: dict[str, str] = {}
        self.draining: set[str] = set()
        self.names = 0

    # What happens

    @rule(
        rows=st.sampled_from([1, 1, 1, 2, 3, 6, 7, 15]), timeout_s=st.sampled_from([0.5, 5.0, 5.0, 30.0]),
        group=st.sampled_from([None, "a"]), lane=st.sampled_from(LANES), bad=st.sampled_from([False] * 7 + [True]),
        kills=st.sampled_from([False] * 11 + [True]), alone=st.sampled_from([False] * 5 + [True]),
        tenant=st.sampled_from("aab"), priority=st.sampled_from([0, 1, 1, 1, 3, 9]),
    )  # fmt: skip
    def offer(self, rows, timeout_s, group, lane, bad, kills, alone, tenant, priority):
        waiting = self.rows_waiting()
        request = Request(
            rows, self.now + timeout_s, group, Call(bad, kills), alone=alone, tenant=tenant, priority=priority
        )
        refused = self.queue.offer(request, lane, self.now)
        fits = waiting == 0 or waiting + rows <= RULES.rows_max
        assert fits <= (refused == [])
        assert all(0.0 <= one.retry_after_s <= 30.0 for one in refused)
        for one in refused:
            if one.request is request:
                assert one.reason is Reason.FULL
            else:
                assert one.reason is Reason.PUSHED_OUT
                other = one.request
                assert request.priority < other.priority or (
                    request.priority == other.priority and request.tenant != other.tenant
                )
                self.end("pushed out", other)
        if all(one.request is not request for one in refused):
            self.requests.append(request)
            self.naive.lane(lane).add(request)
            assert not waiting or self.rows_waiting() <= RULES.rows_max

    @rule(dt_s=st.sampled_from([0.01, 0.4, 3.0]))
    def pass_time(self, dt_s):
        self.now += dt_s

    @rule()
    def expire(self):
        expected = {r for r in self.requests if r.phase is not Phase.GONE and r.deadline_s <= self.now}
        commands = self.queue.expire(self.now)
        expired = [one.request for one in commands if isinstance(one, Expired)]
        assert len(expired) == len(set(expired))
        assert set(expired) == expected
        self.end("late", *expired)
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
            elif isinstance(command, Batch):
                naive = self.naive.lane(command.lane)
                assert naive.take(self.now) == command.requests
                assert command.rows == sum(request.rows for request in command.requests)
                assert command.rows <= RULES.batch_rows_max or len(command.requests) == 1
                assert command.worker not in self.draining
                assert self.lane_of[command.worker] == command.lane
                assert not (command.suspect and self.running[command.worker]), "a suspect has its worker for itself"
                self.running[command.worker].append(command)
        for lane in LANES:
            if lane not in self.queue._lanes:
                self.naive.lanes.pop(lane, None)  # with it goes what its tenants had

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def worker_comes_back(self, data):
        """A worker is done with its oldest batch, in the way that the batch's requests decide."""
        name = data.draw(st.sampled_from([name for name, batches in self.running.items() if batches]))
        self.come_back(name)

    def come_back(self, name: str) -> None:
        batch = self.running[name][0]
        if any(request.payload.kills for request in batch.requests):
            self.lose(name)
            return
        self.running[name].remove(batch)
        if any(request.payload.bad for request in batch.requests):
            self.failed(batch)
        else:
            self.answered(batch)
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
        self.queue.returned(batch, self.now)
        self.queue.grant(name, 1)
        self.waits_again(batch.lane, live)

    @precondition(lambda self: any(r.phase is not Phase.GONE for r in self.requests))
    @rule(data=st.data())
    def client_leaves(self, data):
        request = data.draw(st.sampled_from([r for r in self.requests if r.phase is not Phase.GONE]))
        own = {one.batch for one in request.parts or [request] if one.phase is Phase.RUNNING}
        first = {batches[0] for batches in self.running.values() if batches}
        told = {batch for batch in own if batch.called_back}
        commands = self.queue.cancel(request)
        self.end("left", request)
        expected = {
            batch for batch in own - told
            if batch not in first or all(r.phase is Phase.GONE for r in batch.requests)
        }  # fmt: skip
        assert all(isinstance(one, GiveUp) for one in commands)
        assert {one.batch for one in commands} == expected

    @rule(lane=st.sampled_from(LANES))
    def version_is_replaced(self, lane):
        other = LANES[1 - LANES.index(lane)]
        naive = self.naive.lane(lane)
        expected = {request.whole or request for request in naive.waiting()}
        moved = self.queue.evict(lane)
        assert set(moved) == expected
        assert moved == sorted(moved, key=lambda r: (r.deadline_s, r.arrival))
        naive.clear()
        for request in moved:
            request.payload.parts_answered.clear()  # it is run from the beginning, by the other version
            self.queue.offer_again(request, other, self.now)
            self.naive.lane(other).add(request)

    # What must hold

    def lose(self, name: str) -> None:
        batches = self.running.pop(name)
        self.draining.discard(name)
        was_lost = {r for batch in batches for r in batch.requests if r.lost}
        commands = self.queue.lost(name, self.now)
        failed = [one.request for one in commands if isinstance(one, Failed)]
        assert all(one.lost for one in commands if isinstance(one, Failed))
        self.end("lost twice", *failed)
        for position, batch in enumerate(batches):
            waiting = [r for r in batch.requests if r.phase is Phase.WAITING]
            if position == 0:
                assert not was_lost & set(waiting), "lost twice"
                self.naive.lane(batch.lane).add_again(*([r] for r in waiting))
        for batch in reversed(batches[1:]):
            self.waits_again(batch.lane, [r for r in batch.requests if r.phase is Phase.WAITING])

    def waits_again(self, lane: str, requests: list[Request]) -> None:
        naive = self.naive.lane(lane)
        for request in requests:
            if request.lost:
                naive.add_again([request])
            else:
                naive.add_one(request)

    def answered(self, batch: Batch) -> None:
        wanted = [r for r in batch.requests if r.phase is Phase.RUNNING]
        wholes = [r.whole or r for r in wanted]
        commands = self.queue.answered(batch, self.now)
        late = [one.request for one in commands if isinstance(one, Expired)]
        assert set(late) == {whole for whole in wholes if whole.deadline_s < self.now}
        self.end("late", *late)
        for request, whole in zip(wanted, wholes, strict=True):
            if whole in late:
                continue
            if whole is not request:
                assert request.index not in whole.payload.parts_answered
                whole.payload.parts_answered.append(request.index)
            if whole is request or whole.phase is Phase.GONE:
                self.end("answered", whole)

    def failed(self, batch: Batch) -> None:
        live = [r for r in batch.requests if r.phase is Phase.RUNNING]
        commands = self.queue.failed(batch, "bad", self.now)
        failed = [one.request for one in commands if isinstance(one, Failed)]
        if len(batch.requests) == 1:
            assert len(failed) == len(live)
            self.end("failed", *failed)
        else:
            assert commands == []
            half = (len(live) + 1) // 2
            self.naive.lane(batch.lane).add_again(*(p for p in (live[:half], live[half:]) if p), first=True)

    def end(self, how: str, *requests: Request) -> None:
        for request in requests:
            assert request.phase is Phase.GONE
            request.payload.ends.append(how)
            request.payload.parts_answered.sort()
        self.naive.remove(lambda one: one.phase is Phase.GONE)

    def rows_waiting(self) -> int:
        return sum(lane.rows() for lane in self.naive.lanes.values())

    @invariant()
    def counts_are_true(self):
        found = self.queue.statistics()
        assert found.rows_waiting == self.rows_waiting()
        assert found.requests_waiting == sum(len(lane.waiting()) for lane in self.naive.lanes.values())
        assert found.batches_running == sum(len(batches) for batches in self.running.values())
        assert found.workers == len(self.running)

    @invariant()
    def nobody_ends_twice(self):
        assert all(len(r.payload.ends) == (r.phase is Phase.GONE) for r in self.requests)

    def teardown(self):
        """With good workers and time enough, everyone who is left ends, and who did nothing wrong is answered."""
        try:
            self.finish()
        finally:
            self.patch.undo()

    def finish(self) -> None:
        for _ in range(1000):
            for lane in LANES:
                self.join(lane, 2)
            self.assign()
            for name in list(self.running):
                while self.running.get(name):
                    self.come_back(name)
            if all(r.phase is Phase.GONE for r in self.requests):
                break
        for request in self.requests:
            (how,) = request.payload.ends
            if how == "failed":
                assert request.payload.bad
            if how == "answered":
                assert not request.payload.bad
                assert not request.payload.kills
        assert self.rows_waiting() == 0


_UNHURRIED = settings(
    deadline=None, report_multiple_bugs=False, stateful_step_count=50, suppress_health_check=[HealthCheck.too_slow]
)

TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(_UNHURRIED, max_examples=150)


class LongQueueMachine(QueueMachine):
    """The same, longer and more often."""


TestQueueAtLength = pytest.mark.slow(LongQueueMachine.TestCase)
TestQueueAtLength.settings = settings(_UNHURRIED, max_examples=3000, stateful_step_count=80)
