"""Rows by column name: each value arrives in its column and comes back, and what is wrong is named with its path."""

import contextlib
import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.serving.gateway.openapi import document
from mizzen.serving.oip import BadRequestError
from mizzen.serving.rows import RowsCodec
from mizzen.serving.tensors import DATATYPES, BadTensorError, Signature, Tensor, unpack_elements, unpack_strings

from .builders import UNHURRIED, signature, spec, tensor
from .played import Stage, endpoint, turn, version
from .test_oip import JSON, elements, nested

MATRIX = Signature((spec("input", "FP32", (-1, 2)),), (spec("label", "INT64", (-1,)),), ("age", "the plan's price"))
MIXED = signature(
    spec("word", "BYTES", (-1, 1)), spec("n", "INT8", (-1,)), spec("grid", "FP64", (-1, 2, 2)), spec("any", "BOOL", (-1, -1)),
    outputs=[spec("y", "FP32", (-1, 1)), spec("p", "FP32", (-1, 2)), spec("s", "BYTES", (-1,))],
)  # fmt: skip
ROW = {"word": "é", "n": -3, "grid": [[1, 2], [3, 4]], "any": [True, False]}


def codec(takes: Signature) -> RowsCodec:
    return RowsCodec("m", "3", takes)


def body(*rows, **more) -> bytes:
    return json.dumps({"instances": rows, **more}).encode()


def values_of(one: Tensor) -> list:
    if one.datatype == "BYTES":
        return [value.decode() for value in unpack_strings(one.data)]
    return list(unpack_elements(DATATYPES[one.datatype], math.prod(one.shape), one.data))


def test_columns_of_a_matrix_go_where_the_signature_says():
    request = codec(MATRIX).decode(body({"the plan's price": 9.5, "age": 31}, {"age": None, "the plan's price": 1}))
    (one,) = request.inputs
    found = values_of(one)
    assert (one.name, one.shape, request.rows) == ("input", (2, 2), 2)
    assert found[:2] == [31.0, 9.5]
    assert math.isnan(found[2])
    assert found[3] == 1.0


def test_inputs_are_columns_and_a_column_may_hold_lists():
    request = codec(MIXED).decode(body(ROW, {**ROW, "word": "", "n": 4}))
    assert [(one.name, one.shape, values_of(one)) for one in request.inputs] == [
        ("word", (2, 1), ["é", ""]),
        ("n", (2,), [-3, 4]),
        ("grid", (2, 2, 2), [1, 2, 3, 4] * 2),
        ("any", (2, 2), [True, False] * 2),
    ]


