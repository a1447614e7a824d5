"""gRPC through the gateway, by both its transports, with JSON over HTTP beside them in the same run.

The same gateway and worker as above. The load is a closed loop of one request at a time on each connection, by a generator
of our own that writes HTTP/2 frames by itself (benchmarks/grpc_load.py), since client libraries cost more than the server;
JSON is asked by wrk. The systems take turns, and the median of the turns counts. pygrpc-native is measured where it is
installed.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import mizzen
from benchmarks.gateway import (
    CONNECTIONS,
    KEY,
    ROUNDS,
    SECONDS,
    System,
    _await_answer,
    _example,
    _free_port,
    _mizzen,
    _wrk,
)
from mizzen.serving.oip.messages import message


def run() -> list[dict[str, Any]]:
    """The rows."""
    transports = ["grpcio", "native"] if importlib.util.find_spec("pygrpc_native") else ["grpcio"]
    turns: dict[tuple[str, int], list[dict[str, float]]] = {}
    systems: dict[str, tuple[System, str, Path]] = {}
    with ExitStack() as stack:
        for transport in transports:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mz-")))
            body = _example(folder)
            (folder / "message").write_bytes(_message())
            grpc_port = _free_port()
            system = _mizzen(stack, folder, "--grpc", transport, "--grpc-port", str(grpc_port))
            _await_answer(system, body)
            systems[transport] = (system, f"127.0.0.1:{grpc_port}", folder)
        for connections in CONNECTIONS:
            for _ in range(ROUNDS):
                for transport, (_, address, folder) in systems.items():
                    turns.setdefault((transport, connections), []).append(_load(address, connections, folder))
                system, _, folder = systems["grpcio"]
                told = _wrk(system, connections, folder)
                beside = {"requests_per_s": told.requests_per_s, "latency_ms_p50": told.p50_ms,
                          "latency_ms_p99": told.p99_ms, "failed": told.failed}  # fmt: skip
                turns.setdefault(("json", connections), []).append(beside)
    return [row for (name, connections), found in turns.items() for row in _rows(name, connections, found)]


def _message() -> bytes:
    """The request that all are asked."""
    data = np.round(0.1 * np.arange(20), 1).astype("<f4").tobytes()
    request = message("ModelInferRequest")(model_name="bench", raw_input_contents=[data])
    request.inputs.add(name="X", datatype="FP32", shape=[1, 20])
    encoded: bytes = request.SerializeToString()
    return encoded


def _load(address: str, connections: int, folder: Path) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.grpc_load",
        address,
        str(connections),
        str(SECONDS),
        str(folder / "message"),
    ]
    done = subprocess.run(command, env={**os.environ, "KEY": KEY}, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


NAMES = {
    "grpcio": ("mizzen, grpcio", "gRPC carried by grpcio; raw contents"),
    "native": ("mizzen", "gRPC carried by pygrpc-native; raw contents"),
    "json": ("mizzen, HTTP", "JSON over HTTP, by wrk"),
}


def _rows(name: str, connections: int, turns: list[dict[str, float]]) -> list[dict[str, Any]]:
    system, what = NAMES[name]
    library = {"grpcio": f", grpcio {version('grpcio')}", "native": ", pygrpc-native"}.get(name, "")
    failed = sum(turn["failed"] for turn in turns)
    conditions = (
        f"{what}; 1 gateway process, 1 worker process; 1 row of 20 features; {connections} connection(s), one request at a "
        f"time on each; median of {len(turns)} turns of {SECONDS} s; {failed:.0f} failed"
    )
    return [
        {"system": system, "version": f"{mizzen.__version__}{library}", "what": f"gRPC, {connections} connection(s): {what_}",
         "unit": unit, "value": statistics.median(turn[key] for turn in turns), "conditions": conditions}
        for what_, unit, key in (("requests", "1/s", "requests_per_s"), ("median", "ms", "latency_ms_p50"),
                                 ("p99", "ms", "latency_ms_p99"))
    ]  # fmt: skip
