"""Pushes: events into the records of their entities, each batch in one transaction with the place it brings the view
to.

Of one entity the row with the greatest event time is the newest, and of those the one known last, also among the rows
of one batch: in which order events come does not matter. A batch that was applied is not applied again, whether its
writer was killed or told of a failure; the place says so, and is written with the records or not at all.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array
from mizzen.data.features.events import Events, events_of, newest_rows
from mizzen.data.features.keys import numbered
from mizzen.data.features.online.layout import HEAD, HEAD_DTYPE
from mizzen.data.features.online.store import Changes, OnlineStore
from mizzen.data.features.online.view import OnlineView, joined_held
from mizzen.data.features.timeline import EVER_US

_BATCHES_KEPT = 256
_NO_HEAD = HEAD.pack(EVER_US, EVER_US, 0, 0, 0, 0)


class Tally(msgspec.Struct, array_like=True):
    """What a generation holds."""

    rows: int = 0
    """Events that were taken in."""
    entities: int = 0
    newest_us: int = EVER_US
    """The event time of the newest of them that does not lie ahead."""


class Place(msgspec.Struct, array_like=True):
    """How far a view has come in the online store."""

    writes: int = 0
    serving: int = 0
    """The generation that readers get."""
    filling: int = 0
    """The generation that is written; another one than `serving` while a replaced source is read anew."""
    version: int = 0
    """The version of the source's table that is being read or was read last."""
    files: list[str] = []
    """The files of that version that are in, while it is being read."""
    file: str = ""
    """The file that is being read."""
    file_rows: int = 0
    """Rows of it that are in."""
    batches: list[str] = []
    """Names of the pushes that came last."""
    complete: int = 0
    """The version of the source's table that is in as a whole; 0 where none is."""
    table: str = ""
    """The source's table, by its id."""
    tallies: dict[int, Tally] = {}
    """By generation."""
    shares: str = ""
    """The name of the shares that are being put in (`filling.py`); `file` and `file_rows` are the next one then, and
    its next record."""

    def tally(self) -> Tally:
        """Of what readers get."""
        return self.tallies.get(self.serving, Tally())


_PLACES = msgspec.msgpack.Decoder(Place)


def place_of(record: bytes | None) -> Place:
    """The place as it was stored; the beginning where there is none."""
    return Place() if record is None else _PLACES.decode(record)


