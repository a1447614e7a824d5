"""Who owns which fields: scenarios as the real API server answers them, then properties on generated objects."""

import copy
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.apiserver.patch.builders import CONFIG_MAPS, DEPLOYMENTS, FIELDS, PODS, WIDGETS, specs

from mizzen.local.apiserver.errors import BadRequest, Conflict, InternalError
from mizzen.local.apiserver.patch import managed
from mizzen.local.apiserver.patch.entries import UPDATE_ENTRIES_MAX
from mizzen.local.apiserver.patch.fields import covers, difference, intersection, path_text, paths, union
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.types import Json

MAP = "kubectl.kubernetes.io/last-applied-configuration"


def entries(live: Json) -> dict[tuple[str, str], Json]:
    """FieldsV1 by manager and operation."""
    return {
        (entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in live["metadata"].get("managedFields", [])
    }


def owned(live: Json, manager: str) -> Json:
    return next((fields for (name, _), fields in entries(live).items() if name == manager), {})


def times(live: Json) -> dict[str, str | None]:
    return {entry["manager"]: entry.get("time") for entry in live["metadata"].get("managedFields", [])}


# Creates and updates


def test_a_create_owns_all_but_what_says_which_object_it_is() -> None:
    """The server's own metadata has no owner, and neither have structs that are always there."""
    made = DEPLOYMENTS.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "it", "namespace": "n", "labels": {"a": "b"}, "resourceVersion": "7", "generation": 1},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"a": "b"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {
                        "containers": [
                            {
                                "name": "c",
                                "image": "i",
                                "resources": {"limits": {"cpu": "1"}},
                                "ports": [{"containerPort": 80}, {"containerPort": 9, "protocol": "UDP"}],
                                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                            }
                        ],
                        "tolerations": [{"key": "k"}],
                        "volumes": [{"name": "v", "emptyDir": {}}],
                    },
                },
            },
        }
    )
    assert made["metadata"]["managedFields"] == [
        {
            "manager": "creator",
            "operation": "Update",
            "apiVersion": "apps/v1",
            "time": made["metadata"]["managedFields"][0]["time"],
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"c"}': {
                                    ".": {},
                                    "f:env": {
                                        ".": {},
                                        'k:{"name":"A"}': {
                                            ".": {},
                                            "f:name": {},
                                            "f:valueFrom": {".": {}, "f:fieldRef": {}},
                                        },
                                    },
                                    "f:image": {},
                                    "f:name": {},
                                    "f:ports": {
                                        ".": {},
                                        'k:{"containerPort":9,"protocol":"UDP"}': {
                                            ".": {},
                                            "f:containerPort": {},
                                            "f:protocol": {},
                                        },
                                        'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}},
                                    },
                                    "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}}},
                                }
                            },
                            "f:tolerations": {},
                            "f:volumes": {
                                ".": {},
                                'k:{"name":"v"}': {".": {}, "f:emptyDir": {}, "f:name": {}},
                            },
                        },
                    },
                },
            },
        }
    ]


def test_a_custom_resource_has_no_structs_that_are_always_there() -> None:
    made = WIDGETS.create(WIDGETS.object({"struct": {"x": "1"}}))
    assert owned(made, "creator") == {"f:spec": {".": {}, "f:struct": {".": {}, "f:x": {}}}}


def test_an_update_takes_what_it_changes_and_frees_what_it_removes() -> None:
    made = CONFIG_MAPS.create({**CONFIG_MAPS.object(), "data": {"a": "1", "b": "1", "c": "1"}})
    changed = CONFIG_MAPS.update(made, {**made, "data": {"a": "1", "b": "2", "d": "1"}})
    assert owned(changed, "creator") == {"f:data": {".": {}, "f:a": {}}}
    assert owned(changed, "updater") == {"f:data": {"f:b": {}, "f:d": {}}}


def test_an_update_of_nothing_is_nobodys() -> None:
    made = CONFIG_MAPS.create({**CONFIG_MAPS.object(), "data": {"a": "1"}})
    assert CONFIG_MAPS.update(made, copy.deepcopy(made))["metadata"] == made["metadata"]


