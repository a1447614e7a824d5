"""scikit-learn's trees, forests and boosted trees as a forest.

Trees and gradient boosting round values to 32 bits and compare them with double thresholds; histogram boosting compares
doubles. A missing value goes where the node says; where training saw none, forests refuse it and the converted model
sends it right. Source: scikit-learn's `tree/_tree.pyx` (`Tree._apply_dense`), `ensemble/_gb.py` and
`ensemble/_hist_gradient_boosting/_predictor.pyx`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mizzen.registry.errors import ConversionFailed
from mizzen.registry.forests.forest import Forest, Link, Mode, Tree

SINGLE = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")
AVERAGED = ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor")
BOOSTED = ("GradientBoostingClassifier", "GradientBoostingRegressor")
HISTOGRAM = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")


def forest_of(estimator: Any) -> Forest:
    """The fitted estimator's trees.

    Raises `ConversionFailed` for several outputs of classes, categories and start estimators of the user's.
    """
    name = type(estimator).__name__
    if name in SINGLE:
        return _averaged(estimator, [estimator])
    if name in AVERAGED:
        return _averaged(estimator, estimator.estimators_)
    return _boosted(estimator) if name in BOOSTED else _histogram(estimator)


def _averaged(estimator: Any, members: Sequence[Any]) -> Forest:
    is_classifier = hasattr(estimator, "classes_")
    if is_classifier and isinstance(estimator.classes_, list):
        raise ConversionFailed(f"{type(estimator).__name__} with several outputs: train one model for each")
    trees = []
    for member in members:
        tree = member.tree_
        leaves = tree.value[:, 0, :] if is_classifier else tree.value[:, :, 0]
        if is_classifier:
            leaves = leaves / leaves.sum(axis=1, keepdims=True)
        trees.append(tree_of(tree, leaves / len(members)))
    outputs = len(estimator.classes_) if is_classifier else members[0].tree_.n_outputs
    return Forest(
        trees, estimator.n_features_in_, outputs, base=np.zeros(outputs), link=Link.IDENTITY, single_precision=True
    )


def _boosted(estimator: Any) -> Forest:
    start = estimator.init_
    if type(start).__module__ != "sklearn.dummy" and start != "zero":
        raise ConversionFailed(f"{type(estimator).__name__} with init={start!r}: expected none")
    outputs = estimator.estimators_.shape[1]
    rows = np.zeros((1, estimator.n_features_in_), dtype=np.float32)
    base = np.asarray(estimator._raw_predict_init(rows), dtype=np.float64).reshape(-1)  # noqa: SLF001 - no public name
    trees = [
        tree_of(member.tree_, member.tree_.value[:, :1, 0] * estimator.learning_rate, output)
        for stage in estimator.estimators_
        for output, member in enumerate(stage)
    ]
    link = _classifier_link(outputs) if hasattr(estimator, "classes_") else Link.IDENTITY
    if getattr(estimator, "loss", None) == "exponential":
        return Forest(
            trees, estimator.n_features_in_, outputs, 2.0 * base, Link.LOGISTIC, scale=2.0, single_precision=True
        )
    return Forest(trees, estimator.n_features_in_, outputs, base, link, single_precision=True)


def _histogram(estimator: Any) -> Forest:
    if getattr(estimator, "_preprocessor", None) is not None:
        raise ConversionFailed(f"{type(estimator).__name__} with categorical features: encode them before it")
    trees = [
        _histogram_tree(predictor.nodes, output)
        for stage in estimator._predictors  # noqa: SLF001 - no public name
        for output, predictor in enumerate(stage)
    ]
    base = np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1)  # noqa: SLF001 - no public name
    if hasattr(estimator, "classes_"):
        link = _classifier_link(len(base))
    else:
        link = Link.EXP if estimator.loss in {"poisson", "gamma"} else Link.IDENTITY
    return Forest(trees, estimator.n_features_in_, len(base), base, link)


def _classifier_link(outputs: int) -> Link:
    return Link.LOGISTIC if outputs == 1 else Link.SOFTMAX


def tree_of(tree: Any, leaves: Any, first_output: int = 0) -> Tree:
    """One of its trees; `leaves` are what each node would give as a leaf, shape (nodes, outputs)."""
    grown = Tree.empty(first_output)
    missing_left = getattr(tree, "missing_go_to_left", np.zeros(tree.node_count, bool))
    columns = zip(
        tree.children_left.tolist(), tree.children_right.tolist(), tree.feature.tolist(), tree.threshold.tolist(),
        missing_left.tolist(), leaves.tolist(), strict=True,
    )  # fmt: skip
    for left, right, feature, threshold, goes_left, values in columns:
        if left == -1:
            grown.add_leaf(values)
        else:
            number = grown.add_split(Mode.LEQ, feature, threshold, missing_left=bool(goes_left))
            grown.left[number], grown.right[number] = left, right
    return grown


def _histogram_tree(nodes: Any, output: int) -> Tree:
    grown = Tree.empty(output)
    for node in nodes:
        if node["is_leaf"]:
            grown.add_leaf([float(node["value"])])
        else:
            number = grown.add_split(
                Mode.LEQ,
                int(node["feature_idx"]),
                float(node["num_threshold"]),
                missing_left=bool(node["missing_go_to_left"]),
            )
            grown.left[number], grown.right[number] = int(node["left"]), int(node["right"])
    return grown
