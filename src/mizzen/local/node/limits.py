"""Resource limits of containers: by control groups where this process may make them, and said where it may not.

Nothing is concluded from mounts or capabilities: a group is made, a limit is set and a process is moved into it, and
what worked is used. Version 2 is tried first, then version 1, whose controllers may each work or not (some machines
mount version 1 beside an unused version 2). Without a memory controller, the `watchdog` counts what a container's
processes use and kills it (OOMKilled, a second or so late); RLIMIT_AS is no substitute, because it counts address
space, which memory-mapped models and threads reserve by the gigabyte without using it. Without a cpu controller, cpu
limits are not enforced, and the node says so.

A group's weight counts against its neighbours alone. All containers together are one group beside the rest of the
machine, such as the gateway, and would have as much as that has, were it one container that works for nobody who waits.
So those that ask for next to no processor are in a group of their own beside it, which has what nobody else wants.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CONTROLLERS = ("memory", "cpu", "pids")
BACKGROUND = ".background"
BACKGROUND_CPU = 0.002
"""Who asks for fewer cores is in the background: the smallest weight that there is stands for it."""
_PERIOD_US = 100_000
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use; `None`: as much as there is."""

    memory_bytes: int | None = None
    cpu: float | None = None
    """Cores."""
    cpu_request: float | None = None
    """Its weight when cores are scarce."""
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container uses; `None` where it is not known."""

    memory_bytes: int | None = None
    cpu_s: float | None = None


@dataclass(frozen=True, slots=True)
class Enclosure:
    """Where a container is put: files to write its process number to, and where its out-of-memory kills are counted."""

    groups: tuple[Path, ...] = ()
    oom_file: Path | None = None


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """The control groups of one node: a folder of its own in each hierarchy that works, one group for each attempt; and
    one more for the background where the processor is shared out.
    """

    version: Literal[1, 2]
    folders: Mapping[str, Path]
    """Controller -> the node's folder; with version 2 the same one for all."""

    def enforces(self, controller: str) -> bool:
        return controller in self.folders

    def enclose(self, name: str, limits: Limits) -> Enclosure:
        """Makes the group of a container. Raises `OSError` where a limit cannot be set: half a limit is none."""
        oom_file = None
        folders = self._folders_for(limits)
        for folder in set(folders.values()):
            if not folder.exists():  # the first of the background, or somebody tidied up
                self._make(folder)
            (folder / name).mkdir(exist_ok=True)
        for controller, folder in folders.items():
            for file, value in self._settings(controller, limits):
                (folder / name / file).write_text(value)
        if "memory" in folders:
            oom_file = folders["memory"] / name / ("memory.events" if self.version == 2 else "memory.oom_control")
        return Enclosure(self.members(name), oom_file)

    def members(self, name: str) -> tuple[Path, ...]:
        """The files to which a process writes its number to join a container's group."""
        return tuple(sorted(folder / name / "cgroup.procs" for folder in self.all_folders if (folder / name).is_dir()))

    @property
    def all_folders(self) -> set[Path]:
        """Whatever may be there of the node."""
        return {*self.folders.values(), *({_background_of(self.folders["cpu"])} if "cpu" in self.folders else ())}

    def _folders_for(self, limits: Limits) -> dict[str, Path]:
        """By controller. With version 2 a process is in one group for all of them."""
        folders = dict(self.folders)
        if "cpu" in folders and limits.cpu_request is not None and limits.cpu_request < BACKGROUND_CPU:
            aside = _background_of(folders["cpu"])
            moved = folders if self.version == 2 else ("cpu",)
            folders |= dict.fromkeys(moved, aside)
        return folders

    def _make(self, folder: Path) -> None:
        folder.mkdir()
        if self.version == 2:
            _delegate(folder)
        if folder.name.endswith(BACKGROUND):
            for file, value in (("cpu.weight", "1") if self.version == 2 else ("cpu.shares", "2"), ("cpu.idle", "1")):
                with contextlib.suppress(OSError):  # a kernel before 5.15 knows no idle groups: then it is the weight
                    (folder / file).write_text(value)

    def _settings(self, controller: str, limits: Limits) -> Iterator[tuple[str, str]]:
        match controller, self.version:
            case "memory", 2 if limits.memory_bytes is not None:
                yield "memory.max", str(limits.memory_bytes)
                yield "memory.oom.group", "1"
            case "memory", 1 if limits.memory_bytes is not None:
                yield "memory.limit_in_bytes", str(limits.memory_bytes)
            case "cpu", 2:
                if limits.cpu is not None:
                    yield "cpu.max", f"{max(int(limits.cpu * _PERIOD_US), 1000)} {_PERIOD_US}"
                if limits.cpu_request is not None:
                    # The mapping of Kubernetes from shares (2-262144) to weights (1-10000).
                    shares = min(max(int(limits.cpu_request * 1024), 2), 262144)
                    yield "cpu.weight", str(1 + (shares - 2) * 9999 // 262142)
            case "cpu", 1:
                if limits.cpu is not None:
                    yield "cpu.cfs_period_us", str(_PERIOD_US)
                    yield "cpu.cfs_quota_us", str(max(int(limits.cpu * _PERIOD_US), 1000))
                if limits.cpu_request is not None:
                    yield "cpu.shares", str(min(max(int(limits.cpu_request * 1024), 2), 262144))
            case "pids", _ if limits.pids is not None:
                yield "pids.max", str(limits.pids)

    def names(self) -> set[str]:
        """The groups there are."""
        found: set[str] = set()
        for folder in self.all_folders:
            with contextlib.suppress(OSError):
                found |= {path.name for path in folder.iterdir() if path.is_dir()}
        return found

    def remove_all(self) -> None:
        """Takes away the containers' groups and the node's folders."""
        for name in self.names():
            dissolve(self.members(name))
        remove_folders(self.all_folders)


def _background_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{BACKGROUND}")


def pids_in(groups: Iterable[Path]) -> set[int]:
    """The processes in a container's groups, given by their `cgroup.procs` files."""
    found: set[int] = set()
    for group in groups:
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in group.read_text().split()}
    return found


