"""Rows of a source as a view's events: keys, two clocks, and what is worked out of each row.

Rows without a key are events of nobody and are left out. A row without an event time, a time without a zone where none
is stated, a key of another type and a column that is gone are refused, with what was expected and what was found.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mizzen.data.features.columns import Array, times_us
from mizzen.data.features.definition import Definition, quoted
from mizzen.data.features.errors import RowsUnfit
from mizzen.data.features.expressions import evaluate
from mizzen.data.features.keys import as_key, numbered
from mizzen.data.features.timeline import EVER_US, NEVER_US

INGESTED_AT = "_ingested_at"
"""The column with the time at which a table took a row in, where it keeps one."""


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one view, in the order of the source."""

    keys: list[pa.Array]
    time_us: Array
    known_us: Array | None
    """`None` where each was known when it happened."""
    values: pa.Table
    """A column for each expression of the definition."""

    def __len__(self) -> int:
        return len(self.time_us)

    @property
    def since_us(self) -> Array:
        """Since when each is known."""
        return self.time_us if self.known_us is None else self.known_us

    def take(self, rows: Array) -> "Events":
        """Some of them."""
        keys = [key.take(pa.array(rows)) for key in self.keys]
        known_us = None if self.known_us is None else self.known_us[rows]
        return Events(keys, self.time_us[rows], known_us, self.values.take(pa.array(rows)))


def concatenated(a: Events, b: Events) -> Events:
    """Both, without their keys, as the online store holds events: with columns of the first one's types."""
    values = b.values.cast(a.values.schema) if b.values.schema != a.values.schema else b.values
    return Events(
        [pa.nulls(len(a) + len(b), key.type) for key in a.keys],
        np.concatenate((a.time_us, b.time_us)),
        np.concatenate((a.since_us, b.since_us)),
        pa.concat_tables([a.values, values]).combine_chunks(),
    )


def events_of(definition: Definition, rows: pa.Table, *, known_us: int | None = None) -> Events:
    """The events of some rows; with `known_us`, all became known then unless the view has a column that says so.

    Raises `RowsUnfit` where the rows do not fit the definition.
    """
    where = f"FeatureView {definition.name}"
    rows, keys = _of_somebody(definition, rows, where)
    time_us = event_times(rows.column(definition.event_time), definition.event_time, definition.time_zone, where)
    values = worked_out(definition, rows, where)
    return Events(keys, time_us, _known(definition, rows, time_us, known_us, where), values)


def newest_of(definition: Definition, rows: pa.Table, as_of_us: int) -> tuple[pa.Table, int]:
    """Of the rows that are events, those that are the newest of their entity or lie ahead; and how many events there
    were.

    Raises `RowsUnfit` as `events_of` does, but for what is worked out of the rows.
    """
    where = f"FeatureView {definition.name}"
    rows, keys = _of_somebody(definition, rows, where)
    time_us = event_times(rows.column(definition.event_time), definition.event_time, definition.time_zone, where)
    number, _ = numbered(keys)
    kept = np.flatnonzero(newest_rows(number, time_us, as_of_us))
    return (rows if len(kept) == len(rows) else rows.take(pa.array(kept))), len(rows)


def newest_rows(entity: Array, time_us: Array, past_us: int) -> Array:
    """Which events are the newest of their entity up to `past_us`, with all that are alike in time, or lie after it."""
    newest = np.full(int(entity.max(initial=-1)) + 1, EVER_US)
    past = time_us <= past_us
    np.maximum.at(newest, entity[past], time_us[past])
    newest_or_later: Array = time_us >= newest[entity]
    return newest_or_later


def _of_somebody(definition: Definition, rows: pa.Table, where: str) -> tuple[pa.Table, list[pa.Array]]:
    """The rows that are events of an entity, and their keys."""
    columns_read(definition, rows.column_names)
    if definition.where is not None:
        counts = evaluate(rows, {"where": f"coalesce(({definition.where})::BOOLEAN, false)"}, f"{where}: where")[
            "where"
        ]
        rows = rows.filter(counts)
    keys = [as_key(rows.column(key.column), key.type, f"{where}: {key.column}") for key in definition.keys]
    there = pc.is_valid(keys[0])
    for key in keys[1:]:
        there = pc.and_(there, pc.is_valid(key))
    if not pc.all(there).as_py() and len(rows):
        rows, keys = rows.filter(there), [key.filter(there) for key in keys]
    return rows, keys


