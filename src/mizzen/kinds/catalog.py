"""Every kind there is, in the order in which they depend on each other."""

from mizzen.kinds.batch import BatchPrediction
from mizzen.kinds.build import Model, ModelVersion, TrainingJob
from mizzen.kinds.data import Dataset
from mizzen.kinds.features import FeatureView
from mizzen.kinds.meta import Resource
from mizzen.kinds.serve import InferenceEndpoint

KINDS: tuple[type[Resource], ...] = (
    Dataset,
    FeatureView,
    Model,
    ModelVersion,
    TrainingJob,
    InferenceEndpoint,
    BatchPrediction,
)


def kind_named(name: str) -> type[Resource] | None:
    """The kind of that name, or `None`."""
    return next((kind for kind in KINDS if kind.__name__ == name), None)
