"""A loaded ONNX model: its signature, and batches run on it.

Tensors come and go as raw little-endian bytes; numpy gives ONNX Runtime a view of them, so nothing is copied on the way
in. `BYTES` are strings to ONNX Runtime, and are decoded as UTF-8.
"""

import math
from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mizzen.serving.oip import BadRequestError, RequestDecoder
from mizzen.serving.tensors import (
    DATATYPES,
    BadTensorError,
    Signature,
    Tensor,
    TensorSpec,
    pack_strings,
    unpack_strings,
)
from mizzen.serving.worker.task import TaskError

_DATATYPE_OF = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_DTYPES = {name: np.dtype(f"<{datatype.code}") for name, datatype in DATATYPES.items() if datatype.size}
WARM_UP_LENGTH = 1
"""What stands for an open dimension where the store has no example."""


class BatchError(Exception):
    """The runtime refused the batch; the message is for the client."""


class Model:
    """An ONNX Runtime session. `run` is for one thread at a time."""

    def __init__(self, data: bytes, threads: int) -> None:
        """Loads the model. Raises `TaskError` where it is not one that can be served."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # An idle worker shall cost nothing, and its neighbours need the processors: threads wait and do not spin.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise TaskError(f"ONNX Runtime cannot load the model: {_first_line(error)}") from error
        self.signature = Signature(
            tuple(_spec(node, "input") for node in self._session.get_inputs()),
            tuple(_spec(node, "output") for node in self._session.get_outputs()),
        )
        self._names = [spec.name for spec in self.signature.outputs]

    def run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, in the signature's order. Raises `BatchError`."""
        try:
            feeds = {tensor.name: _array(tensor) for tensor in tensors}
            outputs = self._session.run(self._names, feeds)
            return [_tensor(spec, output) for spec, output in zip(self.signature.outputs, outputs, strict=True)]
        except BadTensorError as error:
            raise BatchError(str(error)) from error
        except Exception as error:
            raise BatchError(f"ONNX Runtime: {_first_line(error)}") from error

    def warm_up(self, example: bytes | None) -> int:
        """Runs the example (zeros where there is none), so that no client pays for what happens only once.

        Returns the rows run. Raises `TaskError` where the model refuses its own example.
        """
        try:
            if example is None:
                tensors, rows = [_zeros(spec) for spec in self.signature.inputs], WARM_UP_LENGTH
            else:
                request = RequestDecoder(self.signature).decode(example, None)
                tensors, rows = request.inputs, request.rows
        except BadRequestError as error:
            raise TaskError(f"the model's example does not fit its signature: {error}") from error
        try:
            self.run(tensors)
        except BatchError as error:
            if example is not None:
                raise TaskError(f"the model cannot run its own example: {error}") from error
            return 0  # zeros may be no sensible input for it
        return rows


def _spec(node: onnxruntime.NodeArg, what: str) -> TensorSpec:
    datatype = _DATATYPE_OF.get(node.type)
    if datatype is None:
        raise TaskError(
            f"{what} {node.name!r}: expected a tensor of numbers, booleans or strings, got {node.type}; "
            "convert classifiers without ZipMap"
        )
    shape = tuple(length if isinstance(length, int) and length >= 0 else -1 for length in node.shape)
    return TensorSpec(node.name, datatype, shape)


def _array(tensor: Tensor) -> NDArray[np.generic]:
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is not None:
        return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)
    try:
        values = [value.decode() for value in unpack_strings(tensor.data)]
    except UnicodeDecodeError as error:
        raise BadTensorError(f"input {tensor.name!r}: expected UTF-8 strings: {error}") from error
    return np.array(values, dtype=object).reshape(tensor.shape)


def _tensor(spec: TensorSpec, output: NDArray[np.generic]) -> Tensor:
    if spec.datatype == "BYTES":
        data = pack_strings([str(value).encode() for value in output.ravel()])
        return Tensor(spec.name, "BYTES", output.shape, data)
    flat = np.ascontiguousarray(output, _DTYPES[spec.datatype]).reshape(-1)
    return Tensor(spec.name, spec.datatype, output.shape, flat.view(np.uint8).data if flat.size else b"")


def _zeros(spec: TensorSpec) -> Tensor:
    shape = tuple(WARM_UP_LENGTH if length == -1 else length for length in spec.shape)
    size = DATATYPES[spec.datatype].size or 4  # an empty string is its length, 0, in four bytes
    return Tensor(spec.name, spec.datatype, shape, bytes(math.prod(shape) * size))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:1000]
