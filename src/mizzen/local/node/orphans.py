"""Processes whose Pod nobody wants any more, and the end of all of them (`mizzen down`).

A Pod that was deleted while the node was away is run to its end like any other, from what its folder says of it. For
`kill_all` there may be no API server any more: it needs the home and nothing else.
"""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

from mizzen.local.node import processes
from mizzen.local.node.limits import control_groups
from mizzen.local.node.machine import owner_of
from mizzen.local.node.podfolder import pod_folders, pods_folder

_KEEPER_LATE_S = 12.0
"""How long after the grace a shim may take: it gives processes 10 s to die of SIGKILL."""


class NodeRunningError(Exception):
    """Another node process uses this home."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What `kill_all` found."""

    containers: int
    """That ran."""
    leftovers: int
    """Processes that no shim kept any more."""


class HomeLock:
    """One node per home: held as long as the process lives."""

    def __init__(self, home: Path) -> None:
        self.path = home / "node" / "lock"
        self._descriptor = -1

    def take(self) -> None:
        """Raises `NodeRunningError`."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise NodeRunningError(f"{self.path}: another node process runs with this home") from error
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def kill_all(home: Path, grace_s: float = 10.0) -> Killed:
    """Ends every container of this home, and whatever containers left; what Pods wrote stays. Needs no API server.

    Each gets SIGTERM, and SIGKILL after the grace. Raises `NodeRunningError` while a node runs, which would start
    them again. Blocks until all are gone.
    """
    home = home.resolve()
    lock = HomeLock(home)
    lock.take()
    try:
        return _kill_all(home, grace_s)
    finally:
        lock.release()


def _kill_all(home: Path, grace_s: float) -> Killed:
    attempts = [attempt for folder in pod_folders(home) for attempt in folder.attempts() if attempt.alive()]
    for attempt in attempts:
        attempt.request_stop(grace_s)
    deadline = time.monotonic() + grace_s + _KEEPER_LATE_S
    pause_s = 0.01
    while any(attempt.alive() for attempt in attempts) and time.monotonic() < deadline:
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.2)
        for attempt in attempts:
            if pause_s >= 0.2 and attempt.running() is not None and not (attempt.folder / "stop").exists():
                attempt.request_stop(grace_s)  # it was just being started when we asked
    leftovers = processes.kill(processes.marked(pods_folder(home)))
    groups = control_groups(owner_of(home))
    if groups is not None:
        for name in groups.names():
            leftovers += processes.kill(processes.numbered(groups.pids(name)))
        groups.remove_all()
    return Killed(len(attempts), leftovers)
