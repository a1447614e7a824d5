"""The transport by grpcio: a task for each call, which waits for the callback that answers it.

A client that leaves, or whose deadline passes, is grpcio's cancellation of the task, and becomes the exchange's
leaving. Streams hold at most `STREAM_REQUESTS_MAX` requests whose answers the client has not taken: beyond, its
requests wait unread, so a client that does not read cannot fill the gateway.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, NamedTuple

import grpc
import grpc.aio

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange, HeaderMap, Headers
from mizzen.serving.gateway.grpc.calls import NOT_SERVING, SERVING, Calls, InferRequest, decoded
from mizzen.serving.gateway.plan import Limits
from mizzen.serving.oip.messages import HEALTH, INFERENCE, message
from mizzen.serving.oip.protobuf import field

STREAM_REQUESTS_MAX = 64
STREAMS_MAX = 1024
"""Calls at once on one connection."""
METADATA_BYTES_MAX = 64 << 10
STOP_GRACE_S = 30.0
SERVICE_UNKNOWN = 3
"""Of gRPC's `HealthCheckResponse`."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def options(limits: Limits) -> list[tuple[str, int]]:
    """What both transports are told."""
    return [
        ("grpc.max_receive_message_length", limits.body_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.so_reuseport", 1),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


class _Call:
    """A unary call's client."""

    __slots__ = ("_waiter", "code", "headers", "message", "remaining_s", "trailers")

    def __init__(self, context: Any) -> None:
        self.headers: HeaderMap = dict(context.invocation_metadata())
        self.remaining_s: float | None = context.time_remaining()
        self.message: bytes | None = None
        self.code = 0
        self.trailers: Headers = []
        self._waiter: asyncio.Future[None] | None = None

    def respond(self, message: bytes) -> None:
        self.message = message
        self._wake()

    def fail(self, code: int, message: str, trailers: Headers) -> None:
        self.code, self.message, self.trailers = code, message.encode(), trailers
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def answered(self) -> None:
        if self.message is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class _Answer(NamedTuple):
    """What a stream's client is told next."""

    message: bytes | None
    """`None`: nothing, but its request has ended."""
    taken: Callable[[], None] | None = None
    last: bool = False
    """Whether it is the last of its request."""


class _Stream:
    """The answers of one stream, in the order in which they come, until the client takes them."""

    def __init__(self, context: Any) -> None:
        self.headers: HeaderMap = dict(context.invocation_metadata())
        self.open: set[Exchange] = set()
        self._room = asyncio.Semaphore(STREAM_REQUESTS_MAX)
        self._answers: asyncio.Queue[_Answer] = asyncio.Queue()
        self._due = 0
        self._ended = False

    async def begin(self) -> None:
        """Waits until one more request may be held."""
        await self._room.acquire()
        self._due += 1

    def put(self, answer: _Answer) -> None:
        self._answers.put_nowait(answer)

    def end(self) -> None:
        """No more requests come."""
        self._ended = True
        self._answers.put_nowait(_Answer(None))

    async def answers(self) -> AsyncIterator[bytes]:
        while not (self._ended and not self._due):
            answer = await self._answers.get()
            if answer.message is not None:
                yield answer.message
            if answer.taken is not None:
                answer.taken()
            if answer.last:
                self._due -= 1
                self._room.release()


class _StreamCall:
    """One request of a stream. An error is an answer too: the stream goes on."""

    def __init__(self, stream: _Stream, remaining_s: float | None) -> None:
        self.headers = stream.headers
        self.remaining_s = remaining_s
        self.id = ""
        self._stream = stream

    def respond(self, message: bytes) -> None:
        self._stream.put(_Answer(field(2, message), last=True))

    def fail(self, code: int, message: str, trailers: Headers) -> None:  # noqa: ARG002 - a stream has one status
        answer = _StreamInferResponse(error_message=message, infer_response={"id": self.id})
        self._stream.put(_Answer(answer.SerializeToString(), last=True))

    def part(self, message: bytes, taken: Callable[[], None]) -> None:
        self._stream.put(_Answer(field(2, message), taken))

    def end(self) -> None:
        self._stream.put(_Answer(None, last=True))


_StreamInferResponse = message("ModelStreamInferResponse")
_HealthCheckRequest, _HealthCheckResponse = message("HealthCheckRequest"), message("HealthCheckResponse")


class AioServer:
    """All connections of one process."""

    def __init__(self, calls: Calls, limits: Limits) -> None:
        self._calls = calls
        self._server = grpc.aio.server(options=options(limits))
        self._server.add_generic_rpc_handlers(self._handlers())
        self._stopping: asyncio.Task[None] | None = None

    async def start(self, address: str) -> None:
        """Listens at `HOST:PORT` or `unix:PATH`. Raises `RuntimeError` where it cannot."""
        self._server.add_insecure_port(address)
        await self._server.start()

    def stop(self) -> None:
        """Takes no more calls; what was taken is answered."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._server.stop(STOP_GRACE_S))

    async def stopped(self) -> None:
        """Waits until the last call is answered."""
        await self._server.wait_for_termination()

    def _handlers(self) -> list[grpc.GenericRpcHandler]:
        methods: dict[str, dict[str, grpc.RpcMethodHandler]] = {INFERENCE: {}, HEALTH: {}}
        for path in self._calls.unary_methods:
            service, name = path[1:].split("/")
            methods[service][name] = grpc.unary_unary_rpc_method_handler(partial(self._unary, path))
        methods[INFERENCE]["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream_infer)
        methods[HEALTH]["Watch"] = grpc.unary_stream_rpc_method_handler(self._watch)
        return [grpc.method_handlers_generic_handler(service, found) for service, found in methods.items()]

    async def _unary(self, path: str, data: bytes, context: Any) -> bytes:
        call = _Call(context)
        exchange = self._calls.unary(path, data, call)
        try:
            await call.answered()
        except asyncio.CancelledError:
            if exchange is not None:
                _leave(exchange)
            raise
        assert call.message is not None, "what was answered has a message"
        if call.code:
            await context.abort(_CODES[call.code], call.message.decode(), tuple(call.trailers))
        return call.message

    async def _stream_infer(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        stream = _Stream(context)
        reading = asyncio.get_running_loop().create_task(self._read(requests, stream, context.time_remaining))
        try:
            async for answer in stream.answers():
                yield answer
        finally:
            reading.cancel()
            for exchange in list(stream.open):
                _leave(exchange)
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(
        self, requests: AsyncIterator[bytes], stream: _Stream, remaining_s: Callable[[], float | None]
    ) -> None:
        calls = self._calls
        try:
            async for data in requests:
                await stream.begin()
                call = _StreamCall(stream, remaining_s())
                try:
                    found = decoded(InferRequest, data)
                    call.id = found.id
                    exchange = calls.infer(found, len(data), call, call)
                except HttpError as error:
                    calls.refuse(call, error, None)
                    continue
                if exchange is not None and not exchange.done:
                    stream.open.add(exchange)
                    exchange.on_done = partial(_done, stream, exchange, exchange.on_done)
        finally:
            stream.end()

    async def _watch(self, data: bytes, context: Any) -> AsyncIterator[bytes]:  # noqa: ARG002 - as grpcio calls it
        """The server's health now, and when it changes: it does once, when the directory has told everything."""
        service = _HealthCheckRequest.FromString(data).service
        if service not in {"", INFERENCE, HEALTH}:
            yield _HealthCheckResponse(status=SERVICE_UNKNOWN).SerializeToString()
        else:
            synced = self._calls.gateway.synced_once
            if not synced.is_set():
                yield _HealthCheckResponse(status=NOT_SERVING).SerializeToString()
                await synced.wait()
            yield _HealthCheckResponse(status=SERVING).SerializeToString()
        await asyncio.Event().wait()


def _leave(exchange: Exchange) -> None:
    if exchange.on_leave is not None:
        exchange.on_leave(exchange)


def _done(stream: _Stream, exchange: Exchange, before: Callable[[], None] | None) -> None:
    stream.open.discard(exchange)
    if before is not None:
        before()
