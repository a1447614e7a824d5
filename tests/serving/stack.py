"""Real gateway and worker processes on this machine, for tests: started, told what to serve by a file, and ended."""

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import psutil

from mizzen.serving.gateway.directory import ApiKey, Endpoint, TcpAddress, UnixAddress, Version, View, Worker
from mizzen.serving.gateway.file import Contents

PATIENCE_S = 30.0


def eventually(holds: Callable[[], object], what: str) -> Any:
    """Asks again until it holds; what other processes do is not told to this one."""
    deadline_s = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S} s: {what}"
        pause.wait(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Process:
    """A child with its output."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.output: list[str] = []
        self.inner = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments], env={**os.environ, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._lines = threading.Condition()
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        assert self.inner.stdout is not None
        for line in self.inner.stdout:
            with self._lines:
                self.output.append(line.rstrip())
                self._lines.notify_all()
        self.inner.stdout.close()

    def line_with(self, text: str) -> str:
        """The first line of output with that text, waited for."""
        with self._lines:
            assert self._lines.wait_for(lambda: any(text in line for line in self.output), PATIENCE_S), self.output
            return next(line for line in self.output if text in line)

    def kill(self) -> None:
        self.inner.kill()
        self.inner.wait()

    def end(self) -> int:
        """As a kubelet would: asked first."""
        self.inner.terminate()
        return self.inner.wait(PATIENCE_S)


class WorkerProcess(Process):
    """A worker, and how the directory describes it."""

    def __init__(self, stack: "Stack", described: Worker, task: dict, environment: dict[str, str], module: str) -> None:
        self.described = described
        self.health_port = int(environment["MIZZEN_PORT_HEALTH"])
        super().__init__(
            ["-m", module],
            {"MIZZEN_TASK": json.dumps(task), "MIZZEN_ROOTFS": str(stack.root / described.uid), **environment},
        )

    def health(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def metric(self, name: str) -> float:
        _, text = self.health("/metrics")
        return float(next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name + "{")))


class Answer:
    """What a client got."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def values(self) -> list:
        assert self.status == 200, (self.status, self.body)
        return self.json["outputs"][0]["data"]

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:200]!r}>"


