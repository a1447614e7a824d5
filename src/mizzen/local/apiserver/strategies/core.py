"""The types of the core group that are no workloads, and Leases."""

from collections.abc import Iterable

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import causes
from mizzen.local.apiserver.strategies.base import Strategy, Surroundings, keep
from mizzen.local.apiserver.strategies.quantities import canonical_amounts
from mizzen.local.apiserver.types import Json, ResourceType

_KUBERNETES = "kubernetes"


class NamespaceStrategy(Strategy):
    """Kept until its contents are gone: `spec.finalizers` says who still has to see to that."""

    returns_deleted = True

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        spec = obj.get("spec") or {}
        others = [name for name in spec.get("finalizers") or () if name != _KUBERNETES]
        obj["spec"] = {**spec, "finalizers": [*others, _KUBERNETES]}
        obj["status"] = {"phase": "Active"}

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        finalizers = old.get("spec", {}).get("finalizers")
        obj["spec"] = {**obj.get("spec", {}), **({"finalizers": finalizers} if finalizers is not None else {})}

    def validate_status(self, obj: Json, old: Json, around: Surroundings) -> Iterable[Cause]:
        phase, deleting = obj.get("status", {}).get("phase"), "deletionTimestamp" in obj["metadata"]
        if deleting and phase != "Terminating":
            yield causes.invalid("status.phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
        if not deleting and phase != "Active":
            yield causes.invalid("status.phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")


class NodeStrategy(Strategy):
    """A kubelet registers its Node with status and all."""

    takes_status = True

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        _canonical_status(obj)
        _pair_ranges(obj)

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        _pair_ranges(obj)

    def prepare_status(self, obj: Json, old: Json, around: Surroundings) -> None:
        keep(obj, old, ("spec",))
        _canonical_status(obj)

    def validate_update(self, obj: Json, old: Json, around: Surroundings) -> Iterable[Cause]:
        yield from super().validate_update(obj, old, around)
        for field, name in (("podCIDRs", "podCIDR"), ("providerID", "providerID")):
            before = (old.get("spec") or {}).get(field)
            if before and before != (obj.get("spec") or {}).get(field):
                yield causes.forbidden(f"spec.{field}", f'node updates may not change {name} except from "" to valid')


def _canonical_status(node: Json) -> None:
    if node.get("status"):
        node["status"] = canonical_amounts(node["status"], ("capacity", "allocatable"))


def _pair_ranges(node: Json) -> None:
    """`podCIDR` is the first of `podCIDRs`; whoever says one has said the other."""
    spec = node.get("spec") or {}
    first, ranges = spec.get("podCIDR"), spec.get("podCIDRs")
    if first and (not ranges or ranges[0] != first):
        node["spec"] = {**spec, "podCIDRs": [first]}
    elif ranges and not first:
        node["spec"] = {**spec, "podCIDR": ranges[0]}


class ServiceAccountStrategy(Strategy):
    returns_deleted = True


class LeaseStrategy(Strategy):
    create_on_update = True
    unconditional_update = False


class EventStrategy(Strategy):
    create_on_update = True
    owns = False

    def validate_create(self, obj: Json, around: Surroundings) -> Iterable[Cause]:
        """The newer API takes no events in the old way, nor of types that it does not know."""
        if around.rtype.group != "events.k8s.io":
            return
        if not obj.get("eventTime"):
            yield causes.required("eventTime")
        if obj.get("type") not in {"Normal", "Warning"}:
            yield causes.invalid("type", "", f"has invalid value: {obj.get('type', '')}")
        for field in ("firstTimestamp", "lastTimestamp", "count", "source"):
            if obj.get(f"deprecated{field[0].upper()}{field[1:]}"):
                yield causes.invalid(field, "", "needs to be unset")


class EndpointSliceStrategy(Strategy):
    generation = True

    def spec_changed(self, obj: Json, old: Json, rtype: ResourceType) -> bool:
        changed = any(obj.get(field) != old.get(field) for field in ("endpoints", "ports", "addressType"))
        return changed or (obj["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {})


class AccessStrategy(Strategy):
    """Roles and bindings."""

    create_on_update = True
