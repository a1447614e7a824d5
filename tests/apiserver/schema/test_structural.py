"""Validation, defaulting and pruning by structural schemas.

Validation has a fast form that says yes or no and a slow one that says why: they must agree, and with a naive reading
of the schema. Texts are those of a Kubernetes 1.36 API server for the same schema and object.
"""

import copy
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema.causes import invalid_error, number
from mizzen.local.apiserver.schema.crd import complete_schema
from mizzen.local.apiserver.schema.explain import explain
from mizzen.local.apiserver.schema.nodes import compiled, same
from mizzen.local.apiserver.schema.structural import default, node_of, prune, validate

GADGET: dict[str, Any] = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10},
        "color": {"type": "string", "enum": ["red", "blue"], "default": "blue"},
        "num": {"type": "number"},
        "l": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "minItems": 1},
        "b": {"type": "boolean"},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "ios": {"x-kubernetes-int-or-string": True},
        "e": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "x-kubernetes-preserve-unknown-fields": True,
        },
        "lm": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}},
        },
        "s": {"type": "string", "maxLength": 3, "pattern": "^a"},
        "i32": {"type": "integer", "format": "int32"},
        "d": {"type": "string", "format": "date-time"},
    },
    "oneOf": [{"required": ["size"]}, {"required": ["num"]}],
}
WHOLE = {"type": "object", "properties": {"spec": GADGET}}


def texts(causes: list[Cause]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in causes]


ONE_OF = '<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf).'
WRONG: list[tuple[Any, list[str]]] = [
    (
        {"size": "a"},
        ['spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'],
    ),
    ({}, [f"{ONE_OF} Found none valid", "spec.size: Required value"]),
    ({"size": 1, "num": 2}, [f"{ONE_OF} Found 2 valid alternatives"]),
    (
        {"size": 1.5},
        [
            'spec.size: Invalid value: "number": spec.size in body must be of type integer: "number"',
            '<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.size',
        ],
    ),
    ({"num": 1, "l": []}, ["spec.l: Invalid value: 0: spec.l in body should have at least 1 items"]),
    (
        {"num": 1, "l": ["a", "b", 3]},
        [
            'spec.l[2]: Invalid value: "integer": spec.l[2] in body must be of type string: "integer"',
            "spec.l: Too many: 3: must have at most 2 items",
        ],
    ),
    ({"num": 1, "l": [None]}, ['spec.l[0]: Invalid value: "null": spec.l[0] in body must be of type string: "null"']),
    (
        {"num": 1, "ios": True},
        ['spec.ios: Invalid value: "boolean": spec.ios in body must be of type integer,string: "boolean"'],
    ),
    (
        {"num": 1, "m": {"a": "x"}},
        ['spec.m.a: Invalid value: "string": spec.m.a in body must be of type integer: "string"'],
    ),
    (
        {"num": 1, "lm": [{"k": "a"}, {"k": "a"}, {}]},
        ["spec.lm[2].k: Required value", 'spec.lm[1]: Duplicate value: {"k":"a"}'],
    ),
    ({"num": 1, "s": "abcd"}, ["spec.s: Too long: may not be more than 3 bytes"]),
    ({"num": 1, "s": "b"}, ["spec.s: Invalid value: \"b\": spec.s in body should match '^a'"]),
    (
        {"num": 1, "i32": 3_000_000_000},
        ['<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.i32'],
    ),
    ({"num": 1, "d": "x"}, ['spec.d: Invalid value: "x": spec.d in body must be of type date-time: "x"']),
    ({"size": 11}, ["spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"]),
    ({"num": 1, "color": "green"}, ['spec.color: Unsupported value: "green": supported values: "red", "blue"']),
    (
        [],
        [
            'spec: Invalid value: "array": spec in body must be of type object: "array"',
            f"{ONE_OF} Found 2 valid alternatives",
        ],
    ),
    (
        {"num": 1, "e": {"kind": "A_", "metadata": {"name": "A/", "labels": {"a": "_"}}}},
        [
            "spec.e.apiVersion: Required value",
            (
                'spec.e.kind: Invalid value: "A_": may have mixed case, but should otherwise match: a DNS-1035 label '
                "must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and "
                "end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
                "'[a-z]([-a-z0-9]*[a-z0-9])?')"
            ),
            "spec.e.metadata.name: Invalid value: \"A/\": may not contain '/'",
            (
                'spec.e.metadata.labels: Invalid value: "_": a valid label must be an empty string or consist of '
                "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. "
                "'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ),
        ],
    ),
]


@pytest.mark.parametrize(("spec", "expected"), WRONG, ids=[str(spec)[:40] for spec, _ in WRONG])
def test_wrong_objects_are_told_in_kubernetes_words(spec: Any, expected: list[str]) -> None:
    assert texts(validate(WHOLE, {"spec": spec})) == expected


@pytest.mark.parametrize(
    "spec",
    [{"size": 1}, {"size": 2.0}, {"num": 1e21}, {"num": 1, "ios": "x"}, {"num": 1, "ios": 3}, {"num": 1, "l": ["a"]}],
)
def test_right_objects_are_accepted(spec: Any) -> None:
    assert validate(WHOLE, {"spec": spec}) == []


METADATA = st.dictionaries(
    st.sampled_from(["name", "labels", "annotations", "finalizers", "ownerReferences", "generation", "x"]),
    st.sampled_from([None, 5, "x", "-", [], [5], ["a"], [{"uid": 5}], [{"uid": "u"}], {}, {"a": 1}, {"a": "b"}]),
)


@given(METADATA)
def test_no_metadata_of_an_object_inside_is_too_strange(metadata: dict[str, Any]) -> None:
    obj = {"spec": {"num": 1, "e": {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}}}
    validate(WHOLE, obj)
    completed = complete_schema(WHOLE)
    kept, unknown = prune(completed, obj)
    assert ("spec.e.metadata.x" in unknown) is ("x" in metadata)
    validate(completed, kept)


def test_the_answer_names_the_kind_and_every_cause() -> None:
    error = invalid_error("Gadget", "example.com", "a", validate(WHOLE, {"spec": {"num": 1, "s": "b", "b": 1}}))
    assert error.to_status()["code"] == 422
    assert error.message.startswith('Gadget.example.com "a" is invalid: [spec.b: Invalid value: "integer": ')
    assert [cause["field"] for cause in error.to_status()["details"]["causes"]] == ["spec.b", "spec.s"]


def test_an_update_is_not_refused_for_what_it_does_not_change() -> None:
    """A schema made stricter does not lock the objects that are there (Kubernetes calls it ratcheting)."""
    old = {"spec": {"num": 1, "s": "wrong", "lm": [{"k": "a", "v": 1}, {"k": "b"}]}}
    assert validate(WHOLE, old) != []
    assert validate(WHOLE, {"spec": {**old["spec"], "num": 2}}, old=old) == []
    changed = {"spec": {**old["spec"], "s": "other"}}
    assert [cause.field for cause in validate(WHOLE, changed, old=old)] == ["spec.s"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (1.5, "1.5"), (1e6, "1e+06"), (12345678.5, "1.23456785e+07"), (100000.0, "100000"), (1e-7, "1e-07"),
     (0.0001, "0.0001"), (-2.5e10, "-2.5e+10"), (0.0, "0")],
)  # fmt: skip
def test_numbers_look_as_go_prints_them(value: float, text: str) -> None:
    assert number(value) == text


