"""Real workers, of the run's own and of an endpoint: what kills them, refuses them, holds them up or takes them away."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from tests.batch.builders import PICKY, Told, clock, numbers, put_model, put_table, rows_of, task
from tests.serving.builders import doubling_model, picky_model
from tests.serving.stack import Load, Stack, eventually

from mizzen.data.lake.objects import Store
from mizzen.data.pod import Failure
from mizzen.serving.batch.own_worker import OwnWorker
from mizzen.serving.batch.running import BatchPod
from mizzen.serving.batch.task import BatchTask
from mizzen.serving.batch.through_endpoint import ThroughEndpoint

DOUBLING = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    "columns": ["a", "b"],
}


class CrashingWorker(OwnWorker):
    """Dies of rows whose first value is negative."""

    module = "tests.serving.crashing_worker"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open((tmp_path / "store").as_uri())


@pytest.fixture
def stack() -> Iterator[Stack]:
    with Stack() as made:
        yield made


def pairs(count: int, negative: frozenset[int] = frozenset()) -> pa.Table:
    a = [-1.0 if number in negative else float(number) for number in range(count)]
    return pa.table({"a": a, "b": [0.5] * count})


def through(given: BatchTask, _: object) -> ThroughEndpoint:
    return ThroughEndpoint(given)


async def test_a_row_that_kills_the_worker_is_found_and_the_others_answered(store: Store, tmp_path: Path) -> None:
    """The worker dies of one row; that alone is without an answer, with that reason."""
    put_table(store, tmp_path, pairs(60, frozenset({31})))
    told = Told()
    of = task(
        store,
        put_model(store, doubling_model()),
        DOUBLING,
        groupRows=30,
        batchRows=4,
        output={"dataset": "out", "keep": []},
    )
    await BatchPod(of, 0, told, [CrashingWorker], clock).run()
    rows = rows_of(store)
    assert [number for number, row in enumerate(rows) if row["error"] is not None] == [31]
    assert rows[31]["error"] == "the worker went while it had these rows"
    assert [row["y"] for row in rows if row["error"] is None] == [[2.0 * n, 1.0] for n in range(60) if n != 31]
    assert told.results[0].failed_rows == 1


async def test_a_worker_that_is_killed_is_started_again_and_no_row_blamed(store: Store, tmp_path: Path) -> None:
    """SIGKILL while it computes, three times: all rows are answered."""
    put_table(store, tmp_path, pairs(60_000))
    of = task(store, put_model(store, doubling_model()), DOUBLING, groupRows=2000, batchRows=100)
    made: list[OwnWorker] = []

    def remembered(given: BatchTask, tell) -> OwnWorker:
        made.append(OwnWorker(given, tell))
        return made[-1]

    told = Told()
    running = asyncio.create_task(BatchPod(of, 0, told, [remembered], clock).run())
    chance = random.Random(3)
    for kills in range(3):
        while not running.done() and not (told.shards and told.shards[-1].rows_done > 10_000 * kills):
            await asyncio.to_thread(eventually, lambda: True, "a turn")
        for child in psutil.Process().children():
            if "mizzen.serving.worker" in child.cmdline() and chance.random() <= 1:
                os.kill(child.pid, signal.SIGKILL)
    await running
    rows = rows_of(store)
    assert len(rows) == 60_000
    assert {row["error"] for row in rows} == {None}
    assert made[0].starts == 4


async def test_a_model_that_cannot_be_loaded_ends_the_run_with_the_reason(store: Store, tmp_path: Path) -> None:
    put_table(store, tmp_path, pairs(10))
    told = Told()
    with pytest.raises(Failure) as failed:
        await BatchPod(task(store, put_model(store, b"no model"), DOUBLING), 0, told, [OwnWorker], clock).run()
    assert failed.value.reason == "ModelUnfit"
    assert "model m-1 cannot be loaded" in told.results[0].message


async def test_an_input_that_is_not_there_ends_the_run_before_any_row(store: Store, tmp_path: Path) -> None:
    """A column, a version, a condition, a table of other columns: told to the status, with what was expected and found."""
    put_table(store, tmp_path, pairs(10))
    digest = put_model(store, doubling_model())
    await BatchPod(task(store, digest, DOUBLING, run="first"), 0, Told(), [OwnWorker], clock).run()
    for changes, reason, said in (
        ({"input": {"name": "in", "version": 7}}, "DatasetMissing", "has no version 7"),
        ({"columns": {"a": "aa"}}, "MissingColumns", "expected a column aa in dataset in at version 1, found a, b"),
        ({"where": "aa > 1"}, "BadSelection", "expected a condition over the dataset's columns, got 'aa > 1'"),
        ({"where": "a > (SELECT"}, "BadSelection", "got 'a > (SELECT'"),
        ({"output": {"dataset": "out", "mode": "append", "keep": ["a"]}}, "OutputUnfit", "would append a double, y list"),
    ):  # fmt: skip
        told = Told()
        with pytest.raises(Failure) as failed:
            await BatchPod(task(store, digest, DOUBLING, **changes), 0, told, [OwnWorker], clock).run()
        assert failed.value.reason == reason
        assert said in told.results[0].message, told.results[0].message
        assert told.shards == []


async def test_only_rows_of_the_condition_are_predicted(store: Store, tmp_path: Path) -> None:
    put_table(store, tmp_path, pairs(1000), files=2)
    of = task(store, put_model(store, doubling_model()), DOUBLING, where="a % 7 = 3 AND b < 1")
    await BatchPod(of, 0, Told(), [OwnWorker], clock).run()
    assert [row["a"] for row in rows_of(store)] == [float(number) for number in range(1000) if number % 7 == 3]


async def test_rows_go_through_an_endpoint_behind_its_clients(stack: Stack, tmp_path: Path) -> None:
    """A real gateway and worker with clients of their own: every row of the batch and every client is answered right."""
    store = Store.open(f"file://{stack.root}/store")
    digest = stack.put(doubling_model())
    stack.serve(digest, batch_rows_max=64)
    stack.worker(digest)
    stack.start_gateway()
    put_table(store, tmp_path, pairs(5000))
    of = _of_endpoint(stack, store, digest)
    with Load(stack, clients=2) as load:
        await BatchPod(of, 0, Told(), [through], clock).run()
        await asyncio.to_thread(load.after, 10)
    assert load.wrong == []
    assert [row["y"] for row in rows_of(store)] == [[2.0 * number, 1.0] for number in range(5000)]


async def test_a_queue_that_is_full_is_come_back_to(stack: Stack, tmp_path: Path) -> None:
    """With room for one slice in the queue most are refused with 429: all are answered in the end."""
    store = Store.open(f"file://{stack.root}/store")
    digest = stack.put(doubling_model())
    stack.serve(digest, batch_rows_max=32, queue_rows_max=40)
    stack.worker(digest)
    stack.start_gateway()
    put_table(store, tmp_path, pairs(300))
    of = _of_endpoint(stack, store, digest, workers=8)
    await BatchPod(of, 0, Told(), [through], clock).run()
    assert len(rows_of(store)) == 300
    assert {row["error"] for row in rows_of(store)} == {None}


async def test_a_version_that_goes_is_gone_on_with_in_a_worker_of_its_own(stack: Stack, tmp_path: Path) -> None:
    """The endpoint serves version 2; the run is of version 1: all its answers are of that."""
    store = Store.open(f"file://{stack.root}/store")
    first, second = stack.put(doubling_model()), stack.put(doubling_model(factor=3.0))
    stack.serve(second, version=2)
    stack.worker(second, version=2)
    stack.start_gateway()
    put_table(store, tmp_path, pairs(300))
    await BatchPod(_of_endpoint(stack, store, first), 0, Told(), [through, OwnWorker], clock).run()
    assert [row["y"] for row in rows_of(store)] == [[2.0 * number, 1.0] for number in range(300)]


async def test_rows_that_an_endpoint_refuses_are_told_apart(stack: Stack, tmp_path: Path) -> None:
    store = Store.open(f"file://{stack.root}/store")
    digest = stack.put(picky_model())
    stack.serve(digest)
    stack.worker(digest)
    stack.start_gateway()
    values = [number % 4 for number in range(200)]
    values[77] = 99
    put_table(store, tmp_path, numbers(values))
    await BatchPod(_of_endpoint(stack, store, digest, signature=PICKY), 0, Told(), [through], clock).run()
    rows = rows_of(store)
    assert [row["id"] for row in rows if row["error"]] == [77]
    assert [row["y"] for row in rows if not row["error"]] == [10.0 + value for value in values if value != 99]


def _of_endpoint(stack: Stack, store: Store, digest: str, workers: int = 1, signature: dict | None = None) -> BatchTask:
    url = f"http://127.0.0.1:{stack.port}/v2/models/m"
    address = {"name": "m", "url": url, "batchRowsMax": 32, "workers": workers}
    return task(store, digest, signature or DOUBLING, way="endpoint", endpoint=address)
