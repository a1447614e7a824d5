"""Bodies to objects: media types, duplicate and unknown fields, wrong JSON types; texts of a Kubernetes 1.36 server."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.local.apiserver.errors import BadRequest
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.schema.crd import complete_schema
from mizzen.local.apiserver.schema.strict import MalformedError, admit, parse, parse_object
from mizzen.local.apiserver.types import Json, ResourceType

POD = next(rtype for rtype in BUILTIN_TYPES if rtype.kind == "Pod")
SECRET = next(rtype for rtype in BUILTIN_TYPES if rtype.kind == "Secret")
DEPLOYMENT = next(rtype for rtype in BUILTIN_TYPES if rtype.kind == "Deployment")
SPEC = {"type": "object", "properties": {"size": {"type": "integer"}, "color": {"type": "string"}}}
SCHEMA = complete_schema({"type": "object", "properties": {"spec": SPEC}})
GADGET = ResourceType("example.com", "v1", "Gadget", "gadgets", "gadget", True, lambda: SCHEMA, custom=True)
JSON, YAML = "application/json", "application/yaml"


def read(
    rtype: ResourceType, body: str | Json, media_type: str = JSON, field_validation: str = "Strict"
) -> tuple[Json, list[str]]:
    text = body if isinstance(body, str) else json.dumps(body)
    obj, duplicates = parse_object(text.encode(), media_type, rtype)
    return admit(rtype, obj, duplicates, field_validation)


def refusal(rtype: ResourceType, body: str | Json, media_type: str = JSON) -> str:
    with pytest.raises(BadRequest) as caught:
        read(rtype, body, media_type)
    return caught.value.message


def pod(**spec: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}


GO = 'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal'
MISTYPED: list[tuple[Json, str]] = [
    (pod(hostNetwork="yes"), f"{GO} string into Go struct field PodSpec.spec.hostNetwork of type bool"),
    (pod(containers=[{"name": 5}]), f"{GO} number into Go struct field Container.spec.containers.name of type string"),
    (pod(containers={}), f"{GO} object into Go struct field PodSpec.spec.containers of type []v1.Container"),
    (pod(containers=["a"]), f"{GO} string into Go struct field PodSpec.spec.containers of type v1.Container"),
    (
        pod(containers=[{"command": "x"}]),
        f"{GO} string into Go struct field Container.spec.containers.command of type []string",
    ),
    (
        pod(containers=[{"ports": [{"containerPort": 99999999999}]}]),
        f"{GO} number 99999999999 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
    ),
    (
        {**pod(), "metadata": {"labels": {"a": 1}}},
        f"{GO} number into Go struct field ObjectMeta.metadata.labels of type string",
    ),
    (
        {**pod(), "metadata": {"labels": []}},
        f"{GO} array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
    ),
    ({**pod(), "spec": []}, f"{GO} array into Go struct field Pod.spec of type v1.PodSpec"),
    (
        {**pod(), "metadata": {"creationTimestamp": "x"}},
        (
            'Pod in version "v1" cannot be handled as a Pod: parsing time "x" as "2006-01-02T15:04:05Z07:00": '
            'cannot parse "x" as "2006"'
        ),
    ),
    (
        pod(containers=[{"resources": {"limits": {"cpu": "x"}}}]),
        (
            'Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ),
    ),
]


@pytest.mark.parametrize(("body", "expected"), MISTYPED, ids=[text[-45:] for _, text in MISTYPED])
def test_a_wrong_json_type_is_told_as_go_tells_it(body: Json, expected: str) -> None:
    assert refusal(POD, body) == expected


def test_data_that_is_no_base64_is_told() -> None:
    assert refusal(SECRET, {"data": {"a": "%%%"}}) == (
        'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0'
    )


def test_custom_resources_have_typed_metadata() -> None:
    told = 'Gadget in version "v1" cannot be handled as a Gadget: json: cannot unmarshal number into Go '
    assert refusal(GADGET, {"metadata": {"name": 5}}) == f"{told}struct field ObjectMeta.name of type string"
    assert refusal(GADGET, {"metadata": 5}) == f"{told}value of type v1.ObjectMeta"
    read(GADGET, {"metadata": {"name": "a"}, "spec": {"size": "wrong, and told by validation"}})


TWICE = '{"metadata":{"name":"a","foo":1},"spec":{"size":1,"foo":2,"color":"red","color":"blue"}}'
NAMED = ['duplicate field "spec.color"', 'unknown field "metadata.foo"', 'unknown field "spec.foo"']


def test_unknown_and_duplicate_fields_are_refused_named_or_dropped() -> None:
    start = 'Gadget in version "v1" cannot be handled as a Gadget: strict decoding error: '
    assert refusal(GADGET, TWICE) == start + ", ".join(NAMED)
    clean = {"metadata": {"name": "a"}, "spec": {"size": 1, "color": "blue"}}
    assert read(GADGET, TWICE, field_validation="Warn") == (clean, NAMED)
    assert read(GADGET, TWICE, field_validation="Ignore") == (clean, [])


def test_yaml_tells_duplicates_by_line() -> None:
    body = "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: a, name: b}\nspec: {size: 1, n: 1}\n"
    assert refusal(GADGET, body, YAML) == (
        'Gadget in version "v1" cannot be handled as a Gadget: strict decoding error: yaml: unmarshal errors:\n'
        '  line 3: key "name" already set in map, unknown field "spec.false"'
    )
    assert read(GADGET, body, YAML, "Warn")[1] == [
        'line 3: key "name" already set in map', 'unknown field "spec.false"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "media_type", "expected"),
    [
        ('{"a"', JSON, 'json parse error: unexpected end of JSON input ({"a")'),
        ("", JSON, "json parse error: unexpected end of JSON input (<empty>)"),
        ("[]", JSON, "json parse error: json: cannot unmarshal array into Go value of type struct"),
        ("a: b: c", YAML, "yaml: line 1: mapping values are not allowed in this context"),
        ("[" * 100_000, YAML, "expected at most 200 levels"),
        ("[" * 100_000, JSON, "json parse error:"),
        ("a: .inf", YAML, "expected a number that JSON can say"),
    ],
)
def test_bodies_that_are_no_object_are_refused(body: str, media_type: str, expected: str) -> None:
    told = refusal(POD, body, media_type)
    assert told.startswith("the object provided is unrecognized (must be of type Pod): couldn't get version/kind; ")
    assert expected in told


def test_json_is_taken_where_yaml_is_said() -> None:
    """kubectl sends JSON as `application/apply-patch+yaml`."""
    assert parse(b' {"a": 1}', "application/apply-patch+yaml").value == {"a": 1}
    assert parse(b"{a: 1}", "application/apply-patch+yaml").value == {"a": 1}
    assert parse(b"null", JSON).value is None


def test_whole_numbers_are_integers() -> None:
    """Go reads 2.0 as a float and writes 2."""
    value = parse(b'{"a": 2.0, "b": 1e3, "c": 1.5}').value
    assert [(item, type(item)) for item in value.values()] == [(2, int), (1000, int), (1.5, float)]


def test_numbers_that_are_not_numbers_are_refused() -> None:
    for body in (b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1e999}'):
        with pytest.raises(MalformedError):
            parse(body)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(TREES, st.sampled_from([None, 2]))
def test_nothing_is_called_a_duplicate_that_is_none(value: Any, indent: int | None) -> None:
    body = json.dumps(value, indent=indent).encode()
    parsed = parse(body)
    assert (parsed.value, parsed.duplicates) == (value, ())


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.integers(0, 3))
def test_every_duplicate_is_found(keys: list[str], depth: int) -> None:
    body = "{" + ",".join(f'"{key}":1' for key in keys) + "}"
    for _ in range(depth):
        body = '{"x":[' + body + "]}"
    repeated = [key for index, key in enumerate(keys) if key in keys[:index]]
    prefix = ".".join(["x[0]"] * depth) + ("." if depth else "")
    assert parse(body.encode()).duplicates == tuple(f'duplicate field "{prefix}{key}"' for key in repeated)
