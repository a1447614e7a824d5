"""Tenants get their shares, priorities go first, and nobody starves: the bounds of `mizzen.policy.queue`'s theory, held
on generated traffic.
"""

import itertools
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mizzen.policy.queue import Batch, Queue, Reason, Request, Rules
from mizzen.policy.queue.lane import PASSED_MAX
from mizzen.policy.queue.queue import SPARE_S

from .simulated import Call, Simulation, arrivals, percentile

UNHURRIED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
LANE = "v1"
WEIGHTS = st.sampled_from([0.5, 1.0, 2.0, 7.0])


class Backlog:
    """A queue in which every tenant always has more than a batch of each shape waiting, and one worker."""

    def __init__(self, rules: Rules, seed: int, tenants: list[tuple[str, int]], groups: int = 1) -> None:
        self.queue, self.random = Queue(rules), Random(seed)
        self.rows_of = dict(tenants)
        self.queue.join("w", LANE, 1)
        for tenant in self.rows_of:
            for group in range(groups):
                for _ in range(rules.batch_rows_max + 1):
                    self.offer(tenant, group=group)

    def offer(self, tenant: str, priority: int = 0, group: int = 0) -> None:
        rows = self.random.randint(1, self.rows_of[tenant])
        deadline_s = 1e6 + self.random.random()
        request = Request(rows, deadline_s, group, tenant=tenant, priority=priority)
        assert self.queue.offer(request, LANE, 0.0) == []

    def batch(self) -> list[Request]:
        """The next one; who had a request in it has a new one waiting."""
        (batch,) = self.queue.assign(0.0)
        assert isinstance(batch, Batch)
        self.queue.answered(batch, 0.0)
        self.queue.grant("w", 1)
        for request in batch.requests:
            self.offer(request.tenant, request.priority, request.group)
        return batch.requests


@UNHURRIED
@given(
    weights=st.tuples(WEIGHTS, WEIGHTS, WEIGHTS), rows=st.tuples(*[st.integers(1, 8)] * 3), groups=st.integers(1, 3),
    batch_rows=st.sampled_from([1, 8, 32]), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_tenants_with_something_waiting_are_served_by_weight(weights, rows, groups, batch_rows, seed):
    """At every moment |served_f / w_f - served_g / w_g| <= (B + c_f) / w_f + (B + c_g) / w_g."""
    names = ["a", "b", "c"]
    of = dict(zip(names, weights, strict=True))
    rules = Rules(rows_max=10**6, batch_rows_max=batch_rows, weights=of)
    backlog = Backlog(rules, seed, list(zip(names, rows, strict=True)), groups)
    served = dict.fromkeys(names, 0)
    largest = max(batch_rows, 8)
    for _ in range(100):
        for request in backlog.batch():
            served[request.tenant] += request.rows
        for f in names:
            for g in names:
                apart = abs(served[f] / of[f] - served[g] / of[g])
                bound = (largest + backlog.rows_of[f]) / of[f] + (largest + backlog.rows_of[g]) / of[g]
                assert apart <= bound


def test_a_tenant_that_floods_does_not_slow_down_one_that_asks_now_and_then():
    """Ten times what the worker can do from one caller; another, with one request in 20 ms, waits for the batch that
    runs, and where that is about to end for the one that was sent ahead.
    """
    simulation = Simulation(Rules(batch_rows_max=32, rows_max=2000))
    flood = arrivals(40_000, 1.0, Random(3), lambda now: Call(now, timeout_s=5.0, tenant="flood"))
    calm = [Call(0.1 + 0.02 * number, timeout_s=5.0, tenant="calm") for number in range(40)]
    simulation.play([*flood, *calm])
    assert {call.outcome for call in calm} == {"ok"}
    assert max(call.took_s for call in calm) <= SPARE_S + 2 * (0.005 + 32 * 0.0001) + 1e-6
    assert {call.outcome for call in flood} == {"ok", "full", "pushed out"}


def test_a_full_queue_makes_room_for_the_tenant_with_least_and_for_nobody_else():
    queue = Queue(Rules(rows_max=10))
    first = [Request(1, 30.0, None, tenant="a") for _ in range(10)]
    for request in first:
        queue.offer(request, LANE, 0.0)
    (refused,) = queue.offer(Request(1, 30.0, None, tenant="a"), LANE, 0.0)
    assert (refused.reason, refused.request.tenant) == (Reason.FULL, "a")
    reasons = []
    for _ in range(8):
        (refused,) = queue.offer(Request(1, 30.0, None, tenant="b"), LANE, 0.0)
        reasons.append((refused.reason, refused.request.tenant))
    assert reasons[:4] == [(Reason.PUSHED_OUT, "a")] * 4
    assert reasons[5:] == [(Reason.FULL, "b")] * 3
    assert queue.statistics().rows_waiting == 10


def test_a_full_queue_makes_room_for_what_is_more_urgent():
    queue = Queue(Rules(rows_max=4, priority_levels=2, priority_default=2))
    low = [Request(1, 30.0 + number, None) for number in range(4)]
    for request in low:
        queue.offer(request, LANE, 0.0)
    (refused,) = queue.offer(Request(1, 30.0, None, priority=1), LANE, 0.0)
    assert (refused.request, refused.reason) == (low[-1], Reason.PUSHED_OUT)
    (refused,) = queue.offer(Request(1, 30.0, None, priority=2), LANE, 0.0)
    assert refused.reason is Reason.FULL


@UNHURRIED
@given(levels=st.integers(2, 6), batch_rows=st.sampled_from([1, 8]), seed=st.integers(0, 10**6))
def test_no_priority_starves_and_the_most_urgent_goes_first(levels, batch_rows, seed):
    """With all always waiting, each heads one batch of PASSED_MAX + L, and the first has all but (L - 1) of
    PASSED_MAX + 1 for itself.
    """
    rules = Rules(rows_max=10**6, batch_rows_max=batch_rows, priority_levels=levels)
    backlog = Backlog(rules, seed, [("a", 1)])
    for priority in range(1, levels + 1):
        for _ in range(batch_rows + 1):
            backlog.offer("a", priority)
    heads = [backlog.batch()[0].priority for _ in range(40 * levels)]
    for priority in range(1, levels + 1):
        places = [-1, *(place for place, head in enumerate(heads) if head == priority)]
        assert max(b - a for a, b in itertools.pairwise(places)) <= PASSED_MAX + levels
    assert heads.count(1) >= len(heads) * (1 - (levels - 1) / (PASSED_MAX + 1)) - 1


def test_urgent_requests_are_answered_first_when_there_is_too_much():
    simulation = Simulation(Rules(batch_rows_max=32, priority_levels=2, priority_default=2))
    bulk = arrivals(8000, 1.0, Random(4), lambda now: Call(now, timeout_s=0.3))
    urgent = arrivals(1000, 1.0, Random(5), lambda now: Call(now, timeout_s=0.3, priority=1))
    simulation.play([*bulk, *urgent])
    assert {call.outcome for call in urgent} == {"ok"}
    assert percentile([call.took_s for call in urgent], 99) <= 0.03
    assert {call.outcome for call in bulk} >= {"ok", "too late"}


@pytest.mark.parametrize(
    ("asked", "tenant", "expected"), [(0, "", 2), (1, "", 1), (3, "", 3), (9, "", 2), (1, "night", 3), (0, "night", 3)]
)
def test_priorities_are_those_that_the_endpoint_has_and_the_tenant_may_have(asked, tenant, expected):
    rules = Rules(priority_levels=3, priority_default=2, priority_floors={"night": 3})
    assert rules.priority(asked, tenant) == expected
