"""Create, get, update, delete of one object: what the server fills in, and what it refuses."""

import re
from datetime import UTC, datetime

import pytest

from .client import Api, Resource, refused
from .objects import config_map, deployment, namespace
from .surroundings import Namespace

RFC3339_SECONDS = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def test_create_returns_what_get_returns(maps: Resource) -> None:
    """The answer to a create is the stored object."""
    assert maps.create(config_map("one", {"a": "1"})) == maps.get("one")


def test_create_fills_in_the_metadata(maps: Resource, ns: Namespace) -> None:
    """uid, resourceVersion, creationTimestamp and namespace are the server's; the client's own fields stay."""
    made = maps.create(config_map("one", {"a": "1"}, labels={"l": "1"}, annotations={"n": "1"}))
    meta = made["metadata"]
    assert (made["kind"], made["apiVersion"], made["data"]) == ("ConfigMap", "v1", {"a": "1"})
    assert (meta["name"], meta["namespace"]) == ("one", ns.name)
    assert (meta["labels"], meta["annotations"]) == ({"l": "1"}, {"n": "1"})
    assert UUID.match(meta["uid"])
    assert int(meta["resourceVersion"]) > 0
    assert RFC3339_SECONDS.match(meta["creationTimestamp"])
    assert abs((datetime.fromisoformat(meta["creationTimestamp"]) - datetime.now(UTC)).total_seconds()) < 300
    assert "generation" not in meta
    assert "selfLink" not in meta


def test_create_ignores_metadata_that_is_the_servers(maps: Resource) -> None:
    """A client cannot choose uid, creationTimestamp or deletionTimestamp."""
    forged = config_map(
        "one",
        uid="00000000-0000-0000-0000-000000000000",
        creationTimestamp="2001-01-01T00:00:00Z",
        deletionTimestamp="2001-01-01T00:00:00Z",
        deletionGracePeriodSeconds=5,
        selfLink="/x",
    )
    meta = maps.create(forged)["metadata"]
    assert meta["uid"] != forged["metadata"]["uid"]
    assert not meta["creationTimestamp"].startswith("2001")
    assert {"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"} & set(meta) == set()


def test_create_with_a_resource_version_is_refused(maps: Resource) -> None:
    """An object to be created has no history."""
    with refused(500, None, "resourceVersion should not be set on objects to be created"):
        maps.create(config_map("one", resourceVersion="1"))


def test_create_twice_is_refused(maps: Resource) -> None:
    """A name belongs to one object at a time; the refusal names it."""
    maps.create(config_map("one"))
    with refused(409, "AlreadyExists", 'configmaps "one" already exists') as error:
        maps.create(config_map("one"))
    assert error.details == {"name": "one", "kind": "configmaps"}


def test_names_are_per_namespace_and_type(namespaces, ns: Namespace) -> None:
    """The same name may be used in another namespace and for another type."""
    other = namespaces()
    uids = {
        one["metadata"]["uid"]
        for one in (
            ns("configmaps").create(config_map("same")),
            other("configmaps").create(config_map("same")),
            ns("secrets").create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "same"}}),
        )
    }
    assert len(uids) == 3


def test_create_in_a_namespace_that_is_not_there(api: Api, unique) -> None:
    """The refusal names the missing namespace, not the object."""
    name = unique()
    with refused(404, "NotFound", f'namespaces "{name}" not found') as error:
        api.resource("configmaps", name).create(config_map("one"))
    assert error.details == {"name": name, "kind": "namespaces"}


def test_create_in_another_namespace_than_the_path_says(maps: Resource) -> None:
    """The body's namespace may be left out, or must be that of the path."""
    with refused(400, "BadRequest", "the namespace of the provided object does not match"):
        maps.create(config_map("one", namespace="default"))


def test_create_without_a_name(maps: Resource) -> None:
    """A name or a generateName is required."""
    with refused(422, "Invalid", "name or generateName is required") as error:
        maps.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})
    assert error.causes == [("metadata.name", "FieldValueRequired")]


def test_generate_name(maps: Resource) -> None:
    """generateName yields the prefix and five characters that hold no vowel, anew each time."""
    bodies = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-"}}] * 20
    names = [maps.create(body)["metadata"]["name"] for body in bodies]
    assert all(re.match(r"^run-[bcdfghjklmnpqrstvwxz2456789]{5}$", name) for name in names)
    assert len(set(names)) == len(names)
    assert maps.get(names[0])["metadata"]["generateName"] == "run-"


