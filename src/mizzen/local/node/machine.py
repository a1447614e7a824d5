"""What this machine is and has: for the Node object, for `mizzen doctor`, for what Pods may ask. Found by looking."""

import hashlib
import os
import platform
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from mizzen.local.node.limits import CONTROLLERS, ControlGroups, control_groups
from mizzen.local.node.moments import boot_id
from mizzen.version import __version__

PODS_MAX = 110
"""The kubelet's default."""
KUBERNETES_VERSION = "v1.36.0"
"""The version of the node's part of the API: what `kubectl get nodes` shows, with ours behind it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine as the API server is told about it."""

    cores: int
    memory_bytes: int
    disk_bytes: int
    architecture: str
    """As Go names it: amd64, arm64."""
    system: str
    """linux or darwin."""
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str
    python: str


def look(home: Path) -> Machine:
    """The machine as it is now."""
    return Machine(
        cores=_cores(),
        memory_bytes=psutil.virtual_memory().total,
        disk_bytes=shutil.disk_usage(home).total,
        architecture={"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        system=sys.platform,
        kernel=platform.release(),
        os_image=_os_image(),
        machine_id=_machine_id(),
        boot_id=boot_id(),
        python=f"Python {platform.python_version()}",
    )


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return f"{platform.system()} {platform.mac_ver()[0]}".strip()


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip() or _named_id()
    except OSError:
        return _named_id()


def _named_id() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:32]


def node_version() -> str:
    """What stands as `kubeletVersion`: a version of Kubernetes, so that whoever compares versions can."""
    return f"{KUBERNETES_VERSION}+mizzen-{__version__}"


def owner_of(home: Path) -> str:
    """What this home's control groups are called: a name that no other home's have."""
    return f"mizzen-{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:10]}"


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What is held here of what a Pod asks for, and by what."""

    groups: ControlGroups | None
    root: bool

    @property
    def enforced(self) -> frozenset[str]:
        """Resource limits that are held, and `runAsNonRoot` where that is true anyway."""
        found = {"memory"}  # by the watchdog, where there is no control group
        found |= {name for name in CONTROLLERS if self.groups is not None and self.groups.enforces(name)}
        return frozenset(found | (set() if self.root else {"runAsNonRoot"}))

    def sentence(self) -> str:
        """What is enforced, for a condition of the Node and for `mizzen doctor`."""
        if self.groups is None:
            memory = "memory limits are enforced by a watchdog that looks once a second"
            return f"no control groups can be made here: {memory}; cpu limits are not enforced"
        held = [name for name in CONTROLLERS if self.groups.enforces(name)]
        missing = [name for name in ("memory", "cpu") if name not in held]
        text = f"{', '.join(held)} by control groups version {self.groups.version}"
        if "memory" in missing:
            text += "; memory by a watchdog that looks once a second"
        return text + ("; cpu limits are not enforced" if "cpu" in missing else "")


def enforcement(home: Path) -> Enforcement:
    """What can be enforced for the node of this home: found by trying."""
    return Enforcement(control_groups(owner_of(home)), os.getuid() == 0)


def node_facts(home: Path) -> dict[str, str]:
    """What holds on this machine, in words: for `mizzen doctor`. Leaves nothing behind."""
    home.mkdir(parents=True, exist_ok=True)
    machine, held = look(home), enforcement(home)
    in_use = held.groups is not None and bool(held.groups.names())
    if held.groups is not None and not in_use:
        held.groups.remove_all()
    linux = machine.system == "linux"
    memory_gib = machine.memory_bytes / 2**30
    return {
        "machine": f"{machine.cores} cores, {memory_gib:.1f} GiB, {machine.os_image}, {machine.python}",
        "limits": held.sentence(),
        "grandchildren": "killed with their container (subreaper)"
        if linux
        else "killed as a process group, or by mark",
        "keeper killed": "the container dies with it (parent-death signal)"
        if linux
        else "found and killed by the node",
        "user": "root: Pods run as root" if held.root else "Pods run as this user",
    }
