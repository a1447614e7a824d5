"""One run from end to end, by its Pods in this process and a real worker in another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.batch.builders import PICKY, Told, clock, numbers, put_model, put_table, rows_of, task
from tests.serving.builders import picky_model

from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table
from mizzen.data.pod import Failure
from mizzen.serving.batch import remove
from mizzen.serving.batch.own_worker import OwnWorker
from mizzen.serving.batch.running import BatchPod


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open((tmp_path / "store").as_uri())


async def test_a_run_answers_every_row_in_its_order_and_keeps_why_others_were_refused(
    store: Store, tmp_path: Path
) -> None:
    """Of 1,000 rows two cannot be answered; all are in the result, in order, and nothing else is left in the store."""
    digest = put_model(store, picky_model())
    values = [number % 4 for number in range(1000)]
    values[17], values[503] = 99, -99
    put_table(store, tmp_path, numbers(values), files=3)
    told = Told()
    await BatchPod(task(store, digest, PICKY), 0, told, [OwnWorker], clock).run()
    rows = rows_of(store)
    assert [row["id"] for row in rows] == list(range(1000))
    assert [row["y"] for row in rows] == [None if value in {99, -99} else 10.0 + value for value in values]
    assert [row["id"] for row in rows if row["error"] is not None] == [17, 503]
    assert "index" in rows[17]["error"].lower() or "bounds" in rows[17]["error"].lower()
    (result,) = told.results
    assert (result.succeeded, result.rows, result.failed_rows, result.version) == (True, 1000, 2, 1)
    (report,) = told.reports
    assert report.model is not None
    assert report.model.digest == digest
    assert [(each.name, each.version) for each in report.inputs] == [("in", 1)]
    assert told.shards[-1].rows_done == told.shards[-1].rows_total == 1000
    assert store.list("runs") == []
    assert Table(store, "ns", "out").history()[0].run == "nightly-1"


async def test_what_is_known_of_the_inputs_columns_goes_with_them(store: Store, tmp_path: Path) -> None:
    """Personal data is marked in the output too, and its values are in no profile; all else is profiled as loads are."""
    put_table(store, tmp_path, numbers([1, 2, 3, 3]))
    digest = put_model(store, picky_model())
    known = [{"name": "id", "type": "int64", "personal": "identifier", "tags": ["gdpr"]}]
    for run, rows in (("first", 4), ("second", 8)):
        told = Told()
        of = task(
            store, digest, PICKY, run=run, known=known, output={"dataset": "out", "mode": "append", "keep": ["id"]}
        )
        await BatchPod(of, 0, told, [OwnWorker], clock).run()
        (report,) = told.reports
        assert [(each.name, each.personal, each.tags) for each in report.columns] == [
            ("id", "identifier", ["gdpr"]), ("y", None, []), ("error", None, []),
        ]  # fmt: skip
        assert (report.rows, report.rows_added) == (rows, 4)
        profile = Table(store, "ns", "out").at().attachment["profile"]
        assert profile["rows"] == rows
        assert profile["columns"]["y"]["max"] == 13.0
        assert "max" not in profile["columns"]["id"]
        assert profile["columns"]["error"]["nulls"] == rows


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="the scheduling class is Linux's")
def test_a_pod_in_the_background_has_no_thread_that_is_not() -> None:
    """Whatever its libraries start: every thread runs while nobody else wants the processor, and so do its children;
    where there are several, none of them ever takes the first.
    """
    script = """
import importlib, os, subprocess, sys
from mizzen.serving.batch.__main__ import step_back
step_back()
importlib.import_module("mizzen.serving.batch.pod")
importlib.import_module("pyarrow").table({"x": list(range(9))}).sort_by("x")
importlib.import_module("duckdb").sql("SELECT count(*) FROM range(1000000)").fetchall()
def classes(threads):
    return [f"{os.sched_getscheduler(each)} {sorted(os.sched_getaffinity(each))}" for each in threads]
threads = [int(thread) for thread in os.listdir("/proc/self/task")]
child = subprocess.Popen(["sleep", "60"])
print(len(threads), *{*classes(threads), *classes([child.pid])}, sep=chr(10))
child.kill()
"""
    threads, *classes = subprocess.check_output([sys.executable, "-c", script], text=True).splitlines()
    assert int(threads) > 1
    every = sorted(os.sched_getaffinity(0))
    assert classes == [f"{os.SCHED_IDLE} {every[1:] or every}"]


async def test_a_run_tells_openlineage_what_its_version_was_made_of(store: Store, tmp_path: Path) -> None:
    """That it began and how it ended, under one run id: the input's version, the model's digest, where columns come from."""
    digest = put_model(store, picky_model())
    put_table(store, tmp_path, numbers([1, 2, 99]))
    path = tmp_path / "events.jsonl"
    of = task(store, digest, PICKY, lineageUrl=path.as_uri())
    await BatchPod(of, 0, Told(), [OwnWorker], clock).run()
    start, complete = (json.loads(line) for line in path.read_text().splitlines())
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert complete["job"]["name"] == "batchprediction.nightly"
    rows, model = complete["inputs"]
    assert (rows["name"].endswith("tables/ns/in"), rows["facets"]["version"]["datasetVersion"]) == (True, "1")
    assert (model["name"].endswith(".onnx"), model["facets"]["version"]["datasetVersion"]) == (True, digest)
    (made,) = complete["outputs"]
    assert made["facets"]["version"]["datasetVersion"] == "1"
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 3
    origins = made["facets"]["columnLineage"]["fields"]
    found = {name: [each["field"] for each in field["inputFields"]] for name, field in origins.items()}
    assert found == {"id": ["id"], "x": ["x"], "y": ["x"], "error": ["x"]}
    assert "99" not in [str(value) for value in made["facets"].values()]


async def test_a_run_that_fails_tells_openlineage_why(store: Store, tmp_path: Path) -> None:
    digest = put_model(store, picky_model())
    put_table(store, tmp_path, numbers([1, 2, 99]))
    path = tmp_path / "events.jsonl"
    of = task(store, digest, PICKY, lineageUrl=path.as_uri(), errorLimit="0")
    with pytest.raises(Failure):
        await BatchPod(of, 0, Told(), [OwnWorker], clock).run()
    start, fail = (json.loads(line) for line in path.read_text().splitlines())
    assert (start["eventType"], fail["eventType"]) == ("START", "FAIL")
    assert "spec.errorLimit" in fail["run"]["facets"]["errorMessage"]["message"]


def test_what_the_runs_of_a_deleted_object_have_kept_goes(store: Store) -> None:
    """Of all its runs; and nothing of other batch predictions, nor of a training job of the same name."""
    kept = ["runs/ns/nightly/a/groups/1.arrow", "runs/ns/nightly/b/aside/2.arrow"]
    others = [
        "runs/ns/nightly/c/checkpoints/1",
        "runs/ns/nightly-2/a/groups/1.arrow",
        "runs/other/nightly/a/groups/1.arrow",
    ]
    for path in (*kept, *others):
        store.put(path, b"x")
    for _ in range(2):
        remove.run(remove.RemoveTask(namespace="ns", name="nightly", store_url=store.url))
    assert sorted(stored.path for stored in store.list("runs")) == sorted(others)
