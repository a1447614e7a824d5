"""Shapley values by definition: the oracle of the faster ways, and the exact way where features are few.

    phi_i = sum over S without i of  |S|! (n - |S| - 1)! / n!  *  (v(S + i) - v(S))

(L. S. Shapley, A value for n-person games, 1953.) 2^n coalitions are valued once each.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Value = Callable[[NDArray[np.bool_]], Array]
"""Coalitions, shape (m, n), to what each is worth, shape (m, outputs)."""


def by_definition(features: int, value: Value) -> Array:
    """The features' values, shape (features, outputs)."""
    masks = all_coalitions(features)
    worth = np.asarray(value(masks), np.float64)
    sizes = masks.sum(axis=1)
    phi = np.zeros((features, worth.shape[1]))
    for feature in range(features):
        without = np.flatnonzero(~masks[:, feature])
        added = without + (1 << feature)
        weights = np.array([_weight(int(size), features) for size in sizes[without]])
        phi[feature] = weights @ (worth[added] - worth[without])
    return phi


def all_coalitions(features: int) -> NDArray[np.bool_]:
    """All subsets, shape (2^features, features); row k holds the bits of k."""
    numbers = np.arange(1 << features)
    return ((numbers[:, None] >> np.arange(features)) & 1).astype(np.bool_)


def mixed(row: NDArray[Any], background: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """The background's rows with the features in the mask taken from the row."""
    return np.where(mask, row, background)


def _weight(size: int, features: int) -> float:
    return math.factorial(size) * math.factorial(features - size - 1) / math.factorial(features)
