"""Under any arrivals and any failures the replica count stays in bounds and no request is forgotten.

Arrivals come in bursts at any times; workers die at any times, also all at once; starts take any time; reports do not
reach the controller for any while. Each request has exactly one end, and none waits at the end of the world.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.policy.scaling.autoscaler import Autoscaler
from mizzen.policy.scaling.kpa import Kpa, KpaSettings
from mizzen.policy.scaling.reactive import Windows
from mizzen.policy.scaling.settings import Settings
from mizzen.policy.scaling.targets import Targets
from mizzen.simulate.discrete import Discrete
from mizzen.simulate.scenario import Scenario

TIMES = st.floats(0.0, 400.0)
BURSTS = st.lists(st.tuples(TIMES, st.integers(1, 30)), max_size=12)
SERVICES = st.sampled_from([0.001, 0.3, 2.0, 45.0])
SILENCES = st.lists(st.tuples(TIMES, st.floats(1.0, 60.0)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=3)


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
    scenario = Scenario(slots=slots, load_times_s=starts, timeout_s=60.0, ready_at_start=least)
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
    calm = not crashes and not silences and max(starts) < 50.0 and service_s < 1.0
    if calm and len(arrivals) <= 20:
        assert len(world.ends.answered) == len(arrivals), "where nothing fails, everyone is answered"
