"""A request as the client sent it, decoded to tensors and checked against the model's signature.

JSON is decoded by msgspec in two steps, because the type of `data` depends on its neighbour `datatype`: first the
envelope with `data` left raw, then each `data` as a (nested) list of the one type that its datatype takes, so a string
where a number belongs is refused by the decoder and not coerced by an array library. With the binary tensor extension
the bytes after the JSON are sliced, never walked (but for `BYTES`, whose lengths are verified).

`data` may be flat or nested as the shape is, in row-major order. Numbers beyond the datatype's range are refused, since
to wrap or to saturate them would answer another question. `FP16` is taken from JSON numbers (each has exactly one
nearest half), `BYTES` from JSON strings as UTF-8. In floating-point data `null` is a missing number: NaN, which JSON
cannot say.

Order of the checks: form, names, datatypes, shapes, then data. Each error names the place as the client wrote it:
`inputs[0].shape: expected [-1, 20], got [3, 19]`.
"""

import itertools
import math
import re
import struct
from collections.abc import Iterable
from typing import Any

import msgspec

from mizzen.serving.tensors import (
    DATATYPES,
    BadTensorError,
    Buffer,
    Datatype,
    Signature,
    Tensor,
    TensorSpec,
    checked_size,
    element_count,
    pack_strings,
)


class BadRequestError(ValueError):
    """What the client sent cannot be answered. The message is for the client: path, what was expected, what was
    found."""


_ABSENT = msgspec.Raw()


class _TensorParameters(msgspec.Struct):
    binary_data_size: int | None = None
    binary_data: bool | None = None
    classification: msgspec.Raw = _ABSENT
    shared_memory_region: msgspec.Raw = _ABSENT


class _Input(msgspec.Struct):
    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: _TensorParameters | None = None
    data: msgspec.Raw = _ABSENT


class _Output(msgspec.Struct):
    name: str
    parameters: _TensorParameters | None = None


class _RequestParameters(msgspec.Struct):
    timeout: int | None = None
    binary_data_output: bool = False


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: list[_Output] | None = None


class WantedOutput(msgspec.Struct, frozen=True):
    """An output the client asked for, and whether as binary."""

    name: str
    binary: bool


class InferenceRequest(msgspec.Struct):
    """A request that fits the model's signature."""

    inputs: list[Tensor]
    """In the signature's order."""
    rows: int
    """Length of the first dimension where the model is batchable, else 1."""
    id: str | None = None
    timeout_us: int | None = None
    """How long the client will wait, from now."""
    outputs: tuple[WantedOutput, ...] | None = None
    """`None`: all outputs, in `binary` form or not."""
    binary: bool = False


_decode_envelope = msgspec.json.Decoder(_Request).decode
_ELEMENT: dict[str, Any] = {"number": float | None, "integer": int, "boolean": bool, "string": str}
_decoders: dict[tuple[str, int], msgspec.json.Decoder[Any]] = {}
_NESTED = re.compile(rb"\s*\[\s*\[")


def decode_request(body: Buffer, json_size: int | None, signature: Signature) -> InferenceRequest:
    """The request in `body`, whose first `json_size` bytes are JSON (`None`: all of it).

    With `json_size` 0 the whole body is the one input's raw data. Raises `BadRequestError`.
    """
    if json_size == 0:
        return _raw_request(body, signature)
    if json_size is not None and not 0 < json_size <= len(body):
        raise BadRequestError(
            f"Inference-Header-Content-Length: expected at most the body's {len(body)} bytes, got {json_size}"
        )
    view = memoryview(body)
    binary = view[len(body) if json_size is None else json_size :]
    try:
        envelope = _decode_envelope(view[:json_size])
    except msgspec.ValidationError as error:
        raise BadRequestError(_located(str(error), "")) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"body: expected JSON: {error}") from error
    inputs = _inputs(envelope.inputs, binary, signature)
    parameters = envelope.parameters
    request = InferenceRequest(inputs, _rows(inputs, envelope.inputs, signature), envelope.id)
    if parameters is not None:
        request.timeout_us = parameters.timeout
        request.binary = parameters.binary_data_output
        if parameters.timeout is not None and parameters.timeout < 0:
            raise BadRequestError(f"parameters.timeout: expected microseconds, at least 0, got {parameters.timeout}")
    if envelope.outputs:
        request.outputs = _outputs(envelope.outputs, request.binary, signature)
    return request


