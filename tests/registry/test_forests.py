"""Every library's trees as ONNX, at the places where converters go wrong: thresholds, their neighbours, missing values,
zeros, categories and large numbers."""

from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from numpy.typing import NDArray
from sklearn import ensemble, tree

from mizzen.registry.errors import ConversionFailed
from mizzen.registry.forests.forest import Forest, Mode, add_forest
from mizzen.registry.forests.read import forest_of
from mizzen.registry.graph import Graph
from mizzen.registry.onnx_file import session_of

Matrix = NDArray[np.float64]
FEATURES = 6
CATEGORY = 3


def matrix(random: np.random.Generator, rows: int = 800, *, missing: float = 0.0, zeros: float = 0.0) -> Matrix:
    """Normal numbers, a category, tenths, and seconds since 1970: too large for 32 bits."""
    values = random.normal(size=(rows, FEATURES))
    values[:, CATEGORY] = random.integers(0, 40, rows)
    values[:, 4] = np.round(values[:, 4], 1)
    values[:, 5] = 1.38e9 + random.integers(0, 10_000, rows)
    values[random.random(values.shape) < zeros] = 0.0
    values[random.random(values.shape) < missing] = np.nan
    return values


def target(values: Matrix) -> Matrix:
    known = np.nan_to_num(values)
    return known[:, 0] * known[:, 1] + known[:, CATEGORY] % 3 + known[:, 4] + (known[:, 5] % 1000 > 500)


def at_thresholds(forest: Forest, random: np.random.Generator, rows: Matrix) -> Matrix:
    """Rows with each threshold in its feature, and the two doubles next to it (the two floats, where those are seen)."""
    places = {
        (feature, threshold)
        for grown in forest.trees
        for mode, feature, threshold in zip(grown.mode, grown.feature, grown.threshold, strict=True)
        if mode in {Mode.LEQ, Mode.LT} and np.isfinite(threshold)
    }
    kind = np.float32 if forest.single_precision else np.float64
    made = []
    for feature, threshold in sorted(places):
        near = [
            kind(threshold),
            np.nextafter(kind(threshold), kind(np.inf)),
            np.nextafter(kind(threshold), kind(-np.inf)),
        ]
        for value in (threshold, *near):
            row = rows[random.integers(len(rows))].copy()
            row[feature] = value
            made.append(row)
    return np.array(made)


def answers(forest: Forest, rows: Matrix) -> Matrix:
    """What ONNX Runtime computes of the forest."""
    graph = Graph()
    values = add_forest(graph, forest, graph.add_input("input", "FP64", FEATURES))
    graph.add_prediction_output(values, forest.outputs)
    (found,) = session_of(graph.to_onnx("test")).run(None, {"input": rows})
    return np.asarray(found)


def expect_same(forest: Forest, rows: Matrix, expected: Any) -> None:
    wanted = np.asarray(expected, np.float64)
    found = answers(forest, rows).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)


