"""The DuckDB that loads use: in memory, spilling to the work folder, never reaching out for extensions."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from mizzen.data.lake.parts import Part

BATCH_ROWS = 65_536
_MEMORY = "512MB"
"""Of the 2 GiB that a loading Pod asks for by default; beyond it, DuckDB spills."""


def connect(work: Path) -> duckdb.DuckDBPyConnection:
    """A new connection. Rows keep the order in which they were written; times without a zone are UTC."""
    connection = duckdb.connect(
        config={
            "memory_limit": _MEMORY,
            "temp_directory": str(work / "duckdb"),
            "threads": min(4, os.cpu_count() or 1),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "preserve_insertion_order": True,
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def quoted(name: str) -> str:
    """A column name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def one_line(error: BaseException) -> str:
    """An error of a library as one line of at most 400 characters, without its list of guesses at remedies."""
    text = str(error).strip().partition("\nPossible")[0].partition("\nLINE 1:")[0]
    text = " ".join(text.split())
    return text if len(text) <= 400 else text[:397] + "..."


def selected(
    connection: duckdb.DuckDBPyConnection, text: str, parameters: dict[str, Any] | None = None
) -> duckdb.DuckDBPyRelation:
    """The rows of a SELECT. Sums of integers are integers of 64 bits, where DuckDB's have 128, which no table holds.

    Raises `duckdb.Error`; on reading, also where a sum does not fit.
    """
    rows = connection.sql(text, params=parameters or {})
    if rows is None:
        raise duckdb.ParserException("expected a SELECT, found nothing")
    wide = {"HUGEINT", "UHUGEINT"}
    names = [quoted(name) for name in rows.columns]
    if not wide & {str(type_) for type_ in rows.types} or len(set(names)) < len(names):
        return rows
    terms = [f"{name}::BIGINT AS {name}" if str(t) in wide else name for name, t in zip(names, rows.types, strict=True)]
    return rows.project(", ".join(terms))


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def reading(parts: Sequence[Part]) -> str:
    """A table function over files of this machine, all of the same columns."""
    return f"read_parquet([{', '.join(literal(str(part.path)) for part in parts)}], hive_partitioning = false)"
