"""Targets: how many workers a load asks for; the queueing model against a simulation of queues."""

import heapq
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.policy.scaling.erlang import servers_for_tail, servers_for_wait, wait_probability
from mizzen.policy.scaling.meter import NOTHING, Flow, Load, Meter
from mizzen.policy.scaling.targets import Targets, Work, need


def load(rate: float = 0.0, concurrency: float = 0.0) -> Load:
    return NOTHING._replace(rate_per_s=rate, concurrency=concurrency)


def test_each_target_asks_for_its_workers_and_the_most_counts() -> None:
    assert need(Targets(concurrency=8), load(concurrency=25)).workers == 25 / 8
    assert need(Targets(rate_per_s=100), load(rate=250)).workers == 2.5
    both = need(Targets(concurrency=8, rate_per_s=100), load(rate=250, concurrency=25))
    assert (both.workers, both.by) == (25 / 8, "concurrency")
    assert both.words == "25 requests at a time, 8 aimed at for each worker"
    assert need(Targets(concurrency=8), NOTHING).workers == 0


def test_what_waits_is_worked_off_once_and_is_not_the_load() -> None:
    """10 requests a second of 0.1 s each, of which 300 wait since nobody served for half a minute."""
    work = Work(at_worker_s=0.1, busy_s=0.1)
    crowded = load(rate=10, concurrency=301)
    assert need(Targets(concurrency=1), crowded).workers == 301, "Knative's: where it is not known what a request takes"
    assert need(Targets(concurrency=1), crowded, work, waiting=300).workers == pytest.approx((10 + 300 / 5) * 0.1)
    assert need(Targets(concurrency=1), crowded, work, waiting=300, drain_s=30).workers == pytest.approx(2.0)


def test_a_latency_that_no_number_of_workers_keeps_is_said() -> None:
    out_of_reach = need(Targets(latency_s=0.05), load(rate=10), Work(0.1, 0.1))
    assert out_of_reach.by == "latencyOutOfReach"
    assert out_of_reach.words == "a request takes 0.1 s at a worker: no number of workers keeps 0.05 s"


def test_larger_fleets_need_less_slack_for_the_same_wait() -> None:
    def slack(rate: float) -> float:
        return need(Targets(queue_delay_s=0.05), load(rate=rate), Work(0.1, 0.1)).workers / (rate * 0.1)

    assert slack(10) > slack(100) > slack(1000) > 1.0


@given(st.integers(1, 60), st.floats(0.01, 50.0))
def test_the_wait_probability_is_one_and_falls_with_servers(servers: int, offered: float) -> None:
    probability = wait_probability(servers, offered)
    assert 0.0 <= probability <= 1.0
    assert wait_probability(servers + 1, offered) <= probability + 1e-12


@given(st.floats(0.1, 80.0), st.floats(0.01, 10.0), st.floats(0.001, 5.0))
def test_the_fewest_servers_are_enough_and_one_fewer_is_not(offered: float, service_s: float, wait_s: float) -> None:
    def mean_wait_s(servers: int) -> float:
        return math.inf if servers <= offered else wait_probability(servers, offered) * service_s / (servers - offered)

    servers = servers_for_wait(offered, service_s, wait_s)
    assert mean_wait_s(servers) <= wait_s * (1 + 1e-9)
    assert mean_wait_s(servers - 1) > wait_s * (1 - 1e-9)


def test_the_tail_is_that_of_a_queue_that_is_played_through() -> None:
    """An M/M/c queue of 50,000 requests with the servers asked for: about 5 % wait longer than allowed, and with one
    server fewer more do.
    """
    offered, service_s, wait_s = 7.0, 1.0, 0.5
    servers = servers_for_tail(offered, service_s, wait_s, 0.05)

    def share_late(count: int) -> float:
        chance = random.Random(11)
        free, now, late = [0.0] * count, 0.0, 0
        for _ in range(50_000):
            now += chance.expovariate(offered / service_s)
            begins = max(now, heapq.heappop(free))
            late += begins - now > wait_s
            heapq.heappush(free, begins + chance.expovariate(1 / service_s))
        return late / 50_000

    assert share_late(servers) < 0.06
    assert share_late(servers - 1) > 0.05
    expected = wait_probability(servers, offered) * math.exp(-(servers - offered) * wait_s / service_s)
    assert share_late(servers) == pytest.approx(expected, abs=0.015)


FLOWS = st.lists(st.tuples(st.floats(0, 40), st.integers(0, 9)), max_size=40)


@given(steps=FLOWS, window_s=st.sampled_from([1.0, 6.0, 60.0]))
def test_the_meter_agrees_with_a_list_of_all_that_happened(steps, window_s: float) -> None:
    meter, everything, now = Meter(60.0), [], 0.3
    first = None
    for passed, arrivals in steps:
        now += passed
        first = int(now) if first is None else first
        meter.add(now, Flow(arrivals=arrivals))
        everything.append((int(now), arrivals))
        span = min(window_s, int(now) - first + 1)
        expected = sum(a for second, a in everything if second > int(now) - span) / span
        assert meter.over(window_s, now).rate_per_s == pytest.approx(expected)


def test_a_clock_that_goes_back_moves_nothing() -> None:
    meter = Meter(60.0)
    for second in range(100):
        meter.add(float(second), Flow(arrivals=2))
    before = meter.over(60.0, 99.0)
    meter.add(5.0, Flow(arrivals=0))
    assert meter.over(60.0, 5.0) == meter.over(60.0, 99.0) == before
