"""The runtime of a format, from the model's folder.

Each runtime stands on a library that another need not have: its module is imported when a model asks for it.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from mizzen.registry.package import DOCUMENT, PackageError, decode
from mizzen.serving.worker.errors import TaskError
from mizzen.serving.worker.runtimes.runtime import Runtime

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
