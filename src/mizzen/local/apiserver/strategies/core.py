"""The types of the core group that are no workloads."""

from mizzen.local.apiserver.strategies.base import Strategy, Surroundings, keep
from mizzen.local.apiserver.types import Json


class NamespaceStrategy(Strategy):
    """Kept until its contents are gone: `spec.finalizers` says who still has to see to that."""

    returns_deleted = True

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        spec = obj.setdefault("spec", {})
        spec["finalizers"] = [*(f for f in spec.get("finalizers") or () if f != "kubernetes"), "kubernetes"]
        obj["status"] = {"phase": "Active"}

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        keep(obj, old, ("spec", "status"))

    def prepare_status(self, obj: Json, old: Json, around: Surroundings) -> None:
        keep(obj, old, ("spec",))