def _located(message: str, base: str) -> str:
    """msgspec's message with the path first: `inputs[0].shape[1]: expected int, got str`."""
    what, _, path = message.partition(" - at `$")
    what = what.replace("`", "")
    return f"{base + path.strip('.`') or 'body'}: {what[:1].lower()}{what[1:]}"


def _inputs(given: list[_Input], binary: memoryview, signature: Signature) -> list[Tensor]:
    expected = signature.inputs
    found: dict[str, tuple[TensorSpec, int, _Input]] = {}
    for index, item in enumerate(given):
        spec = next((spec for spec in expected if spec.name == item.name), None)
        if spec is None:
            raise BadRequestError(f"inputs[{index}].name: expected one of {_names(expected)}, got {item.name!r}")
        if item.name in found:
            raise BadRequestError(f"inputs[{index}].name: {item.name!r} was given before")
        found[item.name] = (spec, index, item)
    if len(found) != len(expected):
        missing = [spec for spec in expected if spec.name not in found]
        raise BadRequestError(f"inputs: missing {_names(missing)}")
    tensors = {}
    position = 0
    for name, (spec, index, item) in found.items():
        data: Buffer
        datatype = _fitting(spec, item, index)
        parameters = item.parameters
        if parameters is not None and parameters.shared_memory_region:
            raise BadRequestError(f"inputs[{index}].parameters.shared_memory_region: shared memory is not offered")
        size = parameters.binary_data_size if parameters is not None else None
        if size is None:
            data = _json_data(item, datatype, f"inputs[{index}].data")
        else:
            data = _binary_data(item, datatype, size, binary[position:], index)
            position += size
        tensors[name] = Tensor(name, item.datatype, item.shape, data)
    if position != len(binary):
        raise BadRequestError(f"body: expected {position} bytes of binary data after the JSON, got {len(binary)}")
    return [tensors[spec.name] for spec in expected]


def _names(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs)


def _fitting(spec: TensorSpec, item: _Input, index: int) -> Datatype:
    if item.datatype != spec.datatype:
        raise BadRequestError(f"inputs[{index}].datatype: expected {spec.datatype}, got {item.datatype}")
    shape = item.shape
    if len(shape) != len(spec.shape) or any(
        wanted not in {-1, length} or length < 0 for wanted, length in zip(spec.shape, shape, strict=True)
    ):
        raise BadRequestError(f"inputs[{index}].shape: expected {list(spec.shape)}, got {list(shape)}")
    return DATATYPES[spec.datatype]


def _rows(inputs: list[Tensor], given: list[_Input], signature: Signature) -> int:
    if not signature.batchable:
        return 1
    rows = inputs[0].shape[0]
    if rows == 0:
        raise BadRequestError(f"inputs[{_index(given, inputs[0])}].shape: expected at least 1 row, got 0")
    for tensor in inputs[1:]:
        if tensor.shape[0] != rows:
            raise BadRequestError(
                f"inputs[{_index(given, tensor)}].shape: expected {rows} rows as {inputs[0].name!r} has, "
                f"got {tensor.shape[0]}"
            )
    return rows


def _index(given: list[_Input], tensor: Tensor) -> int:
    return next(index for index, item in enumerate(given) if item.name == tensor.name)


def _binary_data(item: _Input, datatype: Datatype, size: int, rest: memoryview, index: int) -> memoryview:
    if item.data:
        raise BadRequestError(f"inputs[{index}]: expected either data or parameters.binary_data_size, got both")
    if not 0 <= size <= len(rest):
        raise BadRequestError(
            f"inputs[{index}].parameters.binary_data_size: expected 0 to {len(rest)}, the binary data left, got {size}"
        )
    try:
        checked_size(datatype, item.shape, rest[:size])
    except BadTensorError as error:
        raise BadRequestError(f"inputs[{index}].parameters.binary_data_size: {error}") from error
    return rest[:size]


