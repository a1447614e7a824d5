"""Expectations as SQL over the spooled rows.

Every check of rows becomes one boolean expression that is true for the rows that break it, so that all of them are
counted, with an example each, in one scan; quarantine is the same expressions in a `WHERE`. What they mean, exactly:

* A null breaks `notNull` and nothing else.
* NaN is not null. It is within no bounds, in no set that lacks it, and equals itself.
* `unique` is broken by every row that shares its value with another: none of them is known to be the right one. Of a
  load that adds to a table, the others are also those that are there and stay.
* Bounds of integer columns are compared as integers, exactly, also beyond 2^53.
* A time without a zone is taken as UTC, in rows and in bounds.

Checks with `quarantine` see all rows; those with `fail` see the rows that would be committed, and so do the row count
and the age, because they say what must hold of the version.
"""
# ruff: noqa: S608 - SQL is put together of quoted names and constants; values are parameters

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from mizzen.data.ingest.chunks import WrongColumns
from mizzen.data.lake.sql import quoted
from mizzen.kinds.expectations import Expectation
from mizzen.kinds.scalars import duration_s

Value = Any
"""What DuckDB takes as a parameter: a number, text, time, or a list of them."""


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A check of each row."""

    words: str
    column: str
    broken: str
    """SQL, true for rows that break it and never null, with parameters `$name`."""
    parameters: dict[str, Value] = field(default_factory=dict)
    quarantine: bool = False


@dataclass(frozen=True, slots=True)
class CountCheck:
    """A check of how many rows there are."""

    words: str
    min_rows: int | None
    max_rows: int | None


@dataclass(frozen=True, slots=True)
class AgeCheck:
    """A check of how old the newest value is."""

    words: str
    column: str
    max_age: timedelta


Check = RowCheck | CountCheck | AgeCheck


def checks_of(expectations: Sequence[Expectation], schema: pa.Schema, event_time: str | None) -> list[Check]:
    """The checks, in the order in which they were declared.

    Raises `WrongColumns` where the event time or an expectation names a column that is absent or of a type that cannot
    be checked so.
    """
    if event_time is not None:
        _expect_time(_column_type(schema, event_time, "spec.eventTime"), event_time, "spec.eventTime")
    return [
        _check(expectation, schema, event_time, f"spec.expectations[{index}]", f"p{index}")
        for index, expectation in enumerate(expectations)
    ]


def _check(expectation: Expectation, schema: pa.Schema, event_time: str | None, where: str, prefix: str) -> Check:
    if expectation.min_rows is not None or expectation.max_rows is not None:
        return CountCheck(
            f"rows: {_bounds_in_words(expectation.min_rows, expectation.max_rows)}",
            expectation.min_rows,
            expectation.max_rows,
        )
    column = expectation.column or event_time
    if column is None:
        raise WrongColumns(f"{where}: expected a column, or spec.eventTime, for maxAge")
    type_ = _column_type(schema, column, f"{where}.column")
    if expectation.max_age is not None:
        _expect_time(type_, column, where)
        return AgeCheck(
            f"{column}: max age {expectation.max_age}", column, timedelta(seconds=duration_s(expectation.max_age))
        )
    words, broken, parameters = _row_rule(expectation, column, type_, where, prefix)
    return RowCheck(f"{column}: {words}", column, broken, parameters, expectation.on_failure == "quarantine")


def _row_rule(
    expectation: Expectation, column: str, type_: pa.DataType, where: str, prefix: str
) -> tuple[str, str, dict[str, Value]]:
    """(in words, SQL of what breaks it, its parameters)."""
    name = quoted(column)
    if expectation.not_null is not None:
        return "not null", f"{name} IS NULL" if expectation.not_null else "false", {}
    if expectation.unique is not None:
        repeated = f"SELECT {name} FROM all_rows WHERE {name} IS NOT NULL GROUP BY {name} HAVING count(*) > 1"
        return "unique", f"({name} IS NOT NULL AND {name} IN ({repeated}))" if expectation.unique else "false", {}
    if expectation.regex is not None:
        if not pt.is_string(type_):
            raise WrongColumns(f"{where}.regex: expected a column of text, {column} is {type_}")
        broken = f"({name} IS NOT NULL AND NOT regexp_matches({name}, ${prefix}))"
        return f"matches {expectation.regex}", broken, {prefix: expectation.regex}
    if expectation.in_set is not None:
        allowed = [_member(value, type_, column, f"{where}.inSet") for value in expectation.in_set]
        if pt.is_integer(type_):  # compared as integers; what is none of them is never met
            allowed = [int(value) for value in allowed if float(value).is_integer()]
        text = json.dumps(expectation.in_set, ensure_ascii=False)
        words = f"in {text if len(text) <= 80 else text[:77] + '...'}"
        return words, f"({name} IS NOT NULL AND NOT list_contains(${prefix}, {name}))", {prefix: allowed}
    return _bounds_rule(expectation, column, type_, where, prefix)


def _bounds_rule(
    expectation: Expectation, column: str, type_: pa.DataType, where: str, prefix: str
) -> tuple[str, str, dict[str, Value]]:
    name, broken, parameters = quoted(column), [], {}
    if pt.is_floating(type_):
        broken.append(f"isnan({name})")
    for bound, operator, suffix in ((expectation.min, "<", "min"), (expectation.max, ">", "max")):
        if bound is not None:
            parameters[f"{prefix}{suffix}"] = _bound(bound, type_, column, f"{where}.{suffix}", up=suffix == "min")
            broken.append(f"{name} {operator} ${prefix}{suffix}")
    words = _bounds_in_words(expectation.min, expectation.max)
    return words, f"({name} IS NOT NULL AND ({' OR '.join(broken)}))", parameters


def _bounds_in_words(low: float | str | None, high: float | str | None) -> str:
    shown = [
        f"{which} {_number_in_words(bound)}" for which, bound in (("min", low), ("max", high)) if bound is not None
    ]
    return ", ".join(shown)


def _number_in_words(value: float | str) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _bound(bound: float | str, type_: pa.DataType, column: str, where: str, *, up: bool) -> Value:
    if pt.is_timestamp(type_) or pt.is_date(type_):
        return _time(bound, type_, column, where)
    if not (pt.is_integer(type_) or pt.is_floating(type_) or pt.is_decimal(type_)):
        raise WrongColumns(f"{where}: expected a column of numbers or times, {column} is {type_}")
    if isinstance(bound, str) or not math.isfinite(bound):
        raise WrongColumns(f"{where}: expected a finite number, since {column} is {type_}, got {bound!r}")
    if pt.is_integer(type_):
        return math.ceil(bound) if up else math.floor(bound)
    return Decimal(repr(bound)) if pt.is_decimal(type_) else float(bound)


def _time(value: float | str | bool, type_: pa.DataType, column: str, where: str) -> datetime | date:
    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError:
        example = "2013-01-31T12:00:00Z"
        raise WrongColumns(
            f"{where}: expected a time such as {example}, since {column} is {type_}, got {value!r}"
        ) from None
    aware = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
    if pt.is_timestamp(type_) and type_.tz is not None:
        return aware
    return aware.astimezone(UTC).replace(tzinfo=None)


def _member(value: str | float | bool, type_: pa.DataType, column: str, where: str) -> Value:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if pt.is_timestamp(type_) or pt.is_date(type_):
        return _time(value, type_, column, where)
    fits = (
        (pt.is_string(type_) and isinstance(value, str))
        or (pt.is_boolean(type_) and isinstance(value, bool))
        or ((pt.is_integer(type_) or pt.is_floating(type_) or pt.is_decimal(type_)) and is_number)
    )
    if not fits:
        raise WrongColumns(f"{where}: expected values that {column}, which is {type_}, can have, got {value!r}")
    return value


def _expect_time(type_: pa.DataType, column: str, where: str) -> None:
    if not (pt.is_timestamp(type_) or pt.is_date(type_)):
        raise WrongColumns(f"{where}: expected a column of times, {column} is {type_}")


def _column_type(schema: pa.Schema, column: str, where: str) -> pa.DataType:
    if column in schema.names:
        return schema.field(column).type
    close = difflib.get_close_matches(column, schema.names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(schema.names)}"
    raise WrongColumns(f"{where}: expected a column of the rows, got {column!r}: {hint}")
