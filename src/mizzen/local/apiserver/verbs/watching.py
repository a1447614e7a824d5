"""Watch: every change after a revision, in order, until the client has had enough.

A watch is a place in the history of its resource (`store.Subscription`), so a slow client holds nothing: it reads on
when its connection takes more, and when what it needs is gone it is told so (an ERROR event with 410) and the watch
ends. Whatever is there when a watch is woken goes out in one piece. A change is encoded once for all watches that
show it the same way (`Frames`), so a hundred watches of one resource cost a hundred socket writes and one encoding.

With a selector, an object that starts to match is ADDED and one that ceases to match is DELETED, whatever happened to
it.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from mizzen.local.apiserver.catalog import Served
from mizzen.local.apiserver.errors import ApiError, Expired
from mizzen.local.apiserver.request import Query, Target
from mizzen.local.apiserver.schema import causes
from mizzen.local.apiserver.selectors import FieldTerm
from mizzen.local.apiserver.store import ADDED, DELETED, MODIFIED, Event, EventType, Record, Subscription
from mizzen.local.apiserver.store.records import encode
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs.context import Context
from mizzen.local.apiserver.verbs.listing import Matcher, revision_of, selection

BOOKMARK_S = 60.0
"""Kubernetes sends a bookmark about every minute."""
_EVENTS_AT_ONCE = 256
_TIMEOUT_MIN_S = 1800
"""A watch that names no end is ended after between this and twice this, as Kubernetes does."""


class Encoder(Protocol):
    """How a watch shows objects."""

    @property
    def key(self) -> str:
        """Encoders with the same key give the same bytes."""
        ...

    @property
    def following(self) -> "Encoder":
        """What to go on with after the first event."""
        ...

    def __call__(self, kind: str, record: Record) -> bytes:
        """The event as a line."""
        ...

    def made(self, kind: str, obj: Json) -> bytes:
        """An event of an object that is in no store: a bookmark."""
        ...


class Frames:
    """Encoded events, for watches that show them the same way. Holds the most recent few megabytes only."""

    def __init__(self, bytes_max: int = 4 << 20) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._frames: dict[tuple[int, str, str], bytes] = {}

    def get(self, encoder: Encoder, kind: str, record: Record) -> bytes:
        key = (record.revision, kind, encoder.key)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = encoder(kind, record)
            self._bytes += len(frame)
            while self._bytes > self._bytes_max and len(self._frames) > 1:
                self._bytes -= len(self._frames.pop(next(iter(self._frames))))
        return frame


@dataclass(slots=True, weakref_slot=True, eq=False)
class Watch:
    """One client's watch. `chunks` yields what to send; `stop` ends it from outside."""

    context: Context
    served: Served
    encoder: Encoder
    frames: Frames
    matches: Callable[[Record], bool]
    subscription: Subscription
    initial: list[Record]
    """Objects to be sent as ADDED first."""
    revision: int
    """Up to where `initial` has everything: what bookmarks say until events come."""
    mark_end_of_initial: bool
    bookmarks: bool
    timeout_s: float
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True
        self.subscription.wake()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Lines of JSON, as many at a time as there are. Ends when the client should start again."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.timeout_s
        marks = loop.time() + BOOKMARK_S
        timer = loop.call_at(min(ends, marks), self.subscription.wake)
        try:
            async for piece in self._initial():
                yield piece
            while not self.stopped:
                events = self.subscription.take(_EVENTS_AT_ONCE)
                if events:
                    self.revision = events[-1].record.revision
                    if piece := b"".join(self._frames_of(events)):
                        yield piece
                    continue
                now = loop.time()
                if now >= ends:
                    break
                if now >= marks:
                    marks = now + BOOKMARK_S
                    if self.bookmarks:
                        yield self._bookmark()
                    timer = loop.call_at(min(ends, marks), self.subscription.wake)
                await self.subscription.wait()
            if self.bookmarks and not self.stopped:
                yield self._bookmark()
        except Expired as error:
            yield error_line(error)
        finally:
            timer.cancel()
            self.subscription.close()

    async def _initial(self) -> AsyncIterator[bytes]:
        records, self.initial = self.initial, []
        for start in range(0, len(records), _EVENTS_AT_ONCE):
            frames = []
            for record in records[start : start + _EVENTS_AT_ONCE]:
                frames.append(self.encoder(ADDED, record))
                self.encoder = self.encoder.following
            yield b"".join(frames)
        if self.mark_end_of_initial:
            yield self._bookmark(end_of_initial=True)

    def _frames_of(self, events: list[Event]) -> Iterator[bytes]:
        for event in events:
            if (shown := self._shown(event)) is not None:
                yield self.frames.get(self.encoder, *shown)
                self.encoder = self.encoder.following

    def _shown(self, event: Event) -> tuple[EventType, Record] | None:
        """The event as this watch sees it."""
        was = event.previous is not None and self.matches(event.previous)
        if event.type == DELETED:
            return (DELETED, event.record) if was else None
        if self.matches(event.record):
            return (MODIFIED if was else ADDED), event.record
        # The client is told the object's new state was reached: Kubernetes sends the old one at the new revision.
        return (DELETED, _at_revision(event)) if was else None

    def _bookmark(self, *, end_of_initial: bool = False) -> bytes:
        revision = self.revision
        if not end_of_initial:
            # Everything up to here was looked at, though it may have been of other resources.
            revision = max(revision, self.context.store.revision)
        metadata: Json = {"resourceVersion": str(revision)}
        if end_of_initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        rtype = self.served.rtype
        return self.encoder.made(
            "BOOKMARK", {"kind": rtype.kind, "apiVersion": rtype.api_version, "metadata": metadata}
        )


