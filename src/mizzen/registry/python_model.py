"""A Python class as a model: what is said of it, and what makes a version of that.

    PythonModel("serve:Churn", folder="weights", requirements="requirements.txt")

The class is looked up in a code bundle. It is imported, loaded and tried in the environment it will be served in, not
in this process: what it needs need not be here.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.data.lake.objects import Store
from mizzen.registry.environments import Environment, EnvironmentFailed, ensure
from mizzen.registry.errors import ModelUnfit
from mizzen.registry.locks import requirements_of
from mizzen.registry.onnx_file import Feed
from mizzen.registry.package import CODE, REQUIREMENTS, Package, TensorEntry
from mizzen.registry.prepared import Prepared
from mizzen.registry.rows import Rows, column_inputs
from mizzen.registry.trying import Part, entry_of, lay_out, try_out


@dataclass(frozen=True, slots=True)
class PythonModel:
    """A class with `predict(self, batch)`, perhaps `load(self, context)` and `generate(self, inputs, parameters)`."""

    entrypoint: str
    """`module:Class` of the code bundle."""
    folder: str | os.PathLike[str] | None = None
    """Files that `load` finds in `context.folder`: weights, vocabularies."""
    requirements: str | os.PathLike[str] | None = None
    """A lock file (`requirements.txt`, `pylock.toml`, `uv.lock`) from which the model gets an environment of its own;
    a path that is not absolute is one of the code bundle. `None`: the platform's environment.
    """
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What `load` finds in `context.parameters`."""


def cache_folder() -> Path:
    """Where environments are kept on this machine; workers of the same machine and user share it."""
    given = os.environ.get("MIZZEN_CACHE_DIR")
    return Path(given) if given else Path(tempfile.gettempdir()) / f"mizzen-cache-{os.getuid()}"


def prepare_python(
    model: PythonModel, store: Store, code: str, example: Any | None = None, *, cache: Path | None = None
) -> Prepared:
    """Tries the class of the stored bundle `code`. Raises `ModelUnfit` where it cannot be served."""
    parts = _files(model)
    package = Package(
        format="python", files=tuple(entry for entry, _ in parts), code=code, entrypoint=model.entrypoint,
        parameters=dict(model.parameters),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mizzen-python-") as place:
        folder = Path(place) / "model"
        lay_out(folder, package, parts, store)
        lock = _requirements(model, folder / CODE)
        environment = None if lock is None else _environment(lock, cache or cache_folder())
        try:
            tried = try_out(folder, _feed(example), environment=environment)
        finally:
            if environment is not None:
                environment.release()
    signature = tried.signature
    requirements = None if lock is None else entry_of(REQUIREMENTS, lock)
    whole = Package(
        format="python", files=package.files, code=code, entrypoint=model.entrypoint, requirements=requirements,
        inputs=tuple(TensorEntry(one.name, one.datatype, tuple(one.shape)) for one in signature.inputs),
        outputs=tuple(TensorEntry(one.name, one.datatype, tuple(one.shape)) for one in signature.outputs),
        parameters=dict(model.parameters),
    )  # fmt: skip
    if requirements is not None and lock is not None:
        parts = [*parts, (requirements, lock)]
    return Prepared(
        whole.encode(), signature, tried.rows, None, f"python:{model.entrypoint}", "python", tuple(parts), code,
        model.entrypoint,
    )  # fmt: skip


def _files(model: PythonModel) -> list[Part]:
    if model.folder is None:
        return []
    folder = Path(model.folder)
    if not folder.is_dir():
        raise ModelUnfit(
            f"{model.entrypoint}: folder: expected a folder with the model's files, found none at {folder}"
        )
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(entry_of(path.relative_to(folder).as_posix(), path), path) for path in paths]


def _requirements(model: PythonModel, code: Path) -> bytes | None:
    return None if model.requirements is None else requirements_of(code / Path(model.requirements))


def _environment(lock: bytes, cache: Path) -> Environment:
    try:
        return ensure(lock, cache)
    except (EnvironmentFailed, OSError) as error:
        raise ModelUnfit(str(error)) from error


def _feed(example: Any | None) -> Feed | None:
    """Rows by input: arrays by name as they are, a data frame by column, and a matrix as `input`."""
    if example is None:
        return None
    if isinstance(example, Mapping):
        feed = {str(name): _array(name, values) for name, values in example.items()}
        if not feed:
            raise ModelUnfit("example: expected arrays by input name, got none")
        return feed
    rows = Rows(example)
    if rows.names:
        return column_inputs(rows).feed(rows)
    return {"input": np.asarray(rows.native)}


def _array(name: Any, values: Any) -> NDArray[Any]:
    array = np.asarray(values)
    if not array.shape or array.dtype.kind not in "biufUSO":
        raise ModelUnfit(
            f"example: {name}: expected an array with a dimension of rows, got {array.dtype} {array.shape}"
        )
    return array
