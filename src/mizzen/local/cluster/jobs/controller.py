"""The Job controller: load, decide, make or delete Pods, write the status once, let counted Pods go.

The status is written before finalizers are taken off (see `tally`), and each taking off brings the next reconcile,
which moves the count on. A finished Job is deleted `ttlSecondsAfterFinished` later.
"""

import asyncio
import copy
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from mizzen.kube.conditions import condition
from mizzen.kube.errors import ApiError, NotFound
from mizzen.kube.resources import Json, Key, Untyped
from mizzen.kube.runtime import Controller, Result, Watch
from mizzen.kube.times import parse_time
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.jobs import decide
from mizzen.local.cluster.jobs.indexes import COMPLETION_INDEX
from mizzen.local.cluster.jobs.tally import TRACKING, is_indexed, is_tracked, settle, tally
from mizzen.local.cluster.objects import (
    Job,
    Object,
    Pod,
    controlled_by,
    controller_uid,
    labels_of,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
)
from mizzen.local.cluster.pods import EPOCH
from mizzen.local.cluster.workloads.making import make_in_growing_batches, pod_from
from mizzen.local.cluster.workloads.ownership import claim, controlled, index_by_controller
from mizzen.local.cluster.writing import delete

_OURS = "kubernetes.io/job-controller"
_JOB_NAME = "batch.kubernetes.io/job-name"
_AT_ONCE = 16
_AT_MOST = 500
"""Pods made or deleted in one reconcile."""


