"""Server-side apply and managed fields: who owns what, who may change it, who takes it away."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
import yaml

from .client import Api, Json, Refused, Resource, refused
from .objects import config_map, container, custom, deployment, fields, schema, service
from .surroundings import Namespace, served

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


def managers(answer: Json) -> dict[tuple[str, str], Json]:
    """(manager, operation) -> fieldsV1."""
    entries = answer["metadata"].get("managedFields", [])
    return {(entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in entries}


def owned(answer: Json, manager: str, operation: str = "Apply") -> Json:
    return managers(answer).get((manager, operation), {})


# Creating and changing


def test_apply_creates(maps: Resource) -> None:
    """Apply of what is not there makes it: 201, with an entry that owns what was said."""
    body = json.dumps(config_map("one", {"a": "1"})).encode()
    headers = {"Content-Type": "application/apply-patch+yaml"}
    first = maps.api.request("PATCH", maps.at("one"), content=body, headers=headers, fieldManager="m")
    second = maps.api.request("PATCH", maps.at("one"), content=body, headers=headers, fieldManager="m")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["data"] == {"a": "1"}


def test_the_entry_of_a_manager(maps: Resource) -> None:
    """An entry says who, how, in which version, when, and what."""
    made = maps.apply(config_map("one", {"a": "1"}, labels={"l": "1"}), "m")
    (entry,) = made["metadata"]["managedFields"]
    assert TIME.match(entry.pop("time"))
    assert entry == {
        "manager": "m",
        "operation": "Apply",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:a": {}}, "f:metadata": {"f:labels": {"f:l": {}}}},
    }


def test_applying_again_changes_nothing(maps: Resource) -> None:
    """The same apply twice: neither version nor time moves."""
    first = maps.apply(config_map("one", {"a": "1"}), "m")
    assert maps.apply(config_map("one", {"a": "1"}), "m") == first


def test_what_is_left_out_is_removed(maps: Resource) -> None:
    """A field owned by the applier alone goes when it is not said any more."""
    maps.apply(config_map("one", {"a": "1", "b": "2"}), "m")
    got = maps.apply(config_map("one", {"a": "1"}), "m")
    assert got["data"] == {"a": "1"}
    assert owned(got, "m") == {"f:data": {"f:a": {}}}


def test_what_another_owns_too_stays(maps: Resource) -> None:
    """A field with two owners stays when one of them leaves it out."""
    maps.apply(config_map("one", {"a": "1", "b": "2"}), "m1")
    maps.apply(config_map("one", {"b": "2"}), "m2")
    got = maps.apply(config_map("one", {"a": "1"}), "m1")
    assert got["data"] == {"a": "1", "b": "2"}
    assert owned(got, "m2") == {"f:data": {"f:b": {}}}


def test_other_fields_stay(maps: Resource) -> None:
    """What the applier never said is not its business."""
    maps.create(config_map("one", {"a": "1"}, annotations={"n": "1"}), fieldManager="creator")
    got = maps.apply(config_map("one", {"b": "2"}), "m")
    assert got["data"] == {"a": "1", "b": "2"}
    assert got["metadata"]["annotations"] == {"n": "1"}


def test_yaml_and_json_are_the_same(maps: Resource) -> None:
    """The body is YAML, of which JSON is a part."""
    headers = {"Content-Type": "application/apply-patch+yaml"}
    body = yaml.safe_dump(config_map("one", {"a": "1"})).encode()
    response = maps.api.request("PATCH", maps.at("one"), content=body, headers=headers, fieldManager="m")
    made = response.json()
    assert (response.status_code, made["data"]) == (201, {"a": "1"})
    assert maps.apply(config_map("one", {"a": "1"}), "m") == made


# Conflicts


def test_a_conflict_names_the_other_and_the_field(maps: Resource) -> None:
    """Another value for a field that someone else owns: 409, with a cause for each field; nothing changes."""
    made = maps.apply(config_map("one", {"a": "1", "b": "1", "c": "1"}), "m1")
    with refused(409, "Conflict", "Apply failed with 2 conflicts") as error:
        maps.apply(config_map("one", {"a": "2", "b": "2", "c": "1"}), "m2")
    assert error.causes == [(".data.a", "FieldManagerConflict"), (".data.b", "FieldManagerConflict")]
    assert all('conflict with "m1"' in cause["message"] for cause in error.details["causes"])
    assert maps.get("one") == made


def test_one_conflict_is_told_in_one_line(maps: Resource) -> None:
    """The message of a single conflict holds all of it."""
    maps.apply(config_map("one", {"a": "1"}), "m1")
    with refused(409, "Conflict", 'Apply failed with 1 conflict: conflict with "m1": .data.a'):
        maps.apply(config_map("one", {"a": "2"}), "m2")


def test_a_conflict_with_an_update_says_so(maps: Resource) -> None:
    """A field last written by an update conflicts too; the cause says with what kind of write and when."""
    maps.create(config_map("one", {"a": "1"}), fieldManager="writer")
    with refused(409, "Conflict") as error:
        maps.apply(config_map("one", {"a": "2"}), "m")
    (cause,) = error.details["causes"]
    assert re.match(r'^conflict with "writer" using v1( at \d{4}-.*)?$', cause["message"])


def test_force_takes_the_field(maps: Resource) -> None:
    """force=true sets the value and takes the ownership; the loser keeps the rest."""
    maps.apply(config_map("one", {"a": "1", "b": "1"}), "m1")
    got = maps.apply(config_map("one", {"a": "2"}), "m2", force="true")
    assert got["data"] == {"a": "2", "b": "1"}
    assert owned(got, "m1") == {"f:data": {"f:b": {}}}
    assert owned(got, "m2") == {"f:data": {"f:a": {}}}


def test_the_loser_learns_of_it(maps: Resource) -> None:
    """After a forced change the first applier's next apply is the one that conflicts."""
    maps.apply(config_map("one", {"a": "1"}), "m1")
    maps.apply(config_map("one", {"a": "2"}), "m2", force="true")
    with refused(409, "Conflict", 'conflict with "m2": .data.a'):
        maps.apply(config_map("one", {"a": "1"}), "m1")


