"""The systems: how each is started, what it can be asked, and its settings in words."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving.asking import Ask, oip_binary, oip_grpc, oip_json, raw_bytes, rows_json
from benchmarks.serving.environments import HERE, environment, versions
from benchmarks.serving.models import HEAVY, SMALL, WIDE

END_TIMEOUT_S = 10.0
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Place:
    """Where a system may be: its own folder, the models' folder, and its ports."""

    folder: Path
    models: Path
    port: int
    grpc_port: int


@dataclass(frozen=True)
class System:
    """One that is measured."""

    name: str
    settings: str
    start: Callable[[ExitStack, Place], None]
    """Starts it; the stack ends it. It is ready when it answers."""
    asks: tuple[Ask, ...]
    version: Callable[[], str]
    deadline: Callable[[Ask, float], Ask] = lambda ask, _deadline_ms: ask
    """The request with a deadline, where the system knows any."""
    start_timeout_s: float = 60.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def spawn(stack: ExitStack, command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A process whose whole tree the stack ends; its output goes to a file.

    It stays in this session, with the load and with the other processes of its system: Linux may divide processors between
    sessions (autogroups), so that who has more of them would get more.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, process_group=0, cwd=log.parent
        )

    def end() -> None:
        tree = _tree(process.pid)
        process.terminate()
        psutil.wait_procs(tree, timeout=END_TIMEOUT_S)
        for one in tree:
            if one.is_running():
                one.kill()
        process.wait()

    stack.callback(end)
    return process


def _tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _peer(name: str, *command: str, **more: str) -> Callable[[ExitStack, Place], None]:
    """Starts `peers/NAME` by a program of its environment. `{here}` is the peer's folder, `{port}` its port."""

    def start(stack: ExitStack, place: Place) -> None:
        home, here = environment(name), HERE / "peers" / name
        filled = [part.format(here=here, port=place.port, folder=place.folder) for part in command]
        inherited = {key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ}
        spawn(
            stack,
            [str(home / "bin" / filled[0]), *filled[1:]],
            {
                **inherited, "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": f"{HERE / 'peers'}:{here}",
                "PYTHONDONTWRITEBYTECODE": "1", "MODELS": str(place.models), "FOLDER": str(place.folder),
                "PORT": str(place.port), "GRPC_PORT": str(place.grpc_port),
                **{key: value.format(folder=place.folder) for key, value in more.items()},
            },
            place.folder / "log",
        )  # fmt: skip

    return start


def _triton_deadline(ask: Ask, deadline_ms: float) -> Ask:
    return oip_json({model.name: model for model in (SMALL, HEAVY)}[ask.model], timeout=round(1000 * deadline_ms))


OIP = (oip_json(SMALL), oip_json(HEAVY), oip_binary(WIDE), oip_grpc(SMALL), oip_grpc(HEAVY))
ROWS = (rows_json(SMALL), rows_json(HEAVY))
PEERS = (
    System(
        "triton",
        f"tritonserver of nvidia-pytriton with the Python backend; {CORES} instances a model, dynamic batching without "
        "delay (of one for the heavy model), queue policy that rejects what is late; no metrics",
        _peer("triton", "python", "{here}/serve.py"), OIP, lambda: versions("triton"), _triton_deadline,
    ),
    System(
        "fastapi",
        f"{CORES} uvicorn processes, uvloop, httptools, no access log; typed bodies; the model in each process, on a "
        "thread where it is slow; rows as bytes for binary",
        _peer("fastapi", "uvicorn", "server:app", "--port", "{port}", "--workers", str(CORES), "--loop", "uvloop",
              "--http", "httptools", "--no-access-log", "--log-level", "warning"),
        (oip_json(SMALL), oip_json(HEAVY), raw_bytes(WIDE, "/raw/wide")), lambda: versions("fastapi"),
    ),
    System(
        "mosec",
        f"{CORES} worker processes a model behind the Rust front, bounded queue, no batches; rows as bytes for binary",
        _peer("mosec", "python", "{here}/server.py"), (*ROWS, raw_bytes(WIDE, "/wide")), lambda: versions("mosec"),
    ),
    System(
        "mosec, batches", "the same with dynamic batches, which wait at least 1 ms",
        _peer("mosec", "python", "{here}/server.py", BATCHES="1"), ROWS[:1], lambda: versions("mosec"),
    ),
    System(
        "litserve",
        f"{CORES} API processes, {CORES} workers a model, fast queue; without batches, which gain nothing here",
        _peer("litserve", "python", "{here}/server.py"), ROWS, lambda: versions("litserve"),
    ),
    System(
        "mlserver",
        "custom runtime in the server's process, uvloop; no batching, which makes it slower here, and no parallel "
        "workers, which halve the small model's throughput here and double the heavy one's; no "
        "metrics, no access log; it has no binary tensors over HTTP",
        _peer("mlserver", "python", "{here}/serve.py"),
        tuple(ask for ask in OIP if ask.protocol != "binary"), lambda: versions("mlserver"),
    ),
    System(
        "kserve",
        f"custom predictor, {CORES} processes, HTTP and gRPC, no latency log, no access log",
        _peer("kserve", "python", "{here}/server.py"), OIP, lambda: versions("kserve"),
    ),
    System(
        "bentoml",
        f"{CORES} workers, adaptive batching for the small model, no access log, no metrics",
        _peer("bentoml", "bentoml", "serve", "service:Service", "--working-dir", "{here}", BENTOML_DO_NOT_TRACK="True",
              BENTOML_HOME="{folder}"), ROWS, lambda: versions("bentoml"),
    ),
    System(
        "ray",
        f"{CORES} replicas a model, throughput-optimized mode, no access log; without batches, which gain nothing here, and "
        "without HAProxy, which is not in its package",
        _peer("ray", "python", "{here}/server.py", RAY_SERVE_THROUGHPUT_OPTIMIZED="1", RAY_USAGE_STATS_ENABLED="0"), ROWS, lambda: versions("ray"),
        start_timeout_s=120.0,
    ),
)  # fmt: skip


def await_answer(ask: Callable[[], object], timeout_s: float) -> None:
    """Asks until it does not raise. Raises what it raised last."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            ask()
        except Exception:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)
        else:
            return


PYTHON = sys.executable