def test_generate_name_yields_to_a_name(maps: Resource) -> None:
    """With both, the name counts."""
    assert maps.create(config_map("chosen", generateName="run-"))["metadata"]["name"] == "chosen"


def test_generate_name_cuts_a_long_prefix(maps: Resource) -> None:
    """A prefix is cut to 58 characters so that the name has at most 63."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a" * 80}}
    assert re.match(r"^a{58}[a-z0-9]{5}$", maps.create(body)["metadata"]["name"])


def test_get_what_is_not_there(maps: Resource) -> None:
    """The refusal names resource and object."""
    with refused(404, "NotFound", 'configmaps "absent" not found') as error:
        maps.get("absent")
    assert error.details == {"name": "absent", "kind": "configmaps"}
    assert error.status == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "absent" not found',
        "reason": "NotFound",
        "details": {"name": "absent", "kind": "configmaps"},
        "code": 404,
    }


def test_get_at_a_future_version(maps: Resource) -> None:
    """A resourceVersion that is not reached yet is a timeout that says so, and may be tried again."""
    version = int(maps.create(config_map("one"))["metadata"]["resourceVersion"])
    with refused(504, "Timeout", "Too large resource version") as error:
        maps.get("one", resourceVersion=str(version + 1_000_000))
    assert error.causes == [("", "ResourceVersionTooLarge")]
    assert error.details["retryAfterSeconds"] >= 1


def test_get_at_a_past_version_is_not_older(maps: Resource) -> None:
    """resourceVersion on a get means `at least as new as`."""
    first = maps.create(config_map("one", {"a": "1"}))
    changed = maps.replace(config_map("one", {"a": "2"}))
    got = maps.get("one", resourceVersion=first["metadata"]["resourceVersion"])
    assert int(got["metadata"]["resourceVersion"]) >= int(first["metadata"]["resourceVersion"])
    assert maps.get("one", resourceVersion=changed["metadata"]["resourceVersion"]) == changed


def test_update_replaces_the_object(maps: Resource) -> None:
    """What the new body leaves out is gone, but the identity stays and the version grows."""
    old = maps.create(config_map("one", {"a": "1", "b": "2"}, labels={"l": "1"}))
    new = maps.replace(config_map("one", {"c": "3"}, resourceVersion=old["metadata"]["resourceVersion"]))
    assert new["data"] == {"c": "3"}
    assert "labels" not in new["metadata"]
    for field in ("uid", "creationTimestamp", "namespace"):
        assert new["metadata"][field] == old["metadata"][field]
    assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    assert maps.get("one") == new


def test_update_with_an_old_version_is_a_conflict(maps: Resource) -> None:
    """Optimistic concurrency: who read before another's write is refused, and nothing changes."""
    old = maps.create(config_map("one", {"a": "1"}))
    new = maps.replace(config_map("one", {"a": "2"}, resourceVersion=old["metadata"]["resourceVersion"]))
    with refused(409, "Conflict", "the object has been modified; please apply your changes to the latest") as error:
        maps.replace(config_map("one", {"a": "3"}, resourceVersion=old["metadata"]["resourceVersion"]))
    assert error.details == {"name": "one", "kind": "configmaps"}
    assert maps.get("one") == new


def test_update_without_a_version_is_unconditional(maps: Resource) -> None:
    """Where a type allows it (ConfigMap does), an update without resourceVersion overwrites."""
    maps.create(config_map("one", {"a": "1"}))
    assert maps.replace(config_map("one", {"a": "2"}))["data"] == {"a": "2"}


def test_update_of_a_custom_resource_needs_a_version(widgets: Resource, widgets_group: str) -> None:
    """Custom resources do not allow unconditional updates."""
    body = {"apiVersion": f"{widgets_group}/v1", "kind": "Widget", "metadata": {"name": "one"}}
    widgets.create(body)
    with refused(422, "Invalid", "must be specified for an update") as error:
        widgets.replace(body)
    assert error.causes == [("metadata.resourceVersion", "FieldValueInvalid")]


