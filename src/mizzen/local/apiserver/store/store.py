"""The store: writes are checked against the newest state, made durable in groups, and only then seen by anyone.

    submit ─> head (what writes are checked against) ─> queue ─> one transaction ─> published: records, events, watches

Everything but the transaction runs on the event loop, so that a read of the head, a decision and `submit` without an
`await` between them are one atomic step. While the writer thread commits one batch, the next gathers: under load many
writes share one fsync, and an idle store commits at once. A batch that cannot be written fails as a whole, along with
what was queued behind it, because that may build on it; nobody has seen any of it.

Revisions are given in order and never again, not even after a failure or a crash: the file remembers the highest.

History is bounded by the number of changes and by the bytes of superseded objects they keep alive. What falls off is
gone for watches and old lists (410), and is deleted from the file with the next batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from mizzen.local.apiserver.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    InsufficientStorage,
    NotFound,
    ServiceUnavailable,
)
from mizzen.local.apiserver.store.collection import Collection, between
from mizzen.local.apiserver.store.database import CommitError, Database, Row
from mizzen.local.apiserver.store.records import ADDED, DELETED, MODIFIED, Event, EventType, Record, Resource, encode
from mizzen.local.apiserver.types import Json, qualified

Listener = Callable[[Resource, Event], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much history is kept for watches, consistent lists and restarts."""

    events: int = 20_000
    """Changes; a watch that is further behind gets 410."""
    superseded_bytes: int = 32 << 20
    """Encoded bytes of old states that only history keeps alive."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A moment of the store; counts are since start."""

    revision: int
    horizon: int
    objects: int
    object_bytes: int
    events: int
    superseded_bytes: int
    subscriptions: int
    queued: int
    writes: int
    commits: int
    commit_s: float


_Key = tuple[str, str, str, str]


class _Head(NamedTuple):
    """The newest state of a name while it is not durable; no record when it is deleted."""

    revision: int
    record: Record | None


class _Pending(NamedTuple):
    resource: Resource
    event: Event
    done: "asyncio.Future[Record]"


class _Kept(NamedTuple):
    """An event of the history of all resources, oldest first, for trimming."""

    collection: Collection
    event: Event


