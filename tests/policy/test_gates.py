"""Gates: each kind of condition on ordinary, missing and hostile metrics."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.kinds.build import Gate
from mizzen.policy.gates import in_words, judge, lower_is_better

number = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(value=number, bound=number)
def test_at_least_and_at_most_agree_with_comparison(value: float, bound: float) -> None:
    assert judge(Gate(metric="m", at_least=bound), {"m": value}, None).passed == (value >= bound)
    assert judge(Gate(metric="m", at_most=bound), {"m": value}, None).passed == (value <= bound)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_fails_every_gate(value: float) -> None:
    for gate in (
        Gate(metric="m", at_least=-1e300),
        Gate(metric="m", at_most=1e300),
        Gate(metric="m", compared_with="a"),
    ):
        assert not judge(gate, {"m": value}, {"m": 0.0}).passed


def test_a_missing_metric_fails_and_names_what_there_is() -> None:
    result = judge(Gate(metric="roc_auc", at_least=0.5), {"auc": 0.9, "log_loss": 0.1}, None)
    assert not result.passed
    assert "found no such metric (metrics: auc, log_loss)" in result.message


@given(value=number, other=number, tolerance=st.floats(min_value=0, max_value=1e6))
def test_comparison_is_mirrored_by_direction(value: float, other: float, tolerance: float) -> None:
    """Lower-is-better on negated metrics is higher-is-better on the metrics."""
    up = Gate(metric="m", compared_with="production", no_worse_by=tolerance, lower_is_better=False)
    down = up.model_copy(update={"lower_is_better": True})
    assert judge(up, {"m": value}, {"m": other}).passed == judge(down, {"m": -value}, {"m": -other}).passed


def test_with_nothing_to_compare_with_the_first_version_passes() -> None:
    gate = Gate(metric="m", compared_with="production")
    assert judge(gate, {"m": 0.1}, None).passed
    assert judge(gate, {"m": 0.1}, {"other": 3.0}).passed


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        ("rmse", True),
        ("val_log_loss", True),
        ("LogLoss", True),
        ("roc_auc", False),
        ("neg_log_loss", False),
        ("f1", False),
    ],
)
def test_direction_is_known_from_the_name(metric: str, lower: bool) -> None:
    assert lower_is_better(Gate(metric=metric, compared_with="production")) == lower


def test_gates_in_words() -> None:
    assert in_words(Gate(metric="roc_auc", at_least=0.68)) == "roc_auc at least 0.68"
    assert (
        in_words(Gate(metric="roc_auc", compared_with="production", no_worse_by=0.005))
        == "roc_auc not worse than production by more than 0.005"
    )


def test_a_bound_of_zero_is_a_bound() -> None:
    assert not judge(Gate(metric="m", at_most=0.0), {"m": 0.1}, None).passed
    assert not judge(Gate(metric="m", at_least=0.0), {"m": -0.1}, None).passed
