"""A request as the client sent it, decoded to tensors and checked against the model's signature.

JSON is decoded by msgspec in two steps, because the type of `data` depends on its neighbour `datatype`: first the
envelope with `data` left raw, then each `data` as a (nested) list of the one type that its datatype takes, so a string
where a number belongs is refused by the decoder and not coerced by an array library. With the binary tensor extension
the bytes after the JSON are sliced, never walked (but for `BYTES`, whose lengths are verified).

`data` may be flat or nested as the shape is, in row-major order. Numbers beyond the datatype's range are refused, since
to wrap or to saturate them would answer another question. `FP16` is taken from JSON numbers (each has exactly one
nearest half), `BYTES` from JSON strings as UTF-8. In floating-point data `null` is a missing number: NaN, which JSON
cannot say.

The form is checked first, then each input in turn: name, datatype, shape, data. Each error names the place as the
client wrote it: `inputs[0].shape: expected [-1, 20], got [3, 19]`.
"""

import itertools
import math
import re
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from mizzen.serving.oip.envelope import Input, Output, decode_envelope
from mizzen.serving.oip.expected import (
    NO_CLASSIFICATION,
    NO_SHARED_MEMORY,
    BadRequestError,
    Expectations,
    ExpectedInput,
    names,
    schedule,
)
from mizzen.serving.oip.inference import InferenceRequest, WantedOutput
from mizzen.serving.tensors import (
    DATATYPES,
    Buffer,
    Datatype,
    Signature,
    Tensor,
    element_count,
    pack_elements,
    pack_strings,
)

T = TypeVar("T")
_NOTHING = memoryview(b"")
_ELEMENT: dict[str, Any] = {"number": float | None, "integer": int, "boolean": bool, "string": str}
_NESTED = re.compile(rb"\s*\[\s*\[")
_decoders: dict[tuple[str, int], Callable[[msgspec.Raw], list[Any]]] = {}


class RequestDecoder:
    """Decodes requests for one model."""

    def __init__(self, signature: Signature) -> None:
        self.expected = Expectations(signature)

    def decode(self, body: Buffer, json_size: int | None) -> InferenceRequest:
        """The request in `body`, whose first `json_size` bytes are JSON (`None`: all of it).

        With `json_size` 0 the whole body is the one input's raw data. Raises `BadRequestError`.
        """
        expected = self.expected
        if json_size == 0:
            return _raw_request(body, expected.signature)
        if json_size is None:
            text, binary = body, _NOTHING
        elif 0 < json_size <= len(body):
            view = memoryview(body)
            text, binary = view[:json_size], view[json_size:]
        else:
            raise BadRequestError(
                f"Inference-Header-Content-Length: expected at most the body's {len(body)} bytes, got {json_size}"
            )
        envelope = decoded_json(decode_envelope, text)
        request = expected.request(self._inputs(envelope.inputs, binary), envelope.id)
        parameters = envelope.parameters
        if parameters is not None:
            schedule(request, parameters.timeout, parameters.priority)
            request.binary = parameters.binary_data_output
        if envelope.outputs:
            request.outputs = self._wanted(envelope.outputs, request.binary)
        return request

    def _inputs(self, given: list[Input], binary: memoryview) -> list[Tensor | None]:
        expected = self.expected
        tensors: list[Tensor | None] = [None] * len(expected.inputs)
        position = 0
        for index, item in enumerate(given):
            found = expected.input(item.name, index, tensors)
            found.check(item.datatype, item.shape, index)
            parameters = item.parameters
            if parameters is None or parameters.binary_data_size is None:
                if parameters is not None and parameters.shared_memory_region:
                    raise BadRequestError(f"inputs[{index}].parameters.shared_memory_region: {NO_SHARED_MEMORY}")
                data: Buffer = _json_data(found, item, index)
            else:
                size = parameters.binary_data_size
                data = _binary_data(found, item, size, binary[position:], index)
                position += size
            tensors[found.index] = Tensor(item.name, item.datatype, item.shape, data)
        if position != len(binary):
            raise BadRequestError(f"body: expected {position} bytes of binary data after the JSON, got {len(binary)}")
        return tensors

    def _wanted(self, given: list[Output], binary: bool) -> tuple[WantedOutput, ...]:
        wanted: dict[str, WantedOutput] = {}
        for index, item in enumerate(given):
            self.expected.output(item.name, index, wanted)
            parameters = item.parameters
            as_binary = binary
            if parameters is not None:
                if parameters.classification:
                    raise BadRequestError(f"outputs[{index}].parameters.classification: {NO_CLASSIFICATION}")
                if parameters.shared_memory_region:
                    raise BadRequestError(f"outputs[{index}].parameters.shared_memory_region: {NO_SHARED_MEMORY}")
                if parameters.binary_data is not None:
                    as_binary = parameters.binary_data
            wanted[item.name] = WantedOutput(item.name, as_binary)
        return tuple(wanted.values())


