"""CustomResourceDefinitions: what is refused, which types they make, which names are accepted."""

import copy
from typing import Any

import pytest

from mizzen.kinds.crd import crds
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.schema.crd import check_crd, resource_types, status_of
from mizzen.local.apiserver.schema.structural import default, prune, validate
from mizzen.local.apiserver.types import Json, ScalePaths

CRD = next(rtype for rtype in BUILTIN_TYPES if rtype.kind == "CustomResourceDefinition")
STRING = {"type": "string"}


def crd(schema: Json | None = None, **changes: Any) -> Json:
    """A definition of widgets; `changes` replace parts of its spec, by path with dots as `__`."""
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema or {"type": "object"}},
    }
    made: Json = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version],
        },
    }
    for path, value in changes.items():
        *around, last = path.split("__")
        place = made["spec"]
        for step in around:
            place = place[int(step) if step.isdigit() else step]
        place[last] = value
    return default(CRD.schema, made)


def texts(definition: Json, old: Json | None = None) -> set[str]:
    causes = [*check_crd(definition, old), *validate(CRD.schema, definition)]
    return {f"{cause.field}: {cause.message}" for cause in causes}


def test_names_and_conversion_are_filled_in() -> None:
    made = crd()
    assert made["spec"]["names"] == {
        "plural": "widgets",
        "kind": "Widget",
        "singular": "widget",
        "listKind": "WidgetList",
    }
    assert made["spec"]["conversion"] == {"strategy": "None"}
    assert made["status"]["storedVersions"] == ["v1"]
    assert texts(made) == set()


PLACE = "spec.versions[0].schema.openAPIV3Schema"
REFUSED: list[tuple[Json, set[str]]] = [
    (
        {**crd(), "metadata": {"name": "x.y"}},
        {'metadata.name: Invalid value: "x.y": must be spec.names.plural+"."+spec.group'},
    ),
    (
        crd(group="example"),
        {
            'metadata.name: Invalid value: "widgets.example.com": must be spec.names.plural+"."+spec.group',
            'spec.group: Invalid value: "example": should be a domain with at least one dot',
        },
    ),
    (crd(versions__0__schema={}), {f"{PLACE}: Required value"}),
    (crd(scope="Galaxy"), {'spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"'}),
    (
        crd(conversion={"strategy": "Webhook"}),
        {'spec.conversion.strategy: Unsupported value: "Webhook": supported values: "None"'},
    ),
    (
        crd(versions__0__additionalPrinterColumns=[{"name": "A", "type": "text", "jsonPath": "spec.a"}]),
        {
            ('spec.versions[0].additionalPrinterColumns[0].type: Invalid value: "text": must be one of '
            "boolean,date,integer,number,string"),
            ('spec.versions[0].additionalPrinterColumns[0].JSONPath: Invalid value: "spec.a": must be a simple json '
            "path starting with ."),
        },
    ),
    (
        crd(versions__0__subresources={"scale": {"specReplicasPath": ".status.x"}}),
        {
            ('spec.versions[0].subresources.scale.specReplicasPath: Invalid value: ".status.x": should be a json path '
            "under .spec"),
            "spec.versions[0].subresources.scale.statusReplicasPath: Required value",
        },
    ),
    (crd({"type": "string"}), {f'{PLACE}.type: Invalid value: "string": must be object at the root'}),
    (
        crd({"type": "object", "properties": {"a": {}}}),
        {f"{PLACE}.properties[a].type: Required value: must not be empty for specified object fields"},
    ),
    (
        crd({"type": "object", "properties": {"a": {"type": "array"}}}),
        {f"{PLACE}.properties[a].items: Required value: must be specified"},
    ),
    (
        crd({"type": "object", "properties": {"a": {"$ref": "#/x"}}}),
        {f"{PLACE}.properties[a].$ref: Forbidden: $ref is not supported"},
    ),
    (
        crd({"type": "object", "properties": {"a": STRING}, "additionalProperties": False}),
        {
            f"{PLACE}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            f"{PLACE}.additionalProperties: Forbidden: additionalProperties cannot be set to false",
        },
    ),
    (
        crd({"type": "object", "properties": {"a": STRING}, "anyOf": [{"properties": {"a": {"type": "string"}}}]}),
        {f"{PLACE}.anyOf[0].properties[a].type: Forbidden: must be empty to be structural"},
    ),
    (
        crd({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
        {
            (f'{PLACE}.properties[a].pattern: Invalid value: "(": must be a valid regular expression, but isn\'t: '
            "missing ), unterminated subpattern at position 0")
        },
    ),
    (
        crd({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}),
        {
            (f'{PLACE}.properties[a].default: Invalid value: "string": default in body must be of type '
            'integer: "string"'),
        },
    ),
    (
        crd({"type": "object", "properties": {"a": {"type": "object", "default": {"b": 1}}}}),
        {f'{PLACE}.properties[a].default: Invalid value: {{"b":1}}: must be pruned'},
    ),
    (
        crd({"type": "object", "properties": {"metadata": {
            "type": "object", "properties": {"labels": {"type": "object"}},
        }}}),
        {
            (f"{PLACE}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, "
            "but metadata is implicitly specified")
        },
    ),
    (
        crd({"type": "object", "properties": {"a": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": STRING}},
        }}}),
        {
            (f"{PLACE}.properties[a].items.properties[k].default: Required value: this property is in "
            "x-kubernetes-list-map-keys, so it must have a default or be a required property")
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "expected"), REFUSED, ids=[sorted(expected)[0][-50:] for _, expected in REFUSED]
)
def test_definitions_that_kubernetes_refuses(definition: Json, expected: set[str]) -> None:
    assert texts(definition) == expected


def test_exactly_one_version_is_stored() -> None:
    one = crd()["spec"]["versions"][0]
    both = crd(versions=[one, {**one, "name": "v2"}])
    assert {text.partition(":")[0] for text in texts(both)} == {"spec.versions"}
    assert texts(crd(versions=[one, {**one, "name": "v2", "storage": False}])) == set()


def test_an_update_keeps_group_scope_and_stored_versions() -> None:
    old = crd()
    assert texts(crd(), old) == set()
    assert texts(crd(scope="Cluster"), old) == {'spec.scope: Invalid value: "Cluster": field is immutable'}
    moved = crd(versions__0__name="v2")
    moved["status"] = {"storedVersions": ["v1", "v2"]}
    assert {text.partition(":")[0] for text in texts(moved, old)} == {"status.storedVersions[0]"}


def test_the_definitions_of_our_kinds_are_accepted() -> None:
    """And every default in them is valid, so that an empty spec of a kind that needs nothing is complete."""
    for definition in crds():
        assert texts(default(CRD.schema, definition)) == set()


def test_a_type_for_each_served_version() -> None:
    first = crd()["spec"]["versions"][0]
    second = {
        **first, "name": "v1beta1", "storage": False, "deprecated": True,
        "subresources": {
            "status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"},
        },
        "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.n"}],
    }  # fmt: skip
    third = {**first, "name": "v1alpha1", "storage": False, "served": False}
    v1, beta = resource_types(crd(versions=[first, second, third], names__shortNames=["wd"]))
    assert (v1.api_version, v1.kind, v1.plural, v1.short_names, v1.custom) == (
        "example.com/v1", "Widget", "widgets", ("wd",), True,
    )  # fmt: skip
    assert [column.name for column in v1.columns] == ["Age"]
    assert (beta.subresources, beta.scale) == ({"status", "scale"}, ScalePaths(".spec.n", ".status.n"))
    assert [column.name for column in beta.columns] == ["N"]
    assert beta.deprecation == "example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget"
    assert (v1.storage_version, beta.storage_version) == ("v1", "v1")


