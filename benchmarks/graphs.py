"""A graph of two models beside two separate calls, and answers from the cache, through one gateway process.

The same small model is served alone (`one model`), as both steps of a sequence (`graph of two`, one worker), and with a
cache (one request again and again: all but the first are hits). One client on one connection asks in a closed loop, in
alternation; medians of all its calls. What a hop adds is the graph's median less the one model's: it holds the second
wait for the worker, the second frame there and back, and its compute. Rates are wrk's, at 32 connections.
"""

import hashlib
import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mizzen
from benchmarks.small_model import small_model

ROUNDS = 3
CALLS = 1000
CONNECTIONS = 32
SECONDS = 3
START_TIMEOUT_S = 30.0
GRAPH = {
    "nodes": [
        {
            "name": "main",
            "sequence": [{"node": "a"}, {"node": "b", "inputs": {"X": "inputs.X"}}],
            "outputs": {"label": "a.label", "probabilities": "b.probabilities"},
        },
        {"name": "a", "model": "bench:1"},
        {"name": "b", "model": "bench:1"},
    ]
}
SIGNATURE = {
    "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 20]}],
    "outputs": [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
    ],
}
NAMES = {"one": "one model", "graph": "graph of two", "cached": "one model, from the cache"}


def run() -> list[dict[str, Any]]:
    """The rows."""
    body = _body()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mz-")))
        port = _start(stack, folder)
        for name in NAMES:
            _await_answer(port, name, body)
        calls: dict[str, list[float]] = {name: [] for name in (*NAMES, "two calls")}
        rates: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(ROUNDS):
            for name in NAMES:
                calls[name] += _seconds(port, [name], body)
                rates[name].append(_rate(port, name, body, folder))
            calls["two calls"] += _seconds(port, ["one", "one"], body)
    return list(_rows(calls, rates))


def _body() -> bytes:
    data = [round(0.1 * value, 1) for value in range(20)]
    return json.dumps({"inputs": [{"name": "X", "shape": [1, 20], "datatype": "FP32", "data": data}]}).encode()


def _start(stack: ExitStack, folder: Path) -> int:
    """A gateway process, and a worker for each endpoint."""
    model, port = small_model(), _free_port()
    hex_ = hashlib.sha256(model).hexdigest()
    store = folder / "store" / "models" / "sha256"
    store.mkdir(parents=True)
    (store / f"{hex_}.onnx").write_bytes(model)
    version = {"model": "bench", "version": 1, "digest": f"sha256:{hex_}", "signature": SIGNATURE}
    what: dict[str, dict[str, Any]] = {
        "one": {"versions": [version]},
        "graph": {"graph": {"spec": GRAPH, "versions": {"a": [version], "b": [version]}}},
        "cached": {"versions": [version], "cache": {"ttl_s": 3600.0, "bytes_max": 1 << 26}},
    }
    workers = []
    for name in what:
        (folder / name).mkdir()
        workers.append(
            {"uid": name, "namespace": "default", "endpoint": name, "digest_prefix": hex_[:16],
             "address": {"type": "unix", "path": str(folder / name / "worker.sock")}}
        )  # fmt: skip
        task = {
            "storeUrl": f"file://{folder}/store", "model": "bench", "version": 1, "digest": f"sha256:{hex_}",
            "namespace": "default", "endpoint": name, "threads": 1,
        }  # fmt: skip
        _process(
            stack, ["mizzen.serving.worker"], MIZZEN_TASK=json.dumps(task), MIZZEN_RUN_DIR=str(folder / name),
            MIZZEN_PORT_HEALTH=str(_free_port()), MIZZEN_HEALTH_HOST="127.0.0.1", MIZZEN_ROOTFS=str(folder / name),
        )  # fmt: skip
    endpoints = [{"namespace": "default", "name": name, "anonymous": True, **more} for name, more in what.items()]
    (folder / "directory.json").write_text(json.dumps({"endpoints": endpoints, "workers": workers}))
    arguments = ["--directory", str(folder / "directory.json"), "--port", str(port), "--processes", "1"]
    _process(stack, ["mizzen.serving.gateway", *arguments])
    return port


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _process(stack: ExitStack, arguments: list[str], **environment: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )

    def end() -> None:
        process.terminate()
        process.wait(START_TIMEOUT_S)

    stack.callback(end)


def _await_answer(port: int, name: str, body: bytes) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            _seconds(port, [name], body, calls=1)
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline_s:
                raise SystemExit(f"{name} did not answer within {START_TIMEOUT_S} s") from None
            time.sleep(0.05)
        else:
            return


def _seconds(port: int, names: list[str], body: bytes, *, calls: int = CALLS) -> list[float]:
    """How long it takes to ask these endpoints one after the other, each time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT_S)
    found = []
    for _ in range(calls):
        began_s = time.perf_counter()
        for name in names:
            connection.request("POST", f"/v2/models/{name}/infer", body)
            response = connection.getresponse()
            said = response.read()
            if response.status != 200:
                raise http.client.HTTPException(said.decode())
        found.append(time.perf_counter() - began_s)
    connection.close()
    return found


def _rate(port: int, name: str, body: bytes, folder: Path) -> float:
    script = folder / "ask.lua"
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{body.decode()}'\n")
    command = [
        "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script),
        f"http://127.0.0.1:{port}/v2/models/{name}/infer",
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        raise SystemExit(said)
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", said)
    assert rate is not None, said
    return float(rate[1])


def _rows(calls: dict[str, list[float]], rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    medians = {name: 1e6 * statistics.median(values) for name, values in calls.items()}
    conditions = f"1 gateway process, JSON, 1 row of 20 features; 1 connection, {ROUNDS} turns of {CALLS} calls, median"
    shown = {**NAMES, "two calls": "two calls of one model"}
    rows = [_row(f"infer: {shown[name]}", "us", value, conditions) for name, value in medians.items()]
    rows.append(_row("what the second hop of a graph adds", "us", medians["graph"] - medians["one"], conditions))
    conditions = f"wrk, {CONNECTIONS} connections, median of {ROUNDS} turns of {SECONDS} s"
    rows += [
        _row(f"requests: {shown[name]}", "1/s", statistics.median(values), conditions) for name, values in rates.items()
    ]
    return rows


def _row(what: str, unit: str, value: float, conditions: str) -> dict[str, Any]:
    return {
        "system": "mizzen", "version": mizzen.__version__, "what": what, "unit": unit, "value": value,
        "conditions": conditions,
    }  # fmt: skip
