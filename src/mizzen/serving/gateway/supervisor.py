"""The parent: binds the port, keeps the gateway processes alive, and ends them in good order.

Where the kernel spreads connections over sockets of one port (Linux), each process has its own, so that a few
long-lived connections do not all end up with one process; elsewhere all accept from one. The parent holds them too:
connections that wait at the socket of a process that was killed are taken by its successor. A process that dies is
replaced at once; one that dies again and again is replaced ever more slowly, up to every `RESTART_S_MAX`; one that says
that it cannot work as it is configured ends the parent too. A parent that is killed takes its processes with it: each
watches a pipe whose other end only the parent holds.
"""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec

from mizzen.serving.gateway.plan import EXIT_CONFIGURATION, Plan

log = logging.getLogger("mizzen.gateway")
BACKLOG = 1024
RESTART_S_FIRST = 0.05
RESTART_S_MAX = 5.0
STEADY_S = 10.0
"""A process that lived this long starts with a clean record."""
STOP_TIMEOUT_S = 35.0
"""Requests that were taken are answered within their time, 30 s unless an endpoint says otherwise."""


def bind(host: str, port: int, processes: int) -> list[socket.socket]:
    """A listening socket for each process; the same one where they have to share it.

    Raises `OSError` where the port is taken, by a gateway like this one too.
    """
    only = _bound(host, port, shared=False)
    if sys.platform != "linux" or processes == 1:
        only.listen(BACKLOG)
        return [only] * processes
    port = only.getsockname()[1]
    only.close()
    sockets = [_bound(host, port, shared=True) for _ in range(processes)]
    for listening in sockets:
        listening.listen(BACKLOG)
    return sockets


def reserve(host: str, port: int) -> socket.socket:
    """A socket that holds a port and takes no connections: each process listens there by itself, as gRPC's servers do.

    Raises `OSError` where the port is taken.
    """
    only = _bound(host, port, shared=False)
    port = only.getsockname()[1]
    only.close()
    return _bound(host, port, shared=True)


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


class _Slot:
    """A place for one process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.began_s = 0.0
        self.failures = 0
        self.start_at_s = 0.0


class Supervisor:
    """Keeps one process in each slot."""

    def __init__(
        self, sockets: list[socket.socket], plans: list[Plan], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sockets = sockets
        self._plans = plans
        self._slots = [_Slot(number) for number in range(len(plans))]
        self._clock = clock
        self._stopping = False
        self._status = 0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def run(self) -> int:
        """Until SIGTERM or SIGINT; returns the exit status."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            while not self._stopping:
                self._keep()
                if selector.select(self._wait_s()):
                    os.read(self._wake_read, 1024)
        return self._end()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _keep(self) -> None:
        now = self._clock()
        for slot in self._slots:
            if slot.process is not None and (status := slot.process.poll()) is not None:
                if status == EXIT_CONFIGURATION:
                    self._status = status
                    self._stop()
                    os.write(self._wake_write, b"0")  # it is not waited for anything more
                    return
                slot.failures = 0 if now - slot.began_s > STEADY_S else slot.failures + 1
                wait_s = min(RESTART_S_FIRST * 2 ** (slot.failures - 1), RESTART_S_MAX) if slot.failures > 1 else 0.0
                log.warning(
                    "process %s ended with status %s; its successor starts in %.2f s", slot.number, status, wait_s
                )
                slot.process, slot.start_at_s = None, now + wait_s
            if slot.process is None and slot.start_at_s <= now:
                plan = self._plans[slot.number]
                slot.process = subprocess.Popen(
                    [sys.executable, "-m", "mizzen.serving.gateway.process", msgspec.json.encode(plan).decode()],
                    pass_fds=(plan.listen_fd, plan.parent_fd),
                )
                slot.began_s = now

    def _wait_s(self) -> float | None:
        starts = [slot.start_at_s for slot in self._slots if slot.process is None]
        return max(0.0, min(starts) - self._clock()) if starts else None

    def _end(self) -> int:
        """Asks all to end, and after a time makes them. The port is closed first: who comes now is refused at once."""
        for listening in self._sockets:
            listening.close()
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for process in processes:
            process.terminate()
        deadline_s = self._clock() + STOP_TIMEOUT_S
        clean = True
        for process in processes:
            try:
                process.wait(max(0.0, deadline_s - self._clock()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                clean = False
        return self._status if clean else 1
