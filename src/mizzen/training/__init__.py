"""What runs inside a training Pod.

A training function takes a `Context` and returns a `TrainedModel`, perhaps of a `PythonModel`; all are imported from
here.
"""

from mizzen.registry.python_model import PythonModel
from mizzen.training.context import Context, UnknownDataset
from mizzen.training.result import TrainedModel

__all__ = ["Context", "PythonModel", "TrainedModel", "UnknownDataset"]
