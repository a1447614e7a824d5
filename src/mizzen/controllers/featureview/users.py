"""Who reads a FeatureView: other views that use it, trainings that are not over, endpoints."""

from collections.abc import Iterable
from typing import Any

from mizzen.kinds import FeatureView, InferenceEndpoint, TrainingJob
from mizzen.kube.informer import Informers

VIEW = "featureview"
_OVER = ("Succeeded", "Failed")


class Users:
    """Follows everything that may read a view."""

    def __init__(self, informers: Informers) -> None:
        self.views = informers.of(FeatureView)
        self.trainings = informers.of(TrainingJob)
        self.endpoints = informers.of(InferenceEndpoint)
        self.views.add_index(VIEW, lambda view: _keys(view.namespace, view.spec.uses))
        self.trainings.add_index(VIEW, lambda training: _keys(training.namespace, self.named_by(training)))
        self.endpoints.add_index(VIEW, lambda endpoint: _keys(endpoint.namespace, self.named_by(endpoint)))

    @staticmethod
    def named_by(reader: TrainingJob | InferenceEndpoint) -> list[str]:
        """The views that a training or an endpoint names."""
        named = reader.spec.model_dump(by_alias=True, exclude_none=True, include={"features"}).get("features")
        return [] if named is None else named_views(named)

    def of(self, view: FeatureView) -> list[str]:
        """Those that read a view now, as `kind/name`."""
        key = f"{view.namespace}/{view.name}"
        views = [f"featureview/{other.name}" for other in self.views.by_index(VIEW, key)]
        trainings = [
            f"trainingjob/{training.name}"
            for training in self.trainings.by_index(VIEW, key)
            if training.status.phase not in _OVER
        ]
        endpoints = [f"inferenceendpoint/{endpoint.name}" for endpoint in self.endpoints.by_index(VIEW, key)]
        return sorted([*views, *trainings, *endpoints])


def named_views(features: Any) -> list[str]:
    """The views in a `features` field: names, objects with a `view`, or an object that lists such under `views`."""
    if isinstance(features, dict):
        features = features.get("views", [])
    return [each if isinstance(each, str) else str(each.get("view", "")) for each in features]


def _keys(namespace: str, names: Iterable[str]) -> list[str]:
    return [f"{namespace}/{name}" for name in names]
