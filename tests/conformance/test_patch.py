"""JSON patch, merge patch and strategic merge patch, and what all patches share."""

import json

import pytest

from .client import Json, Refused, Resource, refused
from .objects import config_map, container, custom, deployment, pod, service, service_account
from .surroundings import Namespace

# What all patches share


@pytest.mark.parametrize("kind", ["merge", "strategic", "json"])
def test_a_patch_changes_what_it_names(maps: Resource, kind: str) -> None:
    """The rest of the object stays; the version grows; the answer is the new object."""
    old = maps.create(config_map("one", {"a": "1", "b": "2"}, labels={"l": "1"}))
    body = [{"op": "replace", "path": "/data/a", "value": "9"}] if kind == "json" else {"data": {"a": "9"}}
    new = maps.patch("one", body, kind)
    assert new["data"] == {"a": "9", "b": "2"}
    assert new["metadata"]["labels"] == {"l": "1"}
    assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    assert maps.get("one") == new


@pytest.mark.parametrize("kind", ["merge", "strategic", "json"])
def test_a_patch_of_what_is_not_there(maps: Resource, kind: str) -> None:
    """Only apply creates."""
    with refused(404, "NotFound", 'configmaps "absent" not found'):
        maps.patch("absent", [] if kind == "json" else {}, kind)


@pytest.mark.parametrize("kind", ["merge", "strategic", "json"])
def test_a_patch_with_a_version_is_conditional(maps: Resource, kind: str) -> None:
    """metadata.resourceVersion in a patch is a precondition."""
    old = maps.create(config_map("one", {"a": "1"}))["metadata"]["resourceVersion"]

    def body(version: str, value: str) -> object:
        if kind == "json":
            replaced = {"/metadata/resourceVersion": version, "/data/a": value}
            return [{"op": "replace", "path": path, "value": one} for path, one in replaced.items()]
        return {"metadata": {"resourceVersion": version}, "data": {"a": value}}

    maps.patch("one", body(old, "2"), kind)
    with refused(409, "Conflict", "the object has been modified"):
        maps.patch("one", body(old, "3"), kind)
    assert maps.get("one")["data"] == {"a": "2"}


def test_a_patch_with_another_uid(maps: Resource) -> None:
    """metadata.uid is immutable; a patch that says another is meant for another object."""
    maps.create(config_map("one"))
    with refused(422, "Invalid", "field is immutable") as error:
        maps.patch("one", {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}})
    assert set(error.causes) == {("metadata.uid", "FieldValueInvalid")}


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"metadata": {"name": "two"}}, 400, "BadRequest"),
        ({"metadata": {"namespace": "default"}}, 400, "BadRequest"),
        ({"kind": "Secret"}, 422, "Invalid"),
    ],
    ids=["name", "namespace", "kind"],
)
def test_a_patch_cannot_change_what_the_object_is(maps: Resource, change: Json, code: int, reason: str) -> None:
    """Name, namespace and kind are those of the path."""
    maps.create(config_map("one"))
    with refused(code, reason):
        maps.patch("one", change)


def test_a_patch_of_another_type_is_refused(maps: Resource) -> None:
    """application/json is not a patch."""
    maps.create(config_map("one"))
    response = maps.api.request("PATCH", maps.at("one"), content=b"{}", headers={"Content-Type": "application/json"})
    assert response.status_code == 415
    assert response.json()["reason"] == "UnsupportedMediaType"


def test_strategic_patches_are_for_built_in_types(widgets: Resource, widgets_group: str) -> None:
    """A custom resource has no strategic merge; the refusal says what it does take."""
    widgets.create(custom(widgets_group, "one"))
    with refused(415, "UnsupportedMediaType", "application/json-patch+json, application/merge-patch+json"):
        widgets.patch("one", {"spec": {"a": 1}}, "strategic")