# -- generated schemas and values

SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([0.5, 2.0, -1.5]) | st.text("ab1", max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def leaf_schemas(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["string", "integer", "number", "boolean"]))
    schema: dict[str, Any] = {"type": kind}
    if draw(st.booleans()):
        schema["nullable"] = True
    if kind in {"integer", "number"} and draw(st.booleans()):
        schema |= {"minimum": draw(st.integers(-2, 2)), "maximum": draw(st.integers(2, 9))}
        if draw(st.booleans()):
            schema["exclusiveMinimum"] = True
        if draw(st.booleans()):
            schema["multipleOf"] = 2
    if kind == "string" and draw(st.booleans()):
        schema |= draw(st.sampled_from([{"maxLength": 2}, {"minLength": 1}, {"pattern": "^a"}, {"enum": ["a", "b"]}]))
    return schema


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3)
    objects = st.builds(
        lambda props, need, count: {
            "type": "object",
            "properties": props,
            **({"required": [next(iter(props))]} if need else {}),
            **({"maxProperties": count} if count else {}),
        },
        properties,
        st.booleans(),
        st.sampled_from([0, 1, 2]),
    )
    maps = st.builds(lambda values: {"type": "object", "additionalProperties": values}, inner)
    lists = st.builds(
        lambda items, kind: {"type": "array", "items": items, **kind},
        inner,
        st.sampled_from([{}, {"minItems": 1}, {"maxItems": 2}, {"x-kubernetes-list-type": "set"}]),
    )
    combined = st.builds(
        lambda schema, word, one, other: {**schema, word: [one, other]} if word != "not" else {**schema, "not": one},
        objects,
        st.sampled_from(["allOf", "anyOf", "oneOf", "not"]),
        st.sampled_from([{"required": ["a"]}, {"required": ["b"]}, {"minProperties": 2}]),
        st.sampled_from([{"required": ["c"]}, {"maxProperties": 1}]),
    )
    return objects | maps | lists | combined


SCHEMAS = st.recursive(leaf_schemas(), containers, max_leaves=6)


