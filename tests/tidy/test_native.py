"""What `make native` compiles, and that nobody tests what was compiled of other sources than these."""

import importlib.machinery
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src"
MODULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mizzen-native"]["modules"]


def test_what_is_compiled_is_there_and_in_order():
    assert sorted(set(MODULES)) == MODULES
    assert [module for module in MODULES if not (SOURCES / module).exists()] == []


def test_no_native_code_is_of_older_sources():
    """Python prefers a library to the source beside it: `make native` again, or `make pure`."""
    ending = importlib.machinery.EXTENSION_SUFFIXES[0]
    made_s = max((library.stat().st_mtime for library in SOURCES.glob("mizzen/native__mypyc.*")), default=0.0)
    native = [SOURCES / module for module in MODULES if (SOURCES / module).with_suffix(ending).exists()]
    assert [source.name for source in native if source.stat().st_mtime > made_s] == []
