"""Nodes and Pods as `policy.scaling.placement` counts them."""

from collections.abc import Iterable

from lightkube.resources.core_v1 import Node, Pod

from mizzen.kinds.scalars import quantity
from mizzen.policy.scaling.placement import Room


def rooms(nodes: Iterable[Node], pods: Iterable[Pod]) -> list[Room]:
    """What each node that takes Pods can give, and what its Pods asked for."""
    used: dict[str, tuple[float, float]] = {}
    for pod in pods:
        if pod.spec is None or not pod.spec.nodeName or (pod.status and pod.status.phase in {"Succeeded", "Failed"}):
            continue
        cpu, memory = used.get(pod.spec.nodeName, (0.0, 0.0))
        for container in pod.spec.containers:
            asked = (container.resources.requests if container.resources else None) or {}
            cpu += float(quantity(asked.get("cpu", "0")))
            memory += float(quantity(asked.get("memory", "0")))
        used[pod.spec.nodeName] = (cpu, memory)
    found = []
    for node in nodes:
        if node.metadata is None or node.status is None or (node.spec is not None and node.spec.unschedulable):
            continue
        name, has = node.metadata.name or "", node.status.allocatable or {}
        cpu, memory = used.get(name, (0.0, 0.0))
        found.append(
            Room(name, float(quantity(has.get("cpu", "0"))), float(quantity(has.get("memory", "0"))), cpu, memory)
        )
    return found


def unplaced(pod: Pod) -> str:
    """The scheduler's words where it finds no node for the Pod; empty where it has one."""
    for condition in (pod.status.conditions or ()) if pod.status is not None else ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or "no node takes the Pod"
    return ""
