"""Mizzen's embedded API server as a child process, for a run without `--kubeconfig`."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from .client import Server

START_S = 30.0
TICK_S = 0.02


class NotStarted(Exception):  # noqa: N818
    """The server ended, or did not become ready in time; the text is what it wrote."""


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
def child(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours from start to end; what it writes goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
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
    """Start the server in `home` on a free port and wait until it is ready. Yields the kubeconfig."""
    kubeconfig, log = home / "kubeconfig", home / "apiserver.log"
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mizzen.local.apiserver", "--home", str(home), "--port", str(free_port())]
    with ExitStack() as stack:
        process = stack.enter_context(child(command, log))
        for _ in range(int(START_S / TICK_S)):
            if _ended(process):
                raise NotStarted(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()}")
            if kubeconfig.exists() and _ready(kubeconfig):
                break
        else:
            raise NotStarted(f"{' '.join(command)} was not ready in {START_S:g} s:\n{log.read_text()}")
        yield kubeconfig