def test_the_same_value_is_shared(maps: Resource) -> None:
    """Two appliers that say the same own it together."""
    maps.apply(config_map("one", {"a": "1"}), "m1")
    got = maps.apply(config_map("one", {"a": "1"}), "m2")
    assert owned(got, "m1") == owned(got, "m2") == {"f:data": {"f:a": {}}}


def test_a_shared_field_conflicts_with_all_its_owners(maps: Resource) -> None:
    """Changing a shared field names each other owner."""
    maps.apply(config_map("one", {"a": "1"}), "m1")
    maps.apply(config_map("one", {"a": "1"}), "m2")
    with refused(409, "Conflict") as error:
        maps.apply(config_map("one", {"a": "2"}), "m3")
    messages = sorted(cause["message"] for cause in error.details["causes"])
    assert messages == ['conflict with "m1"', 'conflict with "m2"']


def test_an_update_takes_what_it_changes(maps: Resource) -> None:
    """A plain update that changes an applied field owns it from then on, without asking."""
    maps.apply(config_map("one", {"a": "1", "b": "1"}), "m")
    got = maps.patch("one", {"data": {"a": "2"}}, fieldManager="editor")
    assert owned(got, "m") == {"f:data": {"f:b": {}}}
    assert owned(got, "editor", "Update") == {"f:data": {"f:a": {}}}
    with refused(409, "Conflict", 'conflict with "editor"'):
        maps.apply(config_map("one", {"a": "1", "b": "1"}), "m")


