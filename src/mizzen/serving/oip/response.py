"""What the model gave, encoded as the client asked for it.

All that does not change between answers of a model version (its name, its outputs' names and datatypes) is encoded
once; an answer is these pieces, the shape, and the data. Data is written flat, in row-major order. A NaN or an infinity
has no JSON form and becomes `null`; in binary form it is exact.
"""

import struct
from collections.abc import Sequence

import msgspec

from mizzen.serving.oip.inference import InferenceRequest
from mizzen.serving.tensors import (
    DATATYPES,
    BadTensorError,
    Buffer,
    Signature,
    Tensor,
    element_count,
    unpack_elements,
    unpack_strings,
)

_encode = msgspec.json.Encoder().encode
JSON_TYPE = "application/json"
BINARY_TYPE = "application/octet-stream"
SHAPES_KEPT = 256


def error_body(message: str) -> bytes:
    """The body of every answer that is no success."""
    return _encode({"error": message})


class ResponseEncoder:
    """Encodes the answers of one model version."""

    def __init__(self, model: str, version: str, signature: Signature) -> None:
        self._start = b'{"model_name":' + _encode(model) + b',"model_version":' + _encode(version)
        self._heads = [
            b'{"name":' + _encode(spec.name) + b',"datatype":' + _encode(spec.datatype) + b',"shape":['
            for spec in signature.outputs
        ]
        self._shaped: dict[tuple[int, tuple[int, ...]], bytes] = {}
        """The same with a shape behind it: most answers have the same few."""
        self._position = {spec.name: index for index, spec in enumerate(signature.outputs)}

    def encode(self, request: InferenceRequest, outputs: Sequence[Tensor]) -> tuple[bytes, int | None]:
        """The body, and the size of its JSON part where binary data follows it.

        `outputs` are all outputs of the signature, in its order. Raises `BadTensorError` where an output's data does
        not fit its shape.
        """
        parts = [self._start]
        if request.id is not None:
            parts += (b',"id":', _encode(request.id))
        parts.append(b',"outputs":[')
        binaries: list[Buffer] = []
        if request.outputs is None:
            chosen = [(index, request.binary) for index in range(len(outputs))]
        else:
            chosen = [(self._position[wanted.name], wanted.binary) for wanted in request.outputs]
        for index, binary in chosen:
            output = outputs[index]
            if binary:
                parts += (
                    self._head(index, output.shape), b',"parameters":{"binary_data_size":',
                    str(len(output.data)).encode(), b"}},",
                )  # fmt: skip
                binaries.append(output.data)
            else:
                parts += (self._head(index, output.shape), b',"data":', json_data(output), b"},")
        if chosen:
            parts[-1] = parts[-1][:-1]
        parts.append(b"]}")
        body = b"".join(parts)
        if not binaries:
            return body, None
        return b"".join([body, *binaries]), len(body)

    def _head(self, index: int, shape: tuple[int, ...]) -> bytes:
        """An output up to its data."""
        head = self._shaped.get((index, shape))
        if head is None:
            head = b"%b%b]" % (self._heads[index], ",".join(map(str, shape)).encode())
            if len(self._shaped) < SHAPES_KEPT:
                self._shaped[index, shape] = head
        return head


def json_data(tensor: Tensor) -> bytes:
    """The elements as a flat JSON array. Raises `BadTensorError` where the data does not fit the shape."""
    datatype = DATATYPES[tensor.datatype]
    count = element_count(tensor.shape)
    if not datatype.size:
        try:
            return _encode([value.decode() for value in unpack_strings(tensor.data)])
        except UnicodeDecodeError as error:
            raise BadTensorError(
                f"output {tensor.name!r}: BYTES that are not UTF-8 have no JSON form: {error}"
            ) from error
    try:
        return _encode(unpack_elements(datatype, count, tensor.data))
    except struct.error as error:
        raise BadTensorError(
            f"output {tensor.name!r}: expected {count} elements of {datatype.name}: {error}"
        ) from error