@pytest.mark.parametrize("kind", ["merge", "strategic", "json"])
def test_a_patch_that_is_no_json(maps: Resource, kind: str) -> None:
    """A body that does not parse is a bad request."""
    maps.create(config_map("one"))
    types = {"merge": "merge-patch", "strategic": "strategic-merge-patch", "json": "json-patch"}
    headers = {"Content-Type": f"application/{types[kind]}+json"}
    response = maps.api.request("PATCH", maps.at("one"), content=b"{bad", headers=headers)
    assert (response.status_code, response.json()["reason"]) == (400, "BadRequest")


def test_a_patch_is_validated(maps: Resource) -> None:
    """The result of a patch must be a valid object."""
    maps.create(config_map("one"))
    with refused(422, "Invalid") as error:
        maps.patch("one", {"metadata": {"labels": {"-bad": "x"}}})
    assert set(error.causes) == {("metadata.labels", "FieldValueInvalid")}


def test_a_patch_of_the_wrong_shape(maps: Resource) -> None:
    """A result that does not decode into the type is refused, and nothing changes."""
    made = maps.create(config_map("one", {"a": "1"}))
    with pytest.raises(Refused, match=r"(400|422)"):
        maps.patch("one", {"data": {"a": {"not": "a string"}}})
    assert maps.get("one") == made


# JSON patch (RFC 6902)


def doc(widgets: Resource, group: str, spec: Json) -> None:
    widgets.create(custom(group, "one", spec))


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([{"op": "add", "path": "/spec/b", "value": 2}], {"a": [1, 2], "b": 2}),
        ([{"op": "add", "path": "/spec/a/1", "value": 9}], {"a": [1, 9, 2]}),
        ([{"op": "add", "path": "/spec/a/-", "value": 9}], {"a": [1, 2, 9]}),
        ([{"op": "remove", "path": "/spec/a/0"}], {"a": [2]}),
        ([{"op": "replace", "path": "/spec/a", "value": {"x": None}}], {"a": {"x": None}}),
        ([{"op": "move", "from": "/spec/a", "path": "/spec/b"}], {"b": [1, 2]}),
        ([{"op": "copy", "from": "/spec/a/1", "path": "/spec/b"}], {"a": [1, 2], "b": 2}),
        (
            [{"op": "test", "path": "/spec/a", "value": [1, 2]}, {"op": "remove", "path": "/spec/a"}],
            {},
        ),
        ([{"op": "add", "path": "/spec/x~1y~0z", "value": 1}], {"a": [1, 2], "x/y~z": 1}),
        ([], {"a": [1, 2]}),
    ],
    ids=["add", "insert", "append", "remove", "replace", "move", "copy", "test-and-remove", "escapes", "nothing"],
)
def test_json_patch_operations(widgets: Resource, widgets_group: str, operations: list[Json], expected: Json) -> None:
    """add, remove, replace, move, copy and test, with array positions, `-` and escapes."""
    doc(widgets, widgets_group, {"a": [1, 2]})
    assert widgets.patch("one", operations, "json")["spec"] == expected


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/spec/a/0", "value": 9},
        {"op": "test", "path": "/spec/absent", "value": 1},
        {"op": "remove", "path": "/spec/absent"},
        {"op": "add", "path": "/spec/absent/child", "value": 1},
        {"op": "add", "path": "/spec/a/7", "value": 1},
        {"op": "move", "from": "/spec/absent", "path": "/spec/b"},
    ],
    ids=["test", "test-absent", "remove", "add-below", "add-beyond", "move"],
)
def test_json_patch_operations_that_fail(widgets: Resource, widgets_group: str, operation: Json) -> None:
    """An operation that cannot be done, or a test that fails, is 422 and undoes those before it."""
    doc(widgets, widgets_group, {"a": [1, 2]})
    with refused(422, "Invalid"):
        widgets.patch("one", [{"op": "add", "path": "/spec/first", "value": 1}, operation], "json")
    assert widgets.get("one")["spec"] == {"a": [1, 2]}


