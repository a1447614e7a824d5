"""Pods, and the Pod templates of workloads: amounts in one form, quality of service, a graceful end."""

from collections.abc import Iterable
from typing import Any

from mizzen.kinds.scalars import quantity
from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import causes
from mizzen.local.apiserver.strategies.base import Strategy, Surroundings, keep, timestamp
from mizzen.local.apiserver.strategies.quantities import canonical, canonical_amounts
from mizzen.local.apiserver.strategies.warnings import pod_warnings
from mizzen.local.apiserver.types import Json

_GRACE_PERIOD_S = 30
_CONTAINERS = ("containers", "initContainers")


class PodStrategy(Strategy):
    """The spec of a Pod is decided once; its status is the kubelet's; its end is graceful."""

    generation = True
    graceful = True
    returns_deleted = True

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        spec = canonical_spec(obj.get("spec") or {})
        obj["spec"] = spec
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}
        if spec.get("schedulingGates"):
            obj["status"]["conditions"] = [_gated(timestamp(around.now))]

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        obj["spec"] = canonical_spec(obj.get("spec") or {})

    def validate_create(self, obj: Json, around: Surroundings) -> Iterable[Cause]:
        spec = obj["spec"]
        if spec.get("ephemeralContainers"):
            yield causes.forbidden("spec.ephemeralContainers", "cannot be set on create")
        if spec.get("nodeName") and spec.get("schedulingGates"):
            yield causes.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")

    def warnings(self, obj: Json, old: Json | None) -> Iterable[str]:
        return pod_warnings(obj.get("spec") or {}, "spec") if old is None else ()

    def prepare_status(self, obj: Json, old: Json, around: Surroundings) -> None:
        """Labels and annotations may come with a status, as in Kubernetes; spec and owners may not."""
        keep(obj, old, ("spec",))
        keep(obj["metadata"], old["metadata"], ("ownerReferences",))
        qos = (obj.get("status") or {}).get("qosClass") or (old.get("status") or {}).get("qosClass")
        obj["status"] = {**(obj.get("status") or {}), **({"qosClass": qos} if qos else {})}

    def validate_status(self, obj: Json, old: Json, around: Surroundings) -> Iterable[Cause]:
        new, before = obj.get("status", {}).get("qosClass"), old.get("status", {}).get("qosClass")
        if before and new != before:
            yield causes.invalid("status.qosClass", new, "field is immutable")
        nominated = obj.get("status", {}).get("observedGeneration")
        if isinstance(nominated, int) and nominated < 0:
            yield causes.invalid("status.observedGeneration", nominated, "must be greater than or equal to 0")

    def grace_period_s(self, obj: Json, requested: int | None) -> int:
        spec, phase = obj.get("spec", {}), obj.get("status", {}).get("phase")
        period = spec.get("terminationGracePeriodSeconds", _GRACE_PERIOD_S) if requested is None else requested
        if not spec.get("nodeName") or phase in {"Failed", "Succeeded"}:
            return 0  # no kubelet has it, or it has ended already
        return 1 if period < 0 else int(period)


def _gated(now: str) -> Json:
    return {
        "type": "PodScheduled",
        "status": "False",
        "lastProbeTime": None,
        "lastTransitionTime": now,
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
        "observedGeneration": 1,
    }


def canonical_spec(spec: Json) -> Json:
    """A Pod spec with all its amounts in their stored form."""
    changed: Json = {}
    for field in _CONTAINERS:
        if isinstance(spec.get(field), list):
            changed[field] = [_canonical_container(container) for container in spec[field]]
    if isinstance(spec.get("overhead"), dict):
        changed["overhead"] = {name: canonical(amount) for name, amount in spec["overhead"].items()}
    if any((volume.get("emptyDir") or {}).get("sizeLimit") is not None for volume in spec.get("volumes") or ()):
        changed["volumes"] = [_canonical_volume(volume) for volume in spec["volumes"]]
    return {**spec, **changed} if changed else spec


def _canonical_container(container: Any) -> Any:
    resources = container.get("resources") if isinstance(container, dict) else None
    if not resources:
        return container
    return {**container, "resources": canonical_amounts(resources, ("limits", "requests"))}


def _canonical_volume(volume: Json) -> Json:
    directory = volume.get("emptyDir") or {}
    if directory.get("sizeLimit") is None:
        return volume
    return {**volume, "emptyDir": {**directory, "sizeLimit": canonical(directory["sizeLimit"])}}


def qos_class(spec: Json) -> str:
    """`Guaranteed` where every container has limits of CPU and memory that are its requests, `BestEffort` where none
    has any of either, else `Burstable`."""
    guaranteed, any_set = True, False
    for field in _CONTAINERS:
        for container in spec.get(field) or ():
            resources = container.get("resources") or {}
            limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
            for name in ("cpu", "memory"):
                limit, request = _amount(limits.get(name)), _amount(requests.get(name))
                any_set = any_set or bool(limit or request)
                guaranteed = guaranteed and bool(limit) and limit == request
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _amount(value: Any) -> Any:
    try:
        return None if value is None else quantity(str(value))
    except ValueError:
        return None
