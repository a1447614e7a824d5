"""Request-time features: vectorised, on training rows and on requests alike."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.features.builders import defined, times

from mizzen.data.features.errors import RequestUnfit
from mizzen.data.features.request import RequestFeatures, with_request_features

FUNCTIONS: dict[str, Any] = {
    "f:ratio": lambda amount, mean_1h: amount / mean_1h,
    "f:big": lambda ratio: ratio > 2,
    "f:hour": lambda asked_at: asked_at.astype("datetime64[h]").astype(int) % 24,
    "f:pair": lambda amount, mean_1h: np.stack([amount, mean_1h], axis=1),
    "f:short": lambda amount: amount[:1],
    "f:word": lambda amount: ["x"] * len(amount),
    "f:other": lambda shop_risk_score: shop_risk_score * 10,
}


def features(*request: dict[str, Any]) -> RequestFeatures:
    return RequestFeatures(defined(request=list(request)), FUNCTIONS.__getitem__)


RATIO = {"name": "ratio", "function": "f:ratio", "inputs": ["amount", "mean_1h"]}


def test_functions_see_whole_columns_and_each_other() -> None:
    """A feature may be of another; what is missing is NaN; defaults fill what has no value."""
    made = features(
        {"name": "big", "function": "f:big", "inputs": ["ratio"], "type": "boolean"},
        {**RATIO, "default": -1},
        {"name": "hour", "function": "f:hour", "inputs": ["asked_at"], "type": "int32"},
        {"name": "pair", "function": "f:pair", "inputs": ["amount", "mean_1h"], "type": "vector(float32, 2)"},
    )
    assert made.inputs == ["amount", "mean_1h", "asked_at"]
    given = {
        "amount": pa.array([6.0, 1.0, 1.0]),
        "mean_1h": pa.array([2, 4, None]),
        "asked_at": times([0, 61, 24 * 60]),
    }
    found = {name: column.to_pylist() for name, column in made.of(given, 3).items()}
    assert found["ratio"] == [3.0, 0.25, -1.0]
    assert found["big"] == [True, False, False]
    assert found["hour"] == [0, 1, 0]
    assert found["pair"][:2] == [[6.0, 2.0], [1.0, 4.0]]


def test_the_same_on_a_table_with_other_names() -> None:
    rows = pa.table({"paid": [6.0], "spending_mean_1h": [2.0]})
    made = with_request_features(
        rows, defined(request=[RATIO]), FUNCTIONS.__getitem__, {"amount": "paid", "mean_1h": "spending_mean_1h"}
    )
    assert made.column("ratio").to_pylist() == [3.0]


def test_a_feature_of_another_view_has_a_name_that_python_can_take() -> None:
    made = features({"name": "x", "function": "f:other", "inputs": ["shop-risk.score"]})
    assert made.of({"shop-risk.score": pa.array([0.5])}, 1)["x"].to_pylist() == [5.0]


@pytest.mark.parametrize(
    ("request_feature", "given", "message"),
    [
        (RATIO, {"amount": pa.array([1.0])}, "expected mean_1h with the request, found amount"),
        (RATIO, {"amount": pa.array([1.0]), "mean_1h": pa.array([1.0, 2.0])}, "expected 1 values of mean_1h, found 2"),
        ({"name": "x", "function": "f:short", "inputs": ["amount"]}, {"amount": pa.array([1.0, 2.0])}, "expected f:short to return 2 values, found 1"),
        ({"name": "x", "function": "f:word", "inputs": ["amount"]}, {"amount": pa.array([1.0])}, "expected f:word to return values of type double"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(request_feature: dict[str, Any], given: dict[str, Any], message: str) -> None:
    rows = len(given["amount"])
    with pytest.raises(RequestUnfit, match=message):
        features(request_feature).of(given, rows)
