"""Which way the rows of a request go, all at once: `policy.traffic` for arrays of points."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def ways(weights: Sequence[int], points: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """For each point the way it goes; no way of weight 0 is gone."""
    ends = np.cumsum(np.asarray(weights, np.float64)) / sum(weights)
    found = np.searchsorted(ends, np.asarray(points, np.float64), side="right")
    last = max(index for index, weight in enumerate(weights) if weight)
    return np.minimum(found, last).astype(np.int64)
