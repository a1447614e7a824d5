"""The Open Inference Protocol's codec: what is right comes through exactly, what is wrong is named exactly."""

import contextlib
import json
import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.serving.oip import BadRequestError, InferenceRequest, RequestDecoder, ResponseEncoder, error_body
from mizzen.serving.tensors import (
    DATATYPES,
    BadTensorError,
    Signature,
    Tensor,
    pack_strings,
    unpack_elements,
    unpack_strings,
)

from .builders import UNHURRIED, signature, spec, tensor

BOUNDS = {"UINT8": (0, 2**8), "UINT16": (0, 2**16), "UINT32": (0, 2**32), "UINT64": (0, 2**64)} | {
    f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1)) for bits in (8, 16, 32, 64)
}


def decode_request(body: bytes, json_size: int | None, expects: Signature) -> InferenceRequest:
    return RequestDecoder(expects).decode(body, json_size)


def elements(datatype: str) -> st.SearchStrategy:
    if datatype in BOUNDS:
        low, high = BOUNDS[datatype]
        return st.integers(low, high - 1)
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text(max_size=8)
    if datatype == "BF16":
        values = st.integers(0, 2**16 - 1).map(lambda bits: struct.unpack("<f", struct.pack("<I", bits << 16))[0])
        return values.filter(math.isfinite)
    width = {"FP16": 16, "FP32": 32, "FP64": 64}[datatype]
    return st.floats(width=width, allow_nan=False, allow_infinity=False)


@st.composite
def tensors(draw) -> Tensor:
    datatype = draw(st.sampled_from(sorted(DATATYPES)))
    shape = (draw(st.integers(1, 4)), *draw(st.lists(st.integers(0, 3), max_size=2)))
    count = math.prod(shape)
    values = draw(st.lists(elements(datatype), min_size=count, max_size=count))
    return tensor(values, datatype, shape)


def nested(values: list, shape: tuple[int, ...]) -> list:
    if len(shape) <= 1:
        return values
    step = math.prod(shape[1:])
    return [nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def values_of(one: Tensor) -> list:
    if one.datatype == "BYTES":
        return [value.decode() for value in unpack_strings(one.data)]
    return list(unpack_elements(DATATYPES[one.datatype], math.prod(one.shape), one.data))


def body_of(*inputs: dict, **more) -> bytes:
    return json.dumps({"inputs": list(inputs), **more}).encode()


def entry(name: str = "x", shape=(1, 2), datatype: str = "FP32", data=(1.0, 2.0), **more) -> dict:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": list(data), **more}


def taking(one: Tensor) -> Signature:
    return signature(spec("x", one.datatype, (-1, *one.shape[1:])))


# What is right


@UNHURRIED
@given(tensors(), st.booleans())
def test_json_data_of_every_datatype_is_decoded_exactly_flat_or_nested(one, as_nested):
    values = values_of(one)
    data = nested(values, one.shape) if as_nested else values
    request = decode_request(body_of(entry("x", one.shape, one.datatype, data)), None, taking(one))
    (found,) = request.inputs
    assert (found.shape, found.datatype, bytes(found.data)) == (one.shape, one.datatype, bytes(one.data))
    assert request.rows == one.shape[0]


@UNHURRIED
@given(tensors())
def test_binary_data_of_every_datatype_is_decoded_exactly(one):
    head = {
        "name": "x",
        "shape": one.shape,
        "datatype": one.datatype,
        "parameters": {"binary_data_size": len(one.data)},
    }
    text = body_of(head)
    request = decode_request(text + bytes(one.data), len(text), taking(one))
    assert bytes(request.inputs[0].data) == bytes(one.data)


@UNHURRIED
@given(tensors())
def test_an_answer_says_in_json_and_in_binary_what_the_model_gave(one):
    encoder = ResponseEncoder("m", "3", signature(outputs=[spec("x", one.datatype, (-1, *one.shape[1:]))]))
    request = decode_request(body_of(entry(), id='a"b'), None, signature())
    body, json_size = encoder.encode(request, [one])
    assert json_size is None
    answer = msgspec.json.decode(body)
    (output,) = answer.pop("outputs")
    assert answer == {"model_name": "m", "model_version": "3", "id": 'a"b'}
    assert output == {"name": "x", "datatype": one.datatype, "shape": list(one.shape), "data": values_of(one)}
    request.binary = True
    body, json_size = encoder.encode(request, [one])
    (output,) = msgspec.json.decode(body[:json_size])["outputs"]
    assert output == {
        "name": "x", "datatype": one.datatype, "shape": list(one.shape),
        "parameters": {"binary_data_size": len(one.data)},
    }  # fmt: skip
    assert body[json_size:] == bytes(one.data)


def test_inputs_may_come_in_any_order_and_form():
    expects = signature(spec("a", shape=(-1, 1)), spec("b", "INT8", (-1,)), spec("c", "BYTES", (-1,)))
    raw, words = struct.pack("<2b", 5, 6), pack_strings([b"u", b"v"])
    text = body_of(
        {"name": "c", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(words)}},
        entry("a", (2, 1), data=[1, 2.5]),
        {"name": "b", "shape": [2], "datatype": "INT8", "parameters": {"binary_data_size": 2, "other": [1]}},
        parameters={"timeout": 5000, "anything": {"at": "all"}, "binary_data_output": True},
        id="7",
        unknown=[[[]]],
    )
    request = decode_request(text + words + raw, len(text), expects)
    assert [(one.name, values_of(one)) for one in request.inputs] == [
        ("a", [1.0, 2.5]),
        ("b", [5, 6]),
        ("c", ["u", "v"]),
    ]
    assert (request.id, request.timeout_us, request.binary, request.rows) == ("7", 5000, True, 2)


