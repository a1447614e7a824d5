"""Answers as they are sent: whole bodies, bodies in pieces, and streams that last."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

JSON: Final = "application/json"
YAML: Final = "application/yaml"

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
    """A body without a known end: each chunk is sent when it comes."""

    chunks: AsyncIterator[bytes]
    stop: Callable[[], None]
    """Asks for an end in good order; without it a stream lasts until its client goes."""
    status: int = 200
    content_type: str = JSON
    headers: Headers = ()


Reply = Answer | Pieces | Stream
