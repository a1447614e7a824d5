"""Parts of this package that need optional libraries, imported when they are first needed.

Whoever registers an ONNX file needs none of them, and a control plane should not pay for scikit-learn's import.
"""

import importlib
from typing import Any

from mizzen.registry.errors import ConversionFailed

_NEEDS = {
    "convert": "mizzen[sklearn]",
    "scikit": "mizzen[sklearn]",
    "native": "mizzen[sklearn]",
    "torch_program": "mizzen[torch]",
}


def part(name: str) -> Any:
    """The module `mizzen.registry.<name>`.

    Raises `ConversionFailed` that says what to install where a library is missing.
    """
    try:
        return importlib.import_module(f"mizzen.registry.{name}")
    except ModuleNotFoundError as error:
        raise ConversionFailed(
            f"{error.name} is not installed, which this model needs: install {_NEEDS[name]}"
        ) from error
