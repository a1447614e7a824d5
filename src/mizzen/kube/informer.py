"""A local copy of one kind's objects, kept true by list and watch.

    list ──► watch from there ──► … the stream ends or breaks: watch again from the last version seen
     ▲            │
     └── 410 ─────┘   and now and then (`relist_after_s`), so that even a lost event is made good

Where the server offers it, list and watch are one request (`sendInitialEvents`). A list is compared with what is held,
so that whatever was missed comes out as changes, deletions too. Readers get the objects themselves: never change them.

What a client wrote itself can be told to the informer (`wrote`, `deleted`): then it is held at once, and older news of
that object is passed over. A controller that does so never decides on a state from before its own last act.

Which client wrote which field (`managedFields`) is not kept: nobody here asks, and it is half of an object's memory.

An object that the class cannot hold does not stop the rest: what was last readable of it stays, and it is named in
`unreadable`. Errors of the server are waited out with growing waits; they show in `statistics`.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from mizzen.kube.backoff import Backoff
from mizzen.kube.cache import Cache, Change, IndexFunction, is_newer
from mizzen.kube.client import Client
from mizzen.kube.errors import ApiError, BadRequest, DecodeError, Expired, Invalid, KubeError
from mizzen.kube.query import Selector, selector_text
from mizzen.kube.resources import Key, ResourceInfo, Untyped, decode, info_of, meta_of, without_managed_fields
from mizzen.kube.watching import RawObject, WatchEvent

T = TypeVar("T")
Subscriber = Callable[[T | None, T | None], None]
"""Called with an object before and after each change; `None` where it was or is not there."""

log = logging.getLogger(__name__)

_WATCH_S = 300.0
"""A watch is asked to end after this to twice this, so that many do not end at once; client-go's numbers."""
_RELIST_AFTER_S = 1800.0
_INITIAL_SILENCE_S = 20.0
"""A server that sends nothing for so long amid the initial events does not know that it was asked for them."""
_STEADY_S = 1.0
"""A stream that lasted this long counts as a success."""


class _InitialEventsMissingError(KubeError):
    """The server did not send the initial events it was asked for: it does not know `sendInitialEvents`."""


@dataclass(frozen=True, slots=True)
class InformerStatistics:
    """What an informer holds and what it went through."""

    kind: str
    objects: int
    synced: bool
    lists: int
    watches: int
    events: int
    failures: int
    """In a row, now."""
    last_error: str
    unreadable: int


