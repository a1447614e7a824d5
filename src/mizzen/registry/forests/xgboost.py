"""XGBoost's trees as a forest.

XGBoost rounds values to 32 bits, compares `value < split_condition`, and sends a missing value the default way. A
categorical node sends the categories that it lists right and everything else left. The stored base score is in the
space of predictions and goes through the objective's inverse link first. Source: XGBoost's JSON model schema and
`src/common/categorical.h` (`Decision`).
"""

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np

from mizzen.registry.errors import ConversionFailed
from mizzen.registry.forests.forest import Forest, Link, Mode, Tree

_LINKS = {
    "binary:logistic": Link.LOGISTIC, "reg:logistic": Link.LOGISTIC,
    "multi:softprob": Link.SOFTMAX, "multi:softmax": Link.SOFTMAX,
    "count:poisson": Link.EXP, "reg:gamma": Link.EXP, "reg:tweedie": Link.EXP,
    "reg:squarederror": Link.IDENTITY, "reg:absoluteerror": Link.IDENTITY, "reg:pseudohubererror": Link.IDENTITY,
    "reg:quantileerror": Link.IDENTITY, "rank:pairwise": Link.IDENTITY, "rank:ndcg": Link.IDENTITY,
    "rank:map": Link.IDENTITY,
}  # fmt: skip


def forest_of(booster: Any, *, iterations: int | None = None) -> Forest:
    """The booster's trees, of the first `iterations` rounds where given (early stopping), else all.

    Raises `ConversionFailed` for linear boosters, vector leaves and objectives whose link is not known.
    """
    learner: dict[str, Any] = json.loads(booster.save_raw("json"))["learner"]
    objective, boosted = str(learner["objective"]["name"]), learner["gradient_booster"]
    if objective not in _LINKS:
        raise ConversionFailed(f"XGBoost objective {objective}: how its sums become predictions is not known here")
    weights = boosted.get("weight_drop")
    model = boosted.get("gbtree", boosted).get("model", {})
    if "trees" not in model:
        raise ConversionFailed(f"XGBoost booster {boosted.get('name')}: expected one of trees (gbtree or dart)")
    parameters = learner["learner_model_param"]
    outputs = max(int(parameters["num_class"]), int(parameters["num_target"]), 1)
    ends = model["iteration_indptr"]
    count = ends[min(iterations, len(ends) - 1)] if iterations is not None else len(model["trees"])
    trees = [
        _tree(tree, output, 1.0 if weights is None else float(weights[index]))
        for index, (tree, output) in enumerate(zip(model["trees"][:count], model["tree_info"], strict=False))
    ]
    link = _LINKS[objective]
    return Forest(
        trees=trees,
        features=int(parameters["num_feature"]),
        outputs=outputs,
        base=np.array([_margin(score, link) for score in _base_scores(str(parameters["base_score"]), outputs)]),
        link=link,
        single_precision=True,
    )


def classes_in(booster: Any) -> int:
    """How many classes the booster was trained to tell apart; 0 where it was trained for something else."""
    learner = json.loads(booster.save_config())["learner"]
    objective = str(learner["objective"]["name"])
    if objective == "binary:logistic":
        return 2
    return int(learner["learner_model_param"]["num_class"]) if objective.startswith("multi:") else 0


def gives_labels(booster: Any) -> bool:
    """Whether the booster predicts classes without their probabilities."""
    return str(json.loads(booster.save_config())["learner"]["objective"]["name"]) == "multi:softmax"


def has_categories(booster: Any) -> bool:
    """Whether the booster was trained on data frame columns of categories, whose codes are known to it alone."""
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"].get("model", {})
    return any(encoding.get("offsets") or encoding.get("values") for encoding in model.get("cats", {}).get("enc", []))


def _base_scores(text: str, outputs: int) -> list[float]:
    parsed = json.loads(text)  # a number, or since version 3 a list of one or more
    scores = [float(score) for score in (parsed if isinstance(parsed, list) else [parsed])]
    return scores * outputs if len(scores) == 1 else scores


def _margin(score: float, link: Link) -> float:
    if link is Link.LOGISTIC:
        return math.log(score / (1.0 - score))
    return math.log(score) if link is Link.EXP else score


def _tree(tree: dict[str, Any], output: int, weight: float) -> Tree:
    if int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise ConversionFailed("XGBoost multi_strategy multi_output_tree: expected trees of one output each")
    sets = {
        node: tree["categories"][start : start + size]
        for node, start, size in zip(
            tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
        )
    }
    grown = Tree.empty(output)
    first: dict[int, int] = {}
    last: dict[int, list[int]] = {}
    for node, left in enumerate(tree["left_children"]):
        if left == -1:
            first[node] = grown.add_leaf([float(tree["split_conditions"][node]) * weight])
            continue
        feature, left_if_missing = int(tree["split_indices"][node]), bool(tree["default_left"][node])
        if tree["split_type"][node]:
            # True branches lead right, so a missing value that goes right takes the first of them.
            chain = [
                grown.add_split(Mode.EQ, feature, float(category), missing_left=not left_if_missing)
                for category in sets[node]
            ]
            for number, following in pairwise(chain):
                grown.right[number] = following
        else:
            threshold = float(np.float32(tree["split_conditions"][node]))
            chain = [grown.add_split(Mode.LT, feature, threshold, missing_left=left_if_missing)]
        first[node], last[node] = chain[0], chain
    for node, chain in last.items():
        left, right = first[tree["left_children"][node]], first[tree["right_children"][node]]
        is_set = bool(tree["split_type"][node])
        for number in chain:
            grown.left[number] = right if is_set else left
        grown.right[chain[-1]] = left if is_set else right
    return grown
