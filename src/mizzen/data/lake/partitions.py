"""Rows divided into files by the values of a few columns, which the files then do not hold.

Rows keep their order within each partition. The values are written as the Delta protocol says (PROTOCOL.md, "Partition
Value Serialization"); columns of whole numbers, text, booleans and days can be partitioned by.
"""
# ruff: noqa: S608 - SQL is put together of quoted names and constants

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from mizzen.data.lake.errors import RowsUnfit
from mizzen.data.lake.parts import Part, PartWriter
from mizzen.data.lake.sql import BATCH_ROWS, connect, quoted, reading
from mizzen.data.lake.version import partition_text

PARTITIONS_MAX = 4096
"""Of one load: more is a column that tells rows apart, not one that divides them."""


def expect_partitionable(schema: pa.Schema, partition_by: Sequence[str]) -> None:
    """Raises `RowsUnfit` where rows of the schema cannot be divided by those columns."""
    for name in partition_by:
        index = schema.get_field_index(name)
        if index < 0:
            raise RowsUnfit(
                f"spec.partitionBy: expected a column, found no {name!r} (columns: {', '.join(schema.names)})"
            )
        type_ = schema.field(index).type
        if not (pt.is_integer(type_) or pt.is_string(type_) or pt.is_boolean(type_) or pt.is_date(type_)):
            raise RowsUnfit(
                f"spec.partitionBy: expected a column of whole numbers, text, booleans or days, {name} is {type_}"
            )
    if partition_by and len(set(partition_by)) == len(schema.names):
        raise RowsUnfit("spec.partitionBy: expected at least one column that is not partitioned by")


def partitioned(parts: Sequence[Part], schema: pa.Schema, by: Sequence[str], folder: Path) -> list[Part]:
    """The parts' rows as files of one partition each. Raises `RowsUnfit`."""
    if not by:
        return [*parts]
    expect_partitionable(schema, by)
    stored = pa.schema([field for field in schema if field.name not in by])
    names = ", ".join(quoted(name) for name in by)
    finished: list[Part] = []
    writer: PartWriter | None = None
    current: tuple[Any, ...] | None = None
    with connect(folder.parent) as connection:
        (count,) = connection.execute(
            f"SELECT count(*) FROM (SELECT DISTINCT {names} FROM {reading(parts)})"
        ).fetchall()
        if count[0] > PARTITIONS_MAX:
            raise RowsUnfit(f"spec.partitionBy: expected at most {PARTITIONS_MAX} partitions, found {count[0]}")
        placed = f"SELECT *, row_number() OVER () AS _place FROM {reading(parts)}"
        query = f"SELECT * EXCLUDE (_place) FROM ({placed}) ORDER BY {names}, _place"
        for batch in connection.sql(query).to_arrow_reader(BATCH_ROWS):
            table = pa.Table.from_batches([batch])
            for values, start, end in _runs(table, by):
                if writer is None or values != current:
                    finished += _closed(writer, by, current)
                    writer, current = PartWriter(folder / f"{len(finished):05d}", stored), values
                writer.write(full_rows(table.slice(start, end - start), stored))
    return finished + _closed(writer, by, current)


def _closed(writer: PartWriter | None, by: Sequence[str], values: tuple[Any, ...] | None) -> list[Part]:
    if writer is None or values is None:
        return []
    partition = {name: partition_text(value) for name, value in zip(by, values, strict=True)}
    return [replace(part, partition=partition) for part in writer.close()]


def _runs(table: pa.Table, by: Sequence[str]) -> list[tuple[tuple[Any, ...], int, int]]:
    """Stretches of rows of equal values: (values, first row, row after the last)."""
    keys = list(zip(*(table.column(name).to_pylist() for name in by), strict=True))
    runs: list[tuple[tuple[Any, ...], int, int]] = []
    start = 0
    for index in range(1, len(keys) + 1):
        if index == len(keys) or keys[index] != keys[start]:
            runs.append((keys[start], start, index))
            start = index
    return runs


def full_rows(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly the columns of the schema; those it lacks are null, as of rows older than a column."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
