"""Finding and ending what a container left behind when its shim was killed: by mark, not by number.

Every process of a container has `MIZZEN_ROOTFS=<the container's folder>` in its environment, inherited by all that it
starts. A process number may be somebody else's tomorrow; the folder's name holds the Pod's uid and never is. (What
clears its environment as well is found by its control group, where there are control groups.)
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

ROOTFS_VARIABLE = "MIZZEN_ROOTFS"


def marked(folder: Path) -> Iterator[psutil.Process]:
    """The processes whose container's folder is `folder` or lies in it. Other users' are not seen."""
    prefix = str(folder)
    own = psutil.Process().pid
    for process in psutil.process_iter():
        try:
            mark = process.environ().get(ROOTFS_VARIABLE, "")
        except (psutil.Error, OSError):
            continue  # gone meanwhile, another user's, or the kernel's
        if (mark == prefix or mark.startswith(prefix + "/")) and process.pid != own:
            yield process


def numbered(pids: Iterable[int]) -> Iterator[psutil.Process]:
    """The processes of a control group."""
    for pid in pids:
        try:
            yield psutil.Process(pid)
        except psutil.Error:
            continue


def kill(processes: Iterable[psutil.Process], limit_s: float = 5.0) -> int:
    """SIGKILL to each, and waits until they are gone. Returns how many there were."""
    found = list(processes)
    for process in found:
        try:
            process.kill()
        except psutil.Error:
            continue  # gone meanwhile; psutil refuses to signal a number that was reused
    psutil.wait_procs(found, timeout=limit_s)
    return len(found)


def memory_bytes(root: int) -> int:
    """Memory of a process and all its descendants: what they share with each other is counted once, where known."""
    try:
        top = psutil.Process(root)
        tree = [top, *top.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_own_bytes(process) for process in tree)


def _own_bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", 0) or full.uss)
    except (psutil.Error, OSError):
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
