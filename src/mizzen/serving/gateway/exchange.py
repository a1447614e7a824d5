"""One inference request on its way through the gateway: what came, where its answer goes, and what is known of it so
far.
"""

from collections.abc import Callable
from typing import Protocol

from mizzen.policy.queue import Request
from mizzen.serving.oip import InferenceRequest

Headers = list[tuple[str, str]]


JSON_HEADERS: Headers = [("content-type", "application/json")]


class HeaderMap(Protocol):
    """Request headers; names in lower case."""

    def get(self, key: str, default: None = None) -> str | None: ...


class Watch(Protocol):
    """The future of a client's departure."""

    def cancel(self) -> bool: ...


class Reply(Protocol):
    """Where an answer goes. Whoever is gone is answered into the void."""

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None: ...


class Exchange:
    """A request that waits for its answer, which is given once (`answer`), or never (`abandon`)."""

    __slots__ = (
        "body", "came_s", "deadline_s", "decoded", "done", "json_size", "on_done", "on_leave", "pinned", "reply",
        "sent_s", "tenant", "ticket", "trace_id", "unit", "watch",
    )  # fmt: skip

    def __init__(self, reply: Reply, body: bytes, json_size: int | None, came_s: float, deadline_s: float) -> None:
        self.reply = reply
        self.body: bytes | None = body
        """Until it is decoded."""
        self.json_size = json_size
        """How much of the body is JSON; `None`: all of it."""
        self.came_s = came_s
        self.deadline_s = deadline_s
        self.pinned: int | None = None
        """The version that the client asked for by number."""
        self.decoded: InferenceRequest | None = None
        self.ticket: Request | None = None
        """Its place in the queue."""
        self.watch: Watch | None = None
        self.on_leave: Callable[[Exchange], None] | None = None
        """To be called when the client has gone."""
        self.on_done: Callable[[], None] | None = None
        """Called when nothing is held for it any more."""
        self.sent_s: float | None = None
        """When it was sent to a worker."""
        self.tenant: str | None = None
        """Whose API key it came with, by name."""
        self.unit: str | None = None
        """Whom it is for, as the client says (`Mizzen-Unit`): what a version is chosen for, and what is sampled by."""
        self.trace_id: str | None = None
        self.done = False

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Gives the answer."""
        self.reply.response_bytes(status, headers, body)
        self.abandon()

    def abandon(self) -> None:
        """Nothing more is to be done for it."""
        self.done = True
        self.body = self.decoded = self.ticket = self.on_leave = None
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None
        if self.on_done is not None:
            self.on_done()
