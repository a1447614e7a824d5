"""Reconciles Models and the statuses of their versions: load, decide (`decide.py`), apply."""

from collections.abc import Sequence
from typing import Any

from mizzen.controllers.indexes import MODEL, model_of
from mizzen.controllers.model.decide import decide
from mizzen.controllers.platform import Platform, ResourceController
from mizzen.kinds import Model, ModelVersion
from mizzen.kube.resources import Key
from mizzen.kube.runtime import Result, Watch


class ModelController(ResourceController):
    """Judges new versions by the model's gates and moves its aliases."""

    name = "model"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._models = platform.informers.of(Model)
        self._versions = platform.informers.of(ModelVersion)
        self._versions.add_index(MODEL, model_of)

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._models),
            Watch(self._versions, lambda version: [Key(version.namespace, version.spec.model)]),
        )

    async def reconcile(self, key: Key) -> Result | None:
        model = self._models.at(key)
        if model is None or model.metadata.deletion_timestamp is not None:
            return None
        versions = list(self._versions.by_index(MODEL, str(key)))
        decision = decide(model, versions, self.platform.now_text())
        # Versions first: once the model says where an alias points, the version says how its gates came out.
        for version in versions:
            await self.platform.write_status(version, version.status, decision.versions[version.name])
        await self.platform.write_status(model, model.status, decision.status)
        self.platform.tell(model, decision.events)
        return None
