"""`module:name` of an unpacked code bundle: found, and what it raises put in one line.

Knows no library: it is used in environments that hold nothing but what the user asked for.
"""

import ast
import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mizzen.data.lake.errors import CodeError


def load_function(folder: Path, entrypoint: str, what: str = "function") -> Callable[..., Any]:
    """The function (or class: `what`) `module:name` of an unpacked bundle, whose folder becomes the first of the
    import path.

    Whatever the module raises while it is imported passes through. Raises `CodeError` where there is no such module
    or no such function in it.
    """
    module_name, _, name = entrypoint.partition(":")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name and not module_name.startswith(f"{error.name}."):
            raise
        known = ", ".join(sorted(path.stem for path in folder.glob("*.py"))) or "no module at all"
        raise CodeError(f"{entrypoint}: expected a module {error.name} in the code bundle, found {known}") from error
    found = getattr(module, name, None)
    if not callable(found) or (what == "class" and not isinstance(found, type)):
        there = "nothing of that name" if found is None else f"a {type(found).__name__}"
        raise CodeError(f"{entrypoint}: expected a {what} {name} in module {module_name}, found {there}")
    return found  # type: ignore[no-any-return]


def is_class(folder: Path, entrypoint: str) -> bool:
    """Whether the entrypoint is a class, as its module's text says: what it imports need not be here."""
    module_name, _, name = entrypoint.partition(":")
    path = folder.joinpath(*module_name.split("."))
    for found in (path.with_suffix(".py"), path / "__init__.py"):
        if found.is_file():
            try:
                body = ast.parse(found.read_bytes()).body
            except SyntaxError:
                return False  # told where it is imported
            return any(isinstance(node, ast.ClassDef) and node.name == name for node in body)
    return False


def described(error: BaseException, folder: Path) -> str:
    """An exception of the user's code in one line: type, message, and the innermost place inside their folder."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    text = f"{type(error).__name__}: {error}".replace("\n", " ").rstrip(": ")
    if not own:
        return text
    place = Path(own[-1].filename).relative_to(folder)
    return f"{text} ({place}:{own[-1].lineno}, in {own[-1].name})"