def test_a_subresource_has_entries_of_its_own() -> None:
    pod = PODS.create(PODS.object({"containers": [{"name": "c", "image": "i"}]}))
    running = PODS.update(pod, {**pod, "status": {"phase": "Running"}}, "kubelet", "status")
    entry = running["metadata"]["managedFields"][-1]
    assert (entry["manager"], entry["subresource"], entry["fieldsV1"]) == (
        "kubelet",
        "status",
        {"f:status": {"f:phase": {}}},
    )
    assert list(entry) == ["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource"]


def test_entries_are_in_order_of_operation_time_and_name() -> None:
    live = WIDGETS.create(WIDGETS.object({"text": "a"}), "z")
    live = WIDGETS.update(live, {**live, "spec": {"text": "a", "number": 1}}, "y")
    live = WIDGETS.apply(live, WIDGETS.object({"flag": True}), "x")
    live = WIDGETS.apply(live, WIDGETS.object({"map": {"a": "b"}}), "w")
    assert [(entry["manager"], entry["operation"]) for entry in live["metadata"]["managedFields"]] == [
        ("x", "Apply"),
        ("w", "Apply"),
        ("z", "Update"),
        ("y", "Update"),
    ]


@pytest.mark.parametrize("reset", [[], [{}]])
def test_a_client_may_reset_ownership(reset: list) -> None:
    """Nothing is tracked then until the next apply."""
    made = WIDGETS.create(WIDGETS.object({"text": "a"}))
    forgotten = WIDGETS.update(made, {**made, "metadata": {**made["metadata"], "managedFields": reset}})
    assert "managedFields" not in forgotten["metadata"]
    still = WIDGETS.update(forgotten, {**forgotten, "spec": {"text": "b"}})
    assert "managedFields" not in still["metadata"]
    applied = WIDGETS.apply(still, WIDGETS.object({"text": "b"}))
    assert set(entries(applied)) == {("applier", "Apply"), ("before-first-apply", "Update")}


def test_a_client_may_write_managed_fields() -> None:
    made = WIDGETS.create(WIDGETS.object({"text": "a"}))
    entry = {**made["metadata"]["managedFields"][0], "manager": "renamed"}
    changed = WIDGETS.update(made, {**made, "metadata": {**made["metadata"], "managedFields": [entry]}})
    assert set(entries(changed)) == {("renamed", "Update")}


@pytest.mark.parametrize(
    "broken",
    [
        {"operation": "Bogus"},
        {"apiVersion": ""},
        {"fieldsType": "FieldsV2"},
        {"fieldsV1": {"spec": {}}},
        {"fieldsV1": "x"},
        {"manager": 3},
    ],
)
def test_managed_fields_that_make_no_sense_are_ignored(broken: Json) -> None:
    made = WIDGETS.create(WIDGETS.object({"text": "a"}))
    entry = {**made["metadata"]["managedFields"][0], **broken}
    changed = WIDGETS.update(made, {**made, "metadata": {**made["metadata"], "managedFields": [entry]}})
    assert changed["metadata"]["managedFields"] == made["metadata"]["managedFields"]


def test_a_subresource_cannot_write_managed_fields() -> None:
    made = WIDGETS.create(WIDGETS.object({"text": "a"}))
    forged = {**made, "metadata": {**made["metadata"], "managedFields": [{}]}}
    assert entries(WIDGETS.update(made, forged, "m", "status")) == entries(made)


def test_the_oldest_updates_are_folded_into_one() -> None:
    live = WIDGETS.create(WIDGETS.object({"map": {}}), "m0")
    for index in range(1, 15):
        live = WIDGETS.update(live, {**live, "spec": {"map": {**live["spec"]["map"], f"k{index}": "1"}}}, f"m{index}")
    managers = [entry["manager"] for entry in live["metadata"]["managedFields"]]
    assert managers == ["ancient-changes", *(f"m{index}" for index in range(6, 15))]
    assert len(managers) == UPDATE_ENTRIES_MAX
    everything = {path for manager in managers for path in paths(owned(live, manager))}
    assert {("f:spec", "f:map", f"f:k{index}") for index in range(1, 15)} <= everything


