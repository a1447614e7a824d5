"""ONNX models, by ONNX Runtime: on a CUDA device where this build of it has one, else on the CPU."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from mizzen.serving.tensors import Signature, TensorSpec
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.runtimes.runtime import Runtime, first_line

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
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


class OnnxRuntime(Runtime):
    """An ONNX Runtime session."""

    text = True
    steady = True

    def __init__(self, model: Path | bytes, threads: int) -> None:
        """Loads the model, from a file or from memory. Raises `TaskError` where it is not one that can be served."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # An idle worker shall cost nothing, and its neighbours need the processors: threads wait and do not spin.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._threads = threads
        self._session = _session(model, options)
        self.signature = Signature(
            tuple(_spec(node, "input") for node in self._session.get_inputs()),
            tuple(_spec(node, "output") for node in self._session.get_outputs()),
        )
        self._names = [spec.name for spec in self.signature.outputs]

    @property
    def facts(self) -> dict[str, str]:
        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        return {
            "runtime": f"onnxruntime {onnxruntime.__version__}", "provider": provider, "threads": str(self._threads),
        }  # fmt: skip

    def run(self, inputs: dict[str, Array]) -> Sequence[Array]:
        try:
            return self._session.run(self._names, inputs)  # type: ignore[no-any-return]
        except Exception as error:
            raise BatchError(f"ONNX Runtime: {first_line(error)}") from error


def _session(model: Path | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """On the device where there is one. A build with CUDA on a machine without it falls back to the CPU by itself;
    `get_providers` tells which it was.
    """
    there = onnxruntime.get_available_providers()
    given = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(given, options, providers=[one for one in (CUDA, CPU) if one in there])
    except Exception as error:
        raise TaskError(f"ONNX Runtime cannot load the model: {first_line(error)}") from error


def _spec(node: onnxruntime.NodeArg, what: str) -> TensorSpec:
    datatype = _DATATYPE_OF.get(node.type)
    if datatype is None:
        raise TaskError(
            f"{what} {node.name!r}: expected a tensor of numbers, booleans or strings, got {node.type}; "
            "convert classifiers without ZipMap"
        )
    shape = tuple(length if isinstance(length, int) and length >= 0 else -1 for length in node.shape)
    return TensorSpec(node.name, datatype, shape)
