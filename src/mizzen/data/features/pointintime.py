"""Point-in-time joins: for each row of a spine, the features as they were known when the row was asked.

One row out for each row in, in order, whatever the views hold: a row whose entity nobody has seen has nulls or
defaults, and a hundred events at one moment do not make two of it. Each row is asked at its event time T with what was
known at T, unless another column (or "everything known today") says so. Labels look ahead instead, with all that is
known today; one whose window has not ended in the data is not known yet, which is null and not false.

A view that uses others sees their features at each of its events, as of that event, as a struct column under the other
view's name: `"card-spending".sum_1h` in its expressions.

Where events and spine are more than `rows_in_memory`, both are parted by a hash of the view's keys onto the disk, each
part is joined alone, and the features are put back in the order of the spine. The answer is the same, byte for byte,
whatever the number of parts: an entity is in one part with all its events.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mizzen.data.features.columns import Array
from mizzen.data.features.definition import Definition
from mizzen.data.features.errors import RequestUnfit
from mizzen.data.features.events import Events, columns_read, event_times, events_of
from mizzen.data.features.keys import as_key, encode, hashes
from mizzen.data.features.spill import Parts, Tables
from mizzen.data.features.timeline import NEVER_US, Requests
from mizzen.data.features.view import features_of

ROWS_IN_MEMORY = 8_000_000
PARTS_MAX = 256
"""Files that are written at once; what would need more is joined in larger parts."""
_BATCH_ROWS = 262_144
ROW_NUMBER = "\1row"
"""A column of row numbers beside a user's columns. No name begins with NUL here: Arrow's C interface ends it there."""
_TIME, _KNOWN = "\0time", "\0known"


class Rows(Protocol):
    """Rows that are read in pieces: a `TableVersion` of the lake, or `InMemory`."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    @property
    def rows(self) -> int:
        """How many there are."""

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, always in the same order."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """A table as rows."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        yield from (self.table if columns is None else self.table.select([*columns])).to_batches()


@dataclass(frozen=True, slots=True)
class Use:
    """What is taken of one view."""

    definition: Definition
    source: Rows
    features: tuple[str, ...] | None = None
    """`None`: all that need no request."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """The spine's column of a key, where it has another name."""
    prefix: str = ""
    """Put before the features' names."""
    others: tuple["Use", ...] = ()
    """The views that this one uses."""
    complete_until_us: int | None = None
    """Of labels: until when all that happened is in the source; by default, until its newest event."""

    def names(self) -> tuple[str, ...]:
        """The features that are taken. Raises `RequestUnfit` where the view has no such feature."""
        if self.features is None:
            return self.definition.stored
        unknown = [name for name in self.features if name not in self.definition.stored]
        if unknown:
            stored = ", ".join(self.definition.stored)
            raise RequestUnfit(
                f"FeatureView {self.definition.name}: expected features among {stored}, found {unknown[0]}"
            )
        return self.features


@dataclass(frozen=True, slots=True)
class Clocks:
    """The spine's columns with the times of its rows."""

    time: str
    """When each row is asked."""
    known: str | None = None
    """With what was known when; by default the same."""
    everything: bool = False
    """With all that is known today, late as it may have come: leaks the future, for comparison only."""
    time_zone: str | None = None


def join(spine: pa.Table, uses: Sequence[Use], clocks: Clocks) -> pa.Table:
    """The spine with the features as further columns, in memory.

    Raises `RequestUnfit` where the spine lacks a column, names collide or key types differ.
    """
    asked = InMemory(spine)
    expect_names(asked.schema, uses, clocks)
    result = spine
    for use in uses:
        columns = _whole(use, asked, clocks)
        for name, column in columns.items():
            result = result.append_column(use.prefix + name, column)
    return result


