"""Requests and answers of the Open Inference Protocol as protobuf messages: decoded to tensors, and encoded from them.

A request's raw contents are what tensors travel as here, and are taken as they are; so are the typed contents that
`messages` leaves packed. An answer has the form of its request: raw for raw, typed for typed, so that a client gets
back what it is written for; but raw in all where an output has no typed form (FP16, BF16), since the protocol has all
or none.

An answer is written as bytes and not through the message class: what does not change between answers of a version is
encoded once, and the rest is lengths, shapes and data.
"""

import struct
from collections.abc import Sequence
from typing import Any

from mizzen.serving.oip.expected import (
    NO_CLASSIFICATION,
    NO_SHARED_MEMORY,
    BadRequestError,
    Expectations,
    ExpectedInput,
    names,
    schedule,
)
from mizzen.serving.oip.inference import InferenceRequest, Parameter, WantedOutput
from mizzen.serving.tensors import (
    DATATYPES,
    Buffer,
    Signature,
    Tensor,
    checked_size,
    pack_strings,
    unpack_elements,
    unpack_strings,
)

_CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_PACKED = {"BOOL", "FP32", "FP64"}
_FIELD = {
    "bool_contents": 1, "int_contents": 2, "int64_contents": 3, "uint_contents": 4, "uint64_contents": 5,
    "fp32_contents": 6, "fp64_contents": 7, "bytes_contents": 8,
}  # fmt: skip
_SCHEDULE = ("timeout", "priority")


class MessageDecoder:
    """Takes the `ModelInferRequest`s for one model."""

    def __init__(self, expected: Expectations) -> None:
        self._expected = expected

    def decode(self, message: Any) -> InferenceRequest:
        """The request. Raises `BadRequestError`."""
        expected, raw = self._expected, message.raw_input_contents
        given = message.inputs
        if raw and len(raw) != len(given):
            raise BadRequestError(f"raw_input_contents: expected one for each of {len(given)} inputs, got {len(raw)}")
        tensors: list[Tensor | None] = [None] * len(expected.inputs)
        for index, item in enumerate(given):
            found = expected.input(item.name, index, tensors)
            shape = tuple(item.shape)
            found.check(item.datatype, shape, index)
            if item.parameters and "shared_memory_region" in item.parameters:
                raise BadRequestError(f"inputs[{index}].parameters.shared_memory_region: {NO_SHARED_MEMORY}")
            if not raw:
                data = _typed_data(found, item, shape, index)
            elif item.HasField("contents"):
                raise BadRequestError(f"inputs[{index}].contents: expected none beside raw_input_contents")
            else:
                data = found.checked(shape, raw[index], f"raw_input_contents[{index}]")
            tensors[found.index] = Tensor(found.name, found.datatype.name, shape, data)
        request = expected.request(tensors, message.id or None)
        request.binary = bool(raw)
        if message.parameters:
            self._parameters(request, message.parameters)
        if message.outputs:
            request.outputs = self._wanted(message.outputs, request.binary)
        return request

    def _parameters(self, request: InferenceRequest, given: Any) -> None:
        parameters = {name: value for name in given if (value := _parameter(given[name])) is not None}
        timeout, priority = (parameters.pop(name, 0) for name in _SCHEDULE)
        for name, value in zip(_SCHEDULE, (timeout, priority), strict=True):
            if isinstance(value, bool) or not isinstance(value, int):
                raise BadRequestError(f"parameters.{name}: expected an integer, got {value!r}")
        schedule(request, int(timeout), int(priority))
        if parameters:
            request.parameters = parameters

    def _wanted(self, given: Any, binary: bool) -> tuple[WantedOutput, ...]:
        wanted: dict[str, WantedOutput] = {}
        for index, item in enumerate(given):
            self._expected.output(item.name, index, wanted)
            if "classification" in item.parameters:
                raise BadRequestError(f"outputs[{index}].parameters.classification: {NO_CLASSIFICATION}")
            if "shared_memory_region" in item.parameters:
                raise BadRequestError(f"outputs[{index}].parameters.shared_memory_region: {NO_SHARED_MEMORY}")
            wanted[item.name] = WantedOutput(item.name, binary)
        return tuple(wanted.values())


