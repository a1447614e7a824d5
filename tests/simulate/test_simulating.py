"""The simulator: its two engines agree, its books balance, and known answers come out."""

import random

import pytest

from mizzen.policy.scaling.kpa import Fixed
from mizzen.simulate import fluid
from mizzen.simulate.comparing import compare, run
from mizzen.simulate.discrete import Discrete
from mizzen.simulate.outcome import Outcome
from mizzen.simulate.scenario import POLICIES, Scenario
from mizzen.simulate.traces import Counts, Requests


def test_an_overload_is_late_by_as_much_as_arithmetic_says() -> None:
    """One worker does 10 a second; 20 a second come for 10 s, then none. The backlog of 100 is gone after 20 s: waits
    rise evenly from 0 to 10 s, and those above 4 s are six in ten.
    """
    scenario = Scenario(service_s=0.1, wait_s_max=4.0, timeout_s=60.0, ready_at_start=1)
    counts = [20] * 10 + [0] * 20
    fluidly = fluid.simulate(counts, Fixed(1), "fixed", scenario)
    arrivals = [number / 20 for number in range(200)]
    discretely = Discrete(arrivals, [0.1] * 200, Fixed(1), "fixed", scenario).run(30.0)
    for outcome in (fluidly, discretely):
        assert outcome.requests == 200
        assert outcome.late_share == pytest.approx(0.6, abs=0.02)
        assert outcome.replica_s == pytest.approx(30.0)
        assert outcome.busy_s == pytest.approx(20.0)
        assert outcome.unanswered == 0


def test_what_waits_too_long_goes_unanswered() -> None:
    scenario = Scenario(service_s=1.0, wait_s_max=1.0, timeout_s=5.0, ready_at_start=0)
    fluidly = fluid.simulate([3] * 5 + [0] * 20, Fixed(0), "fixed", scenario)
    discretely = Discrete([0.5 * n for n in range(15)], [1.0] * 15, Fixed(0), "fixed", scenario).run(30.0)
    assert (fluidly.unanswered, fluidly.late, fluidly.cold) == (15, 15, 15)
    assert (discretely.unanswered, discretely.late, discretely.cold) == (15, 15, 15)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_engines_agree_on_the_same_arrivals(policy: str) -> None:
    """40 minutes of a load that rises and falls with bursts, on workers of many slots: what they cost is the same
    within a few per cent, and neither is late where the other is not.
    """
    chance = random.Random(4)
    counts = [int(chance.gauss(60 + 50 * ((second // 300) % 3), 8)) for second in range(2400)]
    arrivals = sorted(second + chance.random() for second, count in enumerate(counts) for _ in range(count))
    scenario = Scenario(slots=20, service_s=0.5, time_to_ready_s=10.0, wait_s_max=1.0)
    by_second = run(Counts(counts), scenario, policy)
    each = run(Requests({"e": (arrivals, [0.5] * len(arrivals))}, 0.0, 2400.0), scenario, policy)
    assert each.requests == by_second.requests
    assert each.replica_s == pytest.approx(by_second.replica_s, rel=0.12)
    assert each.busy_s == pytest.approx(by_second.busy_s, rel=0.01)
    assert each.late_share == pytest.approx(by_second.late_share, abs=0.04)


def test_the_same_world_gives_the_same_outcome_twice() -> None:
    counts = [int(random.Random(second).uniform(0, 90)) for second in range(900)]
    scenario = Scenario(load_times_s=[3.0, 9.0, 27.0])
    first, again = compare(Counts(counts), scenario, POLICIES), compare(Counts(counts), scenario, POLICIES)
    assert first == again


def test_a_fleet_that_scales_costs_less_than_one_for_the_peak_and_is_later() -> None:
    chance = random.Random(1)
    counts = [int(chance.gauss(100 if second % 1200 > 900 else 20, 4)) for second in range(7200)]
    by_name = {one.policy: one for one in compare(Counts(counts), Scenario(time_to_ready_s=20.0), POLICIES)}
    assert by_name["forecast"].replica_s < by_name["fixed"].replica_s
    assert by_name["fixed"].late_share <= by_name["forecast"].late_share <= by_name["reactive"].late_share


def test_outcomes_add_up() -> None:
    total, one = Outcome("x"), Outcome("x", requests=10, late=2, replica_s=5, replicas_max=3, waits_s={0.0: 8, 1.0: 2})
    total.add(one)
    total.add(one)
    assert (total.requests, total.late_share, total.replica_s, total.replicas_max) == (20, 0.2, 10, 3)
    assert (total.wait_s(0.5), total.wait_s(0.99)) == (0.0, 1.0)