def test_json_patch_must_be_a_list(maps: Resource) -> None:
    """An object is no JSON patch."""
    maps.create(config_map("one"))
    with refused(400, "BadRequest"):
        maps.patch("one", {"op": "add", "path": "/data", "value": {}}, "json")


def test_json_patch_has_a_limit(maps: Resource) -> None:
    """More than 10,000 operations are too many."""
    maps.create(config_map("one", {"a": "1"}))
    with refused(413, "RequestEntityTooLarge", "The allowed maximum operations in a JSON patch is 10000"):
        maps.patch("one", [{"op": "test", "path": "/data/a", "value": "1"}] * 10_001, "json")


# Merge patch (RFC 7386)


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"a": {"x": 9}}, {"a": {"x": 9, "y": 2}, "l": [1, 2]}),
        ({"a": None}, {"l": [1, 2]}),
        ({"a": {"x": None}}, {"a": {"y": 2}, "l": [1, 2]}),
        ({"l": [3]}, {"a": {"x": 1, "y": 2}, "l": [3]}),
        ({"l": []}, {"a": {"x": 1, "y": 2}, "l": []}),
        ({"n": {"deep": {"er": 1, "gone": None}}}, {"a": {"x": 1, "y": 2}, "l": [1, 2], "n": {"deep": {"er": 1}}}),
        ({"a": 5}, {"a": 5, "l": [1, 2]}),
        ({"absent": None}, {"a": {"x": 1, "y": 2}, "l": [1, 2]}),
    ],
    ids=["merge", "remove", "remove-below", "replace-list", "empty-list", "new", "replace-map", "remove-absent"],
)
def test_merge_patch(widgets: Resource, widgets_group: str, patch: Json, expected: Json) -> None:
    """Maps merge, null removes, lists and scalars are replaced whole."""
    doc(widgets, widgets_group, {"a": {"x": 1, "y": 2}, "l": [1, 2]})
    assert widgets.patch("one", {"spec": patch})["spec"] == expected


def test_merge_patch_null_removes_labels_and_data(maps: Resource) -> None:
    """null removes an entry, or a whole map."""
    maps.create(config_map("one", {"a": "1", "b": "2"}, labels={"x": "1", "y": "2"}))
    got = maps.patch("one", {"data": {"a": None}, "metadata": {"labels": None}})
    assert got["data"] == {"b": "2"}
    assert "labels" not in got["metadata"]


# Strategic merge patch


def names(items: list[Json]) -> list[str]:
    return [item["name"] for item in items]


@pytest.fixture
def web(ns: Namespace) -> Resource:
    """A Deployment `web` with containers a and b; a has two ports, two variables and an argument list."""
    ports = [{"containerPort": 80, "name": "http"}, {"containerPort": 443, "name": "https"}]
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    spec = {"containers": [container("a", ports=ports, env=env, args=["x", "y"]), container("b")]}
    resource = ns("apps/v1/deployments")
    resource.create(deployment("web", template={"metadata": {"labels": {"app": "web"}}, "spec": spec}))
    return resource


def containers_of(answer: Json) -> list[Json]:
    found: list[Json] = answer["spec"]["template"]["spec"]["containers"]
    return found


def in_template(**spec: object) -> Json:
    return {"spec": {"template": {"spec": spec}}}


def test_strategic_lists_merge_by_key(web: Resource) -> None:
    """Containers merge by name: the named one changes, the others stay, a new one is put first."""
    got = containers_of(web.patch("web", in_template(containers=[{"name": "b", "image": "other:2"}]), "strategic"))
    assert [(one["name"], one["image"]) for one in got] == [("a", "registry.invalid/none:1"), ("b", "other:2")]
    got = containers_of(web.patch("web", in_template(containers=[container("c")]), "strategic"))
    assert names(got) == ["c", "a", "b"]


