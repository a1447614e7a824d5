"""Scheduling, endpoints, garbage, namespaces and nodes on the embedded API server."""

import json
from typing import Any

import pytest

from mizzen.kinds.names import ANNOTATION_PORTS
from mizzen.kube.conditions import condition
from mizzen.kube.resources import ResourceInfo, Untyped, untyped
from mizzen.local.cluster.endpoints import SERVICE_NAME
from mizzen.local.cluster.nodes.decide import UNREACHABLE
from mizzen.local.cluster.objects import (
    ConfigMap,
    CustomResourceDefinition,
    EndpointSlice,
    Namespace,
    Node,
    Pod,
    Service,
    is_deleted,
    labels_of,
    name_of,
    spec_of,
    status_of,
    uid_of,
)
from mizzen.local.cluster.pods import is_ready, node_of

from .conftest import World
from .hollow_node import HollowNode

Event = untyped(ResourceInfo("", "v1", "Event", "events", namespaced=True))
pytestmark = pytest.mark.timeout(60)


def pod(name: str, *, labels: Any = None, annotations: Any = None, requests: Any = None, **spec: Any) -> Untyped:
    container = {
        "name": "c", "image": "i", "resources": {"requests": requests or {}},
        "ports": [{"name": "web", "containerPort": 8080}],
    }  # fmt: skip
    meta = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
    return Pod({"metadata": meta, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec}})


def config_map(name: str, *owners: Any, blocks: bool = False) -> Untyped:
    references = [
        {"apiVersion": o["apiVersion"], "kind": o["kind"], "name": name_of(o), "uid": uid_of(o), "blockOwnerDeletion": blocks}
        for o in owners
    ]  # fmt: skip
    return ConfigMap({"metadata": {"name": name, "ownerReferences": references}})


async def until_told(world: World, name: str, *told: tuple[str, str]) -> None:
    """Waits for Events (reason, message) about an object."""

    def all_told(events: list[Any]) -> bool:
        said = {(one["reason"], one["message"]) for one in events if one["involvedObject"]["name"] == name}
        return set(told) <= said

    await world.until(Event, all_told)


# -- scheduling


async def test_a_pod_that_fits_nowhere_is_told_why_and_bound_when_a_node_comes(world: World) -> None:
    await world.client.create(pod("big", requests={"memory": "20Gi"}))
    waiting = await world.until_one(Pod, "big", lambda one: condition(status_of(one).get("conditions"), "PodScheduled"))
    said = condition(status_of(waiting)["conditions"], "PodScheduled")
    message = "0/1 nodes are available: 1 Insufficient memory."
    assert (said["status"], said["reason"], said["message"]) == ("False", "Unschedulable", message)
    async with HollowNode(world.client, "large", memory="64Gi"):
        bound = await world.until_one(Pod, "big", node_of)
        assert node_of(bound) == "large"
        await world.until_one(Pod, "big", is_ready)
    scheduled = ("Scheduled", "Successfully assigned default/big to large")
    await until_told(world, "big", ("FailedScheduling", message), scheduled)


async def test_room_that_a_pod_gives_back_is_given_to_one_that_waits(world: World) -> None:
    await world.client.create(pod("first", requests={"cpu": "6"}))
    await world.until_one(Pod, "first", node_of)
    await world.client.create(pod("second", requests={"cpu": "6"}))
    await world.until_one(Pod, "second", lambda one: condition(status_of(one).get("conditions"), "PodScheduled"))
    await world.client.delete(Pod, "first")
    await world.until_one(Pod, "second", node_of)


async def test_many_pods_at_once_are_all_bound_and_none_twice(world: World) -> None:
    for number in range(60):
        await world.client.create(pod(f"p{number}", requests={"cpu": "100m"}))
    await world.until(Pod, lambda pods: len([one for one in pods if is_ready(one)]) == 60)


# -- endpoints


