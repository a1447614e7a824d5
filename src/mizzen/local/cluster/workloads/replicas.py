"""What a ReplicaSet does about the number of its Pods: how many to make, which to delete. Pure.

Which Pods go first is Kubernetes' order (`ActivePodsWithRanks`), with plain times where it compares their logarithms.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mizzen.kube.conditions import with_condition
from mizzen.kube.errors import ApiError
from mizzen.kube.resources import Json
from mizzen.kube.times import parse_time
from mizzen.local.cluster.objects import Object, annotations_of, is_deleted, labels_of, spec_of, status_of, uid_of
from mizzen.local.cluster.pods import (
    EPOCH,
    available_at,
    is_active,
    is_available,
    is_finished,
    is_ready,
    node_of,
    phase,
    ready_since,
    restarts,
)
from mizzen.local.cluster.selectors import matches_labels

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Adjustment:
    """How many Pods to make, and which to delete: never both."""

    create: int
    delete: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why Pods could not be made (`FailedCreate`) or deleted (`FailedDelete`)."""

    reason: str
    error: ApiError


def adjust(replicas: int, pods: Iterable[Object], siblings: Iterable[Object]) -> Adjustment:
    """What brings the Pods of a ReplicaSet to their number.

    `siblings` are the Pods of all ReplicaSets of the same Deployment: of two Pods alike, that on the fuller node goes.
    """
    active = [pod for pod in pods if is_active(pod)]
    missing = replicas - len(active)
    if missing >= 0:
        return Adjustment(missing, ())
    crowd = Counter(node_of(pod) for pod in siblings if is_active(pod) and node_of(pod))
    return Adjustment(0, tuple(sorted(active, key=lambda pod: expendable(pod, crowd))[:-missing]))


def expendable(pod: Object, crowd: Mapping[str, int] | None = None) -> tuple[float | bool | str, ...]:
    """Sorts Pods by how little is lost with them, least first. `crowd`: how many like it are on each node."""
    since = ready_since(pod)
    created = parse_time(pod["metadata"].get("creationTimestamp")) or EPOCH
    return (
        bool(node_of(pod)),
        _PHASES.get(phase(pod), 2),
        is_ready(pod),
        _deletion_cost(pod),
        -(crowd or {}).get(node_of(pod), 0),
        # Among the ready, those that are so for the shorter time; among the rest there is no such time.
        -(since or EPOCH).timestamp(),
        -restarts(pod),
        -created.timestamp(),
        uid_of(pod),
    )


def _deletion_cost(pod: Object) -> int:
    try:
        return int(annotations_of(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def status(replica_set: Object, pods: Sequence[Object], failure: "Failure | None", now: datetime) -> Json:
    """The status of a ReplicaSet with these Pods; `failure` is why Pods could not be made or deleted just now."""
    spec = spec_of(replica_set)
    active = [pod for pod in pods if is_active(pod)]
    template_labels = labels_of(spec.get("template") or {})
    min_ready_s = spec.get("minReadySeconds") or 0
    conditions = [one for one in status_of(replica_set).get("conditions") or () if one.get("type") != "ReplicaFailure"]
    if failure is not None:
        old = status_of(replica_set).get("conditions")
        conditions = with_condition(old, "ReplicaFailure", True, failure.reason, str(failure.error), now=now)
    counts = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(1 for pod in active if matches_labels(template_labels, labels_of(pod))),
        "readyReplicas": sum(1 for pod in active if is_ready(pod)),
        "availableReplicas": sum(1 for pod in active if is_available(pod, min_ready_s, now)),
    }
    return {
        **{name: count for name, count in counts.items() if count or name == "replicas"},
        "terminatingReplicas": sum(1 for pod in pods if is_deleted(pod) and not is_finished(pod)),
        "observedGeneration": replica_set["metadata"].get("generation") or 0,
        **({"conditions": conditions} if conditions else {}),
    }


def next_available_s(pods: Iterable[Object], min_ready_s: int, now: datetime) -> float | None:
    """In how many seconds the next of the ready Pods becomes available; `None` where none is on its way."""
    waits = [
        (at - now).total_seconds()
        for pod in pods
        if is_active(pod) and (at := available_at(pod, min_ready_s)) is not None and at > now
    ]
    return min(waits) if waits and min_ready_s else None
