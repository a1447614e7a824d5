"""The request path's hot modules as native code, by mypyc: optional, and never more than an addition.

    make native                       in place: a `.so` beside each `.py` that pyproject.toml lists; Python prefers it
    make pure                         Python's own again
    MIZZEN_NATIVE=1 pip wheel .       a wheel with them in it (`hatch_build.py`)

The sources are the same, and so are the tests. docs/adr/0023 has what it saves, what it asks of the sources, and why
other modules are not among these.
"""

import sys
import tomllib
from contextlib import chdir
from pathlib import Path

from mypyc.build import mypycify
from setuptools import setup

HERE = Path(__file__).parent
SOURCES = HERE / "src"
LIBRARY = "mizzen.native"
"""All modules are in one library, `mizzen/native__mypyc`, so that they call each other natively."""
MODULES: list[str] = tomllib.loads((HERE / "pyproject.toml").read_text())["tool"]["mizzen-native"]["modules"]


def compile_in_place() -> None:
    """Raises what the C compiler raises, and ends the process where mypyc finds fault with the sources."""
    remove()
    temporary = HERE / "build" / "native"
    with chdir(SOURCES):
        extensions = mypycify(
            ["--ignore-missing-imports", *MODULES], opt_level="3", debug_level="0", group_name=LIBRARY,
            target_dir=str(temporary),
        )  # fmt: skip
        setup(
            name=LIBRARY, packages=[], ext_modules=extensions,
            script_args=[
                "--quiet", "build_ext", "--inplace", "--build-temp", str(temporary), "--build-lib", str(temporary),
            ],
        )  # fmt: skip


def compiled() -> list[Path]:
    """What is there of it."""
    named = [path for module in MODULES for path in (SOURCES / module).parent.glob(f"{Path(module).stem}.*.so")]
    return [*named, *SOURCES.glob("mizzen/native__mypyc.*.so")]


def remove() -> None:
    """Takes it away."""
    for path in compiled():
        path.unlink()


if __name__ == "__main__":
    if sys.argv[1:] == ["--remove"]:
        remove()
    else:
        compile_in_place()
