"""Comparing, merging and pruning by structure, against naive ones that flatten objects into leaves."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from tests.apiserver.patch.builders import DEPLOYMENTS, PODS, SPEC, WIDGET, specs

from mizzen.local.apiserver.patch.applied import named_fields, problems
from mizzen.local.apiserver.patch.comparison import compare
from mizzen.local.apiserver.patch.fields import FieldSet, Path, from_paths, paths
from mizzen.local.apiserver.patch.merging import merge, remove
from mizzen.local.apiserver.patch.structure import Structure, StructureError, structure_of
from mizzen.local.apiserver.patch.values import same
from mizzen.local.apiserver.types import Json

SPEC_STRUCTURE = Structure(SPEC, preserve=False)
Flat = dict[Path, Any]

LISTS = {"ports": ("port", "protocol"), "items": ("name",), "set": (), "numbers": (), "tags": ()}
ATOMIC = {"atomicMap", "atomicList"}


def flatten(value: Any, path: Path = (), name: str = "") -> Flat:
    """Every container that is taken apart, and every leaf, by its path: written for SPEC only, and by hand."""
    inside = any(element in path for element in ("f:anything", "f:untyped"))
    if name in ATOMIC and not inside:
        return {path: ("leaf", json.dumps(value, sort_keys=True))}
    if isinstance(value, dict) and value:
        flat: Flat = {path: "map"}
        for key, below in value.items():
            flat |= flatten(below, (*path, f"f:{key}"), key)
        return flat
    if isinstance(value, list) and value and name in LISTS and not inside:
        flat = {path: "list"}
        for item in value:
            keys = {key: item.get(key, "TCP") for key in LISTS[name]} if LISTS[name] else None
            element = f"v:{json.dumps(item)}" if keys is None else "k:" + json.dumps(keys, separators=(",", ":"))
            flat |= flatten(item, (*path, element))
        return flat
    return {path: ("leaf", json.dumps(value, sort_keys=True))}


def as_set(found: set[Path]) -> FieldSet:
    return from_paths(sorted(path for path in found if path))


@given(specs(), specs())
def test_compare_agrees_with_comparing_leaves(old: Json, new: Json) -> None:
    """Removed and added are the paths that only one side has; modified those of leaves that differ."""
    before, after = flatten(old), flatten(new)
    comparison = compare(SPEC_STRUCTURE, old, new)
    assert set(paths(comparison.removed)) == {path for path in before.keys() - after.keys() if path}
    assert set(paths(comparison.added)) == {path for path in after.keys() - before.keys() if path}
    same_kind = ({"map", ("leaf", "{}")}, {"list", ("leaf", "[]")})  # an empty container is a leaf, but not another one
    mixed = {
        path
        for path in before.keys() & after.keys()
        if path and before[path] != after[path] and {before[path], after[path]} not in same_kind
    }
    assert set(paths(comparison.modified)) == mixed


@given(specs(), specs())
def test_compare_is_empty_exactly_when_nothing_differs(old: Json, new: Json) -> None:
    assert not any(compare(SPEC_STRUCTURE, old, copy.deepcopy(old)))
    flipped = compare(SPEC_STRUCTURE, new, old)
    straight = compare(SPEC_STRUCTURE, old, new)
    assert (straight.removed, straight.modified, straight.added) == (flipped.added, flipped.modified, flipped.removed)


@given(specs(), specs())
def test_merge_keeps_everything_and_the_applied_leaf_wins(live: Json, applied: Json) -> None:
    before = copy.deepcopy((live, applied))
    merged = merge(SPEC_STRUCTURE, live, applied)
    flat, wanted, had = flatten(merged), flatten(applied), flatten(live)
    assert (live, applied) == before
    for path, leaf in wanted.items():
        if leaf not in {"map", "list", ("leaf", "{}"), ("leaf", "[]")}:
            assert flat[path] == leaf
    assert merge(SPEC_STRUCTURE, merged, applied) is merged, "a second time changes nothing, and says so by identity"
    overwritten = {path for path, leaf in wanted.items() if leaf not in {"map", "list"}}
    for path in had:
        assert path in flat or any(path[: len(above)] == above for above in overwritten)


@given(specs("set", "items"), specs("set", "items"))
def test_merged_lists_take_the_applied_order(live: Json, applied: Json) -> None:
    """Of the elements applied, and of those that only live had, the order is as it was in each."""
    merged = merge(SPEC_STRUCTURE, live, applied)
    for name, key in (("set", lambda word: word), ("items", lambda item: item["name"])):
        result = [key(value) for value in merged.get(name, [])]
        wanted = [key(value) for value in applied.get(name, [])]
        others = [key(value) for value in live.get(name, []) if key(value) not in wanted]
        assert [value for value in result if value in wanted] == wanted
        assert [value for value in result if value in others] == others
        assert len(result) == len(wanted) + len(others)


@given(specs())
def test_remove_takes_out_exactly_what_it_is_told(value: Json) -> None:
    """What an object names can be removed from it, field by field, and nothing else goes."""
    named = sorted(paths(named_fields(SPEC_STRUCTURE, value)))
    for gone in named:
        if len(gone) > 1 and gone[-2].startswith("k:") and f'"{gone[-1][2:]}"' in gone[-2]:
            continue  # an element without its key would be another
        left = remove(SPEC_STRUCTURE, value, from_paths([gone]))
        before, after = flatten(value), flatten(left)
        taken = {path for path in before if path[: len(gone)] == gone}
        assert after.keys() & taken == set()
        assert before.keys() - taken <= after.keys()
    assert remove(SPEC_STRUCTURE, value, {}) is value


# Structures


@pytest.mark.parametrize(
    ("field", "value", "element"),
    [
        ("ports", {"port": 80}, 'k:{"port":80,"protocol":"TCP"}'),
        ("ports", {"port": 80.0, "protocol": "UDP"}, 'k:{"port":80,"protocol":"UDP"}'),
        ("items", {"name": 'a"b'}, 'k:{"name":"a\\"b"}'),
        ("set", "x", 'v:"x"'),
        ("numbers", 1.0, "v:1"),
    ],
)
def test_elements_are_known_by_keys_or_value(field: str, value: Any, element: str) -> None:
    assert SPEC_STRUCTURE.children[field].element(value) == element


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("items", {}, 'omits all key fields \\["name"\\]'),
        ("items", "x", "non-map elements"),
        ("items", None, "null element"),
        ("set", {}, "a map type"),
        ("set", [], "lists as elements"),
        ("set", None, "explicit null"),
    ],
)
def test_elements_without_a_name(field: str, value: Any, why: str) -> None:
    with pytest.raises(StructureError, match=why):
        SPEC_STRUCTURE.children[field].element(value)


def test_built_in_types_know_their_keys() -> None:
    containers = structure_of(PODS.schema).children["spec"].children["containers"]
    assert containers.element({"name": "c"}) == 'k:{"name":"c"}'
    ports = containers.item.children["ports"]
    assert ports.element({"containerPort": 80}) == 'k:{"containerPort":80,"protocol":"TCP"}'
    assert structure_of(DEPLOYMENTS.schema).children["spec"].children["selector"].atomic_map


def test_a_schema_is_read_once() -> None:
    assert structure_of(WIDGET) is structure_of(WIDGET)
    assert structure_of(WIDGET) is not structure_of(copy.deepcopy(WIDGET))


def test_a_strategy_of_merge_says_what_a_list_type_would() -> None:
    """Schemas made before list types were have only the patch strategy."""
    keyed = Structure(
        {
            "type": "array",
            "items": {"type": "object"},
            "x-kubernetes-patch-strategy": "merge",
            "x-kubernetes-patch-merge-key": "ip",
        },
        preserve=False,
    )
    assert keyed.element({"ip": "1"}) == 'k:{"ip":"1"}'
    unkeyed = Structure(
        {"type": "array", "items": {"type": "string"}, "x-kubernetes-patch-strategy": "merge"}, preserve=False
    )
    assert unkeyed.element("1") == 'v:"1"'


# Applied configurations


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"text": 1}, ".text: expected string, got 1"),
        ({"number": "1"}, ".number: expected numeric (int or float), got string"),
        ({"number": True}, ".number: expected numeric (int or float), got bool"),
        ({"flag": 0}, ".flag: expected boolean, got 0"),
        ({"set": {}}, ".set: expected list, got {}"),
        ({"map": []}, ".map: expected map, got []"),
        ({"bogus": 1}, ".bogus: field not declared in schema"),
        ({"struct": {"bogus": 1}}, ".struct.bogus: field not declared in schema"),
        ({"set": ["a", "a"]}, '.set: duplicate entries for key [="a"]'),
        (
            {"ports": [{"port": 1}, {"port": 1, "protocol": "TCP"}]},
            '.ports: duplicate entries for key [port=1,protocol="TCP"]',
        ),
        ({"items": [{"name": "n", "value": 1}]}, '.items[name="n"].value: expected string, got 1'),
        ({"items": [{}]}, ".items: element 0: associative list with keys has an element that omits all key fields"),
    ],
)
def test_problems_name_the_field(spec: Json, problem: str) -> None:
    assert any(found.startswith(problem) for found in problems(SPEC_STRUCTURE, spec))


@given(specs())
def test_what_the_schema_allows_has_no_problems(spec: Json) -> None:
    assert list(problems(SPEC_STRUCTURE, spec)) == []


def test_named_fields_are_leaves_elements_and_keys_but_not_structs() -> None:
    spec = {
        "struct": {"x": "1", "deep": {}},
        "map": {"k": "v"},
        "mapOfStructs": {"k": {"p": "1"}},
        "atomicMap": {"a": "b"},
        "set": ["a"],
        "items": [{"name": "n", "labels": {}}],
        "atomicList": [],
        "numbers": [],
        "text": None,
    }
    assert named_fields(SPEC_STRUCTURE, spec) == {
        "f:atomicList": {},
        "f:atomicMap": {},
        "f:items": {'k:{"name":"n"}': {".": {}, "f:labels": {}, "f:name": {}}},
        "f:map": {"f:k": {}},
        "f:mapOfStructs": {"f:k": {".": {}, "f:p": {}}},
        "f:set": {'v:"a"': {}},
        "f:struct": {"f:deep": {}, "f:x": {}},
        "f:text": {},
    }


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ([1], [True], False),
        ({"a": 1}, {"a": 1.0}, True),
        ("1", 1, False),
    ],
)
def test_a_number_is_no_boolean(left: Any, right: Any, *, equal: bool) -> None:
    assert same(left, right) is equal
    changed = compare(SPEC_STRUCTURE, {"untyped": left}, {"untyped": right}).changed
    assert (changed == {}) is equal
