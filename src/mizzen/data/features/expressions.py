"""SQL over one row, evaluated by DuckDB on Arrow tables.

An expression sees the columns of its row and nothing else: no other row, no file, no clock, no chance. What would make
a feature depend on them is refused when the view is read: the same row gives the same value in backfill and online.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa

from mizzen.data.features.errors import DefinitionError, RowsUnfit

_KINDS_REFUSED = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "a star",
    "PARAMETER": "a parameter",
    "LAMBDA": "a lambda",
}
_ARROW_DIALECT = {"arrow_large_buffer_size": False, "produce_arrow_string_view": False}


@functools.cache
def connection() -> duckdb.DuckDBPyConnection:
    """This process's DuckDB for expressions: in memory, with no way out."""
    made = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False, "threads": 2}
    )
    made.execute("SET TimeZone = 'UTC'")
    for name, value in _ARROW_DIALECT.items():
        made.execute(f"SET {name} = {str(value).lower()}")
    made.execute("SET enable_external_access = false")
    return made


@functools.cache
def _refused_functions() -> frozenset[str]:
    """Aggregates of other rows, the clock, chance and the connection's state."""
    rows = connection().execute(
        "SELECT function_name FROM duckdb_functions() WHERE function_type IN ('aggregate', 'scalar') GROUP BY ALL "
        "HAVING bool_and(function_type = 'aggregate' OR stability <> 'CONSISTENT')"
    )
    return frozenset(name for (name,) in rows.fetchall()) | {"current_localtime", "current_localtimestamp"}


@functools.lru_cache(maxsize=4096)
def columns_used(expression: str, where: str) -> tuple[str, ...]:
    """The columns that an expression reads; of `struct.field`, the struct.

    Raises `DefinitionError` where it is no expression over one row; `where` names its place.
    """
    (text,) = connection().execute("SELECT json_serialize_sql(?)", [f"SELECT ({expression})"]).fetchone() or ("{}",)
    parsed = json.loads(text)
    if parsed.get("error"):
        raise DefinitionError(f"{where}: expected SQL over one row, found {expression!r}: {parsed['error_message']}")
    nodes = parsed["statements"]
    select = nodes[0]["node"] if len(nodes) == 1 else {}
    if len(select.get("select_list", ())) != 1 or select.get("from_table", {}).get("type") != "EMPTY":
        raise DefinitionError(f"{where}: expected one expression, found {expression!r}")
    used: dict[str, None] = {}
    for node in _nodes(select["select_list"]):
        if node["class"] in _KINDS_REFUSED:
            raise DefinitionError(
                f"{where}: expected an expression over one row, found {_KINDS_REFUSED[node['class']]}"
            )
        name = str(node.get("function_name", "")).lower()
        if node["class"] == "FUNCTION" and name in _refused_functions():
            raise DefinitionError(f"{where}: expected the same value for the same row, found the function {name}")
        if node["class"] == "COLUMN_REF":
            used[node["column_names"][0]] = None
    return tuple(used)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, list):
        for item in tree:
            yield from _nodes(item)
    elif isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for value in tree.values():
            yield from _nodes(value)


def evaluate(rows: pa.Table, expressions: Mapping[str, str], where: str) -> dict[str, pa.ChunkedArray]:
    """The value of each expression for each row, in the order of the rows.

    Raises `RowsUnfit` where DuckDB cannot work it out for these rows.
    """
    if not expressions:
        return {}
    listed = ", ".join(f"({text}) AS c{number}" for number, text in enumerate(expressions.values()))
    try:
        with connection().cursor() as cursor:
            cursor.register("rows_at_hand", rows)
            found = cursor.sql(f"SELECT {listed} FROM rows_at_hand").to_arrow_table()  # noqa: S608 - names are ours
    except duckdb.Error as error:
        raise RowsUnfit(f"{where}: {_line(error)}") from error
    return {name: found.column(number) for number, name in enumerate(expressions)}


def _line(error: BaseException) -> str:
    return " ".join(str(error).partition("\nLINE 1:")[0].split())[:400]
