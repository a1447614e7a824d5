"""Many records read at once are what each says alone, whatever the types, what is missing and what defaults there are."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.data.features.online.columnwise import Columnwise
from mizzen.data.features.online.layout import Layout

FLOATS = st.floats(allow_nan=False, width=32)
MOMENTS = st.integers(-(10**15), 10**15)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.float64(): FLOATS,
    pa.float32(): FLOATS,
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(max_size=5),
    pa.binary(): st.binary(max_size=5),
    pa.timestamp("us", "UTC"): MOMENTS,
    pa.date32(): st.integers(-10_000, 30_000),
    pa.list_(pa.int64()): st.lists(st.integers(-5, 5), max_size=3),
    pa.list_(pa.float32(), 2): st.lists(FLOATS, min_size=2, max_size=2),
}
NUMBERS = [pa.float64(), pa.float32(), pa.int8(), pa.uint32(), pa.bool_()]


@st.composite
def tables(draw: Any, types: list[pa.DataType]) -> tuple[Layout, list[bytes], int]:
    """A layout of features of some of the types, often alike side by side; records of it; and how many."""
    chosen = [t for t in draw(st.lists(st.sampled_from(types), max_size=5)) for _ in range(draw(st.integers(1, 4)))]
    rows = draw(st.integers(1, 5))
    columns = []
    for type_ in chosen:
        nullable = VALUES[type_] if draw(st.booleans()) else st.none() | VALUES[type_]
        values = draw(st.lists(nullable, min_size=rows, max_size=rows))
        stored = pa.int64() if pa.types.is_timestamp(type_) else pa.int32() if pa.types.is_date32(type_) else type_
        columns.append(pa.array(values, stored).view(type_) if stored != type_ else pa.array(values, type_))
    names = [f"feature_{number}" for number in range(len(chosen))]
    numbers = [name for name, type_ in zip(names, chosen, strict=True) if type_ in NUMBERS]
    layout = Layout(list(zip(names, chosen, strict=True)), dict.fromkeys(numbers[::2], 1))
    clock = np.arange(rows)
    return layout, layout.encode(columns, (clock, clock, clock, clock + 1), [b""] * rows), rows


@settings(max_examples=150)
@given(tables(list(VALUES)), st.booleans())
def test_lists_and_columns_are_what_the_records_say(made: tuple[Layout, list[bytes], int], defaults: bool) -> None:
    layout, records, rows = made
    many = Columnwise(layout)
    read = many.together(records)
    alone = [layout.values(record, defaults=defaults) for record in records]
    expected = {name: [one[name] for one in alone] for name in layout.names}
    assert expected == many.lists(read, defaults=defaults)
    columns = many.columns(read, defaults=defaults)
    assert [slot.type for slot in layout.slots] == [column.type for column in columns]
    for name, column in zip(layout.names, columns, strict=True):
        stored = column
        if pa.types.is_temporal(column.type):
            stored = column.view(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
        assert expected[name] == stored.to_pylist()
        assert len(column) == rows


@settings(max_examples=150)
@given(tables(NUMBERS), st.data(), st.booleans())
def test_a_matrix_is_what_the_records_say(
    made: tuple[Layout, list[bytes], int], data: st.DataObject, defaults: bool
) -> None:
    """In any order of the features, also of some of them."""
    layout, records, rows = made
    names = data.draw(st.permutations(layout.names))[: data.draw(st.integers(0, len(layout.names)))]
    into = np.empty((rows, len(names)))
    many = Columnwise(layout)
    many.matrix(many.together(records), names, into, defaults=defaults)
    alone = [layout.values(record, defaults=defaults) for record in records]
    expected = [[np.nan if one[name] is None else float(one[name]) for name in names] for one in alone]
    np.testing.assert_array_equal(np.array(expected).reshape(rows, len(names)), into)
