"""The Deployment controller: ReplicaSets, one for each template, that take over from each other.

A reconcile takes one step and writes one status: it makes the new ReplicaSet, or scales, or cleans up; the change it
makes brings the next. The arithmetic is in `rollout`, the words in `deployment_status`, the memory in `revisions`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mizzen.kube.conditions import condition
from mizzen.kube.errors import AlreadyExists, ApiError
from mizzen.kube.resources import Json, Key, Untyped
from mizzen.kube.runtime import Controller, Result, Watch, controller_of
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.objects import (
    Deployment,
    Object,
    Pod,
    ReplicaSet,
    age_key,
    annotations_of,
    controlled_by,
    controller_uid,
    is_deleted,
    labels_of,
    name_of,
    namespace_of,
    spec_of,
    status_of,
    uid_of,
)
from mizzen.local.cluster.pods import is_finished
from mizzen.local.cluster.selectors import is_empty
from mizzen.local.cluster.workloads import deployment_status, revisions
from mizzen.local.cluster.workloads.ownership import claim, controlled, index_by_controller
from mizzen.local.cluster.workloads.rollout import (
    Bounds,
    Part,
    Sizes,
    grow,
    is_saturated,
    proportional,
    roll,
    to_delete,
)
from mizzen.local.cluster.workloads.template_hash import HASH_LABEL, same_template, template_hash
from mizzen.local.cluster.writing import delete


@dataclass(frozen=True, slots=True)
class _State:
    """A Deployment and its ReplicaSets, by age; `new` is that of its present template."""

    deployment: Untyped
    new: Untyped | None
    old: tuple[Untyped, ...]
    bounds: Bounds

    @property
    def all(self) -> tuple[Untyped, ...]:
        return (*self.old, self.new) if self.new is not None else self.old

    @property
    def is_recreate(self) -> bool:
        return bool((spec_of(self.deployment).get("strategy") or {}).get("type") == "Recreate")

    @property
    def is_paused(self) -> bool:
        return bool(spec_of(self.deployment).get("paused"))


class DeploymentController(Controller):
    """Rolls Deployments out."""

    name = "deployment-controller"

    def __init__(self, cluster: ClusterContext) -> None:
        self._client = cluster.client
        self._clock = cluster.clock
        self._events = cluster.recorder.speaking_as(self.name)
        self._deployments = cluster.informers.of(Deployment)
        self._sets = cluster.informers.of(ReplicaSet)
        self._pods = cluster.informers.of(Pod)
        index_by_controller(self._sets)
        index_by_controller(self._pods)

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._deployments),
            Watch(self._sets, self._of_set),
            # A Recreate waits for the last Pod to be gone; all else is in the ReplicaSets.
            Watch(self._pods, self._of_pod, when=lambda _, new: new is None),
        )

    def _of_set(self, replica_set: Untyped) -> Sequence[Key]:
        if controller_uid(replica_set):
            return tuple(controller_of(Deployment)(replica_set))
        return tuple(Key(namespace_of(one), name_of(one)) for one in self._deployments.list(namespace_of(replica_set)))

    def _of_pod(self, pod: Untyped) -> Sequence[Key]:
        owner = controller_uid(pod)
        sets = [one for one in self._sets.list(namespace_of(pod)) if uid_of(one) == owner]
        return [key for one in sets for key in controller_of(Deployment)(one)]

    async def reconcile(self, key: Key) -> Result | None:
        deployment = self._deployments.at(key)
        if deployment is None or is_empty(spec_of(deployment).get("selector")):
            return None
        sets = await claim(self._client, self._sets, deployment, spec_of(deployment).get("selector"))
        state = _state(deployment, sets)
        if is_deleted(deployment):
            return await self._say(state, progress=False)
        if self._pause_changed(state):
            return await self._say_paused(state)
        if state.is_paused or _was_scaled(state):
            await self._scale(state)
            if state.is_paused:
                await self._clean_up(state)
            return await self._say(self._again(state), progress=False)
        created = await self._roll_out(state)
        return await self._say(self._again(state), progress=True, created=created)

    # -- the rollout

    async def _roll_out(self, state: _State) -> bool:
        """Takes the next step. Whether that was to make a ReplicaSet."""
        if state.is_recreate and state.new is None:
            stopped = {name_of(one): 0 for one in state.old if spec_of(one).get("replicas")}
            if await self._resize(state, stopped) or self._old_pods_run(state):
                return False
        if state.new is None:
            return await self._create_new(state)
        new = await self._keep_annotations(state, state.new)
        state = _State(state.deployment, new, state.old, state.bounds)
        sizes = self._recreated(state, new) if state.is_recreate else roll(_part(new), _parts(state.old), state.bounds)
        if not await self._resize(state, sizes):
            counts = deployment_status.Counts.of(new, state.all)
            if deployment_status.is_complete(state.deployment, counts):
                await self._clean_up(state)
        return False

    def _recreated(self, state: _State, new: Untyped) -> Sizes:
        stopped = {name_of(one): 0 for one in state.old if spec_of(one).get("replicas")}
        if stopped or self._old_pods_run(state):
            return stopped
        return {name_of(new): state.bounds.desired}

    def _old_pods_run(self, state: _State) -> bool:
        return any(not is_finished(pod) for one in state.old for pod in controlled(self._pods, one))

    async def _create_new(self, state: _State) -> bool:
        deployment, bounds = state.deployment, state.bounds
        new = _replica_set_of(state)
        size = bounds.desired if state.is_recreate else grow(_part(new), _parts(state.old), bounds)
        new["spec"]["replicas"] = size
        try:
            made = self._sets.wrote(await self._client.create(new))
        except AlreadyExists:
            await self._on_name_taken(state, name_of(new))
            return False
        except ApiError as error:
            await self._write_status(deployment, _failed_to_create(deployment, name_of(new), error, self._clock()))
            raise
        if size:
            message = f"Scaled up replica set {name_of(made)} from 0 to {size}"
            self._events.normal(deployment, "ScalingReplicaSet", message)
        return True

    async def _on_name_taken(self, state: _State, name: str) -> None:
        """Another template has the same hash, or the cache is behind: the first is solved by another hash."""
        deployment = state.deployment
        there = await self._client.get(ReplicaSet, name, namespace_of(deployment))
        ours = controller_uid(there) == uid_of(deployment)
        if ours and same_template(spec_of(there).get("template") or {}, spec_of(deployment).get("template") or {}):
            self._sets.wrote(there)
            return
        collisions = (status_of(deployment).get("collisionCount") or 0) + 1
        await self._write_status(deployment, {**status_of(deployment), "collisionCount": collisions})

    async def _keep_annotations(self, state: _State, new: Untyped) -> Untyped:
        """The newest ReplicaSet with the Deployment's annotations, its revision and its `minReadySeconds`."""
        wanted = revisions.annotated(state.deployment, new, revisions.next_revision(state.old))
        min_ready_s = spec_of(state.deployment).get("minReadySeconds") or 0
        if wanted != annotations_of(new) or (spec_of(new).get("minReadySeconds") or 0) != min_ready_s:
            body = {
                "metadata": {"resourceVersion": new["metadata"]["resourceVersion"], "annotations": wanted},
                "spec": {"minReadySeconds": min_ready_s},
            }
            new = self._sets.wrote(
                await self._client.patch(ReplicaSet, name_of(new), body, namespace=namespace_of(new))
            )  # fmt: skip
        return new

    # -- sizes

    async def _scale(self, state: _State) -> None:
        """Follows a change of `replicas` without going on with the rollout."""
        bounds = state.bounds
        active = [one for one in state.all if spec_of(one).get("replicas")]
        latest = active[0] if len(active) == 1 else state.new if not active else None
        if not active and latest is None and state.old:
            latest = max(state.old, key=age_key)
        if latest is not None:
            await self._resize(state, {name_of(latest): bounds.desired})
        elif state.new is not None and is_saturated(
            _part(state.new), bounds.desired, revisions.number(state.new, revisions.DESIRED)
        ):
            await self._resize(state, {name_of(one): 0 for one in state.old if spec_of(one).get("replicas")})
        elif not state.is_recreate:
            statused = status_of(state.deployment).get("replicas") or 0
            await self._resize(state, proportional(_parts(active), bounds, statused))

    async def _resize(self, state: _State, sizes: Sizes) -> bool:
        """Gives the named ReplicaSets their sizes. Whether any size changed."""
        remembered = revisions.sized(state.bounds.desired, state.bounds.most)
        changed = False
        for one in state.all:
            was = spec_of(one).get("replicas") or 0
            size = sizes.get(name_of(one), was)
            if size == was and (name_of(one) not in sizes or revisions.remembers(one, remembered)):
                continue
            body = {
                "metadata": {"resourceVersion": one["metadata"]["resourceVersion"], "annotations": remembered},
                "spec": {"replicas": size},
            }
            patched = await self._client.patch(ReplicaSet, name_of(one), body, namespace=namespace_of(one))
            self._sets.wrote(patched)
            if size != was:
                changed = True
                direction = "up" if size > was else "down"
                message = f"Scaled {direction} replica set {name_of(one)} from {was} to {size}"
                self._events.normal(state.deployment, "ScalingReplicaSet", message)
        return changed

    async def _clean_up(self, state: _State) -> None:
        """Deletes empty ReplicaSets of the oldest revisions beyond the history that is kept."""
        limit = spec_of(state.deployment).get("revisionHistoryLimit")
        if limit is None:
            return
        kept = [one for one in state.old if not is_deleted(one)]
        for name in to_delete(_parts(kept), {name_of(one): revisions.revision(one) for one in kept}, limit):
            one = next(one for one in kept if name_of(one) == name)
            status, spec, meta = status_of(one), spec_of(one), one["metadata"]
            behind = (meta.get("generation") or 0) > (status.get("observedGeneration") or 0)
            if status.get("replicas") or spec.get("replicas") or behind:
                continue
            await delete(self._client, self._sets, one)

    # -- what it says of itself

    def _pause_changed(self, state: _State) -> bool:
        current = condition(status_of(state.deployment).get("conditions"), "Progressing") or {}
        is_told = current.get("reason") == "DeploymentPaused"
        gave_up = current.get("reason") == "ProgressDeadlineExceeded"
        has_deadline = deployment_status.has_deadline(state.deployment)
        return has_deadline and not gave_up and is_told != state.is_paused

    async def _say_paused(self, state: _State) -> Result:
        reason, message = (
            ("DeploymentPaused", "Deployment is paused") if state.is_paused
            else ("DeploymentResumed", "Deployment is resumed")
        )  # fmt: skip
        status = dict(status_of(state.deployment))
        status["conditions"] = deployment_status.with_deployment_condition(
            status.get("conditions") or [], "Progressing", None, reason, message, self._clock()
        )
        await self._write_status(state.deployment, status)
        return Result(after_s=0.0)

    async def _say(self, state: _State, *, progress: bool, created: bool = False) -> Result | None:
        now = self._clock()
        what = (state.deployment, state.new, state.all, state.bounds.least, now)
        status = (
            deployment_status.rollout_status(*what, created=created) if progress else deployment_status.status(*what)
        )  # fmt: skip
        written = await self._write_status(state.deployment, status, state.new)
        left_s = deployment_status.time_left(written, now) if progress else None
        return None if left_s is None else Result(max(0.0, left_s) + 1.0)

    async def _write_status(self, deployment: Untyped, status: Json, new: Untyped | None = None) -> Untyped:
        """Writes the status, and with it which revision `new` is: an annotation, which goes along with a status so that
        `generation` stays what it is.
        """
        current = self._deployments.at(Key(namespace_of(deployment), name_of(deployment))) or deployment
        revision = annotations_of(new or current).get(revisions.REVISION)
        annotations = {**annotations_of(current), **({revisions.REVISION: revision} if revision else {})}
        if status == status_of(current) and annotations == annotations_of(current):
            return current
        metadata = {**current["metadata"], **({"annotations": annotations} if annotations else {})}
        changed = Deployment({**current, "metadata": metadata, "status": status})
        written = self._deployments.wrote(await self._client.replace_status(changed))
        if annotations_of(written) != annotations:
            # A server that takes the status alone from such a request has to be told in another.
            body = {"metadata": {"uid": uid_of(written), "annotations": {revisions.REVISION: revision}}}
            patched = await self._client.patch(
                Deployment, name_of(deployment), body, namespace=namespace_of(deployment)
            )  # fmt: skip
            written = self._deployments.wrote(patched)
        return written

    def _again(self, state: _State) -> _State:
        """The state after what was just written."""
        deployment = self._deployments.at(Key(namespace_of(state.deployment), name_of(state.deployment)))
        return _state(deployment or state.deployment, controlled(self._sets, state.deployment))


