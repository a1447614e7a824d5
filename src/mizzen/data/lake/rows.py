"""Arrow types that a Delta table can hold, and how others become them.

Delta has fewer types than Arrow: no unsigned integers, no half floats, times in microseconds, one string type. A column
of another type becomes the nearest type that holds all its values; a value that would not survive (an unsigned 64-bit
integer above the signed range) is refused, but for parts of a second below the microsecond, which are cut. Columns are
nullable whatever the source says: that nothing is null is an expectation.
"""

from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mizzen.data.lake.errors import RowsUnfit

_RULES: tuple[tuple[Callable[[pa.DataType], bool], pa.DataType], ...] = (
    (pt.is_uint8, pa.int16()),
    (pt.is_uint16, pa.int32()),
    (pt.is_uint32, pa.int64()),
    (pt.is_uint64, pa.int64()),
    (pt.is_float16, pa.float32()),
    (pt.is_large_string, pa.string()),
    (pt.is_string_view, pa.string()),
    (pt.is_large_binary, pa.binary()),
    (pt.is_binary_view, pa.binary()),
    (pt.is_fixed_size_binary, pa.binary()),
    (pt.is_date64, pa.date32()),
    (pt.is_null, pa.string()),  # a column with nothing in it; CSV files have them
)
_KEPT: tuple[Callable[[pa.DataType], bool], ...] = (
    pt.is_boolean, pt.is_signed_integer, pt.is_float32, pt.is_float64, pt.is_string, pt.is_binary, pt.is_date32,
    pt.is_decimal128,
)  # fmt: skip


def storable_type(type_: pa.DataType) -> pa.DataType | None:
    """The type a table keeps such values as; `None` where there is none."""
    for matches, stored in _RULES:
        if matches(type_):
            return stored
    if pt.is_timestamp(type_):
        return pa.timestamp("us", tz=None if type_.tz is None else "UTC")
    if pt.is_dictionary(type_):
        return storable_type(type_.value_type)
    if pt.is_list(type_) or pt.is_large_list(type_) or pt.is_fixed_size_list(type_):
        inner = storable_type(type_.value_type)
        return None if inner is None else pa.list_(pa.field("element", inner))
    if pt.is_struct(type_):
        inners = [(field.name, storable_type(field.type)) for field in type_]
        return pa.struct([(name, t) for name, t in inners if t is not None]) if all(t for _, t in inners) else None
    if pt.is_map(type_):
        key, item = storable_type(type_.key_type), storable_type(type_.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    return type_ if any(matches(type_) for matches in _KEPT) else None


def storable_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the table that keeps such rows.

    Raises `RowsUnfit` for a type that no table can hold, and for names that are empty or differ in case only.
    """
    names = Counter(name.casefold() for name in schema.names)
    for name in schema.names:
        if not name.strip():
            raise RowsUnfit(f"expected a name for every column, found the names {schema.names}")
        if names[name.casefold()] > 1:
            raise RowsUnfit(f"column {name!r}: expected names that differ in more than case, found it more than once")
    fields = []
    for field in schema:
        stored = storable_type(field.type)
        if stored is None:
            raise RowsUnfit(
                f"column {field.name!r}: expected numbers, text, times, booleans, bytes, or lists and structs of them, "
                f"found {field.type}"
            )
        fields.append(pa.field(field.name, stored))
    if not fields:
        raise RowsUnfit("expected at least one column, found none")
    return pa.schema(fields)


def as_stored(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with the columns and types of `schema`, which has the same names (in any order).

    Raises `RowsUnfit` where a value does not fit its column's type.
    """
    columns = []
    for field in schema:
        column = rows.column(field.name)
        try:
            columns.append(column if column.type == field.type else _cast(column, field.type))
        except pa.ArrowInvalid as error:
            raise RowsUnfit(f"column {field.name!r}: a value does not fit {field.type}: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def _cast(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    return pc.cast(column, options=pc.CastOptions(target_type=type_, allow_time_truncate=True))
