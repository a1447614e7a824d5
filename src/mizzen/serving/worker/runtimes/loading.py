"""The runtime of a format, from the model's folder.

Each runtime stands on a library that another need not have: its module is imported when a model asks for it.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from mizzen.registry.package import DOCUMENT, PackageError, decode
from mizzen.serving.worker.artifacts import BACKGROUND, FOREST, Artifacts
from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.runtimes.runtime import Runtime
from mizzen.serving.worker.task import Explaining

_RUNTIMES = {
    "python": ("python", "PythonRuntime"),
    "skops": ("skops", "SkopsRuntime"),
    "lightgbm": ("lightgbm", "LightgbmRuntime"),
    "xgboost": ("xgboost", "XgboostRuntime"),
    "torch": ("torch", "TorchRuntime"),
}
_NEEDS = {
    "skops": "skops and scikit-learn", "lightgbm": "lightgbm", "xgboost": "xgboost", "torch": "torch",
}  # fmt: skip


def explainer_of(model: Runtime, artifacts: Artifacts, asked: Explaining) -> Runtime:
    """The explanations of a loaded model. Raises `TaskError` where it cannot be explained so."""
    background = artifacts.beside(BACKGROUND)
    if background is None:
        raise TaskError("the model version has no background to be explained against: register it with an example")
    forest = artifacts.beside(FOREST) if asked.method != "kernel" else None
    if forest is None and asked.method == "tree":
        raise TaskError("explain.method: expected auto or kernel, since the model version has no trees, got tree")
    explainer = importlib.import_module("mizzen.serving.worker.runtimes.explainer")
    trees = explainer.forest_of(forest) if forest is not None else None
    made: Runtime = explainer.ExplainerRuntime(model, explainer.rows_of(background), trees, asked.coalitions)
    return made


def runtime_of(folder: Path, threads: int, trusted: Sequence[str] = ()) -> Runtime:
    """The model in the folder, loaded. Raises `TaskError` where it cannot be."""
    try:
        package = decode((folder / DOCUMENT).read_bytes())
    except PackageError as error:
        raise TaskError(f"{DOCUMENT}: {error}") from error
    module, name = _RUNTIMES[package.format]
    try:
        kind = getattr(importlib.import_module(f"mizzen.serving.worker.runtimes.{module}"), name)
    except ModuleNotFoundError as error:
        needs = _NEEDS.get(package.format, error.name)
        raise TaskError(
            f"{error.name} is not installed here, which a {package.format} model needs: install {needs}, or register "
            "the model with --requirements"
        ) from error
    loaded: Runtime = (
        kind(package, folder, threads, trusted) if package.format == "skops" else kind(package, folder, threads)
    )
    return loaded
