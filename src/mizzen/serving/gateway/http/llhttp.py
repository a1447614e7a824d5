"""HTTP/1.1 on the event loop's own thread: uvloop's sockets, llhttp's parser (httptools), and this.

    IDLE ──first byte──> HEAD ──blank line──> BODY ──all of it──> a request, which waits its turn in the connection
     ^                                                              │
     └──────────────────────────── answered ────────────────────────┘

One request of a connection is handled at a time, so answers are in order; what a client sends ahead (pipelining) waits
parsed, and reading pauses. Everything that a client may do without end has an end: heads by size and time, bodies by
size and time, idle connections by time, connections by number, and unread answers by not taking the next request.

llhttp is strict: what could be read in two ways (both a length and chunks, two lengths, bare line feeds) is no HTTP.
A connection whose client sends its end while it waits is taken as left, as hyper and nginx do.
"""

import asyncio
import email.utils
import enum
import logging
import math
import socket
import time
import urllib.parse
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import httptools

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import JSON_HEADERS, Exchange, Headers
from mizzen.serving.gateway.http.handler import METRICS_PATH, SLOW_BODY, TOO_MANY_BYTES, Handler
from mizzen.serving.gateway.plan import Limits

log = logging.getLogger("mizzen.gateway")
HEAD_BYTES_MAX = 64 << 10
HEAD_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 75.0
LINGER_S = 2.0
CONNECTIONS_MAX = 4096
SWEEP_S = 0.25
BACKLOG = 1024
URLS_KEPT, URL_KEPT_BYTES_MAX = 1024, 512
WRITE_TOGETHER_BYTES_MAX = 64 << 10
"""Up to here it is cheaper to copy a body behind its head than to hand the system two pieces."""
_MEANINGFUL = (
    "authorization", "connection", "content-length", "expect", "inference-header-content-length", "mizzen-unit",
    "request-timeout-ms", "traceparent", "x-api-key",
)  # fmt: skip
"""The headers that mean anything here; others are not kept."""
_USUAL = ("accept", "accept-encoding", "content-type", "host", "user-agent")
_KNOWN = {
    written.encode(): name if name in _MEANINGFUL else ""
    for name in (*_MEANINGFUL, *_USUAL)
    for written in (name, name.title())
}
"""Headers as they are usually written; empty for those without a meaning here."""
_METHODS = {b"POST": "POST", b"GET": "GET"}
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_TOO_MANY_CONNECTIONS = HttpError(503, "too many connections", "too_many_connections", retry_after_s=1.0)
_HEAD_TOO_LARGE = HttpError(431, f"expected at most {HEAD_BYTES_MAX} bytes of headers", "too_large")
_SLOW_HEAD = HttpError(408, "the request's headers did not come in time", "slow_head")


