"""Chunks of rows in the forms that people have them, as Arrow tables of one schema.

The first chunk fixes the columns. Each later one must have the same names, in any order, and the same types, where a
chunk that holds only nulls in a column fits any type: pandas cannot say more of it.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mizzen.data.lake.errors import RowsUnfit
from mizzen.data.lake.rows import as_stored, storable_schema, storable_type
from mizzen.data.pod import Failure

EXPECTED = "Arrow tables or record batches, pandas data frames, or lists of dicts"


class WrongColumns(Failure):
    """The columns are not those that were declared or came first."""

    def __init__(self, message: str) -> None:
        super().__init__("WrongColumns", message)


def as_chunks(result: Any) -> Iterator[Any]:
    """What a source function returned, one chunk at a time: one chunk, or whatever yields chunks.

    Raises `Failure` where it is neither.
    """
    if _is_chunk(result):
        yield result
    elif inspect.iscoroutine(result) or inspect.isasyncgen(result):
        if inspect.iscoroutine(result):
            result.close()
        raise Failure("SourceFailed", f"expected a plain function that yields {EXPECTED}, found an async one")
    elif isinstance(result, Iterable) and not isinstance(result, str | bytes | Mapping):
        yield from result
    else:
        raise Failure("SourceFailed", f"expected {EXPECTED}, or a generator of them, got {_named(result)}")


def tables(chunks: Iterable[Any]) -> Iterator[pa.Table]:
    """The chunks as tables that a Delta table can hold, all of the first one's schema.

    Raises `Failure` (`SourceFailed`, `WrongColumns`) with the chunk's number where one is not like that.
    """
    schema: pa.Schema | None = None
    for number, chunk in enumerate(chunks, start=1):
        table = _as_table(chunk, number)
        try:
            if schema is None:
                schema = storable_schema(table.schema)
            else:
                expect_same_columns(schema, table.schema, f"chunk {number}")
            yield as_stored(table, schema)
        except RowsUnfit as error:
            raise WrongColumns(f"chunk {number}: {error}") from error


def expect_same_columns(expected: pa.Schema, found: pa.Schema, where: str) -> None:
    """Raises `WrongColumns` with every difference."""
    missing = [name for name in expected.names if name not in found.names]
    extra = [name for name in found.names if name not in expected.names]
    differences = [f"lacks {', '.join(missing)}"] if missing else []
    differences += [f"has {', '.join(extra)}, which the first did not"] if extra else []
    for field in expected:
        if field.name in missing:
            continue
        type_ = found.field(field.name).type
        if not pa.types.is_null(type_) and storable_type(type_) != field.type:
            differences.append(f"column {field.name}: expected {field.type}, found {type_}")
    if differences:
        raise WrongColumns(
            f"{where} {'; '.join(differences)} (columns are fixed by the first: {', '.join(expected.names)})"
        )


def _is_chunk(value: Any) -> bool:
    if isinstance(value, pa.RecordBatchReader):
        return False  # yields batches: no need to hold them all
    is_rows = isinstance(value, Sequence) and len(value) > 0 and isinstance(value[0], Mapping)
    return is_rows or hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")


def _as_table(chunk: Any, number: int) -> pa.Table:
    if not _is_chunk(chunk):
        raise Failure("SourceFailed", f"chunk {number}: expected {EXPECTED}, got {_named(chunk)}")
    try:
        if isinstance(chunk, pa.Table):
            return chunk
        if isinstance(chunk, pa.RecordBatch):
            return pa.Table.from_batches([chunk])
        if isinstance(chunk, Sequence):
            return _from_dicts(chunk)
        if type(chunk).__module__.partition(".")[0] == "pandas":
            return pa.Table.from_pandas(chunk, preserve_index=False).replace_schema_metadata(None)
        return pa.table(chunk)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise WrongColumns(f"chunk {number}: expected columns of one type each: {_line(error)}") from error


def _from_dicts(rows: Sequence[Any]) -> pa.Table:
    names: dict[str, None] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            raise TypeError(f"expected dicts, got {_named(row)} among them")
        names.update(dict.fromkeys(row))
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _named(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
