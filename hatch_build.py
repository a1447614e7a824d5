"""Wheels with native code in them, where `MIZZEN_NATIVE=1` asks for it: see `native.py`.

Where it cannot be compiled (no C compiler, another Python) the wheel is pure Python, and says so while it is built.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles in place, and adds what was made to the wheel."""

    def dependencies(self) -> list[str]:
        return ["mypy>=1.18", "setuptools"] if _asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is `editable` for a link to the sources, which has what lies beside them."""
        if not _asked():
            return
        root = Path(self.root)
        if subprocess.run([sys.executable, str(root / "native.py")], check=False).returncode:
            self.app.display_warning("the hot modules cannot be compiled: they stay Python")
            return
        if version != "editable":
            build_data["pure_python"], build_data["infer_tag"] = False, True
            sources = root / "src"
            for path in sources.rglob("*.so"):
                build_data["force_include"][str(path)] = str(path.relative_to(sources))


def _asked() -> bool:
    return os.environ.get("MIZZEN_NATIVE") == "1"
