"""The objects of one resource in memory, in the order lists have, with the recent changes that watches read.

A watch is a position in `events`. Nothing is queued for it: a slow watcher costs no memory, and one that falls behind
the history kept is told so (410) and lists again. The same history answers "the list as it was at revision R": the
objects of now, with what changed since put back.
"""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence

from mizzen.local.apiserver.errors import Expired
from mizzen.local.apiserver.store.records import DELETED, Event, Name, Record


class Collection:
    """Mutated by the store alone; readers see committed states only."""

    __slots__ = ("bytes", "events", "first", "names", "records", "subscriptions", "trimmed_revision")

    def __init__(self, horizon: int) -> None:
        self.records: dict[Name, Record] = {}
        self.names: list[Name] = []
        self.bytes = 0
        self.events: list[Event] = []
        self.first = 0
        """How many events were trimmed: the position of `events[0]`."""
        self.trimmed_revision = horizon
        """The newest revision of this resource (or of the store, at start) that is no longer in `events`."""
        self.subscriptions: set[Subscription] = set()

    @property
    def position(self) -> int:
        """How many changes there were: the place after the newest event."""
        return self.first + len(self.events)

    def apply(self, event: Event) -> None:
        """Take a committed change in; `wake` afterwards."""
        record, name = event.record, (event.record.namespace, event.record.name)
        if event.previous is not None:
            self.bytes -= len(event.previous.encoded)
        if event.type == DELETED:
            del self.records[name]
            del self.names[bisect_left(self.names, name)]
        else:
            if event.previous is None:
                insort(self.names, name)
            self.records[name] = record
            self.bytes += len(record.encoded)
        self.events.append(event)

    def wake(self) -> None:
        for subscription in self.subscriptions:
            subscription.wake()

    def trim(self, count: int) -> None:
        """Drop the oldest events."""
        self.trimmed_revision = self.events[count - 1].record.revision
        del self.events[:count]
        self.first += count

    def at(self, revision: int) -> tuple[Mapping[Name, Record], Sequence[Name]]:
        """The objects as they were at a revision that history still reaches, and their names in order."""
        if revision < self.trimmed_revision:
            raise Expired("The resourceVersion for the provided list is too old.")
        undone = self.events[self._index_after(revision) :]
        if not undone:
            return self.records, self.names
        records = dict(self.records)
        for event in reversed(undone):
            name = (event.record.namespace, event.record.name)
            if event.previous is None:
                records.pop(name, None)
            else:
                records[name] = event.previous
        return records, sorted(records)

    def subscribe(self, revision: int) -> "Subscription":
        """Follow every change after a revision."""
        if revision < self.trimmed_revision:
            raise Expired(f"too old resource version: {revision} ({self.trimmed_revision})")
        subscription = Subscription(self, self.first + self._index_after(revision))
        self.subscriptions.add(subscription)
        return subscription

    def _index_after(self, revision: int) -> int:
        return bisect_left(self.events, revision + 1, key=lambda event: event.record.revision)


def between(names: Sequence[Name], namespace: str | None = None, after: Name | None = None) -> Sequence[Name]:
    """Of names in order: those of a namespace (or all) that come after one (or all)."""
    start, stop = 0, len(names)
    if namespace is not None:
        start = bisect_left(names, (namespace, ""))
        stop = bisect_left(names, (namespace + "\0", ""))
    if after is not None:
        start = max(start, bisect_left(names, (after[0], after[1] + "\0")))
    return names if stop - start == len(names) else names[start:stop]


class Subscription:
    """A reader's place in a collection's events. `close` it, or it is woken for ever."""

    __slots__ = ("_collection", "_waiter", "_woken", "position")

    def __init__(self, collection: Collection, position: int) -> None:
        self._collection = collection
        self._waiter: asyncio.Future[None] | None = None
        self._woken = False
        self.position = position

    def take(self, count: int) -> list[Event]:
        """The next events, at most `count`; Expired when the reader was too slow and some are gone."""
        events = self._collection
        index = self.position - events.first
        if index < 0:
            raise Expired(f"too old resource version: the watch fell behind by more than {len(events.events)} events")
        taken = events.events[index : index + count]
        self.position += len(taken)
        return taken

    def wake(self) -> None:
        """Let `wait` return: there are events, or it is time to look at the clock."""
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until woken since the last wait."""
        if not self._woken:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        self._woken = False

    def close(self) -> None:
        self._collection.subscriptions.discard(self)