def test_appliers_do_not_count_against_the_bound() -> None:
    live = None
    for index in range(15):
        live = WIDGETS.apply(live, WIDGETS.object({"map": {f"k{index}": "1"}}), f"m{index:02}")
    assert live is not None
    assert len(entries(live)) == 15


# Server-side apply


def test_applying_to_nothing_creates() -> None:
    made = CONFIG_MAPS.apply(None, {**CONFIG_MAPS.object(), "data": {"k": "1"}}, "m1")
    assert made["data"] == {"k": "1"}
    assert entries(made) == {("m1", "Apply"): {"f:data": {"f:k": {}}}}


def test_a_conflict_names_the_field_and_its_manager() -> None:
    """One conflict, as the real server words it."""
    made = CONFIG_MAPS.apply(None, {**CONFIG_MAPS.object(), "data": {"k": "1"}}, "m1")
    with pytest.raises(Conflict) as caught:
        CONFIG_MAPS.apply(made, {**CONFIG_MAPS.object(), "data": {"k": "2"}}, "m2")
    assert caught.value.to_status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'Apply failed with 1 conflict: conflict with "m1": .data.k',
        "reason": "Conflict",
        "details": {
            "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "m1"', "field": ".data.k"}]
        },
        "code": 409,
    }


def test_several_conflicts_are_listed_by_manager() -> None:
    live = DEPLOYMENTS.create(
        DEPLOYMENTS.object(
            {
                "replicas": 1,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
            }
        )
    )
    live = DEPLOYMENTS.update(live, {**live, "spec": {**live["spec"], "replicas": 2}}, "hpa", "scale")
    wanted = DEPLOYMENTS.object({"replicas": 5, "template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}})
    with pytest.raises(Conflict) as caught:
        DEPLOYMENTS.apply(live, wanted, "me")
    assert str(caught.value) == (
        "Apply failed with 2 conflicts: "
        'conflicts with "creator" using apps/v1:\n- .spec.template.spec.containers[name="c"].image\n'
        'conflicts with "hpa" with subresource "scale" using apps/v1:\n- .spec.replicas'
    )


def test_force_takes_the_field() -> None:
    made = CONFIG_MAPS.apply(None, {**CONFIG_MAPS.object(), "data": {"k": "1", "l": "1"}}, "m1")
    taken = CONFIG_MAPS.apply(made, {**CONFIG_MAPS.object(), "data": {"k": "2"}}, "m2", force=True)
    assert taken["data"] == {"k": "2", "l": "1"}
    assert owned(taken, "m1") == {"f:data": {"f:l": {}}}
    assert owned(taken, "m2") == {"f:data": {"f:k": {}}}


def test_the_same_value_is_shared_without_conflict() -> None:
    made = CONFIG_MAPS.apply(None, {**CONFIG_MAPS.object(), "data": {"k": "1"}}, "m1")
    shared = CONFIG_MAPS.apply(made, {**CONFIG_MAPS.object(), "data": {"k": "1"}}, "m2")
    assert owned(shared, "m1") == owned(shared, "m2") == {"f:data": {"f:k": {}}}
    assert times(shared) == {"m1": times(made)["m1"], "m2": None}, "nothing was written but who owns it"


def test_what_is_no_longer_applied_goes_unless_somebody_else_owns_it() -> None:
    live = WIDGETS.apply(None, WIDGETS.object({"map": {"mine": "1", "ours": "1"}, "text": "x"}), "m1")
    live = WIDGETS.apply(live, WIDGETS.object({"map": {"ours": "1"}}), "m2")
    live = WIDGETS.apply(live, WIDGETS.object({"text": "x"}), "m1")
    assert live["spec"] == {"map": {"ours": "1"}, "text": "x"}
    live = WIDGETS.apply(live, WIDGETS.object(), "m2")
    assert live["spec"] == {"text": "x"}


def test_an_element_stays_while_anybody_owns_a_part_of_it() -> None:
    live = WIDGETS.apply(None, WIDGETS.object({"items": [{"name": "a", "value": "1"}, {"name": "b"}]}), "m1")
    live = WIDGETS.apply(live, WIDGETS.object({"items": [{"name": "a", "labels": {"x": "y"}}]}), "m2")
    live = WIDGETS.apply(live, WIDGETS.object({"items": []}), "m1")
    assert live["spec"]["items"] == [{"name": "a", "labels": {"x": "y"}}]


def test_sets_and_atomic_containers() -> None:
    """Managers share a set by element; an atomic list or map has one owner, and is replaced whole."""
    live = WIDGETS.apply(None, WIDGETS.object({"set": ["a", "b"], "atomicList": ["a"], "atomicMap": {"a": "1"}}), "m1")
    live = WIDGETS.apply(live, WIDGETS.object({"set": ["c", "b"]}), "m2")
    assert live["spec"]["set"] == ["a", "c", "b"]
    assert owned(live, "m2") == {"f:spec": {"f:set": {'v:"b"': {}, 'v:"c"': {}}}}
    with pytest.raises(Conflict, match=r"2 conflicts(.|\n)*\.spec\.atomicList\n- \.spec\.atomicMap"):
        WIDGETS.apply(live, WIDGETS.object({"atomicList": ["b"], "atomicMap": {"b": "1"}}), "m2")
    forced = {"set": ["c", "b"], "atomicList": ["b"], "atomicMap": {"b": "1"}}
    live = WIDGETS.apply(live, WIDGETS.object(forced), "m2", force=True)
    assert live["spec"]["atomicMap"] == {"b": "1"}
    assert owned(live, "m1") == {"f:spec": {"f:set": {'v:"a"': {}, 'v:"b"': {}}}}


def test_an_apply_that_changes_nothing_returns_the_object_itself() -> None:
    """So that its caller writes nothing, and resourceVersion and times stay."""
    wanted = WIDGETS.object({"ports": [{"port": 80, "name": "h"}], "map": {"a": "b"}}, labels={"x": "y"})
    live = WIDGETS.apply(None, wanted)
    assert WIDGETS.apply(live, copy.deepcopy(wanted)) is live


def test_a_time_moves_only_with_the_object() -> None:
    live = WIDGETS.apply(None, WIDGETS.object({"text": "a", "number": 1}))
    again = WIDGETS.apply(live, WIDGETS.object({"text": "b", "number": 1}))
    assert times(again)["applier"] != times(live)["applier"]


def test_the_first_apply_to_an_untracked_object_remembers_what_was_there() -> None:
    bare = WIDGETS.object({"text": "a", "number": 1}, uid="u")
    with pytest.raises(Conflict, match=r'conflict with "before-first-apply" using example.dev/v1: \.spec\.text'):
        WIDGETS.apply(bare, WIDGETS.object({"text": "b"}))
    live = WIDGETS.apply(bare, WIDGETS.object({"text": "a"}))
    assert owned(live, "before-first-apply") == {"f:spec": {".": {}, "f:number": {}, "f:text": {}}}


def test_fields_of_another_endpoint_are_neither_owned_nor_contested() -> None:
    live = WIDGETS.create({**WIDGETS.object({"text": "a"}), "status": {"phase": "x"}})
    applied = WIDGETS.apply(live, {**WIDGETS.object({"number": 1}), "status": {"phase": "y"}}, reset={"f:status": {}})
    assert owned(applied, "applier") == {"f:spec": {"f:number": {}}}
    assert owned(applied, "creator") == owned(live, "creator")


def test_an_applier_moves_between_versions_as_one() -> None:
    """Its entry changes version; it does not come to own its own fields twice."""
    live = WIDGETS.apply(None, WIDGETS.object({"text": "a", "number": 1}))
    newer = managed.apply(
        live,
        {**WIDGETS.object({"text": "b"}), "apiVersion": "example.dev/v2"},
        schema=WIDGETS.schema,
        manager="applier",
        force=False,
        api_version="example.dev/v2",
        now="2027-01-01T00:00:00Z",
    )
    assert newer["spec"] == {"text": "b"}
    assert [(entry["manager"], entry["apiVersion"]) for entry in newer["metadata"]["managedFields"]] == [
        ("applier", "example.dev/v2")
    ]


@pytest.mark.parametrize(
    ("applied", "error", "message"),
    [
        ({"metadata": {"name": "it", "managedFields": []}}, BadRequest, "metadata.managedFields must be nil"),
        ({"apiVersion": "other/v1"}, BadRequest, "Specified patch version: other/v1, expected: example.dev/v1"),
        (
            {"spec": {"set": ["a", "a"]}},
            InternalError,
            r'create typed patch object \(/it; example.dev/v1, Kind=Widget\): .spec.set: duplicate .* \[="a"\]',
        ),
        ({"spec": {"bogus": 1}}, InternalError, ".spec.bogus: field not declared in schema"),
    ],
)
def test_what_cannot_be_applied(applied: Json, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        WIDGETS.apply(None, {**WIDGETS.object(), **applied})


def test_a_list_that_became_atomic_is_owned_whole() -> None:
    """Ownership written under an old schema is read by the new one."""
    live = WIDGETS.apply(None, WIDGETS.object({"items": [{"name": "a"}]}))
    schema = copy.deepcopy(WIDGETS.schema)
    schema["properties"]["spec"]["properties"]["items"]["x-kubernetes-list-type"] = "atomic"
    changed = managed.updated(
        live,
        {**live, "spec": {**live["spec"], "text": "x"}},
        schema=schema,
        manager="m",
        api_version="example.dev/v1",
        now="2027-01-01T00:00:00Z",
    )
    assert owned(changed, "applier") == {"f:spec": {"f:items": {}}}


def test_duplicates_that_are_already_there_do_no_harm() -> None:
    """Validation keeps them out of new objects; an old one that has some can still be updated and applied to."""
    live = WIDGETS.create(WIDGETS.object({"set": ["a", "a", "b"]}))
    assert owned(live, "creator") == {"f:spec": {".": {}, "f:set": {".": {}, 'v:"a"': {}, 'v:"b"': {}}}}
    applied = WIDGETS.apply(live, WIDGETS.object({"set": ["c"]}))
    assert applied["spec"]["set"] == ["a", "a", "b", "c"]


def test_a_list_that_cannot_be_taken_apart_has_no_owners_and_cannot_be_applied_to() -> None:
    made = WIDGETS.create(WIDGETS.object({"items": [{"value": "no name"}]}))
    assert "managedFields" not in made["metadata"]
    with pytest.raises(InternalError, match=r"failed to create typed live object \(/it; example.dev/v1, Kind=Widget\)"):
        WIDGETS.apply(made, WIDGETS.object({"items": [{"name": "a"}]}))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"set": None}, {"set": ["a"], "map": {"k": "v"}, "text": "t", "atomicList": ["x"]}),
        ({"map": None}, {"set": ["a"], "map": {"k": "v"}, "text": "t", "atomicList": ["x"]}),
        ({"text": None}, {"set": ["a"], "map": {"k": "v"}, "text": None, "atomicList": ["x"]}),
        ({"atomicList": None}, {"set": ["a"], "map": {"k": "v"}, "text": "t", "atomicList": None}),
    ],
)
def test_null_applied_over_parts_takes_none_away(spec: Json, expected: Json) -> None:
    """And over a leaf it is a value like any other; what null means then is the schema's to say."""
    live = WIDGETS.create(WIDGETS.object({"set": ["a"], "map": {"k": "v"}, "text": "t", "atomicList": ["x"]}))
    assert WIDGETS.apply(live, WIDGETS.object(spec), force=True)["spec"] == expected


