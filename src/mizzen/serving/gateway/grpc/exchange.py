"""One inference request that came by gRPC: a message in, a message out, errors as gRPC's status codes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange, HeaderMap, Headers
from mizzen.serving.gateway.parts import PartsExchange
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import InferenceRequest
from mizzen.serving.oip.messages import message
from mizzen.serving.tensors import Tensor

CODES = {
    400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 413: 8, 429: 8, 431: 8, 500: 13, 501: 12, 503: 14, 504: 4,
}  # fmt: skip
"""gRPC's status codes for HTTP's: INVALID_ARGUMENT 3, DEADLINE_EXCEEDED 4, NOT_FOUND 5, PERMISSION_DENIED 7,
RESOURCE_EXHAUSTED 8, UNIMPLEMENTED 12, INTERNAL 13, UNAVAILABLE 14, UNAUTHENTICATED 16."""
MS_PER_S = 1000
TELL_END = "triton_enable_empty_final_response"
"""The parameter by which a client asks to be told which message of a stream is the last."""
_InferResponse = message("ModelInferResponse")


class Call(Protocol):
    """One call's client. It is answered once, and whoever is gone is answered into the void."""

    headers: HeaderMap
    """Its metadata."""
    remaining_s: float | None
    """How long it will wait; `None` where it did not say."""

    def respond(self, message: bytes) -> None: ...
    def fail(self, code: int, message: str, trailers: Headers) -> None: ...


class MessageExchange(Exchange):
    """A `ModelInferRequest` and where its answer goes."""

    __slots__ = ("call", "message")

    def __init__(self, call: Call, message: Any, came_s: float, deadline_s: float) -> None:
        super().__init__(came_s, deadline_s)
        self.call = call
        self.message = message

    def read(self, served: Served) -> InferenceRequest:
        message, self.message = self.message, None
        return served.message_decoder.decode(message)

    def write(self, served: Served, outputs: Sequence[Tensor]) -> None:
        assert self.decoded is not None, "what was queued was decoded"
        self.call.respond(served.message_encoder.encode(self.decoded, outputs))
        self.abandon()

    def refuse(self, error: HttpError) -> None:
        refuse(self.call, error)
        self.abandon()


class StreamCall(Call, Protocol):
    """One request of a stream, which is answered by any number of messages."""

    def part(self, message: bytes, taken: Callable[[], None]) -> None:
        """`taken` is called when the client has taken it."""

    def end(self) -> None: ...


class StreamExchange(PartsExchange):
    """A `ModelInferRequest` of a stream."""

    __slots__ = ("call", "message", "tell_end")

    def __init__(self, call: StreamCall, message: Any, came_s: float, deadline_s: float) -> None:
        super().__init__(came_s, deadline_s)
        self.call = call
        self.message = message
        self.tell_end = TELL_END in message.parameters and message.parameters[TELL_END].bool_param
        """Whether the client wants to be told which message is the last."""

    def read(self, served: Served) -> InferenceRequest:
        if self.decoded is not None:
            return self.decoded
        found, self.message = self.message, None
        return served.message_decoder.decode(found)

    def part(self, served: Served, outputs: Sequence[Tensor]) -> None:
        assert self.decoded is not None, "what is answered was decoded"
        final = False if self.tell_end else None
        self.call.part(served.message_encoder.encode(self.decoded, outputs, final), self.taken)

    def end(self) -> None:
        if self.tell_end and self.decoded is not None:
            final = _InferResponse(id=self.decoded.id or "", parameters={"triton_final_response": {"bool_param": True}})
            self.call.part(final.SerializeToString(), _nothing)
        self.call.end()
        self.abandon()

    def refuse(self, error: HttpError) -> None:
        refuse(self.call, error)
        self.abandon()


def _nothing() -> None: ...


def refuse(call: Call, error: HttpError) -> None:
    """Ends the call with an error. When to come again is said as HTTP does, and as gRPC's own retries understand it."""
    trailers: Headers = []
    for name, value in error.headers:
        if name == "retry-after":
            trailers += [(name, value), ("grpc-retry-pushback-ms", str(int(value) * MS_PER_S))]
    call.fail(CODES.get(error.status, 2), error.message, trailers)
