"""A forest as the arrays that its explanation works on: the ways to its leaves, feature by feature.

The reader is `mizzen.serving.explaining.trees`, which has the theory; the names of the arrays are agreed between the
two. (The registry does not know serving: a file is what they share.)
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.registry.forests.forest import Forest, Mode, Tree

_MODES = {Mode.LEQ: 0, Mode.LT: 1, Mode.EQ: 2}
Way = list[tuple[int, bool]]
"""Nodes, and whether to their left."""


def packed(forest: Forest) -> bytes:
    """The arrays as a file (`npz`)."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays_of(forest))
    return file.getvalue()


def arrays_of(forest: Forest) -> dict[str, Any]:
    """By name, as `trees.Forest` names them."""
    nodes: dict[str, list[Any]] = {"mode": [], "feature": [], "threshold": [], "missing_left": []}
    pair_node: list[int] = []
    pair_left: list[bool] = []
    literal_start: list[int] = []
    literal_feature: list[int] = []
    leaf_start: list[int] = []
    leaf_values: list[NDArray[np.float64]] = []
    constant = np.array(forest.base, np.float64).copy()
    for tree in forest.trees:
        first = len(nodes["mode"])
        for number, mode in enumerate(tree.mode):
            nodes["mode"].append(_MODES.get(mode, 0))
            nodes["feature"].append(tree.feature[number])
            nodes["threshold"].append(tree.threshold[number])
            nodes["missing_left"].append(tree.missing_left[number])
        for leaf, way in _ways(tree):
            value = np.zeros(forest.outputs)
            share = np.asarray(tree.values[leaf], np.float64) * forest.scale
            value[tree.first_output : tree.first_output + len(share)] = share
            if not way:
                constant += value
                continue
            leaf_start.append(len(literal_feature))
            leaf_values.append(value)
            by_feature: dict[int, Way] = {}
            for node, left in way:
                by_feature.setdefault(tree.feature[node], []).append((node, left))
            for feature, pairs in by_feature.items():
                literal_start.append(len(pair_node))
                literal_feature.append(feature)
                for node, left in pairs:
                    pair_node.append(first + node)
                    pair_left.append(left)
    return {
        "features": forest.features,
        "mode": np.array(nodes["mode"], np.int64),
        "feature": np.array(nodes["feature"], np.int64),
        "threshold": np.array(nodes["threshold"], np.float64),
        "missing_left": np.array(nodes["missing_left"], np.bool_),
        "pair_node": np.array(pair_node, np.int64),
        "pair_left": np.array(pair_left, np.bool_),
        "literal_start": np.array(literal_start, np.int64),
        "literal_feature": np.array(literal_feature, np.int64),
        "leaf_start": np.array(leaf_start, np.int64),
        "leaf_values": np.array(leaf_values, np.float64).reshape(-1, forest.outputs),
        "constant": constant,
        "single_precision": forest.single_precision,
        "zero_is_missing": forest.zero_is_missing,
        "whole_features": np.array(forest.whole_features, np.int64),
    }


def _ways(tree: Tree) -> Iterator[tuple[int, Way]]:
    """The leaves, each with the way there. A leaf that several ways lead to comes several times."""
    waiting: list[tuple[int, Way]] = [(0, [])]
    while waiting:
        number, way = waiting.pop()
        if tree.mode[number] is Mode.LEAF:
            yield number, way
        else:
            waiting.append((tree.left[number], [*way, (number, True)]))
            waiting.append((tree.right[number], [*way, (number, False)]))
