"""HTTP/1.1 and HTTP/2 by granian: how large a request is, how slow, and whether its client is still there.

    granian's thread     `_arrived`: refuse what is too large unread, else ask for the body
    event loop           `_complete`: hand it to the gateway, which answers now or later, from anywhere, without a task

A client that leaves is noticed by asking granian for its departure, which costs as much as a request. So only exchanges
that have waited `WATCH_AFTER_S` are watched. A body that does not come in time is given up with 408.

Answers in parts are not given here: granian takes them all, however slowly a client reads, and does not tell.
"""

import asyncio
import logging
from collections import deque
from functools import partial
from typing import cast

from mizzen.serving.gateway.errors import INTERNAL, HttpError
from mizzen.serving.gateway.exchange import Exchange, HeaderMap, HttpExchange
from mizzen.serving.gateway.http.handler import CUT_BODY, SLOW_BODY, TOO_MANY_BYTES, Handler
from mizzen.serving.gateway.http.rsgi import Future, Responder, Scope, Server, Watcher
from mizzen.serving.gateway.plan import Limits

log = logging.getLogger("mizzen.gateway")
WATCH_AFTER_S = 0.01
SWEEP_S = 1.0


class GranianServer:
    """Hands granian's requests to the gateway."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self._handler = handler
        self._gateway = handler.gateway
        self._limits = limits
        self._server: Server | None = None
        self._loop = asyncio.get_running_loop()
        self._bytes_taken = 0
        """Sizes of all bodies ever taken; written by granian's thread only, so that no lock is needed."""
        self._bytes_done = 0
        """Those of them that are held no more; written by the event loop's thread only."""
        self._reading: dict[Future, tuple[float, Responder]] = {}
        self._waiting: deque[Exchange] = deque()
        self._streams: set[asyncio.Task[None]] = set()
        self._watching = False
        self._loop.call_later(SWEEP_S, self._give_up_slow_bodies)

    async def start(self, slot: int, listen_fd: int) -> None:
        """Takes connections from the socket."""
        self._server = Server(slot, listen_fd, self._arrived, self._loop)

    def stop(self) -> None:
        """Takes no more connections; what was taken is answered."""
        if self._server is not None:
            self._server.stop()

    async def stopped(self) -> None:
        """Waits until the last answer is out."""
        if self._server is not None:
            await self._server.stopped()

    @property
    def bytes_held(self) -> int:
        """Bytes of bodies that are being read or wait for their answer."""
        return self._bytes_taken - self._bytes_done

    # On granian's thread

    def _arrived(self, watcher: Watcher) -> None:
        """A request's headers are here. Must not raise: granian would not see it."""
        responder = watcher.proto
        try:
            scope = watcher.scope
            headers = scope.headers
            length = headers.get("content-length")
            if length is None:
                self._loop.call_soon_threadsafe(self._without_length, scope, headers, responder)
                return
            size = int(length)
            if (error := self._refusal(size)) is not None:
                self._loop.call_soon_threadsafe(self._gateway.refuse, responder, error)
                return
            self._bytes_taken += size
            future = responder()
            self._reading[future] = (self._gateway.clock(), responder)
            future.add_done_callback(partial(self._complete, scope, headers, responder, size))
        except Exception:
            log.exception("a request could not be taken")
            self._loop.call_soon_threadsafe(self._gateway.refuse, responder, INTERNAL)

    def _refusal(self, size: int) -> HttpError | None:
        """Why a body of that size is not taken."""
        if size > self._limits.body_bytes_max:
            return self._handler.too_large(size, self._limits.body_bytes_max)
        return TOO_MANY_BYTES if self.bytes_held + size > self._limits.bodies_bytes_max else None

    # On the event loop

    def _complete(self, scope: Scope, headers: HeaderMap, responder: Responder, size: int, future: Future) -> None:
        """The body is here, or will never be."""
        self._reading.pop(future, None)
        try:
            body = future.result()
        except asyncio.CancelledError:  # too slow, and told so
            self._bytes_done += size
            return
        except RuntimeError:
            # The client left amid the body. granian's connection lives until it is answered, or until the collector
            # comes by: the exception, which granian keeps, leads here, and from here to the responder.
            self._gateway.refuse(responder, CUT_BODY)
            self._bytes_done += size
            return
        self._handle(scope, headers, responder, body, size)

    def _without_length(self, scope: Scope, headers: HeaderMap, responder: Responder) -> None:
        if scope.method in {"POST", "PUT", "PATCH"}:
            task = self._loop.create_task(self._stream(scope, headers, responder))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        else:
            self._handle(scope, headers, responder, b"", 0)

    async def _stream(self, scope: Scope, headers: HeaderMap, responder: Responder) -> None:
        """Reads a body of unsaid length (chunked, or HTTP/2)."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                async for chunk in responder:
                    body += chunk
                    if (error := self._refusal(len(body))) is not None:
                        self._gateway.refuse(responder, error)
                        return
        except TimeoutError:
            self._gateway.refuse(responder, SLOW_BODY)
        except RuntimeError:
            self._gateway.refuse(responder, CUT_BODY)
        else:
            self._handle(scope, headers, responder, bytes(body), 0)

    def _handle(self, scope: Scope, headers: HeaderMap, responder: Responder, body: bytes, size: int) -> None:
        exchange = self._handler.handle(scope.method, scope.path, headers, body, responder, scope.client)
        if exchange is None or exchange.done:
            self._bytes_done += size
            return
        if size:
            exchange.on_done = partial(self._release, size)
        self._waiting.append(exchange)
        if not self._watching:
            self._watching = True
            self._loop.call_later(WATCH_AFTER_S, self._watch)

    def _release(self, size: int) -> None:
        self._bytes_done += size

    def _watch(self) -> None:
        """Asks granian to tell when the clients of exchanges that take long leave."""
        since_s = self._gateway.clock() - WATCH_AFTER_S
        waiting = self._waiting
        while waiting and waiting[0].came_s <= since_s:
            exchange = waiting.popleft()
            if not exchange.done:
                future = cast("Responder", cast("HttpExchange", exchange).reply).client_disconnect()
                exchange.watch = future
                future.add_done_callback(partial(self._departed, exchange))
        if waiting:
            self._loop.call_later(WATCH_AFTER_S, self._watch)
        else:
            self._watching = False

    def _departed(self, exchange: Exchange, future: Future) -> None:
        if not future.cancelled() and exchange.on_leave is not None:
            exchange.on_leave(exchange)

    def _give_up_slow_bodies(self) -> None:
        since_s = self._gateway.clock() - self._limits.body_timeout_s
        for future, (came_s, responder) in list(self._reading.items()):
            if came_s <= since_s and future.cancel():
                self._gateway.refuse(responder, SLOW_BODY)
        self._loop.call_later(SWEEP_S, self._give_up_slow_bodies)
