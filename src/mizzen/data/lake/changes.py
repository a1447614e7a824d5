"""The changes a table can undergo, as plans over the version before (`tables.py`).

* `replacing`: the new rows are the content.
* `appending`: they come after what is there. Where many small files have gathered at the end, they are written together
  with the new ones as larger ones, so that a table that grows by small loads does not become a heap of small files: a
  row is written again about as often as the table grows sixteenfold, and no separate pass is needed.
* `upserting`: rows with the same key go, and the new ones come. Only files that hold such a key are written again; the
  rest of their rows keep their place.
* `restoring`: the content of an older version becomes that of the next; nothing is written but the commit.

Each may be planned more than once, on top of other writers' commits, and then starts over from what is there.
"""
# ruff: noqa: S608 - SQL is put together of quoted names and constants

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pyarrow as pa

from mizzen.data.lake.errors import SourceMoved
from mizzen.data.lake.log import DataFile
from mizzen.data.lake.partitions import full_rows, partitioned
from mizzen.data.lake.parts import Part, PartWriter
from mizzen.data.lake.sql import BATCH_ROWS, connect, quoted, reading
from mizzen.data.lake.tables import Change, Plan, Table, Totals
from mizzen.data.lake.version import TableVersion

SMALL_BYTES = 16 * 1024 * 1024
"""A file below this is a small one."""
SMALL_FILES_MAX = 16
"""So many small files at the end of a table (or of one of its partitions) are written together."""


@dataclass(frozen=True, slots=True)
class NewRows:
    """What a load brings: files on this machine, and what is told of the version they make."""

    parts: Sequence[Part]
    schema: pa.Schema
    """With every column that the table is to have."""
    facts: Callable[[TableVersion | None, Totals], str] = lambda _, __: ""
    attachment: Callable[[TableVersion | None, str, Sequence[DataFile | Part]], bytes | None] = lambda *_: None
    """Larger facts, of the version before, the operation and the content to be."""
    partition_by: tuple[str, ...] = ()
    transactions: Mapping[str, int] = field(default_factory=dict)
    oldest: Callable[[TableVersion | None], int | None] = lambda _: None
    expected: Callable[[TableVersion | None], None] = lambda _: None
    """Raises where the version before is not one that these rows can follow."""


def replacing(rows: NewRows, work: Path) -> Plan:
    """The rows become the whole content."""
    ready = partitioned(rows.parts, rows.schema, rows.partition_by, work / "partitions")

    def plan(base: TableVersion | None) -> Change:
        return _change("replace", rows, base, ready)

    return plan


def appending(rows: NewRows, work: Path) -> Plan:
    """The rows come after what is there."""
    ready = partitioned(rows.parts, rows.schema, rows.partition_by, work / "partitions")
    attempts = itertools.count()

    def plan(base: TableVersion | None) -> Change:
        if base is None:
            return _change("append", rows, base, ready)
        if base.partition_by != rows.partition_by:
            ready_now = partitioned(rows.parts, rows.schema, base.partition_by, work / f"as-it-is-{next(attempts)}")
        else:
            ready_now = ready
        after = _beside(base, rows)
        kept = compacted(base, after.schema, work / f"compacted-{next(attempts)}")
        return _change("append", after, base, [*kept, *ready_now])

    return plan


def upserting(
    rows: NewRows, key: Sequence[str], work: Path, gone: pa.Table | None = None, operation: str = "upsert"
) -> Plan:
    """Rows of the table with the key of a new one go, and the new ones come. `gone` holds keys that only go."""
    ready = partitioned(rows.parts, rows.schema, rows.partition_by, work / "partitions")
    attempts = itertools.count()

    def plan(base: TableVersion | None) -> Change:
        if base is None:
            return _change(operation, rows, base, ready)
        number = next(attempts)
        after = _beside(base, rows)
        kept = _without_keys(base, after, key, gone, work / f"kept-{number}")
        if base.partition_by != rows.partition_by:
            ready_now = partitioned(rows.parts, rows.schema, base.partition_by, work / f"as-it-is-{number}")
        else:
            ready_now = ready
        return _change(operation, after, base, [*kept, *ready_now])

    return plan


def _beside(base: TableVersion, rows: NewRows) -> NewRows:
    """The rows as they can stand beside those of a version: with every column that either has, divided as it is.

    Raises `SourceMoved` where a column is of another type since the rows were made to fit.
    """
    fields = [*base.schema]
    for column in rows.schema:
        if column.name not in base.schema.names:
            fields.append(column)
        elif base.schema.field(column.name).type != column.type:
            now = base.schema.field(column.name).type
            raise SourceMoved(f"column {column.name} became {now} meanwhile: load again")
    return replace(rows, schema=pa.schema(fields), partition_by=base.partition_by)


