"""What a Pod's state means to those who count Pods."""

from datetime import UTC, datetime, timedelta

from mizzen.kube.conditions import condition
from mizzen.kube.times import parse_time
from mizzen.local.cluster.objects import Object, is_deleted, spec_of, status_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def phase(pod: Object) -> str:
    """`Pending` where the status says nothing yet."""
    return str(status_of(pod).get("phase") or "Pending")


def is_finished(pod: Object) -> bool:
    """Whether it will never run again."""
    return phase(pod) in {"Succeeded", "Failed"}


def is_active(pod: Object) -> bool:
    """Whether it counts as one that runs, or will: not finished and not going away."""
    return not is_finished(pod) and not is_deleted(pod)


def ready_since(pod: Object) -> datetime | None:
    """Since when it is ready; `None` where it is not."""
    ready = condition(status_of(pod).get("conditions"), "Ready")
    if ready is None or ready.get("status") != "True":
        return None
    return parse_time(ready.get("lastTransitionTime")) or EPOCH


def is_ready(pod: Object) -> bool:
    """Whether its condition `Ready` holds."""
    return ready_since(pod) is not None


def available_at(pod: Object, min_ready_s: int) -> datetime | None:
    """When it will have been ready for long enough, if it stays so; `None` where it is not ready."""
    since = ready_since(pod)
    return None if since is None else since + timedelta(seconds=min_ready_s)


def is_available(pod: Object, min_ready_s: int, now: datetime) -> bool:
    """Whether it has been ready for long enough."""
    at = available_at(pod, min_ready_s)
    return at is not None and (min_ready_s == 0 or at <= now)


def restarts(pod: Object) -> int:
    """How often its containers were started again."""
    return sum(status.get("restartCount") or 0 for status in status_of(pod).get("containerStatuses") or ())


def node_of(pod: Object) -> str:
    """The node it is bound to; empty where it is bound to none."""
    return str(spec_of(pod).get("nodeName") or "")


def finished_at(pod: Object) -> datetime:
    """When a finished Pod ended: its last container's end, or the next best that is known."""
    status = status_of(pod)
    ends = [
        parse_time(ended.get("finishedAt"))
        for container in status.get("containerStatuses") or ()
        if (ended := (container.get("state") or {}).get("terminated"))
    ]
    known = [end for end in ends if end is not None]
    if known:
        return max(known)
    ready = condition(status.get("conditions"), "Ready")
    meta = pod["metadata"]
    since = (ready or {}).get("lastTransitionTime") or meta.get("deletionTimestamp") or meta.get("creationTimestamp")
    return parse_time(since) or EPOCH
