"""What becomes of an endpoint at which more comes than it can do: simulated on virtual time, in an open loop.

Goodput is what is answered within its deadline. The peak is that of the workers with full batches.
"""

from random import Random

import pytest

from mizzen.policy.queue import Rules

from .simulated import Call, Simulation, arrivals, percentile

WARM_UP_S = 0.3

MODELS = {
    "a few milliseconds": {"fixed_s": 0.005, "row_s": 0.0001, "batch_rows_max": 64, "timeout_s": 0.1, "seconds": 2.5},
    "hardly two batches in time": {
        "fixed_s": 0.005, "row_s": 0.0001, "batch_rows_max": 64, "timeout_s": 0.03, "seconds": 2.5,
    },
    "small and fast": {"fixed_s": 0.0006, "row_s": 0.00004, "batch_rows_max": 64, "timeout_s": 0.02, "seconds": 0.8},
    "slow, three workers": {
        "fixed_s": 0.02, "row_s": 0.002, "batch_rows_max": 32, "timeout_s": 0.3, "seconds": 5.0, "workers": 3,
    },
}  # fmt: skip


def overloaded(
    load: float, *, fixed_s: float, row_s: float, batch_rows_max: int, timeout_s: float, seconds: float,
    workers: int = 1, sigma: float = 0.1,
) -> tuple[float, Simulation, list[Call]]:  # fmt: skip
    """Goodput as a part of the peak, at that multiple of it, and the requests after the warm-up."""
    peak_per_s = workers * batch_rows_max / (fixed_s + row_s * batch_rows_max)
    simulation = Simulation(
        Rules(batch_rows_max=batch_rows_max), workers=workers, fixed_s=fixed_s, row_s=row_s,
        noise=lambda random: random.lognormvariate(-(sigma**2) / 2, sigma),
    )  # fmt: skip
    calls = arrivals(load * peak_per_s, seconds, Random(1), lambda now: Call(now, timeout_s=timeout_s))
    simulation.play(calls)
    counted = [call for call in calls if call.came_s > WARM_UP_S]
    good = sum(call.outcome == "ok" and call.took_s <= timeout_s for call in counted)
    return good / (seconds - WARM_UP_S) / peak_per_s, simulation, counted


