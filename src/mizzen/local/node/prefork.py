"""Containers that run a module of ours are forked from a process that has imported it: the node's side of `zygote`.

Which modules, the node is told (`NodeOptions.preforked`). A container qualifies when its command is exactly
`python -m MODULE` and its environment has nothing that the interpreter or a library reads while it is loaded: any
other is started as a program of its own. A zygote is started when it is first wanted (which takes as long as one
container's start, and the containers that want it meanwhile wait for it), or, where this home has wanted it before,
soon after the node. Where it does not come up, containers start as programs.
"""

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mizzen.local.node.attempts import SHIM_ERRORS, Launch, Spawn
from mizzen.local.node.zygote import READY, REQUEST_BYTES_MAX, ROOM_VARIABLE

log = logging.getLogger(__name__)
ROOM_BYTES = 8192
ANSWER_TIMEOUT_S = 5.0
START_TIMEOUT_S = 5.0
AGAIN_S = 10.0
"""A zygote that ended is not started anew sooner than this after its last start."""
READ_AT_LOAD = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "LANG", "OMP_", "MKL_", "OPENBLAS_", "NUMPY_", "ORT_")
"""Beginnings of variables that are read while an interpreter or a library is loaded."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""For the zygote: libraries shall start no threads while they are imported."""


class NotReadyError(Exception):
    """Nothing was begun: start the container as a program of its own."""


class Zygote:
    """One process to fork from. Its methods may be called from any thread."""

    def __init__(
        self, module: str, environment: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.module = module
        self._environment = dict(environment)
        self._clock = clock
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._started_s = float("-inf")

    def __repr__(self) -> str:
        return f"Zygote({self.module}, {'ready' if self._ready else 'not ready'})"

    def start(self) -> None:
        """Starts the process where it does not run; does not wait for it."""
        with self._lock:
            self._start()

    def _start(self) -> None:
        if self._channel is None and self._clock() - self._started_s >= AGAIN_S:
            self._started_s = self._clock()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-u", "-m", "mizzen.local.node.zygote", self.module, str(theirs.fileno())],
                    env={**self._environment, **ONE_THREAD, ROOM_VARIABLE: "-" * ROOM_BYTES},
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            self._channel = ours

    def stop(self) -> None:
        """Ends the process; what was forked from it runs on."""
        with self._lock:
            self._drop()

    def fork(
        self, folder: Path, arguments: Sequence[str], environment: Mapping[str, str], lock: int, readying: int
    ) -> int:
        """Starts a shim (`attempts.Spawn`). Raises `NotReadyError`; `OSError` where it is not known what came of it."""
        document = {
            "folder": str(folder), "errors": str(folder / SHIM_ERRORS), "arguments": list(arguments),
            "environment": dict(environment),
        }  # fmt: skip
        request = json.dumps(document).encode()
        if len(request) > REQUEST_BYTES_MAX:
            raise NotReadyError(f"the request takes {len(request)} bytes, more than {REQUEST_BYTES_MAX}")
        with self._lock:
            self._start()
            channel = self._channel
            if channel is None or not self._is_ready(channel):
                raise NotReadyError(f"{self!r}")
            try:
                socket.send_fds(channel, [request], [lock, readying])
            except OSError as error:
                self._drop()
                raise NotReadyError(f"{self!r}: {error}") from error
            try:
                answer = channel.recv(64)
            except OSError:
                self._drop()
                raise
            if not answer:
                self._drop()
                raise ConnectionResetError("the zygote has ended")
        return int(answer)

    def _is_ready(self, channel: socket.socket) -> bool:
        if not self._ready:
            channel.settimeout(START_TIMEOUT_S)
            try:
                said = channel.recv(len(READY))
            except OSError:
                said = b""
            if said != READY:
                log.warning("%r: did not come up; containers start as programs of their own", self)
                self._drop()
                return False
            channel.settimeout(ANSWER_TIMEOUT_S)
            self._ready = True
        return True

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._channel = self._process = None
        self._ready = False


class Prefork:
    """The zygotes of one node."""

    def __init__(self, folder: Path, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        """`folder`: where it is remembered which were wanted. `environment`: what every container of the node has."""
        self._folder = folder
        self._environment = dict(environment)
        usable = modules if sys.platform == "linux" else ()
        self._zygotes = {module: Zygote(module, environment) for module in usable}

    def resume(self) -> None:
        """Starts those that this home has wanted before."""
        for module, zygote in self._zygotes.items():
            if self._mark(module).exists():
                zygote.start()

    def stop(self) -> None:
        for zygote in self._zygotes.values():
            zygote.stop()

    def spawn(self, launch: Launch) -> Spawn | None:
        """How to start a container that qualifies; `None`: as a program of its own."""
        module = launch.command[2] if launch.command[:2] == ("python", "-m") and len(launch.command) == 3 else ""
        zygote = self._zygotes.get(module)
        if zygote is None or not self._is_plain(launch.environment):
            return None
        if not self._mark(module).exists():
            self._mark(module).touch()
        return zygote.fork

    def _is_plain(self, environment: Mapping[str, str]) -> bool:
        def read_at_load(found: Mapping[str, str]) -> dict[str, str]:
            return {name: value for name, value in found.items() if name == "PATH" or name.startswith(READ_AT_LOAD)}

        return read_at_load(environment) == read_at_load(self._environment)

    def _mark(self, module: str) -> Path:
        return self._folder / f"preforked-{module}"
