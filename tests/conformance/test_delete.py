"""Delete and deletecollection: preconditions, finalizers, propagation, grace, selectors."""

import pytest

from .client import Json, Resource, refused
from .objects import config_map, container, custom, deployment, pod, secret
from .surroundings import Namespace

ZERO_UID = "00000000-0000-0000-0000-000000000000"


def options(**fields: object) -> Json:
    return {"apiVersion": "v1", "kind": "DeleteOptions"} | fields


def test_the_uid_precondition(maps: Resource) -> None:
    """Another uid: a conflict, and the object stays; the right one: it goes."""
    uid = maps.create(config_map("one"))["metadata"]["uid"]
    with refused(409, "Conflict", "the UID in the precondition") as error:
        maps.delete("one", options(preconditions={"uid": ZERO_UID}))
    assert error.details["name"] == "one"
    assert maps.exists("one")
    maps.delete("one", options(preconditions={"uid": uid}))
    assert not maps.exists("one")


def test_the_version_precondition(maps: Resource) -> None:
    """Another resourceVersion: a conflict; the present one: it goes."""
    old = maps.create(config_map("one"))["metadata"]["resourceVersion"]
    new = maps.patch("one", {"data": {"a": "1"}})["metadata"]["resourceVersion"]
    with refused(409, "Conflict", "the ResourceVersion in the precondition"):
        maps.delete("one", options(preconditions={"resourceVersion": old}))
    maps.delete("one", options(preconditions={"resourceVersion": new}))
    assert not maps.exists("one")


def test_options_may_come_without_kind(maps: Resource) -> None:
    """The body of a delete may leave out kind and apiVersion, or be empty, or carry the type's own version."""
    for name, body in {"a": {}, "b": None, "c": {"propagationPolicy": "Background"}}.items():
        maps.create(config_map(name))
        maps.delete(name, body)
        assert not maps.exists(name)


def test_options_in_the_query(maps: Resource) -> None:
    """propagationPolicy and gracePeriodSeconds may be query parameters."""
    maps.create(config_map("one"))
    maps.delete("one", propagationPolicy="Background", gracePeriodSeconds=0)
    assert not maps.exists("one")