def dissolve(groups: Iterable[Path]) -> None:
    """Takes away a container's groups, which must be empty of processes."""
    for group in groups:
        with contextlib.suppress(OSError):
            group.parent.rmdir()


def remove_folders(folders: Iterable[Path]) -> None:
    """Takes away a node's folders; one that still has a container's group in it stays."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def usage_in(groups: Iterable[Path]) -> Usage:
    """What the processes in a container's groups use, by the controllers that count it."""
    memory = cpu = None
    for folder in (group.parent for group in groups):
        for name in ("memory.current", "memory.usage_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                memory = int((folder / name).read_text())
        with contextlib.suppress(OSError, ValueError):
            counts = dict(line.split(" ", 1) for line in (folder / "cpu.stat").read_text().splitlines())
            cpu = int(counts["usage_usec"]) / 1e6 if "usage_usec" in counts else cpu
    return Usage(memory, cpu)


def control_groups(owner: str) -> ControlGroups | None:
    """The control groups that work here for a node of that name; `None` where none does. Found by trying."""
    folder = _version_2(owner)
    if folder is not None:
        return ControlGroups(2, dict.fromkeys(CONTROLLERS, folder))
    works = {controller: group for controller in CONTROLLERS if (group := _version_1(owner, controller)) is not None}
    return ControlGroups(1, works) if works else None


def _version_2(owner: str) -> Path | None:
    """The first folder from our own group upwards in which a group with all controllers can be made and joined."""
    mounts = [Path(mount) for kind, mount, _ in _mounts() if kind == "cgroup2"]
    own = next((path for ids, _, path in _own_groups() if ids == "0"), None)
    if not mounts or own is None:
        return None
    start = mounts[0] / own.lstrip("/")
    for parent in (start, *start.parents):
        if not parent.is_relative_to(mounts[0]):
            break
        folder = parent / owner
        with contextlib.suppress(OSError):
            _delegate(parent)
            folder.mkdir(exist_ok=True)
            _delegate(folder)
            if _works(folder, "memory.max"):
                return folder
        with contextlib.suppress(OSError):
            folder.rmdir()
    return None


def _delegate(folder: Path) -> None:
    """Lets the groups in a folder have limits."""
    wanted = {*CONTROLLERS} - set((folder / "cgroup.subtree_control").read_text().split())
    if wanted:
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(wanted)))


def _version_1(owner: str, controller: str) -> Path | None:
    mount = next((Path(m) for kind, m, options in _mounts() if kind == "cgroup" and controller in options), None)
    own = next((path for _, names, path in _own_groups() if controller in names), "/")
    if mount is None:
        return None
    file = {"memory": "memory.limit_in_bytes", "cpu": "cpu.shares", "pids": "pids.max"}[controller]
    parents = [mount / own.lstrip("/"), mount]
    for parent in parents:
        folder = parent / owner
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
            if _works(folder, file):
                return folder
        with contextlib.suppress(OSError):
            folder.rmdir()
    return None


def _works(folder: Path, limit_file: str) -> bool:
    """Whether a group can be made in `folder`, given a limit and joined."""
    group = folder / f"probe-{os.getpid()}"
    group.mkdir()
    try:
        value = (group / limit_file).read_text().strip()
        (group / limit_file).write_text(value if value != "9223372036854771712" else "-1")
        joined = subprocess.run(
            ["/bin/sh", "-c", 'echo 0 > "$0"', str(group / "cgroup.procs")], check=False, capture_output=True
        )
        return joined.returncode == 0
    finally:
        group.rmdir()


def _mounts() -> Iterator[tuple[str, str, list[str]]]:
    """(kind, where, options) of each mount."""
    with contextlib.suppress(OSError):
        for line in (_PROC / "self" / "mounts").read_text().splitlines():
            _, where, kind, options, *_ = line.split()
            yield kind, where, options.split(",")


def _own_groups() -> Iterator[tuple[str, list[str], str]]:
    """(hierarchy, controllers, path) of each group this process is in."""
    with contextlib.suppress(OSError):
        for line in (_PROC / "self" / "cgroup").read_text().splitlines():
            hierarchy, names, path = line.split(":", 2)
            yield hierarchy, names.split(","), path
