"""What runs inside a training Pod.

A training function takes a `Context` and returns a `TrainedModel`; both are imported from here.
"""

from mizzen.training.context import Context, UnknownDataset
from mizzen.training.result import TrainedModel

__all__ = ["Context", "TrainedModel", "UnknownDataset"]
