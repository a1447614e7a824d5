"""A view's first filling split by entity: records made anywhere against object storage, then put into the store.

A *share* is a part of the hashes of the view's keys, as of a join (`split.py`). Whoever makes one reads the source's
version, keeps the events of its entities, and works out their records, bucket by bucket, within the memory of one
bucket; it needs no online store. Whoever finds all shares made puts them into the store, in steps that keep their
place, as `materialise.py` does: a process that is killed goes on where it was, and two at once do not put anything in
twice. A record is made of its entity's events and the moment alone, so that the store holds the same bytes however many
shares there were.

An entity that has a record already, because rows were pushed meanwhile, gets what both hold.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from mizzen.data.features.events import columns_read, events_of
from mizzen.data.features.keys import as_key, hashes, numbered
from mizzen.data.features.online.held import Held
from mizzen.data.features.online.materialise import Materialised, PlaceMoved, ahead_of
from mizzen.data.features.online.store import Changes
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter, Place, Tally, place_of, served_record
from mizzen.data.features.pointintime import PARTS_MAX, ROWS_IN_MEMORY, Use, enriched
from mizzen.data.features.spill import Parts, Tables
from mizzen.data.features.split import Share, Shared
from mizzen.data.features.timeline import EVER_US
from mizzen.data.lake.tables import TableVersion

STEP_RECORDS = 50_000
"""Records of one transaction."""
SCHEMA = pa.schema(
    [
        ("entity", pa.large_binary()),
        ("record", pa.large_binary()),
        ("events", pa.int64()),
        ("newest_us", pa.int64()),
    ]
)
"""Of a share: an entity's key and record, how many events it has, and the newest of them that does not lie ahead."""


def can_be_shared(place: Place, shares: str) -> bool:
    """Whether a view that has come so far is filled from shares of that name: of its source nothing else was begun."""
    return place.shares == shares or place.table == ""


