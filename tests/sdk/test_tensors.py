"""Rows as tensors and back: every form gives the same arrays, the wire keeps them, and what does not fit is told."""

import struct

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mizzen.kinds.build import Signature, Tensor
from mizzen.sdk.tensors import DTYPES, DataError, arrays_of, decode, encode
from mizzen.serving.tensors import DATATYPES, pack_elements, unpack_elements

OUT = [Tensor(name="y", datatype="FP32", shape=[-1])]
MATRIX = Signature(inputs=[Tensor(name="X", datatype="FP32", shape=[-1, 2])], outputs=OUT, columns=["a", "b"])
COLUMNS = Signature(
    inputs=[Tensor(name="age", datatype="INT64", shape=[-1, 1]), Tensor(name="plan", datatype="BYTES", shape=[-1, 1])],
    outputs=OUT,
)


@given(rows=npst.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(2)), elements=st.floats(-1e6, 1e6, width=32)))
def test_every_form_of_the_same_rows_is_the_same_matrix(rows) -> None:
    frame = pd.DataFrame(rows, columns=["b", "a"])[["a", "b"]]
    records = frame.to_dict("records")
    expected = frame.to_numpy()
    for data in (frame, records, expected, expected.tolist(), {"b": frame["b"].tolist(), "a": frame["a"].tolist()}):
        assert np.array_equal(arrays_of(data, MATRIX)["X"], expected)


def test_columns_become_one_tensor_each() -> None:
    arrays = arrays_of([{"plan": "gold", "age": 31}, {"plan": "free", "age": 22}], COLUMNS)
    assert arrays["age"].tolist() == [[31], [22]]
    assert arrays["age"].dtype == np.int64
    assert arrays["plan"].tolist() == [["gold"], ["free"]]
    assert arrays_of([[31, "gold"]], COLUMNS)["plan"].tolist() == [["gold"]]
    assert arrays_of({"age": 31, "plan": "gold"}, COLUMNS)["age"].tolist() == [[31]]


@pytest.mark.parametrize(
    ("data", "signature", "words"),
    [
        ([{"a": 1}], MATRIX, "expected a column 'b' (columns: a); the model takes a, b"),
        ([{"a": 1, "b": 2}, {"a": 1}], MATRIX, "row 1: expected a value for b"),
        ([{"a": 1, "b": "x"}], MATRIX, "b: expected values of type FP32"),
        ([[1, 2, 3]], COLUMNS, "expected rows of 2 values (age, plan)"),
        ([[["deep"]]], MATRIX, "X: expected"),
        ([{"age": "old", "plan": "gold"}], COLUMNS, "age: expected values of type INT64"),
    ],
)
def test_rows_that_do_not_fit_are_told(data, signature, words: str) -> None:
    with pytest.raises(DataError) as error:
        arrays_of(data, signature)
    assert words in str(error.value)


@given(
    datatype=st.sampled_from(sorted(set(DTYPES) - {"BYTES", "BF16"})),
    data=st.data(),
)
def test_the_binary_form_keeps_every_bit(datatype: str, data) -> None:
    array = data.draw(npst.arrays(DTYPES[datatype], npst.array_shapes(min_dims=1, max_dims=3)))
    assert _there_and_back(array, datatype).tobytes() == array.tobytes()


@given(values=st.lists(st.text(), min_size=1, max_size=5))
def test_texts_of_any_script_survive(values: list[str]) -> None:
    assert _there_and_back(np.asarray(values, dtype=object), "BYTES").tolist() == values


def _there_and_back(array, datatype):
    """Encodes a request and reads its tensor as if it were an answer's output."""
    signature = Signature(inputs=[Tensor(name="x", datatype=datatype, shape=[-1] * array.ndim)], outputs=OUT)
    body, headers = encode({"x": array}, signature)
    length = int(headers["Inference-Header-Content-Length"])
    head = msgspec.json.decode(body[:length])
    answer = msgspec.json.encode({"outputs": head["inputs"]})
    return decode(answer + body[length:], len(answer))["x"]


def test_an_answer_in_json_is_read_too() -> None:
    body = msgspec.json.encode({"outputs": [{"name": "y", "shape": [2], "datatype": "FP32", "data": [1.5, 2.5]}]})
    assert decode(body, None)["y"].tolist() == [1.5, 2.5]


def test_the_binary_form_is_little_endian() -> None:
    signature = Signature(inputs=[Tensor(name="x", datatype="INT32", shape=[-1])], outputs=OUT)
    body, headers = encode({"x": np.asarray([1, 2], dtype=">i4")}, signature)
    assert body[int(headers["Inference-Header-Content-Length"]) :] == struct.pack("<ii", 1, 2)


@given(st.lists(st.floats(width=32, allow_nan=False, min_value=-(2.0**127), max_value=2.0**127), min_size=1))
def test_bfloat16_travels_as_the_gateway_reads_it(values: list[float]) -> None:
    """The same bits as the request path's own rounding, and back as the numbers that they are."""
    signature = Signature(
        inputs=[Tensor(name="x", datatype="BF16", shape=[-1])], outputs=[Tensor(name="y", datatype="BF16", shape=[-1])]
    )
    array = np.array(values, np.float32)
    body, headers = encode({"x": array}, signature)
    blob = body[int(headers["Inference-Header-Content-Length"]) :]
    assert blob == pack_elements(DATATYPES["BF16"], values)
    answer = {
        "outputs": [
            {"name": "y", "datatype": "BF16", "shape": [len(values)], "parameters": {"binary_data_size": len(blob)}}
        ]
    }
    head = msgspec.json.encode(answer)
    assert decode(head + blob, len(head))["y"].tolist() == list(unpack_elements(DATATYPES["BF16"], len(values), blob))