def test_metadata_is_complete_and_may_be_restricted() -> None:
    named = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}
    schema = resource_types(crd({"type": "object", "properties": {"metadata": named}}))[0].schema
    obj = {"metadata": {"name": "abcd", "labels": {"a": "b"}, "what": 1}}
    assert prune(schema, obj)[1] == ["metadata.what"]
    assert next(cause.field for cause in validate(schema, obj)) == "metadata.name"


def accepted(definition: Json, *others: Json) -> Json:
    return {**definition, "status": status_of(definition, others, "2026-01-31T12:00:00Z")}


def conditions(definition: Json) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in definition["status"]["conditions"]}


def test_free_names_are_accepted_and_the_definition_established() -> None:
    made = accepted(crd())
    assert made["status"]["acceptedNames"] == made["spec"]["names"]
    assert made["status"]["storedVersions"] == ["v1"]
    assert conditions(made) == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    assert accepted(made) == made


def test_a_name_that_is_taken_is_not_accepted() -> None:
    taken = accepted(crd(names__shortNames=["wd"]))
    names = {
        "plural": "gadgets",
        "kind": "Widget",
        "singular": "gadget",
        "listKind": "GadgetList",
        "shortNames": ["wd"],
    }
    other = crd(names=names)
    other["metadata"] = {"name": "gadgets.example.com"}
    refused = accepted(other, taken)
    assert conditions(refused) == {"NamesAccepted": ("False", "KindConflict"), "Established": ("False", "NotAccepted")}
    assert refused["status"]["acceptedNames"] == {"plural": "gadgets", "singular": "gadget", "listKind": "GadgetList"}
    elsewhere = copy.deepcopy(taken)
    elsewhere["spec"]["group"] = "other.example.com"
    assert conditions(accepted(other, elsewhere))["Established"][0] == "True"
    freed = accepted(refused)
    assert conditions(freed)["Established"] == ("True", "InitialNamesAccepted")


def test_a_new_storage_version_is_remembered_beside_the_old_one() -> None:
    made = accepted(crd())
    made["spec"]["versions"][0]["storage"] = False
    made["spec"]["versions"].append({**made["spec"]["versions"][0], "name": "v2", "storage": True})
    assert accepted(made)["status"]["storedVersions"] == ["v1", "v2"]
