"""Explanations: against Shapley's definition, against each other, and against the models they are of."""

import lightgbm
import numpy as np
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.tree import DecisionTreeRegressor

from mizzen.registry.forests.forest import Forest, Link, Mode, Tree
from mizzen.registry.forests.literals import packed
from mizzen.registry.forests.read import forest_of
from mizzen.serving.explaining import kernel, trees
from mizzen.serving.explaining.shapley import all_coalitions, by_definition, mixed

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)


def rows(count: int, features: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, features))
    values[::7, 1] = np.nan
    return values


def worth_of(forest: trees.Forest, row: np.ndarray, background: np.ndarray):
    return lambda masks: np.array([trees.sums(forest, mixed(row, background, mask)).mean(axis=0) for mask in masks])


def read(forest: Forest) -> trees.Forest:
    return trees.Forest.unpacked(packed(forest))


X = np.nan_to_num(rows(300, 5))
Y = (X[:, 0] * X[:, 1] + np.abs(X[:, 2]) > 0.5).astype(int) + (X[:, 3] > 1)
MODELS = {
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=6, num_leaves=8, verbose=-1).fit(rows(300, 5), Y),
    "lightgbm, zero is missing": lambda: lightgbm.LGBMRegressor(
        n_estimators=5, num_leaves=8, zero_as_missing=True, verbose=-1
    ).fit(np.round(X), Y),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=6, max_depth=3).fit(rows(300, 5), Y),
    "random forest": lambda: RandomForestClassifier(8, max_depth=4, random_state=0).fit(X, Y),
    "extra trees": lambda: ExtraTreesRegressor(8, max_depth=4, random_state=0).fit(X, Y),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=5, random_state=0).fit(X, Y > 0),
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(rows(300, 5), Y > 0),
    "one tree": lambda: DecisionTreeRegressor(max_depth=5, random_state=0).fit(X, Y),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_forests_values_are_shapleys_of_every_library(name):
    forest = read(forest_of(MODELS[name]()))
    given_rows, background = rows(6, 5, seed=1), rows(9, 5, seed=2)
    given_rows[0, 3] = 0.0
    found, mean = trees.explain(forest, given_rows, background)
    for row, values in zip(given_rows, found, strict=True):
        expected = by_definition(5, worth_of(forest, row, background))
        assert np.allclose(values, expected, atol=1e-9)
    assert np.allclose(found.sum(axis=1) + mean, trees.sums(forest, given_rows)), "they add up to the output"


@pytest.mark.parametrize(
    ("name", "predict"),
    [
        ("random forest", lambda model, x: model.predict_proba(x)),
        ("extra trees", lambda model, x: model.predict(x)[:, None]),
        ("one tree", lambda model, x: model.predict(x)[:, None]),
        ("lightgbm", lambda model, x: model.predict(x, raw_score=True)),
        ("boosting", lambda model, x: model.decision_function(x)[:, None]),
        ("histograms", lambda model, x: model.decision_function(x)[:, None]),
    ],
)
def test_what_is_explained_is_what_the_model_says(name, predict):
    model = MODELS[name]()
    given_rows = np.nan_to_num(rows(20, 5, seed=3))
    assert np.allclose(trees.sums(read(forest_of(model)), given_rows), predict(model, given_rows), atol=1e-5)


