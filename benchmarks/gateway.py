"""Requests each second and latency through the gateway, beside FastAPI on uvicorn with the same model in the same run.

The gateway (one process) and the worker are processes of their own; API key, metrics, limits and batching are on. With the
prediction log it is measured twice: with a lake that takes all, and with one that takes nothing any more. FastAPI
has the model in its process and nothing of these; it is measured with one process and with two. The load comes from wrk
on the same machine: closed loop, so each connection asks again when it has its answer. The systems take turns, and the
median of the turns counts. All processes share the machine's cores with wrk.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mizzen
from benchmarks.small_model import small_model

ROUNDS = 3
SECONDS = 3
CONNECTIONS = (1, 32)
KEY = "benchmark-key"
PATH = "/v2/models/bench/infer"
START_TIMEOUT_S = 30.0
IN_MEMORY = Path("/dev/shm").is_dir()
_UNIT_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class System:
    """Something that answers at a port."""

    name: str
    version: str
    port: int
    conditions: str


@dataclass(frozen=True)
class Measured:
    """What wrk said of one turn."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def run() -> list[dict[str, Any]]:
    """The rows."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: the gateway's benchmark needs it (Debian: apt install wrk)")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mz-")))
        body = _example(folder)
        systems = [
            _mizzen(stack, folder, logged=False),
            _mizzen(stack, folder, logged=True),
            _mizzen(stack, folder, logged=True, lake_full=True),
            _fastapi(stack, folder, processes=1),
            _fastapi(stack, folder, processes=2),
        ]
        for system in systems:
            _await_answer(system, body)
        turns: dict[tuple[str, int], list[Measured]] = {}
        for connections in CONNECTIONS:
            for _ in range(ROUNDS):
                for system in systems:
                    turns.setdefault((system.name, connections), []).append(_wrk(system, connections, folder))
    return [row for system in systems for n in CONNECTIONS for row in _rows(system, n, turns[system.name, n])]


def _example(folder: Path) -> bytes:
    """The request that all are asked, also as a script for wrk."""
    data = [round(0.1 * value, 1) for value in range(20)]
    body = json.dumps({"inputs": [{"name": "X", "shape": [1, 20], "datatype": "FP32", "data": data}]})
    (folder / "ask.lua").write_text(
        f"""wrk.method = "POST"
