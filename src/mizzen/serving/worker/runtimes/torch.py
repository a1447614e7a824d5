"""PyTorch programs as `torch.export.save` writes them (`.pt2`): a graph, weights, and no Python of the model's.

Such an archive may hold pickles: example inputs always, and weights or constants of unusual kinds. The examples are
taken out before it is loaded and an archive with any of the others is refused, so nothing is unpickled. Expressions
over the sizes of dimensions, which PyTorch evaluates, are read first and must be nothing but arithmetic; guards, which
it compiles, are left out, since requests are checked against the signature.
"""

import ast
import io
import json
import warnings
import zipfile
from collections.abc import Iterator, Sequence
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

_DATATYPES = {
    torch.bool: "BOOL", torch.uint8: "UINT8", torch.int8: "INT8", torch.int16: "INT16", torch.int32: "INT32",
    torch.int64: "INT64", torch.float16: "FP16", torch.float32: "FP32", torch.float64: "FP64",
}  # fmt: skip
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load, ast.operator, ast.unaryop, ast.Call,
    ast.Compare, ast.cmpop, ast.keyword,
)  # fmt: skip
_FUNCTIONS = frozenset(
    {"Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv",
     "CeilDiv", "CleanDiv", "IntTrueDiv", "floor", "ceiling", "Abs", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
     "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "Equality", "Unequality", "And", "Or", "Not"}
)  # fmt: skip
"""What sizes are made of, as sympy writes it."""


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
    datatype = _DATATYPES.get(getattr(value, "dtype", None))
    if datatype is None:
        raise TaskError(f"{which} {name!r}: expected a tensor of numbers or booleans, got {value!r}")
    return TensorSpec(name, datatype, tuple(length if isinstance(length, int) else -1 for length in value.shape))


def without_pickles(archive: bytes) -> bytes:
    """The archive without its example inputs and guards.

    Raises `TaskError` for an archive that is none, or that has other pickles, native code, or expressions that are more
    than arithmetic.
    """
    made = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(made, "w") as new:
            for info in old.infolist():
                data = old.read(info)
                _, _, path = info.filename.partition("/")
                new.writestr(zipfile.ZipInfo(info.filename), _vetted(path, data))
    except (zipfile.BadZipFile, ValueError, RecursionError) as error:
        raise TaskError(f"expected an archive of torch.export.save: {first_line(error)}") from error
    return made.getvalue()


def _vetted(path: str, data: bytes) -> bytes:
    if path.startswith("data/sample_inputs/"):
        return b""
    folder, _, name = path.rpartition("/")
    if folder in {"data/weights", "data/constants"}:
        if name.endswith("_config.json"):
            if any(entry.get("use_pickle") for entry in json.loads(data).get("config", {}).values()):
                raise TaskError(f"{path}: expected plain tensors, found pickled ones: they are never loaded")
        elif name.endswith(".pt") or name.startswith(("custom_obj", "opaque_obj")):
            raise TaskError(f"{path}: a pickle, which is never loaded: export the model with a newer PyTorch")
    if path.startswith("data/aotinductor/"):
        raise TaskError(f"{path}: native code, which is never loaded: export the program and not its compiled form")
    if folder == "models" and name.endswith(".json"):
        return _vetted_program(json.loads(data))
    return data


def _vetted_program(document: Any) -> bytes:
    for key, value in _pairs(document):
        if key == "expr_str" and not _is_arithmetic(str(value)):
            raise TaskError(f"the program's sizes: expected arithmetic, found {str(value)[:80]!r}")
        if key == "name" and isinstance(value, str) and value and not value.replace(".", "_").isidentifier():
            raise TaskError(f"the program's graph: expected names, found {value[:80]!r}")
    document["guards_code"] = []
    return json.dumps(document).encode()


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield from found.items()
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _is_arithmetic(text: str) -> bool:
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    return all(isinstance(node, _ARITHMETIC) and _is_harmless(node) for node in ast.walk(tree))


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) or (isinstance(node.value, str) and node.value.isidentifier())
    return True