def records_of(
    view: OnlineView, use: Use, share: Share, as_of_us: int, *, work: Path, rows_in_memory: int = ROWS_IN_MEMORY
) -> Iterator[pa.Table]:
    """The records of a share's entities, as of a moment, in tables of `SCHEMA`; at least one.

    Raises `RowsUnfit` where rows do not fit the view.
    """
    definition = use.definition
    keys = [key.column for key in definition.keys]
    ahead = ahead_of(use.source.rows)
    source = enriched(replace(use, source=Shared(use.source, keys, share)))
    read = columns_read(definition, source.schema.names)
    count = min(PARTS_MAX, -(-max(1, use.source.rows // share.of) // rows_in_memory))
    buckets = Parts(work, "events", count, pa.schema([source.schema.field(name) for name in read]))
    for batch in source.batches(read):
        rows = pa.table(batch)
        columns = [as_key(rows.column(name), None, f"FeatureView {definition.name}: {name}") for name in keys]
        buckets.add(rows, hashes(columns) // np.uint64(share.of) % np.uint64(count))
    buckets.close()
    for number in range(count):
        yield _bucket(view, buckets.read(number), as_of_us, ahead)
        buckets.drop(number)


def _bucket(view: OnlineView, rows: pa.Table, as_of_us: int, ahead: int) -> pa.Table:
    events = events_of(view.definition, rows)
    if not len(events):
        return SCHEMA.empty_table()
    number, first = numbered(events.keys)
    entities = view.entity_keys([key.take(pa.array(first)) for key in events.keys])
    held = Held(len(entities), number, events, np.ones(len(events), dtype=bool))
    newest = np.full(len(entities), EVER_US)
    past = events.time_us <= as_of_us
    np.maximum.at(newest, number[past], events.time_us[past])
    counts = np.bincount(number, minlength=len(entities))
    return pa.table([entities, view.records(held, as_of_us, ahead), counts, newest], schema=SCHEMA)


def fill(
    writer: OnlineWriter,
    source: TableVersion,
    shares: str,
    tables: Tables,
    now_us: Callable[[], int],
    *,
    stepped: Callable[[Place], None] = lambda _: None,
    step_records: int | None = None,
) -> Materialised | None:
    """Puts all shares into the store and makes the version complete; `None` where somebody else began otherwise.

    `shares` is a name that these shares of this version have, and no others. Raises `StoreUnavailable`; steps made stay
    made.
    """

    def begin(place: Place) -> Place:
        if not can_be_shared(place, shares):
            raise PlaceMoved
        place.shares, place.version, place.table = shares, source.version, source.table_id
        return place

    def complete(place: Place) -> Place:
        _expect(place, shares, len(tables), 0)
        place.complete, place.serving = place.version, place.filling
        place.shares, place.files, place.file, place.file_rows = "", [], "", 0
        return place

    ahead, step_records = ahead_of(source.rows), step_records or STEP_RECORDS
    while True:
        try:
            place = writer.move(begin)
            for number in range(int(place.file or 0), len(tables)):
                table = tables.read(number)
                at = place.file_rows if place.file == str(number) else 0
                while at < len(table) or at == 0:
                    part = table.slice(at, step_records)
                    after = (number + 1, 0) if at + len(part) >= len(table) else (number, at + len(part))
                    place = _Putting(writer, shares, part, now_us(), ahead).put((number, at), after)
                    stepped(place)
                    at += max(1, len(part))
            place = writer.move(complete)
        except PlaceMoved:
            if not can_be_shared(writer.place(), shares):
                return None
            continue
        return Materialised(source.version, source.rows, len(source.files), place.serving)


def _expect(place: Place, shares: str, share: int, row: int) -> None:
    if (place.shares, int(place.file or 0), place.file_rows) != (shares, share, row):
        raise PlaceMoved


class _Putting:
    """Some records of a share, to be put into the store in one transaction."""

    def __init__(self, writer: OnlineWriter, shares: str, part: pa.Table, as_of_us: int, ahead: int) -> None:
        self._writer, self._shares, self._as_of_us, self._ahead = writer, shares, as_of_us, ahead
        self._entities: list[bytes] = part.column("entity").to_pylist()
        self._records: list[bytes] = part.column("record").to_pylist()
        self._events = int(np.asarray(part.column("events")).sum())
        self._newest_us = int(np.asarray(part.column("newest_us")).max(initial=EVER_US))

    def put(self, at: tuple[int, int], after: tuple[int, int]) -> Place:
        """Moves the place from a share and its row to another, with the records between."""
        writer = self._writer
        filling = writer.place().filling
        prefix = writer.view.prefix(writer.namespace, filling)
        keys = [prefix + entity for entity in self._entities]
        told: list[Place] = []

        def change(record: bytes | None, stored: list[bytes | None]) -> Changes:
            place = place_of(record)
            _expect(place, self._shares, *at)
            if place.filling != filling:
                raise PlaceMoved
            place.file, place.file_rows = str(after[0]), after[1]
            place.writes += 1
            tally = place.tallies.setdefault(filling, Tally())
            tally.rows += self._events
            tally.entities += sum(one is None for one in stored)
            tally.newest_us = max(tally.newest_us, self._newest_us)
            told[:] = [place]
            changed = dict(zip(keys, self._with(stored), strict=True))
            served = {writer.view.served(writer.namespace): served_record(place)}
            return {**changed, **served, writer.view.place(writer.namespace): msgspec.msgpack.encode(place)}

        writer.store.write(keys, writer.view.place(writer.namespace), change)
        return told[0]

    def _with(self, stored: Sequence[bytes | None]) -> list[bytes]:
        """The records, with what is stored where something is."""
        there = [number for number, one in enumerate(stored) if one is not None]
        if not there:
            return self._records
        view, records = self._writer.view, list(self._records)
        both = view.holding.merged(view.held([records[n] for n in there]), view.held([stored[n] for n in there]))
        for number, record in zip(there, view.records(both, self._as_of_us, self._ahead), strict=True):
            records[number] = record
        return records
