"""CustomResourceDefinitions: names are accepted and the definition established in the write that makes it."""

from collections.abc import Iterable

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import cel_rules
from mizzen.local.apiserver.schema import crd as definitions
from mizzen.local.apiserver.strategies.base import Strategy, Surroundings, timestamp
from mizzen.local.apiserver.types import Json

_KEY = ("apiextensions.k8s.io", "customresourcedefinitions")


class DefinitionStrategy(Strategy):
    generation = True
    unconditional_update = False

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        obj.pop("status", None)
        _establish(obj, around)

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        _establish(obj, around)

    def warnings(self, obj: Json, old: Json | None) -> Iterable[str]:
        if old is not None and obj["spec"] == old["spec"]:
            return ()
        return cel_rules.not_asked(obj["spec"].get("versions"))

    def validate(self, obj: Json, around: Surroundings) -> Iterable[Cause]:
        return definitions.check_crd(obj)

    def validate_update(self, obj: Json, old: Json, around: Surroundings) -> Iterable[Cause]:
        known = definitions.check_crd(obj)
        return [cause for cause in definitions.check_crd(obj, old) if cause not in known]


def _establish(obj: Json, around: Surroundings) -> None:
    spec = obj.get("spec") or {}
    if not spec.get("versions") or not spec.get("names"):
        return  # refused by validation
    name = obj["metadata"].get("name")
    others = [other for other in around.newest(_KEY) if other["metadata"]["name"] != name]
    obj["status"] = definitions.status_of(obj, others, timestamp(around.now))
