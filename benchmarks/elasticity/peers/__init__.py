"""Starts and scale-ups of Ray Serve and BentoML, and Mizzen's beside them, with the same small model and one replica.

A start is from the command until the first answer, asked for every 20 ms: of Ray, its head node and Serve with it; of
Mizzen, `mizzen up` in a home that has the endpoint. BentoML is one service: it has no replicas to add. An environment
that is not there is not made here (`make peers-serving` makes them), and said.
"""

import http.client
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.elasticity.machine import BODY, QUICK, distributed
from benchmarks.serving.environments import HERE as SERVING
from benchmarks.serving.environments import PEERS, versions
from benchmarks.serving.systems import END_TIMEOUT_S, free_port
from benchmarks.small_model import small_model
from benchmarks.startup import Home

HERE = Path(__file__).parent
STARTS, UPS, ZEROS = (2, 3, 2) if QUICK else (8, 20, 10)
LOOK_S, LIMIT_S = 0.02, 120.0
START = "from the command to the first answer"
ENDPOINT = """
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: small}
spec: {model: "bench:1", access: anonymous}
"""
ROWS = json.dumps({"rows": [[0.5] * 20]}).encode()
"""What the peers are asked."""


Start = Callable[[Path, int], "subprocess.Popen[str]"]
"""Starts a peer, given a folder of its own and its port."""


def rows() -> list[dict[str, Any]]:
    found = distributed(START, _own_starts(), "`mizzen up` in a home that has the endpoint")
    if _is_there("bentoml"):
        starts = [_started(_bentoml) for _ in range(STARTS)]
        found += distributed(START, starts, "one worker", system="bentoml", version=versions("bentoml"))
    if _is_there("ray"):
        found += _ray()
    return found


def _is_there(name: str) -> bool:
    if not (PEERS / name / ".installed").exists():
        print(f"{name}: left out, it is not installed: make peers-serving")
        return False
    return True


def _own_starts() -> list[float]:
    with Home() as home:
        home.timed_up()
        home.register("bench")
        home.mizzen("apply", "-f", "-", text=ENDPOINT)
        home.mizzen("wait", "ie/small", "--timeout", "60s")
        found = []
        for _ in range(STARTS):
            home.mizzen("down")
            began = time.perf_counter()
            home.timed_up()
            _await_answer(home.ports[1], "/v2/models/small/infer", BODY)
            found.append(time.perf_counter() - began)
        return found


def _ray() -> list[dict[str, Any]]:
    of = {"system": "ray", "version": versions("ray")}
    starts = [_started(_ray_process) for _ in range(STARTS)]
    with _running(_ray_process) as (process, _, _):
        ups, zeros = _told(process, "ups", UPS), _told(process, "zeros", ZEROS)
    told = "from the deployment's new number to two replicas RUNNING, asked for every 10 ms"
    return [
        *distributed(START, starts, "`ray.init`, `serve.start` and one replica", **of),
        *distributed("one worker more (1 to 2)", ups, told, **of),
        *distributed("zero to first answer, small model", zeros, "autoscaling from 0, without delays", **of),
    ]


def _bentoml(folder: Path, port: int) -> "subprocess.Popen[str]":
    command = ["bin/bentoml", "serve", "service:Service", "--working-dir", str(HERE / "bentoml")]
    return _peer("bentoml", command, folder, port, BENTOML_DO_NOT_TRACK="True", BENTOML_HOME=str(folder))


def _ray_process(folder: Path, port: int) -> "subprocess.Popen[str]":
    command = ["bin/python", str(HERE / "ray" / "elastic.py")]
    return _peer("ray", command, folder, port, RAY_USAGE_STATS_ENABLED="0")


def _peer(name: str, command: list[str], folder: Path, port: int, **more: str) -> "subprocess.Popen[str]":
    home = PEERS / name
    environment = {
        "HOME": os.environ.get("HOME", str(folder)), "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(SERVING / "peers"), "PYTHONDONTWRITEBYTECODE": "1", "MODELS": str(folder),
        "FOLDER": str(folder), "PORT": str(port), **more,
    }  # fmt: skip
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [str(home / command[0]), *command[1:]], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log, text=True, cwd=folder,
        )  # fmt: skip


def _await_answer(port: int, path: str, body: bytes) -> None:
    """Returns when it answers. Raises `TimeoutError`."""
    ends = time.perf_counter() + LIMIT_S
    while time.perf_counter() < ends:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass  # not there yet
        finally:
            connection.close()
        time.sleep(LOOK_S)
    raise TimeoutError(f"nothing answers at port {port} within {LIMIT_S:g} s")


def _told(process: "subprocess.Popen[str]", what: str, count: int) -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{what} {count}\n")
    process.stdin.flush()
    seconds: list[float] = json.loads(process.stdout.readline())
    return seconds


def _started(start: Start) -> float:
    with _running(start) as (_, _, seconds):
        return seconds


@contextmanager
def _running(start: Start) -> "Iterator[tuple[subprocess.Popen[str], int, float]]":
    """A peer that answers, its port, and how long that took; ended with all that it started."""
    with tempfile.TemporaryDirectory(prefix="mz-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "small.onnx").write_bytes(small_model())
        port, began = free_port(), time.perf_counter()
        process = start(Path(folder), port)
        try:
            _await_answer(port, "/small", ROWS)
            yield process, port, time.perf_counter() - began
        finally:
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            process.terminate()
            _, left = psutil.wait_procs(tree, timeout=END_TIMEOUT_S)
            for one in left:
                one.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
