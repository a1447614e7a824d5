"""The ReplicaSet controller: as many Pods of a template as were asked for."""

import asyncio
from collections.abc import Sequence
from typing import Any

from mizzen.kube.errors import ApiError
from mizzen.kube.resources import Json, Key, Untyped
from mizzen.kube.runtime import Controller, Result, Watch, controller_of
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.objects import (
    Object,
    Pod,
    ReplicaSet,
    controlled_by,
    controller_uid,
    is_deleted,
    name_of,
    namespace_of,
    spec_of,
    status_of,
)
from mizzen.local.cluster.workloads import replicas
from mizzen.local.cluster.workloads.making import make_in_growing_batches, pod_from
from mizzen.local.cluster.workloads.ownership import claim, controlled, index_by_controller
from mizzen.local.cluster.writing import delete

_DELETIONS_AT_ONCE = 16
_AT_MOST = 500
"""Pods made or deleted in one reconcile."""


class ReplicaSetController(Controller):
    """Makes and deletes Pods until their number is right."""

    name = "replicaset-controller"

    def __init__(self, cluster: ClusterContext) -> None:
        self._client = cluster.client
        self._clock = cluster.clock
        self._events = cluster.recorder.speaking_as(self.name)
        self._sets = cluster.informers.of(ReplicaSet)
        self._pods = cluster.informers.of(Pod)
        index_by_controller(self._sets)
        index_by_controller(self._pods)

    def watches(self) -> Sequence[Watch[Any]]:
        return Watch(self._sets), Watch(self._pods, self._of_pod)

    def _of_pod(self, pod: Untyped) -> Sequence[Key]:
        """Its ReplicaSet; for a Pod without a controller, each that would adopt it."""
        if controller_uid(pod):
            return tuple(controller_of(ReplicaSet)(pod))
        return tuple(Key(namespace_of(one), name_of(one)) for one in self._sets.list(namespace_of(pod)))

    async def reconcile(self, key: Key) -> Result | None:
        replica_set = self._sets.at(key)
        if replica_set is None:
            return None
        spec = spec_of(replica_set)
        pods = await claim(self._client, self._pods, replica_set, spec.get("selector"))
        failure = None
        if not is_deleted(replica_set):
            wanted = spec.get("replicas")
            adjustment = replicas.adjust(1 if wanted is None else wanted, pods, self._siblings(replica_set, pods))
            failure = await self._carry_out(replica_set, adjustment)
            pods = list(controlled(self._pods, replica_set))
        now = self._clock()
        await self._write_status(replica_set, replicas.status(replica_set, pods, failure, now))
        if failure:
            raise failure.error
        return Result(replicas.next_available_s(pods, spec.get("minReadySeconds") or 0, now))

    def _siblings(self, replica_set: Untyped, pods: Sequence[Object]) -> list[Object]:
        """The Pods of all ReplicaSets of the same Deployment."""
        owner = controller_uid(replica_set)
        if owner is None:
            return list(pods)
        sets = self._sets.by_index("controller", owner)
        return [pod for one in sets for pod in controlled(self._pods, one)]

    async def _carry_out(self, replica_set: Untyped, adjustment: replicas.Adjustment) -> replicas.Failure | None:
        """Makes and deletes. Returns what failed first."""
        error = await make_in_growing_batches(min(adjustment.create, _AT_MOST), lambda _: self._create(replica_set))
        if error is not None:
            self._events.warning(replica_set, "FailedCreate", f"Error creating: {error}")
            return replicas.Failure("FailedCreate", error)
        turns = asyncio.Semaphore(_DELETIONS_AT_ONCE)
        outcomes = await asyncio.gather(
            *(self._delete(replica_set, pod, turns) for pod in adjustment.delete[:_AT_MOST]), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, ApiError):
                self._events.warning(replica_set, "FailedDelete", f"Error deleting: {outcome}")
                return replicas.Failure("FailedDelete", outcome)
            if isinstance(outcome, BaseException):
                raise outcome
        return None

    async def _create(self, replica_set: Untyped) -> None:
        template = spec_of(replica_set).get("template") or {}
        pod = pod_from(template, namespace_of(replica_set), f"{name_of(replica_set)}-", controlled_by(replica_set))
        made = self._pods.wrote(await self._client.create(pod))
        self._events.normal(replica_set, "SuccessfulCreate", f"Created pod: {name_of(made)}")

    async def _delete(self, replica_set: Untyped, pod: Object, turns: asyncio.Semaphore) -> None:
        async with turns:
            await delete(self._client, self._pods, pod)
        self._events.normal(replica_set, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

    async def _write_status(self, replica_set: Untyped, status: Json) -> None:
        if status == status_of(replica_set):
            return
        changed = ReplicaSet({**replica_set, "status": status})
        self._sets.wrote(await self._client.replace_status(changed))
