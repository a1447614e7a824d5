"""More endpoints than a machine can hold at once: idle ones give way to those that need a worker now.

A worker that no node takes, and a node that is short of memory, make a cycle: look at all nodes and Pods, ask
`policy.scaling.giveway` who goes, and tell the scaling controller, which scales them down as it does for any other
reason. Pods that are ending count as gone, so that one that is slow to end is not taken for one too few.

There is one key, the cycle, and at most one a moment: a thousand workers that wait are one plan.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from lightkube.resources.core_v1 import Node, Pod

from mizzen.controllers.platform import Platform
from mizzen.controllers.scaling.controller import ScalingController
from mizzen.controllers.scaling.rooms import rooms, size_of, unplaced
from mizzen.kinds.names import LABEL_ENDPOINT
from mizzen.kube.resources import Key, meta_of
from mizzen.kube.runtime import Controller, Result, Watch
from mizzen.policy.scaling.giveway import IDLE_S_MIN, Idle, make_room
from mizzen.policy.scaling.placement import Size

_CYCLE = Key(None, "cycle")
AGAIN_S = 1.0
"""How soon it looks again while workers wait: idle times grow, and what ends takes a moment."""


class DensityController(Controller):
    """Makes room on full machines."""

    name = "density"
    workers = 1

    def __init__(self, platform: Platform, scaling: ScalingController) -> None:
        self._platform = platform
        self._scaling = scaling
        self._nodes = platform.informers.of(Node)

    def watches(self) -> Sequence[Watch[Any]]:
        def cycle(_: object) -> Iterable[Key]:
            return (_CYCLE,)

        return (
            Watch(self._platform.pods, cycle, lambda _, pod: pod is not None and _waits(pod)),
            Watch(self._nodes, cycle, lambda _, node: node is not None and _short_of_memory(node)),
        )

    async def reconcile(self, key: Key) -> Result | None:
        assert key == _CYCLE
        waiting = sorted((pod for pod in self._platform.pods.list() if _waits(pod)), key=_age)
        short = {meta_of(node).name for node in self._nodes.list() if _short_of_memory(node)}
        if not waiting and not short:
            return None
        idle = self._idle()
        client = self._platform.client
        nodes, pods = await asyncio.gather(client.list(Node), client.list(Pod))
        staying = [pod for pod in pods if not _is_ending(pod)]
        needs = [(str(_endpoint_of(pod)), size_of(pod)) for pod in waiting]
        for made in make_room(rooms(nodes, staying), idle.values(), needs):
            for giver in made.givers:
                self._scaling.give_way(_key(giver), _key(made.key))
                idle.pop(giver, None)
        self._relieve(short, idle)
        return Result(after_s=max(AGAIN_S, IDLE_S_MIN / 2))

    def _idle(self) -> dict[str, Idle]:
        """The endpoints that may give way, by key."""
        found: dict[str, Idle] = {}
        for key, idle_s in self._scaling.idle().items():
            workers: dict[str, Size] = {}
            for pod in self._platform.pods.by_index("endpoint", str(key)):
                node = pod.spec.nodeName if pod.spec is not None else None
                if node and not _is_ending(pod):
                    workers[node] = workers.get(node, Size()) + size_of(pod)
            if workers:
                found[str(key)] = Idle(str(key), idle_s, workers)
        return found

    def _relieve(self, short: set[str], idle: dict[str, Idle]) -> None:
        """One endpoint goes from each node that is short of memory; whether that was enough is seen the next time."""
        for node in short:
            there = [one for one in idle.values() if node in one.workers and one.idle_s >= IDLE_S_MIN]
            if there:
                longest = max(there, key=lambda one: (one.idle_s, one.key))
                self._scaling.give_way(_key(longest.key), Key(None, f"node {node}, short of memory,"))
                del idle[longest.key]


def _waits(pod: Pod) -> bool:
    """A worker that no node takes."""
    return LABEL_ENDPOINT in meta_of(pod).labels and not _is_ending(pod) and bool(unplaced(pod))


def _is_ending(pod: Pod) -> bool:
    return pod.metadata is not None and pod.metadata.deletionTimestamp is not None


def _short_of_memory(node: Node) -> bool:
    conditions = (node.status.conditions or ()) if node.status is not None else ()
    return any(one.type == "MemoryPressure" and one.status == "True" for one in conditions)


def _endpoint_of(pod: Pod) -> Key:
    meta = meta_of(pod)
    return Key(meta.namespace, meta.labels[LABEL_ENDPOINT])


def _age(pod: Pod) -> tuple[str, str]:
    meta = meta_of(pod)
    created = pod.metadata.creationTimestamp if pod.metadata is not None else None
    return (created.isoformat() if created is not None else "", meta.name)


def _key(text: str) -> Key:
    namespace, _, name = text.rpartition("/")
    return Key(namespace or None, name)