class Informer(Generic[T]):
    """The objects of one kind, of one namespace or all, that match the selectors. `run` keeps them true for ever."""

    def __init__(
        self,
        client: Client,
        cls: type[T],
        namespace: str | None = None,
        labels: Selector | None = None,
        fields: Selector | None = None,
        *,
        relist_after_s: float = _RELIST_AFTER_S,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.cls = cls
        self.info: ResourceInfo = info_of(cls)
        self._metadata_only = issubclass(cls, Untyped) and cls.metadata_only
        self._client = client
        self._namespace, self._labels, self._fields = namespace, labels, fields
        self._relist_after_s = relist_after_s
        self._rng = rng
        self._cache: Cache[T] = Cache()
        self._subscribers: list[Subscriber[T]] = []
        self._synced = asyncio.Event()
        self._backoff = Backoff(rng=rng)
        self._version: str | None = None
        """Where the next watch starts; `None` where a list has to come first."""
        self._streams_lists = True
        self._listed_at_s = 0.0
        self._written: dict[Key, str] = {}
        """What we wrote and the watch has not confirmed: the version of it."""
        self._deleted: set[str] = set()
        """Unique ids of what we deleted and the watch may still tell old news of."""
        self._unreadable: dict[Key, str] = {}
        self._unreadable_subscribers: list[Callable[[Key], None]] = []
        self._lists = self._watches = self._events = 0
        self._last_error = ""
        self._task: asyncio.Task[None] | None = None

    # -- reading

    def get(self, namespace: str | None, name: str) -> T | None:
        """The object, or `None`. `namespace` is `None` for kinds without namespaces."""
        return self._cache.get(Key(namespace, name))

    def at(self, key: Key) -> T | None:
        """The object under a key, or `None`."""
        return self._cache.get(key)

    def list(self, namespace: str | None = None) -> list[T]:
        """All objects, of one namespace or of all."""
        return self._cache.values() if namespace is None else self._cache.values_in(namespace)

    def keys(self) -> Sequence[Key]:
        return self._cache.keys()

    def __len__(self) -> int:
        return len(self._cache)

    def add_index(self, name: str, function: IndexFunction[T]) -> None:
        """Keeps the objects findable by the values that `function` gives for each. May be added at any time."""
        self._cache.add_index(name, function)

    def by_index(self, name: str, value: str) -> Sequence[T]:
        """The objects for which the index function gives that value."""
        return self._cache.by_index(name, value)

    @property
    def unreadable(self) -> Mapping[Key, str]:
        """Objects that the class cannot hold, and why."""
        return self._unreadable

    # -- following

    def subscribe(self, subscriber: Subscriber[T]) -> Callable[[], None]:
        """Calls with every change from now on, after one call for each object already there. Returns how to stop.

        Subscribers run inside the informer: they must be quick and must not raise.
        """
        for obj in self._cache.values():
            subscriber(None, obj)
        self._subscribers.append(subscriber)

        def stop() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return stop

    def wrote(self, obj: T) -> T:
        """Takes in the server's answer to a write of ours, ahead of the watch. Gives it back."""
        meta = meta_of(obj)
        # Where the watch is past that version and holds nothing, it has told of the object's end already.
        is_over = meta.key not in self._cache and not is_newer(meta.resource_version, self._version or "")
        if meta.uid not in self._deleted and not is_over:
            change = self._cache.put(meta.key, without_managed_fields(obj), meta.resource_version)
            if change is not None:
                self._written[meta.key] = meta.resource_version
                self._tell(change)
        return obj

    def deleted(self, obj: T) -> None:
        """Takes out what we deleted and the server has no longer, ahead of the watch."""
        meta = meta_of(obj)
        held = self._cache.get(meta.key)
        held_uid = meta.uid if held is None else meta_of(held).uid
        # Another object of that name goes too where it is an older one, and stays where it is newer.
        change = self._cache.remove(meta.key, "" if held_uid == meta.uid else meta.resource_version)
        self._deleted.add(meta.uid)
        if change is not None:
            self._deleted.add(held_uid)
            self._written.pop(meta.key, None)
            self._tell(change)

    def subscribe_unreadable(self, subscriber: Callable[[Key], None]) -> None:
        """Calls with the key of each object that the class cannot hold, now and whenever one comes."""
        for key in self._unreadable:
            subscriber(key)
        self._unreadable_subscribers.append(subscriber)

    @property
    def is_synced(self) -> bool:
        """Whether the first full list is in."""
        return self._synced.is_set()

    async def synced(self, timeout_s: float | None = None) -> None:
        """Waits for the first full list. Raises `TimeoutError`, with the last error, where it takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._synced.wait()
        except TimeoutError as error:
            why = self._last_error or "no answer"
            raise TimeoutError(f"{self!r}: no first list after {timeout_s} s: {why}") from error

    def statistics(self) -> InformerStatistics:
        return InformerStatistics(
            str(self.info), len(self._cache), self.is_synced, self._lists, self._watches, self._events,
            self._backoff.failures, self._last_error, len(self._unreadable),
        )  # fmt: skip

    def __repr__(self) -> str:
        selectors = [selector_text(one) for one in (self._labels, self._fields) if one]
        parts = [str(self.info), f"in {self._namespace}" if self._namespace else "", *selectors]
        return f"Informer({' '.join(filter(None, parts))}: {len(self._cache)})"

    # -- running

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name=repr(self))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def run(self) -> None:
        """Keeps the objects true until cancelled. Errors of the server are waited out."""
        while True:
            began_s = self._now_s()
            try:
                await self._follow()
                if self._now_s() - began_s >= _STEADY_S:
                    self._backoff.reset()
                    continue
            except Expired as error:
                self._failed(error)
                self._version = None
            except (Invalid, BadRequest, _InitialEventsMissingError) as error:
                self._failed(error)
                self._streams_lists = False
            except KubeError as error:
                self._failed(error)
                if _is_ahead_of_server(error):
                    self._version = None
                    self._written.clear()
            await asyncio.sleep(self._backoff.next_s())

    def _failed(self, error: KubeError) -> None:
        self._last_error = f"{type(error).__name__}: {error}"
        log.debug("%r: %s", self, self._last_error)

    async def _follow(self) -> None:
        """One round: a list where one is due, then a watch to its end."""
        due = self._version is None or self._now_s() - self._listed_at_s >= self._relist_after_s
        if due and not self._streams_lists:
            await self._list()
            due = False
        events = self._client.watch_raw(
            self.info,
            self._namespace,
            resource_version=None if due else self._version,
            labels=self._labels,
            fields=self._fields,
            timeout_s=_WATCH_S * (1.0 + self._rng()),
            send_initial_events=due,
            metadata_only=self._metadata_only,
        )
        self._watches += 1
        async with aclosing(events):
            if due:
                await self._take_initial(events)
            async for event in events:
                self._take(event)

    async def _list(self) -> None:
        listed = await self._client.list_raw(
            self.info, self._namespace, labels=self._labels, fields=self._fields, metadata_only=self._metadata_only
        )
        self._replace(listed.items, listed.resource_version)

    async def _take_initial(self, events: AsyncGenerator[WatchEvent[RawObject], None]) -> None:
        """Collects the initial events, which are a list in disguise, up to the bookmark that ends them."""
        items: dict[Key, RawObject] = {}
        while True:
            event = await self._next_initial(events)
            if event.initial_events_end:
                self._replace(list(items.values()), event.resource_version)
                return
            if event.payload is None:
                continue
            # Changes may come between the initial events; the last word on a key counts.
            if event.type == "DELETED":
                items.pop(event.payload.key, None)
            else:
                items[event.payload.key] = event.payload

    async def _next_initial(self, events: AsyncGenerator[WatchEvent[RawObject], None]) -> WatchEvent[RawObject]:
        try:
            async with asyncio.timeout(_INITIAL_SILENCE_S):
                return await anext(events)
        except (StopAsyncIteration, TimeoutError) as error:
            raise _InitialEventsMissingError(f"the watch of {self.info} did not end its initial events") from error

    def _replace(self, items: Sequence[RawObject], version: str) -> None:
        self._lists += 1
        self._listed_at_s = self._now_s()
        self._unreadable.clear()
        self._deleted &= {item.uid for item in items}
        ours = self._written_after(version)
        there = [item for item in items if item.uid not in self._deleted and item.key not in ours]
        decoded = {item.key: (obj, item.resource_version) for item in there if (obj := self._decode(item)) is not None}
        for change in self._cache.replace(decoded, keep={*self._unreadable, *ours}):
            self._tell(change)
        self._version = version
        self._last_error = ""
        self._synced.set()

    def _take(self, event: WatchEvent[RawObject]) -> None:
        self._backoff.reset()
        if self._is_old(event.resource_version):
            return
        if event.payload is not None:
            self._events += 1
            self._put(event.type, event.payload)
        self._version = event.resource_version or self._version

    def _put(self, type_: str, item: RawObject) -> None:
        change: Change[T] | None = None
        if not is_newer(self._written.get(item.key, ""), item.resource_version):
            self._written.pop(item.key, None)
        if type_ == "DELETED":
            self._unreadable.pop(item.key, None)
            self._deleted.discard(item.uid)
            change = self._cache.remove(item.key, item.resource_version)
        elif item.uid not in self._deleted and (obj := self._decode(item)) is not None:
            self._unreadable.pop(item.key, None)
            change = self._cache.put(item.key, obj, item.resource_version)
        if change is not None:
            self._tell(change)

    def _written_after(self, version: str) -> frozenset[Key]:
        """What we wrote after the moment of a list, which cannot know of it."""
        self._written = {key: at for key, at in self._written.items() if is_newer(at, version)}
        return frozenset(self._written)

    def _is_old(self, version: str) -> bool:
        """Whether an event is from before the point already reached: a server may repeat itself, never go back."""
        return bool(version) and self._version is not None and not is_newer(version, self._version)

    def _decode(self, item: RawObject) -> T | None:
        held = self._cache.get(item.key)
        if held is not None and item.resource_version and self._cache.version(item.key) == item.resource_version:
            return held
        try:
            return without_managed_fields(decode(self.cls, item.wire))
        except DecodeError as error:
            self._unreadable[item.key] = str(error)
            log.warning("%s", error)
            for subscriber in self._unreadable_subscribers:
                subscriber(item.key)
            return None

    def _tell(self, change: Change[T]) -> None:
        for subscriber in tuple(self._subscribers):
            subscriber(change.old, change.new)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _is_ahead_of_server(error: KubeError) -> bool:
    """Whether the server has not yet come to the version we hold: it was restored from older data."""
    return isinstance(error, ApiError) and any(cause.reason == "ResourceVersionTooLarge" for cause in error.causes)


class Informers:
    """Informers shared by all who ask for the same objects. Those asked for while it runs start at once."""

    def __init__(self, client: Client, *, rng: Callable[[], float] = random.random) -> None:
        self.client = client
        self._rng = rng
        self._informers: dict[tuple[Any, ...], Informer[Any]] = {}
        self._tasks: dict[Informer[Any], asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def of(
        self,
        cls: type[T],
        namespace: str | None = None,
        labels: Selector | None = None,
        fields: Selector | None = None,
    ) -> Informer[T]:
        """The informer for these objects: the same one at each call with the same arguments."""
        wanted = (cls, namespace, selector_text(labels or ""), selector_text(fields or ""))
        informer = self._informers.get(wanted)
        if informer is None:
            informer = Informer(self.client, cls, namespace, labels, fields, rng=self._rng)
            self._informers[wanted] = informer
            self._start(informer)
        return informer

    def drop(self, informer: Informer[Any]) -> None:
        """Forgets an informer and stops it; who still holds it reads what it held last."""
        self._informers = {wanted: one for wanted, one in self._informers.items() if one is not informer}
        task = self._tasks.pop(informer, None)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """Runs all until cancelled. Raises what an informer raises, which is a bug in a subscriber."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for informer in self._informers.values():
                    self._start(informer)
                # Holds the group open while it has no informers yet.
                await asyncio.get_running_loop().create_future()
        finally:
            self._group = None
            self._tasks.clear()

    async def synced(self, timeout_s: float | None = None) -> None:
        """Waits until all that are there now have their first full list. Raises `TimeoutError`."""
        await asyncio.gather(*(informer.synced(timeout_s) for informer in self._informers.values()))

    def statistics(self) -> tuple[InformerStatistics, ...]:
        return tuple(informer.statistics() for informer in self._informers.values())

    def _start(self, informer: Informer[Any]) -> None:
        if self._group is not None:
            self._tasks[informer] = self._group.create_task(informer.run(), name=repr(informer))
