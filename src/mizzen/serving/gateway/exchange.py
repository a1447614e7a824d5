"""One inference request on its way through the gateway: what came, where its answer goes, and what is known of it so
far.

How a protocol reads a request and writes its answer is the exchange's own: `read`, `write` and `refuse`. Here is the
Open Inference Protocol over HTTP; others are `rows` and `grpc.exchange`. The queue sees no difference.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from mizzen.policy.queue import Request
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.served import Served
from mizzen.serving.gateway.split import Split
from mizzen.serving.gateway.tracing import Trace
from mizzen.serving.oip import InferenceRequest, error_body
from mizzen.serving.oip.response import BINARY_TYPE
from mizzen.serving.tensors import Tensor

Headers = list[tuple[str, str]]


JSON_HEADERS: Headers = [("content-type", "application/json")]


class HeaderMap(Protocol):
    """Request headers; names in lower case."""

    def get(self, key: str, default: None = None) -> str | None: ...


class Watch(Protocol):
    """The future of a client's departure."""

    def cancel(self) -> bool: ...


class Sender(Protocol):
    """An answer in parts on its way to its client."""

    def send(self, data: bytes) -> bool:
        """Whether there is room for more; else `on_room` is called when there is."""

    def end(self) -> None: ...


class Reply(Protocol):
    """Where an answer goes. Whoever is gone is answered into the void."""

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None: ...


class Flight(Protocol):
    """One computation that several exchanges may wait for."""

    def left(self, exchange: "Exchange") -> None: ...
    def computed(self, outputs: Sequence[Tensor]) -> None: ...


class Run(Protocol):
    """What is under way for an exchange in a graph."""

    def give_up(self) -> None: ...


@runtime_checkable
class PartsReply(Reply, Protocol):
    """Where an answer may go in parts, too."""

    def response_parts(self, status: int, headers: Headers, on_room: Callable[[], None]) -> Sender: ...


class Observed(Protocol):
    """Who wants to know how a request ended."""

    @property
    def trace(self) -> Trace | None: ...

    def done(self, exchange: "Exchange", decoded: InferenceRequest | None, status: int, outcome: str) -> None: ...


class Exchange:
    """A request that waits for its answer, which is given once (`write` or `refuse`), or never (`abandon`).

    Its subclasses are the protocols.
    """

    __slots__ = (
        "came_s", "deadline_s", "decoded", "done", "flight", "observed", "on_done", "on_leave", "pinned", "run",
        "sent_s", "split", "tenant", "ticket", "unit", "watch",
    )  # fmt: skip

    def __init__(self, came_s: float, deadline_s: float) -> None:
        self.came_s = came_s
        self.deadline_s = deadline_s
        self.pinned: int | None = None
        """The version that the client asked for by number."""
        self.tenant = ""
        """Who asks: the name of the API key; empty where anyone may."""
        self.decoded: InferenceRequest | None = None
        self.ticket: Request | None = None
        """Its place in the queue."""
        self.split: Split | None = None
        """Where it is larger than a batch: its parts."""
        self.flight: Flight | None = None
        """The computation that others may wait for too (`cache`)."""
        self.run: Run | None = None
        """Its way through a graph (`graph`)."""
        self.watch: Watch | None = None
        self.on_leave: Callable[[Exchange], None] | None = None
        """To be called when the client has gone."""
        self.on_done: Callable[[], None] | None = None
        """Called when nothing is held for it any more."""
        self.sent_s: float | None = None
        """When it was sent to a worker."""
        self.unit: str | None = None
        """Whom it is for, as the client says (`Mizzen-Unit`): what splits go by, and what is sampled by."""
        self.observed: Observed | None = None
        """Where it is traced, or written to the access log."""
        self.done = False

    @property
    def trace_id(self) -> str | None:
        """Of its trace, where it is traced."""
        trace = self.observed.trace if self.observed is not None else None
        return trace.trace_id if trace is not None else None

    def read(self, served: Served) -> InferenceRequest:
        """What came, decoded for that version; once. Raises `BadRequestError`."""
        raise NotImplementedError

    def write(self, served: Served, outputs: Sequence[Tensor]) -> None:
        """Answers with that version's outputs. Raises `BadTensorError`, with nothing sent, where they do not fit."""
        raise NotImplementedError

    def refuse(self, error: HttpError) -> None:
        """Answers with an error."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Nothing more is to be done for it."""
        self.done = True
        self.decoded = self.ticket = self.split = self.on_leave = None
        if self.flight is not None:
            flight, self.flight = self.flight, None
            flight.left(self)
        if self.run is not None:
            run, self.run = self.run, None
            run.give_up()
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None
        if self.on_done is not None:
            self.on_done()


class HttpExchange(Exchange):
    """The Open Inference Protocol over HTTP: JSON, with binary data behind it where the client has it so."""

    __slots__ = ("body", "json_size", "reply")

    def __init__(self, reply: Reply, body: bytes, json_size: int | None, came_s: float, deadline_s: float) -> None:
        super().__init__(came_s, deadline_s)
        self.reply = reply
        self.body = body
        self.json_size = json_size
        """How much of the body is JSON; `None`: all of it."""

    def read(self, served: Served) -> InferenceRequest:
        body, self.body = self.body, b""
        return served.decoder.decode(body, self.json_size)

    def write(self, served: Served, outputs: Sequence[Tensor]) -> None:
        assert self.decoded is not None, "what was queued was decoded"
        body, json_size = served.encoder.encode(self.decoded, outputs)
        self.reply.response_bytes(200, JSON_HEADERS if json_size is None else binary_headers(json_size), body)
        self.abandon()

    def refuse(self, error: HttpError) -> None:
        self.reply.response_bytes(error.status, [*JSON_HEADERS, *error.headers], error_body(error.message))
        self.abandon()

    def abandon(self) -> None:
        self.body = b""
        Exchange.abandon(self)


def binary_headers(json_size: int) -> Headers:
    """Of an answer whose JSON is followed by binary data."""
    return [("content-type", BINARY_TYPE), ("inference-header-content-length", str(json_size))]