def test_outputs_may_be_chosen_each_with_its_form():
    expects = signature(outputs=[spec("p"), spec("q"), spec("r")])
    text = body_of(
        entry(), parameters={"binary_data_output": True},
        outputs=[{"name": "r"}, {"name": "p", "parameters": {"binary_data": False}}],
    )  # fmt: skip
    request = decode_request(text, None, expects)
    assert [(one.name, one.binary) for one in request.outputs] == [("r", True), ("p", False)]
    outputs = [tensor([float(i)], shape=(1, 1), name=name) for i, name in enumerate("pqr")]
    body, json_size = ResponseEncoder("m", "1", expects).encode(request, outputs)
    found = msgspec.json.decode(body[:json_size])["outputs"]
    assert [(one["name"], one.get("data")) for one in found] == [("r", None), ("p", [0.0])]
    assert struct.unpack("<f", body[json_size:]) == (2.0,)


def test_a_raw_body_is_the_data_of_the_only_input():
    request = decode_request(struct.pack("<6f", *range(6)), 0, signature(spec(shape=(-1, 2))))
    assert (request.inputs[0].shape, values_of(request.inputs[0]), request.rows) == ((3, 2), [0, 1, 2, 3, 4, 5], 3)
    request = decode_request(b"words", 0, signature(spec("x", "BYTES", (-1, 1))))
    assert (request.inputs[0].shape, values_of(request.inputs[0]), request.binary) == ((1, 1), ["words"], True)


def test_what_has_no_json_form_is_null_and_exact_in_binary():
    encoder = ResponseEncoder("m", "1", signature())
    request = decode_request(body_of(entry()), None, signature())
    output = tensor([math.nan, math.inf], shape=(1, 2), name="y")
    assert msgspec.json.decode(encoder.encode(request, [output])[0])["outputs"][0]["data"] == [None, None]
    request.binary = True
    body, json_size = encoder.encode(request, [output])
    assert body[json_size:] == bytes(output.data)


def test_a_model_that_is_not_batchable_takes_its_whole_shape():
    request = decode_request(body_of(entry(shape=(3, 2), data=range(6))), None, signature(spec(shape=(3, 2))))
    assert request.rows == 1


def test_null_is_a_missing_number():
    request = decode_request(body_of(entry(data=[None, 2.0])), None, signature())
    found = values_of(request.inputs[0])
    assert math.isnan(found[0])
    assert found[1] == 2.0


# What is wrong

