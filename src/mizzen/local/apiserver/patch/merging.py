"""An object merged with an applied configuration, and an object with fields taken out, by structure.

`merge` is structured-merge-diff's Merge: nothing is removed, and where both say a leaf the applied one wins. An
associative list takes the applied configuration's order for the elements that it names; elements that only the live
list has keep their places. `remove` takes out fields and list elements; a container that becomes empty stays, empty.
"""

from typing import Any

from mizzen.local.apiserver.patch.fields import FieldSet, is_member
from mizzen.local.apiserver.patch.structure import Structure
from mizzen.local.apiserver.patch.values import ABSENT, same
from mizzen.local.apiserver.types import Json


def merge(structure: Structure, live: Any, applied: Any) -> Any:
    """`live` itself where `applied` changes nothing."""
    if live is applied:
        return live
    if isinstance(live, dict) and isinstance(applied, dict):
        if structure.is_map and not structure.atomic_map and (live or applied):
            return _merge_maps(structure, live, applied)
    elif (
        isinstance(live, list)
        and isinstance(applied, list)
        and structure.is_list
        and not structure.atomic_list
        and (live or applied)
    ):
        return _merge_lists(structure, live, applied)
    elif applied is None and live and _outlives_null(structure, live):
        return live
    return live if same(live, applied) else applied


def _outlives_null(structure: Structure, live: Any) -> bool:
    """Whether null applied over `live` says nothing about its parts: it names no element, and only applying something
    else takes one away."""
    if isinstance(live, dict):
        return structure.is_map and not structure.atomic_map
    return isinstance(live, list) and structure.is_list and not structure.is_map and not structure.atomic_list


def _merge_maps(structure: Structure, live: Json, applied: Json) -> Json:
    merged = live
    children = structure.children
    for name, value in applied.items():
        current = live.get(name, ABSENT)
        below = value if current is ABSENT else merge(children[name], current, value)
        if below is not current:
            if merged is live:
                merged = live.copy()
            merged[name] = below
    return merged


def _merge_lists(structure: Structure, live: list[Any], applied: list[Any]) -> list[Any]:
    live_elements = [structure.element(value) for value in live]
    wanted = {structure.element(value): value for value in applied}
    current: dict[str, Any] = {}
    for element, value in zip(live_elements, live, strict=True):
        current[element] = None if element in current else value  # duplicates are not merged but replaced

    merged: list[Any] = []
    taken: set[str] = set()  # of the applied list
    pending = list(wanted)
    shared = [element for element in wanted if element in current]  # still to come, in the applied order
    left = right = 0
    while left < len(live) or right < len(pending):
        mine = live_elements[left] if left < len(live) else None
        theirs = pending[right] if right < len(pending) else None
        if mine is not None and mine not in wanted:
            merged.append(live[left])
            left += 1
            continue
        if mine is not None and theirs is not None and mine != theirs and shared and mine != shared[0]:
            left += 1  # stands where the applied order puts it
            continue
        if mine is not None and (mine == theirs or mine in taken):
            left += 1
        if theirs is not None:
            right += 1
            taken.add(theirs)
            found = current.get(theirs)
            merged.append(wanted[theirs] if found is None else merge(structure.item, found, wanted[theirs]))
            if shared and shared[0] == theirs:
                del shared[0]
    unchanged = len(merged) == len(live) and all(one is other for one, other in zip(merged, live, strict=True))
    return live if unchanged else merged


def remove(structure: Structure, value: Any, fields: FieldSet) -> Any:
    """`value` without `fields`; `value` itself where none of them is there."""
    if not fields or not value:
        return value
    if isinstance(value, dict):
        if not structure.is_map:
            return value
        return {} if structure.atomic_map else _remove_from_map(structure, value, fields)
    if isinstance(value, list):
        if not structure.is_list:
            return value
        return [] if structure.atomic_list else _remove_from_list(structure, value, fields)
    return value


def _remove_from_map(structure: Structure, value: Json, fields: FieldSet) -> Json:
    remaining = value
    for element, node in fields.items():
        name = element[2:]
        if not element.startswith("f:") or name not in value:
            continue
        if remaining is value:
            remaining = value.copy()
        if is_member(node):
            del remaining[name]
        else:
            remaining[name] = remove(structure.children[name], value[name], node)
    return remaining


def _remove_from_list(structure: Structure, value: list[Any], fields: FieldSet) -> list[Any]:
    remaining: list[Any] = []
    for item in value:
        node = fields.get(structure.element(item))
        if node is None:
            remaining.append(item)
        elif not is_member(node):
            remaining.append(remove(structure.item, item, node))
    return remaining
