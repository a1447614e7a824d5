"""The status and scale subresources, and when generation moves."""

import pytest

from .client import Json, Resource, refused
from .objects import crd, custom, deployment, pod, replica_set, service
from .surroundings import Namespace

# Status


def test_status_is_isolated_from_the_object(widgets: Resource, widgets_group: str) -> None:
    """A write to the object ignores status; a write to status ignores all but status."""
    made = widgets.create(custom(widgets_group, "one", {"a": 1}, status={"x": 1}))
    assert "status" not in made
    got = widgets.replace(made | {"spec": {"a": 2}, "status": {"x": 2}}, "status")
    assert (got["spec"], got["status"]) == ({"a": 1}, {"x": 2})
    got = widgets.replace(got | {"spec": {"a": 3}, "status": {"x": 3}})
    assert (got["spec"], got["status"]) == ({"a": 3}, {"x": 2})


@pytest.mark.parametrize("kind", ["merge", "json"])
def test_patches_of_status(widgets: Resource, widgets_group: str, kind: str) -> None:
    """A patch of the status changes status and nothing else, whatever it says."""
    widgets.create(custom(widgets_group, "one", {"a": 1}))
    body: object = {"status": {"x": 1}, "spec": {"a": 9}}
    if kind == "json":
        paths = {"/status": {"x": 1}, "/spec/a": 9}
        body = [{"op": "add", "path": path, "value": value} for path, value in paths.items()]
    got = widgets.patch("one", body, kind, "status")
    assert (got["spec"], got["status"]) == ({"a": 1}, {"x": 1})
    assert widgets.patch("one", {"status": {"x": 5}})["status"] == {"x": 1}


def test_get_of_status_is_the_object(widgets: Resource, widgets_group: str) -> None:
    """GET of the status gives the whole object."""
    widgets.create(custom(widgets_group, "one", {"a": 1}))
    made = widgets.patch("one", {"status": {"x": 1}}, subresource="status")
    assert widgets.get("one", "status") == made == widgets.get("one")


def test_status_writes_are_conditional_too(widgets: Resource, widgets_group: str) -> None:
    """A status write with an old version is a conflict."""
    old = widgets.create(custom(widgets_group, "one", {"a": 1}))
    widgets.patch("one", {"spec": {"a": 2}})
    with refused(409, "Conflict"):
        widgets.replace(old | {"status": {"x": 1}}, "status")


def test_status_of_what_is_not_there(widgets: Resource) -> None:
    """404, as for the object."""
    with refused(404, "NotFound"):
        widgets.patch("absent", {"status": {}}, subresource="status")


def test_without_the_subresource_status_is_plain(define, ns: Namespace) -> None:
    """A CRD version without a status subresource: status is a field like others, and the route is not there."""
    group = define()
    things = ns(f"{group}/v1/widgets")
    assert things.create(custom(group, "one", {"a": 1}, status={"x": 1}))["status"] == {"x": 1}
    assert things.patch("one", {"status": {"x": 2}})["status"] == {"x": 2}
    with refused(404, "NotFound"):
        things.get("one", "status")


def test_metadata_in_a_status_write(widgets: Resource, widgets_group: str) -> None:
    """A status write changes no labels, annotations or finalizers of a custom resource."""
    widgets.create(custom(widgets_group, "one"))
    change = {"metadata": {"labels": {"l": "1"}, "finalizers": ["example.com/a"]}, "status": {"x": 1}}
    meta = widgets.patch("one", change, subresource="status")["metadata"]
    assert "labels" not in meta
    assert "finalizers" not in meta


def test_status_of_built_in_types(ns: Namespace, pods: Resource) -> None:
    """Pods, Deployments, Services and more have a status of their own."""
    pods.create(pod("one", schedulerName="none") | {"status": {"phase": "Running"}})
    assert pods.get("one")["status"]["phase"] == "Pending"
    got = pods.patch("one", {"status": {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}}, subresource="status")
    assert got["status"]["podIP"] == "10.0.0.9"
    services = ns("services")
    services.create(service("web"))
    ingress = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    assert services.patch("web", {"status": ingress})["status"] == {"loadBalancer": {}}


# Generation


def test_generation_counts_changes_of_spec(widgets: Resource, widgets_group: str) -> None:
    """1 at birth; spec changes count; labels, status and unchanged writes do not."""

    def generation(answer: Json) -> int:
        return int(answer["metadata"]["generation"])

    assert generation(widgets.create(custom(widgets_group, "one", {"a": 1}))) == 1
    assert generation(widgets.patch("one", {"spec": {"a": 2}})) == 2
    assert generation(widgets.patch("one", {"spec": {"a": 2}})) == 2
    assert generation(widgets.patch("one", {"metadata": {"labels": {"l": "1"}}})) == 2
    assert generation(widgets.patch("one", {"status": {"x": 1}}, subresource="status")) == 2
    assert generation(widgets.patch("one", {"spec": {"replicas": 4}}, subresource="scale") and widgets.get("one")) == 3


def test_generation_of_a_kind_without_status(define, ns: Namespace) -> None:
    """Where status is plain, every change of content counts, but not one of metadata."""
    group = define()
    things = ns(f"{group}/v1/widgets")
    assert things.create(custom(group, "one", {"a": 1}))["metadata"]["generation"] == 1
    assert things.patch("one", {"status": {"x": 1}})["metadata"]["generation"] == 2
    assert things.patch("one", {"metadata": {"labels": {"l": "1"}}})["metadata"]["generation"] == 2


def test_generation_cannot_be_set(widgets: Resource, widgets_group: str) -> None:
    """A client's generation is ignored."""
    body = custom(widgets_group, "one", {"a": 1})
    body["metadata"]["generation"] = 7
    assert widgets.create(body)["metadata"]["generation"] == 1
    assert widgets.patch("one", {"metadata": {"generation": 9}})["metadata"]["generation"] == 1


