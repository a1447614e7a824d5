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
from collections.abc import Callable, Iterable
from typing import Any, cast

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
    found.
    """


_ABSENT = msgspec.Raw()
_NOTHING = memoryview(b"")
_NO_SHARED_MEMORY = "shared memory is not offered"


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
    priority: int = 0
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
    """How long the client will wait, from now; 0 as `None`: as long as the endpoint says."""
    priority: int = 0
    """1 is the most urgent, larger is less so; 0: the endpoint's default (Triton's schedule policy)."""
    outputs: tuple[WantedOutput, ...] | None = None
    """`None`: all outputs, in `binary` form or not."""
    binary: bool = False


_decode_envelope = msgspec.json.Decoder(_Request).decode
_ELEMENT: dict[str, Any] = {"number": float | None, "integer": int, "boolean": bool, "string": str}
_NESTED = re.compile(rb"\s*\[\s*\[")
_decoders: dict[tuple[str, int], Callable[[msgspec.Raw], list[Any]]] = {}


class RequestDecoder:
    """Decodes requests for one model; all that follows from its signature is worked out beforehand."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._inputs = {spec.name: _Expected(index, spec) for index, spec in enumerate(signature.inputs)}
        self._outputs = {spec.name for spec in signature.outputs}
        self._batchable = signature.batchable

    def decode(self, body: Buffer, json_size: int | None) -> InferenceRequest:
        """The request in `body`, whose first `json_size` bytes are JSON (`None`: all of it).

        With `json_size` 0 the whole body is the one input's raw data. Raises `BadRequestError`.
        """
        if json_size == 0:
            return _raw_request(body, self._signature)
        if json_size is None:
            text, binary = body, _NOTHING
        elif 0 < json_size <= len(body):
            view = memoryview(body)
            text, binary = view[:json_size], view[json_size:]
        else:
            raise BadRequestError(
                f"Inference-Header-Content-Length: expected at most the body's {len(body)} bytes, got {json_size}"
            )
        try:
            envelope = _decode_envelope(text)
        except msgspec.ValidationError as error:
            raise BadRequestError(_located(str(error), "")) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequestError(f"body: expected JSON: {error}") from error
        inputs = self._decode_inputs(envelope.inputs, binary)
        request = InferenceRequest(inputs, self._rows(inputs) if self._batchable else 1, envelope.id)
        parameters = envelope.parameters
        if parameters is not None:
            request.timeout_us = parameters.timeout
            request.binary = parameters.binary_data_output
            request.priority = parameters.priority
            if parameters.timeout is not None and parameters.timeout < 0:
                raise BadRequestError(
                    f"parameters.timeout: expected microseconds, at least 0, got {parameters.timeout}"
                )
            if parameters.priority < 0:
                raise BadRequestError(
                    f"parameters.priority: expected 0 (default), 1 (most urgent) or more, got {parameters.priority}"
                )
        if envelope.outputs:
            request.outputs = self._wanted(envelope.outputs, request.binary)
        return request

    def _decode_inputs(self, given: list[_Input], binary: memoryview) -> list[Tensor]:
        expected = self._inputs
        tensors: list[Tensor | None] = [None] * len(expected)
        position = 0
        for index, item in enumerate(given):
            found = expected.get(item.name)
            if found is None:
                raise BadRequestError(f"inputs[{index}].name: expected one of {_names(expected)}, got {item.name!r}")
            if tensors[found.index] is not None:
                raise BadRequestError(f"inputs[{index}].name: {item.name!r} was given before")
            found.check(item, index)
            parameters = item.parameters
            if parameters is None or parameters.binary_data_size is None:
                if parameters is not None and parameters.shared_memory_region:
                    raise BadRequestError(f"inputs[{index}].parameters.shared_memory_region: {_NO_SHARED_MEMORY}")
                data: Buffer = found.json_data(item, index)
            else:
                size = parameters.binary_data_size
                data = _binary_data(item, found.datatype, size, binary[position:], index)
                position += size
            tensors[found.index] = Tensor(item.name, item.datatype, item.shape, data)
        if position != len(binary):
            raise BadRequestError(f"body: expected {position} bytes of binary data after the JSON, got {len(binary)}")
        if None in tensors:
            missing = [name for name, one in expected.items() if tensors[one.index] is None]
            raise BadRequestError(f"inputs: missing {_names(missing)}")
        return cast("list[Tensor]", tensors)

    def _rows(self, inputs: list[Tensor]) -> int:
        rows = inputs[0].shape[0]
        if rows == 0:
            raise BadRequestError(f"input {inputs[0].name!r}: expected at least 1 row, got 0")
        for tensor in inputs[1:]:
            if tensor.shape[0] != rows:
                raise BadRequestError(
                    f"input {tensor.name!r}: expected {rows} rows as {inputs[0].name!r} has, got {tensor.shape[0]}"
                )
        return rows

    def _wanted(self, given: list[_Output], binary: bool) -> tuple[WantedOutput, ...]:
        wanted: dict[str, WantedOutput] = {}
        for index, item in enumerate(given):
            if item.name not in self._outputs:
                known = _names(spec.name for spec in self._signature.outputs)
                raise BadRequestError(f"outputs[{index}].name: expected one of {known}, got {item.name!r}")
            if item.name in wanted:
                raise BadRequestError(f"outputs[{index}].name: {item.name!r} was asked for before")
            parameters = item.parameters
            as_binary = binary
            if parameters is not None:
                if parameters.classification:
                    raise BadRequestError(f"outputs[{index}].parameters.classification: classification is not offered")
                if parameters.shared_memory_region:
                    raise BadRequestError(f"outputs[{index}].parameters.shared_memory_region: {_NO_SHARED_MEMORY}")
                if parameters.binary_data is not None:
                    as_binary = parameters.binary_data
            wanted[item.name] = WantedOutput(item.name, as_binary)
        return tuple(wanted.values())


