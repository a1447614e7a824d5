"""A view online as it was at another time: filled anew with what was known by then, and brought on from there.

Pushes come with the clock of the day, and what no request of that day can need is not kept. To ask the requests of
last November as they were asked, a replay fills a generation of its own with the rows that were known by its beginning,
has readers get it, and then pushes each row at the moment since when it is known. So endpoints answer as they would
have, provided that their requests say when they are asked (`spec.features.time`).

While it lasts the replay is what feeds the view. A new version of the source is added to what the replay has made of
it; whoever wants the present back materialises the view anew.
"""

from collections.abc import Callable

import msgspec
import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array
from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.events import Events, events_of
from mizzen.data.features.online import catalog
from mizzen.data.features.online.store import Changes, OnlineStore
from mizzen.data.features.online.writer import OnlineWriter, Place, place_of


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
        place = self._moved(_anew)
        filling = place.filling
        self._next = 0
        brought = self._apply(at_us, lambda _: {filling})
        served = self._moved(_served)
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

    def _moved(self, move: Callable[[Place], None]) -> Place:
        moved: list[Place] = []
        key = self._writer.view.place(self._writer.namespace)

        def change(record: bytes | None, _: list[bytes | None]) -> Changes:
            place = place_of(record)
            move(place)
            place.writes += 1
            moved[:] = [place]
            return {
                key: msgspec.msgpack.encode(place),
                self._writer.view.served(self._writer.namespace): place.serving.to_bytes(4, "little"),
            }

        self._writer.store.write([], key, change)
        return moved[0]


def _anew(place: Place) -> None:
    place.filling = max(place.serving, place.filling) + 1


def _served(place: Place) -> None:
    place.serving = place.filling
