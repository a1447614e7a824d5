"""Tensors as libraries take them: numpy's arrays, and back.

Raw little-endian bytes come and go; numpy gives the library a view of them, so nothing is copied on the way in. What is
`BYTES` is text (decoded as UTF-8) to a library of text, and bytes to everyone else.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mizzen.serving.tensors import DATATYPES, BadTensorError, Tensor, TensorSpec, pack_strings, unpack_strings

Array = NDArray[np.generic]
DTYPES = {name: np.dtype(f"<{datatype.code}") for name, datatype in DATATYPES.items() if datatype.size}


def array_of(tensor: Tensor, *, text: bool) -> Array:
    """The tensor's elements. Raises `BadTensorError` for text that is none."""
    dtype = DTYPES.get(tensor.datatype)
    if dtype is not None:
        return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)
    elements: list[bytes] | list[str] = unpack_strings(tensor.data)
    if text:
        try:
            elements = [element.decode() for element in unpack_strings(tensor.data)]
        except UnicodeDecodeError as error:
            raise BadTensorError(f"input {tensor.name!r}: expected UTF-8 strings: {error}") from error
    values = np.empty(len(elements), dtype=object)
    values[:] = elements
    return values.reshape(tensor.shape)


def tensor_of(spec: TensorSpec, output: Array) -> Tensor:
    """The array as the output that `spec` names."""
    if spec.datatype == "BYTES":
        values = [value if isinstance(value, bytes) else str(value).encode() for value in output.ravel().tolist()]
        return Tensor(spec.name, "BYTES", output.shape, pack_strings(values))
    flat = np.ascontiguousarray(output, DTYPES[spec.datatype]).reshape(-1)
    return Tensor(spec.name, spec.datatype, output.shape, flat.view(np.uint8).data if flat.size else b"")


def zeros(spec: TensorSpec, rows: int) -> Tensor:
    """Zeros, or empty strings, with `rows` for every open dimension."""
    shape = tuple(rows if length == -1 else length for length in spec.shape)
    size = DATATYPES[spec.datatype].size or 4  # an empty string is its length, 0, in four bytes
    return Tensor(spec.name, spec.datatype, shape, bytes(math.prod(shape) * size))
