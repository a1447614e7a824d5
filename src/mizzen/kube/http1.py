"""HTTP/1.1 to one server, on asyncio and httptools (llhttp): pooled connections, whole answers and streams.

A control plane makes thousands of small requests, on the same cores as the server that answers them. A general client
spends 400 microseconds of processor time on one (httpx2, measured); this one a fifth of it, by doing only what an API
server asks for: one host, TLS from a context, keep-alive, answers by length or in chunks. No redirects, no cookies, no
proxies, no HTTP/2.

A connection carries one request at a time. What has been idle too long is closed by us and not by the server, so that a
request rarely meets a connection that is going away; where it does, it is `BrokenError`, and `transport` knows which
requests may be sent again.
"""

import asyncio
import socket
import ssl
import sys
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar, cast
from urllib.parse import urlsplit

import httptools

from mizzen.kube.wire import Answer, BrokenError, NeverSentError, Stream

T = TypeVar("T")

_CONNECT_S = 5.0
_IDLE_S = 60.0
"""Shorter than the idle time of any API server."""
_BUFFERED_MAX = 1 << 20
"""A stream that is read more slowly than it comes is held up at the server."""


def _socket_options() -> list[tuple[int, int, int]]:
    """Lets the kernel find out within about a minute that the other end of a silent watch is gone."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


class _Connection(asyncio.Protocol):
    """One connection and the answer that is being read from it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._changed: asyncio.Future[None] | None = None
        """Done when there is something new for the reader."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: deque[bytes] = deque()
        self.has_head = self.is_complete = self._keeps_alive = False
        self._buffered = 0
        self._buffered_max = 0
        """How much may wait to be read before the server is held up."""
        self._paused = False
        self._error: Exception | None = None
        self.is_closed = False
        self.idle_since_s = 0.0

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in {socket.AF_INET, socket.AF_INET6}:
            for option in _socket_options():
                raw.setsockopt(*option)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            # Nobody asked: the server has something to say about the connection, and it is of no more use.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(BrokenError(f"not an HTTP answer: {error}"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._parser is not None and not self.is_complete:
            self._fail(BrokenError(str(exc) if exc else "the server closed the connection"))

    # -- llhttp's side

    def on_message_begin(self) -> None:
        if self.is_complete:
            # An answer that nobody asked for must not be taken for one that somebody asks for next.
            self._keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_complete:
            return
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self.is_complete:
            return
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if self.status < 200:
            # An interim answer: the real one follows on the same parser.
            self.headers = {}
            return
        self.has_head = True
        self._wake()

    def on_body(self, body: bytes) -> None:
        if self.is_complete:
            return
        self.chunks.append(body)
        self._buffered += len(body)
        if self._buffered > self._buffered_max and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True
        self._wake()

    def on_message_complete(self) -> None:
        if self.has_head and not self.is_complete:
            assert self._parser is not None
            # llhttp knows only now: after this it is ready for the next message and has forgotten.
            self._keeps_alive = self._parser.should_keep_alive()
            self.is_complete = True
            self._wake()

    # -- the reader's side

    def send(self, data: bytes, *, as_stream: bool) -> None:
        """Begins an exchange."""
        self._buffered_max = _BUFFERED_MAX if as_stream else sys.maxsize
        self._parser = httptools.HttpResponseParser(self)
        self.status, self.headers, self._buffered = 0, {}, 0
        self.chunks.clear()
        self.has_head = self.is_complete = False
        assert self._transport is not None
        self._transport.write(data)

    async def head(self) -> None:
        """Waits for the status and the headers."""
        while not self.has_head:
            await self._change()

    async def whole(self) -> bytes:
        """The whole body."""
        while not self.is_complete:
            await self._change()
        return b"".join(self.chunks)

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        while True:
            while self.chunks:
                chunk = self.chunks.popleft()
                self._buffered -= len(chunk)
                yield chunk
            if self.is_complete:
                return
            if self._paused and self._transport is not None:
                self._transport.resume_reading()
                self._paused = False
            await self._change()

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent on it."""
        return self.is_complete and self._keeps_alive and not self.is_closed

    def rest(self, now_s: float) -> None:
        """The exchange is over, and the connection waits for the next."""
        self._parser = None
        self.idle_since_s = now_s

    def close(self) -> None:
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()

    async def _change(self) -> None:
        if self._error is not None:
            raise self._error
        self._changed = asyncio.get_running_loop().create_future()
        try:
            await self._changed
        finally:
            self._changed = None
        if self._error is not None and not self.chunks:
            raise self._error

    def _fail(self, error: Exception) -> None:
        # The first one is why; what follows follows from it.
        self._error = self._error or error
        self.close()
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class Http1Wire:
    """The connections to one server: as many as are used at the same time."""

    def __init__(self, base_url: str, tls: ssl.SSLContext) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{base_url!r}: expected the URL of a server, such as https://127.0.0.1:7070")
        self._host = parts.hostname
        self._tls = tls if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._authority = parts.netloc.rpartition("@")[2]
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._dialling: set[asyncio.Future[_Connection]] = set()

    async def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Answer:
        connection = self._rested() or await self._connect()
        self._busy.add(connection)
        try:
            connection.send(self._request(method, target, headers, body), as_stream=False)
            content = await _within(timeout_s, connection.whole())
        finally:
            self._release(connection)
        found = connection.headers
        if found.get("content-encoding") == "gzip":
            try:
                content = zlib.decompress(content, zlib.MAX_WBITS | 16)
            except zlib.error as error:
                raise BrokenError(f"not packed as it says: {error}") from error
        return Answer(connection.status, found, content)

    @asynccontextmanager
    async def stream(
        self, target: str, headers: Mapping[str, str], timeout_s: float, silence_s: float | None
    ) -> AsyncIterator[Stream]:
        connection = self._rested() or await self._connect()
        self._busy.add(connection)
        try:
            connection.send(self._request("GET", target, headers, None), as_stream=True)
            await _within(timeout_s, connection.head())
            yield Stream(connection.status, connection.headers, _not_silent(connection, silence_s))
        finally:
            self._release(connection)

    async def aclose(self) -> None:
        dialling = tuple(self._dialling)
        for future in dialling:
            future.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
        # Lets the transports tell their sockets.
        await asyncio.sleep(0)

    def _release(self, connection: _Connection) -> None:
        """Keeps the connection for the next exchange where this one came to its end."""
        self._busy.discard(connection)
        if connection.is_reusable:
            connection.rest(asyncio.get_running_loop().time())
            self._idle.append(connection)
        else:
            connection.close()

    def _rested(self) -> _Connection | None:
        """The connection used last of those that are still good; those that rested too long are closed."""
        now_s = asyncio.get_running_loop().time()
        good = []
        for connection in self._idle:
            if connection.is_closed or now_s - connection.idle_since_s > _IDLE_S:
                connection.close()
            else:
                good.append(connection)
        self._idle = good
        return good.pop() if good else None

    async def _connect(self) -> _Connection:
        """A new connection. Who is cancelled while it is made leaves it to the next: a TLS handshake that is broken off
        in the middle makes uvloop complain.
        """
        dialling = asyncio.ensure_future(self._dial())
        self._dialling.add(dialling)
        dialling.add_done_callback(self._dialling.discard)
        try:
            return await asyncio.shield(dialling)
        except asyncio.CancelledError:
            dialling.add_done_callback(self._keep)
            raise

    def _keep(self, dialled: "asyncio.Future[_Connection]") -> None:
        if not dialled.cancelled() and dialled.exception() is None:
            dialled.result().rest(asyncio.get_running_loop().time())
            self._idle.append(dialled.result())

    async def _dial(self) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = _Connection()
        try:
            async with asyncio.timeout(_CONNECT_S):
                await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._tls)
        except TimeoutError as error:
            raise NeverSentError(f"no connection within {_CONNECT_S:g} s") from error
        except OSError as error:
            raise NeverSentError(error.strerror or str(error)) from error
        return connection

    def _request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        lines = [f"{method} {self._prefix}{target} HTTP/1.1", f"host: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
            raise ValueError(f"{method} {target!r}: a line break in the target or in a header")
        return f"{head}\r\n\r\n".encode("latin-1") + (body or b"")


async def _within(timeout_s: float, awaitable: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(timeout_s):
            return await awaitable
    except TimeoutError as error:
        raise BrokenError(f"no answer within {timeout_s:g} s") from error


async def _not_silent(connection: _Connection, silence_s: float | None) -> AsyncIterator[bytes]:
    """The body, whose reader is told where nothing comes for too long."""
    chunks = connection.body()
    while True:
        try:
            async with asyncio.timeout(silence_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise BrokenError(f"silent for {silence_s:g} s") from error
        yield chunk
