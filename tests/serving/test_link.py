"""The gateway's end of the talk, against workers on real sockets that do not keep to it."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mizzen.policy.queue import Batch, Request
from mizzen.serving.frames import (
    PROTOCOL_VERSION,
    Drain,
    ErrorCode,
    Failure,
    FrameReader,
    Grant,
    Header,
    Hello,
    Result,
    Run,
    write_frame,
)
from mizzen.serving.gateway.directory import UnixAddress, Worker
from mizzen.serving.gateway.link import Link

from .builders import signature

HELLO = Hello(PROTOCOL_VERSION, "pod", "m", 1, "sha256:" + "0" * 64, signature(), 2)
TIMEOUT_S = 30.0


class Notes:
    """The link's owner: notes what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple] = asyncio.Queue()

    def worker_joined(self, link, hello):
        self.told.put_nowait(("joined", hello.credits))

    def worker_granted(self, link, credits_more):
        self.told.put_nowait(("granted", credits_more))

    def worker_draining(self, link):
        self.told.put_nowait(("draining",))

    def batch_answered(self, link, batch, frame, result):
        self.told.put_nowait(("answered", batch))

    def batch_failed(self, link, batch, failure):
        self.told.put_nowait(("failed", batch, failure.code))

    def worker_lost(self, link):
        self.told.put_nowait(("lost",))

    async def next(self) -> tuple:
        async with asyncio.timeout(TIMEOUT_S):
            return await self.told.get()


class Connection:
    """The worker's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._frames = reader, writer, FrameReader()
        self._heard: list[Header] = []

    def say(self, *headers: Header) -> None:
        for header in headers:
            self._writer.write(b"".join(write_frame(header)))

    def say_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def heard(self) -> Header:
        while not self._heard:
            data = await self._reader.read(65536)
            assert data, "the gateway closed the connection"
            self._heard += [frame.header for frame in self._frames.feed(data)]
        return self._heard.pop(0)

    async def closed(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(65536):
                    pass

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Place:
    """Where a worker listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connections: asyncio.Queue[Connection] = asyncio.Queue()
        self._all: list[Connection] = []
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, self.path)

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()
        for connection in self._all:
            await connection.close()
        self.path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._all.append(Connection(reader, writer))
        self._connections.put_nowait(self._all[-1])

    async def connection(self) -> Connection:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._connections.get()


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Notes, Place]]:
    with tempfile.TemporaryDirectory(prefix="mz-") as folder:
        place, notes = Place(Path(folder) / "worker.sock"), Notes()
        await place.open()
        link = Link(Worker("w", "default", "m", "0" * 16, UnixAddress(place.path)), notes)
        try:
            yield link, notes, place
        finally:
            link.retire()
            await place.shut()


def batch() -> Batch:
    return Batch("lane", "worker", [Request(1, 1.0, None)])


async def test_the_talk_in_full():
    async with linked() as (link, notes, place):
        worker = await place.connection()
        worker.say(HELLO)
        assert await notes.next() == ("joined", 2)
        first, second = batch(), batch()
        link.run(first, (), [])
        assert await worker.heard() == Run(1, ())
        link.run(second, (), [])
        assert await worker.heard() == Run(2, ())
        link.cancel(first)
        assert (await worker.heard()).batch == 1
        worker.say(Grant(1), Failure(1, ErrorCode.CANCELLED, "", 1), Result(2, 0.1, 0.0, 1, ()))
        assert await notes.next() == ("granted", 1)
        assert await notes.next() == ("failed", first, ErrorCode.CANCELLED)
        assert await notes.next() == ("answered", second)
        await worker.close()
        assert await notes.next() == ("lost",)


async def test_a_draining_worker_is_left_when_it_has_answered():
    async with linked() as (link, notes, place):
        worker = await place.connection()
        worker.say(HELLO)
        await notes.next()
        link.run(batch(), (), [])
        worker.say(Drain("bye"))
        assert await notes.next() == ("draining",)
        worker.say(Result(1, 0.1, 0.0, 1, ()))
        assert (await notes.next())[0] == "answered"
        await worker.closed()
        assert await notes.next() == ("lost",)


async def test_what_a_lost_connection_had_is_forgotten_by_the_next():
    async with linked() as (link, notes, place):
        worker = await place.connection()
        worker.say(HELLO)
        await notes.next()
        link.run(batch(), (), [])
        await worker.heard()
        await worker.close()
        assert await notes.next() == ("lost",)
        again = await place.connection()
        again.say(HELLO, Drain("bye"))
        assert [await notes.next(), await notes.next()] == [("joined", 2), ("draining",)]
        await again.closed()


async def test_a_retired_worker_may_finish():
    async with linked() as (link, notes, place):
        worker = await place.connection()
        worker.say(HELLO)
        await notes.next()
        link.run(batch(), (), [])
        link.retire()
        assert await notes.next() == ("draining",)
        worker.say(Result(1, 0.1, 0.0, 1, ()))
        assert (await notes.next())[0] == "answered"
        await worker.closed()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([Grant(1)], "expected HELLO first, got Grant"),
        ([Hello(PROTOCOL_VERSION + 1, "p", "m", 1, "d", signature(), 1)], "expected protocol version 1, got 2"),
        ([HELLO, HELLO], "expected one HELLO, got another"),
        ([HELLO, Result(9, 0.1, 0.0, 1, ())], "expected an answer to one of the batches [], got one to 9"),
        ([HELLO, Run(1, ())], "expected a worker's frame, got Run"),
    ],
)
async def test_who_breaks_the_protocol_is_cut_off_and_tried_again(said, why, caplog):
    async with linked() as (_, notes, place):
        worker = await place.connection()
        worker.say(*said)
        await worker.closed()
        assert why in caplog.text
        again = await place.connection()
        while not notes.told.empty():
            notes.told.get_nowait()
        again.say(HELLO)
        assert await notes.next() == ("joined", 2)


async def test_noise_is_cut_off(caplog):
    async with linked() as (_, __, place):
        worker = await place.connection()
        worker.say_bytes(b"HTTP/1.1 200 OK\r\n\r\n")
        await worker.closed()
        assert "expected a frame of 8 to" in caplog.text


async def test_a_worker_that_is_not_there_yet_is_found_when_it_is():
    with tempfile.TemporaryDirectory(prefix="mz-") as folder:
        place, notes = Place(Path(folder) / "worker.sock"), Notes()
        link = Link(Worker("w", "default", "m", "0" * 16, UnixAddress(place.path)), notes)
        for _ in range(20):
            await asyncio.sleep(0)
        await place.open()
        worker = await place.connection()
        worker.say(HELLO)
        assert await notes.next() == ("joined", 2)
        assert repr(link) == "<Link default/m w connected>"
        link.retire()
        await worker.closed()
        await place.shut()