class Phase(enum.Enum):
    """How far the request is that is being read."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    LINGER = 3
    """Refused: what still comes is thrown away, so that the client reads the answer before it finds the port closed."""


_PATIENCE_S = {Phase.IDLE: IDLE_TIMEOUT_S, Phase.LINGER: LINGER_S}


class _Request:
    """One that was read, or is being read."""

    __slots__ = ("body", "headers", "keep", "method", "old", "size", "url")

    def __init__(self) -> None:
        self.method = ""
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.size = 0
        """Bytes of the body that are counted as held."""
        self.keep = True
        """Whether the connection lives on after the answer."""
        self.old = False
        """HTTP/1.0: a connection that lives on must be said to."""


class Connection(asyncio.Protocol):
    """One client. It is also the `Reply` of its request."""

    __slots__ = (
        "_answering", "_exchange", "_head_bytes", "_may_write", "_on_room", "_parser", "_pumping", "_reading",
        "_request", "_server", "_transport", "_waiting", "phase", "since_s",
    )  # fmt: skip

    def __init__(self, server: "LlhttpServer") -> None:
        self._server = server
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._request: _Request | None = None
        """The one that is being read."""
        self._waiting: deque[_Request] = deque()
        self._answering: _Request | None = None
        self._exchange: Exchange | None = None
        self._head_bytes = 0
        self._pumping = False
        self._reading = True
        self._may_write = True
        self._on_room: Callable[[], None] | None = None
        """To be called when a client who read slowly has room again for an answer in parts."""
        self.phase = Phase.IDLE
        self.since_s = server.now_s

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._server.opened(self):
            self._refuse(_TOO_MANY_CONNECTIONS)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._transport = None
        self._parser = None  # it leads back here
        server = self._server
        server.closed(self)
        for request in (self._request, self._answering, *self._waiting):
            if request is not None:
                server.bytes_held -= request.size
        self._request = self._answering = None
        self._waiting.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.on_leave is not None:
            exchange.on_leave(exchange)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or self.phase is Phase.LINGER:
            return
        if self.phase is not Phase.BODY:
            self._head_bytes += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # what was asked for is answered; another protocol is not spoken
        except httptools.HttpParserError as error:
            self._refuse(HttpError(400, f"expected HTTP/1.1: {error}", "bad_http"))
        if self.phase is Phase.HEAD and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(_HEAD_TOO_LARGE)
        self._pump()

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        if self._on_room is not None:
            self._on_room()
        self._pump()

    # What the parser tells

    def on_message_begin(self) -> None:
        if self.phase is not Phase.LINGER:
            self._request = _Request()
            self.phase, self.since_s = Phase.HEAD, self._server.now_s

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            self._request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        known = _KNOWN.get(name)
        if known is None:
            known = _KNOWN.get(name.lower())
        if known and self._request is not None:
            self._request.headers[known] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        request = self._request
        if self.phase is Phase.LINGER or request is None:
            return
        self.phase, self.since_s = Phase.BODY, self._server.now_s
        length = request.headers.get("content-length")
        taken = length is None or self._hold(request, int(length))
        first = self._answering is None and not self._waiting  # else the answers before it come first
        if taken and first and "expect" in request.headers and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        request = self._request
        if self.phase is Phase.LINGER or request is None:
            return
        request.body.append(body)
        if "content-length" not in request.headers:
            self._hold(request, len(body))

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        parser = self._parser
        if request is None:
            return
        if self.phase is Phase.LINGER or parser is None:
            self._server.bytes_held -= request.size
            return
        self.phase, self.since_s, self._head_bytes = Phase.IDLE, self._server.now_s, 0
        method = parser.get_method()
        request.method = _METHODS.get(method) or method.decode("ascii")
        request.keep = parser.should_keep_alive() and not parser.should_upgrade()
        if not request.keep or "connection" in request.headers:  # else it is HTTP/1.1, which keeps without being asked
            request.old = parser.get_http_version() == "1.0"
        self._waiting.append(request)

    def _hold(self, request: _Request, size: int) -> bool:
        """Counts bytes of a body that come; refuses where they are too many."""
        limits = self._server.limits
        if request.size + size > limits.body_bytes_max:
            self._refuse(self._server.handler.too_large(request.size + size, limits.body_bytes_max))
        elif self._server.bytes_held + size > limits.bodies_bytes_max:
            self._refuse(TOO_MANY_BYTES)
        else:
            request.size += size
            self._server.bytes_held += size
            return True
        return False

    # Requests and answers

    def _pump(self) -> None:
        """Handles what waits, one after the other, until one is answered later or nothing waits."""
        if self._pumping:
            return
        self._pumping = True
        while self._waiting and self._answering is None and self._may_write:
            request = self._waiting.popleft()
            self._answering = request
            self._handle(request)
        self._pumping = False
        transport = self._transport
        if transport is not None and not transport.is_closing() and self._reading == bool(self._waiting):
            self._reading = not self._waiting
            (transport.resume_reading if self._reading else transport.pause_reading)()

    def _handle(self, request: _Request) -> None:
        server, transport = self._server, self._transport
        body = request.body[0] if len(request.body) == 1 else b"".join(request.body)
        request.body = []
        path = server.path(request.url)
        client = ""
        if path == METRICS_PATH and transport is not None and (peer := transport.get_extra_info("peername")):
            client = f"[{peer[0]}]:{peer[1]}"
        self._exchange = server.handler.handle(request.method, path, request.headers, body, self, client)

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Answers the request whose turn it is."""
        request, self._answering, self._exchange = self._answering, None, None
        if request is None:
            return
        server, transport = self._server, self._transport
        server.bytes_held -= request.size
        if transport is None or transport.is_closing():
            return
        keep = request.keep and not server.draining
        head = server.json_ok if status == 200 and headers is JSON_HEADERS else server.head(status, headers)
        if not keep:
            head += b"connection: close\r\n"
        elif request.old:
            head += b"connection: keep-alive\r\n"
        size = len(body)
        if request.method == "HEAD":
            body = b""
        if size <= WRITE_TOGETHER_BYTES_MAX:
            transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, size, body))
        else:
            transport.writelines((b"%bcontent-length: %d\r\n\r\n" % (head, size), body))
        self._next(transport, keep)

    def _next(self, transport: asyncio.Transport, keep: bool) -> None:
        """What follows an answer."""
        if keep:
            self.since_s = self._server.now_s
            if self._waiting or not self._reading:
                self._pump()
        elif self.phase is Phase.LINGER:
            transport.write_eof()
        else:
            transport.close()

    def response_parts(self, status: int, headers: Headers, on_room: Callable[[], None]) -> "Connection":
        """Begins an answer in parts: in chunks, or to HTTP/1.0 until the connection ends. `send` and `end` follow."""
        request, transport = self._answering, self._transport
        if request is not None and transport is not None and not transport.is_closing():
            self._on_room = on_room
            request.keep = request.keep and not self._server.draining and not request.old
            how = b"" if request.old else b"transfer-encoding: chunked\r\n"
            close = b"" if request.keep else b"connection: close\r\n"
            transport.write(b"%b%b%b\r\n" % (self._server.head(status, headers), how, close))
        return self

    def send(self, data: bytes) -> bool:
        request, transport = self._answering, self._transport
        if request is None or transport is None or transport.is_closing():
            return True
        transport.write(data if request.old else b"%x\r\n%b\r\n" % (len(data), data))
        return self._may_write

    def end(self) -> None:
        request, self._answering, self._exchange, self._on_room = self._answering, None, None, None
        transport = self._transport
        if request is None:
            return
        self._server.bytes_held -= request.size
        if transport is not None and not transport.is_closing():
            if not request.old:
                transport.write(b"0\r\n\r\n")
            self._next(transport, request.keep)

    def _refuse(self, error: HttpError) -> None:
        """Answers what is being read, unread, and ends the connection: where the next request begins is not known."""
        transport = self._transport
        if transport is None or transport.is_closing() or self.phase is Phase.LINGER:
            return
        self.phase, self.since_s = Phase.LINGER, self._server.now_s
        earlier = self._waiting[-1] if self._waiting else self._answering
        if earlier is not None:  # of this connection: answers are in order, and that one is the last
            earlier.keep = False
        else:
            self._answering = self._request or _Request()
            self._answering.keep = False
            self._request = None
            self._server.handler.gateway.refuse(self, error)

    # What the server tells

    def expire(self, now_s: float) -> None:
        """Ends what takes too long to come. A request that is being answered has a deadline of its own."""
        if self._answering is not None:
            return
        waited_s = now_s - self.since_s
        if self.phase is Phase.HEAD and waited_s > HEAD_TIMEOUT_S:
            self._refuse(_SLOW_HEAD)
        elif self.phase is Phase.BODY and waited_s > self._server.limits.body_timeout_s:
            self._refuse(SLOW_BODY)
        elif self._transport is not None and waited_s > _PATIENCE_S.get(self.phase, math.inf):
            self._transport.abort()  # not close, which would wait for a client that does not read its answer

    def drain(self) -> None:
        """Ends the connection, after the answer where one is due."""
        if self._answering is None and self._transport is not None:
            self._transport.close()


