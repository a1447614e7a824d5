"""Under any arrivals and any failures the replica count stays in bounds and no request is forgotten.

Arrivals come in bursts at any times; workers die at any times, also all at once; starts take any time; reports do not
reach the controller for any while. Each request has exactly one end, and none waits at the end of the world. An end may
be that its time was over, so that alone would let a policy pass that starts nobody: whoever comes after the last failure,
where there are few and starts are shorter than their patience, is answered.
"""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.policy.scaling.autoscaler import Autoscaler
from mizzen.policy.scaling.kpa import Fixed, Kpa, KpaSettings
from mizzen.policy.scaling.reactive import Windows
from mizzen.policy.scaling.settings import Settings
from mizzen.policy.scaling.targets import Targets
from mizzen.simulate.discrete import Discrete
from mizzen.simulate.scenario import Scenario

TIMES = st.floats(0.0, 400.0)
BURSTS = st.lists(st.tuples(TIMES, st.integers(1, 30)), max_size=12)
SERVICES = st.sampled_from([0.001, 0.3, 2.0, 45.0])
SILENCES = st.lists(st.tuples(TIMES, st.floats(1.0, 60.0)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=3)


TIMEOUT_S = 60.0
FEW = 20


def forgotten(
    world: Discrete, arrivals: Sequence[float], service_s: float, starts: Sequence[float], last_failure_s: float
) -> list[int]:
    """Requests that a fleet of one worker could have answered, after the last failure, and were not."""
    if len(arrivals) > FEW or max(starts) >= TIMEOUT_S - 10.0 or service_s >= 1.0:
        return []
    return [n for n, at in enumerate(arrivals) if at >= last_failure_s and n not in world.ends.answered]


@st.composite
def bounds(draw) -> tuple[int, int]:
    least = draw(st.integers(0, 4))
    return least, draw(st.integers(max(1, least), 12))


@settings(max_examples=120)
@given(
    bursts=BURSTS, service_s=SERVICES, crashes=st.lists(TIMES, max_size=20), silences=SILENCES, within=bounds(),
    starts=st.lists(st.sampled_from([0.1, 3.0, 20.0, 90.0]), min_size=1, max_size=3), slots=st.integers(1, 4),
    kind=st.sampled_from(["forecast", "reactive", "kpa"]), zero_s=st.sampled_from([None, 1.0, 40.0]),
    target=st.sampled_from([
        Targets(concurrency=0.7), Targets(rate_per_s=2.0), Targets(queue_delay_s=0.5), Targets(latency_s=1.0),
    ]),
    rate=st.sampled_from([1.5, 1000.0]), delay_s=st.sampled_from([0.0, 30.0]),
)  # fmt: skip
def test_every_request_has_one_end_and_every_decision_is_within_bounds(
    bursts, service_s, crashes, silences, within, starts, slots, kind, zero_s, target, rate, delay_s
) -> None:
    least, most = within
    arrivals = sorted(at for at, count in bursts for _ in range(count))
    scenario = Scenario(slots=slots, load_times_s=starts, timeout_s=TIMEOUT_S, ready_at_start=least)
    policy = (
        Kpa(KpaSettings(float(slots), least, most))
        if kind == "kpa"
        else Autoscaler(
            Settings(
                least,
                most,
                target,
                Windows(scale_up_rate=rate),
                kind,
                scale_down_delay_s=delay_s,
                scale_to_zero_after_s=zero_s,
            )
        )
    )
    world = Discrete(
        arrivals, [service_s] * len(arrivals), policy, kind, scenario, crashes=crashes, silences=silences
    )  # fmt: skip
    outcome = world.run(2000.0)
    assert all(least <= desired <= most for desired in world.decided)
    assert outcome.replicas_max <= most
    ends = [*world.ends.answered, *world.ends.expired, *world.ends.failed]
    assert sorted(ends) == list(range(len(arrivals)))
    assert outcome.requests == len(arrivals)
    last_failure_s = max([*crashes, *(end for _, end in silences)], default=0.0)
    assert forgotten(world, arrivals, service_s, starts, last_failure_s) == []


def test_a_policy_that_forgets_is_found() -> None:
    """The property can fail: a policy that never starts anyone leaves all requests to their timeouts."""
    arrivals, starts = [10.0, 200.0], [3.0]
    world = Discrete(
        arrivals, [0.3, 0.3], Fixed(0), "none", Scenario(load_times_s=starts, timeout_s=TIMEOUT_S, ready_at_start=0)
    )
    world.run(2000.0)
    assert forgotten(world, arrivals, 0.3, starts, 100.0) == [1]