@pytest.mark.parametrize(
    ("takes", "data", "says"),
    [
        (MATRIX, b"{", "body: expected JSON"),
        (MATRIX, b"{}", "body: object missing required field instances"),
        (MATRIX, body(), "instances: expected at least 1 row, got 0"),
        (MATRIX, body([1, 2]), "instances[0]: expected object, got array"),
        (MATRIX, body({"age": 1}), "instances[0]: object missing required field the plan's price"),
        (MATRIX, body({"age": 1, "the plan's price": 1, "x": 2}), "instances[0]: object contains unknown field x"),
        (MATRIX, body({"age": "31", "the plan's price": 1}), "instances[0].age: expected float | null, got str"),
        (MATRIX, body({"age": 1e39, "the plan's price": 1}), "instances: expected FP32 numbers: float too large"),
        (MIXED, body({**ROW, "n": 300}), "instances: 'n': expected INT8 numbers"),
        (MIXED, body({**ROW, "n": None}), "instances[0].n: expected int, got null"),
        (MIXED, body({**ROW, "grid": [[1, 2]]}), "instances: 'grid': expected lists of 2, got one of 1"),
        (MIXED, body({**ROW, "grid": [1, 2]}), "instances[0].grid[0]: expected array, got int"),
        (
            MIXED,
            body(ROW, {**ROW, "any": []}),
            "instances: 'any': expected lists of one length in all rows, got one of 2",
        ),
        (signature(spec(shape=(2, 2))), body({"x": [[1, 2], [3, 4]]}), "the model does not take rows"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(takes, data, says):
    with pytest.raises(BadRequestError) as caught:
        codec(takes).decode(data)
    assert says in str(caught.value)


@st.composite
def columns(draw):
    """A signature of one input, and a value of it for each of some rows."""
    datatype = draw(st.sampled_from(sorted(DATATYPES)))
    rest = draw(st.lists(st.integers(0, 3), max_size=2))
    rows, size = draw(st.integers(1, 3)), math.prod(rest)
    values = draw(st.lists(elements(datatype), min_size=rows * size, max_size=rows * size))
    cells = [values[row * size : (row + 1) * size] for row in range(rows)]
    in_json = [cell[0] if rest in ([], [1]) else nested(cell, tuple(rest)) for cell in cells]
    return spec("x", datatype, (-1, *rest)), values, in_json


@UNHURRIED
@given(columns())
def test_values_of_every_datatype_and_shape_arrive_exactly_and_come_back(given_):
    one, values, cells = given_
    takes = signature(one, outputs=[spec("x", one.datatype, one.shape)])
    request = codec(takes).decode(body(*({"x": cell} for cell in cells)))
    (found,) = request.inputs
    assert (found.shape, values_of(found)) == ((len(cells), *one.shape[1:]), values)
    answer = json.loads(codec(takes).encode([found]))
    assert answer == {"model_name": "m", "model_version": "3", "predictions": [{"x": cell} for cell in cells]}


def test_an_answer_has_a_prediction_for_each_row():
    outputs = [
        tensor([1.0, math.nan], shape=(2, 1), name="y"),
        tensor([0.25, 0.75, 0.5, 0.5], shape=(2, 2), name="p"),
        tensor(["a", "b"], "BYTES", name="s"),
    ]
    assert json.loads(codec(MIXED).encode(outputs))["predictions"] == [
        {"y": 1.0, "p": [0.25, 0.75], "s": "a"},
        {"y": None, "p": [0.5, 0.5], "s": "b"},
    ]


def test_an_output_that_does_not_fit_its_shape_is_not_sent():
    with pytest.raises(BadTensorError):
        codec(MIXED).encode([Tensor("y", "FP32", (2, 1), bytes(4))])


# The whole way, and its description


@pytest.mark.looptime
async def test_people_ask_by_column_and_are_told_by_row():
    stage = Stage()
    stage.gateway.endpoint_changed(endpoint())
    stage.gateway.synced()
    link = stage.worker()
    call = stage.call(path="/v1/endpoints/m:predict", body=body({"x": 2.0}, {"x": 3.5}))
    await turn()
    link.answer()
    assert call.reply.json == {"model_name": "m", "model_version": "1", "predictions": [{"y": 4.0}, {"y": 7.0}]}
    refused = stage.call(path="/namespaces/default/v1/endpoints/m:predict", body=body({"z": 1}))
    assert (refused.reply.status, refused.reply.error) == (400, "instances[0]: object contains unknown field z")
    assert stage.call(path="/v1/endpoints/none:predict", body=body()).reply.status == 401


async def described(takes: Signature) -> dict:
    stage = Stage()
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, takes)], anonymous=False))
    return document(stage.gateway.services["default", "m"], None)


def request_schema(found: dict, path: str) -> dict:
    return found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


@pytest.mark.parametrize("takes", [MATRIX, MIXED])
async def test_the_description_takes_what_the_gateway_takes(takes):
    found = await described(takes)
    schema = request_schema(found, "/v1/endpoints/m:predict")
    good = {"age": 3, "the plan's price": None} if takes is MATRIX else ROW
    jsonschema.validate({"instances": [good]}, schema, jsonschema.Draft202012Validator)
    assert (found["openapi"], found["info"]["version"], found["security"]) == ("3.1.0", "1", [{"key": []}])


@UNHURRIED
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys([*ROW, "else"], JSON)), max_size=2))
def test_what_the_description_refuses_the_gateway_refuses(rows):
    """And what the gateway refuses for its form, the description refuses; only rows that differ in length it lets pass."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    data = {"instances": [{**ROW, **row} for row in rows]}
    fits = validator.is_valid(json.loads(json.dumps(data)))
    with contextlib.suppress(BadRequestError):
        codec(MIXED).decode(json.dumps(data).encode())
        assert fits
        return
    assert not fits or len({len(row.get("any", ())) for row in data["instances"]}) > 1


def _schema() -> dict:
    import asyncio

    found = asyncio.run(described(MIXED))
    return request_schema(found, "/v1/endpoints/m:predict")


SCHEMA = _schema()
