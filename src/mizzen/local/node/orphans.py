"""Processes whose Pod nobody wants any more, and the end of all of them (`mizzen down`).

A Pod that was deleted while the node was away is run to its end like any other, from what its folder says of it. For
`kill_all` there may be no API server any more: it needs the home and nothing else.
"""

import fcntl
import json
import os
import time
from pathlib import Path

from mizzen.local.node import processes
from mizzen.local.node.attempts import Attempt
from mizzen.local.node.limits import ControlGroups, dissolve, pids_in, remove_folders
from mizzen.local.node.podfolder import PodFolder, pod_folders, pods_folder

_KEEPER_LATE_S = 12.0
"""How long after the grace a shim may take: it gives processes 10 s to die of SIGKILL."""


class NodeRunningError(Exception):
    """Another node process uses this home."""


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


def kill_all(home: Path, grace_s: float = 10.0) -> list[str]:
    """Ends every container of this home, and whatever containers left; what Pods wrote stays. Needs no API server.

    Each gets SIGTERM, and SIGKILL after the grace. Returns the names of what ended. Blocks until all are gone. Raises
    `NodeRunningError` while a node runs, which would start them again.
    """
    home = home.resolve()
    if not (home / "node").exists():
        return []
    lock = HomeLock(home)
    lock.take()
    try:
        return _end_containers(home, grace_s) + _end_leftovers(home)
    finally:
        lock.release()


def _end_containers(home: Path, grace_s: float) -> list[str]:
    alive = {
        attempt: _name(folder, attempt)
        for folder in pod_folders(home)
        for attempt in folder.attempts()
        if attempt.alive()
    }
    for attempt in alive:
        attempt.mark_taken_down()
    asked: set[Attempt] = set()
    deadline = time.monotonic() + grace_s + _KEEPER_LATE_S
    pause_s = 0.005
    while (left := [attempt for attempt in alive if attempt.alive()]) and time.monotonic() < deadline:
        for attempt in left:
            # One that is just being started cannot be asked yet.
            if attempt not in asked and attempt.running() is not None:
                attempt.request_stop(grace_s)
                asked.add(attempt)
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.2)
    return list(alive.values())


def _end_leftovers(home: Path) -> list[str]:
    """What no shim keeps any more, or keeps without ending it."""
    groups = [group for folder in pod_folders(home) for attempt in folder.attempts() for group in attempt.groups()]
    left = {process.pid: process for process in processes.marked(pods_folder(home))}
    left |= {process.pid: process for process in processes.numbered(pids_in(groups))}
    processes.kill(left.values())
    dissolve(groups)
    remove_folders(_group_folders(home))
    return [f"process {pid}" for pid in sorted(left)]


def remember_groups(home: Path, groups: ControlGroups | None) -> None:
    """Writes down where this home's control groups are: `kill_all` may be called in another place of the tree."""
    folders = [] if groups is None else sorted(str(folder) for folder in groups.all_folders)
    path = home / "node" / "groups.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(json.dumps(folders))


def _group_folders(home: Path) -> list[Path]:
    try:
        return [Path(folder) for folder in json.loads((home / "node" / "groups.json").read_text())]
    except (OSError, ValueError):
        return []


def _name(folder: PodFolder, attempt: Attempt) -> str:
    meta = (folder.load() or {}).get("metadata") or {}
    return f"container {attempt.folder.parent.name} of pod {meta.get('namespace', '?')}/{meta.get('name', folder.uid)}"
