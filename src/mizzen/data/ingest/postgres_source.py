"""Rows of a query in PostgreSQL, through ADBC: they come as Arrow, with the types that the database says.

The query is one statement and so sees one moment of the database. A `numeric` comes as text, since it may have more
digits than any column here; cast it in the query. A password in the URL is shown in no message.
"""
# ruff: noqa: S608 - SQL is put together of the user's query and literals

import datetime as dt
import decimal
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import adbc_driver_postgresql.dbapi as postgresql
import pyarrow as pa

from mizzen.data.ingest.reading import Since
from mizzen.data.lake.sql import literal
from mizzen.data.pod import TRY_AGAIN, Failure


def read(url: str, query: str, since: Since | None) -> Iterator[pa.Table]:
    """The query's rows. Raises `Failure`."""
    if since is not None and since.value is not None:
        query = f"SELECT * FROM (\n{query}\n) AS rows WHERE {since.condition(_literal(since.value))}"
    try:
        with postgresql.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            reader = cursor.fetch_record_batch()
            yield _plain(reader.schema.empty_table())
            for batch in reader:
                yield _plain(pa.Table.from_batches([batch]))
    except postgresql.Error as error:
        message = _line(error)
        # Class 42 of SQLSTATE says that the query is wrong; what a connection says may pass.
        state = getattr(error, "sqlstate", None) or ""
        users = state.startswith(("42", "22", "28"))
        raise Failure("SourceFailed", f"{_shown(url)}: {message}", exit_code=1 if users else TRY_AGAIN) from error


def _plain(table: pa.Table) -> pa.Table:
    """Types of the driver's own (numeric, …) as what they are stored as."""
    columns = [
        column.combine_chunks().storage if isinstance(column.type, pa.BaseExtensionType) else column
        for column in table.columns
    ]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | decimal.Decimal):
        return str(value)
    if isinstance(value, float):
        return f"{value!r}::float8"
    if isinstance(value, dt.datetime):
        type_ = "timestamptz" if value.tzinfo is not None else "timestamp"
        return f"{literal(value.isoformat())}::{type_}"
    if isinstance(value, dt.date):
        return f"{literal(value.isoformat())}::date"
    return literal(str(value))


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"postgresql://{parts.hostname or ''}{parts.path}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
