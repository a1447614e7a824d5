"""The gateways' port: frames in, batches to the runner, answers out. See `mizzen.serving.frames` for the talk.

Draining: no new connection is taken and DRAIN is said; what was granted may still come and is run; each gateway closes
its connection once it has its answers. When all have, or when the time is over, the process may end.
"""

import asyncio
import contextlib
import logging
import os
import socket
from pathlib import Path
from typing import cast

from mizzen.serving.frames import (
    PROTOCOL_VERSION,
    Cancel,
    Drain,
    ErrorCode,
    Failure,
    Frame,
    FrameError,
    FrameReader,
    Header,
    Hello,
    Result,
    Run,
    TensorHead,
    write_frame,
)
from mizzen.serving.tensors import Buffer
from mizzen.serving.worker.model import Model
from mizzen.serving.worker.runner import Job, Runner
from mizzen.serving.worker.statistics import Statistics
from mizzen.serving.worker.task import Task

log = logging.getLogger("mizzen.worker")


class WorkerServer:
    """Serves one loaded model to any number of gateways."""

    def __init__(self, task: Task, name: str, model: Model, statistics: Statistics) -> None:
        self.statistics = statistics
        self.draining = False
        self.credits = task.credits
        self._loop = asyncio.get_running_loop()
        self._task = task
        self._hello = Hello(
            PROTOCOL_VERSION, name, task.model, task.version, task.digest, model.signature, task.credits
        )
        self._links: set[_Link] = set()
        self._gone = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.runner = Runner(model, self._done)

    async def start(self, path: Path | None, port: int) -> None:
        """Listens on the Unix socket, or where there is none on TCP. Raises `OSError` where it cannot."""
        self.runner.start()
        if path is not None:
            self._server = await self._loop.create_unix_server(lambda: _Link(self), sock=_bound(path))
        else:
            self._server = await self._loop.create_server(lambda: _Link(self), "0.0.0.0", port)

    async def drain(self, reason: str, timeout_s: float) -> bool:
        """Ends the service in good order. Returns whether all gateways had their answers in that time."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for link in self._links:
            link.send(Drain(reason))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._links:
                    self._gone.clear()
                    await self._gone.wait()
        return not self._links

    # What links tell

    def opened(self, link: "_Link") -> None:
        self._links.add(link)
        self.statistics.gateways += 1
        link.send(self._hello)
        if self.draining:
            link.send(Drain("the worker is going"))

    def closed(self, link: "_Link") -> None:
        self._links.discard(link)
        self.statistics.gateways -= 1
        self._gone.set()

    # What the runner tells

    def _done(self, job: Job) -> None:
        self._loop.call_soon_threadsafe(self._answer, job)

    def _answer(self, job: Job) -> None:
        link = cast("_Link", job.owner)
        statistics = self.statistics
        link.jobs.pop(job.number, None)
        if job.began_s is None:
            statistics.cancelled += 1
            link.send(Failure(job.number, ErrorCode.CANCELLED, "cancelled before it ran", 1))
            return
        wait_s = job.began_s - job.came_s
        statistics.batches += 1
        statistics.rows += job.inputs[0].shape[0] if job.inputs and job.inputs[0].shape else 1
        statistics.compute_s += job.compute_s
        statistics.wait_s += wait_s
        if job.error is not None:
            statistics.failed += 1
            link.send(Failure(job.number, ErrorCode.FAILED, job.error, 1))
            return
        heads = tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in job.outputs)
        link.send(Result(job.number, job.compute_s, wait_s, 1, heads), [tensor.data for tensor in job.outputs])


def _bound(path: Path) -> socket.socket:
    """A Unix socket that only this user may connect to, in the place of one that a killed worker left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o077)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    return listening


class _Link(asyncio.Protocol):
    """One gateway's connection."""

    def __init__(self, server: WorkerServer) -> None:
        self._server = server
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self.jobs: dict[int, Job] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._received(frame)
        except FrameError as error:
            log.warning("a gateway's connection is closed: %s", error)
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._transport = None
        for job in self.jobs.values():
            job.cancelled = True
        self._server.closed(self)

    def send(self, header: Header, data: list[Buffer] | None = None) -> None:
        """Writes a frame; nothing where the gateway has gone."""
        if self._transport is not None:
            self._transport.writelines(write_frame(header, data or ()))

    def _received(self, frame: Frame) -> None:
        header = frame.header
        if isinstance(header, Run):
            if header.batch in self.jobs:
                raise FrameError(f"expected a new batch number, got {header.batch} again")
            if len(self.jobs) >= self._server.credits:
                raise FrameError(f"expected at most {self._server.credits} batches at once, got one more")
            job = self.jobs[header.batch] = Job(self, header.batch, frame.tensors)
            self._server.runner.put(job)
        elif isinstance(header, Cancel):
            job_or_none = self.jobs.get(header.batch)
            if job_or_none is not None:
                job_or_none.cancelled = True
        else:
            raise FrameError(f"expected RUN or CANCEL, got {type(header).__name__}")