def test_writing_what_an_endpoint_does_not_take_makes_nobody_its_owner() -> None:
    pods = next(rtype for rtype in BUILTIN_TYPES if rtype.kind == "Pod")
    pod = {**PODS.object({"containers": [{"name": "c"}]}, labels={"a": "b"}), "status": {"phase": "Running"}}
    to_the_spec = {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}}}}}
    labels, status = {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}, {"f:status": {"f:phase": {}}}
    for rtype, endpoint, expected in (
        (pods, "", labels | to_the_spec),
        (pods, "status", labels | status),
        (replace(pods, custom=True), "status", status),
        (replace(pods, subresources=frozenset()), "", labels | to_the_spec | status),
        (pods, "scale", labels | to_the_spec | status),
    ):
        made = managed.updated(
            None,
            pod,
            schema=PODS.schema,
            manager="m",
            api_version="v1",
            now="2026-01-01T00:00:00Z",
            reset=managed.reset_by(rtype, endpoint),
        )
        assert owned(made, "m") == expected


# kubectl, from client-side to server-side apply and back


def client_side(spec: Json, **data: Any) -> Json:
    configuration = CONFIG_MAPS.object(**data)
    text = msgspec.json.encode({**configuration, **spec}).decode()
    return {**configuration, **spec, "metadata": {**configuration["metadata"], "annotations": {MAP: text}}}