LIGHTGBM: dict[str, dict[str, Any]] = {
    "binary": {"objective": "binary"},
    "steep binary": {"objective": "binary", "sigmoid": 2.0},
    "multiclass": {"objective": "multiclass", "num_class": 3},
    "one against all": {"objective": "multiclassova", "num_class": 3},
    "regression": {"objective": "regression"},
    "categories": {"objective": "regression_l1", "cats": True},
    "many categories": {"objective": "binary", "num_leaves": 200, "min_data_in_leaf": 1, "cats": True},
    "poisson": {"objective": "poisson"},
    "cross entropy": {"objective": "cross_entropy"},
    "zero is missing": {"objective": "binary", "zero_as_missing": True},
    "missing not used": {"objective": "binary", "use_missing": False},
    "random forest": {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    "dart": {"objective": "regression", "boosting": "dart"},
    "one leaf": {"objective": "regression", "min_data_in_leaf": 10_000},
}


@pytest.mark.parametrize("name", LIGHTGBM)
@pytest.mark.parametrize("kind", ["whole", "missing", "zeros"])
def test_lightgbm(name: str, kind: str) -> None:
    """Trained on rows with or without missing values and zeros, asked about all, and about each threshold's neighbours."""
    random = np.random.default_rng(len(name))
    rows = matrix(random, missing=0.1 * (kind == "missing"), zeros=0.2 * (kind == "zeros"))
    score = target(rows)
    parameters = dict(LIGHTGBM[name])
    columns: Any = [CATEGORY] if parameters.pop("cats", False) else "auto"
    objective = str(parameters["objective"])
    if objective.startswith("multi"):
        score = np.digitize(score, [0.0, 1.5]).astype(np.float64)
    elif objective in {"binary", "cross_entropy"}:
        score = (score > 1).astype(np.float64)
    elif objective == "poisson":
        score = np.abs(score)
    data = lgb.Dataset(rows, score, categorical_feature=columns)
    booster = lgb.train({"verbose": -1, "num_threads": 1, "min_data_in_leaf": 10, **parameters}, data, 8)
    forest = forest_of(booster)
    asked = np.vstack([matrix(random, 300), matrix(random, 300, missing=0.2), matrix(random, 300, zeros=0.3)])
    asked[:50, CATEGORY] += 0.5
    asked[50:60, CATEGORY] = [99, -3, -0.5, 1e9, 39, 40, 0, -1, 0.999, 2.0]
    near = at_thresholds(forest, random, asked)
    rows = np.vstack([asked, near]) if len(near) else asked
    expect_same(forest, rows, booster.predict(rows))


def test_lightgbm_predicts_with_its_best_iteration() -> None:
    """Early stopping: the trees after the best round do not count."""
    random = np.random.default_rng(0)
    rows = matrix(random)
    label = (rows[:, 0] + random.normal(size=len(rows)) > 0).astype(int)
    data = lgb.Dataset(rows[:400], label[:400])
    booster = lgb.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "learning_rate": 0.5, "min_data_in_leaf": 2}, data, 50,
        keep_training_booster=True,
        valid_sets=[data.create_valid(rows[400:], label[400:])],
        callbacks=[lgb.early_stopping(3, verbose=False)],
    )  # fmt: skip
    assert booster.best_iteration < booster.current_iteration()
    forest = forest_of(booster)
    assert len(forest.trees) == booster.best_iteration
    expect_same(forest, rows, booster.predict(rows))


XGBOOST: dict[str, dict[str, Any]] = {
    "logistic": {"objective": "binary:logistic"},
    "softprob": {"objective": "multi:softprob", "num_class": 3},
    "squared error": {"objective": "reg:squarederror"},
    "absolute error": {"objective": "reg:absoluteerror"},
    "poisson": {"objective": "count:poisson"},
    "tweedie": {"objective": "reg:tweedie"},
    "quantiles": {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]},
    "dart": {"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.3},
    "parallel trees": {"objective": "reg:squarederror", "num_parallel_tree": 3, "subsample": 0.5},
    "base score": {"objective": "binary:logistic", "base_score": 0.1},
    "lossguide": {"objective": "reg:squarederror", "grow_policy": "lossguide", "max_leaves": 20},
}


@pytest.mark.parametrize("name", XGBOOST)
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_xgboost(name: str, missing: float) -> None:
    """As for LightGBM; its values are rounded to 32 bits."""
    random = np.random.default_rng(len(name))
    rows = matrix(random, missing=missing)
    score = target(rows)
    objective = str(XGBOOST[name]["objective"])
    if objective.startswith("multi"):
        score = np.digitize(score, [0.0, 1.5]).astype(np.float64)
    elif objective.startswith("binary"):
        score = (score > 1).astype(np.float64)
    elif objective in {"count:poisson", "reg:tweedie"}:
        score = np.abs(score)
    booster = xgb.train({"max_depth": 5, "nthread": 1, **XGBOOST[name]}, xgb.DMatrix(rows, score), 8)
    forest = forest_of(booster)
    asked = np.vstack([matrix(random, 300), matrix(random, 300, missing=0.2)])
    rows = np.vstack([asked, at_thresholds(forest, random, asked)])
    expect_same(forest, rows, booster.predict(xgb.DMatrix(rows)))