def _json_data(item: _Input, datatype: Datatype, path: str) -> bytes:
    if not item.data:
        raise BadRequestError(f"{path}: missing")
    raw = item.data
    depth = len(item.shape) if len(item.shape) > 1 and _NESTED.match(raw) is not None else 1
    decoder = _decoders.get((datatype.json, depth))
    if decoder is None:
        decoder = _decoders.setdefault((datatype.json, depth), _data_decoder(datatype, depth))
    try:
        values = decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise BadRequestError(_located(str(error), path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"{path}: {error}") from error
    for length in item.shape[1:] if depth > 1 else ():
        for row in values:
            if len(row) != length:
                raise BadRequestError(
                    f"{path}: expected nested lists of shape {list(item.shape)}, got one of {len(row)}"
                )
        values = list(itertools.chain.from_iterable(values))
    count = element_count(item.shape)
    if len(values) != count:
        raise BadRequestError(f"{path}: expected {count} elements for shape {list(item.shape)}, got {len(values)}")
    if not datatype.size:
        return pack_strings([value.encode() for value in values])
    if datatype.json == "number" and None in values:
        values = [math.nan if value is None else value for value in values]
    try:
        return struct.pack(f"<{count}{datatype.code}", *values)
    except (struct.error, OverflowError) as error:
        raise BadRequestError(f"{path}: expected {datatype.name} numbers: {error}") from error


def _data_decoder(datatype: Datatype, depth: int) -> msgspec.json.Decoder[Any]:
    type_: Any = _ELEMENT[datatype.json]
    for _ in range(depth):
        type_ = list[type_]
    return msgspec.json.Decoder(type_)


def _outputs(given: list[_Output], binary: bool, signature: Signature) -> tuple[WantedOutput, ...]:
    known = {spec.name for spec in signature.outputs}
    seen: set[str] = set()
    wanted = []
    for index, item in enumerate(given):
        if item.name not in known:
            raise BadRequestError(
                f"outputs[{index}].name: expected one of {_names(signature.outputs)}, got {item.name!r}"
            )
        if item.name in seen:
            raise BadRequestError(f"outputs[{index}].name: {item.name!r} was asked for before")
        seen.add(item.name)
        parameters = item.parameters
        as_binary = binary
        if parameters is not None:
            if parameters.classification:
                raise BadRequestError(f"outputs[{index}].parameters.classification: classification is not offered")
            if parameters.shared_memory_region:
                raise BadRequestError(f"outputs[{index}].parameters.shared_memory_region: shared memory is not offered")
            if parameters.binary_data is not None:
                as_binary = parameters.binary_data
        wanted.append(WantedOutput(item.name, as_binary))
    return tuple(wanted)


def _raw_request(body: Buffer, signature: Signature) -> InferenceRequest:
    """The whole body is the data of the only input; its one open dimension follows from the length."""
    if len(signature.inputs) != 1:
        raise BadRequestError(
            f"Inference-Header-Content-Length: 0 is for models with one input; this one has {_names(signature.inputs)}"
        )
    spec = signature.inputs[0]
    datatype = DATATYPES[spec.datatype]
    if not datatype.size:
        shape = tuple(abs(length) for length in spec.shape)
        if element_count(shape) != 1:
            raise BadRequestError(f"body: expected JSON, since a raw body is one BYTES element, not {list(spec.shape)}")
        data = struct.pack("<I", len(body)) + bytes(body)
        return InferenceRequest([Tensor(spec.name, spec.datatype, shape, data)], 1, binary=True)
    fixed = element_count(tuple(length for length in spec.shape if length != -1)) * datatype.size
    open_dimensions = spec.shape.count(-1)
    length = len(body) // fixed if fixed else 0
    if open_dimensions > 1:
        raise BadRequestError(f"body: expected JSON, since the shape {list(spec.shape)} does not follow from a length")
    if length * fixed != len(body) or length == 0 or (not open_dimensions and length != 1):
        wanted = f"a multiple of {fixed}" if open_dimensions else f"{fixed}"
        raise BadRequestError(
            f"body: expected {wanted} bytes of {spec.datatype} for shape {list(spec.shape)}, got {len(body)}"
        )
    shape = tuple(length if dimension == -1 else dimension for dimension in spec.shape)
    rows = shape[0] if signature.batchable else 1
    return InferenceRequest([Tensor(spec.name, spec.datatype, shape, body)], rows, binary=True)
