"""Whether one more worker fits, and the arithmetic where it does not.

A node has what it can give to Pods (allocatable) less what the Pods that are there asked for. A worker fits where its
processor and its memory do, and where the node takes one more Pod. What the words say is what a reader can check with
`kubectl describe node`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

GIB = 1024.0**3


@dataclass(frozen=True, slots=True)
class Size:
    """What workers ask for: cores, bytes, and how many Pods they are."""

    cpu: float = 0.0
    memory: float = 0.0
    pods: float = 0.0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.cpu + other.cpu, self.memory + other.memory, self.pods + other.pods)


@dataclass(frozen=True, slots=True)
class Room:
    """One node: cores and bytes that it can give, and that were asked for."""

    name: str
    cpu: float
    memory: float
    cpu_used: float = 0.0
    memory_used: float = 0.0
    pods: float = math.inf
    pods_used: float = 0.0

    def taken(self, size: Size) -> "Room":
        """With so much more asked for."""
        return replace(
            self,
            cpu_used=self.cpu_used + size.cpu,
            memory_used=self.memory_used + size.memory,
            pods_used=self.pods_used + size.pods,
        )

    def freed(self, size: Size) -> "Room":
        """With so much less asked for."""
        return self.taken(Size(-size.cpu, -size.memory, -size.pods))


def more(nodes: Sequence[Room], cpu: float, memory: float) -> int:
    """How many more workers of that size fit."""
    return sum(_fit(node, cpu, memory) for node in nodes)


def arithmetic(nodes: Sequence[Room], cpu: float, memory: float) -> str:
    """Why none fits, of the node where most is free; empty where one does."""
    if more(nodes, cpu, memory):
        return ""
    asked = f"a worker asks for {cpu:g} cores and {_gib(memory)}"
    if not nodes:
        return f"{asked}, and there is no node"
    best = max(nodes, key=lambda node: (min(_ratio(node.cpu, cpu), _ratio(node.memory, memory)), _left(node)))
    if best.cpu < cpu or best.memory < memory:
        return f"{asked}; the largest node, {best.name}, has {best.cpu:g} cores and {_gib(best.memory)} in all"
    if best.pods_used >= best.pods:
        return f"{asked}; node {best.name} has {best.pods_used:g} Pods and takes no more than {best.pods:g}"
    free_cpu, free_memory = best.cpu - best.cpu_used, best.memory - best.memory_used
    return (
        f"{asked}; node {best.name} has {free_cpu:.3g} of {best.cpu:g} cores "
        f"and {_gib(free_memory)} of {_gib(best.memory)} left"
    )


def _fit(node: Room, cpu: float, memory: float) -> int:
    counts = [
        int((all_ - used + 1e-9) // asked)
        for all_, used, asked in ((node.cpu, node.cpu_used, cpu), (node.memory, node.memory_used, memory))
        if asked > 0
    ]
    places = node.pods - node.pods_used
    return int(max(0, min([*counts, places] if counts else [0])))


def _ratio(has: float, asked: float) -> float:
    return min(1.0, has / asked) if asked > 0 else 1.0


def _left(node: Room) -> float:
    return (node.cpu - node.cpu_used) / max(node.cpu, 1e-9) + (node.memory - node.memory_used) / max(node.memory, 1.0)


def _gib(size: float) -> str:
    return f"{size / GIB:.3g} GiB"
