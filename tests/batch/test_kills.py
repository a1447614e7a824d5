"""Pods killed with SIGKILL at any effect they have on the world, and started again: each row has its answer once."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from tests.batch.builders import put_table, rows_of, task
from tests.batch.doubling import DIGEST, DOUBLING

from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import QUARANTINE, Table
from mizzen.serving.batch.task import BatchTask

Run = Callable[[BatchTask, Sequence[int]], list[int]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open((tmp_path / "store").as_uri())


@contextlib.contextmanager
def pods(folder: Path) -> Iterator[Run]:
    """Runs Pods, each to die at an effect; their exit statuses."""
    script = Path(__file__).with_name("dying_pods.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])}
    with (folder / "stderr").open("w") as errors, subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def run(of: BatchTask, die_at: Sequence[int]) -> list[int]:
            order = {"task": of.model_dump(mode="json", by_alias=True), "dieAt": [*die_at]}
            process.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return json.loads(process.stdout.readline())  # type: ignore[union-attr]

        yield run
        process.stdin.close()


def expect_exactly_once(store: Store, of: BatchTask, values: list[int], runs: int) -> None:
    """One version for each run, with each row once, in order; those refused aside; and nothing else in the store."""
    bad = [value for value in values if value % 97 == 0]
    times = runs if of.output.mode == "append" else 1
    rows = rows_of(store)
    assert [(row["x"], row["y"]) for row in rows] == [
        (value, 2 * value) for value in values if value not in bad
    ] * times
    aside = rows_of(store, folder=QUARANTINE)
    found = sorted((row["x"], row["_failed"]) for row in aside)
    assert found == sorted([(value, f"refused {value}") for value in bad] * times)
    table = Table(store, "ns", "out")
    assert [commit.run for commit in table.history()] == [f"run-{number}" for number in range(runs, 0, -1)]
    table.verify()
    assert store.list("runs") == []


@pytest.mark.parametrize("kills", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_any_kill_of_any_pod_loses_and_doubles_nothing(store: Store, tmp_path: Path, kills: int) -> None:
    """Three Pods at once, each killed at an effect chosen by chance, started again until all get through; over and over."""
    chance = random.Random(kills)
    values = list(range(1, 401))
    put_table(store, tmp_path, pa.table({"x": pa.array(values, pa.int64())}), files=2)
    killed = runs = 0
    with pods(tmp_path) as run:
        while killed < kills:
            runs += 1
            of = task(store, DIGEST, DOUBLING, run=f"run-{runs}", parallelism=3, groupRows=30,
                      output={"dataset": "out", "mode": "append", "errors": "quarantine"})  # fmt: skip
            left = 3
            while left:
                statuses = run(of, [chance.randrange(1, 45) if chance.random() < 0.8 else 0 for _ in range(3)])
                assert set(statuses) <= {0, -signal.SIGKILL}, (tmp_path / "stderr").read_text()
                left = sum(status != 0 for status in statuses)
                killed += left
                if Table(store, "ns", "out").exists():
                    assert len(Table(store, "ns", "out").history()) in {runs - 1, runs}
    expect_exactly_once(store, of, values, runs)


def test_a_kill_at_each_effect_in_turn(store: Store, tmp_path: Path) -> None:
    """One Pod, killed at its first effect, then at its second, and so on until there is none left to be killed at."""
    values = list(range(90, 200))
    put_table(store, tmp_path, pa.table({"x": pa.array(values, pa.int64())}))
    of = task(
        store,
        DIGEST,
        DOUBLING,
        run="run-1",
        groupRows=25,
        output={"dataset": "out", "errors": "quarantine"},
    )
    with pods(tmp_path) as run:
        for effect in range(1, 200):
            (status,) = run(of, [effect])
            if status == 0:
                break
            assert status == -signal.SIGKILL, (tmp_path / "stderr").read_text()
    assert effect > 8, "it had effects"
    expect_exactly_once(store, of, values, 1)


def test_what_a_run_has_kept_is_not_computed_again(store: Store, tmp_path: Path) -> None:
    """After a kill, the answers that are kept are those of the result: by name and by content."""
    values = list(range(1, 301))
    put_table(store, tmp_path, pa.table({"x": pa.array(values, pa.int64())}))
    of = task(
        store,
        DIGEST,
        DOUBLING,
        run="run-1",
        groupRows=50,
        output={"dataset": "out", "errors": "quarantine"},
    )
    with pods(tmp_path) as run:
        run(of, [9])
        before = {stored.path: stored.tag for stored in store.list("runs")}
        assert before
        run(of, [15])
        after = {stored.path: stored.tag for stored in store.list("runs")}
        assert before.items() <= after.items()
        assert len(after) > len(before)
        assert run(of, [0]) == [0]
    expect_exactly_once(store, of, values, 1)


def test_runs_that_are_over_leave_nothing_behind(store: Store, tmp_path: Path) -> None:
    """What a run kept that failed for good is taken away by the next one; of one that is at work it stays."""
    values = list(range(1, 101))
    put_table(store, tmp_path, pa.table({"x": pa.array(values, pa.int64())}))
    with pods(tmp_path) as run:
        for name in ("failed", "beside"):
            run(task(store, DIGEST, DOUBLING, run=name), [5])
        following = task(store, DIGEST, DOUBLING, run="run-1", active=["run-1", "beside"])
        assert run(following, [0]) == [0]
    assert {stored.path.split("/")[3] for stored in store.list("runs")} == {"beside"}
