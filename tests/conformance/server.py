"""Mizzen's embedded API server, and what runs beside it, as child processes: for a run without `--kubeconfig`."""

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from .client import Server

START_S = 30.0
TICK_S = 0.02


class NotStarted(Exception):
    """The server ended, or did not become ready in time; the text is what it wrote."""


def has_part(module: str) -> bool:
    """Whether `python -m MODULE` is there to be run."""
    return importlib.util.find_spec(f"{module}.__main__") is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended, after one tick's wait for it."""
    try:
        process.wait(TICK_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _ready(kubeconfig: Path) -> bool:
    try:
        with Server.of(kubeconfig).http(identity=True) as http:
            return http.get("/readyz").status_code == 200
    except (httpx2.TransportError, OSError):
        return False


@contextmanager
def part(module: str, log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m MODULE --OPTION VALUE` from start to end; what it writes goes to `log`."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", module, *words], stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def embedded(home: Path) -> Iterator[Path]:
    """The server in `home` on a free port, once it is ready. Yields its kubeconfig."""
    home.mkdir(parents=True, exist_ok=True)
    kubeconfig, log = home / "kubeconfig", home / "apiserver.log"
    with part("mizzen.local.apiserver", log, home=home, port=free_port()) as process:
        for _ in range(int(START_S / TICK_S)):
            if _ended(process):
                raise NotStarted(f"the API server ended with {process.returncode}:\n{log.read_text()}")
            if kubeconfig.exists() and _ready(kubeconfig):
                break
        else:
            raise NotStarted(f"the API server was not ready in {START_S:g} s:\n{log.read_text()}")
        yield kubeconfig
