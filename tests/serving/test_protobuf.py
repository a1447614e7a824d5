"""gRPC's messages: ours read what Triton's client library writes and write what it reads, for every datatype and form."""

import math
import struct

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from mizzen.serving.oip import BadRequestError, InferenceRequest, MessageDecoder, MessageEncoder, RequestDecoder
from mizzen.serving.oip.messages import message
from mizzen.serving.oip.protobuf import _CONTENTS
from mizzen.serving.tensors import DATATYPES, BadTensorError, Tensor, pack_strings, unpack_elements, unpack_strings

from .builders import UNHURRIED, signature, spec
from .test_oip import taking, tensors


def decode(request: service_pb2.ModelInferRequest, expects) -> InferenceRequest:
    parsed = message("ModelInferRequest").FromString(request.SerializeToString())
    return MessageDecoder(RequestDecoder(expects).expected).decode(parsed)


def values_of(one: Tensor) -> list:
    if one.datatype == "BYTES":
        return unpack_strings(one.data)
    return list(unpack_elements(DATATYPES[one.datatype], math.prod(one.shape), one.data))


def asking(*inputs: Tensor, raw: bool = True, **more) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="m", **more)
    for one in inputs:
        entry = request.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        if raw:
            request.raw_input_contents.append(bytes(one.data))
        else:
            getattr(entry.contents, _CONTENTS[one.datatype]).extend(values_of(one))
    return request


def x(values=(1.0, 2.0), shape=(1, 2), name: str = "x") -> Tensor:
    return Tensor(name, "FP32", tuple(shape), struct.pack(f"<{len(values)}f", *values))


@UNHURRIED
@given(tensors())
def test_raw_contents_of_every_datatype_are_taken_exactly(one):
    request = decode(asking(one, id="7"), taking(one))
    (found,) = request.inputs
    assert (found.shape, found.datatype, bytes(found.data)) == (one.shape, one.datatype, bytes(one.data))
    assert (request.id, request.rows) == ("7", one.shape[0])


@UNHURRIED
@given(tensors().filter(lambda one: one.datatype in _CONTENTS))
def test_typed_contents_of_every_datatype_are_taken_exactly(one):
    (found,) = decode(asking(one, raw=False), taking(one)).inputs
    assert bytes(found.data) == bytes(one.data)


@UNHURRIED
@given(tensors(), st.booleans())
def test_an_answer_is_read_by_tritons_library_in_the_form_of_its_request(one, raw):
    encoder = MessageEncoder("m", "3", signature(outputs=[spec("x", one.datatype, (-1, *one.shape[1:]))]))
    body = encoder.encode(InferenceRequest([one], one.shape[0], id="é", binary=raw), [one])
    answer = service_pb2.ModelInferResponse.FromString(body)
    (output,) = answer.outputs
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "3", "é")
    assert (output.name, output.datatype, tuple(output.shape)) == ("x", one.datatype, one.shape)
    if raw or one.datatype not in _CONTENTS:
        assert list(answer.raw_output_contents) == [bytes(one.data)]
    else:
        assert not answer.raw_output_contents
        assert list(getattr(output.contents, _CONTENTS[one.datatype])) == values_of(one)


def test_an_output_without_a_typed_form_makes_all_raw():
    """The protocol has all outputs raw or none."""
    both = signature(outputs=[spec("p"), spec("q", "FP16", (-1,))])
    outputs = [x(name="p"), Tensor("q", "FP16", (1,), b"\0\0")]
    answer = service_pb2.ModelInferResponse.FromString(
        MessageEncoder("m", "1", both).encode(InferenceRequest([], 1), outputs)
    )
    assert list(answer.raw_output_contents) == [bytes(outputs[0].data), b"\0\0"]


def test_outputs_may_be_chosen_and_parameters_are_kept():
    expects = signature(outputs=[spec("p"), spec("q")])
    request = asking(x())
    request.outputs.add(name="q")
    request.parameters["timeout"].int64_param = 5000
    request.parameters["priority"].uint64_param = 2
    request.parameters["temperature"].double_param = 0.5
    found = decode(request, expects)
    assert ([one.name for one in found.outputs], found.timeout_us, found.priority) == (["q"], 5000, 2)
    assert found.parameters == {"temperature": 0.5}
    answer = MessageEncoder("m", "1", expects).encode(found, [x(name="p"), x([3.0, 4.0], name="q")])
    answer = service_pb2.ModelInferResponse.FromString(answer)
    assert [one.name for one in answer.outputs] == ["q"]
    assert list(answer.raw_output_contents) == [struct.pack("<2f", 3, 4)]


