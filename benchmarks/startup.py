"""From nothing to ready: `mizzen up` in a new home and in an old one, and from `apply` to an endpoint that answers."""

import compileall
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import mizzen

ROUNDS = 5
ENDPOINT = """
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: bench-%d}
spec: {model: "bench:1", access: anonymous}
"""


def run() -> list[dict[str, Any]]:
    """The rows."""
    from_nothing, existing, endpoint = [], [], []
    for _ in range(ROUNDS):
        with Home() as home:
            from_nothing.append(home.timed_up())
            home.mizzen("down")
            existing.append(home.timed_up())
    with Home() as home:
        home.timed_up()
        home.register("bench")
        endpoint = [_apply_to_ready(home, index) for index in range(ROUNDS)]
    return [
        _row("up from nothing", from_nothing),
        _row("up from an existing home", existing),
        _row("apply to a ready endpoint", endpoint),
    ]


def _row(what: str, seconds: list[float]) -> dict[str, Any]:
    spread = f"median of {len(seconds)}, {min(seconds):.2f} to {max(seconds):.2f}"
    return {
        "system": "mizzen",
        "version": mizzen.__version__,
        "what": what,
        "unit": "s",
        "value": statistics.median(seconds),
        "conditions": f"whole process, as a user sees it; {spread}",
    }


class Home:
    """A home of its own on free ports, ended and removed afterwards."""

    def __init__(self) -> None:
        # An installed package is compiled; a checkout that was changed since may not be.
        compileall.compile_dir(Path(mizzen.__file__).parent, quiet=1)
        self.root = Path(tempfile.mkdtemp(prefix="mzb-"))
        self.ports = [_free_port(), _free_port(), _free_port()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.mizzen("down")
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "MIZZEN_HOME": str(self.root), "KUBECONFIG": str(self.root / "kubeconfig")}

    def mizzen(self, *arguments: str, text: str | None = None, timeout_s: float = 120) -> str:
        command = [str(Path(sys.executable).with_name("mizzen")), *arguments]
        done = subprocess.run(
            command, input=text, env=self.environment, capture_output=True, text=True, check=True, timeout=timeout_s
        )
        return done.stdout

    def register(self, model: str) -> None:
        """The small model, as a new version."""
        path = self.root / "small.onnx"
        if not path.exists():
            script = Path(__file__).parent / "small_model.py"
            subprocess.run([sys.executable, str(script), str(path)], check=True, timeout=120)
        self.mizzen("models", "register", model, str(path))

    def timed_up(self) -> float:
        control, inference, grpc = map(str, self.ports)
        ports = ("--port", control, "--inference-port", inference, "--grpc-port", grpc)
        return _timed(lambda: self.mizzen("up", "-d", *ports))


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _apply_to_ready(home: Home, index: int) -> float:
    """From `mizzen apply` until an HTTP request is answered."""
    body = json.dumps({"inputs": [{"name": "X", "shape": [1, 20], "datatype": "FP32", "data": [0.0] * 20}]}).encode()

    def work() -> None:
        home.mizzen("apply", "-f", "-", text=ENDPOINT % index)
        with socket.create_connection(("127.0.0.1", home.ports[1])) as connection:
            # The gateway holds the request until a worker is ready: its answer is the moment.
            head = f"POST /v2/models/bench-{index}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            answer = connection.recv(65536)
        if b" 200 " not in answer.split(b"\r\n")[0]:
            raise RuntimeError(f"expected an answer, got {answer[:300]!r}")

    return _timed(work)
