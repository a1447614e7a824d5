"""Columns to tensors and back, against a naive way of one value at a time."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.builders import tensor

from mizzen.data.pod import Failure
from mizzen.kinds.batch import BatchOutput
from mizzen.kinds.build import Signature
from mizzen.serving.batch.decoding import Decoder
from mizzen.serving.batch.encoding import NUMPY, Encoder
from mizzen.serving.tensors import DATATYPES, Tensor, unpack_elements, unpack_strings

INTEGERS = ["INT8", "UINT8", "INT16", "INT32", "UINT32", "INT64", "UINT64"]


def signature(
    inputs: list[tuple[str, str, list[int]]], columns: list[str] | None = None, outputs: list | None = None
) -> Signature:
    given = outputs or [("y", "FP32", [-1])]
    return Signature.model_validate(
        {
            "inputs": [{"name": n, "datatype": d, "shape": s} for n, d, s in inputs],
            "outputs": [{"name": n, "datatype": d, "shape": s} for n, d, s in given],
            "columns": columns or [],
        }
    )


def elements(found: Tensor) -> list[Any]:
    if found.datatype == "BYTES":
        return unpack_strings(found.data)
    return list(unpack_elements(DATATYPES[found.datatype], math.prod(found.shape), found.data))


def encoded(datatype: str, column: pa.Array, shape: list[int] | None = None) -> tuple[list[Any], dict[int, str]]:
    rows = pa.table({"a": column})
    inputs, refused = Encoder(signature([("a", datatype, shape or [-1])]), rows.schema, {}, "dataset d").encode(rows)
    assert inputs[0].shape[0] == rows.num_rows - len(refused)
    return elements(inputs[0]), refused


def naive_integer(value: Any, datatype: str) -> int | None:
    """The whole number that a value is within the datatype's range; `None`: it is none."""
    bounds = np.iinfo(NUMPY[datatype])
    if value is None or (isinstance(value, float) and (not math.isfinite(value) or value != int(value))):
        return None
    return int(value) if int(bounds.min) <= int(value) <= int(bounds.max) else None


whole = st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300)
floats = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**66), 2**66).map(float)


@settings(deadline=None)
@given(values=st.lists(whole, min_size=1) | st.lists(floats, min_size=1), datatype=st.sampled_from(INTEGERS))
def test_integers_are_taken_exactly_or_their_row_is_refused(values: list[Any], datatype: str) -> None:
    """Never wrapped, cut or saturated: a value that the input does not hold refuses its row, and no other."""
    floating = any(isinstance(value, float) for value in values)
    found, refused = encoded(datatype, pa.array(values, pa.float64() if floating else pa.int64()))
    wanted = [naive_integer(value, datatype) for value in values]
    assert found == [value for value in wanted if value is not None]
    assert sorted(refused) == [place for place, value in enumerate(wanted) if value is None]


@settings(deadline=None)
@given(values=st.lists(floats | whole, min_size=1), datatype=st.sampled_from(["FP32", "FP64"]))
def test_floats_are_rounded_once_and_nulls_are_nan(values: list[Any], datatype: str) -> None:
    """As numpy rounds the double; no row is refused."""
    doubles = [None if value is None else float(value) for value in values]
    found, refused = encoded(datatype, pa.array(doubles, pa.float64()))
    with np.errstate(over="ignore"):
        wanted = np.array([math.nan if value is None else value for value in doubles]).astype(NUMPY[datatype])
    assert refused == {}
    assert np.array_equal(np.array(found, NUMPY[datatype]), wanted, equal_nan=True)


@given(values=st.lists(st.none() | st.text(max_size=5), min_size=1))
def test_texts_travel_as_they_are_and_nulls_as_the_empty_one(values: list[str | None]) -> None:
    found, refused = encoded("BYTES", pa.array(values, pa.string()))
    assert found == [(value or "").encode() for value in values]
    assert refused == {}


def test_lists_are_of_one_length_or_their_row_is_refused() -> None:
    """With a length that the model says, and with any."""
    lists = pa.array([[1.0, 2.0], None, [3.0], [4.0, 5.0], [], [6.0, None]], pa.list_(pa.float64()))
    found, refused = encoded("FP64", lists, [-1, 2])
    assert found[:4] == [1.0, 2.0, 4.0, 5.0]
    assert math.isnan(found[5])
    assert sorted(refused) == [1, 2, 4]
    _, any_length = encoded("FP64", lists, [-1, -1])
    assert sorted(any_length) == [1, 2, 4]
    integers = pa.array([[1, 2], [3, None], [4, 999]], pa.list_(pa.int64()))
    assert encoded("INT8", integers, [-1, 2]) == ([1, 2], {
        1: "a: expected a value for the model's INT8, found null",
        2: "a: expected a whole number of -128 to 127, found 999",
    })  # fmt: skip


def test_a_matrix_has_its_columns_in_the_models_order() -> None:
    """Whatever the order of the dataset's, and under its own names."""
    rows = pa.table({"z": [9, 8], "b": [1.5, None], "other": ["x", "y"], "a": [True, False]})
    model = signature([("input", "FP32", [-1, 3])], ["a", "b", "c"])
    (matrix,), refused = Encoder(model, rows.schema, {"c": "z"}, "d").encode(rows)
    assert refused == {}
    assert matrix.shape == (2, 3)
    found = elements(matrix)
    assert found[:4] == [1.0, 1.5, 9.0, 0.0]
    assert math.isnan(found[4])
    assert found[5] == 8.0


