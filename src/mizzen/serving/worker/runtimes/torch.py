"""PyTorch programs as `torch.export.save` writes them (`.pt2`): a graph, weights, and no Python of the model's. What an
archive may hold beside that is looked at before PyTorch sees it (`torch_archive`).
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from mizzen.registry.package import FILES, Package
from mizzen.serving.tensors import Signature, TensorSpec
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.runtimes.runtime import Runtime, first_line
from mizzen.serving.worker.runtimes.tabular import model_file, refusal
from mizzen.serving.worker.runtimes.torch_archive import without_pickles

_DATATYPES = {
    torch.bool: "BOOL", torch.uint8: "UINT8", torch.int8: "INT8", torch.int16: "INT16", torch.int32: "INT32",
    torch.int64: "INT64", torch.float16: "FP16", torch.float32: "FP32", torch.float64: "FP64",
}  # fmt: skip


class TorchRuntime(Runtime):
    """An exported program, on a CUDA device where there is one."""

    def __init__(self, package: Package, folder: Path, threads: int) -> None:
        """Raises `TaskError` where the archive holds what is not loaded, or PyTorch does not load it."""
        data = without_pickles((folder / FILES / model_file(package)).read_bytes())
        self._threads = threads
        torch.set_num_threads(threads)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a later version, about an earlier one
                program = torch.export.load(io.BytesIO(data))
                self._device = "cuda" if torch.cuda.is_available() else "cpu"
                if self._device != "cpu":
                    program = move_to_device_pass(program, self._device)
                self._module = program.module(check_guards=False)
        except Exception as error:  # a reader of nested formats, with as many kinds of errors
            raise refusal(package, error) from error
        self.signature = signature_of(program)

    @property
    def facts(self) -> dict[str, str]:
        provider = torch.cuda.get_device_name() if self._device == "cuda" else "CPU"
        return {"runtime": f"torch {torch.__version__}", "provider": provider, "threads": str(self._threads)}

    def run(self, inputs: dict[str, Array]) -> Sequence[Array]:
        try:
            with torch.inference_mode():
                given = [
                    torch.from_numpy(np.array(inputs[spec.name])).to(self._device) for spec in self.signature.inputs
                ]
                found = torch.utils._pytree.tree_leaves(self._module(*given))  # noqa: SLF001 - torch's own, and stable
                return [value.cpu().numpy() for value in found]
        except KeyError as error:
            raise BatchError(f"PyTorch: expected an input {error.args[0]!r}, found {', '.join(inputs)}") from error
        except Exception as error:  # operators raise what they like
            raise BatchError(f"PyTorch: {first_line(error)}") from error


def signature_of(program: ExportedProgram) -> Signature:
    """Names, types and shapes, as the program's graph has them. Raises `TaskError` for what is no tensor."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = program.graph_signature.user_outputs
    keys = _output_names(program, len(names))
    inputs = [_spec(str(name), values.get(str(name)), "input") for name in program.graph_signature.user_inputs]
    outputs = [_spec(key, values.get(str(name)), "output") for key, name in zip(keys, names, strict=True)]
    return Signature(tuple(inputs), tuple(outputs))


def _output_names(program: ExportedProgram, count: int) -> list[str]:
    """The keys, where the program returns tensors by name; else `output`, or `output_0`, `output_1`, …"""
    spec = program.call_spec.out_spec
    if spec is not None and spec.type is dict and len(spec.context) == count:
        return [str(key) for key in spec.context]
    return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]


def _spec(name: str, value: Any, which: str) -> TensorSpec:
    dtype: Any = getattr(value, "dtype", None)
    datatype = _DATATYPES.get(dtype)
    if datatype is None:
        raise TaskError(f"{which} {name!r}: expected a tensor of numbers or booleans, got {value!r}")
    return TensorSpec(name, datatype, tuple(length if isinstance(length, int) else -1 for length in value.shape))
