"""Real containers for tests: an attempt's folder, a shim and a command."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from mizzen.local.node import logs, moments, processes
from mizzen.local.node.attempts import Attempt, Launch, Running, end_of_file, wait_until_ended
from mizzen.local.node.logs import LogOptions
from mizzen.local.node.podstate import Exit

LIMIT_S = 30.0
"""Longer than anything here takes; a test that waits for it has failed."""


@dataclass
class Started:
    """A container that was started."""

    attempt: Attempt
    shim: int

    def running(self) -> Running:
        found = self.attempt.running()
        assert found is not None, (self.attempt.folder / "exit").read_text()
        return found

    async def end(self) -> Exit:
        async with asyncio.timeout(LIMIT_S):
            await wait_until_ended(self.attempt, self.shim)
        return self.attempt.exit(moments.now)

    async def text(self) -> str:
        """Its whole log, when it has ended."""
        return (await read_log(self.attempt)).decode(errors="replace")


async def read_log(attempt: Attempt) -> bytes:
    return b"".join([piece async for piece in logs.read(attempt.folder, LogOptions(), attempt.alive)])


async def start(folder: Path, *command: str, number: int = 0, environment: dict[str, str] | None = None, **options):
    """Starts a command as the node does, marked with its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    attempt = Attempt(folder / "containers" / "main" / str(number))
    attempt.create(0.0, moments.now())
    marked = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        processes.ROOTFS_VARIABLE: str(folder),
        **(environment or {}),
    }
    shim, ready = attempt.launch(Launch(command, marked, options.pop("cwd", folder), **options))
    await end_of_file(ready)
    return Started(attempt, shim)


async def python(folder: Path, code: str, *arguments: str, **options) -> Started:
    return await start(folder, sys.executable, "-c", code, *arguments, **options)


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Returns when the condition holds; fails where it does not in a long time."""
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what or condition
        await asyncio.to_thread(_PAUSE.wait, 0.01)


class _Never:
    def wait(self, timeout_s: float) -> None:
        """A pause between two looks at something that cannot tell us."""
        import threading

        threading.Event().wait(timeout_s)


_PAUSE = _Never()


def living(pids: list[int]) -> list[int]:
    """Those that are processes still (a zombie is not)."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found
