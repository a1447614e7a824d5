"""Many members' outputs as one.

`mean`, `sum` and `vote` count each member by its weight; `mean` and `median` are of doubles, given as the members' own
floating-point type, or FP64 where they are integers. `vote` takes for each element the value with most weight, and of
equal ones the value of the earliest member. `concat` puts columns side by side, along the last dimension.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.kinds.graph import Combiner
from mizzen.policy.graph.ports import Type, joined

FLOATS = ("FP16", "BF16", "FP32", "FP64")
Array = NDArray[Any]


def combined_type(combiner: Combiner, types: Sequence[Type]) -> Type | str:
    """The type of what comes out, or why nothing can."""
    first = types[0]
    if combiner == "concat":
        return _concat_type(types)
    if any(type_ != first for type_ in types[1:]) and any(joined(first, type_) is None for type_ in types[1:]):
        return f"expected members that give the same, found {', '.join(map(str, types))}"
    met = first
    for type_ in types[1:]:
        met = joined(met, type_) or met
    if combiner == "vote":
        return met
    if met.datatype in {"BYTES", "BOOL"}:
        return f"expected numbers for {combiner}, found {met.datatype}: text and truth values can be put to the vote"
    return Type("FP64", met.shape) if combiner in {"mean", "median"} and met.datatype not in FLOATS else met


def _concat_type(types: Sequence[Type]) -> Type | str:
    first = types[0]
    for type_ in types:
        if len(type_.shape) < 2:
            return f"expected at least two dimensions for concat, so that columns can be told from rows, found {type_}"
        if type_.datatype != first.datatype or len(type_.shape) != len(first.shape):
            return f"expected members of one datatype and number of dimensions, found {', '.join(map(str, types))}"
    last = [type_.shape[-1] for type_ in types]
    shape = [max(lengths) for lengths in zip(*(type_.shape[:-1] for type_ in types), strict=True)]
    if any(length not in {-1, wanted} for type_ in types for length, wanted in zip(type_.shape, shape, strict=False)):
        return f"expected members whose shapes differ in their last dimension only, found {', '.join(map(str, types))}"
    return Type(first.datatype, (*shape, -1 if -1 in last else sum(last)))


def combine(combiner: Combiner, members: Sequence[Array], weights: Sequence[float]) -> Array:
    """The members' arrays as one. All but `concat` expect equal shapes, and raise `ValueError` for others."""
    if combiner != "concat" and any(member.shape != members[0].shape for member in members):
        raise ValueError(f"expected members of one shape, found {', '.join(str(list(m.shape)) for m in members)}")
    return _COMBINERS[combiner](members, weights)


def _mean(members: Sequence[Array], weights: Sequence[float]) -> Array:
    return _float_as(np.average(_stacked(members), axis=0, weights=weights), members[0])


def _median(members: Sequence[Array], weights: Sequence[float]) -> Array:  # noqa: ARG001 - one face for all
    return _float_as(np.median(_stacked(members), axis=0), members[0])


def _sum(members: Sequence[Array], weights: Sequence[float]) -> Array:
    if all(weight == 1.0 for weight in weights):
        return np.sum(np.stack(members), axis=0, dtype=members[0].dtype)
    return np.tensordot(np.asarray(weights), _stacked(members), axes=1).astype(members[0].dtype)


def _vote(members: Sequence[Array], weights: Sequence[float]) -> Array:
    best = np.array(members[0], copy=True)
    most = np.zeros(best.shape)
    for candidate in members:
        votes = np.zeros(best.shape)
        for member, weight in zip(members, weights, strict=True):
            votes += weight * (member == candidate)
        better = votes > most
        best[better], most[better] = candidate[better], votes[better]
    return best


def _stacked(members: Sequence[Array]) -> Array:
    return np.stack([member.astype(np.float64) for member in members])


def _float_as(values: Array, like: Array) -> Array:
    return values.astype(like.dtype) if like.dtype.kind == "f" else values


_COMBINERS: dict[Combiner, Callable[[Sequence[Array], Sequence[float]], Array]] = {
    "mean": _mean,
    "median": _median,
    "min": lambda members, _: np.minimum.reduce(list(members)),
    "max": lambda members, _: np.maximum.reduce(list(members)),
    "sum": _sum,
    "vote": _vote,
    "concat": lambda members, _: np.concatenate(list(members), axis=-1),
}
