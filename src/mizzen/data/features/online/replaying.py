"""A view online as it was at another time: filled anew with what was known by then, and brought on from there.

Pushes come with the clock of the day, and what no request of that day can need is not kept. To ask the requests of
last November as they were asked, a replay fills a generation of its own with the rows that were known by its beginning,
has readers get it, and then pushes each row at the moment since when it is known. So endpoints answer as they would
have, provided that their requests say when they are asked (`spec.features.time`).

While it lasts the replay is what feeds the view. A new version of the source is added to what the replay has made of
it; whoever wants the present back materialises the view anew.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array
from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.events import Events, events_of
from mizzen.data.features.online import catalog
from mizzen.data.features.online.store import Changes, OnlineStore
from mizzen.data.features.online.writer import OnlineWriter, Place


class Staged:
    """A store whose writes are kept back until `commit`, which makes them one transaction.

    So what comes next can be worked out while requests still read what is there, and several views move at one moment.
    It is for one who writes alone: what others write to the same records meanwhile is lost.
    """

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._kept: dict[bytes, bytes | None] = {}

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found = iter(self._store.get([key for key in keys if key not in self._kept]))
        return [self._kept[key] if key in self._kept else next(found) for key in keys]

    def write(
        self, keys: Sequence[bytes], place: bytes, change: Callable[[bytes | None, list[bytes | None]], Changes]
    ) -> None:
        record, *records = self.get([place, *keys])
        self._kept |= change(record, records)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from self._store.scan(prefix)

    def commit(self) -> None:
        """Writes what was kept back. Raises `StoreUnavailable`; then it is kept on."""
        if self._kept:
            place = next(iter(self._kept))
            self._store.write([], place, lambda _, __: self._kept)
            self._kept = {}

    def close(self) -> None:
        self._store.close()


class Replay:
    """One view and all that ever happened to it."""

    def __init__(self, writer: OnlineWriter, rows: pa.Table) -> None:
        """`rows` are the source's, of all times, in any order. Raises `RowsUnfit`."""
        events = events_of(writer.view.definition, rows)
        order = np.argsort(events.since_us, kind="stable")
        self._writer = writer
        self._events: Events = events.take(order)
        self._since_us: Array = self._events.since_us
        self._next = 0

    @classmethod
    def of(cls, store: OnlineStore, namespace: str, name: str, rows: pa.Table) -> "Replay":
        """Of the version of a view that is served. Raises `StoreUnavailable` where none is, and `RowsUnfit`."""
        entry = catalog.served(store, namespace, name)
        if entry is None:
            raise StoreUnavailable(
                f"FeatureView {name} of namespace {namespace}: expected it in the online store, found none"
            )
        return cls(OnlineWriter(store, entry.online_view(), namespace), rows)

    def begin(self, at_us: int) -> int:
        """Readers get the view as of that moment; how many events that are."""
        place = self._writer.move(_anew)
        filling = place.filling
        self._next = 0
        brought = self._apply(at_us, lambda _: {filling})
        served = self._writer.move(_served)
        for generation in range(served.serving):
            catalog.delete_generation(self._writer.store, self._writer.namespace, self._writer.view, generation)
        return brought

    def bring(self, to_us: int) -> int:
        """Pushes what became known until then; how many events that are."""
        return self._apply(to_us, lambda place: {place.serving})

    def _apply(self, to_us: int, generations: Callable[[Place], set[int]]) -> int:
        stop = int(np.searchsorted(self._since_us, to_us, side="right"))
        count = stop - self._next
        if count > 0:
            events = self._events.take(np.arange(self._next, stop))
            self._writer.apply(events, to_us, lambda place: place, generations)
            self._next = stop
        return max(0, count)


def _anew(place: Place) -> Place:
    place.filling = max(place.serving, place.filling) + 1
    return place


def _served(place: Place) -> Place:
    place.serving = place.filling
    return place