def test_update_of_what_is_not_there(maps: Resource) -> None:
    """Update does not create, for a type that does not say so."""
    with refused(404, "NotFound", 'configmaps "absent" not found'):
        maps.replace(config_map("absent"))


def test_update_with_another_name_than_the_path_says(maps: Resource) -> None:
    """The name in the body must be that of the path."""
    maps.create(config_map("one"))
    with refused(400, "BadRequest", "the name of the object (two) does not match the name on the URL (one)"):
        maps.api.call("PUT", maps.at("one"), config_map("two"))


def test_update_with_another_uid(maps: Resource) -> None:
    """A uid in the body is a precondition: another object of the same name is not overwritten."""
    maps.create(config_map("one"))
    with refused(409, "Conflict", "Precondition failed: UID in precondition"):
        maps.replace(config_map("one", uid="00000000-0000-0000-0000-000000000000"))


def test_an_update_that_changes_nothing_writes_nothing(maps: Resource) -> None:
    """The version stays, so watchers do not wake for nothing."""
    made = maps.create(config_map("one", {"a": "1"}))
    assert maps.replace(made)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    patched = maps.patch("one", {"data": {"a": "1"}})
    assert patched["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_creation_and_deletion_time_cannot_be_changed(maps: Resource) -> None:
    """An update keeps the creation time whatever the body says; a deletion time cannot be forged."""
    made = maps.create(config_map("one"))
    body = config_map("one", creationTimestamp="2001-01-01T00:00:00Z")
    assert maps.replace(body)["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]
    with refused(422, "Invalid", "field is immutable") as error:
        maps.replace(config_map("one", deletionTimestamp="2001-01-01T00:00:00Z"))
    assert set(error.causes) == {("metadata.deletionTimestamp", "FieldValueInvalid")}


def test_delete_then_get(maps: Resource) -> None:
    """The answer to a delete is a Status that names what went; then it is gone."""
    uid = maps.create(config_map("one"))["metadata"]["uid"]
    answer = maps.delete("one")
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "one", "kind": "configmaps", "uid": uid}
    with refused(404, "NotFound"):
        maps.get("one")
    with refused(404, "NotFound", 'configmaps "one" not found'):
        maps.delete("one")


def test_a_name_can_be_used_again(maps: Resource) -> None:
    """What is created after a delete is another object."""
    first = maps.create(config_map("one"))["metadata"]
    maps.delete("one")
    second = maps.create(config_map("one"))["metadata"]
    assert second["uid"] != first["uid"]
    assert int(second["resourceVersion"]) > int(first["resourceVersion"])


def test_versions_grow_over_all_types(ns: Namespace) -> None:
    """Resource versions come from one counter: a later write of any type has a greater one."""
    made = [
        ns("configmaps").create(config_map("a")),
        ns("secrets").create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}),
        ns("configmaps").create(config_map("b")),
        ns("secrets").patch("a", {"metadata": {"labels": {"l": "1"}}}),
    ]
    versions = [int(one["metadata"]["resourceVersion"]) for one in made]
    assert versions == sorted(set(versions))


@pytest.mark.parametrize(
    "name", ["Upper", "under_score", "-start", "end-", "a..b", "a" * 254, "sp ace", "ünï"], ids=lambda name: name[:12]
)
def test_names_that_are_no_dns_subdomain(maps: Resource, name: str) -> None:
    """Object names are RFC 1123 subdomains of at most 253 characters."""
    with refused(422, "Invalid") as error:
        maps.create(config_map(name))
    assert error.causes[0] == ("metadata.name", "FieldValueInvalid")


@pytest.mark.parametrize("name", ["a", "0", "a.b-c.d", "a" * 253], ids=lambda name: name[:12])
def test_names_that_are_dns_subdomains(maps: Resource, name: str) -> None:
    """Dots, digits first and 253 characters are allowed where a type takes subdomains."""
    maps.create(config_map(name))
    assert maps.get(name)["metadata"]["name"] == name


@pytest.mark.parametrize("name", ["a.b", "a" * 64])
def test_namespaces_have_label_names(api: Api, name: str) -> None:
    """A namespace's name is an RFC 1123 label: no dots, at most 63 characters."""
    with refused(422, "Invalid") as error:
        api.resource("namespaces").create(namespace(name))
    assert ("metadata.name", "FieldValueInvalid") in error.causes


