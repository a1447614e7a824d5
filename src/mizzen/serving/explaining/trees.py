"""Exact Shapley values of a decision forest, against a background: interventional TreeSHAP.

A leaf is reached where every condition on the way to it holds. The conditions on one feature together are a literal.
For a row x and a background row b, a mixed row reaches the leaf exactly where each literal is met by the value that was
taken: so where some literal is met by neither, no coalition reaches it; a literal met by both does not matter;
one met by x only needs its feature from x, one met by b only needs it from b. With p of the former kind and q of the
latter, the leaf of value v is the game  v * [all p in S, none of q in S],  whose Shapley values are

    v * (p - 1)! q! / (p + q)!      for each of the p,
  - v * p! (q - 1)! / (p + q)!      for each of the q.

Values add up over leaves, trees and background rows (the game is linear in them), so the whole is a few passes over a
matrix of background rows times literals: nothing is sampled, and nothing is walked. (S. Lundberg et al., From local
explanations to global understanding with explainable AI for trees, 2020, "interventional"; the form by literals is that
of GPUTreeShap, R. Mitchell et al., 2022.)

What is explained is the sum over the trees, before the link: log-odds for a boosted classifier.
"""

import dataclasses
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEQ, LT, EQ = 0, 1, 2
"""How a node compares, as in the file."""
ZERO = float(np.float32(1e-35))
BLOCK = 1 << 22
"""Elements of background rows times literals that are worked on at once: 4 MB for each intermediate of bytes."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Forest:
    """A forest as arrays: nodes of all trees, and the ways to their leaves.

    `pair_*`: one entry for each node on the way to each leaf, by leaf and then feature; `literal_*`: one for each
    feature on the way to each leaf. Leaves without any condition (a tree that is one leaf) are in `constant`.
    """

    features: int
    mode: Ints
    feature: Ints
    threshold: Floats
    missing_left: Bools
    pair_node: Ints
    pair_left: Bools
    literal_start: Ints
    """Where each literal's pairs begin."""
    literal_feature: Ints
    leaf_start: Ints
    """Where each leaf's literals begin."""
    leaf_values: Floats
    """Shape (leaves, outputs), scaled."""
    constant: Floats
    """Shape (outputs,): what is added whatever the row."""
    single_precision: bool
    zero_is_missing: bool
    whole_features: Ints

    def packed(self) -> bytes:
        """As a file (`npz`, no pickles)."""
        file = io.BytesIO()
        np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})
        return file.getvalue()

    @classmethod
    def unpacked(cls, data: bytes) -> "Forest":
        """Raises `ValueError` or `KeyError` where the bytes are no such file."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            made: dict[str, Any] = {field.name: file[field.name] for field in dataclasses.fields(cls)}
        for name in ("features", "single_precision", "zero_is_missing"):
            made[name] = made[name].item()
        return cls(**made)


def sums(forest: Forest, rows: NDArray[Any]) -> Floats:
    """The forest's sums, shape (rows, outputs): what is explained."""
    reached = np.logical_and.reduceat(_met(forest, rows), forest.leaf_start, axis=1)
    return reached @ forest.leaf_values + forest.constant


def explain(forest: Forest, rows: NDArray[Any], background: NDArray[Any]) -> tuple[Floats, Floats]:
    """Shapley values, shape (rows, features, outputs), and the mean over the background, shape (outputs,)."""
    of_rows, of_background = _met(forest, rows), _met(forest, background)
    leaf_of = np.repeat(
        np.arange(len(forest.leaf_start)), np.diff(forest.leaf_start, append=len(forest.literal_feature))
    )
    size = int(np.diff(forest.leaf_start, append=len(forest.literal_feature)).max(initial=1))
    of_x, of_b = _weights(size)
    outputs = forest.leaf_values.shape[1]
    found = np.zeros((len(rows), forest.features, outputs))
    step = max(1, BLOCK // max(1, len(forest.literal_feature)))
    for number, met in enumerate(of_rows):
        weight = np.zeros(len(forest.literal_feature))
        for begin in range(0, len(background), step):
            weight += _literal_weights(forest, met, of_background[begin : begin + step], leaf_of, of_x, of_b)
        shares = (weight / len(background))[:, None] * forest.leaf_values[leaf_of]
        for output in range(outputs):
            found[number, :, output] = np.bincount(forest.literal_feature, shares[:, output], forest.features)
    return found, sums(forest, background).mean(axis=0)


def _literal_weights(
    forest: Forest, met: Bools, background: Bools, leaf_of: Ints, of_x: Floats, of_b: Floats
) -> Floats:
    """For each literal, the sum over these background rows of its share in its leaf's value."""
    starts = forest.leaf_start
    only_x, only_b = met & ~background, ~met & background
    reachable = np.logical_and.reduceat(met | background, starts, axis=1)
    p = np.add.reduceat(only_x, starts, axis=1, dtype=np.int64)
    q = np.add.reduceat(only_b, starts, axis=1, dtype=np.int64)
    gain, loss = np.where(reachable, of_x[p, q], 0.0), np.where(reachable, of_b[p, q], 0.0)
    weights: Floats = (only_x * gain[:, leaf_of] - only_b * loss[:, leaf_of]).sum(axis=0)
    return weights


def _met(forest: Forest, rows: NDArray[Any]) -> Bools:
    """Which literals each row meets, shape (rows, literals)."""
    values = _prepared(forest, rows)[:, forest.feature]
    with np.errstate(invalid="ignore"):
        left = np.where(
            forest.mode == LEQ,
            values <= forest.threshold,
            np.where(forest.mode == LT, values < forest.threshold, values == forest.threshold),
        )
    left = np.where(np.isnan(values), forest.missing_left, left)
    as_needed = left[:, forest.pair_node] == forest.pair_left
    met: Bools = np.logical_and.reduceat(as_needed, forest.literal_start, axis=1)
    return met


def _prepared(forest: Forest, rows: NDArray[Any]) -> Floats:
    """The values as the library compares them."""
    values = np.asarray(rows).astype(np.float32 if forest.single_precision else np.float64).astype(np.float64)
    if len(forest.whole_features):
        values[:, forest.whole_features] = np.trunc(values[:, forest.whole_features])
    if forest.zero_is_missing:
        values = np.where(np.abs(values) <= ZERO, np.nan, values)
    return values


def _weights(size: int) -> tuple[Floats, Floats]:
    """`(p - 1)! q! / (p + q)!` and `p! (q - 1)! / (p + q)!` by p and q; 0 where there is nobody to share."""
    of_x, of_b = np.zeros((size + 1, size + 1)), np.zeros((size + 1, size + 1))
    for p in range(size + 1):
        for q in range(size + 1):
            whole = math.lgamma(p + q + 1)
            if p:
                of_x[p, q] = math.exp(math.lgamma(p) + math.lgamma(q + 1) - whole)
            if q:
                of_b[p, q] = math.exp(math.lgamma(p + 1) + math.lgamma(q) - whole)
    return of_x, of_b
