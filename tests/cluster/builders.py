"""Objects for tests, as small as may be, with overrides."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from mizzen.kube.times import format_time
from mizzen.local.cluster.objects import Job, Node, Pod, Service

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_uids = count(1)


def at(seconds: float) -> datetime:
    """That long after `NOW`."""
    return NOW + timedelta(seconds=seconds)


def condition(type_: str, holds: bool | None = True, since: datetime = NOW, **more: Any) -> dict[str, Any]:
    status = {True: "True", False: "False", None: "Unknown"}[holds]
    return {"type": type_, "status": status, "lastTransitionTime": format_time(since), **more}


def pod(
    name: str = "",
    *,
    node: str = "",
    phase: str = "Pending",
    ready: bool = False,
    ready_since: datetime = NOW,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    owner: str = "",
    deleted: bool = False,
    finalizers: tuple[str, ...] = (),
    created: datetime = NOW,
    requests: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **container: Any,
) -> Any:
    """A Pod; `owner` is the uid of its controller."""
    number = next(_uids)
    meta: dict[str, Any] = {
        "name": name or f"pod-{number}", "namespace": "default", "uid": f"uid-{number}", "labels": labels or {},
        "annotations": annotations or {}, "creationTimestamp": format_time(created), "finalizers": list(finalizers),
    }  # fmt: skip
    if owner:
        meta["ownerReferences"] = [{"kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}]
    if deleted:
        meta["deletionTimestamp"] = format_time(created)
    containers = [{"name": "main", "resources": {"requests": requests or {}}, **container}]
    conditions = [condition("Ready", since=ready_since)] if ready else []
    return Pod(
        {
            "metadata": meta,
            "spec": {"containers": containers, **({"nodeName": node} if node else {}), **(spec or {})},
            "status": {"phase": phase, "conditions": conditions, **(status or {})},
        }
    )


def node(
    name: str = "n1", *, ready: bool = True, taints: Any = (), labels: Any = None, spec: Any = None, **has: str
) -> Any:
    """A node with `cpu`, `memory`, `pods` and whatever else is named."""
    allocatable = {
        "cpu": "4",
        "memory": "8Gi",
        "pods": "110",
        **{key.replace("_", "/"): amount for key, amount in has.items()},
    }
    return Node(
        {
            "metadata": {"name": name, "uid": name, "labels": labels or {}},
            "spec": {"taints": list(taints), **(spec or {})},
            "status": {"allocatable": allocatable, "conditions": [condition("Ready", ready)]},
        }
    )


def job(*, status: dict[str, Any] | None = None, uid: str = "job", **spec: Any) -> Any:
    meta = {"name": "job", "namespace": "default", "uid": uid, "generation": 1}
    return Job(
        {
            "metadata": meta,
            "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 6, **spec},
            "status": status or {},
        }
    )


def service(*ports: dict[str, Any], **spec: Any) -> Any:
    meta = {"name": "svc", "namespace": "default", "uid": "svc"}
    return Service({"metadata": meta, "spec": {"ports": list(ports), "selector": {"app": "a"}, **spec}})
