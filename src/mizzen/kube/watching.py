"""The watch stream: one JSON document a line, made into events.

A line may come in many chunks and a chunk may hold many lines. `ERROR` events are raised as the `ApiError` they carry,
so that a reader sees only what happened to objects, and bookmarks.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import msgspec

from mizzen.kube.errors import DecodeError, api_error
from mizzen.kube.resources import Key, decode

T = TypeVar("T")
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """What happened to an object. A `BOOKMARK` happened to none: it says how far the stream has come."""

    type: EventType
    payload: T | None
    resource_version: str
    initial_events_end: bool = False
    """On the bookmark after the last initial event of a watch with `send_initial_events`."""

    @property
    def object(self) -> T:
        """The object. Raises `ValueError` on a bookmark, which has none."""
        if self.payload is None:
            raise ValueError(f"a {self.type} event has no object; look at event.type first")
        return self.payload


@dataclass(frozen=True, slots=True)
class RawObject:
    """An object not yet made into a class: enough to file it, and its JSON."""

    key: Key
    uid: str
    resource_version: str
    wire: msgspec.Raw


class _Meta(msgspec.Struct, rename="camel"):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    annotations: dict[str, str] | None = None


class _Head(msgspec.Struct):
    metadata: _Meta


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


_line = msgspec.json.Decoder(_Line)
_head = msgspec.json.Decoder(_Head)
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"


def raw_object(wire: msgspec.Raw) -> RawObject:
    """Raises `DecodeError` where the JSON has no metadata."""
    return _raw_object(wire, _metadata(wire))


def _metadata(wire: msgspec.Raw) -> _Meta:
    try:
        return _head.decode(wire).metadata
    except msgspec.DecodeError as error:
        raise DecodeError(f"not an object: {bytes(wire)[:200]!r}: {error}") from error


def _raw_object(wire: msgspec.Raw, meta: _Meta) -> RawObject:
    key = Key(meta.namespace or None, meta.name or "")
    # A copy: the wire is otherwise a view that keeps the whole page or chunk alive.
    return RawObject(key, meta.uid or "", meta.resource_version or "", wire.copy())


async def lines_of(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The lines of a stream, without their ends; a last line that was cut off is not given."""
    waiting: list[bytes] = []
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            if waiting:
                waiting.append(line)
                line = b"".join(waiting)  # noqa: PLW2901 - the line is the joined one
                waiting.clear()
            if line:
                yield line
        if rest:
            waiting.append(rest)


async def events_of(chunks: AsyncIterator[bytes]) -> AsyncGenerator[WatchEvent[RawObject], None]:
    """The events of a watch stream. Raises the `ApiError` of an `ERROR` event, `DecodeError` for what is no event."""
    async for line in lines_of(chunks):
        yield event_of(line)


def event_of(line: bytes) -> WatchEvent[RawObject]:
    """The event on one line."""
    try:
        event = _line.decode(line)
        if event.type == "ERROR":
            raise api_error(msgspec.json.decode(event.object), request="watch")
    except msgspec.DecodeError as error:
        raise DecodeError(f"not a watch event: {line[:200]!r}: {error}") from error
    meta = _metadata(event.object)
    version = meta.resource_version or ""
    match event.type:
        case "BOOKMARK":
            ended = (meta.annotations or {}).get(_INITIAL_EVENTS_END) == "true"
            return WatchEvent("BOOKMARK", None, version, ended)
        case "ADDED" | "MODIFIED" | "DELETED":
            return WatchEvent(event.type, _raw_object(event.object, meta), version)
    raise DecodeError(f"not a watch event: unknown type {event.type!r}")


def decoded(cls: type[T], event: WatchEvent[RawObject]) -> WatchEvent[T]:
    """The event with its object as `cls`. Raises `DecodeError`."""
    obj = None if event.payload is None else decode(cls, event.payload.wire)
    return WatchEvent(event.type, obj, event.resource_version, event.initial_events_end)
