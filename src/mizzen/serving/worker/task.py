"""What a worker is told, in the one JSON document `MIZZEN_TASK`, and where it finds itself, in the rest of the
environment.

The task is resolved by the controller: a worker never reads a spec that may have changed since.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import msgspec

from mizzen.serving.worker.errors import TaskError

ONNX = "onnx"
CREDITS_DEFAULT = 2
STREAMS_DEFAULT = 8
STUCK_AFTER_S_DEFAULT = 60.0
FRAMES_PORT_DEFAULT = 7090
HEALTH_PORT_DEFAULT = 7091


_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


class Explaining(msgspec.Struct, frozen=True, rename="camel"):
    """How a worker explains its model (`runtimes.explainer`)."""

    method: Literal["auto", "tree", "kernel"] = "auto"
    """`auto`: exactly from its trees where it has any, else by coalitions."""
    coalitions: int = 512


class Task(msgspec.Struct, frozen=True, rename="camel"):
    """What to serve."""

    store_url: str
    model: str
    version: int
    digest: str
    """`sha256:<hex>` of the model's bytes, or of the document that names its parts."""
    namespace: str
    endpoint: str
    format: str = ONNX
    trusted: tuple[str, ...] = ()
    """Types that the model's owner approved, of a format that names types."""
    warm_rows: tuple[int, ...] = ()
    """Batch sizes to run before it is ready, beside the example."""
    explain: Explaining | None = None
    """Whether it answers not as the model does, but why the model does."""
    threads: int | None = None
    """Threads of the runtime; `None`: as many as this process may use processors."""
    credits: int = CREDITS_DEFAULT
    """Batches a gateway may have here at once: one that runs and one that waits, by default."""
    streams: int = STREAMS_DEFAULT
    """Streams a gateway may have open here at once, of a model that yields."""
    stuck_after_s: float = STUCK_AFTER_S_DEFAULT
    """A batch, or a part of a stream, that runs longer than this fails the liveness probe, and the Pod is restarted."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Raises `TaskError` where `MIZZEN_TASK` is absent or is no task."""
        text = environment.get("MIZZEN_TASK")
        if text is None:
            raise TaskError("MIZZEN_TASK: expected the worker's task as JSON in the environment, it is not set")
        try:
            task = msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise TaskError(f"MIZZEN_TASK: {error}") from error
        if _DIGEST.match(task.digest) is None:
            raise TaskError(f"MIZZEN_TASK.digest: expected sha256:<64 hex digits>, got {task.digest!r}")
        return task


class Surroundings(msgspec.Struct, frozen=True):
    """Where the worker is: its sockets, ports and files."""

    name: str
    """The Pod's name, for people."""
    socket: Path | None
    """The Unix socket for frames; `None`: TCP at `frames_port`."""
    frames_port: int
    health_port: int
    health_host: str
    termination_log: Path
    cache: Path
    """Where model bytes from remote stores are kept, for all workers of this machine and user."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Surroundings":
        """Raises `TaskError` where a port is no number."""
        run_dir = environment.get("MIZZEN_RUN_DIR")
        root = environment.get("MIZZEN_ROOTFS", "")
        cache = environment.get("MIZZEN_CACHE_DIR")
        own = Path(tempfile.gettempdir()) / f"mizzen-cache-{os.getuid()}"
        return cls(
            name=environment.get("HOSTNAME", f"worker-{os.getpid()}"),
            socket=Path(run_dir) / "worker.sock" if run_dir else None,
            frames_port=_port(environment, ("MIZZEN_PORT_FRAMES", "PORT"), FRAMES_PORT_DEFAULT),
            health_port=_port(environment, ("MIZZEN_PORT_HEALTH",), HEALTH_PORT_DEFAULT),
            health_host=environment.get("MIZZEN_HEALTH_HOST", "0.0.0.0"),
            termination_log=Path(root + "/dev/termination-log"),
            cache=Path(cache) if cache else own,
        )


def _port(environment: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        text = environment.get(name)
        if text is not None:
            if not text.isdigit() or int(text) > 65535:
                raise TaskError(f"{name}: expected a port, got {text!r}")
            return int(text)
    return default
