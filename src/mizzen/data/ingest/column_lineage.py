"""Which columns of which tables each column of a query's answer comes from.

Read off DuckDB's own syntax tree: common table expressions, subqueries, joins, set operations and stars are followed to
the tables. The columns of the answer are matched by place, so that their names are those that the answer has. A query
that does something that is not understood here has no column lineage: none is better than a wrong one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import duckdb

Kind = Literal["IDENTITY", "TRANSFORMATION", "AGGREGATION"]
_RANK: dict[Kind, int] = {"IDENTITY": 0, "TRANSFORMATION": 1, "AGGREGATION": 2}
Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """A column that a value comes from, and what was done to it on the way."""

    table: str
    column: str
    kind: Kind = "IDENTITY"


Origins = frozenset[Origin]
Relation = list[tuple[str, Origins]]
"""The columns of a table or of an answer, in order, each with its origins."""


class NotUnderstood(Exception):
    """The query does something whose lineage is not known here."""


@dataclass(slots=True)
class Scope:
    """What names mean at one place of a query."""

    tables: Mapping[str, Sequence[str]]
    """The columns of each table of the world."""
    defined: dict[str, Relation] = field(default_factory=dict)
    """Common table expressions, by their names in lower case."""
    sources: list[tuple[str, Relation]] = field(default_factory=list)
    """The FROM clause: aliases in lower case and what they have."""
    merged: list[str] = field(default_factory=list)
    """Columns of JOIN … USING, which a star shows once."""


def origins_of(query: str, tables: Mapping[str, Sequence[str]], answer: Sequence[str]) -> dict[str, Origins]:
    """The origins of each column of `answer`, in the order of the query's; empty where the query is not understood."""
    try:
        with duckdb.connect() as connection:
            (row,) = connection.execute("SELECT json_serialize_sql($query)", {"query": query}).fetchall()
        document = json.loads(row[0])
        if document.get("error") or len(document["statements"]) != 1:
            return {}
        relation = _answer(document["statements"][0]["node"], Scope(tables))
    except (NotUnderstood, duckdb.Error, KeyError):
        return {}
    if len(relation) != len(answer):
        return {}
    return {name: origins for name, (_, origins) in zip(answer, relation, strict=True)}


def _answer(node: Node, outer: Scope) -> Relation:
    """The columns of a SELECT or of several put together."""
    scope = Scope(outer.tables, dict(outer.defined))
    for entry in (node.get("cte_map") or {}).get("map", ()):
        defined = entry["value"]
        relation = _answer(defined["query_node"], scope)
        scope.defined[str(entry["key"]).casefold()] = _renamed(relation, defined.get("aliases") or ())
    if node["type"] == "SET_OPERATION_NODE":
        sides = [_answer(side, scope) for side in node.get("children") or (node["left"], node["right"])]
        if len({len(side) for side in sides}) != 1:
            raise NotUnderstood("sides of different widths")
        return [
            (columns[0][0], frozenset().union(*(each for _, each in columns))) for columns in zip(*sides, strict=True)
        ]
    if node["type"] != "SELECT_NODE":
        raise NotUnderstood(node["type"])
    _from(node["from_table"], scope)
    relation = []
    for expression in node["select_list"]:
        if expression["class"] == "STAR":
            relation += _star(expression, scope)
        else:
            name = expression.get("alias") or (expression.get("column_names") or [""])[-1]
            relation.append((str(name), _expression(expression, scope)))
    return relation


def _from(node: Node, scope: Scope) -> None:
    """Puts what a FROM clause has into the scope."""
    type_, alias = node["type"], str(node.get("alias") or "").casefold()
    if type_ == "BASE_TABLE":
        name = str(node["table_name"])
        known = scope.defined.get(name.casefold())
        if known is None:
            if name not in scope.tables:
                raise NotUnderstood(name)
            known = [(column, frozenset({Origin(name, column)})) for column in scope.tables[name]]
        scope.sources.append((alias or name.casefold(), _renamed(known, node.get("column_name_alias") or ())))
    elif type_ == "SUBQUERY":
        relation = _answer(node["subquery"]["node"], scope)
        scope.sources.append((alias, _renamed(relation, node.get("column_name_alias") or ())))
    elif type_ == "JOIN":
        if node.get("ref_type") not in {"REGULAR", "CROSS", "ASOF", "POSITIONAL"}:
            raise NotUnderstood("a join that finds its columns by itself")
        _from(node["left"], scope)
        _from(node["right"], scope)
        scope.merged += [str(name).casefold() for name in node.get("using_columns") or ()]
    elif type_ != "EMPTY":
        raise NotUnderstood(type_)