async def test_slices_follow_services_and_pods_and_the_ports_that_nodes_bound(world: World) -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    await world.client.create(
        Service({"metadata": {"name": "svc"}, "spec": {"selector": {"app": "a"}, "ports": ports}})
    )
    await world.client.create(pod("one", labels={"app": "a"}))
    await world.client.create(
        pod("two", labels={"app": "a"}, annotations={ANNOTATION_PORTS: json.dumps({"web": 41000})})
    )
    await world.client.create(pod("other", labels={"app": "b"}))

    def ready_at(slices: list[Any]) -> dict[int, list[str]]:
        return {
            one["ports"][0]["port"]: [
                e["targetRef"]["name"] for e in one["endpoints"] or () if e["conditions"]["ready"]
            ]
            for one in slices
            if labels_of(one).get(SERVICE_NAME) == "svc" and one.get("ports")
        }

    await world.until(EndpointSlice, lambda slices: ready_at(slices) == {8080: ["one"], 41000: ["two"]})
    await world.client.delete(Pod, "two")
    await world.until(EndpointSlice, lambda slices: ready_at(slices) == {8080: ["one"]})
    await world.client.patch(Pod, "one", {"metadata": {"labels": {"app": "b"}}})
    await world.until(EndpointSlice, lambda slices: not any(ready_at(slices).values()))
    await world.client.patch(Pod, "one", {"metadata": {"labels": {"app": "a"}}})
    await world.until(EndpointSlice, lambda slices: ready_at(slices) == {8080: ["one"]})
    await world.client.delete(Pod, "one")
    await world.until(EndpointSlice, lambda slices: [one.get("endpoints") or [] for one in slices] == [[]])
    await world.client.delete(Service, "svc")
    await world.until(EndpointSlice, lambda slices: not slices)


# -- garbage


async def test_dependents_go_with_their_last_owner(world: World) -> None:
    first, second = [await world.client.create(config_map(name)) for name in ("first", "second")]
    await world.client.create(config_map("child", first, second))
    await world.client.create(config_map("grandchild", await world.client.get(ConfigMap, "child")))
    await world.client.delete(ConfigMap, "first")
    left = await world.until_one(ConfigMap, "child", lambda one: len(one["metadata"]["ownerReferences"]) == 1)
    assert left["metadata"]["ownerReferences"][0]["name"] == "second"
    await world.client.delete(ConfigMap, "second")
    await world.until_gone(ConfigMap, "child")
    await world.until_gone(ConfigMap, "grandchild")


async def test_in_the_foreground_owners_go_last(world: World) -> None:
    owner = await world.client.create(config_map("owner"))
    child = config_map("child", owner, blocks=True)
    child["metadata"]["finalizers"] = ["example.com/held"]
    await world.client.create(child)
    await world.client.create(config_map("other", owner))
    left = await world.client.delete(ConfigMap, "owner", propagation="Foreground")
    assert left is not None
    await world.until_one(ConfigMap, "child", is_deleted)
    assert await world.is_there(ConfigMap, "owner"), "a dependent that blocks is still there"
    await world.client.patch(ConfigMap, "child", {"metadata": {"finalizers": []}})
    await world.until_gone(ConfigMap, "owner")
    await world.until_gone(ConfigMap, "other")


async def test_orphans_stay_without_their_owner(world: World) -> None:
    owner = await world.client.create(config_map("owner"))
    await world.client.create(config_map("child", owner))
    await world.client.delete(ConfigMap, "owner", propagation="Orphan")
    await world.until_gone(ConfigMap, "owner")
    child = await world.client.get(ConfigMap, "child")
    assert not child["metadata"].get("ownerReferences")


async def test_two_that_own_each_other_and_wait_do_not_wait_for_ever(world: World) -> None:
    one = await world.client.create(config_map("one"))
    two = await world.client.create(config_map("two", one, blocks=True))
    references = config_map("one", two, blocks=True)["metadata"]["ownerReferences"]
    await world.client.patch(ConfigMap, "one", {"metadata": {"ownerReferences": references}})
    await world.client.delete(ConfigMap, "one", propagation="Foreground")
    await world.until_gone(ConfigMap, "one")
    await world.until_gone(ConfigMap, "two")