TWO = signature(spec("x"), spec("k", "INT8", (-1,)))
K = entry("k", (1,), "INT8", [1])
WRONG = [
    (b"", "body: expected JSON: Input data was truncated"),
    (b"{", "body: expected JSON: Input data was truncated"),
    (b"[]", "body: expected object, got array"),
    (b"\xff\xfe", "body: expected JSON: JSON is malformed"),
    (b'{"inputs": 3}', "inputs: expected array, got int"),
    (b"{}", "body: object missing required field inputs"),
    (b'{"inputs": [{"name": "\xff"}]}', "body: expected JSON"),
    (b'{"inputs": ' + b"[" * 100_000, "inputs[0]: expected object, got array"),
    (
        b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": ' + b"[" * 100_000,
        "body: expected JSON",
    ),
    (body_of(entry(shape=["a"])), "inputs[0].shape[0]: expected int, got str"),
    (body_of(entry(), {"name": "k"}), "inputs[1]: object missing required field shape"),
    (body_of(entry(), id=7), "id: expected str | null, got int"),
    (body_of(entry("z"), K), "inputs[0].name: expected one of 'x', 'k', got 'z'"),
    (body_of(K), "inputs: missing 'x'"),
    (body_of(), "inputs: missing 'x', 'k'"),
    (body_of(K, entry(), K), "inputs[2].name: 'k' was given before"),
    (body_of(K, entry(datatype="FP64")), "inputs[1].datatype: expected FP32, got FP64"),
    (body_of(entry(datatype="float"), K), "inputs[0].datatype: expected FP32, got float"),
    (body_of(entry(shape=(3, 19)), K), "inputs[0].shape: expected [-1, 2], got [3, 19]"),
    (body_of(entry(shape=(2,)), K), "inputs[0].shape: expected [-1, 2], got [2]"),
    (body_of(entry(shape=(-1, 2)), K), "inputs[0].shape: expected [-1, 2], got [-1, 2]"),
    (body_of(entry(shape=(0, 2), data=[]), entry("k", (0,), "INT8", [])), "input 'x': expected at least 1 row, got 0"),
    (body_of(entry(), entry("k", (2,), "INT8", [1, 2])), "input 'k': expected 1 rows as 'x' has, got 2"),
    (body_of(entry(data=[1.0]), K), "inputs[0].data: expected 2 elements for shape [1, 2], got 1"),
    (body_of(entry(data=[1.0, "2"]), K), "inputs[0].data[1]: expected float | null, got str"),
    (body_of(entry(), entry("k", (1,), "INT8", [None])), "inputs[1].data[0]: expected int, got null"),
    (body_of(entry(data=[1.0, True]), K), "inputs[0].data[1]: expected float | null, got bool"),
    (body_of(entry(data=[1.0, [2.0]]), K), "inputs[0].data[1]: expected float | null, got array"),
    (body_of(entry(data=[[1.0, 2.0], 3.0]), K), "inputs[0].data[1]: expected array, got float"),
    (body_of(entry(shape=(2, 2), data=[[1, 2], [3]]), K), "inputs[0].data: expected nested lists of shape [2, 2]"),
    (body_of(entry(data=[1.0, 1e39]), K), "inputs[0].data: expected FP32 numbers: float too large"),
    (body_of(entry(data=[1.0, 2.0]), entry("k", (1,), "INT8", [300])), "inputs[1].data: expected INT8 numbers"),
    (body_of(entry(data=[1.0, 2.0]), entry("k", (1,), "INT8", [1.5])), "inputs[1].data[0]: expected int, got float"),
    (b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, NaN]}]}', "body: expected JSON"),
    (body_of({"name": "x", "shape": [1, 2], "datatype": "FP32"}, K), "inputs[0].data: missing"),
    (body_of(entry(data=[1.0, 2.0], parameters={"binary_data_size": 8}), K), "inputs[0]: expected either data or"),
    (body_of(entry(parameters={"shared_memory_region": "a"}), K), "shared memory is not offered"),
    (body_of(entry(), K, outputs=[{"name": "q"}]), "outputs[0].name: expected one of 'y', got 'q'"),
    (body_of(entry(), K, outputs=[{"name": "y"}, {"name": "y"}]), "outputs[1].name: 'y' was asked for before"),
    (
        body_of(entry(), K, outputs=[{"name": "y", "parameters": {"classification": 1}}]),
        "classification is not offered",
    ),
    (body_of(entry(), K, parameters={"timeout": -1}), "parameters.timeout: expected microseconds, at least 0, got -1"),
    (body_of(entry(), K, parameters={"priority": -1}), "parameters.priority: expected 0 (default), 1 (most urgent)"),
    (body_of(entry(), K, parameters={"timeout": "1"}), "parameters.timeout: expected int | null, got str"),
]


