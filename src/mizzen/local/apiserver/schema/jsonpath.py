"""The JSONPath of Kubernetes' printer columns, selectable fields and scale paths.

`.spec.replicas`, `.items[0]`, `.items[-1]`, `.items[1:3]`, `.items[*].name`, `['quoted key']`, escaped dots
(`.metadata.labels.app\\.kubernetes\\.io/name`), and filters `[?(@.type=="Ready")]` with `==`, `!=`, `<`, `<=`, `>`,
`>=` or none (is it there). Left out: recursive descent (`..`), unions and `{range}`, which these places never use.
"""

import functools
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

Step = Callable[[list[Any]], list[Any]]

_FIELD = re.compile(r"\.?((?:\\.|[^.\[\]\\])+)")
_BRACKET = re.compile(
    r"\[(?:'((?:\\.|[^'\\])*)'|\"((?:\\.|[^\"\\])*)\"|(\*)|(-?\d+)|(-?\d+)?:(-?\d+)?(?::([1-9]\d*))?)\]"
)
_FILTER = re.compile(r"\[\?\(\s*(.+?)\s*(?:(==|!=|<=|>=|<|>)\s*(.+?)\s*)?\)\]")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class PathError(ValueError):
    """Not a JSONPath of the kind described above."""


@functools.lru_cache(maxsize=1024)
def parsed(path: str) -> tuple[Step, ...]:
    """The steps of a path, in order.

    Raises `PathError`.
    """
    text = path.strip()
    text = text[1:-1].strip() if text.startswith("{") and text.endswith("}") else text
    text = text.removeprefix("$")
    steps: list[Step] = []
    position = 0
    while position < len(text):
        step, position = _step(text, position)
        if step is not None:
            steps.append(step)
    return tuple(steps)


def _step(text: str, position: int) -> tuple[Step | None, int]:
    if text == ".":
        return None, 1
    if text.startswith("..", position):
        raise PathError(f"{text}: recursive descent is not supported")
    if (match := _FILTER.match(text, position)) is not None:
        return _filter(match[1], match[2], match[3]), match.end()
    if (match := _BRACKET.match(text, position)) is not None:
        return _bracket(match), match.end()
    match = _FIELD.match(text, position)
    if match is None or (position > 0 and text[position] not in ".["):
        raise PathError(f"{text}: unexpected {text[position]!r} at {position}")
    name = re.sub(r"\\(.)", r"\1", match[1])
    return _each_of if name == "*" else _field(name), match.end()


def _bracket(match: re.Match[str]) -> Step:
    quoted = match[1] if match[1] is not None else match[2]
    if quoted is not None:
        return _field(re.sub(r"\\(.)", r"\1", quoted))
    if match[3]:
        return _each_of
    if match[4]:
        index = int(match[4])
        return lambda values: [v[index] for v in values if isinstance(v, list) and -len(v) <= index < len(v)]
    start, end = (int(text) if text else None for text in (match[5], match[6]))
    part = slice(start, end, int(match[7]) if match[7] else None)
    return lambda values: [item for value in values if isinstance(value, list) for item in value[part]]


def _field(name: str) -> Step:
    return lambda values: [value[name] for value in values if isinstance(value, dict) and name in value]


def _each_of(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found


def _filter(left: str, compare: str | None, right: str | None) -> Step:
    one = _operand(left)
    if compare is None or right is None:
        return lambda values: [item for item in _each_of(values) if one(item)]
    holds, other = _COMPARE[compare], _operand(right)

    def kept(values: list[Any]) -> list[Any]:
        found = []
        for item in _each_of(values):
            pair = one(item), other(item)
            if all(pair) and _comparable(pair[0][0], pair[1][0]) and holds(pair[0][0], pair[1][0]):
                found.append(item)
        return found

    return kept


def _comparable(one: Any, other: Any) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers or one.__class__ is other.__class__


def _operand(text: str) -> Callable[[Any], list[Any]]:
    if text.startswith("@"):
        steps = parsed(text[1:]) if len(text) > 1 else ()
        return lambda item: _walk(steps, [item])
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return lambda _: [text[1:-1]]
    if text in {"true", "false"}:
        return lambda _: [text == "true"]
    try:
        number = float(text)
    except ValueError as error:
        raise PathError(
            f"{text}: expected a text in quotes, a number, true, false or a path that begins with @"
        ) from error
    return lambda _: [number]


def _walk(steps: Iterable[Step], values: list[Any]) -> list[Any]:
    for step in steps:
        values = step(values)
    return values


def find(path: str, obj: Any) -> list[Any]:
    """Everything the path names in the object, in order; empty where it names nothing.

    Raises `PathError` where the path cannot be read.

    >>> find('.conditions[?(@.type=="Ready")].status', {"conditions": [{"type": "Ready", "status": "True"}]})
    ['True']
    """
    return _walk(parsed(path), [obj])


def first(path: str, obj: Any) -> Any:
    """The first thing the path names, or `None`."""
    found = find(path, obj)
    return found[0] if found else None