def test_an_update_that_keeps_the_value_takes_nothing(maps: Resource) -> None:
    """Sending an unchanged field with an update does not take it from its owner."""
    made = maps.apply(config_map("one", {"a": "1"}), "m")
    got = maps.replace(made | {"data": {"a": "1", "b": "2"}}, fieldManager="editor")
    assert owned(got, "m") == {"f:data": {"f:a": {}}}
    assert owned(got, "editor", "Update") == {"f:data": {"f:b": {}}}


# Who the manager is


def test_a_manager_must_be_named(maps: Resource) -> None:
    """Apply without fieldManager is refused."""
    with refused(422, "Invalid", "is required for apply patch") as error:
        maps.patch("one", config_map("one"), "apply")
    assert error.causes == [("fieldManager", "FieldValueRequired")]


@pytest.mark.parametrize("name", ["x" * 129, "a\nb", "b\x00"], ids=["long", "newline", "nul"])
def test_a_managers_name_is_printable_and_short(maps: Resource, name: str) -> None:
    """At most 128 printable characters."""
    with refused(422, "Invalid") as error:
        maps.apply(config_map("one"), name)
    assert error.causes[0][0] == "fieldManager"


def test_updates_are_named_by_field_manager_or_user_agent(maps: Resource) -> None:
    """Without fieldManager, the user agent up to its slash is the manager of an update."""
    headers = {"Content-Type": "application/json", "User-Agent": "robot/v1.2 (linux)"}
    body = json.dumps(config_map("one", {"a": "1"})).encode()
    made = maps.api.request("POST", maps.path, content=body, headers=headers).json()
    assert managers(made) == {("robot", "Update"): {"f:data": {".": {}, "f:a": {}}}}
    got = maps.patch("one", {"data": {"b": "2"}}, fieldManager="named")
    assert ("named", "Update") in managers(got)


def test_force_is_for_apply_only(maps: Resource) -> None:
    """force with another patch is refused."""
    maps.create(config_map("one"))
    with refused(422, "Invalid", "may not be specified for non-apply patch"):
        maps.patch("one", {}, force="true")


def test_apply_must_not_carry_managed_fields(maps: Resource) -> None:
    """Applying what was read, managedFields and all, is refused."""
    made = maps.apply(config_map("one", {"a": "1"}), "m")
    with refused(400, "BadRequest", "metadata.managedFields must be nil"):
        maps.apply(made, "m")


@pytest.mark.parametrize("missing", ["kind", "apiVersion"])
def test_apply_must_say_what_it_is(maps: Resource, missing: str) -> None:
    """apiVersion and kind are required."""
    body = config_map("one")
    del body[missing]
    with refused(400, "BadRequest"):
        maps.apply(body)


def test_apply_checks_the_name(maps: Resource) -> None:
    """The name in the body must be that of the path."""
    maps.create(config_map("one"))
    with refused(400, "BadRequest"):
        maps.patch("one", config_map("two"), "apply", fieldManager="m")


def test_apply_with_a_version(maps: Resource) -> None:
    """resourceVersion in an apply is a precondition of a change; a uid is one even of a creation."""
    made = maps.apply(config_map("one", {"a": "1"}), "m")
    version = made["metadata"]["resourceVersion"]
    maps.apply(config_map("one", {"a": "2"}, resourceVersion=version), "m")
    with refused(409, "Conflict"):
        maps.apply(config_map("one", {"a": "3"}, resourceVersion=version), "m")
    with refused(409, "Conflict", "uid mismatch"):
        maps.apply(config_map("new", uid="00000000-0000-0000-0000-000000000000"), "m")


def test_unknown_fields_are_refused(maps: Resource) -> None:
    """An apply of a field that the type does not have is refused, whatever fieldValidation says."""
    with pytest.raises(Refused, match=r"(field not declared in schema|unknown field)"):
        maps.apply(config_map("one") | {"datas": {"a": "1"}}, "m", fieldValidation="Strict")