async def test_an_owner_that_never_was_is_gone_and_one_of_another_namespace_is_none(world: World) -> None:
    ghost = ConfigMap({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ghost", "uid": "no-such-uid"}})
    await world.client.create(config_map("child", ghost))
    await world.until_gone(ConfigMap, "child")
    await world.client.create(Namespace({"metadata": {"name": "elsewhere"}}))
    abroad = await world.client.create(ConfigMap({"metadata": {"name": "abroad", "namespace": "elsewhere"}}))
    await world.client.create(config_map("child", abroad))
    await world.until_gone(ConfigMap, "child")
    # Its namesake that came later is another object.
    await world.client.create(config_map("ghost"))
    await world.client.create(config_map("child", ghost))
    await world.until_gone(ConfigMap, "child")
    assert await world.is_there(ConfigMap, "ghost")


Widget = untyped(ResourceInfo("example.com", "v1", "Widget", "widgets", namespaced=True))
WIDGETS = CustomResourceDefinition(
    {
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [
                {
                    "name": "v1", "served": True, "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
)  # fmt: skip


async def test_kinds_that_come_at_run_time_own_and_are_owned(world: World) -> None:
    await world.client.create(WIDGETS)
    await world.until_one(
        CustomResourceDefinition, "widgets.example.com",
        lambda one: (condition(status_of(one).get("conditions"), "Established") or {}).get("status") == "True",
    )  # fmt: skip
    owner = await world.client.create(Widget({"metadata": {"name": "owner"}}))
    await world.client.create(config_map("child", owner))
    reference = config_map("x", owner)["metadata"]["ownerReferences"]
    await world.client.create(Widget({"metadata": {"name": "part", "ownerReferences": reference}}))
    await world.client.delete(Widget, "owner", propagation="Foreground")
    await world.until_gone(ConfigMap, "child")
    await world.until(Widget, lambda widgets: not widgets)


# -- namespaces


async def test_a_namespace_goes_with_all_that_is_in_it(world: World) -> None:
    await world.client.create(Namespace({"metadata": {"name": "team"}}))
    running = pod("p")
    running["metadata"]["namespace"] = "team"
    await world.client.create(running)
    held = ConfigMap({"metadata": {"name": "held", "namespace": "team", "finalizers": ["example.com/held"]}})
    await world.client.create(held)
    await world.until_one(Pod, "p", is_ready, namespace="team")
    await world.client.delete(Namespace, "team")
    waiting = await world.until_one(
        Namespace, "team", lambda one: condition(status_of(one).get("conditions"), "NamespaceContentRemaining")
    )
    remaining = condition(status_of(waiting)["conditions"], "NamespaceContentRemaining")
    assert "configmaps" in remaining["message"]
    finalizers = condition(status_of(waiting)["conditions"], "NamespaceFinalizersRemaining")
    assert "example.com/held" in finalizers["message"]
    await world.client.patch(ConfigMap, "held", {"metadata": {"finalizers": []}}, namespace="team")
    await world.until(Namespace, lambda namespaces: all(name_of(one) != "team" for one in namespaces))


# -- nodes


async def test_a_node_that_falls_silent_is_noticed_and_its_pods_go_elsewhere_in_time(world: World) -> None:
    toleration = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}
    await world.client.create(pod("moves", tolerations=[toleration]))
    await world.client.create(pod("stays", tolerations=[{"operator": "Exists"}]))
    for name in ("moves", "stays"):
        await world.until_one(Pod, name, is_ready)
    await world.node.fall_silent()
    silent = await world.until_one(
        Node, "hollow", lambda one: UNREACHABLE in {t["key"] for t in spec_of(one).get("taints") or ()}
    )
    ready = condition(status_of(silent)["conditions"], "Ready")
    assert (ready["status"], ready["reason"]) == ("Unknown", "NodeStatusUnknown")
    await world.until_one(Pod, "moves", is_deleted)
    stays = await world.until_one(Pod, "stays", lambda one: not is_ready(one))
    assert not is_deleted(stays)
    assert condition(status_of(stays)["conditions"], "Ready")["status"] == "False"


async def test_a_node_that_comes_back_is_rid_of_its_taints(world: World) -> None:
    await world.node.say_ready(False)
    await world.until_one(Node, "hollow", lambda one: spec_of(one).get("taints"))
    await world.client.create(pod("waits"))
    await world.until_one(Pod, "waits", lambda one: condition(status_of(one).get("conditions"), "PodScheduled"))
    await world.node.say_ready(True)
    await world.until_one(Node, "hollow", lambda one: not spec_of(one).get("taints"))
    await world.until_one(Pod, "waits", is_ready)


async def test_pods_of_a_node_that_is_no_more_are_failed_and_deleted(world: World) -> None:
    await world.client.create(pod("lost", tolerations=[{"operator": "Exists"}]))
    await world.until_one(Pod, "lost", is_ready)
    await world.node.fall_silent()
    await world.client.delete(Node, "hollow")
    await world.until_gone(Pod, "lost")


async def test_a_pod_that_was_never_bound_goes_at_once(world: World) -> None:
    await world.client.create(pod("unbound", requests={"cpu": "99"}))
    await world.until_one(Pod, "unbound", lambda one: condition(status_of(one).get("conditions"), "PodScheduled"))
    await world.client.delete(Pod, "unbound")
    await world.until_gone(Pod, "unbound")
