"""Custom resource definitions: their own rules, and what they make of custom resources."""

import json

import pytest

from .client import Api, Json, Resource, eventually, refused
from .objects import ANYTHING, OPEN_SCHEMA, crd, custom, fields, schema
from .surroundings import CRDS, Namespace, is_established, served

# The definition


def test_a_definition_is_accepted_and_established(api: Api, define) -> None:
    """Conditions NamesAccepted and Established, accepted names with defaults, stored versions, generation 1."""
    group = define(names={"singular": None, "listKind": None})
    got = api.resource(CRDS).get(f"widgets.{group}")
    conditions = {one["type"]: (one["status"], one["reason"]) for one in got["status"]["conditions"]}
    assert conditions["NamesAccepted"] == ("True", "NoConflicts")
    assert conditions["Established"] == ("True", "InitialNamesAccepted")
    assert got["status"]["acceptedNames"] == {
        "plural": "widgets",
        "singular": "widget",
        "kind": "Widget",
        "listKind": "WidgetList",
    }
    assert got["status"]["storedVersions"] == ["v1"]
    assert got["metadata"]["generation"] == 1
    assert got["spec"]["conversion"] == {"strategy": "None"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda body: body["metadata"].update(name="wrong.example.com"), "metadata.name"),
        (lambda body: body["spec"].update(scope="Global"), "spec.scope"),
        (lambda body: body["spec"].update(group="Bad_Group"), "spec.group"),
        (lambda body: body["spec"]["names"].update(plural="Widgets"), "spec.names.plural"),
        (lambda body: body["spec"]["names"].update(kind="1Widget"), "spec.names.kind"),
        (lambda body: body["spec"]["names"].update(shortNames=["Bad Name"]), "spec.names.shortNames[0]"),
        (lambda body: body["spec"].update(versions=[]), "spec.versions"),
        (lambda body: body["spec"]["versions"][0].update(storage=False), "spec.versions"),
        (lambda body: body["spec"]["versions"].append(body["spec"]["versions"][0] | {"name": "v2"}), "spec.versions"),
        (
            lambda body: body["spec"]["versions"].append(body["spec"]["versions"][0] | {"storage": False}),
            "spec.versions",
        ),
        (lambda body: body["spec"]["versions"][0].update(name="V_1"), "spec.versions[0].name"),
        (lambda body: body["spec"]["versions"][0].pop("schema"), "spec.versions[0].schema.openAPIV3Schema"),
        (lambda body: body["spec"].update(preserveUnknownFields=True), "spec.preserveUnknownFields"),
    ],
    ids=range(13),
)
def test_definitions_that_are_wrong(api: Api, unique, change, field: str) -> None:
    """Names, scope, versions and storage have rules; the cause names the field."""
    body = crd(f"{unique()}.example.com")
    change(body)
    with refused(422, "Invalid", "is invalid") as error:
        api.resource(CRDS).create(body)
    assert any(found.startswith(field.split("[", maxsplit=1)[0]) for found, _ in error.causes), error.causes


