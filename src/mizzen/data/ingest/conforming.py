"""Rows made to fit the table that they come to: its columns, its types, the time zone of its events.

A source changes over the years: a column more, a column less, a number that became text. What happens then is stated in
the dataset (`load.onNewSchema`), and where it says `fail`, or nothing can be done, the message names every difference
and what would allow it. A column that disappears always fails: rows without it would look like rows that do not know.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mizzen.data.ingest.chunks import WrongColumns
from mizzen.data.lake.errors import RowsUnfit
from mizzen.data.lake.rows import storable_schema


@dataclass(frozen=True, slots=True)
class Fitting:
    """What the rows are to fit."""

    table: pa.Schema | None
    """The columns of the version before; `None` where the rows may have any."""
    on_new_schema: str
    """`fail`, `addColumns` or `cast`."""
    untyped: bool
    """Whether the rows' types are a guess, which gives way to the table's."""
    event_time: str | None
    time_zone: str | None


def conforming(tables: Iterator[pa.Table], fitting: Fitting) -> Iterator[pa.Table]:
    """The tables as they are kept. Raises `WrongColumns`."""
    schema: pa.Schema | None = None
    for table in tables:
        rows = _with_zone(table, fitting)
        if schema is None:
            schema = rows.schema if fitting.table is None else _wanted(rows, fitting)
        yield _cast(rows, schema)


def _with_zone(rows: pa.Table, fitting: Fitting) -> pa.Table:
    """Event times as moments: with a time zone, in UTC."""
    name = fitting.event_time
    if name is None or name not in rows.column_names:
        return rows
    index = rows.column_names.index(name)
    column = rows.column(index)
    if not pt.is_timestamp(column.type) or column.type.tz is not None:
        return rows
    if fitting.time_zone is None:
        raise WrongColumns(
            f"spec.eventTime: expected times with a time zone, the values of {name} have none; write it into them "
            "(2013-01-31T12:00:00Z), or say with spec.timeZone what it is (UTC, Europe/Berlin)"
        )
    try:
        moments = pc.assume_timezone(column, timezone=fitting.time_zone)
    except pa.ArrowInvalid as error:
        raise WrongColumns(f"column {name}: {_zone_problem(error, fitting.time_zone)}") from error
    return rows.set_column(index, name, moments.cast(pa.timestamp("us", "UTC")))


def _zone_problem(error: pa.ArrowInvalid, zone: str) -> str:
    text = str(error).partition("\n")[0]
    if "locate or parse timezone" in text or "locate timezone" in text:
        return f"spec.timeZone: expected the name of a time zone such as Europe/Berlin, got {zone!r}"
    kind = "is there twice" if "ambiguous" in text.casefold() else "does not exist"
    return f"a time {kind} in {zone}, where the clocks change: {text}; keep the times in UTC"


def _wanted(rows: pa.Table, fitting: Fitting) -> pa.Schema:
    """The table's columns, followed by those that may come to it. Raises `WrongColumns` with every difference."""
    table = fitting.table
    assert table is not None, "there is a version before"
    casts = fitting.untyped or fitting.on_new_schema == "cast"
    problems, hints = [], []
    if missing := [name for name in table.names if name not in rows.column_names]:
        have = ", ".join(rows.column_names)
        problems.append(f"the source has no column {', '.join(missing)} any more (it has {have})")
    extra = [field for field in rows.schema if field.name not in table.names]
    if extra and fitting.on_new_schema == "fail":
        problems.append(f"the source has new columns: {', '.join(field.name for field in extra)}")
        hints.append("load.onNewSchema: addColumns takes them in")
    for field in table:
        found = rows.schema.field(field.name) if field.name in rows.column_names else field
        if found.type != field.type and not casts and rows.column(field.name).null_count < rows.num_rows:
            problems.append(f"column {field.name}: expected {field.type}, found {found.type}")
            hints.append("load.onNewSchema: cast converts values that survive it")
    if problems:
        raise WrongColumns("; ".join([*problems, *dict.fromkeys(hints)]))
    try:
        return storable_schema(pa.schema([*table, *extra]))
    except RowsUnfit as error:
        raise WrongColumns(str(error)) from error


def _cast(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        column = rows.column(field.name)
        try:
            columns.append(column if column.type == field.type else _converted(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            why = str(error).partition("\n")[0]
            raise WrongColumns(
                f"column {field.name}: expected {field.type}, found {column.type} with a value that is none: {why}"
            ) from error
    return pa.Table.from_arrays(columns, schema=schema)


def _converted(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), type_)])
    return column.cast(type_)
