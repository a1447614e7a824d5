"""What containers of the zygote's tests run; `WHAT` in their environment says what it is."""

import ctypes
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def _facts() -> int:
    """How the process finds itself, on standard output."""
    own = os.getpid()
    found = {
        "pid": own,
        "parent": os.getppid(),
        "session": os.getsid(0),
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "descriptors": sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())[:-1],
        "random": random.random(),
    }
    print(json.dumps(found))
    print("and this", file=sys.stderr)
    return 3


def _raise() -> int:
    raise ValueError("told in the log")


def _exit() -> int:
    sys.exit("last words")


def _crash() -> int:
    return ctypes.string_at(0)[0]


def _wait() -> int:
    print(os.getpid(), flush=True)
    signal.pause()
    return 0


def _leave_a_child() -> int:
    """A child in a session of its own, which nothing but the keeper knows of."""
    child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    print(child.pid, flush=True)
    return 0


_ALL: dict[str, Callable[[], int]] = {
    "facts": _facts, "raise": _raise, "exit": _exit, "crash": _crash, "wait": _wait, "child": _leave_a_child,
}  # fmt: skip


def main() -> int:
    return _ALL[os.environ["WHAT"]]()
