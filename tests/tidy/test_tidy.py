"""The limits of docs/architecture.md and STYLE as a test: sizes, hidden imports, broad excepts, sleeping tests.

Excluded: formatting and lint, which ruff holds, and imports between folders, which import-linter holds.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXCEPTIONS: dict[str, dict[str, str]] = tomllib.loads((Path(__file__).parent / "exceptions.toml").read_text())
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

Finding = tuple[str, str]
"""(place, what is wrong): the place is `path:qualified.name`, as the exceptions name it."""


def _modules(*folders: str) -> Iterator[tuple[str, ast.Module, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text()
            yield path.relative_to(ROOT).as_posix(), ast.parse(source), source


def _scopes(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{child.name}" if prefix else child.name
            yield name, child
            yield from _scopes(child, name)
        else:
            yield from _scopes(child, prefix)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, node in _scopes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name, node


def module_size() -> Iterator[Finding]:
    for path, _, source in _modules("src", "tests", "benchmarks", "examples"):
        lines = source.count("\n")
        if lines > MODULE_LINES_MAX:
            yield path, f"{lines} lines, at most {MODULE_LINES_MAX}"


def function_size() -> Iterator[Finding]:
    for path, tree, _ in _modules("src", "benchmarks", "examples"):
        for name, node in _functions(tree):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{name}", f"{lines} lines, at most {FUNCTION_LINES_MAX}"


def inner_import() -> Iterator[Finding]:
    for path, tree, _ in _modules("src"):
        for name, node in _functions(tree):
            if any(isinstance(inner, ast.Import | ast.ImportFrom) for inner in ast.walk(node)):
                yield f"{path}:{name}", "imports inside a function"


def import_by_name() -> Iterator[Finding]:
    for path, tree, _ in _modules("src"):
        for name, node in _functions(tree):
            calls = (inner for inner in ast.walk(node) if isinstance(inner, ast.Call))
            if any("import_module" in ast.dump(call.func) or "__import__" in ast.dump(call.func) for call in calls):
                yield f"{path}:{name}", "imports by a computed name"


def broad_except() -> Iterator[Finding]:
    for path, tree, _ in _modules("src"):
        for name, node in [("", tree), *_functions(tree)]:
            own = ast.walk(node) if name else iter(tree.body)
            for inner in own:
                if isinstance(inner, ast.ExceptHandler) and (
                    inner.type is None
                    or (isinstance(inner.type, ast.Name) and inner.type.id in {"Exception", "BaseException"})
                ):
                    yield f"{path}:{name}", "catches everything"
                    break


def sleep() -> Iterator[Finding]:
    pattern = re.compile(r"\btime\.sleep\(|\basyncio\.sleep\((?!0\))")
    for path, tree, source in _modules("tests"):
        lines = source.splitlines()
        for name, node in _functions(tree):
            body = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            virtual = "looptime" in source
            if pattern.search(body) and not virtual:
                yield f"{path}:{name}", "waits on real time"


RULES = {
    "module-size": module_size,
    "function-size": function_size,
    "inner-import": inner_import,
    "import-by-name": import_by_name,
    "broad-except": broad_except,
    "sleep": sleep,
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rule_holds_but_for_named_exceptions(rule: str) -> None:
    """Every finding is a named exception with a reason, and every exception is still needed."""
    excused = EXCEPTIONS.get(rule, {})
    found = dict(RULES[rule]())
    assert {place: what for place, what in found.items() if place not in excused} == {}
    assert {place for place in excused if place not in found} == set()
    assert all(reason.strip() for reason in excused.values())


def test_every_folder_is_named_in_the_architecture() -> None:
    """docs/architecture.md has a row for each package, and none for what is not there."""
    named = set(re.findall(r"^\| `(src/mizzen/[a-z_/0-9]+)` \|", (ROOT / "docs" / "architecture.md").read_text(), re.M))
    there = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "src" / "mizzen").rglob("__init__.py")}
    assert named == there - {"src/mizzen"}


def test_nothing_names_a_machine_or_a_registry_host() -> None:
    """No committed text holds a path of one machine or the host of a package registry."""
    pattern = re.compile(r"/" + r"work/|/" + r"root/|pypi\." + r"org|files\.python" + r"hosted|registry\.npm" + r"js")
    offenders = []
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        if relative.parts[0].startswith(".") and relative.parts[0] != ".ci":
            continue
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".yaml", ".json", ".lock", ".txt", ""}:
            text = path.read_text(errors="ignore")
            if pattern.search(text):
                offenders.append(relative.as_posix())
    assert offenders == []
