"""Pods for tests: as an API server would send them, with overrides."""

from typing import Any

from mizzen.local.node.moments import Moment
from mizzen.local.node.podspec import PodSpec
from mizzen.local.node.resources import POD

EPOCH_S = 1_800_000_000.0


def moment(steady: float) -> Moment:
    """A moment of virtual time: both clocks go alike."""
    return Moment(EPOCH_S + steady, steady)


def container(name: str = "main", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "python:3.12", "command": ["true"], **fields}


def pod_object(*containers: dict[str, Any], meta: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A Pod as JSON, bound to the node `n1`."""
    status = spec.pop("status", {})
    metadata = {"name": "p", "namespace": "default", "uid": "00000000-0000-0000-0000-000000000001", **(meta or {})}
    whole = {"containers": list(containers) or [container()], "nodeName": "n1", **spec}
    return POD(apiVersion="v1", kind="Pod", metadata=metadata, spec=whole, status=status)


def pod(*containers: dict[str, Any], meta: dict[str, Any] | None = None, **spec: Any) -> PodSpec:
    return PodSpec.parse(pod_object(*containers, meta=meta, **spec))


def deleted(of: PodSpec, grace_s: int | None = None) -> PodSpec:
    """The same Pod, when its deletion has been asked for."""
    grace_s = int(of.grace_s) if grace_s is None else grace_s
    meta = {
        **of.raw["metadata"],
        "deletionTimestamp": "2027-01-15T08:00:00Z",
        "deletionGracePeriodSeconds": grace_s,
    }
    return PodSpec.parse(POD({**of.raw, "metadata": meta}))
