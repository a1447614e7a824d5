"""A source's rows on this machine, and what must hold of them whatever the checks say.

Of rows that name each other by a key, the last one of this load stays (by event time where there is one, else as they
came), and a row without a key is refused: it could never be replaced. A row without a watermark is refused too: a later
load would not see it.
"""
# ruff: noqa: S608 - SQL is put together of quoted names

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa

from mizzen.data.ingest.chunks import EXPECTED, WrongColumns
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.partitions import full_rows
from mizzen.data.lake.parts import Part, PartWriter
from mizzen.data.lake.sql import BATCH_ROWS, connect, quoted, reading

__all__ = ["EXPECTED", "Spool", "spooled"]


@dataclass(frozen=True, slots=True)
class Spool:
    """Rows in files of this machine."""

    parts: Sequence[Part]
    schema: pa.Schema
    greatest: pa.Scalar | None = None
    """Of the watermark's column, where there is one."""

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


def spooled(tables: Iterator[pa.Table], work: Path, task: IngestTask) -> Spool | None:
    """The rows, of each key the last; `None` where the source yielded no table at all. Raises `WrongColumns`."""
    writer: PartWriter | None = None
    for table in tables:
        if writer is None:
            writer = PartWriter(work / "all", table.schema)
        writer.write(table)
    if writer is None:
        return None
    spool = Spool(writer.close(), writer.schema)
    key, watermark = task.load.key, task.load.watermark
    for name, where in (*((name, "load.key") for name in key), *([(watermark, "load.watermark")] if watermark else ())):
        if name not in spool.schema.names:
            known = ", ".join(spool.schema.names)
            raise WrongColumns(f"{where}: expected a column of the source, found no {name} (it has {known})")
    if not (key or watermark):
        return spool
    with connect(work) as connection:
        if watermark is not None:
            _expect_values(connection, spool, watermark, "load.watermark")
            spool = replace(spool, greatest=_greatest(connection, spool, watermark))
        for name in key:
            _expect_values(connection, spool, name, "load.key")
        return _last_of_each_key(connection, spool, key, task.event_time, work / "last") if key else spool


def _expect_values(connection: duckdb.DuckDBPyConnection, spool: Spool, name: str, where: str) -> None:
    query = f"SELECT count(*) FROM {reading(spool.parts)} WHERE {quoted(name)} IS NULL"
    (found,) = connection.execute(query).fetchall()
    if found[0]:
        raise WrongColumns(
            f"{where}: expected a value of {name} in every row, found {found[0]} of {spool.rows} without"
        )


def _greatest(connection: duckdb.DuckDBPyConnection, spool: Spool, name: str) -> pa.Scalar:
    table = connection.sql(f"SELECT max({quoted(name)}) FROM {reading(spool.parts)}").to_arrow_table()
    return table.column(0).cast(spool.schema.field(name).type)[0]


def _last_of_each_key(
    connection: duckdb.DuckDBPyConnection, spool: Spool, key: Sequence[str], event_time: str | None, folder: Path
) -> Spool:
    names = ", ".join(quoted(name) for name in key)
    placed = f"SELECT *, row_number() OVER () AS _place FROM {reading(spool.parts)}"
    (distinct,) = connection.execute(
        f"SELECT count(*) FROM (SELECT DISTINCT {names} FROM {reading(spool.parts)})"
    ).fetchall()
    if distinct[0] == spool.rows:
        return spool
    latest = f"{quoted(event_time)} DESC NULLS LAST, " if event_time is not None else ""
    ranked = f"SELECT *, row_number() OVER (PARTITION BY {names} ORDER BY {latest}_place DESC) AS _rank FROM ({placed})"
    query = f"SELECT * EXCLUDE (_place, _rank) FROM ({ranked}) WHERE _rank = 1 ORDER BY _place"
    writer = PartWriter(folder, spool.schema)
    for batch in connection.sql(query).to_arrow_reader(BATCH_ROWS):
        writer.write(full_rows(pa.Table.from_batches([batch]), spool.schema))
    return replace(spool, parts=writer.close())
