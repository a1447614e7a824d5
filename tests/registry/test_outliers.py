"""Outlier detectors: against scikit-learn's own scores, and what they find."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from mizzen.registry import outliers
from mizzen.registry.onnx_file import inspect, session_of


def sample(count: int = 400, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    first = random.normal(size=count)
    return np.column_stack([first, first + 0.1 * random.normal(size=count), 100 * random.normal(size=count)])


def scores(model: bytes, rows) -> np.ndarray:
    score, verdict = session_of(model).run(["outlier_score", "is_outlier"], {"input": np.asarray(rows, np.float64)})
    assert ((score > 1) == verdict).all()
    return score[:, 0]


DETECTORS = {"isolation forest": outliers.isolation_forest, "mahalanobis": outliers.mahalanobis}


@pytest.mark.parametrize("fit", DETECTORS.values(), ids=DETECTORS)
def test_one_is_as_unusual_as_the_share_of_the_sample_that_was_said(fit):
    rows = sample()
    found = scores(fit(rows, beyond=0.05), rows)
    assert abs((found > 1).mean() - 0.05) < 0.01
    assert scores(fit(rows, beyond=0.05), [[9.0, 9.0, 900.0]])[0] > 1.2, "far away in all columns"


def test_the_forests_score_is_scikit_learns():
    rows = sample()
    model = outliers.isolation_forest(rows, beyond=0.1, seed=3)
    reference = -IsolationForest(random_state=3).fit(rows.astype(np.float32)).score_samples(rows.astype(np.float32))
    border = np.quantile(reference, 0.9)
    assert np.allclose(scores(model, rows), reference / border, rtol=1e-4)


def test_the_distance_sees_unusual_combinations_of_usual_values_and_is_not_fooled_by_outliers_in_the_sample():
    rows = sample()
    rows[:40] = [0.0, 30.0, 0.0]
    model = outliers.mahalanobis(rows, beyond=0.2)
    usual, unusual = scores(model, [[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]])
    assert usual < 1 < unusual
    assert scores(model, [[0.0, 30.0, 0.0]])[0] > 10


@pytest.mark.parametrize("fit", DETECTORS.values(), ids=DETECTORS)
def test_a_missing_value_is_taken_for_a_usual_one(fit):
    rows = sample()
    rows[::5, 2] = np.nan
    model = fit(rows)
    with_gap, without = scores(model, [[0.1, 0.1, np.nan], [0.1, 0.1, np.nanmedian(rows[:, 2])]])
    assert with_gap == without < 1


@pytest.mark.parametrize("fit", DETECTORS.values(), ids=DETECTORS)
def test_a_constant_column_and_few_rows_are_no_error(fit):
    rows = np.column_stack([np.ones(30), np.arange(30.0)])
    assert np.isfinite(scores(fit(rows), [[1.0, 3.0], [2.0, 500.0]])).all()


@pytest.mark.parametrize("fit", DETECTORS.values(), ids=DETECTORS)
def test_it_is_a_model_that_can_be_registered(fit):
    inspected = inspect(fit(sample(60)))
    assert inspected.answers_zeros
    assert [(t.name, t.datatype, t.shape) for t in inspected.signature.outputs] == [
        ("outlier_score", "FP32", [-1, 1]),
        ("is_outlier", "BOOL", [-1, 1]),
    ]


@pytest.mark.parametrize(
    ("rows", "beyond", "reason"),
    [
        ([1.0, 2.0], 0.1, "expected a matrix of at least two rows, got shape"),
        ([[1.0, 2.0]], 0.1, "expected a matrix of at least two rows"),
        ([[1.0], [np.inf]], 0.1, "expected finite numbers"),
        ([[1.0, np.nan], [1.0, np.nan]], 0.1, "with at least one in each column"),
        ([[1.0], [2.0]], 1.0, "beyond: expected a share between 0 and 1, got 1.0"),
    ],
)
def test_a_sample_that_is_none_is_refused(rows, beyond, reason):
    with pytest.raises(ValueError, match=reason):
        outliers.isolation_forest(rows, beyond=beyond)
