"""README.md keeps its word: what it names is there, and every file of tests is named."""

import ast
import re
from pathlib import Path

from .gaps import GAPS

HERE = Path(__file__).parent
README = (HERE / "README.md").read_text()


def names_in(path: Path) -> set[str]:
    functions = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def test_what_the_readme_names_is_there() -> None:
    """Each `test_file.py` and each test named after it in a line of the table exists there."""
    for line in README.splitlines():
        for file, names in re.findall(r"`(test_\w+\.py)`([^|`]*(?:`test_\w+`[^|`]*)*)", line):
            missing = set(re.findall(r"`(test_\w+)`", names)) - names_in(HERE / file)
            assert not missing, (file, missing)


def test_every_file_is_named_in_the_readme() -> None:
    """No file of tests is without a promise."""
    assert {path.name for path in HERE.glob("test_*.py") if f"`{path.name}`" not in README} == set()


def test_every_gap_is_a_test() -> None:
    """A line of gaps.py that names no test would hide nothing and mislead."""
    for key in GAPS:
        file, name = key.split("::")
        assert name.partition("[")[0] in names_in(HERE / f"{file}.py"), key
