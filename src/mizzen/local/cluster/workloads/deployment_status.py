"""What a Deployment says of itself: counts, `Available`, `Progressing` and `ReplicaFailure`. Pure.

`Progressing` follows Kubernetes: True while something moves and when all is done (`NewReplicaSetAvailable`), False
once nothing moved for `progressDeadlineSeconds` (`ProgressDeadlineExceeded`). A Deployment that was done once does not
become unfinished because a Pod dies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mizzen.kube.conditions import condition
from mizzen.kube.resources import Json
from mizzen.kube.times import format_time, parse_time
from mizzen.local.cluster.objects import Object, is_deleted, name_of, spec_of, status_of
from mizzen.local.cluster.pods import EPOCH

_NO_DEADLINE = 2**31 - 1
_DONE = "NewReplicaSetAvailable"
_TIMED_OUT = "ProgressDeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Counts:
    """Pods of a Deployment, by what its ReplicaSets report."""

    replicas: int
    updated: int
    ready: int
    available: int
    asked: int
    """What the ReplicaSets were asked for."""
    terminating: int

    @classmethod
    def of(cls, new: Object | None, all_: Sequence[Object]) -> "Counts":
        return cls(
            replicas=_sum(all_, "replicas"),
            updated=_sum([new] if new is not None else [], "replicas"),
            ready=_sum(all_, "readyReplicas"),
            available=_sum(all_, "availableReplicas"),
            asked=sum(spec_of(one).get("replicas") or 0 for one in all_),
            terminating=_sum(all_, "terminatingReplicas"),
        )


def _sum(sets: Sequence[Object], field: str) -> int:
    return sum(status_of(one).get(field) or 0 for one in sets)


def has_deadline(deployment: Object) -> bool:
    """Whether it minds how long a rollout takes."""
    deadline = spec_of(deployment).get("progressDeadlineSeconds")
    return deadline is not None and deadline != _NO_DEADLINE


def is_complete(deployment: Object, counts: Counts) -> bool:
    """Whether all Pods are of the new template and available, and none of the old are left."""
    wanted: int = spec_of(deployment).get("replicas", 1)
    return counts.updated == counts.replicas == counts.available == wanted


def status(deployment: Object, new: Object | None, all_: Sequence[Object], least: int, now: datetime) -> Json:
    """The status without `Progressing`: what holds at any time, also of a paused Deployment."""
    counts = Counts.of(new, all_)
    unavailable = max(0, counts.asked - counts.available)
    has_least = counts.available >= least
    conditions = with_deployment_condition(
        status_of(deployment).get("conditions") or [],
        "Available",
        has_least,
        "MinimumReplicasAvailable" if has_least else "MinimumReplicasUnavailable",
        "Deployment has minimum availability." if has_least else "Deployment does not have minimum availability.",
        now,
    )
    collisions = status_of(deployment).get("collisionCount")
    numbers = {
        "replicas": counts.replicas,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "unavailableReplicas": unavailable,
    }
    return {
        "observedGeneration": deployment["metadata"].get("generation") or 0,
        **{name: count for name, count in numbers.items() if count},
        "terminatingReplicas": counts.terminating,
        **({"collisionCount": collisions} if collisions is not None else {}),
        "conditions": conditions,
    }


def rollout_status(
    deployment: Object, new: Object | None, all_: Sequence[Object], least: int, now: datetime, *, created: bool = False
) -> Json:
    """The status with how the rollout goes. `created`: the new ReplicaSet was made just now."""
    after = status(deployment, new, all_, least, now)
    counts = Counts.of(new, all_)
    conditions = after["conditions"]
    current = condition(conditions, "Progressing")
    done_before = current is not None and current.get("reason") == _DONE and counts.replicas == counts.updated
    if not has_deadline(deployment):
        conditions = [one for one in conditions if one["type"] != "Progressing"]
    elif not done_before:
        what = f'ReplicaSet "{name_of(new)}"' if new is not None else f'Deployment "{name_of(deployment)}"'
        if is_complete(deployment, counts):
            conditions = with_deployment_condition(
                conditions, "Progressing", True, _DONE, f"{what} has successfully progressed.", now
            )
        elif created:
            conditions = with_deployment_condition(
                conditions, "Progressing", True, "NewReplicaSetCreated", f"Created new {_lower(what)}", now, always=True
            )
        elif current is not None and current.get("reason") == _DONE:
            # Back to a template of before: its ReplicaSet is there already, and a new rollout begins.
            conditions = with_deployment_condition(
                conditions, "Progressing", True, "FoundNewReplicaSet", f"Found new {_lower(what)}", now
            )
        elif _has_moved(deployment, counts):
            conditions = with_deployment_condition(
                conditions, "Progressing", True, "ReplicaSetUpdated", f"{what} is progressing.", now, always=True
            )
        elif timed_out(deployment, now):
            conditions = with_deployment_condition(
                conditions, "Progressing", False, _TIMED_OUT, f"{what} has timed out progressing.", now
            )
    after["conditions"] = _with_failures(conditions, new, all_)
    return after


def _lower(what: str) -> str:
    """`ReplicaSet "x"` in the middle of a sentence, as Kubernetes has it."""
    return what.replace("ReplicaSet", "replica set").replace("Deployment", "deployment")


def _has_moved(deployment: Object, counts: Counts) -> bool:
    """Whether something is further than the last status said."""
    before = status_of(deployment)
    old_now = counts.replicas - counts.updated
    old_before = (before.get("replicas") or 0) - (before.get("updatedReplicas") or 0)
    return (
        counts.updated > (before.get("updatedReplicas") or 0)
        or old_now < old_before
        or counts.ready > (before.get("readyReplicas") or 0)
        or counts.available > (before.get("availableReplicas") or 0)
    )


def timed_out(deployment: Object, now: datetime) -> bool:
    """Whether nothing has moved for longer than the deadline."""
    current = condition(status_of(deployment).get("conditions"), "Progressing")
    if current is None or current.get("reason") == _DONE:
        return False
    return current.get("reason") == _TIMED_OUT or (time_left(deployment, now) or 0.0) < 0


def time_left(deployment: Object, now: datetime) -> float | None:
    """Seconds until the deadline; `None` where there is none or the rollout is done or given up."""
    current = condition(status_of(deployment).get("conditions"), "Progressing")
    if not has_deadline(deployment) or current is None or current.get("reason") in {_DONE, _TIMED_OUT}:
        return None
    since = parse_time(current.get("lastUpdateTime")) or EPOCH
    return (since + timedelta(seconds=spec_of(deployment)["progressDeadlineSeconds"]) - now).total_seconds()


def _with_failures(conditions: list[Json], new: Object | None, all_: Sequence[Object]) -> list[Json]:
    """The first failure of a ReplicaSet, the new one's before others', as the Deployment's own."""
    kept = [one for one in conditions if one["type"] != "ReplicaFailure"]
    alive = [one for one in ([new] if new is not None else []) + list(all_) if not is_deleted(one)]
    for one in alive:
        failure = condition(status_of(one).get("conditions"), "ReplicaFailure")
        if failure is not None:
            since = failure.get("lastTransitionTime")
            return [*kept, {**failure, "lastUpdateTime": since, "lastTransitionTime": since}]
    return kept


def with_deployment_condition(
    conditions: Sequence[Json],
    type_: str,
    status_: bool | None,
    reason: str,
    message: str,
    now: datetime,
    *,
    always: bool = False,
) -> list[Json]:
    """The conditions with one set. Where status and reason stay, it stays as it is, but for `always`."""
    word = {True: "True", False: "False", None: "Unknown"}[status_]
    old = condition(conditions, type_)
    if old is not None and (old["status"], old["reason"]) == (word, reason) and not always:
        return list(conditions)
    moment = format_time(now)
    since = old["lastTransitionTime"] if old is not None and old["status"] == word else moment
    new = {
        "type": type_, "status": word, "lastUpdateTime": moment, "lastTransitionTime": since, "reason": reason,
        "message": message,
    }  # fmt: skip
    if old is None:
        return [*conditions, new]
    return [new if one is old else one for one in conditions]
