"""Whether one more worker fits, and the arithmetic where it does not.

A node has what it can give to Pods (allocatable) less what the Pods that are there asked for. A worker fits where both
its processor and its memory do. What the words say is what a reader can check with `kubectl describe node`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

GIB = 1024.0**3


@dataclass(frozen=True, slots=True)
class Room:
    """One node: cores and bytes that it can give, and that were asked for."""

    name: str
    cpu: float
    memory: float
    cpu_used: float = 0.0
    memory_used: float = 0.0


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
    return max(0, min(counts, default=0))


def _ratio(has: float, asked: float) -> float:
    return min(1.0, has / asked) if asked > 0 else 1.0


def _left(node: Room) -> float:
    return (node.cpu - node.cpu_used) / max(node.cpu, 1e-9) + (node.memory - node.memory_used) / max(node.memory, 1.0)


def _gib(size: float) -> str:
    return f"{size / GIB:.3g} GiB"
