"""Nodes and Pods as `policy.scaling.placement` counts them."""

import math
from collections.abc import Iterable

from lightkube.resources.core_v1 import Node, Pod

from mizzen.kinds.scalars import quantity
from mizzen.policy.scaling.placement import Room, Size


def rooms(nodes: Iterable[Node], pods: Iterable[Pod]) -> list[Room]:
    """What each node that takes Pods can give, and what its Pods asked for."""
    used: dict[str, Size] = {}
    for pod in pods:
        if pod.spec is None or not pod.spec.nodeName or (pod.status and pod.status.phase in {"Succeeded", "Failed"}):
            continue
        used[pod.spec.nodeName] = used.get(pod.spec.nodeName, Size()) + size_of(pod)
    found = []
    for node in nodes:
        if node.metadata is None or node.status is None or (node.spec is not None and node.spec.unschedulable):
            continue
        name, has = node.metadata.name or "", node.status.allocatable or {}
        taken = used.get(name, Size())
        cpu, memory = float(quantity(has.get("cpu", "0"))), float(quantity(has.get("memory", "0")))
        pods_max = float(quantity(has["pods"])) if "pods" in has else math.inf
        found.append(Room(name, cpu, memory, taken.cpu, taken.memory, pods_max, taken.pods))
    return found


def size_of(pod: Pod) -> Size:
    """What a Pod asks for."""
    cpu = memory = 0.0
    for container in pod.spec.containers if pod.spec is not None else ():
        asked = (container.resources.requests if container.resources else None) or {}
        cpu += float(quantity(asked.get("cpu", "0")))
        memory += float(quantity(asked.get("memory", "0")))
    return Size(cpu, memory, 1)


def unplaced(pod: Pod) -> str:
    """The scheduler's words where it finds no node for the Pod; empty where it has one."""
    for condition in (pod.status.conditions or ()) if pod.status is not None else ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or "no node takes the Pod"
    return ""