def _state(deployment: Untyped, sets: Sequence[Untyped]) -> _State:
    ordered = sorted(sets, key=age_key)
    template = spec_of(deployment).get("template") or {}
    # The oldest of those that fit, so that all who look agree.
    new = next((one for one in ordered if same_template(spec_of(one).get("template") or {}, template)), None)
    old = tuple(one for one in ordered if one is not new)
    return _State(deployment, new, old, _bounds(deployment))


def _bounds(deployment: Object) -> Bounds:
    spec = spec_of(deployment)
    desired = spec.get("replicas", 1)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Bounds(desired, 0, 0)
    rolling = strategy.get("rollingUpdate") or {}
    return Bounds.of(desired, rolling.get("maxSurge", "25%"), rolling.get("maxUnavailable", "25%"))


def _part(one: Object) -> Part:
    return Part(
        name_of(one),
        spec_of(one).get("replicas") or 0,
        status_of(one).get("availableReplicas") or 0,
        age_key(one),
        revisions.number(one, revisions.MOST) or 0,
    )


def _parts(sets: Sequence[Object]) -> list[Part]:
    return [_part(one) for one in sets]


def _was_scaled(state: _State) -> bool:
    """Whether `replicas` changed since the ReplicaSets that run were last given a size."""
    for one in state.all:
        remembered = revisions.number(one, revisions.DESIRED)
        if spec_of(one).get("replicas") and remembered is not None and remembered != state.bounds.desired:
            return True
    return False


def _replica_set_of(state: _State) -> Untyped:
    """The ReplicaSet of the Deployment's present template, to be created."""
    deployment = state.deployment
    spec = spec_of(deployment)
    template = spec.get("template") or {}
    hash_ = template_hash(template, status_of(deployment).get("collisionCount") or 0)
    labels = {**labels_of(template), HASH_LABEL: hash_}
    selector = dict(spec.get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: hash_}
    annotations = revisions.annotated(deployment, None, revisions.next_revision(state.old))
    annotations |= revisions.sized(state.bounds.desired, state.bounds.most)
    return ReplicaSet(
        {
            "metadata": {
                "name": f"{name_of(deployment)}-{hash_}",
                "namespace": namespace_of(deployment),
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [controlled_by(deployment)],
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": spec.get("minReadySeconds") or 0,
                "selector": selector,
                "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
            },
        }
    )


def _failed_to_create(deployment: Object, name: str, error: ApiError, now: Any) -> Json:
    message = f'Failed to create new replica set "{name}": {error}'
    conditions = deployment_status.with_deployment_condition(
        status_of(deployment).get("conditions") or [], "Progressing", False, "ReplicaSetCreateError", message, now
    )
    return {**status_of(deployment), "conditions": conditions}
