"""The supervised processes: started, watched, started again when they end, and ended in order.

The supervisor is small so that it does not die. If it is killed all the same, what it started goes on serving; the next
supervisor of the home finds the records of those processes and ends them before it starts its own. A record names a
process by its id and the moment it started, so that a reused id is never taken for the old process.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from mizzen.local.supervisor.home import Home, write_atomically
from mizzen.local.supervisor.notify import ReadySocket

BACKOFF_S_FIRST, BACKOFF_S_MAX = 0.1, 5.0
STEADY_S = 10.0
"""A process that lived this long is started again at once when it ends."""
LOG_TAIL_LINES = 12
LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log longer than this is moved to `NAME.log.1` when the process starts."""


class StartError(Exception):
    """A process ended before it was ready; the message holds the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Part:
    """A process to keep alive: its name, its command, and how long it may take to end."""

    name: str
    command: Sequence[str]
    grace_s: float = 15.0


@dataclass(frozen=True, slots=True)
class PartState:
    """What is known of one part now."""

    name: str
    pid: int | None
    starts: int
    last_exit: int | None


class SupervisedPart:
    """Keeps one process alive until told to stop."""

    def __init__(self, part: Part, home: Home, environment: Mapping[str, str]) -> None:
        self.part = part
        self._home = home
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._starts = 0
        self._last_exit: int | None = None
        self._stopping = asyncio.Event()
        self._ready = ReadySocket()
        self._first_exit = asyncio.Event()
        self._was_ready = False

    def statistics(self) -> PartState:
        running = self._process is not None and self._process.returncode is None
        pid = self._process.pid if running and self._process is not None else None
        return PartState(self.part.name, pid, self._starts, self._last_exit)

    async def ready(self) -> None:
        """Returns when the process said that it is ready, the next time where it said so before.

        Raises `StartError` where it ended without ever having been.
        """
        if self._was_ready:
            await self._ready.heard()
            return
        heard = asyncio.ensure_future(self._ready.heard())
        ended = asyncio.ensure_future(self._first_exit.wait())
        try:
            await asyncio.wait((heard, ended), return_when=asyncio.FIRST_COMPLETED)
            self._was_ready = heard.done()
            if not self._was_ready:
                raise StartError(
                    f"{self.part.name} ended with {self._last_exit} before it was ready:\n{self._log_tail()}"
                )
        finally:
            heard.cancel()
            ended.cancel()

    def _log_tail(self) -> str:
        log = self._home.logs / f"{self.part.name}.log"
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if log.exists() else []
        return "\n".join(f"  {line}" for line in lines) or "  (it printed nothing)"

    async def run(self) -> None:
        """Starts the process, and again whenever it ends, until `stop`."""
        loop = asyncio.get_running_loop()
        delay_s = 0.0
        while not self._stopping.is_set():
            if delay_s:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay_s)
                if self._stopping.is_set():
                    return
            started = loop.time()
            process = await self._start()
            self._last_exit = await process.wait()
            self._first_exit.set()
            _forget(self._home, self.part.name)
            lived_s = loop.time() - started
            delay_s = 0.0 if lived_s > STEADY_S else min(max(delay_s * 2, BACKOFF_S_FIRST), BACKOFF_S_MAX)

    async def _start(self) -> asyncio.subprocess.Process:
        log = self._home.logs / f"{self.part.name}.log"
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self.part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**self._environment, "NOTIFY_SOCKET": str(self._ready.path)},
                start_new_session=True,
            )
        self._process = process
        self._starts += 1
        _record(self._home, self.part.name, process.pid)
        return process

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to its whole session when its grace is over."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            self._ready.close()
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.part.grace_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        self._ready.close()
        _forget(self._home, self.part.name)


def _record_path(home: Home, name: str) -> Path:
    return home.run / f"{name}.process.json"


def _record(home: Home, name: str, pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        write_atomically(_record_path(home, name), {"pid": pid, "started": psutil.Process(pid).create_time()})


def _forget(home: Home, name: str) -> None:
    _record_path(home, name).unlink(missing_ok=True)


def record_self(home: Home, name: str) -> None:
    """Writes this process's own record."""
    _record(home, name, os.getpid())


def forget_self(home: Home, name: str) -> None:
    """Takes this process's own record away."""
    _forget(home, name)


def recorded(home: Home, name: str) -> psutil.Process | None:
    """The process of that record while it lives: the same id and the same start."""
    try:
        document = json.loads(_record_path(home, name).read_bytes())
        process = psutil.Process(document["pid"])
        same = abs(process.create_time() - document["started"]) < 1.0
        alive = same and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return None
    return process if alive else None


def memory_bytes(process: psutil.Process) -> int:
    """Resident memory of a part with its own processes; Pods have sessions of their own."""
    total, session = 0, os.getsid(process.pid)
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            total += one.memory_info().rss if os.getsid(one.pid) == session else 0
    return total


def end_recorded(home: Home, names: Sequence[str], grace_s: float) -> list[str]:
    """Ends the recorded processes that still live, with all their descendants in their session; their names."""
    living = {name: process for name in names if (process := recorded(home, name)) is not None}
    for process in living.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(list(living.values()), timeout=grace_s)
    for process in stubborn:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=5)
    for name in names:
        _forget(home, name)
    return list(living)