def test_strategic_lists_merge_below(web: Resource) -> None:
    """Variables merge by name and ports by number inside a container; plain lists are replaced."""
    change = {
        "name": "a",
        "env": [{"name": "B", "value": "9"}, {"name": "C", "value": "3"}],
        "ports": [{"containerPort": 80, "name": "web"}],
        "args": ["z"],
    }
    got = containers_of(web.patch("web", in_template(containers=[change]), "strategic"))[0]
    assert {one["name"]: one["value"] for one in got["env"]} == {"A": "1", "B": "9", "C": "3"}
    assert {one["containerPort"]: one["name"] for one in got["ports"]} == {80: "web", 443: "https"}
    assert got["args"] == ["z"]


def test_strategic_patch_delete(web: Resource) -> None:
    """`$patch: delete` takes one element out of a keyed list."""
    change = in_template(containers=[{"name": "a", "$patch": "delete"}])
    assert names(containers_of(web.patch("web", change, "strategic"))) == ["b"]


def test_strategic_patch_delete_of_what_is_absent(web: Resource) -> None:
    """Taking out what is not there changes nothing."""
    change = in_template(containers=[{"name": "zzz", "$patch": "delete"}])
    assert names(containers_of(web.patch("web", change, "strategic"))) == ["a", "b"]


def test_strategic_patch_replace_list(web: Resource) -> None:
    """`$patch: replace` in a list makes the rest of the patch's list the whole list."""
    change = in_template(containers=[container("only"), {"$patch": "replace"}])
    assert names(containers_of(web.patch("web", change, "strategic"))) == ["only"]


def test_strategic_patch_replace_map(maps: Resource) -> None:
    """`$patch: replace` in a map makes the rest of the patch's map the whole map."""
    maps.create(config_map("one", {"a": "1", "b": "2"}))
    assert maps.patch("one", {"data": {"$patch": "replace", "c": "3"}}, "strategic")["data"] == {"c": "3"}


def test_strategic_patch_delete_map(maps: Resource) -> None:
    """`$patch: delete` in a map empties it."""
    maps.create(config_map("one", {"a": "1"}))
    assert "data" not in maps.patch("one", {"data": {"$patch": "delete"}}, "strategic")


def test_strategic_set_element_order(web: Resource) -> None:
    """`$setElementOrder/…` says the order of a keyed list."""
    change = in_template(
        **{
            "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
            "containers": [container("c")],
        }
    )
    assert names(containers_of(web.patch("web", change, "strategic"))) == ["b", "c", "a"]


def test_strategic_order_that_misses_an_element(web: Resource) -> None:
    """An element of the patch that is not in the order given is refused."""
    change = in_template(**{"$setElementOrder/containers": [{"name": "a"}], "containers": [container("c")]})
    with pytest.raises(Refused, match="The order in patch list"):
        web.patch("web", change, "strategic")


def test_strategic_retain_keys(web: Resource) -> None:
    """`$retainKeys` drops the keys of a union that are not named: a strategy of another type keeps no old settings."""
    change = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert web.patch("web", change, "strategic")["spec"]["strategy"] == {"type": "Recreate"}


def test_strategic_retain_keys_for_volumes(pods: Resource, ns: Namespace) -> None:
    """A volume given by name with another source replaces the old source (volumes retain keys by strategy)."""
    spec = {
        "containers": [container()],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
    }
    web = ns("apps/v1/deployments")
    web.create(deployment("vols", template={"metadata": {"labels": {"app": "web"}}, "spec": spec}))
    change = in_template(volumes=[{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}])
    got = web.patch("vols", change, "strategic")["spec"]["template"]["spec"]["volumes"]
    by_name = {one["name"]: one for one in got}
    assert by_name["v"].keys() == {"name", "secret"}
    assert by_name["w"] == {"name": "w", "emptyDir": {}}


