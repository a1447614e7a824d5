"""CustomResourceDefinitions: names are accepted and the definition established in the write that makes it."""

from collections.abc import Iterable

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import crd as definitions
from mizzen.local.apiserver.strategies.base import Strategy, Surroundings, keep, timestamp
from mizzen.local.apiserver.types import Json

_KEY = ("apiextensions.k8s.io", "customresourcedefinitions")


class DefinitionStrategy(Strategy):
    generation = True
    unconditional_update = False

    def default(self, obj: Json) -> None:
        names = obj.get("spec", {}).get("names")
        if isinstance(names, dict) and names.get("kind"):
            names.setdefault("singular", names["kind"].lower())
            names.setdefault("listKind", f"{names['kind']}List")

    def prepare_create(self, obj: Json, around: Surroundings) -> None:
        obj.pop("status", None)
        _establish(obj, around)

    def prepare_update(self, obj: Json, old: Json, around: Surroundings) -> None:
        keep(obj, old, ("status",))
        _establish(obj, around)

    def validate(self, obj: Json, around: Surroundings) -> Iterable[Cause]:
        return definitions.check_crd(obj)

    def validate_update(self, obj: Json, old: Json, around: Surroundings) -> Iterable[Cause]:
        return definitions.check_crd(obj, old)


def _establish(obj: Json, around: Surroundings) -> None:
    if not isinstance(obj.get("spec", {}).get("versions"), list) or "names" not in obj["spec"]:
        return  # refused by validation
    name = obj["metadata"].get("name")
    others = [other for other in around.reader.list(*_KEY) if other["metadata"]["name"] != name]
    obj["status"] = definitions.status_of(obj, others, timestamp(around.now))
