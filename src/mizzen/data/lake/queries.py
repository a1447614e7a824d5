"""SQL over tables by name, and what tells two versions of a table apart.

In a query a table is called by its name, and a version of it by `"name@3"`. Which tables a query reads is asked of
DuckDB's own parser, so only those are opened.
"""
# ruff: noqa: S608 - SQL is put together of quoted names

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from mizzen.data.lake.errors import LakeError
from mizzen.data.lake.sql import one_line, quoted, selected
from mizzen.data.lake.version import TableVersion

Lookup = Callable[[str, int | None], TableVersion]
"""The version of a table by its name. Raises `VersionMissing`."""


class QueryFailed(LakeError):
    """The query cannot be parsed, or fails."""


def tables_in(query: str) -> list[str]:
    """The names of the tables that a query reads, without those that it defines itself. Raises `QueryFailed`."""
    with duckdb.connect() as connection:
        try:
            (row,) = connection.execute("SELECT json_serialize_sql($query)", {"query": query}).fetchall()
        except duckdb.Error as error:
            raise QueryFailed(one_line(error)) from error
    document = json.loads(row[0])
    if document.get("error"):
        raise QueryFailed(" ".join(str(document.get("error_message", "the query cannot be parsed")).split()))
    return [*dict.fromkeys(_tables(document, frozenset()))]


def _tables(node: Any, defined: frozenset[str]) -> Iterator[str]:
    """Base tables below a node of the syntax tree."""
    if isinstance(node, list):
        for item in node:
            yield from _tables(item, defined)
    elif isinstance(node, dict):
        named = node.get("cte_map", {}).get("map", []) if isinstance(node.get("cte_map"), dict) else []
        inside = defined | {str(entry["key"]).casefold() for entry in named}
        if node.get("type") == "BASE_TABLE" and str(node["table_name"]).casefold() not in inside:
            yield str(node["table_name"])
        for value in node.values():
            yield from _tables(value, inside)


def query(text: str, lookup: Lookup) -> pa.Table:
    """The answer to a query over tables. Raises `QueryFailed`, `VersionMissing`."""
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in tables_in(text):
            table, _, version = name.partition("@")
            if version and not version.isdigit():
                raise QueryFailed(f"{name}: expected a version as NAME@NUMBER")
            connection.register(name, lookup(table, int(version) if version else None).dataset())
        try:
            return selected(connection, text).to_arrow_table()
        except duckdb.Error as error:
            raise QueryFailed(one_line(error)) from error


def head(version: TableVersion, rows: int) -> pa.Table:
    """The first rows."""
    return version.dataset().head(rows)


@dataclass(frozen=True, slots=True)
class Difference:
    """What the second of two versions has and has not that the first has."""

    columns_added: Mapping[str, str]
    columns_removed: Mapping[str, str]
    columns_changed: Mapping[str, tuple[str, str]]
    """(type before, type after)."""
    rows_before: int
    rows_after: int
    added: pa.Table
    """Rows (or, with a key, rows whose key is new): as many as were asked for."""
    removed: pa.Table
    changed: pa.Table | None
    """With a key: rows of the second whose key is in both and whose other values differ; without, `None`."""
    counts: Mapping[str, int]
    """Of `added`, `removed` and `changed`, all of them."""


def difference(before: TableVersion, after: TableVersion, key: Sequence[str] = (), limit: int = 20) -> Difference:
    """Compares the columns that both have, row by row as multisets, or by key. Raises `QueryFailed`."""
    old, new = before.schema, after.schema
    both = [name for name in new.names if name in old.names and new.field(name).type == old.field(name).type]
    if missing := [name for name in key if name not in both]:
        raise QueryFailed(f"expected key columns that both versions have, found no {', '.join(missing)}")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("old", before.dataset())
        connection.register("new", after.dataset())
        names = ", ".join(quoted(name) for name in both)
        if key:
            joined = " AND ".join(f"a.{quoted(name)} IS NOT DISTINCT FROM b.{quoted(name)}" for name in key)
            others = [name for name in both if name not in key]
            differs = " OR ".join(f"a.{quoted(name)} IS DISTINCT FROM b.{quoted(name)}" for name in others) or "false"
            queries = {
                "added": f"SELECT {names} FROM new a ANTI JOIN old b ON {joined}",
                "removed": f"SELECT {names} FROM old a ANTI JOIN new b ON {joined}",
                "changed": f"SELECT a.* FROM (SELECT {names} FROM new) a JOIN (SELECT {names} FROM old) b "
                f"ON {joined} WHERE {differs}",
            }
        else:
            queries = {
                "added": f"SELECT {names} FROM new EXCEPT ALL SELECT {names} FROM old",
                "removed": f"SELECT {names} FROM old EXCEPT ALL SELECT {names} FROM new",
            }
        found = {name: connection.sql(f"{text} LIMIT {limit}").to_arrow_table() for name, text in queries.items()}
        counts = {
            name: int(connection.execute(f"SELECT count(*) FROM ({text})").fetchall()[0][0])
            for name, text in queries.items()
        }
    return Difference(
        {field.name: str(field.type) for field in new if field.name not in old.names},
        {field.name: str(field.type) for field in old if field.name not in new.names},
        {
            field.name: (str(old.field(field.name).type), str(field.type))
            for field in new
            if field.name in old.names and old.field(field.name).type != field.type
        },
        before.rows, after.rows, found["added"], found["removed"], found.get("changed"), counts,
    )  # fmt: skip
