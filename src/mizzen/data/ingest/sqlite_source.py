"""Rows of a query in a SQLite file.

SQLite has a type for each value and not for each column, so the columns' types are chosen from all rows of the answer,
as they are for CSV: integers, and doubles where one is no integer; text where one is text. The file is read in one
transaction, so the rows are those of one moment. Times are what the query makes of them: text or numbers.
"""
# ruff: noqa: S608 - SQL is put together of the user's query and quoted names

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa

from mizzen.data.ingest.chunks import WrongColumns
from mizzen.data.ingest.reading import Since
from mizzen.data.lake.sql import BATCH_ROWS, quoted
from mizzen.data.pod import TRY_AGAIN, Failure

PATIENCE_S = 30.0
"""How long another program's lock is waited for."""


def read(url: str, query: str, since: Since | None) -> Iterator[pa.Table]:
    """The query's rows. Raises `Failure`."""
    path = Path(unquote(urlsplit(url).path))
    if not path.is_file():
        raise Failure("SourceFailed", f"{path}: expected a SQLite database, there is no such file")
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=PATIENCE_S)
        ) as connection:
            connection.execute("BEGIN")
            yield from _rows(connection, query, since)
    except sqlite3.OperationalError as error:
        busy = error.sqlite_errorcode in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR}
        raise Failure("SourceFailed", f"{path}: {error}", exit_code=TRY_AGAIN if busy else 1) from error
    except sqlite3.Error as error:
        raise Failure("SourceFailed", f"{path}: {error}") from error


def _rows(connection: sqlite3.Connection, query: str, since: Since | None) -> Iterator[pa.Table]:
    parameters: tuple[Any, ...] = ()
    if since is not None and since.value is not None:
        query = f"SELECT * FROM (\n{query}\n) WHERE {since.condition('?')}"
        parameters = (since.value,)
    names = [column[0] for column in connection.execute(f"SELECT * FROM (\n{query}\n) LIMIT 0", parameters).description]
    schema = _schema(connection, query, parameters, names)
    yield schema.empty_table()
    cursor = connection.execute(query, parameters)
    while rows := cursor.fetchmany(BATCH_ROWS):
        columns = zip(*rows, strict=True)
        pairs = zip(columns, schema, strict=True)
        arrays = [pa.array(_fitting(values, field.type), field.type) for values, field in pairs]
        yield pa.Table.from_arrays(arrays, schema=schema)


def _schema(connection: sqlite3.Connection, query: str, parameters: tuple[Any, ...], names: list[str]) -> pa.Schema:
    """The narrowest type for each column that holds all of its values."""
    if not names:
        return pa.schema([])
    types = ("integer", "real", "text", "blob")
    terms = [f"sum(typeof({quoted(name)}) = '{type_}')" for name in names for type_ in types]
    (counts,) = connection.execute(f"SELECT {', '.join(terms)} FROM (\n{query}\n)", parameters).fetchall()
    fields = []
    for index, name in enumerate(names):
        integer, real, text, blob = (bool(count) for count in counts[4 * index : 4 * index + 4])
        if blob and (integer or real or text):
            raise WrongColumns(f"column {name}: expected values of one kind, found both bytes and others")
        found = ((blob, pa.binary()), (text, pa.string()), (real, pa.float64()), (integer, pa.int64()))
        fields.append(pa.field(name, next((type_ for present, type_ in found if present), pa.null())))
    return pa.schema(fields)


def _fitting(values: tuple[Any, ...], type_: pa.DataType) -> list[Any]:
    if pa.types.is_string(type_):
        return [value if value is None or isinstance(value, str) else str(value) for value in values]
    if pa.types.is_float64(type_):
        return [None if value is None else float(value) for value in values]
    return [*values]
