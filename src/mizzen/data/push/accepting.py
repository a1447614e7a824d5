"""A request's body as rows of the declared columns, or everything that is wrong with it.

A body is JSON (an array of objects), JSON Lines, or an Arrow stream. Values are taken to the letter: a text is no
number, a number with a fraction no integer, and a time without a zone no time. A request is accepted whole or refused
whole, with the first few problems, each with the row and the column.
"""

import base64
import binascii
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from mizzen.kinds.data import PushColumn

JSON, JSON_LINES, ARROW = "application/json", "application/x-ndjson", "application/vnd.apache.arrow.stream"
PROBLEMS_MAX = 10
TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(), "integer": pa.int64(), "double": pa.float64(), "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"), "date": pa.date32(), "binary": pa.binary(),
}  # fmt: skip
_EXPECTED = {
    "boolean": "true or false", "integer": "an integer of 64 bits", "double": "a number", "string": "a text",
    "timestamp": "a time with a zone, such as 2013-01-31T12:00:00Z", "date": "a day, such as 2013-01-31",
    "binary": "bytes in base64",
}  # fmt: skip


class RowsRefused(Exception):
    """The body is no rows of the dataset; `problems` are one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = [*problems]


class UnknownForm(Exception):
    """The body is of a content type that nobody reads here."""


def schema_of(columns: Sequence[PushColumn]) -> pa.Schema:
    """The declared columns as Arrow's."""
    return pa.schema([pa.field(column.name, TYPES[column.type]) for column in columns])


def rows_of(body: bytes, content_type: str, columns: Sequence[PushColumn]) -> pa.Table:
    """The body's rows. Raises `RowsRefused`, `UnknownForm`."""
    form = content_type.partition(";")[0].strip().casefold() or JSON
    if form == ARROW:
        return _from_arrow(body, columns)
    if form == JSON:
        return _from_objects(_decoded(body), columns)
    if form == JSON_LINES:
        lines = [line for line in body.split(b"\n") if line.strip()]
        return _from_objects([_decoded(line, f"rows[{index}]: ") for index, line in enumerate(lines)], columns)
    raise UnknownForm(f"Content-Type: expected {JSON}, {JSON_LINES} or {ARROW}, got {form}")


def _decoded(text: bytes, where: str = "") -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise RowsRefused([f"{where}expected JSON, found {error}"]) from error


def _from_objects(rows: Any, columns: Sequence[PushColumn]) -> pa.Table:
    if not isinstance(rows, list):
        raise RowsRefused(["expected an array of objects, one a row"])
    problems = list(_shapes(rows, columns))
    if problems:
        raise RowsRefused(problems[:PROBLEMS_MAX])
    arrays = []
    for column in columns:
        values = [row.get(column.name) for row in rows]
        convert = _CONVERT[column.type]
        converted: list[Any] = []
        for index, value in enumerate(values):
            if value is None and not column.required:
                converted.append(None)
                continue
            try:
                converted.append(convert(value))
            except (TypeError, ValueError, OverflowError):
                problems.append(f"rows[{index}].{column.name}: expected {_EXPECTED[column.type]}, got {_shown(value)}")
        if not problems:
            arrays.append(pa.array(converted, TYPES[column.type]))
    if problems:
        raise RowsRefused(problems[:PROBLEMS_MAX])
    return pa.Table.from_arrays(arrays, schema=schema_of(columns))


def _shapes(rows: list[Any], columns: Sequence[PushColumn]) -> Iterator[str]:
    known = {column.name for column in columns}
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            yield f"rows[{index}]: expected an object, got {_shown(row)}"
        elif not row.keys() <= known:
            names = ", ".join(column.name for column in columns)
            yield f"rows[{index}].{min(row.keys() - known)}: expected one of the columns {names}"


def _from_arrow(body: bytes, columns: Sequence[PushColumn]) -> pa.Table:
    try:
        table = pa.ipc.open_stream(body).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise RowsRefused([f"expected an Arrow stream, found {_line(error)}"]) from error
    problems = [f"{name}: expected one of the columns of the dataset" for name in table.column_names]
    problems = [said for said, name in zip(problems, table.column_names, strict=True) if name not in _names(columns)]
    arrays = []
    for column in columns:
        type_ = TYPES[column.type]
        found = table.column(column.name) if column.name in table.column_names else pa.nulls(table.num_rows, type_)
        if pa.types.is_timestamp(found.type) and column.type == "timestamp" and found.type.tz is None:
            problems.append(f"{column.name}: expected times with a zone, found {found.type}")
            continue
        if column.required and found.null_count:
            problems.append(f"{column.name}: expected a value in every row, found {found.null_count} without")
        try:
            arrays.append(found.cast(type_))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            problems.append(f"{column.name}: expected {_EXPECTED[column.type]}, found {found.type}: {_line(error)}")
    if problems:
        raise RowsRefused(problems[:PROBLEMS_MAX])
    return pa.Table.from_arrays(arrays, schema=schema_of(columns))


def _names(columns: Sequence[PushColumn]) -> set[str]:
    return {column.name for column in columns}


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise TypeError
    return value


def _double(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError
    return float(value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _timestamp(value: Any) -> dt.datetime:
    moment = dt.datetime.fromisoformat(_string(value))
    if moment.tzinfo is None:
        raise ValueError
    return moment.astimezone(dt.UTC)


def _date(value: Any) -> dt.date:
    return dt.date.fromisoformat(_string(value))


def _binary(value: Any) -> bytes:
    try:
        return base64.b64decode(_string(value), validate=True)
    except binascii.Error as error:
        raise ValueError from error


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "boolean": _boolean, "integer": _integer, "double": _double, "string": _string,
    "timestamp": _timestamp, "date": _date, "binary": _binary,
}  # fmt: skip


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
