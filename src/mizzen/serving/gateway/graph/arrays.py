"""Tensors as numpy sees them: values for conditions and combiners, rows taken apart and put together again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.serving.tensors import DATATYPES, BadTensorError, Tensor, pack_strings, unpack_strings

Array = NDArray[Any]
_DTYPES = {name: np.dtype(f"<{datatype.code}") for name, datatype in DATATYPES.items() if datatype.size}
"""How the elements lie in memory; `BF16` as its bits."""


def values_of(tensor: Tensor) -> Array:
    """The elements as values, in the tensor's shape: `BF16` as FP32, `BYTES` as objects of type bytes."""
    if tensor.datatype == "BYTES":
        return _objects(unpack_strings(tensor.data)).reshape(tensor.shape)
    values = np.frombuffer(tensor.data, _DTYPES[tensor.datatype])
    if tensor.datatype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.reshape(tensor.shape)


def columns_of(tensor: Tensor, rows: int) -> Array:
    """The elements of each row, shape (rows, elements), for conditions; text that is not UTF-8 is told as `�`."""
    values = values_of(tensor)
    if tensor.datatype == "BYTES":
        values = _objects([value.decode(errors="replace") for value in values.ravel()])
    return values.reshape(rows, -1)


def tensor_of(name: str, datatype: str, values: Array) -> Tensor:
    """The values as a tensor of that datatype."""
    if datatype == "BYTES":
        return Tensor(name, datatype, values.shape, pack_strings(list(values.ravel())))
    if datatype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # to the nearest, of two the even one
        values = np.where(np.isnan(values), 0x7FC0, rounded >> 16).astype(np.uint16)
    flat = np.ascontiguousarray(values, _DTYPES[datatype]).reshape(-1)
    return Tensor(name, datatype, tuple(values.shape), flat.view(np.uint8).data if flat.size else b"")


def rows_bytes(tensor: Tensor, rows: int) -> list[bytes]:
    """Each row's elements as bytes: what tells one unit from another."""
    if tensor.datatype == "BYTES":
        values = values_of(tensor).reshape(rows, -1)
        return [b"\0".join(row) for row in values]
    size = len(tensor.data) // rows
    data = bytes(tensor.data)
    return [data[start : start + size] for start in range(0, rows * size, size)]


def taken(tensor: Tensor, places: NDArray[np.int64]) -> Tensor:
    """Some of its rows."""
    if tensor.datatype == "BYTES":
        values = values_of(tensor)[places]
        return Tensor(tensor.name, "BYTES", values.shape, pack_strings(list(values.ravel())))
    values = np.frombuffer(tensor.data, _DTYPES[tensor.datatype]).reshape(tensor.shape)[places]
    return Tensor(tensor.name, tensor.datatype, values.shape, values.reshape(-1).view(np.uint8).data)


def put_together(parts: Sequence[tuple[NDArray[np.int64], Tensor]], rows: int) -> Tensor:
    """Rows that went different ways, each back in its place.

    Raises `BadTensorError` where the parts' rows are of different shapes.
    """
    _, first = parts[0]
    tail = first.shape[1:]
    for places, tensor in parts:
        if tensor.shape != (len(places), *tail) or tensor.datatype != first.datatype:
            raise BadTensorError(
                f"output {first.name!r}: expected {len(places)} rows of {first.datatype}{list(tail)} from each way, "
                f"got {tensor.datatype}{list(tensor.shape)}"
            )
    dtype = object if first.datatype == "BYTES" else _DTYPES[first.datatype]
    whole = np.empty((rows, *tail), dtype)
    for places, tensor in parts:
        whole[places] = (
            values_of(tensor) if first.datatype == "BYTES" else np.frombuffer(tensor.data, dtype).reshape(tensor.shape)
        )
    if first.datatype == "BYTES":
        return Tensor(first.name, "BYTES", whole.shape, pack_strings(list(whole.ravel())))
    return Tensor(first.name, first.datatype, whole.shape, whole.reshape(-1).view(np.uint8).data)


def _objects(values: Sequence[Any]) -> Array:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
