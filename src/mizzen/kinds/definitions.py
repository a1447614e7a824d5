"""The CustomResourceDefinitions as they were generated: what a program installs without making them anew each time."""

import json
from importlib.resources import files
from typing import Any

FILE = "crds.json"


def definitions() -> list[dict[str, Any]]:
    """All of them, in the order in which the kinds depend on each other."""
    written: list[dict[str, Any]] = json.loads(files("mizzen.kinds").joinpath(FILE).read_bytes())
    return written
