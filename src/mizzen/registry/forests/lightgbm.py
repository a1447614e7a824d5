"""LightGBM's trees as a forest.

What LightGBM does with a missing value depends on the node (`missing_type`): `NaN` sends it the default way; `None`, of
a feature that had no missing value in training, takes it for 0; `Zero` (`zero_as_missing`) takes 0 for missing too. A
categorical node sends a set of categories left (`3||7||12`), everything else, missing or unseen, right; a fraction is
cut to its whole. What is within 1e-35 of 0 is 0. Source: LightGBM's `include/LightGBM/tree.h`, `NumericalDecision` and
`CategoricalDecision`, and `src/c_api.cpp`, `RowPairFunctionFromDenseMatric`.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from mizzen.registry.errors import ConversionFailed
from mizzen.registry.forests.forest import ZERO, Forest, Link, Mode, Tree

_IDENTITY = {
    "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom", "none",
}  # fmt: skip
_EXP = {"poisson", "gamma", "tweedie"}
_MULTICLASS = {"multiclass": Link.SOFTMAX}


def forest_of(booster: Any) -> Forest:
    """The booster's trees, up to its best iteration where it has one, as `Booster.predict` uses them.

    Raises `ConversionFailed` for an objective whose link is not known.
    """
    model: dict[str, Any] = booster.dump_model()
    objective, _, details = str(model.get("objective", "none")).partition(" ")
    outputs = int(model["num_tree_per_iteration"])
    trees = [_tree(info["tree_structure"], index % outputs) for index, info in enumerate(model["tree_info"])]
    splits = [node for info in model["tree_info"] for node in _splits(info["tree_structure"])]
    scale, link = _link(objective, details)
    if model.get("average_output"):
        scale *= outputs / max(len(trees), 1)
    return Forest(
        trees=trees,
        features=int(model["max_feature_idx"]) + 1,
        outputs=outputs,
        base=np.zeros(outputs),
        link=link,
        scale=scale,
        zero_is_missing=any(node["missing_type"] == "Zero" for node in splits),
        whole_features=tuple(sorted({int(node["split_feature"]) for node in splits if node["decision_type"] == "=="})),
    )


def is_classifier(booster: Any) -> bool:
    """Whether the booster was trained to tell classes apart."""
    return str(booster.dump_model(num_iteration=1).get("objective", "")).startswith(("binary", "multiclass"))


def _link(objective: str, details: str) -> tuple[float, Link]:
    settings = dict(part.split(":", 1) for part in details.split() if ":" in part)
    if objective == "regression" and "sqrt" in details.split():
        raise ConversionFailed("LightGBM objective regression with reg_sqrt: train on the square root yourself instead")
    if objective in {"binary", "multiclassova"}:
        return float(settings.get("sigmoid", 1.0)), Link.LOGISTIC
    if objective == "cross_entropy":
        return 1.0, Link.LOGISTIC
    if objective in _MULTICLASS:
        return 1.0, _MULTICLASS[objective]
    if objective in _EXP:
        return 1.0, Link.EXP
    if objective in _IDENTITY:
        return 1.0, Link.IDENTITY
    raise ConversionFailed(f"LightGBM objective {objective}: how its sums become predictions is not known here")


def _splits(root: dict[str, Any]) -> list[dict[str, Any]]:
    found, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        if "split_feature" in node:
            found.append(node)
            waiting += [node["left_child"], node["right_child"]]
    return found


def _tree(root: dict[str, Any], output: int) -> Tree:
    tree = Tree.empty(output)
    waiting: list[tuple[dict[str, Any], list[tuple[list[int], int]]]] = [(root, [])]
    while waiting:
        node, parents = waiting.pop()
        number, open_ends = _add(tree, node)
        for side, parent in parents:
            side[parent] = number
        for child, ends in open_ends:
            waiting.append((child, ends))
    return tree


_Ends = list[tuple[dict[str, Any], list[tuple[list[int], int]]]]
"""Children, each with the places where its number has to be written."""


def _add(tree: Tree, node: dict[str, Any]) -> tuple[int, _Ends]:
    if "split_feature" not in node:
        return tree.add_leaf([float(node["leaf_value"])]), []
    feature = int(node["split_feature"])
    if node["decision_type"] == "==":
        return _add_categories(tree, node, feature)
    threshold = _threshold(float(node["threshold"]))
    left_if_missing = bool(node["default_left"]) if node["missing_type"] != "None" else threshold >= 0.0
    number = tree.add_split(Mode.LEQ, feature, threshold, missing_left=left_if_missing)
    return number, [(node["left_child"], [(tree.left, number)]), (node["right_child"], [(tree.right, number)])]


def _threshold(threshold: float) -> float:
    """LightGBM takes a value within `ZERO` of 0 for 0: the thresholds in there are moved to its border."""
    if -ZERO <= threshold < 0.0:
        return float(np.nextafter(-ZERO, -np.inf))
    return ZERO if 0.0 <= threshold < ZERO else threshold


def _add_categories(tree: Tree, node: dict[str, Any], feature: int) -> tuple[int, _Ends]:
    """One node a category, chained by their false branches; the true branches meet in the one left child."""
    categories = [int(text) for text in str(node["threshold"]).split("||")]
    numbers = [tree.add_split(Mode.EQ, feature, float(category), missing_left=False) for category in categories]
    for number, following in pairwise(numbers):
        tree.right[number] = following
    left_ends = [(tree.left, number) for number in numbers]
    return numbers[0], [(node["left_child"], left_ends), (node["right_child"], [(tree.right, numbers[-1])])]