wrk.body = '{body}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {KEY}"
"""
    )
    return body.encode()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _start(stack: ExitStack, command: list[str], **environment: str) -> None:
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)

    def end() -> None:
        process.terminate()
        process.wait(START_TIMEOUT_S)

    stack.callback(end)


def _mizzen(stack: ExitStack, base: Path, *options: str, logged: bool = False, lake_full: bool = False) -> System:
    """The gateway and its worker; `logged`: every request is in the prediction log, whose writer runs too, unless the lake
    is full: then nothing takes what the gateway notes, and once its ring is full each record is lost and counted.
    """
    model, port = small_model(), _free_port()
    folder = base / ("lake-full" if lake_full else "logged" if logged else "plain")
    hex_ = hashlib.sha256(model).hexdigest()
    store = folder / "store" / "models" / "sha256"
    store.mkdir(parents=True)
    (store / f"{hex_}.onnx").write_bytes(model)
    (base / "model.onnx").write_bytes(model)
    endpoint = {
        "namespace": "default", "name": "bench", **({"logging": {"buffer_bytes": 1 << 16} if lake_full else {}} if logged else {}),
        "versions": [{"model": "bench", "version": 1, "digest": f"sha256:{hex_}"}],
    }  # fmt: skip
    directory = {
        "endpoints": [endpoint],
        "workers": [
            {"uid": "w", "namespace": "default", "endpoint": "bench", "digest_prefix": hex_[:16],
             "address": {"type": "unix", "path": str(folder / "worker.sock")}}
        ],
        "keys": {"k": {"hash": hashlib.sha256(KEY.encode()).hexdigest(), "namespace": "default", "endpoints": ["bench"]}},
    }  # fmt: skip
    (folder / "directory.json").write_text(json.dumps(directory))
    task = {
        "storeUrl": f"file://{folder}/store", "model": "bench", "version": 1, "digest": f"sha256:{hex_}",
        "namespace": "default", "endpoint": "bench", "threads": 1,
    }  # fmt: skip
    _start(
        stack, [sys.executable, "-m", "mizzen.serving.worker"], MIZZEN_TASK=json.dumps(task),
        MIZZEN_RUN_DIR=str(folder), MIZZEN_PORT_HEALTH=str(_free_port()), MIZZEN_HEALTH_HOST="127.0.0.1",
        MIZZEN_ROOTFS=str(folder),
    )  # fmt: skip
    gateway = [sys.executable, "-m", "mizzen.serving.gateway", "--directory", str(folder / "directory.json")]
    rings = stack.enter_context(tempfile.TemporaryDirectory(prefix="mz-", dir="/dev/shm" if IN_MEMORY else None))
    _start(stack, [*gateway, "--port", str(port), "--processes", "1", "--log-dir", rings, *options])
    conditions = "1 gateway process, 1 worker process; API key, metrics, limits"
    if not logged:
        return System("mizzen", mizzen.__version__, port, conditions)
    if lake_full:
        conditions = f"{conditions}, every request logged to a ring that is full: each record is lost, and counted"
        return System("mizzen, lake full", mizzen.__version__, port, conditions)
    writer = [sys.executable, "-m", "mizzen.serving.predictionlog", "--folder", rings, "--spool", str(folder / "spool")]
    _start(stack, [*writer, "--store", f"file://{folder}/store"])
    return System("mizzen, logged", mizzen.__version__, port, f"{conditions}, every request logged to a Delta table")


def _fastapi(stack: ExitStack, folder: Path, processes: int) -> System:
    port = _free_port()
    command = [
        sys.executable, "-m", "uvicorn", "benchmarks.fastapi_peer:app", "--port", str(port),
        "--workers", str(processes), "--loop", "uvloop", "--http", "httptools", "--no-access-log",
        "--log-level", "warning",
    ]  # fmt: skip
    _start(stack, command, MODEL=str(folder / "model.onnx"))
    versions = f"{version('fastapi')}, uvicorn {version('uvicorn')}"
    name = "fastapi" if processes == 1 else f"fastapi x{processes}"
    return System(name, versions, port, f"{processes} process(es), model in process")


def _await_answer(system: System, body: bytes) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{system.port}{PATH}", body,
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    )  # fmt: skip
    _retry(lambda: urllib.request.urlopen(request, timeout=5.0).read(), system.name)


def _retry(ask: Callable[[], bytes], name: str) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            ask()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline_s:
                raise SystemExit(f"{name} did not answer within {START_TIMEOUT_S} s") from None
            time.sleep(0.05)
        else:
            return


def _wrk(system: System, connections: int, folder: Path) -> Measured:
    command = [
        "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-s", str(folder / "ask.lua"),
        f"http://127.0.0.1:{system.port}{PATH}",
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def latency_ms(percent: int) -> float:
        match = re.search(rf"{percent}%\s+([0-9.]+)(us|ms|s)\b", said)
        assert match is not None, said
        return float(match[1]) * _UNIT_MS[match[2]]

    rate = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    assert rate is not None, said
    failed = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    return Measured(float(rate[1]), latency_ms(50), latency_ms(99), failed)


def _rows(system: System, connections: int, turns: list[Measured]) -> list[dict[str, Any]]:
    failed = sum(turn.failed for turn in turns)
    conditions = (
        f"{system.conditions}; JSON, 1 row of 20 features; wrk, {connections} connection(s), "
        f"median of {len(turns)} turns of {SECONDS} s; {failed} failed"
    )
    what = f"infer, {connections} connection(s)"
    return [
        {"system": system.name, "version": system.version, "what": f"{what}: {name}", "unit": unit,
         "value": statistics.median(values), "conditions": conditions}
        for name, unit, values in (
            ("requests", "1/s", [turn.requests_per_s for turn in turns]),
            ("median", "ms", [turn.p50_ms for turn in turns]),
            ("p99", "ms", [turn.p99_ms for turn in turns]),
        )
    ]  # fmt: skip
