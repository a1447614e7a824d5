"""Rows from a query: over other datasets, each at the version that the controller fixed, or in a database.

A query over datasets runs in DuckDB, where each dataset is a table under its name; it sees nothing else, neither files
nor the network. A query in a database runs there, in that database's SQL; only its rows travel. The place where the
last load ended is asked for in the query itself (`WHERE updated_at > …`), so that an index of the database can help.
"""
# ruff: noqa: S608 - SQL is put together of the user's query, quoted names and literals; see `Since.condition`

import importlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import duckdb
import pyarrow as pa

from mizzen.data.ingest.chunks import tables
from mizzen.data.ingest.reading import Reading, Since
from mizzen.data.lake.objects import Store
from mizzen.data.lake.sql import BATCH_ROWS, connect, one_line, selected
from mizzen.data.lake.tables import Table
from mizzen.data.pod import TRY_AGAIN, Failure
from mizzen.kinds.data import InputVersion, SqlSource

_NEEDS = {"postgres": "mizzen[postgres]", "sqlite": "Python's sqlite3"}


class Database(Protocol):
    """A module that reads from one kind of database."""

    def read(self, url: str, query: str, since: Since | None) -> Iterator[pa.Table]:
        """The query's rows, the first table of which may be empty. Raises `Failure`."""


def read_sql(
    source: SqlSource, inputs: Sequence[InputVersion], namespace: str, store: Store, work: Path, since: Since | None
) -> Reading:
    """The query's rows. Raises `Failure` (`SourceFailed`, `WrongColumns`)."""
    url = source.database
    if source.database_env is not None:
        url = os.environ.get(source.database_env)
        if not url:
            raise Failure("SourceFailed", f"spec.source.sql.databaseEnv: the variable {source.database_env} is not set")
    if url is not None:
        return Reading(tables(_database(url).read(url, _stripped(source.query), since)))
    return Reading(tables(_over_datasets(source.query, inputs, namespace, store, work, since)))


def _over_datasets(
    query: str, inputs: Sequence[InputVersion], namespace: str, store: Store, work: Path, since: Since | None
) -> Iterator[pa.Table]:
    with connect(work) as connection:
        try:
            statements = connection.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise Failure("SourceFailed", "spec.source.sql.query: expected one SELECT")
            for wanted in inputs:
                version = Table(store, namespace, wanted.name).at(wanted.version)
                connection.register(wanted.name, version.dataset())
            # The user's SQL sees the datasets it names and nothing of this machine.
            connection.execute("SET enable_external_access = false")
            text = _stripped(query)
            parameters: dict[str, Any] = {}
            if since is not None and since.value is not None:
                text = f"SELECT * FROM (\n{text}\n) WHERE {since.condition('$since')}"
                parameters = {"since": since.value}
            reader = selected(connection, text, parameters).to_arrow_reader(BATCH_ROWS)
            yield from (pa.Table.from_batches([batch]) for batch in itertools.chain([_empty(reader.schema)], reader))
        except duckdb.IOException as error:
            raise Failure("SourceFailed", f"the query: {one_line(error)}", exit_code=TRY_AGAIN) from error
        except duckdb.Error as error:
            known = ", ".join(wanted.name for wanted in inputs) or "none"
            hint = f" (spec.source.sql.datasets: {known})" if isinstance(error, duckdb.CatalogException) else ""
            raise Failure("SourceFailed", f"the query: {one_line(error)}{hint}") from error


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _stripped(query: str) -> str:
    return query.strip().rstrip(";").rstrip()


def _database(url: str) -> Database:
    name = "sqlite" if url.startswith("sqlite:") else "postgres"
    try:
        return cast("Database", importlib.import_module(f"mizzen.data.ingest.{name}_source"))
    except ModuleNotFoundError as error:
        needs = _NEEDS[name]
        raise Failure("SourceFailed", f"{error.name} is not installed, which {name} needs: install {needs}") from error
