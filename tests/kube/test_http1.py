"""HTTP/1.1 against a server that is written out byte by byte."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.kube import http1
from mizzen.kube.http1 import Http1Wire
from mizzen.kube.wire import BrokenError, NeverSentError

pytestmark = pytest.mark.timeout(30)
NO_TLS = ssl.create_default_context()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def served(script: Script) -> AsyncIterator[tuple[Http1Wire, list[int]]]:
    """A wire to a server that runs the script on each connection, and how many connections there were."""
    connections: list[int] = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        try:
            await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    wire = Http1Wire(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", NO_TLS)
    try:
        yield wire, connections
    finally:
        await wire.aclose()
        server.close()
        await asyncio.sleep(0)


def answering(*answers: bytes, pieces: int = 10**9) -> Script:
    """Answers request after request, each answer cut into pieces of that size, then closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await _request(reader)
            for start in range(0, len(answer), pieces):
                writer.write(answer[start : start + pieces])
                await writer.drain()
                await asyncio.sleep(0)

    return script


async def _request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *fields = head.strip().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    return line, headers, await reader.readexactly(int(headers.get("content-length", 0)))


async def get(wire: Http1Wire, timeout_s: float = 10.0) -> tuple[int, bytes]:
    answer = await wire.exchange("GET", "/x", {}, None, timeout_s)
    return answer.status, answer.body


async def test_a_request_is_written_as_it_should_be() -> None:
    seen: list[Any] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await _request(reader))
        writer.write(OK)

    async with served(script) as (wire, _):
        await wire.exchange("POST", "/a?b=c%20d", {"content-type": "application/json"}, b'{"k":1}', 5)
    ((line, headers, body),) = seen
    assert line == "POST /a?b=c%20d HTTP/1.1"
    assert headers["host"].startswith("127.0.0.1:")
    assert (headers["content-type"], headers["content-length"], body) == ("application/json", "7", b'{"k":1}')


bodies = st.binary(max_size=300)


@given(st.lists(st.tuples(bodies, st.booleans()), min_size=1, max_size=4), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
async def test_answers_do_not_depend_on_how_they_come(answers: list[tuple[bytes, bool]], pieces: int) -> None:
    """By length or in chunks, cut anywhere, one after the other on one connection."""
    wired = [_chunked(body) if chunked else _sized(body) for body, chunked in answers]
    async with served(answering(*wired, pieces=pieces)) as (wire, connections):
        assert [await get(wire) for _ in answers] == [(200, body) for body, _ in answers]
        assert len(connections) == 1


def _sized(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def _chunked(body: bytes, size: int = 7) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        + b"0\r\n\r\n"
    )


async def test_interim_answers_and_answers_without_a_body() -> None:
    script = answering(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        OK,
    )
    async with served(script) as (wire, connections):
        assert [await get(wire) for _ in range(3)] == [(200, b"ok"), (204, b""), (200, b"ok")]
        assert len(connections) == 1


async def test_a_packed_answer_is_unpacked() -> None:
    packed = gzip.compress(b"much " * 1000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(packed), packed)
    async with served(answering(answer)) as (wire, _):
        assert await get(wire) == (200, b"much " * 1000)


async def test_a_connection_that_is_to_be_closed_is_not_used_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with served(answering(closing)) as (wire, connections):
        assert [await get(wire) for _ in range(3)] == [(200, b"ok")] * 3
        assert len(connections) == 3


async def test_a_connection_that_the_server_closed_while_it_rested_is_not_used() -> None:
    async with served(answering(OK)) as (wire, connections):
        for _ in range(5):
            assert await get(wire) == (200, b"ok")
            while not wire._idle[0].is_closed:
                await asyncio.sleep(0)
        assert len(connections) == 5


@pytest.mark.looptime
async def test_what_rested_too_long_is_closed_by_us() -> None:
    async with served(answering(OK, OK, OK)) as (wire, connections):
        await get(wire)
        await asyncio.sleep(http1._IDLE_S - 1)
        await get(wire)
        assert len(connections) == 1
        await asyncio.sleep(http1._IDLE_S + 1)
        await get(wire)
        assert len(connections) == 2


async def test_many_at_once_have_a_connection_each_and_leave_them_to_the_next() -> None:
    async with served(answering(*[OK] * 50)) as (wire, connections):
        for _ in range(3):
            assert await asyncio.gather(*(get(wire) for _ in range(8))) == [(200, b"ok")] * 8
        assert len(connections) == 8


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "the server closed the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "the server closed the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "the server closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", "not packed as it says"),
    ],
    ids=["nothing", "cut", "cut chunk", "another protocol", "no chunk", "not packed"],
)
async def test_an_answer_that_breaks_off_or_is_none_is_broken(answer: bytes, says: str) -> None:
    async with served(answering(answer)) as (wire, _):
        with pytest.raises(BrokenError, match=says):
            await get(wire)