def test_kubectl_takes_over_from_its_own_client_side_apply() -> None:
    """What client-side apply set, and nobody changed since, is no conflict for server-side apply."""
    live = CONFIG_MAPS.create(client_side({"data": {"a": "1", "b": "1"}}), "kubectl-client-side-apply")
    wanted = {**CONFIG_MAPS.object(), "data": {"a": "2", "b": "1"}}
    with pytest.raises(Conflict, match=r'conflict with "kubectl-client-side-apply" using v1: \.data\.a'):
        CONFIG_MAPS.apply(live, wanted, "somebody")
    taken = CONFIG_MAPS.apply(live, wanted, "kubectl")
    assert taken["data"] == {"a": "2", "b": "1"}
    assert '"data":{"a":"2","b":"1"}' in taken["metadata"]["annotations"][MAP]


def test_what_changed_since_client_side_apply_is_still_a_conflict() -> None:
    live = CONFIG_MAPS.create(client_side({"data": {"a": "1"}}), "kubectl-client-side-apply")
    live = CONFIG_MAPS.update(live, {**live, "data": {"a": "9"}}, "editor")
    with pytest.raises(Conflict, match=r'conflict with "editor" using v1: \.data\.a'):
        CONFIG_MAPS.apply(live, {**CONFIG_MAPS.object(), "data": {"a": "2"}}, "kubectl")