def test_duplicate_keys_are_refused(ns: Namespace) -> None:
    """Two elements of a keyed list with the same key cannot be applied."""
    body = deployment(
        "web", template={"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container("a")] * 2}}
    )
    with pytest.raises(Refused, match=r"(duplicate|Duplicate)"):
        ns("apps/v1/deployments").apply(body)


# Lists and maps of built-in types


def pod_template(*containers: Json, **spec: object) -> Json:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": list(containers)} | spec}


def test_keyed_lists_merge(ns: Namespace) -> None:
    """Containers are keyed by name: each applier has its own, and removes only its own."""
    web = ns("apps/v1/deployments")
    web.apply(deployment("web", template=pod_template(container("a"))), "m1")
    sidecar = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    got = web.apply(sidecar | {"spec": {"template": {"spec": {"containers": [container("b")]}}}}, "m2")
    assert [one["name"] for one in got["spec"]["template"]["spec"]["containers"]] == ["a", "b"]
    key = 'k:{"name":"b"}'
    assert owned(got, "m2")["f:spec"]["f:template"]["f:spec"]["f:containers"] == {
        key: {".": {}, "f:image": {}, "f:name": {}}
    }
    got = web.apply(sidecar | {"spec": {"template": {"spec": {}}}}, "m2")
    assert [one["name"] for one in got["spec"]["template"]["spec"]["containers"]] == ["a"]


def test_lists_with_two_keys(ns: Namespace) -> None:
    """Service ports are keyed by port and protocol: the same number with another protocol is another element."""
    services = ns("services")
    services.apply(service("web", ports=[{"name": "t", "port": 53, "protocol": "TCP"}]), "m1")
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    ports = [{"name": "u", "port": 53, "protocol": "UDP"}]
    got = services.apply(body | {"spec": {"ports": ports}}, "m2")
    assert [(one["port"], one["protocol"]) for one in got["spec"]["ports"]] == [(53, "TCP"), (53, "UDP")]
    assert set(owned(got, "m2")["f:spec"]["f:ports"]) == {'k:{"port":53,"protocol":"UDP"}'}


def test_defaulted_keys(ns: Namespace) -> None:
    """A key with a default (protocol of a port) may be left out, and is owned with the default filled in."""
    services = ns("services")
    got = services.apply(service("web", ports=[{"port": 80}]), "m")
    assert set(owned(got, "m")["f:spec"]["f:ports"]) == {'k:{"port":80,"protocol":"TCP"}'}
    assert len(services.apply(service("web", ports=[{"port": 80}]), "m")["spec"]["ports"]) == 1


def test_sets_merge(maps: Resource) -> None:
    """finalizers are a set of values: each applier has its own members."""
    maps.apply(config_map("one", finalizers=["example.com/a"]), "m1")
    got = maps.apply(config_map("one", finalizers=["example.com/b"]), "m2")
    assert got["metadata"]["finalizers"] == ["example.com/a", "example.com/b"]
    assert owned(got, "m2") == {"f:metadata": {"f:finalizers": {'v:"example.com/b"': {}}}}
    got = maps.apply(config_map("one"), "m1")
    assert got["metadata"]["finalizers"] == ["example.com/b"]
    maps.apply(config_map("one"), "m2")
    assert "finalizers" not in maps.get("one")["metadata"]


def test_atomic_lists_have_one_owner(ns: Namespace) -> None:
    """args of a container is atomic: another list is a conflict on the whole list."""
    web = ns("apps/v1/deployments")
    web.apply(deployment("web", template=pod_template(container("a", args=["x"]))), "m1")
    with refused(409, "Conflict", '.spec.template.spec.containers[name="a"].args'):
        web.apply(deployment("web", template=pod_template(container("a", args=["x", "y"]))), "m2")


def test_atomic_maps_have_one_owner(ns: Namespace) -> None:
    """A label selector is an atomic map; nodeSelector too."""
    web = ns("apps/v1/deployments")
    web.apply(deployment("web", template=pod_template(container("a"), nodeSelector={"x": "1"})), "m1")
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    with refused(409, "Conflict", ".spec.template.spec.nodeSelector"):
        web.apply(body | {"spec": {"template": {"spec": {"nodeSelector": {"y": "1"}}}}}, "m2")


def test_defaults_are_nobodys(ns: Namespace) -> None:
    """Defaulted fields are owned by no applier, and may be set by the next one."""
    web = ns("apps/v1/deployments")
    got = web.apply(deployment("web", template=pod_template(container("a"))), "m1")
    assert got["spec"]["replicas"] == 1
    assert "f:replicas" not in owned(got, "m1")["f:spec"]
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    assert web.apply(body | {"spec": {"replicas": 3}}, "m2")["spec"]["replicas"] == 3


def test_giving_up_a_field_to_another(ns: Namespace) -> None:
    """The way to hand replicas to an autoscaler: scale, share, then leave it out; the value stays."""
    web = ns("apps/v1/deployments")
    web.apply(deployment("web", replicas=3, template=pod_template(container("a"))), "human")
    web.patch("web", {"spec": {"replicas": 7}}, subresource="scale", fieldManager="autoscaler")
    got = web.apply(deployment("web", template=pod_template(container("a"))), "human")
    assert got["spec"]["replicas"] == 7


def test_a_scale_is_owned_by_its_writer(ns: Namespace) -> None:
    """A write to the scale subresource owns replicas of the main object, and says through which subresource."""
    web = ns("apps/v1/deployments")
    web.apply(deployment("web", replicas=3, template=pod_template(container("a"))), "human")
    web.patch("web", {"spec": {"replicas": 7}}, subresource="scale", fieldManager="autoscaler")
    entries = {one["manager"]: one for one in web.get("web")["metadata"]["managedFields"]}
    assert entries["autoscaler"]["subresource"] == "scale"
    assert entries["autoscaler"]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in entries["human"]["fieldsV1"]["f:spec"]


# managedFields themselves


def test_managed_fields_can_be_cleared(maps: Resource) -> None:
    """An update with managedFields [{}] forgets all owners but the one that does it."""
    maps.apply(config_map("one", {"a": "1"}), "m1")
    got = maps.patch("one", {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in got["metadata"]
    maps.apply(config_map("one", {"a": "2"}), "m2", force="true")


def test_an_empty_list_of_managed_fields_clears_nothing(maps: Resource) -> None:
    """An update without managedFields, or with an empty list, keeps what the server knows."""
    maps.apply(config_map("one", {"a": "1"}), "m1")
    got = maps.replace(config_map("one", {"a": "1"}), fieldManager="editor")
    assert owned(got, "m1") == {"f:data": {"f:a": {}}}


def test_time_moves_with_the_fields(maps: Resource) -> None:
    """An update by the same manager in the same version keeps one entry."""
    maps.create(config_map("one", {"a": "1"}), fieldManager="writer")
    for value in ("2", "3"):
        got = maps.patch("one", {"data": {"a": value}}, fieldManager="writer")
    entries = got["metadata"]["managedFields"]
    assert [(one["manager"], one["operation"]) for one in entries] == [("writer", "Update")]


def test_apply_and_update_of_one_manager_are_two_entries(maps: Resource) -> None:
    """The same name applies and updates separately."""
    maps.apply(config_map("one", {"a": "1"}), "m")
    got = maps.patch("one", {"data": {"b": "2"}}, fieldManager="m")
    assert set(managers(got)) == {("m", "Apply"), ("m", "Update")}


# Subresources


def test_status_has_its_own_owners(ns: Namespace) -> None:
    """An apply to status owns status only and leaves spec alone; an apply to the object ignores status."""
    web = ns("apps/v1/deployments")
    web.apply(deployment("web", template=pod_template(container("a"))) | {"status": {"replicas": 9}}, "human")
    assert web.get("web").get("status", {}).get("replicas") != 9
    condition = {"type": "Odd", "status": "True", "reason": "Test", "message": "m"}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    status = {"status": {"conditions": [condition]}, "spec": {"replicas": 9}}
    got = web.apply(body | status, "watcher", "status")
    assert got["spec"]["replicas"] == 1
    assert [one["type"] for one in got["status"]["conditions"] if one["type"] == "Odd"] == ["Odd"]
    entry = next(one for one in got["metadata"]["managedFields"] if one["manager"] == "watcher")
    assert entry["subresource"] == "status"
    assert set(entry["fieldsV1"]) == {"f:status"}
    assert set(entry["fieldsV1"]["f:status"]["f:conditions"]) == {'k:{"type":"Odd"}'}


def test_apply_to_a_status_does_not_create(widgets: Resource, widgets_group: str) -> None:
    """A subresource of what is not there is not found."""
    with refused(404, "NotFound"):
        widgets.apply(custom(widgets_group, "absent", status={"a": 1}), subresource="status")


# Custom resources


LISTS = schema(
    fields(
        atomic={"type": "array", "items": {"type": "string"}},
        members={"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        rows={
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["key"],
            "items": fields(["key"], key={"type": "string"}, value={"type": "integer"}, other={"type": "integer"}),
        },
        whole={"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        each={"type": "object", "additionalProperties": {"type": "string"}},
    )
)


@pytest.fixture(scope="module")
def lists_group(api: Api) -> Iterator[str]:
    with served(api, LISTS) as group:
        yield group


@pytest.fixture
def apply(ns: Namespace, lists_group: str) -> Callable[..., Json]:
    things = ns(f"{lists_group}/v1/widgets")

    def run(manager: str, **spec: object) -> Json:
        return things.apply(custom(lists_group, "one", dict(spec)), manager)

    return run


def test_custom_sets(apply) -> None:
    """x-kubernetes-list-type: set merges members."""
    apply("m1", members=["a", "b"])
    got = apply("m2", members=["b", "c"])
    assert got["spec"]["members"] == ["a", "b", "c"]
    assert apply("m1", members=["a"])["spec"]["members"] == ["a", "b", "c"]
    assert apply("m2", members=["c"])["spec"]["members"] == ["a", "c"]


def test_custom_keyed_lists(apply) -> None:
    """x-kubernetes-list-type: map merges elements by their keys, field by field."""
    apply("m1", rows=[{"key": "a", "value": 1}, {"key": "b", "value": 1}])
    got = apply("m2", rows=[{"key": "a", "other": 2}])
    assert got["spec"]["rows"] == [{"key": "a", "value": 1, "other": 2}, {"key": "b", "value": 1}]
    with refused(409, "Conflict", '.spec.rows[key="b"].value'):
        apply("m2", rows=[{"key": "b", "value": 5}])
    got = apply("m1", rows=[{"key": "b", "value": 1}])
    assert got["spec"]["rows"] == [{"key": "a", "other": 2}, {"key": "b", "value": 1}]


def test_custom_atomic_lists(apply) -> None:
    """A list of no declared type is atomic."""
    apply("m1", atomic=["a"])
    with refused(409, "Conflict", ".spec.atomic"):
        apply("m2", atomic=["a", "b"])
    assert apply("m2", atomic=["a"])["spec"]["atomic"] == ["a"]


def test_custom_atomic_maps(apply) -> None:
    """x-kubernetes-map-type: atomic has one owner; a plain map is owned entry by entry."""
    apply("m1", whole={"a": "1"}, each={"a": "1"})
    with refused(409, "Conflict", ".spec.whole"):
        apply("m2", whole={"b": "1"})
    assert apply("m2", each={"b": "1"})["spec"]["each"] == {"a": "1", "b": "1"}


def test_order_of_an_applied_keyed_list(apply) -> None:
    """The applier's order rules over its own elements; others keep their place after them."""
    apply("m1", rows=[{"key": "a"}, {"key": "b"}, {"key": "c"}])
    got = apply("m1", rows=[{"key": "c"}, {"key": "a"}])
    assert [row["key"] for row in got["spec"]["rows"]] == ["c", "a"]