S = "openAPIV3Schema"
STRUCTURAL = {
    "no-type": (fields(a={"description": "what am I"}), f"{S}.properties[spec].properties[a].type"),
    "array-without-items": (fields(a={"type": "array"}), f"{S}.properties[spec].properties[a].items"),
    "unknown-type": (fields(a={"type": "text"}), f"{S}.properties[spec].properties[a].type"),
    "both-maps": (
        {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}
        | {"properties": {"a": {"type": "string"}}},
        f"{S}.properties[spec].additionalProperties",
    ),
    "unique-items": (
        fields(a={"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        f"{S}.properties[spec].properties[a].uniqueItems",
    ),
    "ref": (fields(a={"$ref": "#/definitions/x"}), f"{S}.properties[spec].properties[a].$ref"),
    "list-map-without-keys": (
        fields(a={"type": "array", "x-kubernetes-list-type": "map", "items": fields(b={"type": "string"})}),
        f"{S}.properties[spec].properties[a].x-kubernetes-list-map-keys",
    ),
    "list-map-key-not-required": (
        fields(
            a={
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["b"],
                "items": fields(b={"type": "string"}),
            }
        ),
        f"{S}.properties[spec].properties[a].items.properties[b].default",
    ),
    "list-type-of-no-list": (
        fields(a={"type": "string", "x-kubernetes-list-type": "set"}),
        f"{S}.properties[spec].properties[a].type",
    ),
    "bad-pattern": (fields(a={"type": "string", "pattern": "("}), f"{S}.properties[spec].properties[a].pattern"),
    "bad-default": (fields(a={"type": "integer", "default": "x"}), f"{S}.properties[spec].properties[a].default"),
    "default-below-minimum": (
        fields(a={"type": "integer", "minimum": 5, "default": 1}),
        f"{S}.properties[spec].properties[a].default",
    ),
    "type-in-any-of": (
        fields(a={"type": "string", "anyOf": [{"type": "string"}]}),
        f"{S}.properties[spec].properties[a].anyOf[0].type",
    ),
    "metadata-restricted-type": (None, f"{S}.properties[metadata]"),
}


@pytest.mark.parametrize("case", STRUCTURAL)
def test_schemas_that_are_not_structural(api: Api, unique, case: str) -> None:
    """A schema must be structural; the cause names the place in it."""
    spec, field = STRUCTURAL[case]
    body = crd(f"{unique()}.example.com", schema(spec))
    if case == "metadata-restricted-type":
        body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["metadata"] = fields(
            labels={"type": "object"}
        )
    with refused(422, "Invalid") as error:
        api.resource(CRDS).create(body)
    roots = ("spec.validation.", "spec.versions[0].schema.")
    assert any(found.startswith(root + field) for found, _ in error.causes for root in roots), error.causes


def test_the_root_is_an_object(api: Api, unique) -> None:
    """The whole is an object."""
    body = crd(f"{unique()}.example.com", {"type": "string"})
    with refused(422, "Invalid"):
        api.resource(CRDS).create(body)


def test_what_of_a_definition_cannot_change(api: Api, define) -> None:
    """Group, kind, plural and scope are immutable."""
    name = f"widgets.{define()}"
    for change, field in (
        ({"scope": "Cluster"}, "spec.scope"),
        ({"names": {"kind": "Gadget"}}, "spec.names.kind"),
        ({"group": "other.example.com"}, "spec.group"),
    ):
        with refused(422, "Invalid") as error:
            api.resource(CRDS).patch(name, {"spec": change})
        assert field in {found for found, _ in error.causes}


def test_a_second_kind_of_the_same_name(api: Api, define, unique) -> None:
    """Names taken in the group are a condition, NamesAccepted=False, and nothing is served."""
    group = define()
    body = crd(group, names={"plural": "gadgets", "singular": "gadget", "kind": "Widget", "listKind": "GadgetList"})
    definitions = api.resource(CRDS)
    definitions.create(body)
    try:
        got = definitions.wait(
            f"gadgets.{group}",
            lambda one: any(c["type"] == "NamesAccepted" for c in one.get("status", {}).get("conditions") or []),
        )
        conditions = {one["type"]: one for one in got["status"]["conditions"]}
        assert (conditions["NamesAccepted"]["status"], conditions["NamesAccepted"]["reason"]) == (
            "False",
            "KindConflict",
        )
        assert conditions.get("Established", {"status": "False"})["status"] == "False"
        assert api.request("GET", f"/apis/{group}/v1/gadgets").status_code == 404
    finally:
        definitions.delete(f"gadgets.{group}")


def test_short_names_that_clash(api: Api, define) -> None:
    """A short name that another kind of the group has is a conflict."""
    group = define(names={"shortNames": ["w"]})
    body = crd(
        group,
        names={
            "plural": "gadgets",
            "singular": "gadget",
            "kind": "Gadget",
            "listKind": "GadgetList",
            "shortNames": ["w"],
        },
    )
    definitions = api.resource(CRDS)
    definitions.create(body)
    try:
        got = definitions.wait(
            f"gadgets.{group}",
            lambda one: any(c["type"] == "NamesAccepted" for c in one.get("status", {}).get("conditions") or []),
        )
        (condition,) = [one for one in got["status"]["conditions"] if one["type"] == "NamesAccepted"]
        assert (condition["status"], condition["reason"]) == ("False", "ShortNamesConflict")
    finally:
        definitions.delete(f"gadgets.{group}")


def test_deleting_a_definition_deletes_its_objects(api: Api, define, ns: Namespace) -> None:
    """The objects go, with their finalizers respected; then the route is gone."""
    group = define()
    things = ns(f"{group}/v1/widgets")
    body = custom(group, "held")
    body["metadata"]["finalizers"] = ["example.com/a"]
    things.create(custom(group, "free"))
    start = things.create(body)["metadata"]["resourceVersion"]
    definitions = api.resource(CRDS)
    definitions.delete(f"widgets.{group}")
    with things.watch(resourceVersion=start) as watch:
        events = [watch.next().brief for _ in range(2)]
    assert sorted(events) == [("DELETED", "free"), ("MODIFIED", "held")]
    got = definitions.get(f"widgets.{group}")
    assert got["metadata"]["deletionTimestamp"]
    assert got["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    with refused(403, "Forbidden", "create not allowed while custom resource definition is terminating"):
        things.create(custom(group, "late"))
    things.patch("held", {"metadata": {"finalizers": None}})
    definitions.wait_gone(f"widgets.{group}")
    eventually(lambda: api.request("GET", things.path).status_code == 404, "the route is gone")


# Validation

RULES: dict[str, tuple[Json, list[object], list[object], str]] = {
    "minimum": ({"type": "integer", "minimum": 3}, [3, 4], [2], "FieldValueInvalid"),
    "exclusive": ({"type": "number", "minimum": 3, "exclusiveMinimum": True}, [3.5], [3], "FieldValueInvalid"),
    "maximum": ({"type": "integer", "maximum": 3}, [3], [4], "FieldValueInvalid"),
    "multiple": ({"type": "integer", "multipleOf": 5}, [10], [7], "FieldValueInvalid"),
    "length": ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "žžž"], ["a"], "FieldValueInvalid"),
    "too-long": ({"type": "string", "maxLength": 3}, ["abc"], ["abcd"], "FieldValueTooLong"),
    "pattern": ({"type": "string", "pattern": "^[a-z]+$"}, ["abc"], ["a1"], "FieldValueInvalid"),
    "enum": ({"type": "string", "enum": ["a", "b"]}, ["a"], ["c"], "FieldValueNotSupported"),
    "items": ({"type": "array", "items": {"type": "integer"}, "minItems": 1}, [[1]], [[]], "FieldValueInvalid"),
    "too-many": ({"type": "array", "items": {"type": "integer"}, "maxItems": 1}, [[1]], [[1, 2]], "FieldValueTooMany"),
    "type": ({"type": "integer"}, [1], ["1", 1.5, True, [1], {}], "FieldValueTypeInvalid"),
    "string": ({"type": "string"}, ["1", ""], [1, True, []], "FieldValueTypeInvalid"),
    "boolean": ({"type": "boolean"}, [True, False], ["true", 0], "FieldValueTypeInvalid"),
    "number": ({"type": "number"}, [1, 1.5], ["1"], "FieldValueTypeInvalid"),
    "object": (fields(b={"type": "string"}), [{}, {"b": "x"}], ["x", []], "FieldValueTypeInvalid"),
    "required": (fields(["b"], b={"type": "string"}), [{"b": ""}], [{}], "FieldValueRequired"),
    "map": (
        {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
        [{"x": 1}],
        [{"x": "1"}],
        "FieldValueTypeInvalid",
    ),
    "too-many-properties": (
        {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 1},
        [{"x": 1}],
        [{"x": 1, "y": 2}],
        "FieldValueTooMany",
    ),
    "int-or-string": ({"x-kubernetes-int-or-string": True}, [1, "1"], [1.5, True, []], "FieldValueTypeInvalid"),
    "date-time": (
        {"type": "string", "format": "date-time"},
        ["2026-01-02T03:04:05Z"],
        ["yesterday"],
        "FieldValueTypeInvalid",
    ),
    "one-of": (
        {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
            "oneOf": [{"required": ["x"]}, {"required": ["y"]}],
        },
        [{"x": 1}, {"y": 1}],
        [{}, {"x": 1, "y": 1}],
        "FieldValueInvalid",
    ),
    "not": ({"type": "integer", "not": {"minimum": 5}}, [1], [7], "FieldValueInvalid"),
    "set": (
        {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        [["a", "b"]],
        [["a", "a"]],
        "FieldValueDuplicate",
    ),
    "list-map": (
        {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": fields(["k"], k={"type": "string"}),
        },
        [[{"k": "a"}, {"k": "b"}]],
        [[{"k": "a"}, {"k": "a"}]],
        "FieldValueDuplicate",
    ),
    "nullable": ({"type": "string", "nullable": True}, [None, "x"], [1], "FieldValueTypeInvalid"),
}
"""name -> (schema of spec.a, values it takes, values it refuses, the reason)"""


@pytest.fixture(scope="module")
def rules_group(api: Api):
    """One kind whose spec has a field for each rule."""
    with served(
        api, schema({"type": "object", "properties": {name: rule[0] for name, rule in RULES.items()}})
    ) as group:
        yield group


@pytest.mark.parametrize("name", RULES)
def test_values_are_validated(ns: Namespace, rules_group: str, name: str) -> None:
    """Each keyword of the schema lets right values in and refuses wrong ones, with field and reason."""
    _, right, wrong, reason = RULES[name]
    things = ns(f"{rules_group}/v1/widgets")
    for number, value in enumerate(right):
        made = things.create(custom(rules_group, f"right-{number}", {name: value}))
        assert made["spec"][name] == value
    for value in wrong:
        with refused(422, "Invalid") as error:
            things.create(custom(rules_group, "wrong", {name: value}))
        field, found = error.causes[0]
        assert field.startswith(f"spec.{name}") or name in {"one-of", "not"}, error.causes
        assert found == reason, (value, error.details)


def test_changes_are_validated(ns: Namespace, rules_group: str) -> None:
    """Updates, patches and applies too; nothing of a refused change is stored."""
    things = ns(f"{rules_group}/v1/widgets")
    made = things.create(custom(rules_group, "one", {"minimum": 5}))
    with refused(422, "Invalid"):
        things.replace(made | {"spec": {"minimum": 1}})
    with refused(422, "Invalid"):
        things.patch("one", {"spec": {"minimum": 1}})
    with refused(422, "Invalid"):
        things.apply(custom(rules_group, "one", {"minimum": 1}), force="true")
    assert things.get("one") == made


def test_status_is_validated(define, ns: Namespace) -> None:
    """The schema holds for the status subresource."""
    group = define(
        schema(properties={"status": fields(n={"type": "integer"})}), version={"subresources": {"status": {}}}
    )
    things = ns(f"{group}/v1/widgets")
    things.create(custom(group, "one"))
    with refused(422, "Invalid") as error:
        things.patch("one", {"status": {"n": "x"}}, subresource="status")
    assert error.causes[0] == ("status.n", "FieldValueTypeInvalid")


# Pruning and defaulting


def test_unknown_fields_are_pruned(define, ns: Namespace) -> None:
    """What the schema does not name is dropped, at every depth, but not below x-kubernetes-preserve-unknown-fields."""
    deep = fields(a={"type": "integer"}, free=ANYTHING)
    group = define(schema(fields(deep=deep, rows={"type": "array", "items": fields(k={"type": "string"})})))
    things = ns(f"{group}/v1/widgets")
    spec = {
        "x": 1,
        "deep": {"a": 1, "x": 1, "free": {"kept": {"x": 1}}},
        "rows": [{"k": "1", "x": 1}],
    }
    made = things.create(custom(group, "one", spec) | {"extra": 1})
    assert made["spec"] == {"deep": {"a": 1, "free": {"kept": {"x": 1}}}, "rows": [{"k": "1"}]}
    assert "extra" not in made


def test_preserved_objects_still_prune_what_is_named(define, ns: Namespace) -> None:
    """An open object keeps unknown fields; fields it names are pruned below."""
    open_ = ANYTHING | {"properties": {"named": fields(a={"type": "integer"})}}
    group = define(schema(open_))
    made = ns(f"{group}/v1/widgets").create(custom(group, "one", {"named": {"a": 1, "x": 1}, "other": {"y": 1}}))
    assert made["spec"] == {"named": {"a": 1}, "other": {"y": 1}}


def test_defaults(define, ns: Namespace) -> None:
    """Defaults fill in what is absent, in order, inside of what is there, in lists, and for null unless nullable."""
    spec = fields(
        a={"type": "integer", "default": 5},
        b={"type": "object", "default": {}, "properties": {"c": {"type": "string", "default": "x"}}},
        d={"type": "object", "properties": {"e": {"type": "string", "default": "y"}}},
        rows={"type": "array", "items": fields(k={"type": "string", "default": "z"}, v={"type": "integer"})},
        maybe={"type": "string", "nullable": True, "default": "set"},
    )
    group = define(schema(spec))
    things = ns(f"{group}/v1/widgets")
    made = things.create(custom(group, "one", {"rows": [{"v": 1}, {"k": "own"}], "a": None, "maybe": None}))
    assert made["spec"] == {"a": 5, "b": {"c": "x"}, "rows": [{"v": 1, "k": "z"}, {"k": "own"}], "maybe": None}
    assert things.create(custom(group, "two", {"d": {}}))["spec"]["d"] == {"e": "y"}
    assert "spec" not in things.create(custom(group, "three"))


def test_defaults_are_seen_on_old_objects(api: Api, define, ns: Namespace) -> None:
    """A default that comes later is applied when an old object is read."""
    group = define(schema(fields(a={"type": "integer"})))
    things = ns(f"{group}/v1/widgets")
    things.create(custom(group, "old", {}))
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/b"
    change = [{"op": "add", "path": path, "value": {"type": "string", "default": "new"}}]
    api.resource(CRDS).patch(f"widgets.{group}", change, "json")
    eventually(lambda: things.get("old")["spec"].get("b") == "new", "the default is seen")


def test_embedded_resources(define, ns: Namespace) -> None:
    """x-kubernetes-embedded-resource: an object with apiVersion, kind and metadata."""
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    group = define(schema(fields(template=embedded)))
    things = ns(f"{group}/v1/widgets")
    template = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "unknown": 1}, "spec": {"a": 1}}
    made = things.create(custom(group, "one", {"template": template}))
    assert made["spec"]["template"]["spec"] == {"a": 1}
    with refused(422, "Invalid"):
        things.create(custom(group, "two", {"template": {"spec": {}}}))


def test_metadata_is_always_there(define, ns: Namespace) -> None:
    """Whatever the schema says, metadata, kind and apiVersion are Kubernetes' own."""
    group = define({"type": "object"})
    things = ns(f"{group}/v1/widgets")
    body = custom(group, "one", {"a": 1})
    body["metadata"]["labels"] = {"l": "1"}
    made = things.create(body)
    assert made["metadata"]["labels"] == {"l": "1"}
    assert "spec" not in made
    body["metadata"] = {"name": "two", "labels": {"l": 1}}
    with refused(400, "BadRequest"):
        things.create(body)


def test_metadata_names_may_be_narrowed(define, ns: Namespace) -> None:
    """The schema may restrict metadata.name."""
    narrowed = schema(ANYTHING, properties={"metadata": fields(name={"type": "string", "maxLength": 5})})
    group = define(narrowed)
    things = ns(f"{group}/v1/widgets")
    things.create(custom(group, "short"))
    with refused(422, "Invalid") as error:
        things.create(custom(group, "longer"))
    assert error.causes[0][0] == "metadata.name"


# Versions


def test_several_versions(define, ns: Namespace, api: Api) -> None:
    """An object is read and written in each served version, each with its own schema; the object is one."""
    versions = [
        {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": OPEN_SCHEMA}},
        {
            "name": "v1beta1",
            "served": True,
            "storage": False,
            "schema": {"openAPIV3Schema": OPEN_SCHEMA},
            "deprecated": True,
        },
        {"name": "v1alpha1", "served": False, "storage": False, "schema": {"openAPIV3Schema": OPEN_SCHEMA}},
    ]
    group = define(versions=versions)
    stable, beta = ns(f"{group}/v1/widgets"), ns(f"{group}/v1beta1/widgets")
    made = beta.create(custom(group, "one", {"a": 1}, version="v1beta1"))
    got = stable.get("one")
    assert (made["apiVersion"], got["apiVersion"]) == (f"{group}/v1beta1", f"{group}/v1")
    assert got["metadata"]["uid"] == made["metadata"]["uid"]
    assert got["spec"] == {"a": 1}
    stable.patch("one", {"spec": {"a": 2}})
    assert beta.list()["items"][0]["spec"] == {"a": 2}
    assert beta.list()["items"][0]["apiVersion"] == f"{group}/v1beta1"
    assert api.request("GET", f"/apis/{group}/v1alpha1/widgets").status_code == 404
    response = api.request("GET", beta.path)
    assert response.headers["warning"] == f'299 - "{group}/v1beta1 Widget is deprecated; use {group}/v1 Widget"'


def test_versions_are_ordered(api: Api, define) -> None:
    """Stable before beta before alpha, high before low: the first is the preferred one."""
    names = ["v1alpha2", "v10", "v2", "v1beta3", "foo"]
    versions = [
        {"name": name, "served": True, "storage": name == "foo", "schema": {"openAPIV3Schema": OPEN_SCHEMA}}
        for name in names
    ]
    group = define(versions=versions)
    eventually(lambda: api.request("GET", f"/apis/{group}").status_code == 200, "the group is discovered")
    got = api.get(f"/apis/{group}")
    assert [one["version"] for one in got["versions"]] == ["v10", "v2", "v1beta3", "v1alpha2", "foo"]
    assert got["preferredVersion"]["version"] == "v10"


def test_a_version_can_be_added(api: Api, define, ns: Namespace) -> None:
    """A new served version is served soon; storedVersions remembers where objects may lie."""
    group = define()
    ns(f"{group}/v1/widgets").create(custom(group, "one", {"a": 1}))
    new = {"name": "v2", "served": True, "storage": True, "schema": {"openAPIV3Schema": OPEN_SCHEMA}}
    change = [
        {"op": "replace", "path": "/spec/versions/0/storage", "value": False},
        {"op": "add", "path": "/spec/versions/-", "value": new},
    ]
    api.resource(CRDS).patch(f"widgets.{group}", change, "json")
    newer = ns(f"{group}/v2/widgets")
    eventually(lambda: api.request("GET", newer.path).status_code == 200, "v2 is served")
    assert newer.get("one")["spec"] == {"a": 1}
    got = api.resource(CRDS).wait(f"widgets.{group}", lambda one: len(one["status"]["storedVersions"]) == 2)
    assert got["status"]["storedVersions"] == ["v1", "v2"]
    with refused(422, "Invalid") as error:
        api.resource(CRDS).patch(f"widgets.{group}", [{"op": "remove", "path": "/spec/versions/0"}], "json")
    assert "status.storedVersions" in error.causes[0][0]


def test_cluster_scope(api: Api, define, unique) -> None:
    """A cluster-scoped kind has no namespace in path or metadata."""
    group = define(scope="Cluster")
    things = api.resource(f"{group}/v1/widgets")
    name = unique()
    made = things.create(custom(group, name, {"a": 1}))
    assert "namespace" not in made["metadata"]
    assert things.names() == [name]
    assert api.request("GET", f"/apis/{group}/v1/namespaces/default/widgets").status_code == 404
    things.delete(name)


def test_a_name_with_dots_is_one_name(widgets: Resource, widgets_group: str) -> None:
    """Custom resources have DNS subdomain names."""
    widgets.create(custom(widgets_group, "a.b-c.1"))
    assert widgets.names() == ["a.b-c.1"]
    with refused(422, "Invalid"):
        widgets.create(custom(widgets_group, "Bad_Name"))


def test_definitions_update_by_apply(api: Api, define) -> None:
    """A definition is an object like others: server-side apply works on it."""
    group = define()
    body = crd(group, names={"shortNames": ["wdgt"]})
    got = api.resource(CRDS).apply(body, force="true")
    assert got["spec"]["names"]["shortNames"] == ["wdgt"]
    accepted = api.resource(CRDS).wait(
        f"widgets.{group}", lambda one: one["status"]["acceptedNames"].get("shortNames") == ["wdgt"]
    )
    assert is_established(accepted)


def test_a_kind_is_served_at_once(api: Api, define, ns: Namespace) -> None:
    """Once it is established, an object can be created with no further wait."""
    for _ in range(3):
        group = define()
        assert ns(f"{group}/v1/widgets").create(custom(group, "one", {"a": 1}))["spec"] == {"a": 1}


def test_custom_resources_in_yaml(widgets: Resource, widgets_group: str) -> None:
    """YAML bodies and answers for custom resources."""
    body = f"apiVersion: {widgets_group}/v1\nkind: Widget\nmetadata: {{name: one}}\nspec: {{on: yes, n: 012, s: '1'}}\n"
    headers = {"Content-Type": "application/yaml"}
    response = widgets.api.request("POST", widgets.path, content=body.encode(), headers=headers)
    assert response.status_code == 201, response.text
    assert json.loads(response.text)["spec"]["s"] == "1"
