"""Batch predictions beside an endpoint that is asked all the time: what its clients notice, and how fast the batch is.

The endpoint has a gateway and a worker of their own; one client asks it 200 times a second, on the hour (an answer is
late by its due time, however long the client itself was held up) and compares each answer. A batch goes through a worker
of its own at idle priority, or through the endpoint's queue. Turns of two seconds alternate (idle, own, idle, through, and
again, ROUNDS times), so that what else happens on the machine happens to all: a batch is stopped (SIGSTOP) when its turn
is over and goes on in its next, a run that ends is followed by another, and so starts, reads and commits are in it. The
ratio is that of the percentiles of all turns together. About two minutes. The batch's Pod is the real one, its status
alone goes nowhere (`batch_pod.py`).
"""

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

import mizzen
from benchmarks.gateway import KEY, PATH, _await_answer, _example, _mizzen
from benchmarks.small_model import small_model
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.tables import Table

ROUNDS = 10
ROWS, FEATURES = 1_000_000, 20
GROUP_ROWS = 16384
RATE_PER_S, SECONDS = 200, 2.0
SETTLE_S = 0.1
"""After a batch was stopped: what the endpoint had of it is answered."""
BATCH_KEY = "the-batch's-key"
WAYS = {"own": "a worker of its own", "endpoint": "the endpoint"}


@dataclass(slots=True)
class Turns:
    """All turns of one kind."""

    latencies_ms: list[float] = field(default_factory=list)
    by_turn_p99_ms: list[float] = field(default_factory=list)
    failed: int = 0
    """Requests without an answer, or with a wrong one."""

    def add(self, latencies_ms: list[float], failed: int) -> None:
        self.latencies_ms += latencies_ms
        self.by_turn_p99_ms.append(float(np.percentile(latencies_ms, 99)))
        self.failed += failed

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.latencies_ms, percent))


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
        alone = {way: _alone(store, folder, way, system.port) for way in WAYS}
        batches = {way: stack.enter_context(Batch(store, folder, way, system.port)) for way in WAYS}
        client = Client(system.port, body)
        client.ask(1.0)
        turns: dict[str, Turns] = {"idle": Turns(), **{way: Turns() for way in WAYS}}
        for _ in range(ROUNDS):
            for way, batch in batches.items():
                turns["idle"].add(*client.ask(SECONDS))
                with batch.at_work():
                    turns[way].add(*client.ask(SECONDS))
        return _rows(alone, {way: batch.rows_per_s for way, batch in batches.items()}, turns)


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


@cache
def _digest() -> str:
    """Of the model, which is trained once: runs begin while the client measures."""
    return f"sha256:{hashlib.sha256(small_model()).hexdigest()}"


def _task(store: Store, way: str, port: int) -> dict[str, Any]:
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
    ]
    return {
        "namespace": "default", "name": f"bench-{way}", "run": f"bench-{way}-alone", "storeUrl": store.url,
        "input": {"name": "rows", "version": 1},
        "model": {"name": "bench-1", "model": "bench", "version": 1, "digest": _digest()},
        "signature": {
            "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, FEATURES]}], "outputs": outputs,
            "columns": [f"x{index}" for index in range(FEATURES)],
        },
        "output": {"dataset": f"scored-{way}", "keep": ["id"], "predictions": [{"output": "probabilities[1]", "name": "p"}]},
        "way": way,
        "endpoint": {"name": "bench", "url": f"http://127.0.0.1:{port}{PATH.removesuffix('/infer')}", "batchRowsMax": 256},
    }  # fmt: skip


