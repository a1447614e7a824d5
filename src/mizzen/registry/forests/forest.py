"""A decision forest as arrays, and as an ONNX `TreeEnsembleRegressor` that compares in double precision.

Why not the converters that exist: they write thresholds as 32-bit floats. LightGBM and scikit-learn compare doubles, so
a value between a threshold and its rounded neighbour takes the other branch, and a prediction is off not by a rounding
error but by a leaf. Here thresholds stay doubles (`nodes_values_as_tensor`, ai.onnx.ml 3), and the value that is
compared has the precision the library gives it: scikit-learn's trees and XGBoost see a value rounded to 32 bits,
LightGBM and histogram boosting see the double. What is left is the runtime's rounding of the sum to 32 bits.

A row goes left where `value <= threshold` (`LEQ`), `value < threshold` (`LT`), or where `value == threshold` (`EQ`, one
category); a missing value (NaN) goes left where `missing_left` says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from mizzen.registry.graph import Graph

ZERO = float(np.float32(1e-35))
"""LightGBM's `kZeroThreshold`."""


class Mode(StrEnum):
    """How an inner node compares; the names are ONNX's."""

    LEQ = "BRANCH_LEQ"
    LT = "BRANCH_LT"
    EQ = "BRANCH_EQ"
    LEAF = "LEAF"


class Link(StrEnum):
    """What makes a prediction of the sum over the trees."""

    IDENTITY = "Identity"
    LOGISTIC = "Sigmoid"
    SOFTMAX = "Softmax"
    EXP = "Exp"


@dataclass(slots=True)
class Tree:
    """One tree; node 0 is the root. All lists have one entry a node."""

    mode: list[Mode]
    feature: list[int]
    threshold: list[float]
    left: list[int]
    right: list[int]
    missing_left: list[bool]
    values: list[Sequence[float]]
    """A leaf's share of each output; empty for inner nodes and for outputs that another tree adds to."""
    first_output: int = 0
    """The output that the first of `values` is added to."""

    @classmethod
    def empty(cls, first_output: int = 0) -> "Tree":
        """To be grown by `add_leaf` and `add_split`."""
        return cls([], [], [], [], [], [], [], first_output)

    def add_leaf(self, values: Sequence[float]) -> int:
        """Returns the new node's number."""
        return self._add(Mode.LEAF, 0, 0.0, False, values)

    def add_split(self, mode: Mode, feature: int, threshold: float, *, missing_left: bool) -> int:
        """Returns the new node's number; its children are set when they are known."""
        return self._add(mode, feature, threshold, missing_left, ())

    def _add(self, mode: Mode, feature: int, threshold: float, missing_left: bool, values: Sequence[float]) -> int:
        self.mode.append(mode)
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.left.append(0)
        self.right.append(0)
        self.missing_left.append(missing_left)
        self.values.append(values)
        return len(self.mode) - 1


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees whose leaves are summed, with what is done before and after."""

    trees: Sequence[Tree]
    features: int
    outputs: int
    base: NDArray[np.float64]
    """Added to the sum; shape (outputs,)."""
    link: Link
    scale: float = 1.0
    """The sum is multiplied by this first: `1 / trees` where they are averaged, a logistic's steepness."""
    single_precision: bool = False
    """Whether the library rounds values to 32 bits before it compares them."""
    zero_is_missing: bool = False
    """LightGBM's `zero_as_missing`: what is within `ZERO` of 0 counts as missing."""
    whole_features: tuple[int, ...] = ()
    """Features whose values are cut to their whole part first: LightGBM's categories."""


def add_forest(graph: Graph, forest: Forest, rows: str) -> str:
    """Adds nodes that compute the forest on `rows` (shape (n, features), any numeric type).

    Returns the name of the result: doubles of shape (n, outputs), after the link.
    """
    values = rows
    if forest.single_precision:
        values = graph.add("Cast", [values], to=TensorProto.FLOAT)
    values = graph.add("Cast", [values], to=TensorProto.DOUBLE)
    if forest.whole_features:
        values = _cut_to_wholes(graph, values, forest)
    if forest.zero_is_missing:
        size = graph.add("Abs", [values])
        is_zero = graph.add("LessOrEqual", [size, graph.constant(np.array(ZERO))])
        values = graph.add("Where", [is_zero, graph.constant(np.array(np.nan)), values])
    total = graph.add("TreeEnsembleRegressor", [values], domain="ai.onnx.ml", **_attributes(forest))
    total = graph.add("Cast", [total], to=TensorProto.DOUBLE)
    if forest.scale != 1.0:
        total = graph.add("Mul", [total, graph.constant(np.array(forest.scale))])
    if np.any(forest.base):
        total = graph.add("Add", [total, graph.constant(forest.base.astype(np.float64))])
    if forest.link is Link.IDENTITY:
        return total
    if forest.link is Link.SOFTMAX:
        return graph.add("Softmax", [total], axis=1)
    return graph.add(forest.link.value, [total])


def add_probabilities(graph: Graph, forest: Forest, rows: str) -> str:
    """As `add_forest`, with a column for each class also where the forest has one output for two."""
    values = add_forest(graph, forest, rows)
    return graph.two_columns(values) if forest.outputs == 1 else values


def _cut_to_wholes(graph: Graph, values: str, forest: Forest) -> str:
    chosen = np.zeros(forest.features, bool)
    chosen[list(forest.whole_features)] = True
    present = graph.add("Not", [graph.add("IsNaN", [values])])
    chosen_and_present = graph.add("And", [graph.constant(chosen), present])
    harmless = graph.add("Where", [chosen_and_present, values, graph.constant(np.array(0.0))])
    wholes = graph.add("Cast", [graph.add("Cast", [harmless], to=TensorProto.INT64)], to=TensorProto.DOUBLE)
    return graph.add("Where", [chosen_and_present, wholes, values])


def _attributes(forest: Forest) -> dict[str, Any]:
    nodes: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "featureids", "modes", "truenodeids")}
    nodes |= {name: [] for name in ("falsenodeids", "missing_value_tracks_true")}
    leaves: dict[str, list[int]] = {name: [] for name in ("treeids", "nodeids", "ids")}
    thresholds: list[float] = []
    weights: list[float] = []
    for tree_id, tree in enumerate(forest.trees):
        size = len(tree.mode)
        nodes["treeids"] += [tree_id] * size
        nodes["nodeids"] += range(size)
        nodes["featureids"] += tree.feature
        nodes["modes"] += [mode.value for mode in tree.mode]
        nodes["truenodeids"] += tree.left
        nodes["falsenodeids"] += tree.right
        nodes["missing_value_tracks_true"] += [int(left) for left in tree.missing_left]
        thresholds += tree.threshold
        for node_id, values in enumerate(tree.values):
            for output, value in enumerate(values, start=tree.first_output):
                leaves["treeids"].append(tree_id)
                leaves["nodeids"].append(node_id)
                leaves["ids"].append(output)
                weights.append(value)
    return {
        **{f"nodes_{name}": values for name, values in nodes.items()},
        **{f"target_{name}": values for name, values in leaves.items()},
        "nodes_values_as_tensor": numpy_helper.from_array(np.array(thresholds, np.float64), "thresholds"),
        "target_weights_as_tensor": numpy_helper.from_array(np.array(weights, np.float64), "weights"),
        "n_targets": forest.outputs,
        "post_transform": "NONE",
        "aggregate_function": "SUM",
    }