class JobController(Controller):
    """Runs Jobs."""

    name = "job-controller"

    def __init__(self, cluster: ClusterContext) -> None:
        self._client = cluster.client
        self._clock = cluster.clock
        self._events = cluster.recorder.speaking_as(self.name)
        self._jobs = cluster.informers.of(Job)
        self._pods = cluster.informers.of(Pod)
        index_by_controller(self._pods)
        self._pods.add_index("job", _job_of)

    def watches(self) -> Sequence[Watch[Any]]:
        return Watch(self._jobs), Watch(self._pods, self._of_pod)

    def _of_pod(self, pod: Untyped) -> Iterable[Key]:
        return (Key(namespace_of(pod), text.partition("/")[2]) for text in _job_of(pod))

    async def reconcile(self, key: Key) -> Result | None:
        job = self._jobs.at(key)
        await self._free_strangers(key, job)
        if job is None or spec_of(job).get("managedBy") not in {None, _OURS}:
            return None
        if decide.is_over(job):
            return await self._expire(job)
        pods = await claim(self._client, self._pods, job, spec_of(job).get("selector"), finalizer=TRACKING)
        now = self._clock()
        counted = tally(job, pods)
        end = decide.end_of(job, pods, counted, now)
        moves = decide.moves_of(job, pods, counted, end, now)
        error = await self._carry_out(job, moves, failures=end is not None)
        counted = tally(job, controlled(self._pods, job))
        end = end if end is None or not counted.active else None
        settled = settle(job, counted, over=end is not None, failed=end is not None and end.failed)
        job = await self._write_status(job, decide.status(job, settled, end, now))
        await self._release(settled.release)
        if error is not None:
            raise error
        deadline_s = decide.deadline_left_s(job, now) if end is None else None
        waits = [wait_s for wait_s in (moves.wait_s, deadline_s, 0.0 if settled.more else None) if wait_s is not None]
        return Result(max(0.0, min(waits))) if waits else None

    # -- Pods

    async def _carry_out(self, job: Untyped, moves: decide.Moves, *, failures: bool) -> ApiError | None:
        """Makes and deletes. Returns what failed first. `failures`: the Pods that are deleted count as failed."""
        errors = await self._all(self._delete(job, pod, counts=failures) for pod in moves.delete[:_AT_MOST])
        if errors:
            self._events.warning(job, "FailedDelete", f"Error deleting: {errors[0]}")
            return errors[0]
        wanted = moves.create[:_AT_MOST]
        error = await make_in_growing_batches(len(wanted), lambda number: self._create(job, wanted[number]))
        if error is not None:
            self._events.warning(job, "FailedCreate", f"Error creating: {error}")
        return error

    async def _create(self, job: Untyped, index: int | None) -> None:
        template = spec_of(job).get("template") or {}
        stem = name_of(job) if index is None else f"{name_of(job)}-{index}"
        pod = pod_from(template, namespace_of(job), f"{stem}-", controlled_by(job))
        metadata = pod["metadata"]
        metadata["finalizers"] = [*metadata.get("finalizers", ()), TRACKING]
        if index is not None:
            _give_index(pod, job, index)
        made = self._pods.wrote(await self._client.create(pod))
        self._events.normal(job, "SuccessfulCreate", f"Created pod: {name_of(made)}")

    async def _delete(self, job: Untyped, pod: Object, *, counts: bool) -> None:
        if not counts and is_tracked(pod):
            # Suspended, or too many: nothing has failed, and a Pod that is not held is not counted.
            await self._take_finalizer(pod)
        await delete(self._client, self._pods, pod)
        self._events.normal(job, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

    async def _release(self, pods: Sequence[Object]) -> None:
        failures = await self._all(self._take_finalizer(pod) for pod in pods)
        if failures:
            raise failures[0]

    async def _take_finalizer(self, pod: Object) -> None:
        body = {"metadata": {"uid": uid_of(pod), "$deleteFromPrimitiveList/finalizers": [TRACKING]}}
        try:
            patched = await self._client.patch(
                Pod, name_of(pod), body, namespace=namespace_of(pod), type_="strategic"
            )  # fmt: skip
        except NotFound:
            self._pods.deleted(Pod(pod))
            return
        if patched["metadata"].get("deletionTimestamp") and not patched["metadata"].get("finalizers"):
            # It was only held by us: the answer is its last state, or the grace period still runs; the watch will say.
            return
        self._pods.wrote(patched)

    async def _free_strangers(self, key: Key, job: Untyped | None) -> None:
        """Lets go of Pods that are held for a Job that is not there any more."""
        held = [pod for pod in self._pods.by_index("job", str(key)) if is_tracked(pod)]
        ours = set() if job is None else {uid_of(job)}
        # One without a controller may be adopted while the Job runs.
        adoptable = set() if job is None or decide.is_over(job) else {None}
        await self._release([pod for pod in held if controller_uid(pod) not in ours | adoptable])

    @staticmethod
    async def _all(tasks: Iterable[Any]) -> list[ApiError]:
        """Runs some at a time; gives the failures, and raises what is none of the server's."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(task: Any) -> None:
            async with turns:
                await task

        outcomes = await asyncio.gather(*(one(task) for task in tasks), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, ApiError):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, ApiError)]

    # -- the Job

    async def _write_status(self, job: Untyped, status: Json) -> Untyped:
        if status == status_of(job):
            return job
        written = self._jobs.wrote(await self._client.replace_status(Job({**job, "status": status})))
        self._tell(status_of(job), status, written)
        return written

    def _tell(self, before: Object, after: Object, job: Untyped) -> None:
        """An Event for each condition that came to hold."""
        for type_, reason in (("Complete", "Completed"), ("Suspended", "Suspended")):
            if _came(before, after, type_):
                self._events.normal(job, reason, "Job completed" if type_ == "Complete" else "Job suspended")
        if _came(before, after, "Failed"):
            failed = condition(after.get("conditions"), "Failed") or {}
            self._events.warning(job, str(failed.get("reason")), str(failed.get("message")))
        resumed = condition(after.get("conditions"), "Suspended") or {}
        if resumed.get("status") == "False" and resumed != condition(before.get("conditions"), "Suspended"):
            self._events.normal(job, "Resumed", "Job resumed")

    async def _expire(self, job: Untyped) -> Result | None:
        """Deletes a finished Job when its time is over."""
        ttl_s = spec_of(job).get("ttlSecondsAfterFinished")
        if ttl_s is None or job["metadata"].get("deletionTimestamp"):
            return None
        ends = [one for one in status_of(job)["conditions"] if one["type"] in {"Complete", "Failed"}]
        ended = min(parse_time(one["lastTransitionTime"]) or EPOCH for one in ends if one["status"] == "True")
        left_s = (ended + timedelta(seconds=ttl_s) - self._clock()).total_seconds()
        if left_s > 0:
            return Result(left_s)
        version = job["metadata"]["resourceVersion"]
        await delete(self._client, self._jobs, job, propagation="Foreground", resource_version=version)
        return None


def _came(before: Object, after: Object, type_: str) -> bool:
    was = (condition(before.get("conditions"), type_) or {}).get("status")
    now = (condition(after.get("conditions"), type_) or {}).get("status")
    return now == "True" and was != "True"


def _job_of(pod: Object) -> Sequence[str]:
    """The Job that a Pod is of: by its controller, or, for one that lost it, by label. An index function."""
    references = pod["metadata"].get("ownerReferences") or ()
    for reference in references:
        if reference.get("controller"):
            return (f"{namespace_of(pod)}/{reference['name']}",) if reference["kind"] == "Job" else ()
    name = labels_of(pod).get(_JOB_NAME) or labels_of(pod).get("job-name")
    return (f"{namespace_of(pod)}/{name}",) if name else ()


def _give_index(pod: Untyped, job: Object, index: int) -> None:
    """Tells a Pod of an indexed Job which one it is: annotation, label, host name and environment."""
    assert is_indexed(job)
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), COMPLETION_INDEX: str(index)}
    metadata["labels"] = {**(metadata.get("labels") or {}), COMPLETION_INDEX: str(index)}
    spec["hostname"] = f"{name_of(job)}-{index}"
    variable = {
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{COMPLETION_INDEX}']"}},
    }
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        names = {one.get("name") for one in container.get("env") or ()}
        if variable["name"] not in names:
            container["env"] = [*(container.get("env") or ()), copy.deepcopy(variable)]