@pytest.mark.parametrize(("body", "message"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_with_its_path(body, message):
    with pytest.raises(BadRequestError) as caught:
        decode_request(body, None, TWO)
    assert message in str(caught.value)


def binary_request(size: object, data: bytes = b"", **more) -> tuple[bytes, int]:
    text = body_of({"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": size}, **more})
    return text + data, len(text)


@pytest.mark.parametrize(
    ("body", "json_size", "message"),
    [
        (*binary_request(8, bytes(7)), "binary_data_size: expected 0 to 7, the binary data left, got 8"),
        (*binary_request(-1, bytes(8)), "binary_data_size: expected 0 to 8, the binary data left, got -1"),
        (*binary_request(4, bytes(4)), "binary_data_size: expected 8 bytes for FP32 of shape [1, 2], got 4"),
        (*binary_request(8, bytes(9)), "body: expected 8 bytes of binary data after the JSON, got 9"),
        (*binary_request("8", bytes(8)), "binary_data_size: expected int | null, got str"),
        (b"{}", 3, "Inference-Header-Content-Length: expected at most the body's 2 bytes, got 3"),
        (b"{}", -1, "Inference-Header-Content-Length: expected at most"),
        (bytes(7), 0, "body: expected a multiple of 8 bytes of FP32 for shape [-1, 2], got 7"),
        (b"", 0, "body: expected a multiple of 8 bytes"),
    ],
)
def test_binary_data_that_does_not_add_up_is_refused(body, json_size, message):
    with pytest.raises(BadRequestError) as caught:
        decode_request(body, json_size, signature())
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("expects", "message"),
    [
        (TWO, "0 is for models with one input; this one has 'x', 'k'"),
        (signature(spec(shape=(-1, -1))), "the shape [-1, -1] does not follow from a length"),
        (signature(spec(shape=(3,))), "expected 12 bytes of FP32 for shape [3], got 8"),
        (signature(spec("x", "BYTES", (-1, 2))), "a raw body is one BYTES element"),
    ],
)
def test_a_raw_body_is_refused_where_it_does_not_say_enough(expects, message):
    with pytest.raises(BadRequestError) as caught:
        decode_request(bytes(8), 0, expects)
    assert message in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@UNHURRIED
@given(JSON, JSON, JSON)
def test_any_json_is_answered_or_refused_and_never_anything_else(shape, data, parameters):
    body = body_of({"name": "x", "shape": shape, "datatype": "FP32", "data": data, "parameters": parameters})
    with contextlib.suppress(BadRequestError):
        request = decode_request(body, None, signature())
        assert len(request.inputs[0].data) == 4 * math.prod(request.inputs[0].shape)


@UNHURRIED
@given(st.binary(max_size=80), st.none() | st.integers(-5, 90))
def test_any_bytes_are_answered_or_refused_and_never_anything_else(body, json_size):
    with contextlib.suppress(BadRequestError):
        decode_request(body, json_size, signature())


def test_outputs_that_do_not_fit_are_not_sent():
    encoder = ResponseEncoder("m", "1", signature())
    request = decode_request(body_of(entry()), None, signature())
    with pytest.raises(BadTensorError, match="output 'y': expected 2 elements of FP32"):
        encoder.encode(request, [Tensor("y", "FP32", (1, 2), bytes(7))])
    with pytest.raises(BadTensorError, match="BYTES that are not UTF-8 have no JSON form"):
        encoder.encode(request, [Tensor("y", "BYTES", (1,), pack_strings([b"\xff"]))])


def test_errors_are_objects_with_one_field():
    assert error_body('a "b"') == b'{"error":"a \\"b\\""}'