@pytest.mark.parametrize("model", MODELS)
def test_below_saturation_everything_is_answered(model):
    goodput, _, calls = overloaded(0.7, **MODELS[model])
    assert {call.outcome for call in calls} == {"ok"}
    assert goodput == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("load", [2.0, pytest.param(4.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", MODELS)
def test_at_a_multiple_of_saturation_goodput_is_nine_tenths_of_the_peak(model, load):
    """Who is taken is answered in time, 99 in 100 at least; who is not taken is told so when he comes."""
    goodput, simulation, calls = overloaded(load, **MODELS[model])
    assert goodput >= 0.9
    refused = [call for call in calls if call.outcome == "too late"]
    assert refused
    assert all(call.took_s == 0.0 for call in refused)
    accepted = [call.took_s for call in calls if call.outcome != "too late"]
    assert percentile(accepted, 99) < MODELS[model]["timeout_s"]
    assert simulation.rows_wasted <= 0.01 * simulation.rows_run


def test_with_durations_all_over_the_place_most_of_the_peak_is_left():
    """Batches that take half or twice as long as usual (a lognormal of sigma 0.5)."""
    goodput, _, _ = overloaded(2.0, **MODELS["a few milliseconds"], sigma=0.5)
    assert goodput >= 0.75


def test_a_model_that_becomes_slower_is_learned():
    """Three times as slow from one moment on: after half a second goodput is nine tenths of the new peak."""
    simulation = Simulation(Rules(batch_rows_max=64))

    def slower() -> None:
        simulation.fixed_s, simulation.row_s = 0.015, 0.0003

    simulation.at(1.0, slower)
    calls = arrivals(4000, 4.0, Random(2), lambda now: Call(now, timeout_s=0.2))
    simulation.play(calls)
    counted = [call for call in calls if call.came_s > 1.5]
    good = sum(call.outcome == "ok" for call in counted)
    assert good / 2.5 >= 0.9 * 64 / (0.015 + 0.0003 * 64)


def test_after_a_long_stall_requests_are_tried_again():
    """What was learned in a stall would refuse everything for ever, if it were trusted for ever."""
    simulation = Simulation(Rules(batch_rows_max=64), noise=lambda _: 200.0 if simulation.now < 5.0 else 1.0)
    calls = [Call(0.1 * number, timeout_s=0.05) for number in range(200)]
    simulation.play(calls)
    assert {call.outcome for call in calls if call.came_s < 5.0} <= {"late", "dropped", "too late"}
    assert {call.outcome for call in calls if call.came_s > 9.0} == {"ok"}


def test_urgent_requests_pass_a_large_backlog_without_deadlines_to_fear():
    """Of one tenant: 40 ms behind 30 s of others' work; earliest deadline first, and no refusal on suspicion."""
    simulation = Simulation(Rules(batch_rows_max=64))
    warm = [Call(0.02 * number, timeout_s=30.0) for number in range(20)]
    bulk = [Call(1.0, rows=8, timeout_s=30.0) for _ in range(800)]
    urgent = [Call(1.05 + 0.05 * number, timeout_s=0.04) for number in range(10)]
    simulation.play([*warm, *bulk, *urgent])
    assert {call.outcome for call in (*bulk, *urgent)} == {"ok"}
    assert max(call.took_s for call in urgent) <= 0.04


def test_batches_are_kept_small_enough_for_the_latency_target():
    """A row takes 1 ms and a call 2 ms. Under a target of 40 ms a batch is of 18 rows, half of it; without one, of 64."""
    sizes = {}
    for target_s in (0.04, None):
        simulation = Simulation(
            Rules(batch_rows_max=64, latency_target_s=target_s), fixed_s=0.002, row_s=0.001,
        )  # fmt: skip
        simulation.play([Call(0.0005 * number, timeout_s=30.0) for number in range(2000)])
        assert set(simulation.outcomes()) == {"ok"}
        sizes[target_s] = max(len(requests) for time_s, requests in simulation.batches_run if time_s > 0.5)
    assert sizes[0.04] in {17, 18}
    assert sizes[None] == 64


def test_a_latency_target_that_cannot_be_met_does_not_make_batches_of_one():
    """A call takes 20 ms whatever its size: then at least half of a batch's time goes to rows."""
    simulation = Simulation(Rules(batch_rows_max=64, latency_target_s=0.01), fixed_s=0.02, row_s=0.001)
    simulation.play([Call(0.0005 * number, timeout_s=60.0) for number in range(2000)])
    sizes = [len(requests) for time_s, requests in simulation.batches_run if time_s > 0.5]
    assert percentile([float(size) for size in sizes], 50) == pytest.approx(20, abs=2)


def test_an_idle_worker_waits_for_a_batch_to_fill_where_that_is_asked_for():
    """With a delay of 10 ms and a request each millisecond batches are of ten and no request waits longer."""
    simulation = Simulation(Rules(batch_rows_max=64, batch_delay_s=0.01), fixed_s=0.0005, row_s=0.0)
    calls = simulation.play([Call(0.001 * number, timeout_s=1.0) for number in range(500)])
    sizes = [len(requests) for _, requests in simulation.batches_run]
    assert percentile([float(size) for size in sizes], 50) >= 10
    assert max(call.started_s[0] - call.came_s for call in calls) <= 0.0111


def test_a_full_batch_does_not_wait():
    simulation = Simulation(Rules(batch_rows_max=4, batch_delay_s=0.01))
    simulation.play([Call(0.0, timeout_s=1.0) for _ in range(4)])
    assert [time_s for time_s, _ in simulation.batches_run] == [0.0]
