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


@dataclass(frozen=True, slots=True)
class NodeFact:
    """One thing that holds on this machine, or does not."""

    name: str
    enforced: bool
    found: str
    advice: str = ""
    """What to do about it; empty where nothing is to be done."""


def node_facts() -> list[NodeFact]:
    """What this machine holds of what Pods ask for: for `mizzen doctor`. Tries it, and leaves nothing behind."""
    held = Enforcement(control_groups(f"mizzen-doctor-{os.getpid()}"), os.getuid() == 0)
    if held.groups is not None:
        held.groups.remove_all()
    linux = sys.platform == "linux"
    how = "" if held.groups is None else f"control groups version {held.groups.version}"
    return [
        _limit(held, "memory", how, "a watchdog looks once a second and kills what uses too much"),
        _limit(held, "cpu", how, "not enforced: Pods share the cores as the system sees fit"),
        _limit(held, "pids", how, "not enforced: a Pod may start as many processes as this user may"),
        NodeFact(
            "orphans",
            linux,
            "what a container starts ends with it" if linux else "a container's process group ends with it",
            "" if linux else "What leaves its process group is found by its environment when the Pod ends.",
        ),
        NodeFact(
            "rights",
            not held.root,
            "Pods run as root" if held.root else "Pods run as this user",
            "Run Mizzen as a user of its own: a Pod may do whatever the node may." if held.root else "",
        ),
    ]


def _limit(held: Enforcement, controller: str, how: str, otherwise: str) -> NodeFact:
    enforced = held.groups is not None and held.groups.enforces(controller)
    advice = f"Let this user make control groups with the {controller} controller (systemd: Delegate=yes)."
    return NodeFact(f"{controller} limits", enforced, how if enforced else otherwise, "" if enforced else advice)
