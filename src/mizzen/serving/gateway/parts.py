"""Requests whose answers come in parts, and the two ways to ask for them over HTTP, as Triton has them.

    POST /v2/models/M/generate          {"text": "…", "parameters": {"most": 3}}  ->  {"model_name": …, "text": "…"}
    POST /v2/models/M/generate_stream   the same  ->  server-sent events, one for each part: `data: {…}`

`generate` is for answers of one part; where there are more it says so. An error after the first part is an event like
the others, `data: {"error": "…"}`, and the last.
"""

from collections.abc import Callable, Sequence

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import JSON_HEADERS, Exchange, Headers, PartsReply, Reply, Sender
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import BadRequestError, InferenceRequest, error_body
from mizzen.serving.tensors import Signature, Tensor

EVENT_HEADERS: Headers = [("content-type", "text/event-stream"), ("cache-control", "no-cache")]


class PartsExchange(Exchange):
    """A request whose answer comes in parts: `part` any number of times, then `end` or `refuse`.

    Whoever carries the parts calls `more` each time the client has taken one.
    """

    one_part = False
    """Whether its client takes no more than one."""
    __slots__ = ("ends_s", "lost", "more", "noted", "parts", "read_for", "served", "stop")

    def __init__(self, came_s: float, deadline_s: float) -> None:
        super().__init__(came_s, deadline_s)
        self.ends_s = float("inf")
        """When the client waits for nothing more; `deadline_s` is that of the first part."""
        self.more: Callable[[], None] | None = None
        self.stop: Callable[[], None] | None = None
        """Tells the worker that nobody reads on; `None` while no worker has it."""
        self.read_for: Signature | None = None
        self.lost = False
        """Whether a worker was lost with it."""
        self.parts = 0
        """So many were passed on."""
        self.noted = False
        """Whether any is in the prediction log."""
        self.served: Served | None = None
        """The version whose worker has it, or had it last."""

    def part(self, served: Served, outputs: Sequence[Tensor]) -> None:
        """Passes one part on. Raises `BadTensorError` or `HttpError`, with nothing sent, where it does not fit."""
        raise NotImplementedError

    def end(self) -> None:
        """There are no more."""
        raise NotImplementedError

    def write(self, served: Served, outputs: Sequence[Tensor]) -> None:
        self.part(served, outputs)
        self.end()

    def in_time(self, timeout_s: float) -> None:
        """Where the client said that it waits less than the endpoint would let it, that is the end of all."""
        if self.decoded is not None and self.decoded.timeout_us:
            self.deadline_s = min(self.deadline_s, self.came_s + self.decoded.timeout_us / 1e6)
        if self.deadline_s < self.came_s + timeout_s:
            self.ends_s = self.deadline_s

    def taken(self) -> None:
        """The client has taken a part."""
        if self.more is not None:
            self.more()


class GenerateExchange(PartsExchange):
    """`generate`: one part is the answer."""

    one_part = True
    __slots__ = ("_answer", "body", "reply")

    def __init__(self, reply: Reply, body: bytes, json_size: int | None, came_s: float, deadline_s: float) -> None:
        super().__init__(came_s, deadline_s)
        self.reply = reply
        self.body = body if json_size is None else b""
        self._answer: bytes | None = None

    def read(self, served: Served) -> InferenceRequest:
        if self.decoded is not None:
            return self.decoded
        body, self.body = self.body, b""
        if not body:
            raise BadRequestError("body: expected JSON")
        return served.generating.decode(body)

    def part(self, served: Served, outputs: Sequence[Tensor]) -> None:
        assert self.decoded is not None, "what is answered was decoded"
        self._answer = served.generating.encode(self.decoded, outputs)
        self.taken()

    def end(self) -> None:
        if self._answer is None:
            self.refuse(HttpError(500, "the model gave no answer", "bad_output"))
            return
        self.reply.response_bytes(200, JSON_HEADERS, self._answer)
        self.abandon()

    def refuse(self, error: HttpError) -> None:
        self.reply.response_bytes(error.status, [*JSON_HEADERS, *error.headers], error_body(error.message))
        self.abandon()


class GenerateStreamExchange(GenerateExchange):
    """`generate_stream`: each part is an event."""

    one_part = False
    __slots__ = ("_parts", "_sender", "_untaken")

    def __init__(self, reply: Reply, body: bytes, json_size: int | None, came_s: float, deadline_s: float) -> None:
        super().__init__(reply, body, json_size, came_s, deadline_s)
        if not isinstance(reply, PartsReply):
            raise HttpError(501, "this HTTP server does not answer in parts (--http granian)", "bad_method")
        self._parts = reply
        self._sender: Sender | None = None
        self._untaken = 0
        """Parts sent while there was no room."""

    def part(self, served: Served, outputs: Sequence[Tensor]) -> None:
        assert self.decoded is not None, "what is answered was decoded"
        self._event(served.generating.encode(self.decoded, outputs))

    def _event(self, data: bytes) -> None:
        if self._sender is None:
            self._sender = self._parts.response_parts(200, EVENT_HEADERS, self._room)
        if self._sender.send(b"data: %b\n\n" % data):
            self.taken()
        else:
            self._untaken += 1

    def _room(self) -> None:
        untaken, self._untaken = self._untaken, 0
        for _ in range(untaken):
            self.taken()

    def end(self) -> None:
        if self._sender is None:
            self._sender = self._parts.response_parts(200, EVENT_HEADERS, self._room)
        self._sender.end()
        self.abandon()

    def refuse(self, error: HttpError) -> None:
        if self._sender is None:
            super().refuse(error)
            return
        self._event(error_body(error.message))
        self.end()
