"""Generated schedules on virtual time, with all that is learned switched on: clients of several tenants and priorities,
with short and long deadlines, that leave; rows that the model refuses, rows that kill their worker; slow batches.

Whatever happens: each request has one end, and not before it came nor after its deadline; who is answered was computed
once whole since the last time that a worker was lost with it; who did nothing wrong does not fail; who left, expired or
was refused before a worker had it costs no compute.
"""

from collections import Counter
from random import Random

import pytest

from mizzen.policy.queue import BACKGROUND, Rules

from .simulated import Call, Simulation, arrivals

ENDS = {"ok", "late", "dropped", "left", "failed", "lost", "full", "pushed out", "too late"}


def schedule(seed: int) -> Simulation:
    """One schedule, all of it from the seed."""
    random = Random(seed)
    rules = Rules(
        rows_max=random.choice([20, 200, 5000]),
        batch_rows_max=random.choice([1, 4, 16, 64]),
        batch_bytes_max=random.choice([16, 10**6]),
        batch_delay_s=random.choice([0.0, 0.0, 0.002]),
        latency_target_s=random.choice([None, None, 0.03]),
        priority_levels=random.choice([1, 3]),
        weights={"a": random.choice([1.0, 3.0])},
    )
    sigma = random.choice([0.0, 0.1, 0.7])
    simulation = Simulation(
        rules, workers=random.randint(1, 3), fixed_s=random.choice([0.0003, 0.005]),
        row_s=random.choice([0.00001, 0.0005]), credits_each=random.randint(1, 2),
        noise=lambda one: one.lognormvariate(0, sigma), seed=seed,
    )  # fmt: skip
    hurried = random.random() < 0.5
    evil = random.choice([0.0, 0.02])

    def call(now: float) -> Call:
        return Call(
            now, rows=random.choice([1, 1, 1, 2, 5, 90]), timeout_s=random.choice([0.01, 0.05] if hurried else [0.5, 5]),
            tenant=random.choice("aab"), priority=random.choice([0, 1, 2, 3, BACKGROUND]), group=random.choice([None, None, "g"]),
            leaves_after_s=random.choice([0.0, 0.004, 0.02]) if random.random() < 0.1 else None,
            bad=random.random() < evil, kills=random.random() < evil / 2,
        )  # fmt: skip

    simulation.play(arrivals(random.choice([100, 1000, 5000]), 0.1, random, call))
    return simulation


def check(simulation: Simulation) -> None:
    statistics = simulation.statistics()
    assert (statistics.rows_waiting, statistics.requests_waiting, statistics.batches_running) == (0, 0, 0)
    for call in simulation.calls:
        assert call.outcome in ENDS, f"{call} never ended"
        assert call.came_s <= call.ended_s <= call.came_s + call.timeout_s + 0.0011
        if call.outcome == "ok":
            assert not call.bad
            assert not call.kills
            assert call.ended_s <= call.came_s + call.timeout_s
        elif call.outcome == "failed":
            assert call.bad
        elif call.outcome == "lost":
            assert call.kills, "only who kills workers is lost with them"
        elif call.outcome in {"full", "too late"}:
            assert call.ended_s == call.came_s, "who is refused is told at once"
            assert not call.started_s
    innocent = not any(call.bad or call.kills for call in simulation.calls)
    if innocent:
        rows: Counter[Call] = Counter()
        for _, requests in simulation.batches_run:
            for request in requests:
                rows[request.payload] += request.rows
        for call in simulation.calls:
            if call.outcome == "ok":
                assert rows[call] == call.rows, "each row once"
            assert rows[call] <= call.rows


def test_schedules():
    outcomes: Counter[str] = Counter()
    for seed in range(120):
        simulation = schedule(seed)
        check(simulation)
        outcomes += simulation.outcomes()
    assert set(outcomes) == ENDS, "the schedules show all there is"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_schedules(part):
    for seed in range(1000 + 988 * part, 1000 + 988 * (part + 1)):
        check(schedule(seed))
