"""Shapley values of any model: the weighted least squares of Kernel SHAP over sampled coalitions.

The values are the coefficients of the linear function of coalitions that fits their worth best, weighted by the
kernel  (n - 1) / (C(n, s) s (n - s))  of a coalition of s of n features, and exact for none and all of them
(S. Lundberg and S.-I. Lee, A unified approach to interpreting model predictions, 2017). Up to `EXACT_FEATURES_MAX`
features all coalitions are valued, and the result is exact. Beyond, whole sizes are taken from the outside inwards
(s = 1 and n - 1, 2 and n - 2, …) as long as the budget holds all of a size, and the rest of the budget is sampled by
weight, each coalition with its complement, which takes out the odd part of the error.

Everything is drawn from a generator that is given: the same request is explained the same way.
"""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from mizzen.serving.explaining.shapley import Array, Value, all_coalitions, by_definition

EXACT_FEATURES_MAX = 10
"""1,024 coalitions: fewer than what is sampled otherwise."""


def explain(features: int, value: Value, coalitions: int, random: np.random.Generator) -> Array:
    """The features' values, shape (features, outputs), from at most so many coalitions, or `2 * features` at least."""
    if features <= EXACT_FEATURES_MAX:
        return by_definition(features, value)
    masks, weights = _chosen(features, max(coalitions, 2 * features), random)
    ends = np.asarray(value(np.array([[False] * features, [True] * features])), np.float64)
    worth = np.asarray(value(masks), np.float64) - ends[0]
    whole = ends[1] - ends[0]
    # The last feature's value follows from the others', since all add up to the whole.
    design = masks[:, :-1].astype(np.float64) - masks[:, -1:]
    target = worth - masks[:, -1:] * whole
    scale = np.sqrt(weights)[:, None]
    found, *_ = np.linalg.lstsq(design * scale, target * scale, rcond=None)
    return np.vstack([found, whole - found.sum(axis=0)])


def _chosen(features: int, budget: int, random: np.random.Generator) -> tuple[NDArray[np.bool_], Array]:
    """Coalitions, and what each weighs."""
    masks: list[NDArray[np.bool_]] = []
    weights: list[float] = []
    sizes = list(range(1, features // 2 + 1))
    mass = {size: _mass(features, size) for size in sizes}
    while sizes:
        size = sizes[0]
        both = 1 if 2 * size == features else 2
        count = math.comb(features, size) * both
        if count > budget:
            break
        sizes.pop(0)
        budget -= count
        for chosen in itertools.combinations(range(features), size):
            for mask in _with_complement(features, np.array(chosen), alone=both == 1):
                masks.append(mask)
                weights.append(mass[size] / count)
    if sizes and budget >= 2:
        share = np.array([mass[size] for size in sizes])
        drawn = random.choice(sizes, size=budget // 2, p=share / share.sum())
        each = share.sum() / (2 * len(drawn))
        for some in drawn:
            masks += _with_complement(features, random.choice(features, size=int(some), replace=False), alone=False)
            weights += [each, each]
    return np.array(masks), np.array(weights)


def _with_complement(features: int, chosen: NDArray[np.int64], *, alone: bool) -> list[NDArray[np.bool_]]:
    mask = np.zeros(features, np.bool_)
    mask[chosen] = True
    return [mask] if alone else [mask, ~mask]


def _mass(features: int, size: int) -> float:
    """The kernel's weight of all coalitions of that size and of its complement's."""
    one = (features - 1) / (size * (features - size))
    return one if 2 * size == features else 2 * one


__all__ = ["EXACT_FEATURES_MAX", "all_coalitions", "explain"]
