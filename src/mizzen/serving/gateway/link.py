"""One worker Pod as a gateway process sees it: a connection that is made again while the Pod is there.

The link speaks frames (`mizzen.serving.frames`) and tells its `Owner` what the worker says. A connection that breaks is
one event: what ran there is lost. The same worker that comes back is a new one to the queue.
"""

import asyncio
import contextlib
import logging
import socket
from typing import Protocol, cast

from mizzen.policy.queue import Batch
from mizzen.serving.frames import (
    PROTOCOL_VERSION,
    Cancel,
    Drain,
    End,
    Failure,
    Frame,
    FrameError,
    FrameReader,
    Generate,
    Grant,
    Header,
    Hello,
    More,
    Parameter,
    Part,
    Result,
    Run,
    TensorHead,
    write_frame,
)
from mizzen.serving.gateway.directory import UnixAddress, Worker
from mizzen.serving.tensors import Buffer

log = logging.getLogger("mizzen.gateway")
RETRY_S_FIRST = 0.01
RETRY_S_MAX = 1.0
CONNECT_TIMEOUT_S = 5.0


class Owner(Protocol):
    """Who is told what a worker says."""

    def worker_joined(self, link: "Link", hello: Hello) -> None:
        """It is ready. Raises `FrameError` where it is not the worker that belongs here."""

    def worker_granted(self, link: "Link", credits_more: int) -> None: ...
    def worker_draining(self, link: "Link") -> None: ...
    def batch_answered(self, link: "Link", batch: Batch, frame: Frame, result: Result) -> None: ...
    def batch_failed(self, link: "Link", batch: Batch, failure: Failure) -> None: ...
    def worker_lost(self, link: "Link") -> None: ...


class StreamReader(Protocol):
    """Who reads one stream. Of `ended` and `lost` one is called, once, and nothing after it."""

    def part(self, frame: Frame) -> None: ...
    def ended(self, failure: Failure | None) -> None:
        """There are no more parts: all were there where there is no failure."""

    def lost(self) -> None:
        """The worker is gone."""


