"""What makes two requests the same, and what does not."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.builders import UNHURRIED, signature, spec, tensor

from mizzen.serving.gateway.cache.key import DIGEST_BYTES, digest_of_key, key_of, wanted_outputs
from mizzen.serving.oip import InferenceRequest, RequestDecoder
from mizzen.serving.tensors import DATATYPES, Signature

MODEL = "sha256:" + "1" * 64
TAKES = signature(spec("a", "FP32"), spec("b", "BYTES", (-1, 1)), outputs=[spec("y"), spec("z")])


def key(request: InferenceRequest, takes: Signature = TAKES, tenant: str = "t", model: str = MODEL) -> bytes:
    return key_of(tenant, model, wanted_outputs(request, takes), request)


def as_json(
    *, order: str = "ab", nested: bool = False, words: tuple[str, ...] = ("x", "yz"), **more
) -> InferenceRequest:
    numbers: list = [[1.5, -0.0], [3, 4e3]] if nested else [1.5, -0.0, 3.0, 4000.0]
    inputs = {
        "a": {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": numbers},
        "b": {"name": "b", "shape": [2, 1], "datatype": "BYTES", "data": list(words)},
    }
    body = json.dumps({"inputs": [inputs[name] for name in order], **more}, indent=len(order)).encode()
    return RequestDecoder(TAKES).decode(body, None)


def as_binary() -> InferenceRequest:
    numbers, words = struct.pack("<4f", 1.5, -0.0, 3.0, 4000.0), b"\1\0\0\0x\2\0\0\0yz"
    inputs = [
        {"name": "b", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(words)}},
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(numbers)}},
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return RequestDecoder(TAKES).decode(head + words + numbers, len(head))


@pytest.mark.parametrize(
    "other",
    [
        as_binary(),
        as_json(order="ba"),
        as_json(nested=True),
        as_json(id="42"),
        as_json(parameters={"timeout": 5000, "priority": 2}),
        as_json(outputs=[{"name": "z", "parameters": {"binary_data": True}}, {"name": "y"}]),
    ],
    ids=["binary", "inputs in another order", "nested", "id", "timeout and priority", "all outputs by name"],
)
def test_the_same_request_in_another_form_has_the_same_key(other):
    assert key(as_json()) == key(other)


@pytest.mark.parametrize(
    "other",
    [
        key(as_json(words=("xy", "z"))),
        key(as_json(words=("x", "yZ"))),
        key(as_json(outputs=[{"name": "y"}])),
        key(as_json(), tenant="u"),
        key(as_json(), tenant=""),
        key(as_json(), model="sha256:" + "2" * 64),
    ],
    ids=["words cut elsewhere", "another word", "other outputs", "another tenant", "nobody", "another model"],
)
def test_another_request_has_another_key(other):
    assert key(as_json()) != other


def test_the_digest_has_256_bits():
    assert DIGEST_BYTES * 8 == 256
    assert len(digest_of_key(b"")) == DIGEST_BYTES


shapes = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)


@st.composite
def requests(draw) -> InferenceRequest:
    """Small, so that equal ones and nearly equal ones are met."""
    inputs = []
    for name in draw(st.lists(st.sampled_from("ab"), unique=True, min_size=1)):
        shape, datatype = draw(shapes), draw(st.sampled_from(["UINT8", "INT8", "UINT16"]))
        count = 1
        for length in shape:
            count *= length
        values = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
        inputs.append(tensor(values, datatype, shape, name))
    return InferenceRequest(inputs, 1)


@UNHURRIED
@given(requests(), requests(), st.sampled_from(["", "t", "tt"]), st.sampled_from(["", "t", "tt"]))
def test_keys_are_equal_exactly_where_requests_are(one, two, tenant, other):
    """No two different requests run together into the same bytes."""

    def parts(request: InferenceRequest) -> list:
        return [(t.name, t.datatype, t.shape, bytes(t.data)) for t in request.inputs]

    same = parts(one) == parts(two) and tenant == other
    assert (key_of(tenant, MODEL, ("y",), one) == key_of(other, MODEL, ("y",), two)) == same
    assert set(DATATYPES) >= {tensor.datatype for tensor in one.inputs}
