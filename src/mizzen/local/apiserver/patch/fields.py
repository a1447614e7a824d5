"""Sets of fields, each written as the FieldsV1 document that `metadata.managedFields` shows.

A node of such a document is an object whose keys are path elements (`f:name` a field, `k:{"name":"c"}` an element of a
list known by keys, `v:"a"` an element of a set). A node is a member of the set when it is empty or has the key `.`; a
node without `.` only leads to members. The root is never a member, so `{}` is the empty set. Because the set is the
document, nothing is decoded or encoded when ownership is read or written; the functions here are the algebra.

Sets are values: no function changes its arguments, and results share what did not change.
"""

import functools
import json
from collections.abc import Iterator
from typing import Any

from mizzen.local.apiserver.patch.structure import DEDUCED, Structure, scalar_text

FieldSet = dict[str, Any]
Path = tuple[str, ...]

MEMBER: FieldSet = {}
"""A node that is a member and has nothing below. Never changed in place."""

EMPTY: FieldSet = {}
"""The set of no fields."""


def is_member(node: FieldSet) -> bool:
    return not node or "." in node


def union(left: FieldSet, right: FieldSet) -> FieldSet:
    """The fields of either."""
    if not left or not right:
        return left or right
    return _union(left, right)


def _union(left: FieldSet, right: FieldSet) -> FieldSet:
    merged = {".": MEMBER, **left} if "." in right else dict(left)
    for element, node in right.items():
        mine = merged.get(element)
        if mine is None:
            merged[element] = node
        elif mine is not node and element != ".":
            if not mine or not node:
                below = mine or node
                merged[element] = below if not below or "." in below else {".": MEMBER, **below}
            else:
                merged[element] = _union(mine, node)
    return merged


def difference(left: FieldSet, right: FieldSet) -> FieldSet:
    """The fields of `left` that `right` does not have; what lies below a field of `right` stays."""
    if not left or not right:
        return left
    remaining = _difference(left, right)
    return {} if remaining is None else remaining


def _difference(left: FieldSet, right: FieldSet) -> FieldSet | None:
    members: FieldSet = {}
    for element, node in left.items():
        other = right.get(element)
        if element == ".":
            if is_member(right):
                continue
            members["."] = MEMBER
        elif other is None:
            members[element] = node
        elif node:
            remaining = _difference(node, other)
            if remaining is not None:
                members[element] = remaining
        elif not is_member(other):
            members[element] = MEMBER
    if not members:
        return None
    return MEMBER if len(members) == 1 and "." in members else members


def intersection(left: FieldSet, right: FieldSet) -> FieldSet:
    """The fields of both."""
    if not left or not right:
        return {}
    return _intersection(left, right) or {}


def _intersection(left: FieldSet, right: FieldSet) -> FieldSet | None:
    both: FieldSet = {}
    for element, node in left.items():
        other = right.get(element)
        if other is None or element == ".":
            continue
        if not node or not other:
            if is_member(node) and is_member(other):
                both[element] = MEMBER
        else:
            shared = _intersection(node, other)
            if shared is not None:
                both[element] = shared
    if is_member(left) and is_member(right):
        return {".": MEMBER, **both} if both else MEMBER
    return both or None


def without(left: FieldSet, right: FieldSet) -> FieldSet:
    """The fields of `left` that are neither in `right` nor below a field of `right`."""
    if not left or not right:
        return left
    remaining: FieldSet = {}
    for element, node in left.items():
        other = right.get(element)
        if other is None:
            remaining[element] = node
        elif not is_member(other):
            below = without(node, other) if node else MEMBER
            if below or not node:
                remaining[element] = MEMBER if len(below) == 1 and "." in below else below
    return remaining


def covers(owned: FieldSet, path: Path) -> bool:
    """Whether the field at `path` is in the set."""
    for element in path:
        below = owned.get(element)
        if below is None:
            return False
        owned = below
    return bool(path) and is_member(owned)


