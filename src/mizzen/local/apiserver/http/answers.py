"""Answers as they are sent: whole bodies, bodies in pieces, and streams that last."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from mizzen.local.apiserver.http.negotiation import JSON

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A body that is at hand."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Pieces:
    """A long body that is made while it is sent."""

    pieces: Iterable[bytes]
    status: int = 200
    content_type: str = JSON
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """A body without a known end: each chunk is sent when it comes. `chunks` is closed when the client is gone."""

    chunks: AsyncIterator[bytes]
    status: int = 200
    content_type: str = JSON
    headers: Headers = field(default=())


Reply = Answer | Pieces | Stream
