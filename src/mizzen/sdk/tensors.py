"""Rows of people's data as tensors of a model's signature, and back.

Rows come by column name (`[{"age": 31}, …]`, a data frame) or by position (`[[31, 2.5], …]`, an array). Numbers become
the signature's types here, so that a text where a number belongs is told by its column and not by a far-away server.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from mizzen.kinds.build import Signature, Tensor

DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "BF16": np.float32, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip

Array = np.ndarray[Any, Any]


class DataError(ValueError):
    """The rows do not fit the signature; the message gives the place, what was expected and what was found."""


def arrays_of(data: object, signature: Signature) -> dict[str, Array]:
    """One array for each input of the signature. Raises `DataError`."""
    columns = _columns(data)
    matrix = signature.inputs[0] if len(signature.inputs) == 1 and signature.columns else None
    if columns is not None:
        names = signature.columns if matrix is not None else [tensor.name for tensor in signature.inputs]
        _check_names(columns, names)
        if matrix is None:
            return {tensor.name: _shaped(_array(columns[tensor.name], tensor), tensor) for tensor in signature.inputs}
        stacked = np.column_stack([_array(columns[name], matrix, name) for name in names])
        return {matrix.name: stacked.astype(DTYPES[matrix.datatype])}
    if len(signature.inputs) == 1:
        tensor = signature.inputs[0]
        return {tensor.name: _shaped(_array(data, tensor), tensor)}
    rows = np.asarray(data, dtype=object)
    if rows.ndim != 2 or rows.shape[1] != len(signature.inputs):
        names = [tensor.name for tensor in signature.inputs]
        raise DataError(
            f"expected rows of {len(names)} values ({', '.join(names)}), got an array of shape {rows.shape}"
        )
    return {t.name: _shaped(_array(rows[:, i], t), t) for i, t in enumerate(signature.inputs)}


def _columns(data: object) -> dict[str, Sequence[Any]] | None:
    """The data by column, where it has column names."""
    if hasattr(data, "columns") and hasattr(data, "to_dict"):
        frame: Any = data
        return {str(name): frame[name].to_numpy() for name in frame.columns}
    if isinstance(data, Mapping):
        return {str(name): value if _is_many(value) else [value] for name, value in data.items()}
    if isinstance(data, Sequence) and data and all(isinstance(row, Mapping) for row in data):
        names = list(dict.fromkeys(name for row in data for name in row))
        for index, row in enumerate(data):
            missing = [name for name in names if name not in row]
            if missing:
                raise DataError(f"row {index}: expected a value for {missing[0]}, which other rows have")
        return {str(name): [row[name] for row in data] for name in names}
    return None


def _is_many(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def _check_names(columns: Mapping[str, object], names: Sequence[str]) -> None:
    missing = [name for name in names if name not in columns]
    if missing:
        have = ", ".join(sorted(columns))
        raise DataError(f"expected a column {missing[0]!r} (columns: {have}); the model takes {', '.join(names)}")


def _array(values: object, tensor: Tensor, column: str = "") -> Array:
    if tensor.datatype == "BYTES":
        return np.asarray(values, dtype=object)
    try:
        return np.asarray(values, dtype=DTYPES[tensor.datatype])
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{column or tensor.name}: expected values of type {tensor.datatype}: {error}") from error


def _shaped(array: Array, tensor: Tensor) -> Array:
    """A plain column as `[n, 1]` where the signature asks for that."""
    if array.ndim == 1 and len(tensor.shape) == 2 and tensor.shape[1] in {1, -1}:
        return array.reshape(-1, 1)
    if array.ndim != len(tensor.shape):
        raise DataError(f"{tensor.name}: expected an array of shape {tensor.shape}, got {list(array.shape)}")
    return array


def encode(arrays: Mapping[str, Array], signature: Signature) -> tuple[bytes, dict[str, str]]:
    """A request body of the Open Inference Protocol with binary tensors, and its headers."""
    datatypes = {tensor.name: tensor.datatype for tensor in signature.inputs}
    inputs, blobs = [], []
    for name, array in arrays.items():
        blob = _blob(array, datatypes[name])
        blobs.append(blob)
        entry = {"name": name, "shape": list(array.shape), "datatype": datatypes[name]}
        inputs.append({**entry, "parameters": {"binary_data_size": len(blob)}})
    head = msgspec.json.encode({"inputs": inputs, "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return b"".join([head, *blobs]), headers


def _blob(array: Array, datatype: str) -> bytes:
    if datatype == "BF16":  # the upper half of a float's bits, rounded to nearest, ties to even
        bits = np.ascontiguousarray(array, "<f4").view("<u4")
        rounded = np.where(np.isnan(array), 0x7FC0, (bits + (0x7FFF + (bits >> 16 & 1))) >> 16)
        return rounded.astype("<u2").tobytes()
    if datatype != "BYTES":
        return np.ascontiguousarray(array).astype(np.dtype(DTYPES[datatype]).newbyteorder("<")).tobytes()
    parts = []
    for value in array.ravel():
        text = value if isinstance(value, bytes) else str(value).encode()
        parts.append(len(text).to_bytes(4, "little") + text)
    return b"".join(parts)


def decode(body: bytes, json_length: int | None) -> dict[str, Array]:
    """The outputs of an answer, by name; `json_length` is its `Inference-Header-Content-Length`, if it has one."""
    document = msgspec.json.decode(body[:json_length] if json_length is not None else body)
    position = json_length or 0
    outputs: dict[str, Array] = {}
    for output in document["outputs"]:
        size = (output.get("parameters") or {}).get("binary_data_size")
        dtype, shape = DTYPES[output["datatype"]], output["shape"]
        if size is None:
            outputs[output["name"]] = np.asarray(output["data"], dtype=dtype).reshape(shape)
            continue
        blob = body[position : position + size]
        position += size
        outputs[output["name"]] = _from_blob(blob, output["datatype"]).reshape(shape)
    return outputs


def _from_blob(blob: bytes, datatype: str) -> Array:
    if datatype == "BF16":
        return (np.frombuffer(blob, "<u2").astype("<u4") << 16).view("<f4")
    if datatype != "BYTES":
        return np.frombuffer(blob, dtype=np.dtype(DTYPES[datatype]).newbyteorder("<"))
    values, position = [], 0
    while position < len(blob):
        length = int.from_bytes(blob[position : position + 4], "little")
        values.append(blob[position + 4 : position + 4 + length].decode())
        position += 4 + length
    return np.asarray(values, dtype=object)
