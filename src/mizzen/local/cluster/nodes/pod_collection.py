"""The Pod collector: Pods that nobody will ever end.

* Pods on a node that has been gone for a while: the kubelet that would end them does not exist.
* Pods that are to be deleted and were never bound to a node.
* Finished Pods beyond a number, the oldest first: they are kept for their logs, and nobody reads twelve thousand.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from mizzen.kube.conditions import with_condition
from mizzen.kube.errors import NotFound
from mizzen.kube.resources import Json, Key, Untyped
from mizzen.kube.runtime import Controller, Result, Watch
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.objects import (
    Node,
    Object,
    Pod,
    age_key,
    is_deleted,
    name_of,
    namespace_of,
    status_of,
    uid_of,
)
from mizzen.local.cluster.pods import is_finished, node_of
from mizzen.local.cluster.writing import delete

_SWEEP = Key(None, "sweep")
_QUARANTINE_S = 40.0
"""A node that was just made may not be in the cache yet, and one that is made anew gets its Pods back."""
_SWEEP_S = 20.0
_FINISHED_MAX = 12500


def never_bound(pods: Iterable[Object]) -> list[Object]:
    """Pods that are to go and that no kubelet knows of."""
    return [pod for pod in pods if is_deleted(pod) and not node_of(pod)]


def beyond(pods: Iterable[Object], most: int = _FINISHED_MAX) -> list[Object]:
    """Finished Pods that are too many."""
    finished = sorted((pod for pod in pods if is_finished(pod) and not is_deleted(pod)), key=age_key)
    return finished[: max(0, len(finished) - most)]


def lost(pod: Object, now: datetime) -> Json:
    """The status of a Pod whose node is gone: failed, through no fault of its own."""
    status = dict(status_of(pod))
    conditions = with_condition(
        status.get("conditions"), "DisruptionTarget", True, "DeletionByPodGC",
        "PodGC: node no longer exists", now=now,
    )  # fmt: skip
    return status | {"conditions": conditions} | ({} if is_finished(pod) else {"phase": "Failed"})


class PodCollector(Controller):
    """Deletes Pods at once that no node will."""

    name = "pod-garbage-collector"
    workers = 1

    def __init__(self, cluster: ClusterContext, *, quarantine_s: float = _QUARANTINE_S) -> None:
        self._client = cluster.client
        self._clock = cluster.clock
        self._quarantine_s = quarantine_s
        self._pods = cluster.informers.of(Pod)
        self._nodes = cluster.informers.of(Node)
        self._missing_s: dict[str, float] = {}
        """Nodes that Pods name and that are not there: since when."""

    def watches(self) -> Sequence[Watch[Any]]:
        def sweep(_: object) -> Iterable[Key]:
            return (_SWEEP,)

        return (
            Watch(self._pods, sweep, when=lambda _old, new: new is not None and is_deleted(new) and not node_of(new)),
            Watch(self._nodes, sweep, when=lambda _old, new: new is None),
        )

    async def run(self) -> None:
        while True:
            self.queue.add(_SWEEP)
            await asyncio.sleep(_SWEEP_S)

    async def reconcile(self, key: Key) -> Result | None:
        assert key == _SWEEP
        pods = self._pods.list()
        for pod in [*never_bound(pods), *beyond(pods)]:
            await delete(self._client, self._pods, pod, grace_period_s=0)
        next_s = None
        for node, left_s in self._missing(pods).items():
            if left_s > 0:
                next_s = min(left_s, next_s or left_s)
                continue
            if await self._is_there(node):
                continue
            for pod in pods:
                if node_of(pod) == node:
                    await self._lose(pod)
        return Result(next_s)

    def _missing(self, pods: Iterable[Untyped]) -> dict[str, float]:
        """Nodes that are not there, and how long is waited for each still."""
        now_s = asyncio.get_running_loop().time()
        named = {node_of(pod) for pod in pods} - {""}
        missing = {node for node in named if self._nodes.get(None, node) is None}
        self._missing_s = {node: self._missing_s.get(node, now_s) for node in missing}
        return {node: since_s + self._quarantine_s - now_s for node, since_s in self._missing_s.items()}

    async def _is_there(self, node: str) -> bool:
        try:
            await self._client.get(Node, node)
        except NotFound:
            return False
        return True

    async def _lose(self, pod: Untyped) -> None:
        body = {"metadata": {"uid": uid_of(pod)}, "status": lost(pod, self._clock())}
        try:
            await self._client.patch(Pod, name_of(pod), body, namespace=namespace_of(pod), subresource="status")
        except NotFound:
            return
        await delete(self._client, self._pods, pod, grace_period_s=0)
