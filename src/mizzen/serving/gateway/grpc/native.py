"""The transport by pygrpc-native: HTTP/2 and gRPC on Rust threads, calls handed over in batches, answers from anywhere.

    its I/O thread      connections, frames, metadata, deadlines, flow control: without the interpreter's lock
    a thread of ours    waits for calls, and wakes the event loop once for all that came together
    event loop          `Calls.unary`; an answer goes straight back, without a task

What it does not serve, streams, goes on to grpcio (`aio`) at a Unix socket. It is young, so all that leans on it is in
this module; docs/adr/0012 has what was measured.
"""

import asyncio
import logging
import tempfile
import threading
from pathlib import Path
from typing import Any

import pygrpc_native

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange, HeaderMap, Headers
from mizzen.serving.gateway.grpc.aio import METADATA_BYTES_MAX, STREAMS_MAX, AioServer
from mizzen.serving.gateway.grpc.calls import Calls
from mizzen.serving.gateway.plan import Limits

log = logging.getLogger("mizzen.gateway")
CALLS_TOGETHER_MAX = 64
UNAVAILABLE = 14
FLUSH_S = 0.5
"""The front, when it is closed, drops what its threads have not written yet, and does not tell when they have."""
Events = list[tuple[int, int, int, bytes | None, object, Any]]


class _Call:
    """A unary call's client."""

    __slots__ = ("_id", "_server", "headers", "remaining_s")

    def __init__(self, server: "NativeServer", id_: int, details: Any) -> None:
        metadata, _, remaining_s = details
        self._server = server
        self._id = id_
        self.headers: HeaderMap = dict(metadata)
        self.remaining_s: float | None = remaining_s

    def respond(self, message: bytes) -> None:
        self._server.front.respond(self._id, message)
        self._server.done(self._id)

    def fail(self, code: int, message: str, trailers: Headers) -> None:
        sent = [(name, value) for name, value in trailers if not name.startswith("grpc-")]  # it refuses these
        self._server.front.fail(self._id, code, message, sent)
        self._server.done(self._id)


class NativeServer:
    """All connections of one process."""

    def __init__(self, calls: Calls, limits: Limits) -> None:
        self._calls = calls
        self._limits = limits
        self._methods = calls.unary_methods
        self._loop = asyncio.get_running_loop()
        self._streams = AioServer(calls, limits)
        self._folder = tempfile.TemporaryDirectory(prefix="mizzen-grpc-")
        self._open: dict[int, Exchange | None] = {}
        self._stopping = False
        self._empty = asyncio.Event()
        self.front: Any = None

    async def start(self, address: str) -> None:
        """Listens at `HOST:PORT`. Raises `OSError` where it cannot."""
        self.front = pygrpc_native.NativeGrpcFront(
            address, [(path, False) for path in self._methods], io_threads=1, call_details=True, reuse_port=True,
            max_concurrent_streams=STREAMS_MAX, max_metadata_size=METADATA_BYTES_MAX,
        )  # fmt: skip
        path = Path(self._folder.name) / "streams.sock"
        await self._streams.start(f"unix:{path}")
        self.front.set_fallback(str(path))
        self.front.start()
        threading.Thread(target=self._receive, name="grpc", daemon=True).start()

    def stop(self) -> None:
        """Takes no more calls; what was taken is answered."""
        self._stopping = True
        self._streams.stop()
        self._end_if_empty()

    async def stopped(self) -> None:
        """Waits until the last call is answered."""
        await self._empty.wait()
        await self._streams.stopped()
        await asyncio.sleep(FLUSH_S)
        await self._loop.run_in_executor(None, self.front.close)
        self._folder.cleanup()

    def done(self, id_: int) -> None:
        """A call was answered."""
        self._open.pop(id_, None)
        self._end_if_empty()

    def _end_if_empty(self) -> None:
        if self._stopping and not self._open:
            self._empty.set()

    def _receive(self) -> None:
        """On a thread of its own, until the front is closed."""
        while (events := self.front.recv_batch_details(CALLS_TOGETHER_MAX)) is not None:
            self._loop.call_soon_threadsafe(self._take, events)

    def _take(self, events: Events) -> None:
        for kind, id_, method, data, _, details in events:
            if kind == pygrpc_native.EVENT_CANCEL:
                exchange = self._open.pop(id_, None)
                if exchange is not None and exchange.on_leave is not None:
                    exchange.on_leave(exchange)
                self._end_if_empty()
            elif self._stopping:
                self.front.fail(id_, UNAVAILABLE, "the gateway is stopping")
            else:
                self._begin(id_, method, data or b"", details)

    def _begin(self, id_: int, method: int, data: bytes, details: Any) -> None:
        call = _Call(self, id_, details)
        if len(data) > self._limits.body_bytes_max:
            size_max = self._limits.body_bytes_max
            message = f"expected a message of at most {size_max} bytes, got {len(data)}"
            self._calls.refuse(call, HttpError(413, message, "too_large"), None)
            return
        self._open[id_] = None
        exchange = self._calls.unary(self._methods[method], data, call)
        if exchange is not None and id_ in self._open:
            self._open[id_] = exchange