async def test_a_server_that_talks_unasked_is_not_listened_to() -> None:
    """What comes before a request could be taken for its answer."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
        await reader.read()

    async with served(script) as (wire, connections):
        for _ in range(3):
            assert await get(wire) == (200, b"ok")
            while wire._idle and not wire._idle[0].is_closed:
                await asyncio.sleep(0)
        assert len(connections) == 3


async def test_no_answer_in_time_is_broken_and_the_connection_not_used_again() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with served(script) as (wire, connections):
        for _ in range(2):
            with pytest.raises(BrokenError, match=r"no answer within 0\.05 s"):
                await get(wire, timeout_s=0.05)
        assert len(connections) == 2


async def test_a_stream_comes_as_it_comes_and_its_silence_is_noticed() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await writer.drain()
        writer.write(b"3\r\ntwo\r\n")
        await reader.read()

    async with served(script) as (wire, _):
        async with wire.stream("/w", {}, 5, None) as stream:
            assert (stream.status, stream.headers["transfer-encoding"]) == (200, "chunked")
            got = b""
            while got != b"onetwo":
                got += await anext(stream.chunks)
        with pytest.raises(BrokenError, match=r"silent for 0\.1 s"):
            await read_to_the_end(wire, 0.1)


async def read_to_the_end(wire: Http1Wire, silence_s: float | None) -> bytes:
    async with wire.stream("/w", {}, 5, silence_s) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


async def test_a_stream_that_ends_leaves_its_connection_and_one_that_is_left_does_not() -> None:
    unended = _chunked(b"x" * 100).removesuffix(b"0\r\n\r\n")
    async with served(answering(_chunked(b"abc"), OK, unended, OK)) as (wire, connections):
        assert await read_to_the_end(wire, None) == b"abc"
        assert await get(wire) == (200, b"ok")
        assert len(connections) == 1
        async with wire.stream("/w", {}, 5, None):
            pass
        await get(wire)
        assert len(connections) == 2


async def test_a_stream_that_is_read_slowly_is_held_up_at_the_server() -> None:
    """However much the server has to say, no more than a little waits here."""
    written = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await _request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(2000):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            written += 65536
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with served(script) as (wire, _), wire.stream("/w", {}, 5, None) as stream:
        first = await anext(stream.chunks)
        before = -1
        while written != before:
            before = written
            for _ in range(50):
                await asyncio.sleep(0)
        (connection,) = wire._busy
        assert connection._buffered <= http1._BUFFERED_MAX + (1 << 20)
        assert written < 64 << 20, "the rest waits at the server"
        size = len(first)
        async for chunk in stream.chunks:
            size += len(chunk)
        assert size == 2000 * 65536


async def test_a_line_break_cannot_make_another_request() -> None:
    async with served(answering(OK)) as (wire, _):
        for target, headers in [("/x HTTP/1.1\r\nEvil: 1", {}), ("/x", {"a": "b\r\nEvil: 1"}), ("/x", {"a\n": "b"})]:
            with pytest.raises(ValueError, match="a line break"):
                await wire.exchange("GET", target, headers, None, 5)


async def test_nobody_there_is_never_sent(unused_tcp_port: int) -> None:
    with pytest.raises(NeverSentError):
        await get(Http1Wire(f"http://127.0.0.1:{unused_tcp_port}", NO_TLS))
    with pytest.raises(NeverSentError):
        await get(Http1Wire("http://no-such-host.invalid", NO_TLS))


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://host", "https://"])
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected the URL of a server"):
        Http1Wire(url, NO_TLS)
