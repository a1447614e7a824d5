"""Rows told apart: just those at fault fail, whatever the predictor does, and time is spent as it says. Virtual time."""

import asyncio
import itertools
import random
from collections.abc import Sequence

import pytest
from tests.serving.builders import tensor

from mizzen.data.pod import Failure
from mizzen.serving.batch.isolating import HOPELESS, LOSSES_MAX, Isolating
from mizzen.serving.batch.predictor import Again, Gone, Lost, PredictorError, Refused
from mizzen.serving.tensors import DATATYPES, Tensor, unpack_elements

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Scripted:
    """Doubles what it is given, but for numbers that it refuses or dies of, and moods that it has."""

    def __init__(
        self, *, refuses: frozenset[int] = frozenset(), dies_of: frozenset[int] = frozenset(), width: int = 4
    ) -> None:
        self.width, self.rows_max = width, 1000
        self.refuses, self.dies_of = refuses, dies_of
        self.moods: list[PredictorError] = []
        self.asked: list[tuple[float, list[int]]] = []
        self.at_work = self.most_at_work = 0
        self.beside_suspects = 0

    async def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        values = [int(value) for value in unpack_elements(DATATYPES["FP32"], inputs[0].shape[0], inputs[0].data)]
        self.asked.append((asyncio.get_running_loop().time(), values))
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await asyncio.sleep(0.01)
            if self.moods:
                raise self.moods.pop()
            if self.dies_of.intersection(values):
                self.beside_suspects += self.at_work > 1 and sum(v == values for _, v in self.asked) > 1
                raise Lost("the worker went while it had these rows")
            if wrong := self.refuses.intersection(values):
                raise Refused(f"refused {min(wrong)}")
            return [tensor([2.0 * value for value in values], name="y")]
        finally:
            self.at_work -= 1


async def answered(isolating: Isolating, count: int) -> tuple[list[float], dict[int, str]]:
    answers, refused = await isolating.answer([tensor([float(number) for number in range(count)])], count)
    flat = [
        value
        for outputs in answers
        for value in unpack_elements(DATATYPES["FP32"], outputs[0].shape[0], outputs[0].data)
    ]
    return flat, refused


@pytest.mark.parametrize("seed", range(25))
async def test_just_the_rows_at_fault_fail(seed: int) -> None:
    """Any rows that are refused or kill the worker are found, and all others are answered in their order."""
    chance = random.Random(seed)
    count = chance.randrange(1, 300)
    bad = frozenset(chance.sample(range(count), min(count - 1, chance.randrange(0, 12))))
    deadly = frozenset(number for number in bad if chance.random() < 0.4)
    predictor = Scripted(refuses=bad - deadly, dies_of=deadly, width=chance.randrange(1, 6))
    predictor.moods = [Again("busy", chance.choice([None, 1.0])) for _ in range(chance.randrange(5))]
    isolating = Isolating(predictor, chance.randrange(1, 100), chance=chance)
    values, refused = await answered(isolating, count)
    assert values == [2.0 * number for number in range(count) if number not in bad]
    assert set(refused) == bad
    assert all(refused[number] == f"refused {number}" for number in bad - deadly)
    assert (isolating.succeeded, isolating.failed) == (count - len(bad), len(bad))
    assert predictor.most_at_work <= predictor.width


async def test_a_lost_worker_blames_no_neighbour() -> None:
    """Slices with which a worker was lost are asked for with nothing else at work, and a row is blamed after three."""
    predictor = Scripted(dies_of=frozenset({13}))
    _, refused = await answered(Isolating(predictor, 8), 64)
    assert set(refused) == {13}
    assert predictor.beside_suspects == 0
    alone = [values for _, values in predictor.asked if values == [13]]
    assert len(alone) == LOSSES_MAX - 1, "it inherits one loss of the slice it was in"


async def test_a_worker_that_was_killed_costs_nothing_but_time() -> None:
    """A loss that does not come again is no row's fault."""
    predictor = Scripted()
    predictor.moods = [Lost("killed"), Lost("killed")]
    values, refused = await answered(Isolating(predictor, 8), 32)
    assert values == [2.0 * number for number in range(32)]
    assert refused == {}


async def test_the_retry_after_of_a_refusal_is_kept(looptime) -> None:
    """A slice that comes too soon waits for as long as it is told, and not much longer."""
    predictor = Scripted(width=1)
    predictor.moods = [Again("busy", 7.0)]
    told: list[str] = []
    await answered(Isolating(predictor, 8, tell=told.append), 8)
    first, second = (at for at, _ in predictor.asked)
    assert 7.0 <= second - first - 0.01 <= 7.1
    assert told[0].startswith("busy; it is asked again in 7")
    assert told[-1] == ""


async def test_waits_grow_while_nobody_says_how_long(looptime) -> None:
    """Without a Retry-After a slice comes back after ever longer pauses, ten seconds apart at most."""
    predictor = Scripted(width=1)
    predictor.moods = [Again("away") for _ in range(12)]
    await answered(Isolating(predictor, 8), 8)
    times = [at for at, _ in predictor.asked]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert gaps[0] < 0.2
    assert 5.0 <= gaps[-1] <= 10.1


async def test_where_every_row_fails_it_is_not_the_rows() -> None:
    """A model that takes no row at all ends the run after some dozens of them, and does not go on for all."""
    predictor = Scripted(refuses=frozenset(range(5000)))
    with pytest.raises(Failure) as failed:
        await answered(Isolating(predictor, 500), 5000)
    assert failed.value.reason == "EveryRowFails"
    assert "refused" in failed.value.message
    assert sum(len(values) == 1 for _, values in predictor.asked) <= HOPELESS + predictor.width


async def test_too_many_errors_end_the_run_with_one_of_them() -> None:
    """One row more than `errorLimit` allows."""
    predictor = Scripted(refuses=frozenset({3, 40, 77}))
    with pytest.raises(Failure) as failed:
        await answered(Isolating(predictor, 10, failed_max=2), 100)
    assert failed.value.reason == "TooManyErrors"
    assert "at most 2 rows" in failed.value.message
    _, refused = await answered(Isolating(Scripted(refuses=frozenset({3, 40})), 10, failed_max=2), 100)
    assert set(refused) == {3, 40}


async def test_a_version_that_is_gone_ends_the_asking() -> None:
    """Who asks goes on with another predictor."""
    predictor = Scripted()
    predictor.moods = [Gone("another version is served")]
    with pytest.raises(Gone):
        await answered(Isolating(predictor, 10), 100)


async def test_an_answer_of_other_rows_is_no_answer() -> None:
    """A model that gives more or fewer rows than it was asked for fails the run, and shifts no row."""

    class Short(Scripted):
        async def predict(self, inputs: Sequence[Tensor]) -> list[Tensor]:
            (output,) = await super().predict(inputs)
            return [tensor([0.0] * (output.shape[0] - 1), name="y")]

    with pytest.raises(Failure) as failed:
        await answered(Isolating(Short(), 10), 100)
    assert failed.value.reason == "BadOutput"
