"""ONNX files: what they take and give, and whether they can be trusted to load.

A file that someone brings may be cut short, made for a newer runtime, or crafted; the runtime is native code, and a bad
graph can end the process that loads it. So a file is first loaded, and run once on an example, by a process of its own
(`python -m mizzen.registry.onnx_file FILE`), which may crash or hang without harm.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as pybind

from mizzen.kinds.build import Datatype, Signature, Tensor
from mizzen.registry.errors import CorruptModel
from mizzen.registry.rows import NUMPY

_DATATYPES: dict[str, Datatype] = {
    "tensor(bool)": "BOOL", "tensor(uint8)": "UINT8", "tensor(uint16)": "UINT16", "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64", "tensor(int8)": "INT8", "tensor(int16)": "INT16", "tensor(int32)": "INT32",
    "tensor(int64)": "INT64", "tensor(float16)": "FP16", "tensor(float)": "FP32", "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}  # fmt: skip
_TIMEOUT_S = 120.0
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError, ValueError, TypeError, IndexError,
    *(kind for kind in vars(pybind).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)  # fmt: skip
"""What onnxruntime raises: its own errors have no common base."""

Feed = dict[str, NDArray[Any]]


def session_of(model: bytes, *, threads: int = 1) -> ort.InferenceSession:
    """The model, ready to run. Raises `CorruptModel` where the runtime refuses it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 4  # what is wrong is raised; it need not be printed too
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS as error:
        text = " ".join(str(error).split())
        raise CorruptModel(f"onnxruntime {ort.__version__} cannot load the model: {text[:300]}") from error


def signature_of_session(session: ort.InferenceSession) -> Signature:
    """Names, types and shapes of the model's inputs and outputs.

    Raises `CorruptModel` for an input or output that is no tensor the Open Inference Protocol knows.
    """
    return Signature(
        inputs=[_tensor(node, "input") for node in session.get_inputs()],
        outputs=[_tensor(node, "output") for node in session.get_outputs()],
    )


def _tensor(node: Any, what: str) -> Tensor:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        hint = "; convert with zipmap off" if node.type.startswith("seq(map") else ""
        raise CorruptModel(f"{what} {node.name}: expected a tensor, found {node.type}{hint}")
    shape = [dimension if isinstance(dimension, int) and dimension >= 0 else -1 for dimension in node.shape]
    return Tensor(name=node.name, datatype=datatype, shape=shape)


def zeros_for(signature: Signature) -> Feed:
    """One row of zeros (or empty text): an example for a model that came with none."""
    feed: Feed = {}
    for tensor in signature.inputs:
        shape = [1 if size < 0 else size for size in tensor.shape]
        feed[tensor.name] = (
            np.full(shape, "", object) if tensor.datatype == "BYTES" else np.zeros(shape, NUMPY[tensor.datatype])
        )
    return feed


@dataclass(frozen=True, slots=True)
class Inspected:
    """What is known of a file that was loaded."""

    signature: Signature
    answers_zeros: bool
    """Whether it can be run on one row of zeros; a model may have good reason not to."""


def inspect(model: bytes, *, timeout_s: float = _TIMEOUT_S) -> Inspected:
    """A model that may be anything: loaded and run once, on zeros, in a process of its own.

    Raises `CorruptModel` where the bytes are no model, or loading fails, or loading or running crashes or does not end.
    """
    if not model:
        raise CorruptModel("expected an ONNX model, found an empty file")
    with tempfile.TemporaryDirectory(prefix="mizzen-onnx-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        try:
            run = subprocess.run(
                [sys.executable, "-m", "mizzen.registry.onnx_file", str(path)],
                capture_output=True, text=True, timeout=timeout_s, check=False, cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise CorruptModel(f"the model did not answer one row of zeros within {timeout_s:.0f} s") from error
    if run.returncode == 0:
        found = json.loads(run.stdout)
        return Inspected(Signature.model_validate(found["signature"]), found["answers_zeros"])
    if run.returncode == 1:
        raise CorruptModel(json.loads(run.stdout)["error"])
    last = run.stderr.strip().rpartition("\n")[2]
    raise CorruptModel(f"onnxruntime {ort.__version__} died of the model (exit code {run.returncode}): {last[:200]}")


def _main(path: str) -> int:
    try:
        session = session_of(Path(path).read_bytes())
        signature = signature_of_session(session)
    except CorruptModel as error:
        print(json.dumps({"error": str(error)}))
        return 1
    try:
        session.run(None, zeros_for(signature))
    except RUNTIME_ERRORS:
        answers_zeros = False
    else:
        answers_zeros = True
    print(json.dumps({"signature": signature.to_wire(), "answers_zeros": answers_zeros}))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