def test_a_body_that_is_no_options(maps: Resource) -> None:
    """A body of another kind, or no JSON, is a bad request; nothing is deleted."""
    maps.create(config_map("one"))
    with refused(400, "BadRequest"):
        maps.delete("one", config_map("one"))
    response = maps.api.request("DELETE", maps.at("one"), content=b"{bad", headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert maps.exists("one")


@pytest.mark.parametrize(
    "fields",
    [
        {"propagationPolicy": "Sideways"},
        {"propagationPolicy": "Orphan", "orphanDependents": True},
        {"dryRun": ["Some"]},
    ],
    ids=["policy", "both", "dry-run"],
)
def test_options_that_make_no_sense(maps: Resource, fields: Json) -> None:
    """Unknown values and contradictions are refused; nothing is deleted."""
    maps.create(config_map("one"))
    with refused(422, "Invalid"):
        maps.delete("one", options(**fields))
    assert maps.exists("one")


# Finalizers


def test_a_finalizer_holds_the_object(maps: Resource) -> None:
    """Delete sets deletionTimestamp and answers with the object; it goes when the last finalizer goes."""
    made = maps.create(config_map("one", {"a": "1"}, finalizers=["example.com/a", "example.com/b"]))
    answer = maps.delete("one")
    assert (answer["kind"], answer["metadata"]["uid"]) == ("ConfigMap", made["metadata"]["uid"])
    assert answer["metadata"]["deletionTimestamp"]
    assert answer["metadata"]["deletionGracePeriodSeconds"] == 0
    assert maps.get("one") == answer
    maps.patch("one", {"metadata": {"finalizers": ["example.com/b"]}})
    assert maps.exists("one")
    maps.patch("one", {"metadata": {"finalizers": None}})
    assert not maps.exists("one")


def test_the_last_write_of_a_finalized_object_is_its_deletion(maps: Resource) -> None:
    """Watchers see: MODIFIED with a deletionTimestamp, then DELETED at the version of the last update."""
    start = maps.create(config_map("one", {"a": "1"}, finalizers=["example.com/a"]))["metadata"]["resourceVersion"]
    maps.delete("one")
    maps.patch("one", {"metadata": {"finalizers": None}, "data": {"a": "last"}})
    with maps.watch(resourceVersion=start, fieldSelector="metadata.name=one") as watch:
        marked, deleted = watch.take(2)
    assert (marked.type, deleted.type) == ("MODIFIED", "DELETED")
    assert "deletionTimestamp" in marked.object["metadata"]
    assert int(deleted.object["metadata"]["resourceVersion"]) > int(marked.object["metadata"]["resourceVersion"])


def test_deleting_twice_changes_nothing(maps: Resource) -> None:
    """A second delete of an object that waits for finalizers keeps the first time."""
    maps.create(config_map("one", finalizers=["example.com/a"]))
    first = maps.delete("one")
    second = maps.delete("one")
    assert second["metadata"]["deletionTimestamp"] == first["metadata"]["deletionTimestamp"]
    maps.patch("one", {"metadata": {"finalizers": None}})


def test_finalizers_cannot_be_added_to_a_dying_object(maps: Resource) -> None:
    """Once deletion has begun the set of finalizers only shrinks."""
    maps.create(config_map("one", finalizers=["example.com/a"]))
    maps.delete("one")
    with refused(422, "Invalid", "no new finalizers can be added if the object is being deleted") as error:
        maps.patch("one", {"metadata": {"finalizers": ["example.com/a", "example.com/b"]}})
    assert set(error.causes) == {("metadata.finalizers", "FieldValueForbidden")}
    maps.patch("one", {"metadata": {"finalizers": None}})


def test_a_dying_object_can_be_updated_but_not_recreated(maps: Resource) -> None:
    """Data may still change; the name is taken until it is gone."""
    maps.create(config_map("one", finalizers=["example.com/a"]))
    maps.delete("one")
    assert maps.patch("one", {"data": {"a": "1"}})["data"] == {"a": "1"}
    with refused(409, "AlreadyExists") as error:
        maps.create(config_map("one"))
    assert "object is being deleted" in error.message or "already exists" in error.message
    maps.patch("one", {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("finalizer", ["nodomain", "Bad Name/x", "a/b/c"])
def test_finalizers_have_qualified_names(maps: Resource, finalizer: str) -> None:
    """A finalizer other than Kubernetes' own has a domain."""
    with refused(422, "Invalid"):
        maps.create(config_map("one", finalizers=[finalizer]))


def test_deleting_a_custom_resource_bumps_its_generation(widgets: Resource, widgets_group: str) -> None:
    """deletionTimestamp counts as a change of what is wanted."""
    body = custom(widgets_group, "one", {"a": 1})
    body["metadata"]["finalizers"] = ["example.com/a"]
    assert widgets.create(body)["metadata"]["generation"] == 1
    assert widgets.delete("one")["metadata"]["generation"] == 2
    widgets.patch("one", {"metadata": {"finalizers": None}})
    assert not widgets.exists("one")


# Propagation


def test_background_is_immediate(ns: Namespace) -> None:
    """Background, the default: the owner goes at once, with a Status as the answer."""
    maps = ns("configmaps")
    maps.create(config_map("owner"))
    assert maps.delete("owner", options(propagationPolicy="Background"))["status"] == "Success"
    assert not maps.exists("owner")


@pytest.mark.parametrize(
    ("fields", "finalizer"),
    [
        ({"propagationPolicy": "Foreground"}, "foregroundDeletion"),
        ({"propagationPolicy": "Orphan"}, "orphan"),
        ({"orphanDependents": True}, "orphan"),
    ],
    ids=["foreground", "orphan", "orphanDependents"],
)
def test_propagation_is_a_finalizer(ns: Namespace, fields: Json, finalizer: str) -> None:
    """Foreground and Orphan leave the owner, marked, to the garbage collector."""
    deployments = ns("apps/v1/deployments")
    deployments.create(deployment("web", replicas=0))
    answer = deployments.delete("web", options(**fields))
    assert answer["kind"] == "Deployment"
    assert finalizer in answer["metadata"]["finalizers"]
    assert answer["metadata"]["deletionTimestamp"]


# Grace


def test_a_pod_that_is_on_no_node_goes_at_once(pods: Resource) -> None:
    """There is nobody to stop it, so nobody to wait for."""
    pods.create(pod("one", schedulerName="none"))
    pods.delete("one")
    assert not pods.exists("one")


def test_a_bound_pod_has_its_grace(pods: Resource) -> None:
    """A Pod on a node gets a deletionTimestamp in the future and stays until its node lets go; grace 0 forces it."""
    pods.create(pod("one", nodeName="nowhere", terminationGracePeriodSeconds=17))
    answer = pods.delete("one")
    assert answer["metadata"]["deletionGracePeriodSeconds"] == 17
    assert answer["metadata"]["deletionTimestamp"] > answer["metadata"]["creationTimestamp"]
    assert pods.delete("one", options(gracePeriodSeconds=5))["metadata"]["deletionGracePeriodSeconds"] == 5
    assert pods.delete("one", options(gracePeriodSeconds=30))["metadata"]["deletionGracePeriodSeconds"] == 5
    pods.delete("one", options(gracePeriodSeconds=0))
    assert not pods.exists("one")


def test_grace_of_the_request_counts(pods: Resource) -> None:
    """gracePeriodSeconds of the request is taken instead of the Pod's own."""
    pods.create(pod("one", nodeName="nowhere"))
    assert pods.delete("one", gracePeriodSeconds=3)["metadata"]["deletionGracePeriodSeconds"] == 3
    pods.delete("one", gracePeriodSeconds=0)
    assert not pods.exists("one")


def test_a_finished_pod_goes_at_once(pods: Resource) -> None:
    """A Pod whose phase is final has nothing to stop."""
    pods.create(pod("one", nodeName="nowhere"))
    pods.patch("one", {"status": {"phase": "Succeeded"}}, subresource="status")
    pods.delete("one")
    assert not pods.exists("one")


# Collections


@pytest.fixture
def some(ns: Namespace) -> Resource:
    resource = ns("secrets")
    for name, labels in {"a": {"x": "1"}, "b": {"x": "1", "y": "1"}, "c": {"y": "1"}}.items():
        resource.create(secret(name, metadata={"name": name, "labels": labels}))
    return resource


def test_delete_a_collection(some: Resource, namespaces) -> None:
    """All objects of the namespace go, and none of another; the answer is the list of what went."""
    other = namespaces()("secrets")
    other.create(secret("theirs"))
    answer = some.delete_all()
    assert answer["kind"] == "SecretList"
    assert [item["metadata"]["name"] for item in answer["items"]] == ["a", "b", "c"]
    assert some.names() == []
    assert other.names() == ["theirs"]


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ({"labelSelector": "x=1"}, ["c"]),
        ({"labelSelector": "x=1,y"}, ["a", "c"]),
        ({"fieldSelector": "metadata.name=a"}, ["b", "c"]),
        ({"labelSelector": "y", "fieldSelector": "metadata.name!=b"}, ["a", "b"]),
        ({"labelSelector": "none"}, ["a", "b", "c"]),
    ],
)
def test_delete_a_collection_by_selector(some: Resource, query: Json, left: list[str]) -> None:
    """Only what matches goes."""
    some.delete_all(**query)
    assert some.names() == left


def test_delete_a_collection_with_finalizers(maps: Resource) -> None:
    """Objects with finalizers are marked and stay."""
    maps.create(config_map("held", finalizers=["example.com/a"]))
    maps.create(config_map("free"))
    maps.delete_all(labelSelector="!kubernetes.io/none", fieldSelector="metadata.name!=kube-root-ca.crt")
    assert not maps.exists("free")
    assert maps.get("held")["metadata"]["deletionTimestamp"]
    maps.patch("held", {"metadata": {"finalizers": None}})


def test_delete_a_collection_with_a_bad_selector(some: Resource) -> None:
    """A selector that does not parse deletes nothing."""
    with refused(400, "BadRequest"):
        some.delete_all(labelSelector="a in x")
    assert some.names() == ["a", "b", "c"]


def test_delete_an_empty_collection(ns: Namespace) -> None:
    """Nothing to delete is a success."""
    assert ns("coordination.k8s.io/v1/leases").delete_all()["items"] == []


def test_namespaces_have_no_deletecollection(ns: Namespace) -> None:
    """A slip does not delete all namespaces."""
    with refused(405, "MethodNotAllowed"):
        ns.api.resource("namespaces").delete_all(labelSelector="no-such-label=x")


def test_the_answer_to_the_delete_of_a_pod(pods: Resource) -> None:
    """The answer to the delete of a Pod is the Pod, not a Status."""
    pods.create(pod("one", schedulerName="none", containers=[container("x")]))
    answer = pods.delete("one")
    assert (answer["kind"], answer["spec"]["containers"][0]["name"]) == ("Pod", "x")