@pytest.mark.parametrize(
    "annotation", ["not JSON", "[]", '{"apiVersion": "other/v1"}', '{"apiVersion": "v1", "data": 3}']
)
def test_an_annotation_that_says_nothing_settles_nothing(annotation: str) -> None:
    live = CONFIG_MAPS.create({**CONFIG_MAPS.object(annotations={MAP: annotation}), "data": {"a": "1"}})
    with pytest.raises(Conflict):
        CONFIG_MAPS.apply(live, {**CONFIG_MAPS.object(), "data": {"a": "2"}}, "kubectl")


def test_an_annotation_too_large_is_dropped() -> None:
    live = CONFIG_MAPS.create(client_side({"data": {"a": "1"}}), "kubectl")
    taken = CONFIG_MAPS.apply(live, {**CONFIG_MAPS.object(), "data": {"a": "x" * 300_000}}, "kubectl", force=True)
    assert "annotations" not in taken["metadata"]


# Properties


@given(specs())
def test_apply_is_idempotent(spec: Json) -> None:
    """For whoever owns something; a configuration that names nothing leaves no trace by which to know it again."""
    spec = {"text": "mine", **spec}
    live = WIDGETS.apply(None, WIDGETS.object(spec))
    assert WIDGETS.apply(live, WIDGETS.object(copy.deepcopy(spec))) is live


@given(specs("text", "map", "set", "items"), specs("number", "mapOfStructs", "numbers", "ports"))
def test_managers_of_disjoint_fields_commute(one: Json, other: Json) -> None:
    """In either order the object is the same, and so is what each owns."""
    one, other = {"text": "a", **one}, {"number": 1, **other}
    first = WIDGETS.apply(WIDGETS.apply(None, WIDGETS.object(one), "a"), WIDGETS.object(other), "b")
    second = WIDGETS.apply(WIDGETS.apply(None, WIDGETS.object(other), "b"), WIDGETS.object(one), "a")
    assert first.get("spec") == second.get("spec")
    assert entries(first) == entries(second)


