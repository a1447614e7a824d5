"""granian's server (hyper, in Rust: HTTP/1.1 and HTTP/2), driven by plain callbacks.

granian's own way to call a handler makes a task for each request and wakes the event loop twice, once to start it and
once with the body. Measured with a handler that only echoes, that costs 13 us of processor time a request. Here the
server's thread itself asks for the body, and the event loop is woken once, with all of the request: 9 us, and half as
many requests again in a second. For this granian is given a scheduler of our own in place of the one that it makes for
a coroutine function. That is not its documented face, so all that leans on it is in this module, and granian's version
is pinned to those it was tried with.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, cast

from granian import _granian
from granian.http import HTTP1Settings, HTTP2Settings

from mizzen.serving.gateway.exchange import HeaderMap, Headers

HEADERS_TIMEOUT_MS = 10_000
"""A client has this long for its request line and headers, and between requests of one connection."""
HTTP2_HEADERS_BYTES_MAX = 64 << 10
CONNECTIONS_MAX = 4096
BACKLOG = 1024
_native: Any = _granian  # its type stubs are of an older version


class Future(Protocol):
    """granian's futures: much like asyncio's. Callbacks run on the event loop."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None: ...
    def cancel(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def result(self) -> bytes: ...


class Scope(Protocol):
    """A request's line and headers. Each access to `headers` copies them: once is enough."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def client(self) -> str: ...
    @property
    def headers(self) -> HeaderMap: ...


class Responder(Protocol):
    """A request's body, its client, and where its answer goes. Whoever drops one unanswered leaves granian to say
    500.
    """

    def __call__(self) -> Future:
        """The whole body. Its result raises `RuntimeError` where the client left before."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def client_disconnect(self) -> Future: ...
    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None: ...


class Watcher(Protocol):
    """What granian hands over for each request."""

    scope: Scope
    proto: Responder


class Server:
    """A running server on one socket."""

    def __init__(
        self, slot: int, listen_fd: int, arrived: Callable[[Watcher], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        """`arrived` is called on granian's thread with each request whose headers are there. It must not raise."""
        self._loop = loop
        self._stopped = asyncio.Event()
        self._signal = _native.WorkerSignal()
        self._signal.add_cb(lambda: loop.call_soon_threadsafe(self._stopped.set))
        worker = _native.RSGIWorker(
            worker_id=slot + 1,
            sock=(None, _native.SocketHolder(listen_fd, False, BACKLOG)),
            ipc=None,
            backpressure=CONNECTIONS_MAX,
            http_mode="auto",
            http1_opts=HTTP1Settings(header_read_timeout=HEADERS_TIMEOUT_MS),
            http2_opts=HTTP2Settings(max_headers_size=HTTP2_HEADERS_BYTES_MAX),
        )
        scheduler = _native.CallbackScheduler.__new__(_Scheduler, loop, None, None, None, None)
        scheduler._schedule_fn = arrived  # noqa: SLF001 - as granian's own schedulers are made
        worker.serve_str(scheduler, loop, self._signal)

    def stop(self) -> None:
        """Takes no more connections; what was taken is answered. May be called from a signal handler of the loop."""
        self._signal.set()

    async def stopped(self) -> None:
        """Waits until the last answer is out."""
        await self._stopped.wait()


class _Scheduler(cast("type[Any]", _native.CallbackScheduler)):  # type: ignore[misc]
    __slots__ = ()