class Store:
    """Opened by `open`, used from one event loop, ended by `close`."""

    def __init__(self, path: Path, limits: Limits = Limits()) -> None:
        self._database = Database(path)
        self._limits = limits
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mizzen-store")
        self._collections: dict[Resource, Collection] = {}
        self._listeners: list[Listener] = []
        self._history: deque[_Kept] = deque()
        self._forget: list[int] = []
        self._superseded_bytes = 0
        self._head: dict[_Key, _Head] = {}
        self._queue: list[_Pending] = []
        self._writing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._writes = self._commits = 0
        self._commit_s = 0.0
        self._horizon, self._given = self._database.counters()
        self.problem = ""
        """Why the last transaction failed; empty while writing works."""
        self.revision = self._given
        """The newest revision that readers can see."""
        self._load()

    def _load(self) -> None:
        for row in self._database.load():
            group, _, plural = row.resource.partition("/")
            collection = self.collection((group, plural))
            previous = collection.records.get((row.namespace, row.name))
            record = Record(row.namespace, row.name, row.revision, row.object)
            kind: EventType = DELETED if row.deleted else MODIFIED if previous else ADDED
            if kind == DELETED and previous is None:
                self._forget.append(row.revision)  # its last state is forgotten, and nobody can ask for this
                continue
            self._publish((group, plural), Event(kind, record, previous))
        # What was at or before the horizon when the file was written is not history: it only gave us the objects.
        while self._history and self._history[0].event.record.revision <= self._horizon:
            self._trim_one()
        self._trim()

    # Reading. What is read here is durable.

    def collection(self, resource: Resource) -> Collection:
        collection = self._collections.get(resource)
        if collection is None:
            collection = self._collections[resource] = Collection(self._horizon)
        return collection

    def get(self, resource: Resource, namespace: str, name: str) -> Record | None:
        return self.collection(resource).records.get((namespace, name))

    def records(self, resource: Resource, namespace: str | None = None) -> Iterator[Record]:
        """The objects of a resource, of one namespace or of all, in order."""
        collection = self.collection(resource)
        return (collection.records[name] for name in between(collection.names, namespace))

    def resources(self) -> list[Resource]:
        """The resources that have objects."""
        return [resource for resource, collection in self._collections.items() if collection.records]

    def listen(self, listener: Listener) -> None:
        """Call back on the event loop for each change, once it is durable and before its writer is answered."""
        self._listeners.append(listener)

    # Writing.

    def head(self, resource: Resource, namespace: str, name: str) -> Record | None:
        """The newest state, which may not be durable yet: what a write must build on."""
        pending = self._head.get((*resource, namespace, name))
        return self.get(resource, namespace, name) if pending is None else pending.record

    def head_records(self, resource: Resource, namespace: str | None = None) -> list[Record]:
        """The newest states, unordered."""
        found = {(record.namespace, record.name): record for record in self.records(resource, namespace)}
        for (group, plural, space, name), pending in self._head.items():
            if (group, plural) == resource and namespace in {None, space}:
                if pending.record is None:
                    found.pop((space, name), None)
                else:
                    found[space, name] = pending.record
        return list(found.values())

    def create(self, resource: Resource, namespace: str, name: str, new: Json) -> "asyncio.Future[Record]":
        """Write an object that is not there; its `metadata.resourceVersion` is filled in place."""
        self.check_absent(resource, namespace, name)
        return self._submit(resource, namespace, name, new, None, ADDED)

    def check_absent(self, resource: Resource, namespace: str, name: str) -> None:
        if self.head(resource, namespace, name) is not None:
            raise AlreadyExists(
                f'{qualified(resource)} "{name}" already exists', name=name, group=resource[0], kind=resource[1]
            )

    def update(self, resource: Resource, new: Json, replaced: Record) -> "asyncio.Future[Record]":
        """Write over the state the caller has seen; Conflict when it is not the newest."""
        self._expect(resource, replaced)
        return self._submit(resource, replaced.namespace, replaced.name, new, replaced, MODIFIED)

    def delete(self, resource: Resource, last: Json, replaced: Record) -> "asyncio.Future[Record]":
        """Remove an object; `last` is the state that watchers are told."""
        self._expect(resource, replaced)
        return self._submit(resource, replaced.namespace, replaced.name, last, replaced, DELETED)

    def _expect(self, resource: Resource, replaced: Record) -> None:
        newest = self.head(resource, replaced.namespace, replaced.name)
        if newest is None:
            raise NotFound(
                f'{qualified(resource)} "{replaced.name}" not found',
                name=replaced.name,
                group=resource[0],
                kind=resource[1],
            )
        if newest.revision != replaced.revision:
            raise Conflict(
                f'Operation cannot be fulfilled on {qualified(resource)} "{replaced.name}": the object has been '
                "modified; please apply your changes to the latest version and try again",
                name=replaced.name,
                group=resource[0],
                kind=resource[1],
            )

    def _submit(
        self, resource: Resource, namespace: str, name: str, new: Json, previous: Record | None, kind: EventType
    ) -> "asyncio.Future[Record]":
        if self._closed:
            raise ServiceUnavailable("the server is stopping", retry_after_s=1)
        self._given += 1
        new["metadata"]["resourceVersion"] = str(self._given)
        record = Record(namespace, name, self._given, encode(new))
        event = Event(kind, record, previous)
        self._head[(*resource, namespace, name)] = _Head(self._given, None if kind == DELETED else record)
        done: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._queue.append(_Pending(resource, event, done))
        if not self._writing:
            self._writing = True
            self._idle.clear()
            # Not at once: what other requests of this turn of the loop write goes into the same transaction.
            asyncio.get_running_loop().call_soon(self._commit)
        return done

    def _commit(self) -> None:
        batch, self._queue = self._queue, []
        forget, self._forget = self._forget, []
        rows = [
            Row(e.record.revision, "/".join(r), e.record.namespace, e.record.name, e.type == DELETED, e.record.encoded)
            for r, e, _ in batch
        ]
        started = perf_counter()
        written = asyncio.get_running_loop().run_in_executor(
            self._thread, self._database.commit, rows, forget, self._horizon
        )
        written.add_done_callback(partial(self._committed, batch, forget, started))

    def _committed(
        self, batch: "list[_Pending]", forget: "list[int]", started: float, written: "asyncio.Future[None]"
    ) -> None:
        self._commits += 1
        self._commit_s += perf_counter() - started
        error = written.exception()
        self.problem = "" if error is None else str(error)
        if error is not None:
            self._forget = forget + self._forget
            batch, self._queue = batch + self._queue, []
            self._head.clear()
            for pending in batch:
                if not pending.done.done():
                    pending.done.set_exception(_storage_error(error))
            self._go_on()
        else:
            self._publish_batch(batch)

    def _go_on(self) -> None:
        if self._queue:
            self._commit()
        else:
            self._writing = False
            self._idle.set()

    def _publish_batch(self, batch: "list[_Pending]") -> None:
        # Last pushed is first called, and all are called, also when a listener has a defect: the writes are durable,
        # so their writers are answered and writing goes on, whatever else happens.
        with ExitStack() as stack:
            stack.callback(self._go_on)
            stack.callback(self._answer, batch)
            for resource, event, _ in reversed(batch):
                for listener in reversed(self._listeners):
                    stack.callback(listener, resource, event)
            for resource, event, _ in batch:
                key = (*resource, event.record.namespace, event.record.name)
                if self._head[key].revision == event.record.revision:
                    del self._head[key]
                self._publish(resource, event)
            self._trim()
            self._writes += len(batch)

    def _answer(self, batch: "list[_Pending]") -> None:
        for pending in batch:
            if not pending.done.done():  # its writer may have gone
                pending.done.set_result(pending.event.record)
        for resource in {pending.resource for pending in batch}:
            self._collections[resource].wake()

    def _publish(self, resource: Resource, event: Event) -> None:
        collection = self.collection(resource)
        collection.apply(event)
        self._history.append(_Kept(collection, event))
        self.revision = event.record.revision
        self._superseded_bytes += _bytes_kept_by(event)

    # Forgetting.

    def _trim(self) -> None:
        while len(self._history) > self._limits.events or self._superseded_bytes > self._limits.superseded_bytes:
            self._trim_one()

    def _trim_one(self) -> None:
        collection, event = self._history.popleft()
        self._horizon = max(self._horizon, event.record.revision)
        self._superseded_bytes -= _bytes_kept_by(event)
        if event.previous is not None:
            self._forget.append(event.previous.revision)
        if event.type == DELETED:
            self._forget.append(event.record.revision)
        collection.trim(1)

    # The end.

    def statistics(self) -> Statistics:
        collections = self._collections.values()
        return Statistics(
            revision=self.revision,
            horizon=self._horizon,
            objects=sum(len(c.records) for c in collections),
            object_bytes=sum(c.bytes for c in collections),
            events=len(self._history),
            superseded_bytes=self._superseded_bytes,
            subscriptions=sum(len(c.subscriptions) for c in collections),
            queued=len(self._queue),
            writes=self._writes,
            commits=self._commits,
            commit_s=self._commit_s,
        )

    async def close(self) -> None:
        """Refuse new writes, finish those submitted, and let go of the file. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    def __repr__(self) -> str:
        return f"<Store {self._database.path} at revision {self.revision}>"


def _bytes_kept_by(event: Event) -> int:
    """What would be free without this event: the state it replaced, and of a deletion the last one too."""
    size = 0 if event.previous is None else len(event.previous.encoded)
    return size + (len(event.record.encoded) if event.type == DELETED else 0)


def _storage_error(error: BaseException) -> ApiError:
    if isinstance(error, CommitError):
        return InsufficientStorage(f"the write could not be made durable: {error}; nothing was changed")
    return ApiError(f"the write failed: {error}")