@given(specs("text", "map", "atomicMap", "set", "items"), specs("text", "map", "atomicMap", "set", "items"))
def test_a_field_no_longer_applied_goes_exactly_if_nobody_else_owns_it(mine: Json, theirs: Json) -> None:
    mine, theirs = {"flag": True, **mine}, {"number": 1, **theirs}
    live = WIDGETS.apply(None, WIDGETS.object(theirs), "them")
    both = WIDGETS.apply(live, WIDGETS.object(mine), "me", force=True)
    without_me = WIDGETS.apply(both, WIDGETS.object(), "me")
    still_theirs = WIDGETS.create(without_me, "probe")
    left = set(paths(owned(still_theirs, "probe")))
    for path in paths(owned(both, "me")):
        if covers(owned(both, "them"), path):
            assert path in left
        elif not any(other[: len(path)] == path for other in paths(owned(both, "them"))):
            assert path not in left


@given(specs(), specs())
def test_forcing_leaves_no_conflict_and_no_value_but_the_applied(theirs: Json, mine: Json) -> None:
    mine = {"text": "mine", **mine}
    live = WIDGETS.apply(None, WIDGETS.object(theirs), "them")
    forced = WIDGETS.apply(live, WIDGETS.object(mine), "me", force=True)
    assert WIDGETS.apply(forced, WIDGETS.object(mine), "me") is forced


TYPED = [name for name in FIELDS if name not in {"anything", "untyped"}]


@given(specs(*TYPED), specs(*TYPED), st.booleans())
def test_a_conflict_changes_nothing_and_names_what_force_takes(theirs: Json, mine: Json, updates: bool) -> None:
    """Where a field keeps its type: what lay below one that became a scalar is removed, which is no conflict."""
    live = (
        WIDGETS.create(WIDGETS.object(theirs), "them")
        if updates
        else WIDGETS.apply(None, WIDGETS.object(theirs), "them")
    )
    forced = WIDGETS.apply(live, WIDGETS.object(mine), "me", force=True)
    lost = difference(owned(live, "them"), owned(forced, "them"))
    if not lost:
        assert WIDGETS.apply(live, WIDGETS.object(mine), "me").get("spec") == forced.get("spec")
        return
    with pytest.raises(Conflict) as caught:
        WIDGETS.apply(live, WIDGETS.object(mine), "me")
    assert sorted(cause.field for cause in caught.value.causes) == sorted(map(path_text, paths(lost)))
    assert {cause.reason for cause in caught.value.causes} == {"FieldManagerConflict"}


@given(specs(), specs())
def test_an_update_owns_exactly_what_it_changed(old: Json, new: Json) -> None:
    """What is the same in both keeps its owner; what differs is the updater's; nobody owns what is gone."""
    live = WIDGETS.create(WIDGETS.object(old), "before")
    changed = WIDGETS.update(live, {**live, "spec": new}, "after")
    everything = owned(WIDGETS.create(WIDGETS.object(new), "probe"), "probe")
    kept, taken = owned(changed, "before"), owned(changed, "after")
    assert intersection(kept, taken) == {}
    assert difference(union(kept, taken), everything) == {}
    assert difference(everything, union(kept, taken)) == {}
    assert difference(kept, owned(live, "before")) == {}


@given(specs(), specs())
def test_settled_knows_a_write_of_nothing(old: Json, new: Json) -> None:
    live = WIDGETS.create(WIDGETS.object(old))
    later = copy.deepcopy(live)
    later["metadata"]["managedFields"][0]["time"] = "2030-01-01T00:00:00Z"
    assert managed.settled(live, later) is live
    changed = WIDGETS.update(live, {**live, "spec": new})
    assert (managed.settled(live, changed) is live) == (old == new)