def naive(schema: dict[str, Any], value: Any) -> bool:
    """The schema read word by word, with no thought of speed."""
    if value is None:
        return (schema.get("nullable", False) or "type" not in schema) and "enum" not in schema
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    kinds = {
        "string": isinstance(value, str),
        "integer": is_number and float(value).is_integer(),
        "number": is_number,
        "boolean": isinstance(value, bool),
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
    }
    rules = [
        "type" not in schema or kinds[schema["type"]],
        "enum" not in schema or any(same(value, item) for item in schema["enum"]),
        all(naive(part, value) for part in schema.get("allOf", [])),
        "anyOf" not in schema or any(naive(part, value) for part in schema["anyOf"]),
        "oneOf" not in schema or [naive(part, value) for part in schema["oneOf"]].count(True) == 1,
        "not" not in schema or not naive(schema["not"], value),
    ]
    if isinstance(value, str):
        rules += [schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 99)]
        rules += [re.search(schema.get("pattern", ""), value) is not None]
    if is_number:
        low = schema.get("minimum", -(2**63))
        rules += [
            value > low if schema.get("exclusiveMinimum") else value >= low,
            value <= schema.get("maximum", 2**63),
        ]
        rules += [value % schema.get("multipleOf", 0.5) == 0]
    if isinstance(value, list):
        rules += [schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 99)]
        rules += [naive(schema["items"], item) for item in value if "items" in schema]
        if schema.get("x-kubernetes-list-type") == "set":
            rules += [not any(same(a, b) for i, a in enumerate(value) for b in value[:i])]
    if isinstance(value, dict):
        rules += [schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", 99)]
        rules += [name in value for name in schema.get("required", [])]
        for name, item in value.items():
            sub = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            rules += [sub is None or naive(sub, item)]
    return all(rules)


@settings(max_examples=1500, deadline=None)
@given(SCHEMAS, VALUES)
def test_validation_agrees_with_a_naive_reading_and_with_its_own_explanation(
    schema: dict[str, Any], value: Any
) -> None:
    node = compiled(schema)
    expected = naive(schema, value)
    assert node.accepts(value) is expected
    assert (explain(node, value, "x").causes == []) is expected


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4))
def test_pruning_drops_what_is_unknown_and_changes_nothing_else(schema: dict[str, Any], obj: dict[str, Any]) -> None:
    whole = {"type": "object", "properties": {"a": schema, "b": schema}}
    before = copy.deepcopy(obj)
    pruned, unknown = prune(whole, obj)
    assert obj == before
    assert prune(whole, pruned) == (pruned, [])
    assert (pruned is obj) is (unknown == [])
    assert set(pruned) == set(obj) & {"a", "b"}
    assert {path for path in unknown if path.isalpha()} == set(obj) - {"a", "b"}


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4))
def test_defaulting_fills_in_once_and_changes_nothing_that_is_said(schema: dict[str, Any], obj: dict[str, Any]) -> None:
    whole = {
        "type": "object",
        "properties": {"a": schema, "b": {**schema, "default": {"a": 1}}, "c": {"type": "string"}},
    }
    before = copy.deepcopy(obj)
    filled = default(whole, obj)
    assert obj == before
    assert default(whole, filled) is filled
    assert "b" in filled
    assert filled.get("c", "") is not None
    kept = {name: item for name, item in obj.items() if not isinstance(item, dict | list) and item is not None}
    assert kept.items() <= filled.items()


def test_defaults_reach_into_objects_that_are_defaults_themselves() -> None:
    scaling = {"type": "object", "properties": {"replicas": {"type": "integer", "default": 1}}, "default": {}}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"scaling": scaling}}}}
    assert default(schema, {"spec": {}}) == {"spec": {"scaling": {"replicas": 1}}}
    assert default(schema, {}) == {}
    first, second = default(schema, {"spec": {}}), default(schema, {"spec": {}})
    first["spec"]["scaling"]["replicas"] = 9
    assert second["spec"]["scaling"] == {"replicas": 1}


def test_null_counts_as_nothing_said_where_it_is_not_allowed() -> None:
    properties = {
        "plain": {"type": "string"},
        "preset": {"type": "string", "default": "x"},
        "may": {"type": "string", "nullable": True, "default": "x"},
    }
    obj = dict.fromkeys(properties)
    assert default({"type": "object", "properties": properties}, obj) == {"preset": "x", "may": None}


def test_a_schema_is_compiled_once() -> None:
    schema = {"type": "object"}
    assert node_of(schema) is node_of(schema)
    assert node_of(schema) is not node_of({"type": "object"})


def test_the_cache_of_compiled_schemas_is_bounded() -> None:
    """Definitions come and go; each update brings a new schema object."""
    first = {"type": "object", "properties": {"a": {"type": "string"}}}
    node = node_of(first)
    for _ in range(600):
        node_of({"type": "object"})
    assert node_of(first) is not node
    assert validate(first, {"a": 1}) != []
