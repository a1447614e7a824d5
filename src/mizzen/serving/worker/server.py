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
    End,
    ErrorCode,
    Failure,
    Frame,
    FrameError,
    FrameReader,
    Generate,
    Header,
    Hello,
    More,
    Part,
    Result,
    Run,
    TensorHead,
    write_frame,
)
from mizzen.serving.tensors import Buffer, Tensor
from mizzen.serving.worker.errors import BatchError, InvalidBatchError
from mizzen.serving.worker.model import Model, Profile
from mizzen.serving.worker.runner import Job, Runner, Stream
from mizzen.serving.worker.statistics import Statistics
from mizzen.serving.worker.task import Task

log = logging.getLogger("mizzen.worker")


class WorkerServer:
    """Serves one loaded model to any number of gateways."""

    def __init__(self, task: Task, name: str, model: Model, statistics: Statistics, profile: Profile = ()) -> None:
        self.statistics = statistics
        self.draining = False
        self.credits = task.credits
        self.streams = task.streams if model.streams else 0
        self._loop = asyncio.get_running_loop()
        self._task = task
        self._hello = Hello(
            PROTOCOL_VERSION, name, task.model, task.version, task.digest, model.signature, task.credits,
            self.streams, profile,
        )  # fmt: skip
        self._links: set[_Link] = set()
        self._gone = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.runner = Runner(model, self._done, steady=model.steady)

    async def start(self, path: Path | None, port: int) -> None:
        """Listens on the Unix socket, or where there is none on TCP. Raises `OSError` where it cannot."""
        self.runner.start()
        if path is not None:
            self._server = await self._loop.create_unix_server(self.link, sock=_bound(path))
        else:
            self._server = await self._loop.create_server(self.link, "0.0.0.0", port)

    def link(self) -> asyncio.Protocol:
        """The protocol of one gateway's connection."""
        return _Link(self)

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

    def run(self, job: Job) -> None:
        """Has a batch computed, and answered: before this returns, or later."""
        if self.runner.run_at_once(job):
            self._answer(job)
        else:
            self.runner.put(job)

    # What the runner tells

    def _done(self, work: Job | Stream) -> None:
        self._loop.call_soon_threadsafe(self._returned, work)

    def _returned(self, work: Job | Stream) -> None:
        self.runner.returned(work)
        if isinstance(work, Stream):
            self._advanced(work)
        else:
            self._answer(work)

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
        statistics.rows += job.rows
        statistics.compute_s += job.compute_s
        statistics.wait_s += wait_s
        if job.error is not None:
            statistics.failed += 1
            link.send(_failure(job.number, job.error, 1))
            return
        outputs = job.outputs
        link.send(Result(job.number, job.compute_s, wait_s, 1, _heads(outputs)), [one.data for one in outputs])

    def _advanced(self, stream: Stream) -> None:
        """A part of a stream has come, or its end; the next is computed where there is room for it in the window."""
        link = cast("_Link", stream.owner)
        statistics = self.statistics
        stream.busy = False
        statistics.compute_s += stream.part_s
        if not stream.ended:
            statistics.parts += 1
            stream.window -= 1
            outputs, stream.outputs = stream.outputs, []
            link.send(Part(stream.number, stream.part_s, _heads(outputs)), [one.data for one in outputs])
            self.advance(stream)
            return
        del link.streams[stream.number]
        statistics.streams += 1
        if stream.cancelled:
            statistics.cancelled += 1
            link.send(Failure(stream.number, ErrorCode.CANCELLED, f"cancelled after {stream.parts} parts", 0))
        elif stream.error is not None:
            statistics.failed += 1
            link.send(_failure(stream.number, stream.error, 0))
        else:
            wait_s = stream.began_s - stream.came_s if stream.began_s is not None else 0.0
            link.send(End(stream.number, stream.parts, stream.compute_s, wait_s))

    def advance(self, stream: Stream) -> None:
        """Has the next part computed, if one may come, or the stream closed, if nobody reads it."""
        if not stream.busy and (stream.window > 0 or stream.cancelled):
            stream.busy = True
            self.runner.put(stream)


def _failure(number: int, error: BatchError, credits_more: int) -> Failure:
    code = ErrorCode.INVALID if isinstance(error, InvalidBatchError) else ErrorCode.FAILED
    return Failure(number, code, str(error), credits_more)


def _heads(outputs: list[Tensor]) -> tuple[TensorHead, ...]:
    return tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in outputs)


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
        self.streams: dict[int, Stream] = {}

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
        for stream in self.streams.values():
            self._cancel(stream)
        self._server.closed(self)

    def send(self, header: Header, data: list[Buffer] | None = None) -> None:
        """Writes a frame; nothing where the gateway has gone."""
        if self._transport is not None:
            self._transport.writelines(write_frame(header, data or ()))

    def _received(self, frame: Frame) -> None:
        header = frame.header
        if isinstance(header, Run):
            self._check_new(header.batch, len(self.jobs), self._server.credits, "batches")
            job = self.jobs[header.batch] = Job(self, header.batch, frame.tensors)
            self._server.run(job)
        elif isinstance(header, Generate):
            self._check_new(header.stream, len(self.streams), self._server.streams, "streams")
            if header.window < 1:
                raise FrameError(f"expected a window of at least one part, got {header.window}")
            stream = Stream(self, header.stream, frame.tensors, header.parameters, header.window)
            self.streams[header.stream] = stream
            self._server.advance(stream)
        elif isinstance(header, More):
            found = self.streams.get(header.stream)
            if found is not None:  # else it has ended meanwhile
                found.window += header.parts
                self._server.advance(found)
        elif isinstance(header, Cancel):
            if (job_found := self.jobs.get(header.batch)) is not None:
                job_found.cancelled = True
            elif (stream_found := self.streams.get(header.batch)) is not None:
                self._cancel(stream_found)
        else:
            raise FrameError(f"expected RUN, GENERATE, MORE or CANCEL, got {type(header).__name__}")

    def _check_new(self, number: int, there: int, most: int, what: str) -> None:
        if number in self.jobs or number in self.streams:
            raise FrameError(f"expected a new number, got {number} again")
        if there >= most:
            raise FrameError(f"expected at most {most} {what} at once, got one more")

    def _cancel(self, stream: Stream) -> None:
        stream.cancelled = True
        self._server.advance(stream)
