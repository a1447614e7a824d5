"""How cached objects are found by what they name: index functions that all controllers share, as they share caches."""

from collections.abc import Iterable

from mizzen.kinds import ModelVersion

MODEL = "model"


def model_of(version: ModelVersion) -> Iterable[str]:
    """`namespace/model` of a version."""
    return (f"{version.namespace}/{version.spec.model}",)
