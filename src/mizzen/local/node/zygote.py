"""`python -m mizzen.local.node.zygote MODULE DESCRIPTOR`: has imported a module, and forks containers that run it.

    node ──request, lock, ready──► zygote ──fork──► keeper (`shim.run`) ──fork──► MODULE's main()

Starting Python and importing what a worker needs is most of a worker's start; a fork has both. What is forked is the
keeper, which then forks the container's own process: so a container is a process under a keeper of its own, in control
groups of its own, with the Pod's environment and folder, as if it had been executed; only its memory begins as a copy
that is shared until it is written to. It can crash alone, and the zygote, which runs nobody's code, lives on.

What is forked must be fit for it: a zygote with a second thread says so and ends, and containers start as ever. Its end
is the end of its channel: it never outlives its node, and what it forked outlives both.

Linux alone: elsewhere system libraries do not bear a fork without an `exec`.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mizzen.local.node import shim
from mizzen.local.node.processes import ROOTFS_VARIABLE

REQUEST_BYTES_MAX = 1 << 17
READY = b"ready"
ROOM_VARIABLE = "MIZZEN_ROOM"
"""Room in the zygote's first environment, in which a container writes its own for `ps` and the node to see."""


def main(module: str, descriptor: int) -> int:
    """Until the node closes the channel. Returns 1 where the process is not fit for forking."""
    entry: Callable[[], int] = importlib.import_module(f"{module}.__main__").main
    gc.collect()
    gc.freeze()  # what is there now is never collected, so a collection does not write to the pages that are shared
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        # Not by `logging`: how that is set up is the containers' own business.
        print(f"zygote: {module} cannot be forked: importing it started {threads - 1} threads", file=sys.stderr)
        return 1
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets keepers that have ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the end is the channel's
    channel = socket.socket(fileno=descriptor)
    channel.send(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, REQUEST_BYTES_MAX, 2)
        if not message:
            return 0
        pid = os.fork()
        if pid == 0:
            _keep(channel, json.loads(message), descriptors, entry)
        for one in descriptors:
            os.close(one)
        channel.send(str(pid).encode())


def _keep(channel: socket.socket, request: dict[str, Any], descriptors: list[int], entry: Callable[[], int]) -> None:
    """The keeper's whole life."""
    code = shim.START_ERROR
    try:
        channel.detach()  # closed with all others
        folder = request["folder"]
        nothing, errors = os.open(os.devnull, os.O_RDONLY), os.open(request["errors"], os.O_WRONLY | os.O_CREAT, 0o600)
        for source, target in ((nothing, 0), (errors, 1), (errors, 2)):
            os.dup2(source, target)
        areas = _areas()
        environment = dict(request["environment"])
        _surround(environment)
        marked = sorted(environment.items(), key=lambda entry: entry[0] != ROOTFS_VARIABLE)
        _show(areas["environment"], [f"{name}={value}" for name, value in marked])
        _show(areas["arguments"], ["mizzen-shim", folder])
        words = request["arguments"]
        cut = words.index("--")
        options = dict(word.split("=", 1) for word in words[:cut])
        options |= {"lock": str(descriptors[0]), "ready": str(descriptors[1])}
        groups = [word[7:] for word in words[:cut] if word.startswith("cgroup=")]
        become = partial(_become, entry, areas["arguments"])
        code = shim.run(folder, options, groups, words[cut + 1 :], become)
    except BaseException:  # noqa: BLE001 - a keeper's boundary: nothing may return into the zygote's loop
        traceback.print_exc()
    finally:
        os._exit(code)


def _become(entry: Callable[[], int], arguments: tuple[int, int], command: Sequence[str]) -> None:
    """Runs the module in this process, which ends with it. Descriptors of the keeper are closed as `exec` would."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _show(arguments, command)
    shim.prctl(shim.PR_SET_NAME, b"python")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as Python has them
        signal.signal(number, signal.SIG_IGN)
    sys.argv[:] = [str(command[-1])]
    code: object = 1
    try:
        code = entry()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - the container's boundary, where the interpreter would print it as well
        traceback.print_exc()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _surround(environment: Mapping[str, str]) -> None:
    """The environment is the container's from now on, for this process and for what it starts."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    tempfile.tempdir = None


def _areas() -> dict[str, tuple[int, int]]:
    """Where the kernel looks for this process's arguments and environment: (first address, length)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    first = 45  # proc(5): fields 48 to 51, of which two stand before the parenthesis
    begin, end, env_begin, env_end = (int(field) for field in fields[first : first + 4])
    return {"arguments": (begin, end - begin), "environment": (env_begin, env_end - env_begin)}


def _show(area: tuple[int, int], words: Sequence[str]) -> None:
    """Writes words there, as many as there is room for: what `ps` shows, and what the node finds processes by."""
    address, length = area
    data = b"".join(word.encode(errors="surrogateescape") + b"\0" for word in words)[: length - 1]
    ctypes.memset(address, 0, length)
    ctypes.memmove(address, data, len(data))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