@st.composite
def forests(draw) -> Forest:
    """Small forests of every kind of node, on four features."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        tree = Tree.empty(draw(st.integers(0, 1)))

        def grow(depth: int, tree: Tree = tree) -> int:
            if depth == 0 or draw(st.booleans()):
                return tree.add_leaf([draw(st.integers(-3, 3))])
            mode = draw(st.sampled_from([Mode.LEQ, Mode.LT, Mode.EQ]))
            missing = draw(st.booleans())
            number = tree.add_split(
                mode, draw(st.integers(0, 3)), float(draw(st.integers(-1, 1))), missing_left=missing
            )
            tree.left[number], tree.right[number] = grow(depth - 1), grow(depth - 1)
            return number

        grow(4)
        made.append(tree)
    return Forest(made, 4, 2, np.array([0.5, 0.0]), Link.IDENTITY, scale=draw(st.sampled_from([1.0, 0.5])),
                  zero_is_missing=draw(st.booleans()), whole_features=draw(st.sampled_from([(), (1,)])))  # fmt: skip


values = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, float("nan")])
some_rows = st.lists(st.lists(values, min_size=4, max_size=4), min_size=1, max_size=3).map(np.array)


@UNHURRIED
@given(forests(), some_rows, some_rows)
def test_any_forests_values_are_shapleys(forest, given_rows, background):
    arrays = read(forest)
    if not len(arrays.leaf_start):
        return
    found, _ = trees.explain(arrays, given_rows, background)
    for row, one in zip(given_rows, found, strict=True):
        assert np.allclose(one, by_definition(4, worth_of(arrays, row, background)), atol=1e-9)


def test_the_work_in_blocks_is_the_work_at_once(monkeypatch):
    forest, given_rows, background = read(forest_of(MODELS["lightgbm"]())), rows(3, 5, 1), rows(40, 5, 2)
    whole, _ = trees.explain(forest, given_rows, background)
    monkeypatch.setattr(trees, "BLOCK", 1)
    assert np.allclose(trees.explain(forest, given_rows, background)[0], whole)


def test_a_feature_that_does_not_matter_and_two_that_are_alike():
    """Shapley's axioms, where they can be seen."""
    model = DecisionTreeRegressor(max_depth=3, random_state=0).fit(X[:, :2], X[:, 0] > 0)
    found, _ = trees.explain(read(forest_of(model)), X[:5, :2], X[5:30, :2])
    assert np.allclose(found[:, 1], 0.0)


# Kernel


def linear(weights: np.ndarray, row: np.ndarray, background: np.ndarray):
    return lambda masks: np.array([(mixed(row, background, mask) @ weights).mean(axis=0) for mask in masks])


@pytest.mark.parametrize("features", [11, 12, 17])
def test_of_a_linear_model_the_values_are_its_terms_however_few_coalitions(features):
    random = np.random.default_rng(features)
    weights, row, background = (
        random.normal(size=(features, 2)),
        random.normal(size=features),
        random.normal(size=(20, features)),
    )
    found = kernel.explain(features, linear(weights, row, background), 0, random)
    assert np.allclose(found, (row - background.mean(axis=0))[:, None] * weights)


def crossed(row, background):
    def worth(masks):
        mixed_rows = np.array([mixed(row, background, mask) for mask in masks])
        return (mixed_rows[..., 0] * mixed_rows[..., 1] + np.sin(mixed_rows.sum(axis=-1))).mean(axis=1)[:, None]

    return worth


def test_with_all_coalitions_it_is_exact_and_with_fewer_it_comes_near():
    random = np.random.default_rng(1)
    row, background = random.normal(size=12), random.normal(size=(10, 12))
    exact = by_definition(12, crossed(row, background))
    everything = kernel.explain(12, crossed(row, background), 1 << 12, random)
    assert np.allclose(everything, exact, atol=1e-9)
    errors = [
        np.abs(kernel.explain(12, crossed(row, background), n, np.random.default_rng(2)) - exact).max()
        for n in (100, 2000)
    ]
    assert errors[1] < errors[0] / 2
    assert errors[1] < 0.02


def test_the_values_always_add_up_and_the_same_seed_gives_the_same():
    row, background = np.arange(14.0), np.random.default_rng(5).normal(size=(8, 14))
    worth = crossed(row, background)
    ends = worth(np.array([[False] * 14, [True] * 14]))
    one, two = (kernel.explain(14, worth, 200, np.random.default_rng(7)) for _ in range(2))
    assert np.allclose(one.sum(axis=0), ends[1] - ends[0])
    assert (one == two).all()


def test_few_features_are_explained_exactly():
    row, background = np.arange(6.0), np.random.default_rng(5).normal(size=(8, 6))
    found = kernel.explain(6, crossed(row, background), 0, np.random.default_rng(0))
    assert np.allclose(found, by_definition(6, crossed(row, background)))


def test_trees_and_kernel_explain_the_same_game():
    forest = read(forest_of(RandomForestClassifier(5, max_depth=4, random_state=0).fit(rows(200, 12) > 0, Y[:200])))
    row, background = (rows(1, 12, 8) > 0)[0], rows(6, 12, 9) > 0
    by_trees, _ = trees.explain(forest, row[None].astype(float), background.astype(float))
    by_kernel = kernel.explain(
        12, worth_of(forest, row.astype(float), background.astype(float)), 1 << 12, np.random.default_rng(0)
    )
    assert np.allclose(by_trees[0], by_kernel, atol=1e-9)


def test_all_coalitions_are_the_bits_of_their_numbers():
    assert all_coalitions(3).tolist()[5] == [True, False, True]
    assert all_coalitions(0).shape == (1, 0)