def _parameter(value: Any) -> Parameter | None:
    chosen = value.WhichOneof("choice")
    found: Parameter | None = getattr(value, chosen) if chosen else None
    return found


def _typed_data(expected: ExpectedInput, item: Any, shape: tuple[int, ...], index: int) -> Buffer:
    """The contents as they travel. Raises `BadRequestError`."""
    datatype = expected.datatype
    path = f"inputs[{index}].contents"
    field = _CONTENTS.get(datatype.name)
    if field is None:
        raise BadRequestError(f"{path}: {datatype.name} has no typed form; send raw_input_contents")
    if others := [found.name for found, _ in item.contents.ListFields() if found.name != field]:
        raise BadRequestError(f"{path}: expected {field} for {datatype.name}, got {names(others)}")
    values = getattr(item.contents, field)
    path = f"{path}.{field}"
    if datatype.name in _PACKED:
        data = values[0] if len(values) == 1 else b"".join(values)
        return expected.checked(shape, data, path)
    if len(values) != expected.count(shape):
        raise BadRequestError(
            f"{path}: expected {expected.count(shape)} elements for shape {list(shape)}, got {len(values)}"
        )
    if not datatype.size:
        return pack_strings(list(values))
    try:
        return struct.pack(f"<{len(values)}{datatype.code}", *values)
    except struct.error as error:
        raise BadRequestError(f"{path}: expected {datatype.name} numbers: {error}") from error


class MessageEncoder:
    """Encodes the `ModelInferResponse`s of one model version."""

    def __init__(self, model: str, version: str, signature: Signature) -> None:
        self._start = field(1, model.encode()) + field(2, version.encode())
        self._heads = [field(1, spec.name.encode()) + field(2, spec.datatype.encode()) for spec in signature.outputs]
        self._position = {spec.name: index for index, spec in enumerate(signature.outputs)}

    def encode(self, request: InferenceRequest, outputs: Sequence[Tensor], final: bool | None = None) -> bytes:
        """The message. `outputs` are all outputs of the signature, in its order. `final`, where it is said: whether
        this is the last message of its stream.

        Raises `BadTensorError` where an output's data does not fit its shape.
        """
        parts: list[Buffer] = [self._start]
        if request.id is not None:
            parts.append(field(3, request.id.encode()))
        if final is not None:
            parts.append(_FINAL[final])
        if request.outputs is None:
            chosen: Sequence[int] = range(len(outputs))
        else:
            chosen = [self._position[wanted.name] for wanted in request.outputs]
        raw = request.binary or any(outputs[index].datatype not in _CONTENTS for index in chosen)
        for index in chosen:
            output = outputs[index]
            head = self._heads[index] + field(3, b"".join(map(_varint, output.shape)))
            parts.append(field(5, head if raw else head + field(5, _contents(output))))
        if raw:
            for index in chosen:
                data = outputs[index].data
                parts += (b"\x32", _varint(len(data)), data)
        return b"".join(parts)


def _contents(tensor: Tensor) -> bytes:
    """The typed form of a tensor's elements. Raises `BadTensorError`."""
    number = _FIELD[_CONTENTS[tensor.datatype]]
    datatype = DATATYPES[tensor.datatype]
    checked_size(datatype, tensor.shape, tensor.data)
    if not datatype.size:
        return b"".join([field(number, value) for value in unpack_strings(tensor.data)])
    if tensor.datatype in _PACKED:
        return field(number, tensor.data)
    values = unpack_elements(datatype, len(tensor.data) // datatype.size, tensor.data)
    return field(number, b"".join([_varint(value & 0xFFFF_FFFF_FFFF_FFFF) for value in values]))


def field(number: int, data: Buffer) -> bytes:
    """A field of bytes, text, a message or packed numbers. `number` is below 16."""
    return b"".join((bytes((number << 3 | 2,)), _varint(len(data)), data))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _SMALL[value]
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_FINAL = [
    b"".join((b"\x22", bytes((27,)), b"\x0a", bytes((21,)), b"triton_final_response", b"\x12\x02\x08", bytes((final,))))
    for final in (False, True)
]
"""The entry of the map `parameters` that says whether a message is the last of its stream."""
_SMALL = [bytes((value,)) for value in range(0x80)]