def test_strategic_delete_from_primitive_list(maps: Resource) -> None:
    """`$deleteFromPrimitiveList/…` takes values out of a merged list of plain values; adding merges."""
    maps.create(config_map("one", finalizers=["example.com/a", "example.com/b"]))
    got = maps.patch("one", {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}}, "strategic")
    assert got["metadata"]["finalizers"] == ["example.com/b"]
    got = maps.patch("one", {"metadata": {"finalizers": ["example.com/c"]}}, "strategic")
    assert sorted(got["metadata"]["finalizers"]) == ["example.com/b", "example.com/c"]
    maps.patch("one", {"metadata": {"finalizers": None}}, "strategic")
    assert "finalizers" not in maps.get("one")["metadata"]


def test_strategic_merge_of_owner_references_is_by_uid(maps: Resource) -> None:
    """Owner references merge by uid."""
    owners = {name: maps.create(config_map(name))["metadata"]["uid"] for name in ("a", "b")}

    def owner(name: str, **fields: object) -> Json:
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": owners[name]} | fields

    maps.create(config_map("one", ownerReferences=[owner("a")]))
    change = {"metadata": {"ownerReferences": [owner("b"), owner("a", controller=True)]}}
    got = maps.patch("one", change, "strategic")
    references = {one["name"]: one.get("controller") for one in got["metadata"]["ownerReferences"]}
    assert references == {"a": True, "b": None}


def test_strategic_null_removes(maps: Resource) -> None:
    """null removes, as in a merge patch."""
    maps.create(config_map("one", {"a": "1", "b": "2"}))
    assert maps.patch("one", {"data": {"a": None}}, "strategic")["data"] == {"b": "2"}


def test_strategic_service_ports_merge_by_number(ns: Namespace) -> None:
    """Service ports merge by `port`."""
    services = ns("services")
    services.create(service("web", ports=[{"name": "a", "port": 80}, {"name": "b", "port": 81}]))
    got = services.patch("web", {"spec": {"ports": [{"port": 81, "targetPort": 8081}]}}, "strategic")
    assert {one["port"]: one["targetPort"] for one in got["spec"]["ports"]} == {80: 80, 81: 8081}


def test_strategic_atomic_lists_are_replaced(pods: Resource) -> None:
    """A list without a merge key (tolerations are atomic; here: args of a Pod template) is replaced whole."""
    made = pods.create(pod("one", tolerations=[{"key": "a", "operator": "Exists"}]))
    tolerations = [*made["spec"]["tolerations"], {"key": "b", "operator": "Exists"}]
    got = pods.patch("one", {"spec": {"tolerations": tolerations}}, "strategic")
    assert got["spec"]["tolerations"] == tolerations


def test_strategic_lists_of_a_service_account(ns: Namespace) -> None:
    """A service account's secrets merge by name; its imagePullSecrets have no merge key and are replaced."""
    accounts = ns("serviceaccounts")
    accounts.create(service_account("robot", imagePullSecrets=[{"name": "a"}], secrets=[{"name": "a"}]))
    got = accounts.patch("robot", {"imagePullSecrets": [{"name": "b"}], "secrets": [{"name": "b"}]}, "strategic")
    assert names(got["imagePullSecrets"]) == ["b"]
    assert sorted(names(got["secrets"])) == ["a", "b"]


def test_unknown_directives_are_refused(web: Resource) -> None:
    """A `$patch` of an unknown kind is an error, not data."""
    with pytest.raises(Refused, match=r"(400|422|500)"):
        web.patch("web", in_template(containers=[{"name": "a", "$patch": "explode"}]), "strategic")


def test_a_patch_type_with_parameters(maps: Resource) -> None:
    """Parameters of the patch's media type do not matter."""
    maps.create(config_map("one", {"a": "1"}))
    body = json.dumps({"data": {"a": "2"}}).encode()
    headers = {"Content-Type": "application/merge-patch+json; charset=utf-8"}
    assert maps.api.request("PATCH", maps.at("one"), content=body, headers=headers).json()["data"] == {"a": "2"}
