"""An applied configuration: whether it can be read by a structure, and which fields it names.

Unlike a live object, an applied configuration must be unambiguous: no element twice in a list, nothing that the schema
does not declare. What it names differs from what an update sets: a struct is not named by naming its fields.
"""

from collections.abc import Iterator
from typing import Any

from mizzen.local.apiserver.patch.fields import MEMBER, FieldSet, path_text
from mizzen.local.apiserver.patch.structure import Structure, StructureError
from mizzen.local.apiserver.types import Json


def problems(structure: Structure, value: Any, path: str = "") -> Iterator[str]:
    """What stands against reading `value` by this structure, in Kubernetes' words, each with its path."""
    if value is None:
        return
    if isinstance(value, dict):
        if structure.is_map:
            yield from _map_problems(structure, value, path)
        else:
            yield _problem(path, _expected(structure, value))
    elif isinstance(value, list):
        if structure.is_list:
            yield from _list_problems(structure, value, path)
        else:
            yield _problem(path, _expected(structure, value))
    elif not _is_scalar_of(structure.scalar, value):
        yield _problem(path, _expected(structure, value))


def _map_problems(structure: Structure, value: Json, path: str) -> Iterator[str]:
    for name, below in value.items():
        if name not in structure.declared and not structure.open:
            yield f"{path}.{name}: field not declared in schema"
        else:
            yield from problems(structure.children[name], below, f"{path}.{name}")


def _list_problems(structure: Structure, value: list[Any], path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, item in enumerate(value):
        if structure.atomic_list:
            element = f"i:{index}"
        else:
            try:
                element = structure.element(item)
            except StructureError as problem:
                yield _problem(path, f"element {index}: {problem}")
                return
            if element in seen:
                yield _problem(path, f"duplicate entries for key {path_text((element,))}")
            seen.add(element)
        yield from problems(structure.item, item, path + path_text((element,)))


def _problem(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message


def _is_scalar_of(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "numeric":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case _:
            return kind == "untyped"


_GO_TYPES = {str: "string", bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}


def _expected(structure: Structure, value: Any) -> str:
    if structure.scalar == "numeric":
        return f"expected numeric (int or float), got {_GO_TYPES.get(type(value), type(value).__name__)}"
    if structure.scalar:
        wanted = {"untyped": "any scalar"}.get(structure.scalar, structure.scalar)
    else:
        wanted = "map" if structure.is_map else "list"
    return f"expected {wanted}, got {value!r}"


def named_fields(structure: Structure, applied: Json) -> FieldSet:
    """The fields that an applied configuration names, and its manager so comes to own."""
    return _named(structure, applied) or {}


def _named(structure: Structure, value: Any) -> FieldSet | None:
    """None where a container names nothing by itself and has nothing to name."""
    if isinstance(value, dict) and structure.is_map and not structure.atomic_map:
        fields: FieldSet = {}
        for name in sorted(value):
            below = value[name]
            node = _named(structure.children[name], below)
            if below is None or below == {} or name not in structure.declared:
                node = _as_member(node)
            if node is not None:
                fields["f:" + name] = node
        return fields or None
    if isinstance(value, list) and structure.is_list and not structure.atomic_list:
        fields = {}
        for item in value:
            element = structure.element(item)
            fields[element] = MEMBER if element in fields else _as_member(_named(structure.item, item))
        return fields or None
    return MEMBER


def _as_member(node: FieldSet | None) -> FieldSet:
    if not node:
        return MEMBER
    return node if "." in node else {".": MEMBER, **node}