class Client:
    """One HTTP connection, kept alive."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def infer(self, rows: list[list[float]], endpoint: str = "m", **headers: str) -> Answer:
        return self.ask("POST", f"/v2/models/{endpoint}/infer", request_body(rows), _named(headers))

    def infer_binary(self, rows: list[list[float]], endpoint: str = "m") -> list[float]:
        flat = [value for row in rows for value in row]
        shape, data = [len(rows), len(rows[0])], struct.pack(f"<{len(flat)}f", *flat)
        head = json.dumps(
            {
                "inputs": [{"name": "x", "shape": shape, "datatype": "FP32",
                            "parameters": {"binary_data_size": len(data)}}],
                "parameters": {"binary_data_output": True},
            }
        ).encode()  # fmt: skip
        answer = self.ask(
            "POST", f"/v2/models/{endpoint}/infer", head + data, {"Inference-Header-Content-Length": str(len(head))}
        )
        assert answer.status == 200, answer
        size = int(answer.headers["inference-header-content-length"])
        return list(struct.unpack(f"<{len(flat)}f", answer.body[size:]))


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def request_body(rows: list[list[float]], datatype: str = "FP32") -> bytes:
    flat = [value for row in rows for value in row]
    shape = [len(rows), len(rows[0])]
    return json.dumps({"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": flat}]}).encode()


class Stack:
    """A store, workers, a directory file and a gateway."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mz-"))
        self.directory = self.root / "directory.json"
        self.endpoints: dict[str, Endpoint] = {}
        self.workers: dict[str, WorkerProcess] = {}
        self.keys: dict[str, ApiKey] = {}
        self.views: list[View] = []
        self.processes: list[Process] = []
        self.port = 0
        self.grpc = ""
        """`HOST:PORT`, where it is on."""
        self.gateway: Process | None = None
        self._count = 0
        self.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.gateway is not None and self.gateway.inner.poll() is None:
            assert self.gateway.end() == 0, self.gateway.output[-5:]
        for process in self.processes:
            if process.inner.poll() is None:
                process.inner.kill()
                process.inner.wait()
        shutil.rmtree(self.root)

    def put(self, model: bytes, example: bytes | None = None) -> str:
        """Into the store; returns the digest."""
        digest = hashlib.sha256(model).hexdigest()
        folder = self.root / "store" / "models" / "sha256"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{digest}.onnx").write_bytes(model)
        if example is not None:
            (folder / f"{digest}.example.json").write_bytes(example)
        return f"sha256:{digest}"

    def serve(self, digest: str, name: str = "m", version: int = 1, **more) -> None:
        """Declares the endpoint with all traffic on that version."""
        made = Endpoint("default", name, more.pop("anonymous", True), versions=(Version("m", version, digest),), **more)
        self.endpoints[name] = made
        self.tell()

    def worker(
        self,
        digest: str,
        name: str = "m",
        version: int = 1,
        *,
        tcp: bool = False,
        told: bool = True,
        environment: dict[str, str] | None = None,
        module: str = "mizzen.serving.worker",
        **task,
    ) -> WorkerProcess:
        """Starts a worker. The gateway is told at once, and connects when it can."""
        self._count += 1
        uid = f"w{self._count}"
        environment = {
            "MIZZEN_PORT_HEALTH": str(free_port()), "MIZZEN_HEALTH_HOST": "127.0.0.1",
            "MIZZEN_CACHE_DIR": str(self.root / "cache"), **(environment or {}),
        }  # fmt: skip
        if tcp:
            port = free_port()
            environment["MIZZEN_PORT_FRAMES"] = str(port)
            address: TcpAddress | UnixAddress = TcpAddress("127.0.0.1", port)
        else:
            environment["MIZZEN_RUN_DIR"] = str(self.root / uid)
            address = UnixAddress(self.root / uid / "worker.sock")
        described = Worker(uid, "default", name, digest.removeprefix("sha256:")[:16], address)
        wanted = {
            "storeUrl": f"file://{self.root}/store", "model": "m", "version": version, "digest": digest,
            "namespace": "default", "endpoint": name, "threads": 1, **task,
        }  # fmt: skip
        process = WorkerProcess(self, described, wanted, environment, module)
        self.processes.append(process)
        if told:
            self.workers[uid] = process
            self.tell()
        return process

    def forget(self, worker: WorkerProcess) -> None:
        """The gateway is told that the worker is to be used no more."""
        del self.workers[worker.described.uid]
        self.tell()

    def tell(self) -> None:
        """Writes the directory."""
        contents = Contents(
            list(self.endpoints.values()),
            [worker.described for worker in self.workers.values()],
            self.keys,
            self.views,
        )
        partial = self.directory.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(contents, enc_hook=str))
        partial.replace(self.directory)

    def start_gateway(
        self, processes: int = 1, *arguments: str, port: int = 0, environment: dict[str, str] | None = None
    ) -> Process:
        self.gateway = Process(
            ["-m", "mizzen.serving.gateway", "--directory", str(self.directory), "--port", str(port),
             "--grpc-port", "0", "--processes", str(processes), *arguments],
            environment or {},
        )  # fmt: skip
        self.processes.append(self.gateway)
        self.port = int(self.gateway.line_with("listening on").rsplit(":", 1)[1])
        self.grpc = next((line.split(" at ")[1] for line in self.gateway.output if line.startswith("gRPC at")), "")
        return self.gateway

    def children(self) -> list[int]:
        """The gateway's processes."""
        assert self.gateway is not None
        return [child.pid for child in psutil.Process(self.gateway.inner.pid).children()]

    def client(self) -> Client:
        return Client(self.port)

    def metrics(self) -> dict[str, float]:
        with self.client() as client:
            text = client.ask("GET", "/metrics").body.decode()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def outcomes(self, endpoint: str = "m") -> dict[str, int]:
        start = f'mizzen_gateway_requests_total{{namespace="default",endpoint="{endpoint}",outcome="'
        return {k.removeprefix(start).rstrip('"}'): int(v) for k, v in self.metrics().items() if k.startswith(start)}


class Load:
    """Clients on threads that ask without pause, and note what they were answered."""

    def __init__(self, stack: Stack, clients: int = 4, *, retries: bool = False) -> None:
        self.answers: list[Answer] = []
        self.wrong: list[tuple[float, Answer]] = []
        self.broken = 0
        self._stack, self._retries = stack, retries
        self._stop = threading.Event()
        self._noted = threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def after(self, count: int) -> None:
        """Waits until so many more answers have come."""
        with self._noted:
            wanted = len(self.answers) + count
            assert self._noted.wait_for(lambda: len(self.answers) >= wanted, PATIENCE_S), self.answers[-3:]

    def _run(self, number: int) -> None:
        client, value = self._stack.client(), number * 100_000.0
        while not self._stop.is_set():
            value += 1.0
            try:
                answer = client.infer([[value, value + 0.5]])
            except (ConnectionError, http.client.HTTPException):
                client.connection.close()
                if not self._retries:
                    raise
                self.broken += 1
                value -= 1.0
                continue
            with self._noted:
                self.answers.append(answer)
                if answer.status != 200 or answer.values != [2 * value, 2 * (value + 0.5)]:
                    self.wrong.append((value, answer))
                self._noted.notify_all()
        client.connection.close()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