def restoring(
    table: Table, version: int, facts: Callable[[TableVersion, Totals], str], attachment: bytes | None = None
) -> Plan:
    """The content of an older version becomes that of the next."""

    def plan(_: TableVersion | None) -> Change:
        old = table.at(version)
        return Change(
            "restore",
            old.schema,
            old.files,
            lambda totals: facts(old, totals),
            attachment,
            old.partition_by,
        )

    return plan


def compacted(base: TableVersion, schema: pa.Schema, folder: Path) -> list[DataFile | Part]:
    """The files of a version, with those small ones at the end of each partition written together if they are many."""
    groups: dict[tuple[tuple[str, str | None], ...], list[DataFile]] = {}
    for file in base.files:
        groups.setdefault(tuple(sorted(file.partition.items())), []).append(file)
    content: list[DataFile | Part] = []
    for index, files in enumerate(groups.values()):
        small = list(itertools.takewhile(lambda file: file.bytes < SMALL_BYTES, reversed(files)))[::-1]
        if len(small) < SMALL_FILES_MAX:
            content += files
            continue
        content += files[: len(files) - len(small)]
        content += _written_together(base, small, schema, folder / f"{index:05d}")
    return content


def _written_together(base: TableVersion, small: Sequence[DataFile], schema: pa.Schema, folder: Path) -> list[Part]:
    stored = pa.schema([field for field in schema if field.name not in base.partition_by])
    writer = PartWriter(folder, stored)
    for batch in base.dataset(small).to_batches(batch_size=BATCH_ROWS):
        writer.write(full_rows(pa.Table.from_batches([batch]), stored))
    # Several files may come of it; each takes the place of one of those it was written from.
    return [
        replace(part, partition=small[0].partition, order=small[min(index, len(small) - 1)].order)
        for index, part in enumerate(writer.close())
    ]


def _without_keys(
    base: TableVersion, rows: NewRows, key: Sequence[str], gone: pa.Table | None, folder: Path
) -> list[DataFile | Part]:
    """The files of a version, those that hold a key of the new rows written again without such rows."""
    names = ", ".join(quoted(name) for name in key)
    match = " AND ".join(f"old.{quoted(name)} IS NOT DISTINCT FROM keys.{quoted(name)}" for name in key)
    stored = pa.schema([field for field in rows.schema if field.name not in base.partition_by])
    content: list[DataFile | Part] = []
    with connect(folder.parent) as connection:
        more = ""
        if gone is not None:
            connection.register("gone", gone)
            more = f" UNION SELECT {names} FROM gone"
        connection.execute(f"CREATE TABLE keys AS SELECT DISTINCT {names} FROM {reading(rows.parts)}{more}")
        for index, file in enumerate(base.files):
            connection.register("old", base.dataset([file]))
            (found,) = connection.execute(f"SELECT count(*) FROM old SEMI JOIN keys ON {match}").fetchall()
            if found[0] == 0:
                content.append(file)
            elif found[0] < file.rows:
                part = _rewritten(connection, match, stored, folder / f"{index:05d}")
                content.append(replace(part, partition=file.partition, order=file.order))
            connection.unregister("old")
    return content


def _rewritten(connection: duckdb.DuckDBPyConnection, match: str, stored: pa.Schema, folder: Path) -> Part:
    """The rows of `old` that have no key of `keys`, in one file."""
    writer = PartWriter(folder, stored, one_file=True)
    placed = "SELECT *, row_number() OVER () AS _place FROM old"  # a join does not keep the order
    query = f"SELECT * EXCLUDE (_place) FROM ({placed}) AS old ANTI JOIN keys ON {match} ORDER BY _place"
    for batch in connection.sql(query).to_arrow_reader(BATCH_ROWS):
        writer.write(full_rows(pa.Table.from_batches([batch]), stored))
    (part,) = writer.close()
    return part


def _change(operation: str, rows: NewRows, base: TableVersion | None, content: Sequence[DataFile | Part]) -> Change:
    rows.expected(base)
    return Change(
        operation,
        rows.schema,
        content,
        lambda totals: rows.facts(base, totals),
        rows.attachment(base, operation, content),
        rows.partition_by,
        rows.transactions,
        oldest=rows.oldest(base),
    )
