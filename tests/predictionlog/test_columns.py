"""Bytes become columns: against a naive reading, for every datatype and shape."""

import math
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.serving.predictionlog.columns import fitted, to_table
from mizzen.serving.predictionlog.record import (
    Chunk,
    Record,
    Stream,
    decode_chunk,
    encode_chunk,
    stream_id,
    stream_name,
)
from mizzen.serving.tensors import DATATYPES, TensorSpec, pack_strings

RANGES = {
    "BOOL": st.booleans(), "UINT8": st.integers(0, 2**8 - 1), "UINT16": st.integers(0, 2**16 - 1),
    "UINT32": st.integers(0, 2**32 - 1), "UINT64": st.integers(0, 2**64 - 1), "INT8": st.integers(-(2**7), 2**7 - 1),
    "INT16": st.integers(-(2**15), 2**15 - 1), "INT32": st.integers(-(2**31), 2**31 - 1),
    "INT64": st.integers(-(2**63), 2**63 - 1), "FP16": st.floats(width=16), "FP32": st.floats(width=32),
    "FP64": st.floats(), "BYTES": st.text(max_size=5).map(str.encode),
}  # fmt: skip


def record(rows: int, id_: str = "r") -> Record:
    return Record(id_, rows, 1.0, 0.1, 0.2, 0.5, rows, None, None, "traffic", None, 200, "ok", None)


def encoded(datatype: str, values: list) -> bytes:
    if datatype == "BYTES":
        return pack_strings(values)
    return struct.pack(f"<{len(values)}{DATATYPES[datatype].code}", *values)


def same(expected, actual) -> bool:
    if isinstance(expected, list):
        return len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, float) and math.isnan(expected):
        return math.isnan(actual)
    return expected == (actual.encode() if isinstance(expected, bytes) else actual)


def nested(values: list, shape: tuple[int, ...]) -> list:
    """A naive reading of row-major elements."""
    if not shape:
        return values[0]
    step = len(values) // shape[0] if shape[0] else 0
    return [nested(values[at * step : (at + 1) * step], shape[1:]) for at in range(shape[0])]


@st.composite
def requests(draw):
    """A spec and some requests of it: their shapes and elements."""
    datatype = draw(st.sampled_from(sorted(RANGES)))
    tail = tuple(draw(st.lists(st.sampled_from([1, 2, 3, -1]), max_size=3)))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        shape = (draw(st.integers(1, 3)), *(draw(st.integers(0, 3)) if n == -1 else n for n in tail))
        count = math.prod(shape)
        made.append((shape, draw(st.lists(RANGES[datatype], min_size=count, max_size=count))))
    return TensorSpec("x", datatype, (-1, *tail)), made


@settings(max_examples=300, deadline=None)
@given(requests(), st.integers(0, 3))
def test_every_datatype_and_shape_is_read_as_a_naive_reader_would(case, cut):
    """The same requests in one chunk or in two, with told shapes where the signature leaves them open."""
    spec, made = case
    stream = Stream("n", "e", "m", 1, "sha256:1", (spec,), (TensorSpec("y", "FP32", (-1,)),))
    chunks = [
        Chunk(
            stream_id(stream), 0.0, [record(shape[0]) for shape, _ in part],
            [b"".join(encoded(spec.datatype, values) for _, values in part)],
            [b"".join(struct.pack(f"<{shape[0]}f", *range(shape[0])) for shape, _ in part)], [],
            [[shape] for shape, _ in part] if -1 in spec.shape[1:] else None,
        )
        for part in (made[:cut], made[cut:]) if part
    ]  # fmt: skip
    rows = to_table({stream_id(stream): stream}, chunks).to_pylist()
    scalar = spec.shape[1:] in {(), (1,)}
    expected = [row for shape, values in made for row in nested(values, shape)]
    found = [row["input_x"] for row in rows]
    assert same([row[0] if scalar and isinstance(row, list) else row for row in expected], found)
    assert [row["row"] for row in rows] == [place for shape, _ in made for place in range(shape[0])]
    assert [row["output_y"] for row in rows] == [float(place) for shape, _ in made for place in range(shape[0])]