@pytest.mark.parametrize("build", [deployment, replica_set], ids=["deployment", "replicaset"])
def test_generation_of_workloads(ns: Namespace, build) -> None:
    """Workloads count their spec changes the same way."""
    body = build("web", replicas=0)
    things = ns(f"apps/v1/{body['kind'].lower()}s")
    assert things.create(body)["metadata"]["generation"] == 1
    assert things.patch("web", {"spec": {"replicas": 2}}, "strategic")["metadata"]["generation"] == 2
    assert things.patch("web", {"metadata": {"labels": {"l": "1"}}})["metadata"]["generation"] == 2


def test_annotations_of_a_deployment_count(ns: Namespace) -> None:
    """A Deployment's generation grows with its annotations too: its controller copies them to the ReplicaSets."""
    web = ns("apps/v1/deployments")
    web.create(deployment("web", replicas=0))
    assert web.patch("web", {"metadata": {"annotations": {"a": "1"}}})["metadata"]["generation"] == 2


# Scale


def test_scale_of_a_deployment(ns: Namespace) -> None:
    """The Scale: its kind, the object's identity, wanted and present replicas, the selector as a string."""
    web = ns("apps/v1/deployments")
    made = web.create(deployment("web", replicas=3))
    scale = web.get("web", "scale")
    assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
    for field in ("name", "namespace", "uid", "creationTimestamp"):
        assert scale["metadata"][field] == made["metadata"][field]
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"]["selector"] == "app=web"


@pytest.mark.parametrize("kind", ["put", "merge", "json", "strategic"])
def test_writing_a_scale(ns: Namespace, kind: str) -> None:
    """Scale is written by update or patch; the object follows, its generation grows."""
    web = ns("apps/v1/deployments")
    web.create(deployment("web", replicas=1))
    if kind == "put":
        scale = web.get("web", "scale")
        del scale["metadata"]["resourceVersion"]
        got = web.replace(scale | {"spec": {"replicas": 4}}, "scale")
    else:
        body = (
            [{"op": "replace", "path": "/spec/replicas", "value": 4}] if kind == "json" else {"spec": {"replicas": 4}}
        )
        got = web.patch("web", body, kind, "scale")
    assert (got["kind"], got["spec"]) == ("Scale", {"replicas": 4})
    after = web.get("web")
    assert (after["spec"]["replicas"], after["metadata"]["generation"]) == (4, 2)


def test_scale_is_conditional(ns: Namespace) -> None:
    """A Scale carries the object's version; an old one is a conflict."""
    web = ns("apps/v1/deployments")
    web.create(deployment("web", replicas=1))
    scale = web.get("web", "scale")
    web.patch("web", {"metadata": {"labels": {"l": "1"}}})
    with refused(409, "Conflict"):
        web.replace(scale | {"spec": {"replicas": 4}}, "scale")


def test_scale_is_validated(ns: Namespace, widgets: Resource, widgets_group: str) -> None:
    """Replicas are not negative."""
    web = ns("apps/v1/deployments")
    web.create(deployment("web", replicas=1))
    with refused(422, "Invalid") as error:
        web.patch("web", {"spec": {"replicas": -1}}, subresource="scale")
    assert error.causes == [("spec.replicas", "FieldValueInvalid")]
    widgets.create(custom(widgets_group, "one", {"replicas": 1}))
    with refused(422, "Invalid"):
        widgets.patch("one", {"spec": {"replicas": -1}}, subresource="scale")


def test_scale_of_a_custom_resource(define, ns: Namespace) -> None:
    """The CRD says where replicas, present replicas and the selector are."""
    paths = {
        "specReplicasPath": ".spec.wanted.count",
        "statusReplicasPath": ".status.count",
        "labelSelectorPath": ".status.selector",
    }
    group = define(version={"subresources": {"status": {}, "scale": paths}})
    things = ns(f"{group}/v1/widgets")
    things.create(custom(group, "one", {"wanted": {"count": 2}, "x": 1}))
    things.patch("one", {"status": {"count": 1, "selector": "a=b"}}, subresource="status")
    scale = things.get("one", "scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "a=b"})
    assert things.patch("one", {"spec": {"replicas": 5}}, subresource="scale")["spec"] == {"replicas": 5}
    assert things.get("one")["spec"] == {"wanted": {"count": 5}, "x": 1}
    assert things.get("one")["status"]["count"] == 1


def test_scale_of_what_is_not_there(ns: Namespace) -> None:
    """404 names the object."""
    with refused(404, "NotFound", 'deployments.apps "absent" not found'):
        ns("apps/v1/deployments").get("absent", "scale")


def test_scale_where_there_is_none(define, ns: Namespace) -> None:
    """A custom resource without a scale has no such route."""
    group = define()
    things = ns(f"{group}/v1/widgets")
    things.create(custom(group, "one"))
    with refused(404, "NotFound"):
        things.get("one", "scale")


def test_scale_paths_are_checked(api) -> None:
    """A scale whose paths are outside of spec and status is refused when the CRD is made."""
    scale = {"specReplicasPath": ".metadata.replicas", "statusReplicasPath": ".replicas"}
    with refused(422, "Invalid") as error:
        api.resource("apiextensions.k8s.io/v1/customresourcedefinitions").create(
            crd("scale-paths.example.com", version={"subresources": {"scale": scale}})
        )
    root = "spec.versions[0].subresources.scale" if "versions" in error.causes[0][0] else "spec.subresources.scale"
    assert {field for field, _ in error.causes} == {f"{root}.specReplicasPath", f"{root}.statusReplicasPath"}
