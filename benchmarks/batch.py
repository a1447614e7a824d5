"""Batch predictions beside an endpoint that is asked all the time: what its clients notice, and how fast the batch is.

The endpoint has a gateway and a worker of their own; one client asks it 200 times a second, on the hour (an answer is
late by its due time, however long the client itself was held up), and the 99th percentile counts. A batch goes through a
worker of its own at idle priority, or through the endpoint's queue. The three turns (nothing else, own, through) come one
after the other, ROUNDS times; ratios are within a round. The batch's Pod is the real one, its status alone goes nowhere.
About two minutes.

`python -m benchmarks.batch POD FILE` is that Pod, for a task in a file.
"""

import asyncio
import hashlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import mizzen
from benchmarks.gateway import KEY, PATH, _await_answer, _example, _mizzen
from benchmarks.small_model import small_model
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.tables import Table
from mizzen.kinds.batch import BatchResult, BatchShard
from mizzen.kinds.data import LoadReport
from mizzen.serving.batch.__main__ import step_back, ways_of
from mizzen.serving.batch.running import BatchPod
from mizzen.serving.batch.task import BatchTask

ROUNDS = 3
ROWS, FEATURES = 1_000_000, 20
RATE_PER_S, SECONDS = 200, 8.0
BATCH_KEY = "the-batch's-key"
WAYS = ("own", "endpoint")


@dataclass(frozen=True)
class Turn:
    """One turn: the endpoint's latencies, and the rows that the batch did meanwhile."""

    p50_ms: float
    p99_ms: float
    rows_per_s: float


def run() -> list[dict[str, Any]]:
    """The rows."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mz-")))
        body = _example(folder)
        system = _mizzen(stack, folder)
        _add_key(folder / "plain" / "directory.json")
        _await_answer(system, body)
        store = Store.open((folder / "plain" / "store").as_uri())
        _put_rows(store, folder)
        alone = {way: statistics.median(_alone(store, folder, way, system.port) for _ in range(ROUNDS)) for way in WAYS}
        turns: dict[str, list[Turn]] = {"idle": [], "own": [], "endpoint": []}
        _asked(system.port, body, 1.0)
        for _ in range(ROUNDS):
            turns["idle"].append(_asked(system.port, body, SECONDS))
            for way in WAYS:
                turns[way].append(_beside(store, folder, way, system.port, body))
        return _rows(alone, turns)


def _add_key(directory: Path) -> None:
    contents = json.loads(directory.read_text())
    key = {"hash": hashlib.sha256(BATCH_KEY.encode()).hexdigest(), "namespace": "default", "endpoints": ["bench"]}
    contents["keys"]["default/batchprediction.bench"] = key
    directory.with_suffix(".new").write_text(json.dumps(contents))
    directory.with_suffix(".new").replace(directory)


def _put_rows(store: Store, folder: Path) -> None:
    random = np.random.default_rng(1)
    names = [f"x{index}" for index in range(FEATURES)]
    schema = pa.schema([("id", pa.int64()), *((name, pa.float32()) for name in names)])
    writer = PartWriter(folder / "parts", schema)
    for start in range(0, ROWS, 100_000):
        values = random.normal(size=(FEATURES, 100_000)).astype(np.float32)
        ids = pa.array(np.arange(start, start + 100_000))
        writer.write(pa.Table.from_arrays([ids, *map(pa.array, values)], schema=schema))
    Table(store, "default", "rows").commit(writer.close(), schema, "load")


def _task(store: Store, way: str, port: int) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(small_model()).hexdigest()}"
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
    ]
    return {
        "namespace": "default", "name": "bench", "run": f"bench-{way}-{time.monotonic_ns()}", "storeUrl": store.url,
        "input": {"name": "rows", "version": 1},
        "model": {"name": "bench-1", "model": "bench", "version": 1, "digest": digest},
        "signature": {
            "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, FEATURES]}], "outputs": outputs,
            "columns": [f"x{index}" for index in range(FEATURES)],
        },
        "output": {"dataset": f"scored-{way}", "keep": ["id"], "predictions": [{"output": "probabilities[1]", "name": "p"}]},
        "way": way,
        "endpoint": {"name": "bench", "url": f"http://127.0.0.1:{port}{PATH.removesuffix('/infer')}", "batchRowsMax": 256},
    }  # fmt: skip


def _pod(stack: ExitStack, store: Store, folder: Path, way: str, port: int) -> tuple[subprocess.Popen[bytes], Path]:
    """A run, begun; and where it keeps its groups."""
    task = _task(store, way, port)
    path = folder / f"{task['run']}.json"
    path.write_text(json.dumps(task))
    command = [sys.executable, "-m", "benchmarks.batch", "POD", str(path)]
    process = subprocess.Popen(command, env={**os.environ, "MIZZEN_API_KEY": BATCH_KEY}, start_new_session=True)

    def end() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    stack.callback(end)
    return process, folder / "plain" / "store" / "runs" / "default" / "bench" / task["run"] / "groups"


def _alone(store: Store, folder: Path, way: str, port: int) -> float:
    """Rows a second of a whole run, its start and its commit counted."""
    with ExitStack() as stack:
        began_s = time.perf_counter()
        process, _ = _pod(stack, store, folder, way, port)
        if process.wait() != 0:
            raise SystemExit(f"the batch through {way} failed")
        return ROWS / (time.perf_counter() - began_s)


def _beside(store: Store, folder: Path, way: str, port: int, body: bytes) -> Turn:
    """The endpoint's latencies while runs follow each other; rows by the groups that were kept meanwhile."""
    with ExitStack() as stack:
        process, groups = _pod(stack, store, folder, way, port)
        while _kept(groups) < 1 and process.poll() is None:
            time.sleep(0.01)
        before, began_s = _kept(groups), time.perf_counter()
        answered: list[float] = []
        done = last = 0
        while time.perf_counter() - began_s < SECONDS:
            answered += _latencies_ms(port, body, 0.25)
            now = _kept(groups)
            done, last = done + max(0, now - max(last, before if not done else 0)), now
            if process.poll() is not None:
                process, groups = _pod(stack, store, folder, way, port)
                last = before = 0
        took_s = time.perf_counter() - began_s
        shutil.rmtree(groups.parent, ignore_errors=True)
        return _turn(answered, done * 16384 / took_s)


