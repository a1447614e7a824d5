"""Tensors as raw bytes: strings with their lengths, sizes, and rows taken apart."""

import math
import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.serving.tensors import (
    DATATYPES,
    BadTensorError,
    Tensor,
    checked_size,
    element_ends,
    pack_elements,
    pack_strings,
    row_slices,
    unpack_elements,
    unpack_strings,
)

from .builders import UNHURRIED, signature, spec, tensor


@UNHURRIED
@given(st.lists(st.binary(max_size=20)))
def test_strings_come_back_as_they_went(values):
    assert unpack_strings(pack_strings(values)) == values


@UNHURRIED
@given(st.binary(max_size=60))
def test_no_bytes_are_taken_for_strings_that_do_not_add_up(data):
    """Whatever the lengths say, nothing outside the data is read, and what is accepted packs to the same bytes."""
    try:
        values = unpack_strings(data)
    except BadTensorError:
        return
    assert pack_strings(values) == data


@pytest.mark.parametrize("data", [b"\x01", b"\x05\x00\x00\x00ab", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00\x00"])
def test_lengths_that_do_not_fit_are_refused(data):
    with pytest.raises(BadTensorError, match="4-byte length"):
        element_ends(data)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP32", (2,), bytes(7), "expected 8 bytes for FP32 of shape [2], got 7"),
        ("INT64", (), bytes(4), "expected 8 bytes for INT64 of shape [], got 4"),
        ("BYTES", (2,), pack_strings([b"a"]), "expected 2 BYTES elements for shape [2], got 1"),
    ],
)
def test_data_that_does_not_fit_its_shape_is_refused(datatype, shape, data, message):
    with pytest.raises(BadTensorError) as caught:
        checked_size(DATATYPES[datatype], shape, data)
    assert str(caught.value) == message


@UNHURRIED
@given(
    st.sampled_from(["FP32", "INT8", "BYTES"]),
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
    st.integers(0, 3),
)
def test_rows_of_several_requests_put_together_come_apart_as_they_were(datatype, rows, width):
    """Joining is putting bytes one after the other, and `row_slices` undoes it: no row is lost, moved or shared."""
    counter = iter(range(10_000))
    parts = []
    for count in rows:
        numbers = [next(counter) % 100 for _ in range(count * width)]
        values = [str(number) * (number % 3) for number in numbers] if datatype == "BYTES" else numbers
        parts.append(tensor(values, datatype, (count, width)))
    joined = Tensor("x", datatype, (sum(rows), width), b"".join(bytes(part.data) for part in parts))
    found = row_slices(joined, rows)
    assert [(part.shape, bytes(part.data)) for part in found] == [(part.shape, bytes(part.data)) for part in parts]


def test_an_output_with_other_than_the_rows_asked_for_is_refused():
    with pytest.raises(BadTensorError, match=r"output 'x': expected 3 rows, got shape \[2\]"):
        row_slices(tensor([1.0, 2.0]), [1, 2])


def test_a_signature_is_batchable_where_all_first_dimensions_are_open():
    assert signature(spec(shape=(-1, 2))).batchable
    assert not signature(spec(shape=(1, 2))).batchable
    assert not signature(spec(shape=(-1, 2)), outputs=[spec("y", shape=())]).batchable


@UNHURRIED
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-3e38, max_value=3e38))
def test_a_bfloat16_is_the_nearest_one_and_a_tie_goes_to_even(value):
    """Against exact arithmetic on its neighbours."""
    datatype = DATATYPES["BF16"]
    (bits,) = struct.unpack("<H", pack_elements(datatype, [value]))
    magnitudes = [bits & 0x7FFF, (bits & 0x7FFF) + 1, max(0, (bits & 0x7FFF) - 1)]
    sign = bits & 0x8000
    exact = [
        abs(Fraction(unpack_elements(datatype, 1, struct.pack("<H", sign | m))[0]) - Fraction(value))
        for m in magnitudes
    ]
    assert exact[0] == min(exact)
    if exact.count(exact[0]) > 1 and magnitudes[0] != magnitudes[2]:
        assert bits % 2 == 0


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, 1e39])
def test_a_number_beyond_bfloat16_is_refused(value):
    with pytest.raises(OverflowError):
        pack_elements(DATATYPES["BF16"], [value])


def test_what_is_no_number_stays_so_as_bfloat16():
    datatype = DATATYPES["BF16"]
    nan, up, down = unpack_elements(datatype, 3, pack_elements(datatype, [math.nan, math.inf, -math.inf]))
    assert math.isnan(nan)
    assert (up, down) == (math.inf, -math.inf)