def paths(owned: FieldSet, prefix: Path = ()) -> Iterator[Path]:
    """All fields, those of one level before those below, each level sorted as Kubernetes sorts it."""
    elements = [element for element in sort_elements(owned) if element != "."]
    for element in elements:
        if is_member(owned[element]):
            yield (*prefix, element)
    for element in elements:
        if owned[element]:
            yield from paths(owned[element], (*prefix, element))


def from_paths(fields: Iterator[Path] | list[Path]) -> FieldSet:
    owned: FieldSet = {}
    for path in fields:
        node: FieldSet = MEMBER
        for element in reversed(path):
            node = {element: node}
        owned = union(owned, node)
    return owned


def with_named_fields(owned: FieldSet, structure: Structure) -> FieldSet:
    """The set with every declared field that leads to a member made a member itself (but not the root)."""
    named: FieldSet = {}
    for element, node in owned.items():
        if not node:
            named[element] = node
            continue
        below = structure
        declared = False
        if element.startswith("f:"):
            name = element[2:]
            below = structure.children[name] if structure.is_map else DEDUCED
            declared = structure.is_map and name in structure.declared
        elif element.startswith("k:"):
            below = structure.item
        inner = with_named_fields(node, below)
        named[element] = {".": MEMBER, **inner} if declared and "." not in inner else inner
    return named


# Text


def ordered(owned: FieldSet) -> FieldSet:
    """The same set with its elements in the order in which Kubernetes writes them."""
    return {element: ordered(owned[element]) if owned[element] else MEMBER for element in sort_elements(owned)}


def sort_elements(owned: FieldSet) -> list[str]:
    """Fields by name, then elements by their keys, then by their values; numbers as numbers, before text."""
    elements = sorted(owned)
    if sum(element[0] in "kv" for element in elements) > 1:
        elements.sort(key=_rank)
    return elements


@functools.lru_cache(maxsize=4096)
def _rank(element: str) -> tuple[Any, ...]:
    kind, text = element[:2], element[2:]
    if kind == "k:":
        return 2, [(name, _value_rank(value)) for name, value in sorted(json.loads(text).items())]
    if kind == "v:":
        return 3, _value_rank(json.loads(text))
    return (0 if element == "." else 1, text)


def _value_rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return 2, value
    if isinstance(value, int | float):
        return 0, value
    return (1, value) if isinstance(value, str) else (3, scalar_text(value))


def path_text(path: Path) -> str:
    """A path as messages show it: `.spec.containers[name="c"].image`."""
    return "".join(map(_element_text, path))


def _element_text(element: str) -> str:
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return "." + text
    if kind == "k:":
        return "[" + ",".join(f"{name}={_quoted(value)}" for name, value in sorted(json.loads(text).items())) + "]"
    return f"[={_quoted(json.loads(text))}]" if kind == "v:" else f"[{text}]"


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class FieldsError(ValueError):
    """A FieldsV1 document that is none."""


def parse(document: Any) -> FieldSet:
    """A set from a document that a client wrote: path elements in their one text, nothing that is not an element."""
    if not isinstance(document, dict):
        raise FieldsError(f"expected an object of path elements, got {document!r}")
    parsed: FieldSet = {}
    for element, node in document.items():
        below = parse(node)
        if element == ".":
            parsed["."] = MEMBER
        else:
            parsed[_canonical(element)] = below
    return parsed


def _canonical(element: str) -> str:
    kind, text = element[:2], element[2:]
    try:
        match kind:
            case "f:":
                return element
            case "k:":
                keys = json.loads(text)
                if not keys or not isinstance(keys, dict):
                    raise FieldsError(f"expected keys and their values, got {element!r}")
                return "k:{" + ",".join(f"{scalar_text(key)}:{scalar_text(keys[key])}" for key in sorted(keys)) + "}"
            case "v:":
                return "v:" + scalar_text(json.loads(text))
            case "i:" if text.isdecimal():
                return f"i:{int(text)}"
            case _:
                raise FieldsError(f"expected a path element such as f:name, got {element!r}")
    except json.JSONDecodeError as problem:
        raise FieldsError(f"expected a path element such as f:name, got {element!r}") from problem