def test_a_model_whose_requests_do_not_go_together_has_one_row_for_each():
    stream = Stream("n", "e", "m", 1, "d", (TensorSpec("x", "INT64", (2, 2)),), (TensorSpec("y", "INT64", (1,)),))
    chunk = Chunk(
        stream_id(stream), 0.0, [record(1), record(1)], [struct.pack("<8q", *range(8))], [struct.pack("<2q", 8, 9)],
        [], [[(2, 2)], [(2, 2)]], [[(1,)], [(1,)]],
    )  # fmt: skip
    rows = to_table({stream_id(stream): stream}, [chunk]).to_pylist()
    assert [row["input_x"] for row in rows] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_bfloat16_and_bytes_that_are_no_text():
    specs = (TensorSpec("b", "BF16", (-1,)), TensorSpec("t", "BYTES", (-1,)))
    stream = Stream("n", "e", "m", 1, "d", specs, (TensorSpec("y", "BOOL", (-1,)),))
    bits = np.array([1.5, -2.0], "<f4").view("<u4") >> 16
    chunk = Chunk(
        stream_id(stream), 0.0, [record(2)], [bits.astype("<u2").tobytes(), pack_strings([b"\xff\x00a", "ü".encode()])],
        [b"\x01\x00"], [],
    )  # fmt: skip
    rows = to_table({stream_id(stream): stream}, [chunk]).to_pylist()
    assert [row["input_b"] for row in rows] == [1.5, -2.0]
    assert [row["input_t"] for row in rows] == ["\\xff\x00a", "ü"]
    assert [row["output_y"] for row in rows] == [True, False]


def test_names_that_tables_cannot_have_are_made_ones_they_can():
    specs = tuple(TensorSpec(name, "INT64", (-1,)) for name in ("a b", "a,b", "A_B", "ok.x:y-z"))
    stream = Stream("n", "e", "m", 1, "d", specs, (TensorSpec("y", "INT64", (-1,)),))
    data = [struct.pack("<q", number) for number in range(4)]
    chunk = Chunk(stream_id(stream), 0.0, [record(1)], data, [struct.pack("<q", 9)], [])
    (row,) = to_table({stream_id(stream): stream}, [chunk]).to_pylist()
    assert [row[name] for name in ("input_a_b", "input_a_b_2", "input_A_B_3", "input_ok.x:y-z")] == [0, 1, 2, 3]


def test_bytes_that_are_not_those_of_the_signature_are_refused():
    stream = Stream("n", "e", "m", 1, "d", (TensorSpec("x", "INT64", (-1,)),), (TensorSpec("y", "INT64", (-1,)),))
    chunk = Chunk(stream_id(stream), 0.0, [record(2)], [struct.pack("<q", 1)], [struct.pack("<2q", 1, 2)], [])
    with pytest.raises(ValueError, match="x: expected 2 elements of INT64, found 1"):
        to_table({stream_id(stream): stream}, [chunk])


@pytest.mark.parametrize(
    ("known", "new", "name"),
    [
        (pa.int64(), pa.int32(), "x"), (pa.float64(), pa.float32(), "x"), (pa.float64(), pa.int32(), "x"),
        (pa.float32(), pa.int16(), "x"), (pa.int32(), pa.int64(), "x_int64"), (pa.float32(), pa.float64(), "x_double"),
        (pa.float64(), pa.int64(), "x_int64"), (pa.string(), pa.int64(), "x_int64"), (pa.int64(), pa.bool_(), "x_bool"),
    ],
)  # fmt: skip
def test_a_type_that_changes_is_widened_only_where_no_value_can_change(known, new, name):
    found = fitted(pa.table({"x": pa.array([1]).cast(new)}), pa.schema([("x", known)]))
    assert found.column_names == [name]
    assert found.schema.field(name).type == (known if name == "x" else new)
    assert fitted(found, found.schema).schema == found.schema


def test_a_chunk_says_its_stream_without_being_decoded():
    stream = Stream("n", "e")
    payload = encode_chunk(Chunk(stream_id(stream), 0.0, [record(1)], [], [], []))
    assert stream_name(payload) == decode_chunk(payload).stream == stream_id(stream)