def test_xgboost_categories() -> None:
    """Sets of categories go right; unseen and missing ones the way XGBoost says."""
    random = np.random.default_rng(0)
    rows = matrix(random, missing=0.1)
    types = ["q"] * FEATURES
    types[CATEGORY] = "c"
    data = xgb.DMatrix(rows, target(rows), feature_types=types, enable_categorical=True)
    booster = xgb.train({"max_depth": 6, "max_cat_to_onehot": 4, "nthread": 1}, data, 8)
    forest = forest_of(booster)
    assert any(mode is Mode.EQ for grown in forest.trees for mode in grown.mode)
    asked = matrix(random, 500, missing=0.2)
    expected = booster.predict(xgb.DMatrix(asked, feature_types=types, enable_categorical=True))
    expect_same(forest, asked, expected)


def test_what_is_not_known_is_refused() -> None:
    """Linear boosters, vector leaves, objectives with unknown links."""
    random = np.random.default_rng(0)
    rows = matrix(random, 100)
    score = target(rows)
    frame = pd.DataFrame({"a": rows[:, 0], "c": pd.Categorical(rows[:, CATEGORY].astype(int).astype(str))})
    with pytest.raises(ConversionFailed, match="columns of categories"):
        forest_of(xgb.train({"nthread": 1}, xgb.DMatrix(frame, score, enable_categorical=True), 2))
    with pytest.raises(ConversionFailed, match="gblinear"):
        forest_of(xgb.train({"booster": "gblinear", "nthread": 1}, xgb.DMatrix(rows[:, :3], score), 2))
    both = np.column_stack([score, score])
    with pytest.raises(ConversionFailed, match="multi_output_tree"):
        forest_of(xgb.train({"multi_strategy": "multi_output_tree", "nthread": 1}, xgb.DMatrix(rows, both), 2))
    with pytest.raises(ConversionFailed, match="binary:logitraw"):
        forest_of(xgb.train({"objective": "binary:logitraw", "nthread": 1}, xgb.DMatrix(rows, score > 1), 2))
    with pytest.raises(ConversionFailed, match="reg_sqrt"):
        forest_of(lgb.train({"reg_sqrt": True, "verbose": -1}, lgb.Dataset(rows, score), 2))


SCIKIT: dict[str, Any] = {
    "tree": tree.DecisionTreeRegressor(max_depth=8),
    "extra tree": tree.ExtraTreeRegressor(max_depth=8),
    "forest": ensemble.RandomForestRegressor(8),
    "extra trees": ensemble.ExtraTreesRegressor(8),
    "boosting": ensemble.GradientBoostingRegressor(n_estimators=8),
    "histogram": ensemble.HistGradientBoostingRegressor(max_iter=8),
    "poisson histogram": ensemble.HistGradientBoostingRegressor(max_iter=8, loss="poisson"),
}


@pytest.mark.parametrize("name", SCIKIT)
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_scikit(name: str, missing: float) -> None:
    """As for the others; forests see 32 bits, histogram boosting sees doubles; boosting refuses missing values."""
    if missing and name == "boosting":
        missing = 0.0
    random = np.random.default_rng(len(name))
    rows = matrix(random, missing=missing)
    score = np.abs(target(rows)) if "poisson" in name else target(rows)
    model = SCIKIT[name].set_params(random_state=0).fit(rows, score)
    forest = forest_of(model)
    asked = matrix(random, 300, missing=missing)
    rows = np.vstack([asked, at_thresholds(forest, random, asked)])
    expect_same(forest, rows, model.predict(rows))
