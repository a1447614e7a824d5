"""Mizzen: the whole machine-learning platform as one Python package.

`mizzen.Client` has the verbs of the command line; `mizzen.deploy` puts a trained model behind a URL, or a class of your
own (`mizzen.PythonModel`). They are imported when first used, since `import mizzen` is part of starting every process.
"""

import importlib
import os
from typing import Any

from mizzen.version import __version__

# ONNX Runtime tells its makers which models are loaded, from a thread that cannot be forked, unless this is set before
# it is imported. Whoever wants that can set it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Client", "Endpoint", "PythonModel", "__version__", "deploy"]

_WHERE = {
    "Client": "mizzen.sdk.client",
    "Endpoint": "mizzen.sdk.deploying",
    "PythonModel": "mizzen.registry.python_model",
    "deploy": "mizzen.sdk.deploying",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'mizzen' has no attribute {name!r}")