def columns_read(definition: Definition, present: Sequence[str]) -> list[str]:
    """The columns of the source that the view needs. Raises `RowsUnfit` where one is not present."""
    missing = [name for name in definition.columns if name not in present]
    if missing:
        raise RowsUnfit(
            f"FeatureView {definition.name}: expected the columns {', '.join(missing)} in its source, found "
            f"{', '.join(present)}"
        )
    taken_in = [INGESTED_AT] if INGESTED_AT in present and definition.known_at is None else []
    return list(dict.fromkeys([*definition.columns, *(u for u in definition.uses if u in present), *taken_in]))


def event_times(column: pa.ChunkedArray, name: str, zone: str | None, where: str) -> Array:
    """The column as microseconds since 1970. Raises `RowsUnfit` where one is missing or has no zone."""
    clock, there = _clock(column, name, zone, where)
    if not there.all():
        first = int(np.flatnonzero(~there)[0])
        raise RowsUnfit(
            f"{where}: expected an event time in {name} of every row, found none in {int((~there).sum())} of "
            f"{len(there)} rows, first in row {first}; filter them with where or mend the source"
        )
    return clock


def worked_out(definition: Definition, rows: pa.Table, where: str) -> pa.Table:
    """A column for each expression; stated types hold. Masks are never null."""
    plain = {name: text for name, text in definition.expressions.items() if _plain_column(text) in rows.column_names}
    masked = {name: f"coalesce(({text})::BOOLEAN, false)" for name, text in definition.expressions.items()
              if name in definition.masks}  # fmt: skip
    computed = {n: masked.get(n, t) for n, t in definition.expressions.items() if n not in plain or n in masked}
    found = evaluate(rows, computed, where)
    columns: dict[str, pa.ChunkedArray] = {}
    stated: dict[str, pa.DataType | None] = {feature.name: feature.type for feature in definition.rows}
    summed = {a.column for a in definition.aggregations} - set(stated)
    for name in definition.expressions:
        column = found[name] if name in found else rows.column(_plain_column(plain[name]))
        wanted = stated.get(name)
        if name in summed and pt.is_decimal(column.type):
            wanted = pa.float64()
        columns[name] = column if wanted is None or column.type == wanted else _cast(column, wanted, f"{where}: {name}")
    return pa.table(columns).combine_chunks() if columns else rows.select([])


def _plain_column(text: str) -> str:
    """The column that a quoted name is; the text itself else."""
    inner = text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else ""
    return inner if inner and quoted(inner) == text else ""


def _cast(column: pa.ChunkedArray, wanted: pa.DataType, where: str) -> pa.ChunkedArray:
    try:
        return pc.cast(column, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise RowsUnfit(f"{where}: expected values of type {wanted}, found {column.type}: {error}") from error


def _clock(column: pa.ChunkedArray, name: str, zone: str | None, where: str) -> tuple[Array, Array]:
    type_ = column.type
    if pt.is_timestamp(type_) and type_.tz is None:
        if zone is None:
            raise RowsUnfit(
                f"{where}: expected times with a zone in {name}, found {type_}; say which with timeZone, such as UTC"
            )
        if zone != "UTC":
            column = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="latest")
    if not (pt.is_timestamp(type_) or pt.is_date32(type_)):
        raise RowsUnfit(f"{where}: expected times in {name}, found {type_}; convert them in the source")
    return times_us(column)


def _known(definition: Definition, rows: pa.Table, time_us: Array, known_us: int | None, where: str) -> Array | None:
    """Known-at of each row: of the view's column, else of the table's own, else when it was taken in, else at once."""
    name = definition.known_at or (INGESTED_AT if INGESTED_AT in rows.column_names else None)
    if name is None:
        return None if known_us is None else np.full(len(time_us), known_us)
    if name == definition.event_time:
        return None
    clock, there = _clock(rows.column(name), name, definition.time_zone, where)
    return np.where(there, clock, NEVER_US)


def us_of(moment: dt.datetime) -> int:
    """A moment as microseconds since 1970. Raises `ValueError` where it has no zone."""
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with a zone, found {moment.isoformat()}")
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