def test_kind_may_be_left_out_but_not_be_another(maps: Resource) -> None:
    """The path says the type; a body of another kind is refused, one without kind is taken as that type."""
    made = maps.create({"metadata": {"name": "plain"}, "data": {"a": "1"}})
    assert (made["kind"], made["apiVersion"], made["data"]) == ("ConfigMap", "v1", {"a": "1"})
    with refused(400, "BadRequest", "cannot be handled as a ConfigMap"):
        maps.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other"}})
    with refused(400, "BadRequest"):
        maps.create({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "other"}})


def test_yaml_bodies_and_answers(maps: Resource) -> None:
    """YAML is taken and given where it is asked for."""
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: 'on'}\n"
    headers = {"Content-Type": "application/yaml", "Accept": "application/yaml"}
    response = maps.api.request("POST", maps.path, content=body, headers=headers)
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/yaml"
    assert "\nkind: ConfigMap\n" in "\n" + response.text
    assert maps.get("one")["data"] == {"a": "on"}


def test_binary_and_awkward_data_survive(maps: Resource) -> None:
    """Text comes back to the character: quotes, newlines, emoji, NUL, HTML, line separators, a long value."""
    data = {
        "q": 'a"b\\c',
        "n": "x\ny\r\n\tz",
        "u": "žluťoučký 🐎 \u2028\u2029",
        "nul": "a\x00b",
        "h": "<a href='x'>&amp;</a>",
        "e": "",
        "long": "x" * 500_000,
    }
    maps.create(config_map("one", data) | {"binaryData": {"b": "AP8Q"}})
    got = maps.get("one")
    assert got["data"] == data
    assert got["binaryData"] == {"b": "AP8Q"}


def test_null_in_a_map_is_a_zero_value(maps: Resource) -> None:
    """A null for a string in a typed map is its zero value."""
    maps.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": None, "b": "1"}})
    assert maps.get("one")["data"] == {"a": "", "b": "1"}


def test_empty_collections_are_left_out(maps: Resource) -> None:
    """Empty labels, annotations and data of a typed object are not stored."""
    made = maps.create(config_map("one", {}, labels={}, annotations={}, finalizers=[], ownerReferences=[]))
    assert set(made) == {"kind", "apiVersion", "metadata"}
    assert set(made["metadata"]) == {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}


def test_zero_values_of_typed_objects(ns: Namespace) -> None:
    """Built-in types are as Go writes them: optional fields at zero are left out, required ones are there."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "one"}, "rules": []}
    assert ns("rbac.authorization.k8s.io/v1/roles").create(role)["rules"] is None
    web = ns("apps/v1/deployments")
    web.create(deployment("web", paused=True))
    conditions = [{"type": "Odd", "status": "True"}]
    status = web.patch("web", {"status": {"replicas": 0, "conditions": conditions}}, subresource="status")["status"]
    assert "replicas" not in status
    assert [one for one in status["conditions"] if one["type"] == "Odd"] == [
        conditions[0] | {"lastTransitionTime": None, "lastUpdateTime": None}
    ]


def test_immutable_config_map(maps: Resource) -> None:
    """An immutable ConfigMap takes no other data and does not become mutable again; metadata may change."""
    maps.create(config_map("one", {"a": "1"}) | {"immutable": True})
    with refused(422, "Invalid", "field is immutable when `immutable` is set") as error:
        maps.patch("one", {"data": {"a": "2"}})
    assert error.causes == [("data", "FieldValueForbidden")]
    with refused(422, "Invalid"):
        maps.patch("one", {"immutable": False})
    assert maps.patch("one", {"metadata": {"labels": {"l": "1"}}})["metadata"]["labels"] == {"l": "1"}


def test_namespaced_objects_are_not_created_cluster_wide(api: Api) -> None:
    """POST to the collection over all namespaces is not a route."""
    with refused(405, "MethodNotAllowed"):
        api.resource("configmaps").create(config_map("one"))


def test_pretty_answers(maps: Resource) -> None:
    """`pretty=true` indents; by default an answer to a program is compact."""
    maps.create(config_map("one"))
    pretty = maps.api.request("GET", maps.at("one"), pretty="true")
    plain = maps.api.request("GET", maps.at("one"))
    assert pretty.text.startswith('{\n  "')
    assert plain.text.startswith('{"')
    assert pretty.json() == plain.json()