class Link:
    """Keeps one connection to one worker until it is closed."""

    def __init__(self, worker: Worker, owner: Owner) -> None:
        self.worker = worker
        self.hello: Hello | None = None
        """What the worker said of itself; `None` while it is not connected."""
        self.draining = False
        self._owner = owner
        self._transport: asyncio.WriteTransport | None = None
        self._batches: dict[int, Batch] = {}
        self._streams: dict[int, StreamReader] = {}
        self._number = 0
        self._failures = 0
        self._disconnected = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._until_retired(), name=f"link {worker.uid}")

    def __repr__(self) -> str:
        state = "away" if self.hello is None else "draining" if self.draining else "connected"
        return f"<Link {self.worker.namespace}/{self.worker.endpoint} {self.worker.uid} {state}>"

    def retire(self) -> None:
        """The worker is to be used no more. What runs there may finish; then the connection is closed, for good."""
        self._task.cancel()
        if self.hello is not None and not self.draining:
            self.draining = True
            self._owner.worker_draining(self)
        self._close_if_done()

    def run(self, batch: Batch, heads: tuple[TensorHead, ...], data: list[Buffer]) -> None:
        """Sends a batch. Raises `FrameError` where it is more than a frame may hold."""
        self._number += 1
        frame = write_frame(Run(self._number, heads), data)
        self._batches[self._number] = batch
        if self._transport is not None:
            self._transport.writelines(frame)

    def cancel(self, batch: Batch) -> None:
        """Tells the worker that nobody waits for the batch."""
        for number, running in self._batches.items():
            if running is batch:
                self._send(Cancel(number))
                break

    @property
    def streams_free(self) -> int:
        """How many streams more the worker would take now."""
        return 0 if self.hello is None or self.draining else self.hello.streams - len(self._streams)

    def generate(
        self, reader: StreamReader, window: int, parameters: dict[str, Parameter], heads: tuple[TensorHead, ...],
        data: list[Buffer],
    ) -> int:  # fmt: skip
        """Begins a stream; returns its number. Raises `FrameError` where the request is more than a frame may hold."""
        self._number += 1
        frame = write_frame(Generate(self._number, window, parameters, heads), data)
        self._streams[self._number] = reader
        if self._transport is not None:
            self._transport.writelines(frame)
        return self._number

    def more(self, stream: int, parts: int) -> None:
        """So many parts were passed on, and as many more may come."""
        if stream in self._streams:
            self._send(More(stream, parts))

    def stop(self, stream: int) -> None:
        """Tells the worker that nobody reads the stream any more. Its place is free when the worker says its end."""
        if stream in self._streams:
            self._send(Cancel(stream))

    def _close_if_done(self) -> None:
        if self.draining and self._transport is not None and not self._batches and not self._streams:
            self._transport.close()

    def _send(self, header: Header) -> None:
        if self._transport is not None:
            self._transport.writelines(write_frame(header))

    async def _until_retired(self) -> None:
        # A task that ends by being cancelled keeps its frames, and they the link, and that the task: a cycle a worker.
        with contextlib.suppress(asyncio.CancelledError):
            await self._keep()

    async def _keep(self) -> None:
        """Connects, waits until the connection is gone, connects again: with growing waits while no worker greets."""
        while True:
            self._disconnected.clear()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._connect()
                await self._disconnected.wait()
            except (OSError, TimeoutError) as error:
                log.debug("%r: cannot connect: %s", self, error)
            await asyncio.sleep(min(RETRY_S_FIRST * 2**self._failures, RETRY_S_MAX))
            self._failures = min(self._failures + 1, 16)

    async def _connect(self) -> None:
        loop, address = asyncio.get_running_loop(), self.worker.address
        if isinstance(address, UnixAddress):
            await loop.create_unix_connection(lambda: _Connection(self), str(address.path))
        else:
            await loop.create_connection(lambda: _Connection(self), address.host, address.port)

    # What the connection tells

    def connected(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self.draining = False

    def disconnected(self) -> None:
        self._transport = None
        self._batches.clear()
        streams, self._streams = self._streams, {}
        if self.hello is not None:
            self.hello = None
            self._owner.worker_lost(self)
        for reader in streams.values():
            reader.lost()
        self._disconnected.set()

    def received(self, frame: Frame) -> None:
        """Raises `FrameError` where the worker does not keep to the talk."""
        header = frame.header
        if isinstance(header, Result):
            self._owner.batch_answered(self, self._taken(header.batch), frame, header)
        elif isinstance(header, Part):
            self._stream(header.stream).part(frame)
        elif isinstance(header, End):
            self._streams.pop(header.stream, self._stream(header.stream)).ended(None)
        elif isinstance(header, Failure) and header.batch in self._streams:
            self._streams.pop(header.batch).ended(header)
        elif isinstance(header, Failure):
            self._owner.batch_failed(self, self._taken(header.batch), header)
        elif isinstance(header, Hello):
            self._greet(header)
        elif self.hello is None:
            raise FrameError(f"expected HELLO first, got {type(header).__name__}")
        elif isinstance(header, Grant):
            self._owner.worker_granted(self, header.credits)
        elif isinstance(header, Drain):
            self.draining = True
            self._owner.worker_draining(self)
        else:
            raise FrameError(f"expected a worker's frame, got {type(header).__name__}")
        if self.draining:
            self._close_if_done()

    def _greet(self, hello: Hello) -> None:
        if hello.protocol != PROTOCOL_VERSION:
            raise FrameError(f"expected protocol version {PROTOCOL_VERSION}, got {hello.protocol}")
        if self.hello is not None:
            raise FrameError("expected one HELLO, got another")
        self.hello = hello
        try:
            self._owner.worker_joined(self, hello)
        except FrameError:
            self.hello = None
            raise
        self._failures = 0

    def _stream(self, number: int) -> StreamReader:
        reader = self._streams.get(number)
        if reader is None:
            raise FrameError(f"expected a part of one of the streams {sorted(self._streams)}, got one of {number}")
        return reader

    def _taken(self, number: int) -> Batch:
        batch = self._batches.pop(number, None)
        if batch is None:
            raise FrameError(f"expected an answer to one of the batches {sorted(self._batches)}, got one to {number}")
        return batch


class _Connection(asyncio.Protocol):
    """Bytes to frames. What breaks the protocol ends the connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._reader = FrameReader()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._link.connected(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._link.received(frame)
        except FrameError as error:
            log.warning("%r: the connection is closed: %s", self._link, error)
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._link.disconnected()