def _at_revision(event: Event) -> Record:
    assert event.previous is not None
    last = event.previous.object()
    last["metadata"]["resourceVersion"] = str(event.record.revision)
    return Record(event.record.namespace, event.record.name, event.record.revision, encode(last))


def error_line(error: ApiError) -> bytes:
    return encode({"type": "ERROR", "object": error.to_status()}) + b"\n"


def watch(context: Context, served: Served, target: Target, query: Query, encoder: Encoder, frames: Frames) -> Watch:
    """Start a watch at the revision asked for; Expired (as an error answer) when history does not reach it."""
    initial_events = _check_options(query)
    chosen = selection(served, target.namespace if served.rtype.namespaced else "", query)
    if target.watched and target.name:
        chosen = replace(chosen, fields=(*chosen.fields, FieldTerm("metadata.name", equal=True, value=target.name)))
    matches = Matcher(served, chosen)
    text = query.get("resourceVersion")
    asked = revision_of(text) if text else 0
    store = context.store
    collection = store.collection(served.key)
    send_initial = initial_events if initial_events is not None else asked == 0
    start = store.revision if send_initial or asked == 0 else asked
    timeout_s = query.integer("timeoutSeconds")
    return Watch(
        context,
        served,
        encoder,
        frames,
        matches,
        collection.subscribe(start),
        [record for record in store.records(served.key, chosen.namespace) if matches(record)] if send_initial else [],
        revision=start,
        mark_end_of_initial=bool(initial_events) and query.flag("allowWatchBookmarks"),
        bookmarks=query.flag("allowWatchBookmarks"),
        timeout_s=timeout_s or random.uniform(_TIMEOUT_MIN_S, 2 * _TIMEOUT_MIN_S),  # noqa: S311 - spreads reconnects
    )


def _check_options(query: Query) -> bool | None:
    """Whether initial events are asked for; `None` when nothing is said of them."""
    match = query.get("resourceVersionMatch")
    given = "sendInitialEvents" in query
    found = []
    if given and match != "NotOlderThan":
        found.append(
            causes.forbidden(
                "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
        )
    if match and not given:
        found.append(
            causes.forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        )
    if match and match != "NotOlderThan":
        found.append(causes.not_supported("resourceVersionMatch", match, ["NotOlderThan"]))
    if found:
        raise causes.invalid_error("ListOptions", "meta.k8s.io", "", found)
    return query.flag("sendInitialEvents") if given else None
