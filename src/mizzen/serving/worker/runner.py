"""The thread that computes: batches one after the other, in the order in which they came.

The event loop hands a job over and gets it back with its answer; the thread touches nothing else. While the runtime is
in native code it lets other threads run, so sockets and probes stay live; when it never comes back, `busy_s` grows,
which the liveness probe sees.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from mizzen.serving.tensors import Tensor
from mizzen.serving.worker.model import BatchError


class Runtime(Protocol):
    """What computes a batch. Raises `BatchError` where it refuses."""

    def run(self, tensors: list[Tensor]) -> list[Tensor]: ...


class Job:
    """A batch on its way. `cancelled` may be set until the thread begins it."""

    __slots__ = ("began_s", "came_s", "cancelled", "compute_s", "error", "inputs", "number", "outputs", "owner")

    def __init__(self, owner: object, number: int, inputs: list[Tensor]) -> None:
        self.owner = owner
        self.number = number
        self.inputs = inputs
        self.cancelled = False
        self.came_s = time.monotonic()
        self.began_s: float | None = None
        self.compute_s = 0.0
        self.outputs: list[Tensor] = []
        self.error: str | None = None


class Runner:
    """Computes jobs on one thread; `done` is called on that thread with each."""

    def __init__(self, runtime: Runtime, done: Callable[[Job], None]) -> None:
        self._runtime = runtime
        self._done = done
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._began_s: float | None = None
        self._thread = threading.Thread(target=self._work, name="runner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Job) -> None:
        self._jobs.put(job)

    def stop(self, timeout_s: float) -> None:
        """Ends the thread after what it has; one that does not come back is left behind with the process."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def busy_s(self) -> float:
        """Seconds since the batch began that runs now; 0 where none does."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.cancelled:
                job.began_s = self._began_s = time.monotonic()
                try:
                    job.outputs = self._runtime.run(job.inputs)
                except BatchError as error:
                    job.error = str(error)
                self._began_s = None
                job.compute_s = time.monotonic() - job.began_s
            self._done(job)
