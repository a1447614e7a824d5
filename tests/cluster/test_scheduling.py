"""Where Pods go: never more on a node than it has, never where a Pod may not be, and the reasons in words."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.local.cluster.pods import node_of
from mizzen.local.cluster.scheduling.amounts import requests_of
from mizzen.local.cluster.scheduling.fit import Candidate, covers, refusals
from mizzen.local.cluster.scheduling.plan import is_waiting, plan

from .builders import NOW, at, node, pod

sizes = st.fixed_dictionaries(
    {"cpu": st.sampled_from(["100m", "500m", "1", "3", "5"]), "memory": st.sampled_from(["64Mi", "1Gi", "4Gi", "9Gi"])}
)


def decide(*pods: Any, nodes: Any = (), placed: Any = ()) -> list[tuple[str, str | None, str]]:
    return [(one.pod["metadata"]["name"], one.node, one.message) for one in plan(pods, nodes, placed)]


@given(st.lists(sizes, max_size=20), st.integers(0, 4), st.lists(sizes, max_size=5))
@settings(max_examples=100, deadline=None)
def test_no_node_is_asked_for_more_than_it_has_and_none_waits_that_would_fit(
    waiting: list[dict[str, str]], nodes: int, bound: list[dict[str, str]]
) -> None:
    machines = [node(f"n{n}") for n in range(nodes)]
    placed = (
        [pod(node=f"n{n % nodes}", requests=size, phase="Running") for n, size in enumerate(bound)] if nodes else []
    )
    before = {name: _left(machines, placed, name) for name in ("cpu", "memory")}
    decisions = plan([pod(requests=size) for size in waiting], machines, placed)
    assert len(decisions) == len(waiting)
    landed = [{**one.pod, "spec": {**one.pod["spec"], "nodeName": one.node}} for one in decisions if one.node]
    after = {name: _left(machines, [*placed, *landed], name) for name in ("cpu", "memory")}
    for name in ("cpu", "memory"):
        for machine, left in after[name].items():
            assert left >= 0 or left == before[name][machine], "a node that was too full already may stay so"
    for one in decisions:
        if one.node is None:
            assert not any(_fits(one.pod, {name: after[name][machine] for name in after}) for machine in after["cpu"])


def _left(nodes: list[Any], pods: list[Any], name: str) -> dict[str, Decimal]:
    return {
        one["metadata"]["name"]: Candidate.of(one).allocatable[name]
        - sum((requests_of(p).get(name, Decimal(0)) for p in pods if node_of(p) == one["metadata"]["name"]), Decimal(0))
        for one in nodes
    }


def _fits(one: Any, left: dict[str, Decimal]) -> bool:
    return all(requests_of(one)[name] <= left[name] for name in left)


def test_the_same_state_gives_the_same_plan() -> None:
    pods, nodes = [pod(f"p{n}", requests={"cpu": "1"}) for n in range(6)], [node(f"n{n}") for n in range(3)]
    assert decide(*pods, nodes=nodes) == decide(*reversed(pods), nodes=list(reversed(nodes)))


@pytest.mark.parametrize(
    ("wanted", "nodes", "message"),
    [
        ({}, [], "no nodes available to schedule pods"),
        ({"requests": {"memory": "9Gi"}}, [node()], "0/1 nodes are available: 1 Insufficient memory."),
        ({"requests": {"memory": "9Gi", "cpu": "5"}}, [node()],
         "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."),
        ({"requests": {"nvidia.com/gpu": "1"}}, [node()], "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
        ({}, [node(pods="0")], "0/1 nodes are available: 1 Too many pods."),
        ({}, [node(ready=False)], "0/1 nodes are available: 1 node(s) were not ready."),
        ({}, [node(spec={"unschedulable": True}), node("n2", ready=False)],
         "0/2 nodes are available: 1 node(s) were not ready, 1 node(s) were unschedulable."),
        ({}, [node(taints=[{"key": "gpu", "value": "a", "effect": "NoSchedule"}])],
         "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: a}."),
        ({"spec": {"nodeSelector": {"disk": "ssd"}}}, [node(), node("n2", labels={"disk": "hdd"})],
         "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."),
        ({"ports": [{"containerPort": 80, "hostPort": 80}]}, [],  "no nodes available to schedule pods"),
    ],
)  # fmt: skip
def test_why_a_pod_waits(wanted: dict[str, Any], nodes: list[Any], message: str) -> None:
    assert decide(pod("p", **wanted), nodes=nodes) == [("p", None, message)]


def test_priority_goes_first_then_age() -> None:
    pods = [
        pod("young", created=at(5), requests={"cpu": "2"}),
        pod("old", created=NOW, requests={"cpu": "2"}),
        pod("urgent", created=at(9), requests={"cpu": "2"}, spec={"priority": 100}),
    ]
    assert [(name, where) for name, where, _ in decide(*pods, nodes=[node()])] == [
        ("urgent", "n1"), ("old", "n1"), ("young", None),
    ]  # fmt: skip


def test_finished_pods_take_no_room_and_going_ones_do() -> None:
    big = {"cpu": "4"}
    assert (
        decide(pod("p", requests=big), nodes=[node()], placed=[pod(node="n1", requests=big, phase="Succeeded")])[0][1]
        == "n1"
    )
    going = pod(node="n1", requests=big, phase="Running", deleted=True)
    assert decide(pod("p", requests=big), nodes=[node()], placed=[going])[0][1] is None


def test_host_ports_are_taken_once() -> None:
    def wants(address: str, number: int = 80, protocol: str = "TCP") -> Any:
        return pod(ports=[{"containerPort": 80, "hostPort": number, "hostIP": address, "protocol": protocol}])

    def free(there: Any, comes: Any) -> bool:
        candidate = Candidate.of(node())
        candidate.take(there)
        return not refusals(comes, candidate)

    assert not free(wants(""), wants(""))
    assert not free(wants("127.0.0.1"), wants(""))
    assert free(wants("127.0.0.1"), wants("127.0.0.2"))
    assert free(wants(""), wants("", number=81))
    assert free(wants(""), wants("", protocol="UDP"))


@pytest.mark.parametrize(
    ("toleration", "covered"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}, False),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"value": "v"}, False),
    ],
)
def test_tolerations_cover_taints_as_in_kubernetes(toleration: dict[str, str], covered: bool) -> None:
    assert covers(toleration, {"key": "k", "value": "v", "effect": "NoSchedule"}) == covered


def test_node_affinity_that_is_required_and_that_is_preferred() -> None:
    def affinity(kind: str, terms: Any) -> dict[str, Any]:
        return {"affinity": {"nodeAffinity": {kind: terms}}}

    nodes = [node("a", labels={"zone": "1", "mem": "16"}), node("b", labels={"zone": "2", "mem": "64"})]
    required = affinity(
        "requiredDuringSchedulingIgnoredDuringExecution",
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "mem", "operator": "Gt", "values": ["32"]}]}]},
    )
    preferred = affinity(
        "preferredDuringSchedulingIgnoredDuringExecution",
        [{"weight": 5, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["2"]}]}}],
    )
    assert decide(pod("p", spec=required), nodes=nodes)[0][1] == "b"
    assert decide(pod("p", spec=preferred), nodes=nodes)[0][1] == "b"
    assert decide(pod("p"), nodes=nodes)[0][1] == "a"
    empty = affinity("requiredDuringSchedulingIgnoredDuringExecution", {"nodeSelectorTerms": [{}]})
    assert decide(pod("p", spec=empty), nodes=nodes)[0][1] is None


def test_pods_of_one_controller_are_spread_and_disliked_nodes_left_for_last() -> None:
    pods = [pod(f"p{n}", owner="rs") for n in range(4)]
    nodes = [node("a"), node("b"), node("c", taints=[{"key": "k", "effect": "PreferNoSchedule"}])]
    assert sorted(where for _, where, _ in decide(*pods, nodes=nodes)) == ["a", "a", "b", "b"]


def test_what_a_pod_asks_for_counts_init_containers_sidecars_and_overhead() -> None:
    def container(cpu: str, **more: Any) -> dict[str, Any]:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    sidecar = container("1", restartPolicy="Always")
    spec = {
        "containers": [container("1"), container("2")],
        "initContainers": [sidecar, container("4")],
        "overhead": {"cpu": "500m"},
    }
    assert requests_of({"spec": spec})["cpu"] == Decimal("5.5")
    spec["initContainers"] = [container("2"), sidecar]
    assert requests_of({"spec": spec})["cpu"] == Decimal("4.5")
    limit_only = {"name": "c", "resources": {"limits": {"memory": "1Gi"}}}
    assert requests_of({"spec": {"containers": [limit_only]}})["memory"] == 2**30


@pytest.mark.parametrize(
    "other",
    [
        pod(node="n1"), pod(deleted=True), pod(phase="Failed"), pod(spec={"schedulerName": "mine"}),
        pod(spec={"schedulingGates": [{"name": "wait"}]}),
    ],
)  # fmt: skip
def test_what_is_not_for_us_to_schedule(other: Any) -> None:
    assert not is_waiting(other)
    assert is_waiting(pod())