def served_record(place: Place) -> bytes:
    """What readers are told of a place: the generation."""
    return place.serving.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did."""

    events: int
    entities: int
    again: bool = False
    """Whether it had been applied before, and was not now."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """That an entity was forgotten: names it by a digest, so that the receipt does not remember it."""

    namespace: str
    view: str
    entity_sha256: str
    when_us: int
    records: int
    bytes: int
    verified: bool
    """Whether a look afterwards found nothing."""


class OnlineWriter:
    """Writes one view. Any number of them, in any processes, may write the same one."""

    def __init__(self, store: OnlineStore, view: OnlineView, namespace: str = "default") -> None:
        self.store, self.view, self.namespace = store, view, namespace
        self._place = view.place(namespace)

    def place(self) -> Place:
        """How far the view has come."""
        return place_of(self.store.get([self._place])[0])

    def move(self, move: Callable[[Place], Place]) -> Place:
        """Moves the place alone, to what `move` makes of it; raises what that raises, and then it stays."""
        told: list[Place] = []

        def change(record: bytes | None, _: list[bytes | None]) -> Changes:
            place = move(place_of(record))
            told[:] = [place]
            if record is not None and place == place_of(record):
                return {}
            place.writes += 1
            return {
                self._place: msgspec.msgpack.encode(place),
                self.view.served(self.namespace): served_record(place),
            }

        self.store.write([], self._place, change)
        return told[0]

    def push(self, rows: pa.Table, *, as_of_us: int, batch: str = "", known_us: int | None = None) -> Pushed:
        """Adds rows of the source, known since `known_us` or since they happened, unless a column says so.

        A batch with a name is applied once, however often it is pushed. Raises `RowsUnfit` or `StoreUnavailable`; then
        nothing of the batch is applied.
        """

        def moved(place: Place) -> Place | None:
            if batch and batch in place.batches:
                return None
            place.batches = [*place.batches, batch][-_BATCHES_KEPT:] if batch else place.batches
            return place

        events = events_of(self.view.definition, rows, known_us=known_us)
        return self.apply(events, as_of_us, moved, lambda place: {place.serving, place.filling})

    def apply(
        self,
        events: Events,
        as_of_us: int,
        moved: Callable[[Place], Place | None],
        generations: Callable[[Place], set[int]],
        *,
        left_out: int = 0,
        ahead: int | None = None,
    ) -> Pushed:
        """Adds events to generations and moves the place, in one transaction; nothing where `moved` says `None`.

        `left_out` is how many more there were that others of the same entity are newer than; `ahead`: see
        `OnlineView.records`.
        """
        number, first = numbered(events.keys)
        entities = self.view.entity_keys([key.take(pa.array(first)) for key in events.keys])
        outcome: Pushed | None = None
        while outcome is None:
            wanted = generations(self.place())
            prefixes = [self.view.prefix(self.namespace, generation) for generation in sorted(wanted)]
            keys = [prefix + entity for prefix in prefixes for entity in entities]

            def change(record: bytes | None, records: list[bytes | None]) -> Changes:
                nonlocal outcome
                place = place_of(record)
                if generations(place) != wanted:  # noqa: B023 - called before the next round
                    outcome = None
                    return {}
                new = moved(place)
                outcome = Pushed(len(events), len(entities), again=new is None)
                if new is None:
                    return {}
                new.writes += 1
                changed: dict[bytes, bytes | None] = {}
                for place_of_generation, generation in enumerate(sorted(wanted)):  # noqa: B023
                    start = place_of_generation * len(entities)
                    part = slice(start, start + len(entities))
                    changed |= self._changed(keys[part], records[part], number, events, as_of_us, ahead)  # noqa: B023
                    _count(new.tallies.setdefault(generation, Tally()), events, left_out, records[part], as_of_us)
                told = {self.view.served(self.namespace): served_record(new)}
                changed |= {**told, self._place: msgspec.msgpack.encode(new)}
                return changed

            self.store.write(keys, self._place, change)
        return outcome

    def forget(self, entity: Sequence[Any], when_us: int) -> Receipt:
        """Takes everything that is held of an entity out of the store, in every generation."""
        place = self.place()
        generations = sorted({place.serving, place.filling})
        keys = [self.view.keys(self.view.prefix(self.namespace, g), [entity])[0] for g in generations]
        found: list[int] = []

        def change(record: bytes | None, records: list[bytes | None]) -> Changes:
            found[:] = [len(r) for r in records if r is not None]
            moved = place_of(record)
            moved.writes += 1
            for generation, held in zip(generations, records, strict=True):
                if held is not None and generation in moved.tallies:
                    moved.tallies[generation].entities -= 1
            return {**dict.fromkeys(keys), self._place: msgspec.msgpack.encode(moved)}

        self.store.write(keys, self._place, change)
        left = [record for record in self.store.get(keys) if record is not None]
        digest = hashlib.sha256(keys[0][9:]).hexdigest()
        return Receipt(self.namespace, self.view.definition.name, digest, when_us, len(found), sum(found), not left)

    def _changed(
        self,
        keys: Sequence[bytes],
        records: Sequence[bytes | None],
        number: Array,
        events: Events,
        as_of_us: int,
        ahead: int | None,
    ) -> dict[bytes, bytes | None]:
        """The new records of the entities that change."""
        if not len(events):
            return {}
        if self.view.rows_only:
            return self._newest_changed(keys, records, number, events, as_of_us, ahead)
        held = joined_held(self.view.held(records), (number, events))
        return dict(zip(keys, self.view.records(held, as_of_us, ahead), strict=True))

    def _newest_changed(
        self,
        keys: Sequence[bytes],
        records: Sequence[bytes | None],
        number: Array,
        events: Events,
        as_of_us: int,
        ahead: int | None,
    ) -> dict[bytes, bytes | None]:
        """The same of a view of newest rows alone: what is older than a record's row cannot change it."""
        heads = b"".join([_NO_HEAD if record is None else record[: HEAD.size] for record in records])
        head = np.frombuffer(heads, dtype=HEAD_DTYPE)
        event_us = head["event"]
        changes = (events.time_us >= event_us[number]) & newest_rows(number, events.time_us, as_of_us)
        kept = np.flatnonzero(changes)
        if not len(kept):
            return {}
        number, events = number[kept], events.take(kept)
        newer = (events.time_us > event_us[number]) & (events.time_us <= as_of_us)
        replaced = np.bincount(number[newer], minlength=len(keys)) > 0
        touched = np.unique(number)
        renumbered = np.zeros(len(keys), dtype=np.int64)
        renumbered[touched] = np.arange(len(touched))
        # A record whose row is replaced and that holds nothing else need not be read.
        unread = (replaced & (head["state"] == 0)).tolist()
        old = [None if unread[n] else records[n] for n in touched.tolist()]
        held = joined_held(self.view.held(old), (renumbered[number], events))
        return dict(zip([keys[n] for n in touched], self.view.records(held, as_of_us, ahead), strict=True))


def _count(tally: Tally, events: Events, left_out: int, records: Sequence[bytes | None], as_of_us: int) -> None:
    """Adds events of entities with those records so far."""
    tally.rows += len(events) + left_out
    tally.entities += sum(record is None for record in records)
    past = events.time_us[events.time_us <= as_of_us]
    tally.newest_us = max(tally.newest_us, int(past.max(initial=EVER_US)))