class Batch:
    """Runs one after the other, each at work only while it is its turn. Another process begins them (`batch_pod`): the one
    that measures has enough to do.
    """

    def __init__(self, store: Store, folder: Path, way: str, port: int) -> None:
        self._way, self._folder = way, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._task = folder / f"{way}.json"
        self._task.write_text(json.dumps(_task(store, way, port)))
        self._ended = folder / f"{way}.ended"
        self._runs = folder / "plain" / "store" / "runs" / "default" / f"bench-{way}"
        self._rows = 0
        self._worked_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def rows_per_s(self) -> float:
        """While it was at work, starts and commits counted."""
        return self._rows / self._worked_s

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """It works until the end of the block."""
        before = self._done()
        if self._process is None:
            self._process = self._begin(str(self._ended))
        else:
            os.killpg(self._process.pid, signal.SIGCONT)
        began_s = time.perf_counter()
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGSTOP)
            self._worked_s += time.perf_counter() - began_s
            time.sleep(SETTLE_S)
            self._rows += self._done() - before

    def wait(self) -> None:
        """Begins one, and sees it to its end."""
        if self._begin().wait() != 0:
            raise SystemExit(f"the batch through {WAYS[self._way]} failed")

    def _done(self) -> int:
        """The rows of the runs that have ended, and of the one at work."""
        ended = self._ended.stat().st_size if self._ended.exists() else 0
        return ended * ROWS + len(list(self._runs.glob("*/groups/*.arrow"))) * GROUP_ROWS

    def _begin(self, *again: str) -> "subprocess.Popen[bytes]":
        """In this session: Linux divides processors between sessions first (autogroups), and only then by class, so that
        one in a session of its own would get half. A node's Pods are in control groups of their weights.
        """
        command = [sys.executable, "-m", "benchmarks.batch_pod", str(self._task), *again]
        environment = {**os.environ, "MIZZEN_API_KEY": BATCH_KEY}
        with (self._folder / "batches.log").open("a") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, process_group=0)


def _alone(store: Store, folder: Path, way: str, port: int) -> float:
    """Rows a second of a whole run, its start and its commit counted."""
    began_s = time.perf_counter()
    with Batch(store, folder, way, port) as batch:
        batch.wait()
    return ROWS / (time.perf_counter() - began_s)


class Client:
    """One client that asks on the hour."""

    def __init__(self, port: int, body: bytes) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._body = body
        self._right: Any = None

    def ask(self, seconds: float) -> tuple[list[float], int]:
        """From when each request was due to its answer; and how many were not answered, or wrongly."""
        found, failed = [], 0
        due_s = time.perf_counter()
        end_s = due_s + seconds
        while due_s < end_s:
            if (early_s := due_s - time.perf_counter()) > 0:
                time.sleep(early_s)
            failed += not self._is_right()
            found.append(1000 * (time.perf_counter() - due_s))
            due_s += 1 / RATE_PER_S
        return found, failed

    def _is_right(self) -> bool:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        try:
            self._connection.request("POST", PATH, self._body, headers)
            response = self._connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return False
        if response.status != http.HTTPStatus.OK:
            return False
        outputs = json.loads(said)["outputs"]
        self._right = self._right or outputs
        return bool(outputs == self._right)


def _rows(alone: dict[str, float], beside: dict[str, float], turns: dict[str, Turns]) -> list[dict[str, Any]]:
    conditions = (
        f"{ROWS} rows of {FEATURES} features, small model; {RATE_PER_S} requests/s of 1 row; {ROUNDS} rounds of turns of "
        f"{SECONDS:g} s (idle, own, idle, through); gateway, worker, batch and client on one machine"
    )

    def row(what: str, unit: str, value: float) -> dict[str, Any]:
        return {"system": "mizzen", "version": mizzen.__version__, "what": what, "unit": unit, "value": value,
                "conditions": conditions}  # fmt: skip

    idle = turns["idle"]
    rows = [row(f"endpoint, nothing else: p{percent}", "ms", idle.percentile_ms(percent)) for percent in (50, 90, 99)]
    low, high = np.percentile(idle.by_turn_p99_ms, [10, 90])
    rows += [
        row("endpoint, nothing else: p99 of single turns, the lowest tenth", "ms", float(low)),
        row("endpoint, nothing else: p99 of single turns, the highest tenth", "ms", float(high)),
    ]
    for way, through in WAYS.items():
        name, mine = f"batch through {through}", turns[way]
        rows += [
            row(f"{name}: rows, alone", "1/s", alone[way]),
            row(f"{name}: rows, beside clients", "1/s", beside[way]),
            *(row(f"{name}: p{percent} of clients", "ms", mine.percentile_ms(percent)) for percent in (50, 90, 99)),
            row(f"{name}: p99 of clients, times that of idle", "", mine.percentile_ms(99) / idle.percentile_ms(99)),
            row(f"{name}: requests failed or wrong", "", mine.failed),
        ]
    return rows


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
