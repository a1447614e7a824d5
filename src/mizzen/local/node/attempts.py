"""One attempt at running a container: its folder, its shim, and what the files say about it.

    pods/<uid>/containers/<name>/<attempt>/
        start     by the node, before anything runs: when, in which boot, with which back-off, in which control groups
        lock      held by the shim as long as it lives
        running   by the shim, when the command runs     exit   by the shim, when it has ended
        stop      by the node: the grace, in seconds     oom    by the node's watchdog: killed for memory
        down      by `kill_all`, or after a reboot: it did not end of itself
        log.N     by the shim: what the command wrote

The folder is made before the shim, so that an attempt which may have been begun is never begun again; the lock is taken
before the shim is started and handed over to it, so that there is no moment at which a living shim is not seen.
"""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mizzen.local.node import moments
from mizzen.local.node.moments import Clock, Moment
from mizzen.local.node.podstate import Exit

Spawn = Callable[[Path, Sequence[str], Mapping[str, str], int, int], int]
"""(the attempt's folder, the shim's arguments, the environment, the lock, what to close when it runs) -> the pid."""
SHIM_ERRORS = "shim.err"
SHIM = Path(__file__).with_name("shim.py")
LOST = 137
"""The exit code where none was written down: as after SIGKILL."""
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run, and within which bounds."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    """The working folder."""
    grace_s: float = 30.0
    log_bytes_max: int = 10 * 2**20
    """Of one log file."""
    log_files_max: int = 5
    groups: tuple[Path, ...] = ()
    """`cgroup.procs` of the control groups to join."""
    oom_file: Path | None = None
    oom_score: int | None = None
    no_new_privileges: bool = False

    def options(self) -> Iterator[str]:
        """What joins the groups and sets the limits: for the shim, and for a probe's command."""
        yield f"cwd={self.folder}"
        yield from (f"cgroup={path}" for path in self.groups)
        if self.oom_score is not None:
            yield f"oom_score={self.oom_score}"
        if self.no_new_privileges:
            yield "no_new_privileges="

    def beside(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """The command line that runs another command in the same bounds: an exec probe, a hook."""
        return (*_PYTHON, str(SHIM), "-", *self.options(), "--", *command)


@dataclass(frozen=True, slots=True)
class Running:
    """The shim's word that the command runs."""

    shim: int
    pid: int
    started: Moment


_PYTHON = (os.path.realpath(sys.executable), "-I", "-S")
"""The real interpreter: through a virtual environment's link it would look for the environment first."""


class Attempt:
    """One attempt's folder. Makes and reads it; holds nothing open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = int(folder.name)

    def __repr__(self) -> str:
        return f"Attempt({self.folder.parent.name}/{self.number})"

    # -- starting

    def create(self, delay_s: float, now: Moment, groups: tuple[Path, ...] = ()) -> None:
        """Raises `FileExistsError` where this attempt was made before."""
        self.folder.mkdir(parents=True)
        record = {
            "wall": now.wall, "steady": now.steady, "boot": moments.boot_id(), "delay_s": delay_s,
            "groups": [str(group) for group in groups],
        }  # fmt: skip
        self._write("start", json.dumps(record))

    def launch(self, launch: Launch, spawn: Spawn | None = None) -> tuple[int, int]:
        """Starts the shim. Returns (its pid, a descriptor that ends when `running` or `exit` is there to be read)."""
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        ready, readying = os.pipe()
        pid = 0
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            arguments = [
                f"grace={launch.grace_s}", f"log_bytes={launch.log_bytes_max}", f"log_files={launch.log_files_max}",
                *([f"oom={launch.oom_file}"] if launch.oom_file is not None else []),
                *launch.options(), "--", *launch.command,
            ]  # fmt: skip
            pid = (spawn or spawned)(self.folder, arguments, launch.environment, lock, readying)
        finally:
            os.close(lock)
            os.close(readying)
            if pid == 0:
                os.close(ready)
        return pid, ready

    # -- looking

    def alive(self) -> bool:
        """Whether the shim lives."""
        try:
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return True
            raise
        finally:
            os.close(lock)
        return False

    def begun(self) -> bool:
        """Whether the shim was ever started: if not, the node crashed before it, and the attempt may be made again."""
        return self.alive() or (self.folder / SHIM_ERRORS).exists()

    def running(self) -> Running | None:
        """What the shim said when the command ran; `None` before that, and where it never did."""
        record = self._read("running")
        if record is None:
            return None
        return Running(int(record["shim"]), int(record["pid"]), _moment(record, "started"))

    def delay_s(self) -> float:
        """The back-off this attempt brings at its end."""
        return float(self._start().get("delay_s", 0.0))

    def groups(self) -> tuple[Path, ...]:
        """The `cgroup.procs` files of its control groups. The next node may be in another place of the tree."""
        return tuple(Path(group) for group in self._start().get("groups") or ())

    def exit(self, clock: Clock) -> Exit:
        """How it ended, once the shim is gone. Where the shim was killed, that is what is said, and written down."""
        record = self._read("exit")
        present = clock()
        if record is None:
            return self._lost(present)
        code = int(record["code"])
        reason = "Completed" if code == 0 else "Error"
        if record["start_error"] == "1":
            reason = "StartError"
        elif record["oom"] == "1":
            reason = "OOMKilled"
        boot = str(self._start().get("boot", ""))
        return Exit(
            self.number, code, int(record["signal"]), reason, record["error"],
            moments.recall(_moment(record, "started"), boot, present),
            moments.recall(_moment(record, "finished"), boot, present),
        )  # fmt: skip

    def _lost(self, present: Moment) -> Exit:
        start = self._start()
        began = Moment(float(start.get("wall", present.wall)), float(start.get("steady", present.steady)))
        began = moments.recall(began, str(start.get("boot", "")), present)
        out_of_memory = (self.folder / "oom").exists()
        message = "the container's keeper was killed, or the machine went down: the true exit code is not known"
        reason = "OOMKilled" if out_of_memory else "Error"
        with contextlib.suppress(OSError):
            values = {
                "code": LOST, "signal": 9, "oom": int(out_of_memory), "error": message, "start_error": 0,
                "started": began.wall, "started_steady": began.steady,
                "finished": present.wall, "finished_steady": present.steady,
            }  # fmt: skip
            if start.get("boot") != moments.boot_id():
                self.mark_taken_down()
            self._write("start", json.dumps({**start, "boot": moments.boot_id()}))
            self._write("exit", "".join(f"{key}={value}\n" for key, value in values.items()))
        return Exit(self.number, LOST, 9, reason, message, began, present)

    def shim_error(self) -> str:
        """What the shim itself had to say: nothing, unless it failed."""
        try:
            return (self.folder / SHIM_ERRORS).read_text(errors="replace").strip()[-2000:]
        except OSError:
            return ""

    # -- ending

    def request_stop(self, grace_s: float) -> None:
        """Asks the shim to end the container within the grace; asking again with less shortens it."""
        running = self.running()
        if running is None:
            return
        self._write("stop", str(grace_s))
        with contextlib.suppress(ProcessLookupError):
            if not hasattr(os, "pidfd_open"):
                if self.alive():
                    os.kill(running.shim, signal.SIGTERM)
                return
            descriptor = os.pidfd_open(running.shim)
            try:
                if self.alive():  # so the descriptor is the shim's, and not of a process that got its number
                    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            finally:
                os.close(descriptor)

    def mark_out_of_memory(self) -> None:
        self._write("oom", "")

    def mark_taken_down(self) -> None:
        self._write("down", "")

    @property
    def was_taken_down(self) -> bool:
        """Whether it ended because all did: that is no crash, and nothing to back off from."""
        return (self.folder / "down").exists()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- files

    def _start(self) -> dict[str, Any]:
        try:
            start: dict[str, Any] = json.loads((self.folder / "start").read_text())
        except (OSError, ValueError):
            return {}
        return start

    def _read(self, name: str) -> dict[str, str] | None:
        try:
            lines = (self.folder / name).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return None
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / f"{name}.part"
        path.write_text(text)
        path.replace(self.folder / name)


def spawned(folder: Path, arguments: Sequence[str], environment: Mapping[str, str], lock: int, readying: int) -> int:
    """Starts a shim as a program of its own. Returns its pid."""
    # The descriptors get numbers of their own in the new process only: nothing else that is started at the same time
    # can inherit the lock.
    theirs = [number for number in range(3, 8) if number not in {lock, readying}]
    return os.posix_spawn(
        _PYTHON[0],
        [*_PYTHON, str(SHIM), str(folder), f"lock={theirs[0]}", f"ready={theirs[1]}", *arguments],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / SHIM_ERRORS), os.O_WRONLY | os.O_CREAT, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, lock, theirs[0]),
            (os.POSIX_SPAWN_DUP2, readying, theirs[1]),
        ],
    )


def _moment(record: Mapping[str, str], key: str) -> Moment:
    return Moment(float(record[key]), float(record[f"{key}_steady"]))


def attempts(container: Path) -> list[Attempt]:
    """The attempts of a container that are still known, oldest first."""
    try:
        found = [Attempt(path) for path in container.iterdir() if path.name.isdecimal()]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda attempt: attempt.number)


async def end_of_file(descriptor: int) -> None:
    """Returns when the other side of a pipe has been closed; closes this one."""
    await _readable(descriptor)


async def wait_until_ended(attempt: Attempt, pid: int | None = None) -> None:
    """Returns when the shim has gone. `pid` is the shim's, where it is a child of this process or wrote `running`."""
    while pid is None and attempt.alive():
        running = attempt.running()
        pid = None if running is None else running.shim
        if pid is None:
            await asyncio.sleep(_POLL_S)  # between the start of the shim and its first word, after a crash of the node
    if pid is not None and hasattr(os, "pidfd_open"):
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            if attempt.alive():
                await _readable(descriptor)
            else:
                os.close(descriptor)
    while attempt.alive():  # noqa: ASYNC110 - where there is no pidfd, nothing tells us
        await asyncio.sleep(_POLL_S)
    if pid is not None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - does not wait


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_reader(descriptor, wake)
    try:
        await future
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
