"""Rows by column name: plain JSON for people.

    {"instances": [{"age": 31, "plan": "gold"}, …]}
    {"predictions": [{"label": 1, "probabilities": [0.1, 0.9]}, …]}

The columns are those that the signature names of its one matrix, or else its inputs. A column holds a value for each
row, or a (nested) list where an input has more than one. Rows are decoded by msgspec into a struct made from the
signature, so a column that is missing, unknown or of the wrong type is told with its path: `instances[3].age: expected
float | null, got str`.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from mizzen.serving.oip.expected import BadRequestError
from mizzen.serving.oip.inference import InferenceRequest
from mizzen.serving.oip.request import decoded_json, packed
from mizzen.serving.tensors import (
    DATATYPES,
    BadTensorError,
    Buffer,
    Signature,
    Tensor,
    TensorSpec,
    checked_size,
    element_count,
    unpack_elements,
    unpack_strings,
)

ROW_TYPES: dict[str, Any] = {"number": float | None, "integer": int, "boolean": bool, "string": str}
"""What a value of a row is, by what an element is in JSON."""
_encode = msgspec.json.Encoder().encode


def matrix_of(signature: Signature) -> TensorSpec | None:
    """The one input whose columns have names."""
    if len(signature.inputs) == 1 and signature.columns and signature.inputs[0].shape == (-1, len(signature.columns)):
        return signature.inputs[0]
    return None


def row_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape of a row's value: a single one is written without a list."""
    return () if spec.shape[1:] == (1,) else spec.shape[1:]


class RowsCodec:
    """Rows to tensors and back, for one model version."""

    def __init__(self, model: str, version: str, signature: Signature) -> None:
        self._signature = signature
        self._matrix = matrix_of(signature)
        self._start = b'{"model_name":' + _encode(model) + b',"model_version":' + _encode(version)
        self._decode = msgspec.json.Decoder(_envelope(signature, self._matrix)).decode

    def decode(self, body: Buffer) -> InferenceRequest:
        """The request. Raises `BadRequestError`."""
        signature = self._signature
        if not signature.batchable:
            raise BadRequestError("the model does not take rows; send a request of the Open Inference Protocol (/v2)")
        rows = decoded_json(self._decode, body).instances
        if not rows:
            raise BadRequestError("instances: expected at least 1 row, got 0")
        values = list(map(msgspec.structs.astuple, rows))
        if self._matrix is not None:
            spec = self._matrix
            data = packed(DATATYPES[spec.datatype], list(itertools.chain.from_iterable(values)), "instances")
            return InferenceRequest([Tensor(spec.name, spec.datatype, (len(rows), *spec.shape[1:]), data)], len(rows))
        columns = zip(*values, strict=True)
        inputs = [column(spec, list(values)) for spec, values in zip(signature.inputs, columns, strict=True)]
        return InferenceRequest(inputs, len(rows))

    def encode(self, outputs: Sequence[Tensor]) -> bytes:
        """The answer. Raises `BadTensorError` where an output has no rows, or no JSON form."""
        columns = [row_values(output) for output in outputs]
        names = [output.name for output in outputs]
        predictions = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return b"".join((self._start, b',"predictions":', _encode(predictions), b"}"))


def _envelope(signature: Signature, matrix: TensorSpec | None) -> type[Any]:
    """The type of the body. Columns may have any names, and the struct's fields may not, so they are numbered."""
    if matrix is not None:
        type_ = ROW_TYPES[DATATYPES[matrix.datatype].json]
        columns = [(name, type_) for name in signature.columns]
    else:
        columns = [(spec.name, value_type(spec)) for spec in signature.inputs]
    row = msgspec.defstruct(
        "Row", [(f"c{index}", type_) for index, (_, type_) in enumerate(columns)], forbid_unknown_fields=True,
        rename={f"c{index}": name for index, (name, _) in enumerate(columns)},
    )  # fmt: skip
    return msgspec.defstruct("Rows", [("instances", list[row])])  # type: ignore[valid-type]


def value_type(spec: TensorSpec) -> Any:
    type_ = ROW_TYPES[DATATYPES[spec.datatype].json]
    for _ in row_shape(spec):
        type_ = list.__class_getitem__(type_)
    return type_


def column(spec: TensorSpec, values: list[Any], path: str = "instances: ") -> Tensor:
    """One input from its value in each row. Raises `BadRequestError`."""
    rows, shape = len(values), []
    for length in row_shape(spec):
        lengths = {len(value) for value in values}
        wanted = length if length != -1 else min(lengths, default=0)
        if others := lengths - {wanted}:
            expected = "lists of one length in all rows" if length == -1 else f"lists of {length}"
            raise BadRequestError(f"{path}{spec.name!r}: expected {expected}, got one of {max(others)}")
        shape.append(wanted)
        values = list(itertools.chain.from_iterable(values))
    data = packed(DATATYPES[spec.datatype], values, f"{path}{spec.name!r}")
    return Tensor(spec.name, spec.datatype, (rows, *(shape or spec.shape[1:])), data)


def row_values(tensor: Tensor) -> list[Any]:
    """The output's value for each row: a single one, or a nested list."""
    datatype = DATATYPES[tensor.datatype]
    checked_size(datatype, tensor.shape, tensor.data)
    if datatype.size:
        flat: list[Any] = list(unpack_elements(datatype, len(tensor.data) // datatype.size, tensor.data))
    else:
        try:
            flat = [value.decode() for value in unpack_strings(tensor.data)]
        except UnicodeDecodeError as error:
            raise BadTensorError(
                f"output {tensor.name!r}: BYTES that are not UTF-8 have no JSON form: {error}"
            ) from error
    return _nested(flat, tensor.shape[:1] if tensor.shape[1:] == (1,) else tensor.shape)


def _nested(flat: list[Any], shape: tuple[int, ...]) -> list[Any]:
    if len(shape) <= 1:
        return flat
    step = element_count(shape[1:])
    return [_nested(flat[row * step : (row + 1) * step], shape[1:]) for row in range(shape[0])]
