"""The nouns: what a team can declare.

Each kind is a pydantic model with `metadata`, `spec` (wanted) and `status` (observed). The models are the one source of
the CRDs, the JSON Schemas, the defaults, the validation messages and the reference documentation.
"""

from mizzen.kinds.batch import BatchPrediction
from mizzen.kinds.build import Model, ModelVersion, TrainingJob
from mizzen.kinds.catalog import KINDS, kind_named
from mizzen.kinds.data import Dataset
from mizzen.kinds.features import FeatureView
from mizzen.kinds.meta import API_VERSION, GROUP, VERSION, Condition, ObjectMeta, Resource
from mizzen.kinds.serve import InferenceEndpoint

__all__ = [
    "API_VERSION",
    "GROUP",
    "KINDS",
    "VERSION",
    "BatchPrediction",
    "Condition",
    "Dataset",
    "FeatureView",
    "InferenceEndpoint",
    "Model",
    "ModelVersion",
    "ObjectMeta",
    "Resource",
    "TrainingJob",
    "kind_named",
]
