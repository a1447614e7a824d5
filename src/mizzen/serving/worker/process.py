"""A worker's life, whatever computes: load and warm up, answer, and come to a good end on SIGTERM.

Probes are answered from the first moment: alive at once, ready when the model has answered its example and every batch
size it is to be warm for. `/status` says the same for programs, with what the model runs on and the memory it takes,
measured after the warm-up.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from mizzen.serving.worker.health import Answer, HealthServer
from mizzen.serving.worker.model import Model
from mizzen.serving.worker.server import WorkerServer
from mizzen.serving.worker.statistics import Memory, Statistics, exposition
from mizzen.serving.worker.task import Surroundings, Task

log = logging.getLogger("mizzen.worker")
T = TypeVar("T")
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
DRAIN_TIMEOUT_S = 25.0
"""Under the Pod's usual grace period of 30 s."""


class Report(msgspec.Struct, rename="camel"):
    """What `/status` says."""

    stage: str = "loading"
    """`loading`, `warming`, `ready` or `draining`."""
    facts: dict[str, str] = {}
    """Of the runtime: `runtime`, `provider`, `threads`."""
    memory: Memory | None = None
    """After the warm-up."""
    fetch_s: float = 0.0
    """The model's bytes, from wherever they were, with their digest."""
    load_s: float = 0.0
    warm_up_s: float = 0.0
    profile: tuple[tuple[int, float], ...] = ()


class Worker:
    """The process: what it serves, and what its probes say of it."""

    def __init__(
        self,
        task: Task,
        surroundings: Surroundings,
        load: Callable[[], Model],
        example: Callable[[], bytes | None],
        fetch_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`load` and `example` are called once, on a thread; both may raise what ends the process. `fetch_s`: how much
        of the time of `load` went into fetching.
        """
        self._task = task
        self._surroundings = surroundings
        self._load_model, self._example, self._fetch_s = load, example, fetch_s
        self._statistics = Statistics()
        self._report = Report()
        self._server: WorkerServer | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until SIGTERM. Raises `OSError` where it cannot listen, and what `load` raises."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        pages = {"/livez": self._live, "/readyz": self._ready, "/metrics": self._metrics, "/status": self._status}
        health = HealthServer(pages)
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
        server = WorkerServer(
            self._task, self._surroundings.name, loading.result(), self._statistics, self._report.profile
        )
        await server.start(self._surroundings.socket, self._surroundings.frames_port)
        self._server = server
        log.info("ready: %s:%s (%s)", self._task.model, self._task.version, self._task.digest)
        await stopping
        if not await server.drain("the worker was told to stop", DRAIN_TIMEOUT_S):
            log.warning("gateways did not close their connections within %s s", DRAIN_TIMEOUT_S)
        server.runner.stop(timeout_s=1.0)

    def _load(self) -> Model:
        began_s = time.monotonic()
        model = self._load_model()
        loaded_s = time.monotonic()
        report = self._report
        report.facts, report.stage = model.runtime.facts, "warming"
        report.profile = model.warm_up(self._example(), self._task.warm_rows)
        report.fetch_s = self._fetch_s()
        report.load_s, report.warm_up_s = loaded_s - began_s - report.fetch_s, time.monotonic() - loaded_s
        report.memory = Memory.now()
        self._statistics.load_s, self._statistics.warm_up_s = loaded_s - began_s, report.warm_up_s
        self._statistics.warm_bytes = report.memory.proportional_bytes
        return model

    def _live(self) -> Answer:
        busy_s = self._server.runner.busy_s() if self._server is not None else 0.0
        if busy_s > self._task.stuck_after_s:
            return 503, f"a batch has been running for {busy_s:.0f} s, more than {self._task.stuck_after_s:.0f} s"
        return 200, "ok"

    def _ready(self) -> Answer:
        if self._server is None:
            return 503, f"the model is {'being loaded' if self._report.stage == 'loading' else 'warming up'}"
        return (503, "draining") if self._server.draining else (200, "ok")

    def _status(self) -> Answer:
        if self._server is not None:
            self._report.stage = "draining" if self._server.draining else "ready"
        return 200, msgspec.json.encode(self._report).decode()

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


def processors() -> int:
    """How many processors this process may use: by its affinity, and by its cgroup's quota where it has one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_MAX.read_text().split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, int(quota) // int(period)))
