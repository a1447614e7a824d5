"""`python -m mizzen.serving.worker`: from the task to a warm model that answers, and to a good end on SIGTERM."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import uvloop

from mizzen.data.lake.errors import StoreUnavailable
from mizzen.serving.worker.artifacts import Artifacts
from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.health import Answer, HealthServer
from mizzen.serving.worker.model import Model
from mizzen.serving.worker.runtimes.onnx import OnnxRuntime
from mizzen.serving.worker.server import WorkerServer
from mizzen.serving.worker.statistics import Statistics, exposition
from mizzen.serving.worker.task import Surroundings, Task, say_last_words

log = logging.getLogger("mizzen.worker")
T = TypeVar("T")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
DRAIN_TIMEOUT_S = 25.0
"""Under the Pod's usual grace period of 30 s."""


class Worker:
    """The process: what it serves, and what its probes say of it."""

    def __init__(self, task: Task, surroundings: Surroundings) -> None:
        self._task = task
        self._surroundings = surroundings
        self._statistics = Statistics()
        self._server: WorkerServer | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM. Raises `TaskError`, `StoreUnavailable` and `OSError` where it cannot serve."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        health = HealthServer({"/livez": self._live, "/readyz": self._ready, "/metrics": self._metrics})
        await health.start(self._surroundings.health_host, self._surroundings.health_port)
        try:
            await self._serve()
        finally:
            await health.stop()

    async def _serve(self) -> None:
        loading = _on_thread(self._load)
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            return
        server = WorkerServer(self._task, self._surroundings.name, loading.result(), self._statistics)
        await server.start(self._surroundings.socket, self._surroundings.frames_port)
        self._server = server
        log.info("ready: %s:%s (%s)", self._task.model, self._task.version, self._task.digest)
        await stopping
        if not await server.drain("the worker was told to stop", DRAIN_TIMEOUT_S):
            log.warning("gateways did not close their connections within %s s", DRAIN_TIMEOUT_S)
        server.runner.stop(timeout_s=1.0)

    def _load(self) -> Model:
        began_s = time.monotonic()
        artifacts = Artifacts(self._task, self._surroundings.cache)
        model = Model(OnnxRuntime(artifacts.model(), self._task.threads or _processors()))
        loaded_s = time.monotonic()
        model.warm_up(artifacts.example())
        self._statistics.load_s = loaded_s - began_s
        self._statistics.warm_up_s = time.monotonic() - loaded_s
        return model

    def _live(self) -> Answer:
        busy_s = self._server.runner.busy_s() if self._server is not None else 0.0
        if busy_s > self._task.stuck_after_s:
            return 503, f"a batch has been running for {busy_s:.0f} s, more than {self._task.stuck_after_s:.0f} s"
        return 200, "ok"

    def _ready(self) -> Answer:
        if self._server is None:
            return 503, "the model is being loaded"
        return (503, "draining") if self._server.draining else (200, "ok")

    def _metrics(self) -> Answer:
        task = self._task
        labels = {
            "namespace": task.namespace, "endpoint": task.endpoint, "model": task.model, "version": str(task.version),
        }  # fmt: skip
        busy_s = self._server.runner.busy_s() if self._server is not None else 0.0
        return 200, exposition(self._statistics, labels, ready=self._ready()[0] == 200, busy_s=busy_s)


def _on_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Calls it on a thread that the process does not wait for: a runtime that hangs may not hold up the end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, result)

    threading.Thread(target=call, name="loading", daemon=True).start()
    return future


def _processors() -> int:
    """How many processors this process may use: by its affinity, and by its cgroup's quota where it has one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_MAX.read_text().split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, int(quota) // int(period)))


def main() -> int:
    """Returns the exit status: 0 after SIGTERM, 2 where starting again will not help, 1 where it may."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    surroundings = Surroundings.from_environment(os.environ)
    try:
        task = Task.from_environment(os.environ)
        uvloop.run(Worker(task, surroundings).run())
    except TaskError as error:
        say_last_words(surroundings, str(error))
        return 2
    except (StoreUnavailable, OSError) as error:
        say_last_words(surroundings, str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
