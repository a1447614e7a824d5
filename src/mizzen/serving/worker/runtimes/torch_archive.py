"""What a `.pt2` archive may hold, looked at without PyTorch.

Such an archive may hold pickles: example inputs always, and weights or constants of unusual kinds. The examples are
taken out before it is loaded and an archive with any of the others is refused, so nothing is unpickled. Expressions
over the sizes of dimensions, which PyTorch evaluates, must be nothing but arithmetic, and names, which end in a
function that it compiles, must be names; guards, which it compiles too, are left out, since requests are checked
against the signature.
"""

import ast
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.runtimes.runtime import first_line

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


def without_pickles(archive: bytes) -> bytes:
    """The archive without its example inputs and guards.

    Raises `TaskError` for an archive that is none, or that has other pickles, native code, or expressions that are more
    than arithmetic.
    """
    made = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(made, "w") as new:
            if len(set(old.namelist())) != len(old.namelist()):
                raise TaskError("expected an archive of torch.export.save, found two entries of one name")
            for info in old.infolist():
                data = old.read(info)
                _, _, path = info.filename.partition("/")
                new.writestr(zipfile.ZipInfo(info.filename), _vetted(path, data))
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError) as error:  # RuntimeError: encrypted, …
        raise TaskError(f"expected an archive of torch.export.save: {first_line(error)}") from error
    return made.getvalue()


def _vetted(path: str, data: bytes) -> bytes:
    if path.startswith("data/sample_inputs/"):
        return b""
    folder, _, name = path.rpartition("/")
    if folder in {"data/weights", "data/constants"}:
        if name.endswith("_config.json"):
            if any(key == "use_pickle" and value is not False for key, value in _pairs(json.loads(data))):
                raise TaskError(f"{path}: expected plain tensors, found pickled ones: they are never loaded")
        elif name.endswith(".pt") or name.startswith(("custom_obj", "opaque_obj")):
            raise TaskError(f"{path}: a pickle, which is never loaded: export the model with a newer PyTorch")
    if path.startswith("data/aotinductor/"):
        raise TaskError(f"{path}: native code, which is never loaded: export the program and not its compiled form")
    if folder == "models" and name.endswith(".json"):
        return _vetted_program(json.loads(data))
    return data


def _vetted_program(document: Any) -> bytes:
    if not isinstance(document, dict):
        raise TaskError(f"expected the program of torch.export.save, found {type(document).__name__}")
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
