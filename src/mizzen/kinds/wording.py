"""pydantic's errors in our words: where, what was expected, what was found, what may have been meant.

pydantic names the way through the model, with the branches of unions in it; the path here is that through what the user
wrote. Of a union, the branches' expectations are put together.
"""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mizzen.kinds.batch import ERROR_LIMIT
from mizzen.kinds.data import CODE_DIGEST, DATABASE_URL, DATASET_NAME, ENV_NAME, PYTHON_ENTRYPOINT
from mizzen.kinds.meta import DNS_LABEL, Resource

Path = tuple[str | int, ...]

_TYPES = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "missing": "a value",
}
"""What was expected, by pydantic's name of the error."""
PATTERNS = {
    DNS_LABEL: "a name of lower-case letters, digits and dashes that begins and ends with a letter or digit",
    PYTHON_ENTRYPOINT: "a function as module:function",
    DATASET_NAME: "the name of a dataset",
    DATABASE_URL: "a database as postgresql://host/database or sqlite:///path",
    ENV_NAME: "the name of an environment variable",
    ERROR_LIMIT: "a number of rows or a part of all rows, such as 100 or 1%",
    CODE_DIGEST: "a digest as sha256: and 64 hexadecimal digits",
}
_SHOWN_MAX = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with an object."""

    path: Path
    expected: str
    found: str
    hint: str = ""


def findings(kind: type[Resource], value: Any, error: ValidationError) -> list[Finding]:
    """What a model found wrong with a value."""
    merged: dict[tuple[Path, str], Finding] = {}
    for detail in error.errors(include_url=False):
        finding = _finding(kind, value, detail)
        key = finding.path, finding.found
        if key in merged and merged[key].expected != finding.expected:
            both = f"{merged[key].expected} or {finding.expected}"
            merged[key] = replace(merged[key], expected=both)
        else:
            merged.setdefault(key, finding)
    return list(merged.values())


def shown(value: Any) -> str:
    """What was found, short enough for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"


def _finding(kind: type[Resource], value: Any, detail: ErrorDetails) -> Finding:
    path, container = _walk(value, detail["loc"])
    name, context = detail["type"], detail.get("ctx", {})
    if name == "extra_forbidden":
        known = _fields(kind, path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1) or _same_words(str(path[-1]), known)
        hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(known)}" if known else ""
        return Finding(path, "a field that is known here", f"{path[-1]}", hint)
    if name == "missing":
        missing = str(detail["loc"][-1])
        return Finding((*path, missing), "a value", "nothing", _misspelled(missing, container, kind, path))
    found = shown(detail["input"])
    if name == "value_error":
        text = str(context.get("error", detail["msg"]))
        return Finding(path, text.removeprefix("expected "), found)
    if name == "literal_error":
        return _of_literal(path, context["expected"], detail["input"])
    quote = name == "string_type" and isinstance(detail["input"], bool | int | float)
    hint = 'texts that look like something else need quotes: "y", "5"' if quote else ""
    return Finding(path, _expectation(name, context, detail), found, hint)


def _walk(value: Any, loc: tuple[int | str, ...]) -> tuple[Path, Any]:
    """The way through the value that pydantic's way through the model stands for, and the value at its end.

    Steps that the value does not have are branches of unions, except for the last one (a field that is missing).
    """
    path: list[str | int] = []
    for step in loc:
        inside = isinstance(value, dict) and step in value
        at_index = isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)
        if inside or at_index:
            path.append(step)
            value = value[step]
    return tuple(path), value


def _expectation(name: str, context: dict[str, Any], detail: ErrorDetails) -> str:
    kind = "an integer" if isinstance(detail["input"], int) else "a number"
    if name in {"greater_than_equal", "less_than_equal", "greater_than", "less_than"}:
        words = {"ge": "of at least", "le": "of at most", "gt": "above", "lt": "below"}
        key = next(key for key in words if key in context)
        bound = context[key]
        plain = int(bound) if isinstance(bound, float) and bound.is_integer() and kind == "an integer" else bound
        return f"{kind} {words[key]} {plain}"
    if name == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"], f"a text that matches {context['pattern']}")
    if name in {"string_too_short", "too_short"}:
        unit = "characters" if name.startswith("string") else "items"
        return f"at least {context['min_length']} {unit}"
    if name in {"string_too_long", "too_long"}:
        unit = "characters" if name.startswith("string") else "items"
        return f"at most {context['max_length']} {unit}"
    return _TYPES.get(name, detail["msg"][:1].lower() + detail["msg"][1:])


def _of_literal(path: Path, expected: str, value: Any) -> Finding:
    options = [part.strip(" '") for part in expected.replace(" or ", ", ").split(", ")]
    near = difflib.get_close_matches(str(value), options, n=1) or _same_words(str(value), options)
    listed = options[0] if len(options) == 1 else f"one of {', '.join(options)}"
    hint = f"did you mean {near[0]}?" if near and len(options) > 1 else ""
    return Finding(path, listed, shown(value), hint)


def _same_words(said: str, known: list[str]) -> list[str]:
    """Names that differ in case, dashes and underscores only."""
    plain = said.lower().replace("_", "").replace("-", "").replace(" ", "")
    return [name for name in known if name.lower().replace("-", "") == plain]


def _misspelled(missing: str, container: Any, kind: type[Resource], path: Path) -> str:
    """Whether a field that is there and unknown may be the one that is missing."""
    if not isinstance(container, dict):
        return ""
    unknown = [name for name in container if name not in _fields(kind, path)]
    near = difflib.get_close_matches(missing, unknown, n=1) or _same_words(missing, unknown)
    return f"is {near[0]} meant to be {missing}?" if near else ""


def _fields(kind: type[BaseModel], path: Path) -> list[str]:
    """The names of the fields at a place of a kind; empty where any goes."""
    models: list[type[BaseModel]] = [kind]
    for step in path:
        if isinstance(step, int):
            continue
        models = [inner for model in models for inner in _models_of(model, step)]
    return sorted({field.alias or name for model in models for name, field in model.model_fields.items()} - {"status"})


def _models_of(model: type[BaseModel], alias: str) -> Iterator[type[BaseModel]]:
    """The models that the field of that name may hold, also in lists and maps."""
    for name, field in model.model_fields.items():
        if (field.alias or name) == alias:
            todo: list[Any] = [field.annotation]
            while todo:
                annotation = todo.pop()
                if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                    yield annotation
                todo += getattr(annotation, "__args__", ())