def decoded_json(decode: Callable[[Buffer], T], text: Buffer) -> T:
    """The JSON decoded. Raises `BadRequestError` with the path of what does not fit."""
    try:
        return decode(text)
    except msgspec.ValidationError as error:
        raise BadRequestError(located(str(error), "")) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"body: expected JSON: {error}") from error


def _json_data(expected: ExpectedInput, item: Input, index: int) -> bytes:
    """The elements as they travel. Raises `BadRequestError`."""
    shape, raw, datatype = item.shape, item.data, expected.datatype
    if not raw:
        raise BadRequestError(f"inputs[{index}].data: missing")
    depth = len(shape) if len(shape) > 1 and _NESTED.match(raw) is not None else 1
    decode = _decoders.get((datatype.json, depth))
    if decode is None:
        decode = _decoders.setdefault((datatype.json, depth), _data_decoder(datatype, depth))
    try:
        values = decode(raw)
    except msgspec.ValidationError as error:
        raise BadRequestError(located(str(error), f"inputs[{index}].data")) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"inputs[{index}].data: {error}") from error
    if depth > 1:
        values = _flat(values, shape, index)
    count = expected.count(shape)
    if len(values) != count:
        raise BadRequestError(
            f"inputs[{index}].data: expected {count} elements for shape {list(shape)}, got {len(values)}"
        )
    return packed(datatype, values, f"inputs[{index}].data")


def packed(datatype: Datatype, values: list[Any], path: str) -> bytes:
    """Elements of JSON as they travel. Raises `BadRequestError` where one is beyond the datatype's range."""
    if not datatype.size:
        return pack_strings([value.encode() for value in values])
    try:
        return pack_elements(datatype, values)
    except (struct.error, TypeError, OverflowError) as error:
        if datatype.json == "number" and None in values:
            return packed(datatype, [math.nan if value is None else value for value in values], path)
        raise BadRequestError(f"{path}: expected {datatype.name} numbers: {error}") from error


def located(message: str, base: str) -> str:
    """msgspec's message with the path first: `inputs[0].shape[1]: expected int, got str`."""
    what, _, path = message.partition(" - at `$")
    what = what.replace("`", "")
    return f"{base + path.strip('.`') or 'body'}: {what[:1].lower()}{what[1:]}"


def _binary_data(expected: ExpectedInput, item: Input, size: int, rest: memoryview, index: int) -> Buffer:
    if item.data:
        raise BadRequestError(f"inputs[{index}]: expected either data or parameters.binary_data_size, got both")
    path = f"inputs[{index}].parameters.binary_data_size"
    if not 0 <= size <= len(rest):
        raise BadRequestError(f"{path}: expected 0 to {len(rest)}, the binary data left, got {size}")
    return expected.checked(item.shape, rest[:size], path)


def _data_decoder(datatype: Datatype, depth: int) -> Callable[[msgspec.Raw], list[Any]]:
    type_: Any = _ELEMENT[datatype.json]
    for _ in range(depth):
        type_ = list[type_]
    return msgspec.json.Decoder(type_).decode


def _flat(values: list[Any], shape: tuple[int, ...], index: int) -> list[Any]:
    for length in shape[1:]:
        for row in values:
            if len(row) != length:
                raise BadRequestError(
                    f"inputs[{index}].data: expected nested lists of shape {list(shape)}, got one of {len(row)}"
                )
        values = list(itertools.chain.from_iterable(values))
    return values


def _raw_request(body: Buffer, signature: Signature) -> InferenceRequest:
    """The whole body is the data of the only input; its one open dimension follows from the length."""
    if len(signature.inputs) != 1:
        found = names(spec.name for spec in signature.inputs)
        raise BadRequestError(f"Inference-Header-Content-Length: 0 is for models with one input; this one has {found}")
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