class _Expected:
    """One input of the signature."""

    __slots__ = ("_elements_of_row", "_shape", "_tail", "datatype", "index")

    def __init__(self, index: int, spec: TensorSpec) -> None:
        self.index = index
        self.datatype = DATATYPES[spec.datatype]
        self._shape = spec.shape
        self._tail = spec.shape[1:] if spec.shape[:1] == (-1,) and -1 not in spec.shape[1:] else None
        """What follows the rows, where that is fixed."""
        self._elements_of_row = element_count(self._tail) if self._tail is not None else 0

    def check(self, item: _Input, index: int) -> None:
        """Datatype and shape. Raises `BadRequestError`."""
        if item.datatype != self.datatype.name:
            raise BadRequestError(f"inputs[{index}].datatype: expected {self.datatype.name}, got {item.datatype}")
        shape = item.shape
        if self._tail is not None and shape[1:] == self._tail and shape and shape[0] >= 0:
            return
        wanted = self._shape
        if len(shape) != len(wanted) or any(w not in {-1, n} or n < 0 for w, n in zip(wanted, shape, strict=True)):
            raise BadRequestError(f"inputs[{index}].shape: expected {list(wanted)}, got {list(shape)}")

    def json_data(self, item: _Input, index: int) -> bytes:
        """The elements as they travel. Raises `BadRequestError`."""
        shape, raw, datatype = item.shape, item.data, self.datatype
        if not raw:
            raise BadRequestError(f"inputs[{index}].data: missing")
        depth = len(shape) if len(shape) > 1 and _NESTED.match(raw) is not None else 1
        decode = _decoders.get((datatype.json, depth))
        if decode is None:
            decode = _decoders.setdefault((datatype.json, depth), _data_decoder(datatype, depth))
        try:
            values = decode(raw)
        except msgspec.ValidationError as error:
            raise BadRequestError(_located(str(error), f"inputs[{index}].data")) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequestError(f"inputs[{index}].data: {error}") from error
        if depth > 1:
            values = _flat(values, shape, index)
        count = shape[0] * self._elements_of_row if self._tail is not None else element_count(shape)
        if len(values) != count:
            raise BadRequestError(
                f"inputs[{index}].data: expected {count} elements for shape {list(shape)}, got {len(values)}"
            )
        if not datatype.size:
            return pack_strings([value.encode() for value in values])
        if datatype.json == "number" and None in values:
            values = [math.nan if value is None else value for value in values]
        try:
            return struct.pack(f"<{count}{datatype.code}", *values)
        except (struct.error, OverflowError) as error:
            raise BadRequestError(f"inputs[{index}].data: expected {datatype.name} numbers: {error}") from error


def _located(message: str, base: str) -> str:
    """msgspec's message with the path first: `inputs[0].shape[1]: expected int, got str`."""
    what, _, path = message.partition(" - at `$")
    what = what.replace("`", "")
    return f"{base + path.strip('.`') or 'body'}: {what[:1].lower()}{what[1:]}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


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
        names = _names(spec.name for spec in signature.inputs)
        raise BadRequestError(f"Inference-Header-Content-Length: 0 is for models with one input; this one has {names}")
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
