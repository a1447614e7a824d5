"""Dry run: the whole answer, no trace."""

import pytest

from .client import Json, Resource, refused
from .objects import config_map, custom, deployment, pod
from .surroundings import Namespace

DRY = {"dryRun": "All"}


def test_create_leaves_nothing(maps: Resource) -> None:
    """The answer has what a create fills in but no resourceVersion; nothing is stored and no watcher wakes."""
    start = maps.create(config_map("before"))["metadata"]["resourceVersion"]
    made = maps.create(config_map("one", {"a": "1"}), **DRY)
    assert made["metadata"]["uid"]
    assert made["metadata"]["creationTimestamp"]
    assert "resourceVersion" not in made["metadata"]
    assert not maps.exists("one")
    maps.create(config_map("after"))
    with maps.watch(resourceVersion=start, fieldSelector="metadata.name!=kube-root-ca.crt") as watch:
        assert watch.next().brief == ("ADDED", "after")


@pytest.mark.parametrize("kind", ["put", "merge", "json", "strategic", "apply"])
def test_changes_leave_nothing(maps: Resource, kind: str) -> None:
    """Each way to change answers with the change and keeps the old object."""
    old = maps.create(config_map("one", {"a": "1"}))
    if kind == "put":
        new = maps.replace(config_map("one", {"a": "2"}), **DRY)
    elif kind == "apply":
        new = maps.apply(config_map("one", {"a": "2"}), force="true", **DRY)
    else:
        body = [{"op": "replace", "path": "/data/a", "value": "2"}] if kind == "json" else {"data": {"a": "2"}}
        new = maps.patch("one", body, kind, **DRY)
    assert new["data"] == {"a": "2"}
    assert maps.get("one") == old


def test_apply_creates_nothing(maps: Resource) -> None:
    """Apply of a new object, dry."""
    assert maps.apply(config_map("one", {"a": "1"}), **DRY)["data"] == {"a": "1"}
    assert not maps.exists("one")


def test_delete_leaves_it(maps: Resource) -> None:
    """A dry delete answers as a delete and deletes nothing, by query or by body; a collection likewise."""
    old = maps.create(config_map("one"))
    maps.delete("one", **DRY)
    maps.delete("one", {"apiVersion": "v1", "kind": "DeleteOptions", "dryRun": ["All"]})
    maps.delete_all(fieldSelector="metadata.name=one", **DRY)
    assert maps.get("one") == old


def test_a_finalized_object_is_not_marked(maps: Resource) -> None:
    """A dry delete of an object with finalizers answers with a deletionTimestamp and stores none."""
    maps.create(config_map("one", finalizers=["example.com/a"]))
    assert maps.delete("one", **DRY)["metadata"]["deletionTimestamp"]
    assert "deletionTimestamp" not in maps.get("one")["metadata"]
    maps.patch("one", {"metadata": {"finalizers": None}})


def test_the_last_finalizer_stays(maps: Resource) -> None:
    """Taking the last finalizer off a dying object, dry, does not delete it."""
    maps.create(config_map("one", finalizers=["example.com/a"]))
    maps.delete("one")
    maps.patch("one", {"metadata": {"finalizers": None}}, **DRY)
    assert maps.exists("one")
    maps.patch("one", {"metadata": {"finalizers": None}})
    assert not maps.exists("one")


def test_refusals_are_the_same(maps: Resource, pods: Resource) -> None:
    """What would be refused is refused: validation, conflicts, absence, existence."""
    maps.create(config_map("one"))
    with refused(409, "AlreadyExists"):
        maps.create(config_map("one"), **DRY)
    with refused(409, "Conflict"):
        maps.replace(config_map("one", resourceVersion="1"), **DRY)
    with refused(404, "NotFound"):
        maps.delete("absent", **DRY)
    with refused(422, "Invalid"):
        pods.create(pod("bad", containers=[]), **DRY)


def test_defaults_are_shown(ns: Namespace) -> None:
    """The answer has the defaults a real create would have."""
    made = ns("apps/v1/deployments").create(deployment("web"), **DRY)
    assert made["spec"]["replicas"] == 1
    assert made["metadata"]["generation"] == 1


def test_generated_names(maps: Resource) -> None:
    """A name is generated and belongs to nobody."""
    body: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-"}}
    name = maps.create(body, **DRY)["metadata"]["name"]
    assert name.startswith("run-")
    assert not maps.exists(name)


def test_subresources(widgets: Resource, widgets_group: str) -> None:
    """status and scale run dry too."""
    widgets.create(custom(widgets_group, "one", {"replicas": 1}))
    scaled = widgets.get("one", "scale")
    assert widgets.patch("one", {"spec": {"replicas": 5}}, subresource="scale", **DRY)["spec"]["replicas"] == 5
    assert widgets.patch("one", {"status": {"x": 1}}, subresource="status", **DRY)["status"] == {"x": 1}
    assert widgets.get("one", "scale") == scaled
    assert "status" not in widgets.get("one")


def test_unknown_values_are_refused(maps: Resource) -> None:
    """Only `All` is a dry run: a typo must not write."""
    with refused(422, "Invalid", "dryRun") as error:
        maps.create(config_map("one"), dryRun="true")
    assert error.causes == [("dryRun", "FieldValueNotSupported")]
    assert not maps.exists("one")


def test_namespaces(ns: Namespace) -> None:
    """A namespace's dry delete does not end it."""
    ns.api.resource("namespaces").delete(ns.name, **DRY)
    assert ns.api.resource("namespaces").get(ns.name)["status"]["phase"] == "Active"


def test_bindings(pods: Resource) -> None:
    """A dry binding binds nothing."""
    pods.create(pod("one", schedulerName="none"))
    target = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "one"},
        "target": {"kind": "Node", "name": "n"},
    }
    pods.post("one", "binding", target, **DRY)
    assert "nodeName" not in pods.get("one")["spec"]