@pytest.mark.parametrize(
    ("inputs", "schema", "names", "said"),
    [
        ([("dist", "FP32", [-1])], {"distance": pa.int64()}, {}, "expected a column dist in dataset d, found distance (did you mean distance?)"),
        ([("a", "FP32", [-1])], {"a": pa.string()}, {}, "column a: expected numbers for the model's FP32, found string"),
        ([("a", "BYTES", [-1])], {"a": pa.int64()}, {}, "column a: expected text for the model's BYTES, found int64"),
        ([("a", "BOOL", [-1])], {"a": pa.int64()}, {}, "expected true or false"),
        ([("a", "FP32", [-1, 3])], {"a": pa.float32()}, {}, "expected lists of numbers, found float"),
        ([("a", "FP32", [-1])], {"a": pa.int64()}, {"aa": "a"}, "spec.input.columns: expected columns of the model (a), found aa (did you mean a?)"),
        ([("a", "FP32", [2, 2])], {"a": pa.int64()}, {}, "expected a first dimension that counts rows"),
        ([("a", "FP32", [-1, 2, 2])], {"a": pa.list_(pa.float32())}, {}, "expected one value or one list for each row"),
    ],
)  # fmt: skip
def test_what_cannot_fit_is_told_before_any_row_is_read(inputs: list, schema: dict, names: dict, said: str) -> None:
    with pytest.raises(Failure) as failed:
        Encoder(signature(inputs), pa.schema(list(schema.items())), names, "dataset d")
    assert said in failed.value.message


def rows_of(output: dict[str, Any], answers: list[Tensor], outputs: list, refused: dict[int, str], count: int):
    given = pa.table({"id": pa.array(range(count), pa.int64())})
    model = signature([("a", "FP32", [-1])], outputs=outputs)
    decoder = Decoder(BatchOutput.model_validate({"dataset": "out", **output}), model, given.schema, "dataset d")
    return decoder.rows(given, [answers] if answers else [], refused, "run-1")


PROBABILITIES = [("label", "INT64", [-1, 1]), ("probabilities", "FP32", [-1, 2])]
ANSWERS = [
    tensor([1, 0], "INT64", (2, 1), "label"),
    tensor([0.25, 0.75, 0.5, 0.5], "FP32", (2, 2), "probabilities"),
]


def test_outputs_become_columns_as_they_are_named() -> None:
    """A place of an output, all of it as a list, under the names of the spec, beside what is kept."""
    rows, _ = rows_of({"keep": [], "predictions": [{"output": "probabilities[1]", "name": "p"}, {"output": "probabilities", "name": "all"}]}, ANSWERS, PROBABILITIES, {}, 2)  # fmt: skip
    assert rows.to_pylist() == [
        {"p": 0.75, "all": [0.25, 0.75], "error": None},
        {"p": 0.5, "all": [0.5, 0.5], "error": None},
    ]
    rows, _ = rows_of({}, ANSWERS, PROBABILITIES, {}, 2)
    assert rows.schema.names == ["id", "label", "probabilities", "error"]


def test_refused_rows_are_beside_the_others_or_set_aside() -> None:
    """With nulls and the reason in their place; or in a table of their own, whole, with the reason and the run."""
    rows, aside = rows_of({}, ANSWERS, PROBABILITIES, {1: "no", 3: "nor this"}, 4)
    assert [(row["id"], row["label"], row["error"]) for row in rows.to_pylist()] == [(0, 1, None), (1, None, "no"), (2, 0, None), (3, None, "nor this")]  # fmt: skip
    assert aside is None
    rows, aside = rows_of({"errors": "quarantine"}, ANSWERS, PROBABILITIES, {1: "no", 3: "nor this"}, 4)
    assert [row["id"] for row in rows.to_pylist()] == [0, 2]
    assert aside.to_pylist() == [
        {"id": 1, "_failed": "no", "_run": "run-1"}, {"id": 3, "_failed": "nor this", "_run": "run-1"},
    ]  # fmt: skip


def test_where_every_row_is_refused_the_columns_are_still_there() -> None:
    rows, _ = rows_of({}, [], PROBABILITIES, {0: "a", 1: "b"}, 2)
    assert rows.column("probabilities").to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"keep": ["idd"]}, "spec.output.keep: expected columns of dataset d (id), got idd"),
        ({"predictions": [{"output": "score", "name": "s"}]}, "expected an output of the model (label, probabilities), got score"),
        ({"predictions": [{"output": "probabilities[2]", "name": "s"}]}, "expected a place of 0 to 1, got 2"),
        ({"predictions": [{"output": "label", "name": "ID"}]}, "expected names that differ in more than case"),
    ],
)  # fmt: skip
def test_an_output_that_cannot_be_is_told_with_its_place(output: dict[str, Any], said: str) -> None:
    with pytest.raises(Failure) as failed:
        rows_of(output, ANSWERS, PROBABILITIES, {}, 2)
    assert said in failed.value.message


def test_values_of_persons_are_in_no_message() -> None:
    rows = pa.table({"a": pa.array([1, 77777], pa.int64())})
    encoder = Encoder(signature([("a", "INT8", [-1])]), rows.schema, {}, "d", frozenset({"a"}))
    _, refused = encoder.encode(rows)
    assert refused == {1: "a: expected a whole number of -128 to 127, found another (personal data is not shown)"}
