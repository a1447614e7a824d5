"""The scheduler: plans on what its informers hold, then binds.

There is one key, the cycle: whatever changed, the whole plan is made anew, and changes that come meanwhile make one
more cycle and not many. A Pod that no node takes is told so in its condition `PodScheduled` and an Event, and is looked
at again when a node changes or a Pod goes.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from mizzen.kube.conditions import condition, is_true
from mizzen.kube.errors import ApiError, Conflict, NotFound
from mizzen.kube.informer import Informer
from mizzen.kube.resources import Json, Key, Untyped, info_of
from mizzen.kube.runtime import Controller, Result, Watch
from mizzen.kube.times import format_time
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.objects import (
    Node,
    Object,
    Pod,
    labels_of,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
)
from mizzen.local.cluster.pods import is_finished, node_of
from mizzen.local.cluster.scheduling.plan import SCHEDULER_NAME, Decision, is_waiting, plan

_CYCLE = Key(None, "cycle")
_BINDINGS_AT_ONCE = 16


class Scheduler(Controller):
    """Binds Pods to nodes."""

    name = "scheduler"
    workers = 1

    def __init__(self, cluster: ClusterContext) -> None:
        self._client = cluster.client
        self._clock = cluster.clock
        self._events = cluster.recorder.speaking_as(SCHEDULER_NAME)
        self._nodes: Informer[Untyped] = cluster.informers.of(Node)
        self._pods: Informer[Untyped] = cluster.informers.of(Pod)
        self._pods.add_index("waiting", _waiting)
        self._assumed: dict[str, Json] = {}
        """Pods whose binding was accepted and is not in the cache yet, by uid."""

    def watches(self) -> Sequence[Watch[Any]]:
        def cycle(_: object) -> Iterable[Key]:
            return (_CYCLE,)

        return Watch(self._pods, cycle, _concerns_pods), Watch(self._nodes, cycle, _concerns_nodes)

    async def reconcile(self, key: Key) -> Result | None:
        assert key == _CYCLE
        waiting = [pod for pod in self._pods.by_index("waiting", "yes") if uid_of(pod) not in self._assumed]
        if not waiting:
            return None
        decisions = plan(waiting, self._nodes.list(), self._placed())
        turns = asyncio.Semaphore(_BINDINGS_AT_ONCE)
        outcomes = await asyncio.gather(*(self._carry_out(one, turns) for one in decisions), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return None

    def _placed(self) -> list[Object]:
        """Pods that are bound, or about to be."""
        pods: list[Object] = []
        for pod in self._pods.list():
            if node_of(pod):
                self._assumed.pop(uid_of(pod), None)
                pods.append(pod)
        there = {uid_of(pod) for pod in self._pods.by_index("waiting", "yes")}
        self._assumed = {uid: pod for uid, pod in self._assumed.items() if uid in there}
        return [*pods, *self._assumed.values()]

    async def _carry_out(self, decision: Decision, turns: asyncio.Semaphore) -> None:
        async with turns:
            try:
                if decision.node is None:
                    await self._refuse(decision.pod, decision.message)
                else:
                    await self._bind(decision.pod, decision.node)
            except (Conflict, NotFound):
                # The Pod changed or went away meanwhile; its change makes another cycle.
                self._assumed.pop(uid_of(decision.pod), None)
            except ApiError:
                self._assumed.pop(uid_of(decision.pod), None)
                raise

    async def _bind(self, pod: Object, node: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        self._assumed[uid_of(pod)] = {**pod, "spec": {**spec_of(pod), "nodeName": node}}
        await self._client.request("POST", info_of(Pod).path(namespace_of(pod), name_of(pod), "binding"), body=binding)
        self._events.normal(
            pod, "Scheduled", f"Successfully assigned {namespace_of(pod)}/{name_of(pod)} to {node}"
        )  # fmt: skip

    async def _refuse(self, pod: Object, message: str) -> None:
        told = condition(status_of(pod).get("conditions"), "PodScheduled") or {}
        if told.get("status") == "False" and told.get("message") == message:
            return
        since = told.get("lastTransitionTime") if told.get("status") == "False" else None
        said = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": since or format_time(self._clock()),
        }
        body = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [said]}}
        patched = await self._client.patch(
            Pod, name_of(pod), body, namespace=namespace_of(pod), type_="strategic", subresource="status"
        )
        self._pods.wrote(patched)
        self._events.warning(pod, "FailedScheduling", message)


def _waiting(pod: Untyped) -> Iterable[str]:
    return ("yes",) if is_waiting(pod) else ()


def _concerns_pods(old: Untyped | None, new: Untyped | None) -> bool:
    """A Pod that now waits, or one that no longer takes room."""
    if new is not None and is_waiting(new):
        return old is None or not is_waiting(old)
    took = old is not None and bool(node_of(old)) and not is_finished(old)
    return took and (new is None or is_finished(new))


def _concerns_nodes(old: Untyped | None, new: Untyped | None) -> bool:
    """A node that may take Pods it did not take before: heartbeats are passed over."""
    return old is None or new is None or _what_counts(old) != _what_counts(new)


def _what_counts(node: Object) -> tuple[Any, ...]:
    spec, status = spec_of(node), status_of(node)
    ready = is_true(status.get("conditions"), "Ready")
    return labels_of(node), spec.get("taints"), spec.get("unschedulable"), status.get("allocatable"), ready