def _changed(change, *, raw: bool = True) -> service_pb2.ModelInferRequest:
    request = asking(x(), raw=raw)
    change(request)
    return request


WRONG = [
    (_changed(lambda r: r.raw_input_contents.append(b"")), "raw_input_contents: expected one for each of 1 inputs, got 2"),
    (_changed(lambda r: r.inputs[0].contents.fp32_contents.append(1)), "inputs[0].contents: expected none beside raw"),
    (asking(x([1.0])), "raw_input_contents[0]: expected 8 bytes for FP32 of shape [1, 2], got 4"),
    (_changed(lambda r: r.inputs[0].contents.fp32_contents.pop(), raw=False), "inputs[0].contents.fp32_contents: expected 8 bytes for FP32 of shape [1, 2], got 4"),
    (_changed(lambda r: r.inputs[0].contents.int_contents.append(1), raw=False), "expected fp32_contents for FP32, got 'int"),
    (asking(x(name="z")), "inputs[0].name: expected one of 'x', got 'z'"),
    (asking(x(), x()), "inputs[1].name: 'x' was given before"),
    (asking(), "inputs: missing 'x'"),
    (asking(x(shape=(-1, 2))), "inputs[0].shape: expected [-1, 2], got [-1, 2]"),
    (asking(x((), (0, 2))), "input 'x': expected at least 1 row, got 0"),
    (_changed(lambda r: r.outputs.add(name="w")), "outputs[0].name: expected one of 'y', got 'w'"),
    (_changed(lambda r: [r.outputs.add(name="y"), r.outputs.add(name="y")]), "outputs[1].name: 'y' was asked for before"),
    (_changed(lambda r: setattr(r.parameters["timeout"], "int64_param", -1)), "parameters.timeout: expected microseconds"),
    (_changed(lambda r: setattr(r.parameters["timeout"], "string_param", "1")), "parameters.timeout: expected an integer"),
    (_changed(lambda r: setattr(r.parameters["priority"], "bool_param", True)), "parameters.priority: expected an integer"),
    (
        _changed(lambda r: setattr(r.inputs[0].parameters["shared_memory_region"], "string_param", "s")),
        "inputs[0].parameters.shared_memory_region: shared memory is not offered",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "says"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_with_its_path(request_, says):
    with pytest.raises(BadRequestError) as caught:
        decode(request_, signature())
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "field", "values", "says"),
    [
        ("INT8", "int_contents", [300], "expected INT8 numbers"),
        ("UINT8", "uint_contents", [256], "expected UINT8 numbers"),
        ("UINT16", "uint_contents", [2**16], "expected UINT16 numbers"),
        ("FP16", "fp32_contents", [1.0], "FP16 has no typed form; send raw_input_contents"),
        ("INT64", "int64_contents", [1, 2], "expected 1 elements for shape [1], got 2"),
    ],
)
def test_typed_numbers_that_do_not_fit_are_refused(datatype, field, values, says):
    request = service_pb2.ModelInferRequest(model_name="m")
    getattr(request.inputs.add(name="x", datatype=datatype, shape=[1]).contents, field).extend(values)
    with pytest.raises(BadRequestError) as caught:
        decode(request, signature(spec("x", datatype, (-1,))))
    assert says in str(caught.value)


def test_booleans_are_zero_or_one():
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"\1\2"])
    request.inputs.add(name="x", datatype="BOOL", shape=[2])
    with pytest.raises(BadRequestError, match="expected booleans, each a byte of 0 or 1"):
        decode(request, signature(spec("x", "BOOL", (-1,))))


def test_outputs_that_do_not_fit_are_not_sent():
    encoder = MessageEncoder("m", "1", signature(outputs=[spec("y", "BYTES", (-1,))]))
    with pytest.raises(BadTensorError):
        encoder.encode(InferenceRequest([], 1), [Tensor("y", "BYTES", (1,), pack_strings([b"ab"])[:-1])])


@UNHURRIED
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_no_message(data):
    """What is no message is a `DecodeError`; what is one is a request or a `BadRequestError`."""
    class_ = message("ModelInferRequest")
    try:
        parsed = class_.FromString(data)
        MessageDecoder(RequestDecoder(signature()).expected).decode(parsed)
    except (DecodeError, BadRequestError):
        pass
