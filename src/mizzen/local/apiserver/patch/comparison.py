"""Which fields differ between two objects of one structure: the ground of conflicts and of who owns what.

`compare` is structured-merge-diff's Compare. A field that only one object has is added or removed with everything
below it; a leaf in both that is not equal is modified. Lists that are taken apart are compared by element, whatever
the order; elements of one name that stand several times in a list are compared as one.
"""

from typing import Any, NamedTuple

from mizzen.local.apiserver.patch.fields import EMPTY, MEMBER, FieldSet, sort_elements, union
from mizzen.local.apiserver.patch.structure import Structure
from mizzen.local.apiserver.patch.values import ABSENT, same
from mizzen.local.apiserver.types import Json


class Comparison(NamedTuple):
    """Three sets of fields, seen from the first object to the second."""

    removed: FieldSet
    modified: FieldSet
    added: FieldSet

    @property
    def changed(self) -> FieldSet:
        """What the second object sets: modified or added."""
        return union(self.modified, self.added)


def compare(structure: Structure, old: Json, new: Json) -> Comparison:
    removed, modified, added = _compare(structure, old, new)
    return Comparison(removed or EMPTY, modified or EMPTY, added or EMPTY)


_Nodes = tuple[FieldSet | None, FieldSet | None, FieldSet | None]
"""Removed, modified and added at and below one field; None where there is nothing."""

_SAME: _Nodes = (None, None, None)
_MODIFIED: _Nodes = (None, MEMBER, None)


def _compare(structure: Structure, old: Any, new: Any) -> _Nodes:
    if old is new or (structure.exact and old == new):
        return _SAME
    old_has_parts, new_has_parts = _has_parts(structure, old), _has_parts(structure, new)
    if not old_has_parts and not new_has_parts:
        return _SAME if same(old, new) else _MODIFIED
    if isinstance(old, dict) and isinstance(new, dict):
        return _compare_maps(structure, old, new)
    if isinstance(old, list) and isinstance(new, list):
        return _compare_lists(structure, old, new)
    return (
        _below(everything(structure, old)) if old_has_parts else None,
        # Null is an empty container, unless it might have been a scalar.
        None if not structure.scalar and (old is None or new is None) else MEMBER,
        _below(everything(structure, new)) if new_has_parts else None,
    )


def _compare_maps(structure: Structure, old: Json, new: Json) -> _Nodes:
    removed: FieldSet = {}
    modified: FieldSet = {}
    added: FieldSet = {}
    children, zeros = structure.children, structure.zeros
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, ABSENT), new.get(name, ABSENT)
        if before is after:
            continue
        if before is ABSENT:
            before = zeros.get(name, ABSENT)
        elif after is ABSENT:
            after = zeros.get(name, ABSENT)
        if before is ABSENT:
            added["f:" + name] = everything(children[name], after)
        elif after is ABSENT:
            removed["f:" + name] = everything(children[name], before)
        else:
            _put("f:" + name, _compare(children[name], before, after), removed, modified, added)
    return removed or None, modified or None, added or None


def _compare_lists(structure: Structure, old: list[Any], new: list[Any]) -> _Nodes:
    removed: FieldSet = {}
    modified: FieldSet = {}
    added: FieldSet = {}
    item = structure.item
    before, after = _by_element(structure, old), _by_element(structure, new)
    for element in sort_elements({**before, **after}):
        olds, news = before.get(element, ()), after.get(element, ())
        if len(olds) > 1 and len(news) > 1:
            if not same(list(olds), list(news)):
                modified[element] = MEMBER
        elif len(olds) > 1:
            removed[element] = MEMBER
            if news:
                added[element] = everything(item, news[0])
        elif len(news) > 1:
            added[element] = MEMBER
            if olds:
                removed[element] = everything(item, olds[0])
        elif not olds:
            added[element] = everything(item, news[0])
        elif not news:
            removed[element] = everything(item, olds[0])
        else:
            _put(element, _compare(item, olds[0], news[0]), removed, modified, added)
    return removed or None, modified or None, added or None


def _put(element: str, nodes: _Nodes, removed: FieldSet, modified: FieldSet, added: FieldSet) -> None:
    for into, node in zip((removed, modified, added), nodes, strict=True):
        if node is not None:
            into[element] = node


def _has_parts(structure: Structure, value: Any) -> bool:
    """Whether a value is a container whose parts may have owners of their own. An empty one is a leaf."""
    if isinstance(value, dict):
        return bool(value) and structure.is_map and not structure.atomic_map
    if isinstance(value, list):
        return bool(value) and structure.is_list and not structure.atomic_list
    return False


def _below(node: FieldSet) -> FieldSet | None:
    """The same fields without the node itself."""
    return {element: below for element, below in node.items() if element != "."} or None


def _by_element(structure: Structure, values: list[Any]) -> dict[str, tuple[Any, ...]]:
    named: dict[str, tuple[Any, ...]] = {}
    for value in values:
        element = structure.element(value)
        named[element] = (*named.get(element, ()), value)
    return named


def everything(structure: Structure, value: Any) -> FieldSet:
    """The field that holds `value` and all fields below it."""
    if isinstance(value, dict):
        if not value or structure.atomic_map or not structure.is_map:
            return MEMBER
        children = structure.children
        fields: FieldSet = {".": MEMBER}
        for name in sorted(value):
            below = value[name]
            fields["f:" + name] = everything(children[name], below) if isinstance(below, dict | list) else MEMBER
        return fields
    if isinstance(value, list):
        if not value or structure.atomic_list or not structure.is_list:
            return MEMBER
        item = structure.item
        fields = {}
        for below in value:
            element = structure.element(below)
            fields[element] = MEMBER if element in fields else everything(item, below)
        elements = fields if len(fields) == 1 else sort_elements(fields)
        return {".": MEMBER, **{element: fields[element] for element in elements}}
    return MEMBER