def _path(url: bytes) -> str:
    """The decoded path of a request's target."""
    if url.startswith(b"/") and b"?" not in url and b"%" not in url:
        return url.decode("latin-1")
    try:
        path = httptools.parse_url(url).path or b"/"
    except httptools.HttpParserInvalidURLError:
        path = url
    return urllib.parse.unquote_to_bytes(path).decode("utf-8", "replace")


class LlhttpServer:
    """All connections of one process."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.bytes_held = 0
        """Bytes of bodies that come or wait for their answer."""
        self.draining = False
        self.json_ok = b""
        """The head of the usual answer, but for its length."""
        self._date = ""
        self.now_s = 0.0
        self._connections: set[Connection] = set()
        self._paths: dict[bytes, str] = {}
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self._sweep()

    async def start(self, slot: int, listen_fd: int) -> None:  # noqa: ARG002 - as all servers are started
        """Takes connections from the socket."""
        listening = socket.socket(fileno=listen_fd)
        self._server = await self._loop.create_server(lambda: Connection(self), sock=listening, backlog=BACKLOG)

    def stop(self) -> None:
        """Takes no more connections; what was taken is answered."""
        if self.draining:
            return
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        self._done_if_empty()

    async def stopped(self) -> None:
        """Waits until the last connection is closed."""
        await self._empty.wait()

    def head(self, status: int, headers: Headers) -> bytes:
        """The head of an answer, but for what frames its body."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        return f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n{lines}date: {self._date}\r\n".encode("latin-1")

    def path(self, url: bytes) -> str:
        """The decoded path of a request's target. Most are asked for again and again."""
        path = self._paths.get(url)
        if path is None:
            path = _path(url)
            if len(url) <= URL_KEPT_BYTES_MAX:
                if len(self._paths) >= URLS_KEPT:
                    self._paths.clear()
                self._paths[url] = path
        return path

    def opened(self, connection: Connection) -> bool:
        self._connections.add(connection)
        return len(self._connections) <= CONNECTIONS_MAX

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._done_if_empty()

    def _done_if_empty(self) -> None:
        if self.draining and not self._connections:
            self._empty.set()

    def _sweep(self) -> None:
        self.now_s = self._loop.time()
        self._date = email.utils.formatdate(time.time(), usegmt=True)
        self.json_ok = self.head(200, JSON_HEADERS)
        for connection in list(self._connections):
            connection.expire(self.now_s)
        self._loop.call_later(SWEEP_S, self._sweep)
