"""The node lifecycle controller: notices silent nodes, taints those that are not ready, evicts Pods.

A Lease counts as renewed when we see it change, by our own clock, so that a node's clock may be wrong, and a controller
that was away for an hour gives every node its full grace.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from mizzen.kube.conditions import condition, is_true, with_condition
from mizzen.kube.errors import Conflict, NotFound
from mizzen.kube.resources import Key, Untyped
from mizzen.kube.runtime import Controller, Result, Watch
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.nodes import decide
from mizzen.local.cluster.objects import Lease, Node, Pod, is_deleted, name_of, namespace_of, spec_of, status_of, uid_of
from mizzen.local.cluster.pods import is_finished, is_ready, node_of
from mizzen.local.cluster.writing import delete

_LEASES = "kube-node-lease"


class NodeLifecycleController(Controller):
    """Keeps conditions and taints of nodes true, and their Pods where they may be."""

    name = "node-controller"

    def __init__(self, cluster: ClusterContext, *, grace_s: float = decide.GRACE_S) -> None:
        self._client = cluster.client
        self._clock = cluster.clock
        self._grace_s = grace_s
        self._events = cluster.recorder.speaking_as(self.name)
        self._nodes = cluster.informers.of(Node)
        self._leases = cluster.informers.of(Lease, namespace=_LEASES)
        self._pods = cluster.informers.of(Pod)
        self._pods.add_index("node", _node)
        self._heard_s: dict[str, tuple[str, float]] = {}
        """The last renewal of each node, as it wrote it, and when we saw it."""

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._nodes),
            Watch(self._leases, _node_of_lease),
            Watch(self._pods, _node_of_pod, when=_came_to_a_node),
        )

    async def reconcile(self, key: Key) -> Result | None:
        node = self._nodes.at(key)
        if node is None:
            self._heard_s.pop(key.name, None)
            return None
        silent_in_s = self._silent_in_s(node)
        try:
            if silent_in_s <= 0:
                node = await self._silence(node)
            node = await self._taint(node)
        except (Conflict, NotFound):
            return Result(0.1)
        if not is_true(status_of(node).get("conditions"), "Ready"):
            await self._mark_pods(node)
        evict_in_s = await self._evict(node)
        waits = [wait_s for wait_s in (silent_in_s, evict_in_s) if wait_s is not None and wait_s > 0]
        return Result(min(waits)) if waits else None

    def _silent_in_s(self, node: Untyped) -> float:
        """How long until the node counts as silent, if it says nothing; 0 or less where it does."""
        name, now_s = name_of(node), asyncio.get_running_loop().time()
        lease = self._leases.get(_LEASES, name)
        said = str(spec_of(lease).get("renewTime") or "") if lease is not None else ""
        known = self._heard_s.get(name)
        if known is None or known[0] != said:
            known = self._heard_s[name] = (said, now_s)
        return known[1] + self._grace_s - now_s

    async def _silence(self, node: Untyped) -> Untyped:
        conditions = decide.silenced(node, self._clock())
        if conditions == status_of(node).get("conditions"):
            return node
        changed = Node({**node, "status": {**status_of(node), "conditions": conditions}})
        self._events.normal(node, "NodeNotReady", f"Node {name_of(node)} status is now: NodeNotReady")
        return self._nodes.wrote(await self._client.replace_status(changed))

    async def _taint(self, node: Untyped) -> Untyped:
        taints = decide.tainted(node, self._clock())
        if taints == (spec_of(node).get("taints") or []):
            return node
        body = {
            "metadata": {"uid": uid_of(node), "resourceVersion": node["metadata"]["resourceVersion"]},
            "spec": {"taints": taints},
        }
        return self._nodes.wrote(await self._client.patch(Node, name_of(node), body))

    async def _mark_pods(self, node: Untyped) -> None:
        """Pods on a node that is not ready are not ready, whatever they last said."""
        ready = condition(status_of(node).get("conditions"), "Ready") or {}
        if ready.get("status") != "Unknown":
            return
        for pod in self._pods.by_index("node", name_of(node)):
            if is_ready(pod):
                said = status_of(pod)["conditions"]
                conditions = with_condition(
                    said, "Ready", False, "NodeNotReady", "Node is not ready", now=self._clock()
                )
                changed = [one for one in conditions if one["type"] == "Ready"]
                body = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": changed}}
                try:
                    self._pods.wrote(
                        await self._client.patch(
                            Pod,
                            name_of(pod),
                            body,
                            namespace=namespace_of(pod),
                            type_="strategic",
                            subresource="status",
                        )
                    )
                except (Conflict, NotFound):
                    continue

    async def _evict(self, node: Untyped) -> float | None:
        """Deletes Pods whose time on the node is over. When the next one's will be."""
        waits = []
        for pod in self._pods.by_index("node", name_of(node)):
            if is_finished(pod) or is_deleted(pod):
                continue
            wait_s = decide.evicted_in_s(pod, spec_of(node).get("taints") or (), self._clock())
            if wait_s is None:
                continue
            if wait_s > 0:
                waits.append(wait_s)
                continue
            self._events.normal(
                pod, "TaintManagerEviction", f"Marking for deletion Pod {namespace_of(pod)}/{name_of(pod)}"
            )
            await self._disrupt(pod)
            await delete(self._client, self._pods, pod)
        return min(waits) if waits else None

    async def _disrupt(self, pod: Untyped) -> None:
        """Says in the Pod that it goes through no fault of its own, which a Job's failure policy can tell apart."""
        conditions = with_condition(
            None, "DisruptionTarget", True, "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint", now=self._clock(),
        )  # fmt: skip
        body = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": conditions}}
        try:
            await self._client.patch(
                Pod, name_of(pod), body, namespace=namespace_of(pod), type_="strategic", subresource="status"
            )
        except NotFound:
            return


def _node(pod: Untyped) -> Sequence[str]:
    return (node_of(pod),)


def _node_of_pod(pod: Untyped) -> Iterable[Key]:
    return (Key(None, node_of(pod)),) if node_of(pod) else ()


def _node_of_lease(lease: Untyped) -> Iterable[Key]:
    return (Key(None, name_of(lease)),)


def _came_to_a_node(old: Untyped | None, new: Untyped | None) -> bool:
    return new is not None and bool(node_of(new)) and (old is None or not node_of(old))