def join_batches(
    spine: Rows, uses: Sequence[Use], clocks: Clocks, *, work: Path, rows_in_memory: int = ROWS_IN_MEMORY
) -> Iterator[pa.Table]:
    """The same in pieces, within the memory that `rows_in_memory` rows take; `work` is a folder for what is spilt."""
    expect_names(spine.schema, uses, clocks)
    parted: dict[int, Parts] = {}
    try:
        whole: dict[int, dict[str, pa.ChunkedArray]] = {}
        for number, use in enumerate(uses):
            count = min(PARTS_MAX, -(-(use.source.rows + spine.rows) // rows_in_memory))
            if count > 1:
                parted[number] = _in_parts(use, spine, clocks, work / f"use-{number}", count)
            else:
                whole[number] = _whole(use, spine, clocks)
        yield from assembled(spine, uses, whole, parted)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Enriched:
    """A view's source with the features of the views it uses, as of each of its events."""

    use: Use

    @property
    def schema(self) -> pa.Schema:
        return next(iter(self._pieces(InMemory(self.use.source.schema.empty_table())))).schema

    @property
    def rows(self) -> int:
        return self.use.source.rows

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        for piece in self._pieces(self.use.source):
            yield from (piece if columns is None else piece.select([*columns])).to_batches()

    def _pieces(self, source: Rows) -> Iterator[pa.Table]:
        definition = self.use.definition
        clocks = Clocks(definition.event_time, time_zone=definition.time_zone)
        others = [replace(other, prefix=f"{other.definition.name}\0") for other in self.use.others]
        with tempfile.TemporaryDirectory(prefix="mizzen-join-") as work:
            for piece in join_batches(source, others, clocks, work=Path(work) / "parts"):
                yield _in_structs(piece, source.schema.names, others)


def enriched(use: Use) -> Rows:
    """The rows of a view's source; where it uses other views, with their features."""
    return Enriched(use) if use.others else use.source


def without_rows(use: Use) -> Use:
    """The same view over nothing: for its columns and their types."""
    return replace(
        use, source=InMemory(use.source.schema.empty_table()), others=tuple(without_rows(o) for o in use.others)
    )


def _in_structs(piece: pa.Table, own: Sequence[str], others: Sequence[Use]) -> pa.Table:
    result = piece.select([*own])
    for other in others:
        names = other.names()
        columns = [piece.column(other.prefix + name).combine_chunks() for name in names]
        result = result.append_column(other.definition.name, pa.StructArray.from_arrays(columns, names=[*names]))
    return result


def _whole(use: Use, spine: Rows, clocks: Clocks) -> dict[str, pa.ChunkedArray]:
    """The features of a view for the whole spine, in memory."""
    source = enriched(use)
    rows = _table(source, columns_read(use.definition, source.schema.names))
    asked = asked_rows(_table(spine, asked_columns(use, clocks)), use, clocks)
    until = newest_us(use.definition, rows) if use.complete_until_us is None else use.complete_until_us
    return _computed(use, events_of(use.definition, rows), asked, until)


def _computed(use: Use, events: Events, asked: pa.Table, until_us: int) -> dict[str, pa.ChunkedArray]:
    """The features for rows of `asked_rows`, in their order."""
    keys = [asked.column(key.name).combine_chunks() for key in use.definition.keys]
    for key, mine, theirs in zip(use.definition.keys, events.keys, keys, strict=True):
        if mine.type != theirs.type:
            raise RequestUnfit(
                f"FeatureView {use.definition.name}: expected keys {key.name} of type {mine.type}, found {theirs.type}"
            )
    entity, asked_entity, entities = encode(events.keys, keys)
    requests = requests_of(use.definition, asked, asked_entity)
    columns = features_of(use.definition, events, entity, entities, requests, use.names())
    for name, window in ((a.name, a.window) for a in use.definition.aggregations):
        if window.ahead and name in columns:
            ended = window.until_us(requests.time_us) <= until_us
            columns[name] = pc.if_else(pa.array(ended), columns[name], pa.scalar(None, columns[name].type))
    return columns


def requests_of(definition: Definition, asked: pa.Table, entity: Array) -> Requests:
    """The requests of rows of `asked_rows`; of labels, with all that is known today."""
    time_us, known_us = (np.asarray(asked.column(name).combine_chunks()) for name in (_TIME, _KNOWN))
    if any(aggregation.window.ahead for aggregation in definition.aggregations):
        known_us = np.full(len(time_us), NEVER_US)
    return Requests(entity, time_us, known_us)


def _in_parts(use: Use, spine: Rows, clocks: Clocks, folder: Path, count: int) -> Parts:
    """The features of a view part by part, each with the numbers of its rows, on the disk."""
    keys = [key.column for key in use.definition.keys]
    source = enriched(use)
    read = columns_read(use.definition, source.schema.names)
    events = Parts(folder, "events", count, pa.schema([source.schema.field(name) for name in read]))
    ended_us = -NEVER_US
    for batch in source.batches(read):
        rows = pa.table(batch)
        columns = [as_key(rows.column(name), None, f"FeatureView {use.definition.name}: {name}") for name in keys]
        events.add(rows, hashes(columns) % np.uint64(count))
        ended_us = max(ended_us, newest_us(use.definition, rows))
    events.close()
    asked, first = None, 0
    for batch in spine.batches(asked_columns(use, clocks)):
        rows = asked_rows(pa.table(batch), use, clocks)
        rows = rows.append_column(ROW_NUMBER, pa.array(np.arange(first, first + len(rows))))
        asked = asked or Parts(folder, "asked", count, rows.schema)
        columns = [rows.column(key.name).combine_chunks() for key in use.definition.keys]
        asked.add(rows, hashes(columns) % np.uint64(count))
        first += len(rows)
    assert asked is not None, "a spine of no rows needs no parts"
    asked.close()
    until_us = ended_us if use.complete_until_us is None else use.complete_until_us
    return _parts_computed(use, events, asked, folder, until_us)


def _parts_computed(use: Use, events: Parts, asked: Parts, folder: Path, until_us: int) -> Parts:
    results: Parts | None = None
    for number in range(len(asked)):
        rows = asked.read(number)
        columns = _computed(use, events_of(use.definition, events.read(number)), rows, until_us)
        table = pa.table({ROW_NUMBER: rows.column(ROW_NUMBER), **columns})
        results = results or Parts(folder, "features", len(asked), table.schema)
        results.add(table, np.full(len(table), number))
        events.drop(number)
        asked.drop(number)
    assert results is not None, "there is at least one part"
    results.close()
    return results


def assembled(
    spine: Rows, uses: Sequence[Use], whole: Mapping[int, dict[str, pa.ChunkedArray]], parted: Mapping[int, Tables]
) -> Iterator[pa.Table]:
    """The spine's pieces with their features, in order: of each view as a whole, or in parts with row numbers."""
    reading = {number: _PartReader(parts) for number, parts in parted.items()}
    first = 0
    for batch in spine.batches() if spine.rows else [spine.schema.empty_table()]:
        for start in range(0, max(1, len(batch)), _BATCH_ROWS):
            piece = pa.table(batch.slice(start, _BATCH_ROWS))
            for number, use in enumerate(uses):
                found = reading[number].rows(first, len(piece)) if number in reading else None
                for name in use.names():
                    column = whole[number][name].slice(first, len(piece)) if found is None else found.column(name)
                    piece = piece.append_column(use.prefix + name, column)
            first += len(piece)
            yield piece


class _PartReader:
    """Features of parts in the order of the spine: in each part, row numbers rise."""

    def __init__(self, parts: Tables) -> None:
        self._tables = [parts.read(number) for number in range(len(parts))]
        self._rows = [np.asarray(table.column(ROW_NUMBER).combine_chunks()) for table in self._tables]

    def rows(self, first: int, count: int) -> pa.Table:
        pieces = []
        for table, rows in zip(self._tables, self._rows, strict=True):
            start, stop = np.searchsorted(rows, (first, first + count)).tolist()
            if start < stop:
                pieces.append(table.slice(start, stop - start))
        found = pa.concat_tables(pieces)
        return found.take(pa.array(np.argsort(np.asarray(found.column(ROW_NUMBER).combine_chunks()))))


def asked_columns(use: Use, clocks: Clocks) -> list[str]:
    """The columns of the spine that a view is asked by: its keys and the clocks."""
    named = [use.keys.get(key.name, key.name) for key in use.definition.keys] + [clocks.time]
    return list(dict.fromkeys([*named, *([clocks.known] if clocks.known else [])]))


def asked_rows(rows: pa.Table, use: Use, clocks: Clocks) -> pa.Table:
    """The keys under the view's names, and both clocks, of rows of the spine."""
    where = f"spine for FeatureView {use.definition.name}"
    columns: dict[str, pa.Array] = {}
    for key in use.definition.keys:
        name = use.keys.get(key.name, key.name)
        columns[key.name] = as_key(rows.column(name), key.type, f"{where}: {name}")
    columns[_TIME] = event_times(rows.column(clocks.time), clocks.time, clocks.time_zone, where)
    columns[_KNOWN] = columns[_TIME]
    if clocks.everything:
        columns[_KNOWN] = np.full(len(rows), NEVER_US)
    elif clocks.known is not None:
        columns[_KNOWN] = event_times(rows.column(clocks.known), clocks.known, clocks.time_zone, where)
    return pa.table(columns)


def _table(rows: Rows, columns: Sequence[str]) -> pa.Table:
    present = [name for name in columns if name in rows.schema.names]
    schema = pa.schema([rows.schema.field(name) for name in present])
    return pa.Table.from_batches(list(rows.batches(present)), schema)


def newest_us(definition: Definition, rows: pa.Table) -> int:
    """Of a label's source, until when what happened is in it: the newest event time, whether the row counts or not."""
    if not any(aggregation.window.ahead for aggregation in definition.aggregations):
        return -NEVER_US
    column = rows.column(definition.event_time)
    there = column.filter(column.is_valid())
    clock = event_times(there, definition.event_time, definition.time_zone, f"FeatureView {definition.name}")
    return int(clock.max(initial=-NEVER_US))


def expect_names(spine: pa.Schema, uses: Sequence[Use], clocks: Clocks) -> None:
    """Raises `RequestUnfit` where the spine lacks a column that a view needs, or two columns have one name."""
    taken = dict.fromkeys(spine.names, "the spine")
    for use in uses:
        missing = [name for name in asked_columns(use, clocks) if name not in spine.names]
        if missing:
            raise RequestUnfit(
                f"FeatureView {use.definition.name}: expected the columns {', '.join(missing)} in the spine, found "
                f"{', '.join(spine.names)}"
            )
        for name in use.names():
            full = use.prefix + name
            if full in taken:
                raise RequestUnfit(
                    f"FeatureView {use.definition.name}: the feature {full} has the name of one of {taken[full]}; "
                    "give a prefix"
                )
            taken[full] = f"FeatureView {use.definition.name}"