def _renamed(relation: Relation, names: Sequence[str]) -> Relation:
    return [(str(names[index]) if index < len(names) else name, each) for index, (name, each) in enumerate(relation)]


def _star(node: Node, scope: Scope) -> Relation:
    if node.get("columns") or node.get("replace_list") or node.get("rename_list") or node.get("expr"):
        raise NotUnderstood("a star that chooses or renames")
    wanted = str(node.get("relation_name") or "").casefold()
    left_out = {str(_last_name(each)).casefold() for each in node.get("exclude_list") or ()}
    columns: dict[str, tuple[str, Origins]] = {}
    relation: Relation = []
    for alias, source in scope.sources:
        if wanted and alias != wanted:
            continue
        for name, origins in source:
            folded = name.casefold()
            if folded in left_out:
                continue
            if not wanted and folded in scope.merged and folded in columns:
                index = next(i for i, (shown, _) in enumerate(relation) if shown.casefold() == folded)
                relation[index] = (relation[index][0], relation[index][1] | origins)
                continue
            columns[folded] = (name, origins)
            relation.append((name, origins))
    return relation


def _last_name(excluded: Any) -> Any:
    """Of an excluded column, which may be given as a text or as a qualified name."""
    if isinstance(excluded, Mapping):
        path = excluded.get("path") or excluded.get("column_names") or [excluded.get("column", "")]
        return path[-1]
    return excluded


def _expression(node: Node, scope: Scope) -> Origins:
    """The origins of a value: of a column itself, or of everything that an expression is made of."""
    if node["class"] == "COLUMN_REF":
        return _column([str(name) for name in node["column_names"]], scope)
    found = frozenset().union(*_inner(node, scope))
    kind: Kind = "AGGREGATION" if _aggregates(node) else "TRANSFORMATION"
    return frozenset(replace(origin, kind=kind) if _RANK[kind] > _RANK[origin.kind] else origin for origin in found)


def _inner(node: Any, scope: Scope) -> Iterator[Origins]:
    """The origins of the columns below a node."""
    if isinstance(node, list):
        for item in node:
            yield from _inner(item, scope)
    elif isinstance(node, Mapping):
        if node.get("class") == "COLUMN_REF":
            yield _column([str(name) for name in node["column_names"]], scope)
        elif node.get("class") == "LAMBDA":
            raise NotUnderstood("a lambda")
        elif node.get("class") == "SUBQUERY":
            inner = Scope(scope.tables, scope.defined, [*scope.sources])
            for _, origins in _answer_within(node["subquery"]["node"], inner):
                yield origins
        else:
            for value in node.values():
                yield from _inner(value, scope)


def _answer_within(node: Node, outer: Scope) -> Relation:
    """A subquery that is a value: it may use the columns around it."""
    try:
        return _answer(node, outer)
    except NotUnderstood:
        merged = Scope(outer.tables, outer.defined)
        _from(node["from_table"], merged)
        merged.sources += outer.sources
        return [("", _expression(expression, merged)) for expression in node["select_list"]]


def _column(names: Sequence[str], scope: Scope) -> Origins:
    folded = [name.casefold() for name in names]
    if len(folded) > 1:
        for alias, source in scope.sources:
            if alias == folded[0]:
                return _named(source, folded[1])
    found = [each for _, source in scope.sources for name, each in source if name.casefold() == folded[0]]
    if not found:
        raise NotUnderstood(".".join(names))
    return frozenset().union(*found) if folded[0] in scope.merged else found[0]


def _named(source: Relation, name: str) -> Origins:
    for known, origins in source:
        if known.casefold() == name:
            return origins
    raise NotUnderstood(name)


def _aggregates(node: Any) -> bool:
    if isinstance(node, list):
        return any(_aggregates(item) for item in node)
    if isinstance(node, Mapping):
        if node.get("class") == "FUNCTION" and str(node.get("function_name")).casefold() in _aggregate_functions():
            return True
        return any(_aggregates(value) for value in node.values())
    return False


@cache
def _aggregate_functions() -> frozenset[str]:
    query = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"
    with duckdb.connect() as connection:
        return frozenset(str(name) for (name,) in connection.execute(query).fetchall())