def _kept(groups: Path) -> int:
    return len(list(groups.glob("*.arrow")))


def _asked(port: int, body: bytes, seconds: float) -> Turn:
    return _turn(_latencies_ms(port, body, seconds), 0.0)


def _turn(latencies_ms: list[float], rows_per_s: float) -> Turn:
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return Turn(float(p50), float(p99), rows_per_s)


def _latencies_ms(port: int, body: bytes, seconds: float) -> list[float]:
    """One client on the hour: from when each request was due to its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    found = []
    due_s = time.perf_counter()
    end_s = due_s + seconds
    while due_s < end_s:
        if (early_s := due_s - time.perf_counter()) > 0:
            time.sleep(early_s)
        connection.request("POST", PATH, body, headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        found.append(1000 * (time.perf_counter() - due_s))
        due_s += 1 / RATE_PER_S
    connection.close()
    return found


def _rows(alone: dict[str, float], turns: dict[str, list[Turn]]) -> list[dict[str, Any]]:
    conditions = (
        f"{ROWS} rows of {FEATURES} features, small model; {RATE_PER_S} requests/s of 1 row, median of {ROUNDS} rounds of "
        f"{SECONDS:g} s each; gateway, worker, batch and client on one machine"
    )
    idle = turns["idle"]

    def row(what: str, unit: str, value: float) -> dict[str, Any]:
        return {"system": "mizzen", "version": mizzen.__version__, "what": what, "unit": unit, "value": value,
                "conditions": conditions}  # fmt: skip

    rows = [row("endpoint, nothing else: p99", "ms", statistics.median(turn.p99_ms for turn in idle))]
    for way in WAYS:
        name = f"batch through {'a worker of its own' if way == 'own' else 'the endpoint'}"
        mine = turns[way]
        ratios = [turn.p99_ms / before.p99_ms for turn, before in zip(mine, idle, strict=True)]
        rows += [
            row(f"{name}: rows, alone", "1/s", alone[way]),
            row(f"{name}: rows, beside clients", "1/s", statistics.median(turn.rows_per_s for turn in mine)),
            row(f"{name}: p99 of clients", "ms", statistics.median(turn.p99_ms for turn in mine)),
            row(f"{name}: p99 of clients, times that of idle", "", statistics.median(ratios)),
        ]
    return rows


class _Deaf:
    """A reporter that tells nobody."""

    def progress(self, shard: BatchShard) -> None: ...
    def loaded(self, report: LoadReport) -> None: ...
    def finish(self, result: BatchResult) -> None: ...


def _run_pod(path: Path) -> None:
    task = BatchTask.model_validate_json(path.read_text())
    step_back()
    asyncio.run(BatchPod(task, 0, _Deaf(), ways_of(task), lambda: datetime.now(UTC)).run())


if __name__ == "__main__":
    if sys.argv[1:2] == ["POD"]:
        _run_pod(Path(sys.argv[2]))
    else:
        print(json.dumps(run(), indent=1))
