"""Whether a model version meets its model's gates.

A gate is a sentence about one metric: at least a number, at most a number, or not worse than the version an alias
points to by more than a tolerance. A metric that the version does not have, or that is not a finite number, fails its
gate: a gate that cannot be judged is not met.
"""

import math
from collections.abc import Mapping, Sequence

from mizzen.kinds.build import Gate, GateResult

LOWER_IS_BETTER = frozenset({
    "brier", "brier_score", "cross_entropy", "error", "error_rate", "hinge_loss", "log_loss", "logloss", "loss", "mae",
    "mape", "max_error", "mean_absolute_error", "mean_squared_error", "median_absolute_error", "mse", "msle", "rmse",
    "rmsle", "root_mean_squared_error", "smape", "zero_one_loss",
})  # fmt: skip
"""Metrics that are errors: names as scikit-learn, LightGBM and XGBoost use them."""


def lower_is_better(gate: Gate) -> bool:
    """Which way is better for the gate's metric: as the gate says, else known from the name."""
    if gate.lower_is_better is not None:
        return gate.lower_is_better
    return gate.metric.lower().removeprefix("val_").removeprefix(
        "neg_"
    ) in LOWER_IS_BETTER and not gate.metric.startswith("neg_")


def in_words(gate: Gate) -> str:
    """The gate as a sentence: `roc_auc at least 0.68`."""
    if gate.at_least is not None:
        return f"{gate.metric} at least {gate.at_least:g}"
    if gate.at_most is not None:
        return f"{gate.metric} at most {gate.at_most:g}"
    tolerance = f" by more than {gate.no_worse_by:g}" if gate.no_worse_by else ""
    return f"{gate.metric} not worse than {gate.compared_with}{tolerance}"


def judge(gate: Gate, metrics: Mapping[str, float], compared: Mapping[str, float] | None) -> GateResult:
    """One gate on one version's metrics; `compared` are those of the version the gate's alias points to, if any."""
    words = in_words(gate)
    value = metrics.get(gate.metric)
    if value is None or not math.isfinite(value):
        have = ", ".join(sorted(metrics)) or "none"
        found = "no such metric" if value is None else f"{value}"
        return GateResult(gate=words, passed=False, message=f"{words}: found {found} (metrics: {have})")
    if gate.compared_with is None:
        passed = value >= gate.at_least if gate.at_least is not None else value <= (gate.at_most or 0.0)
        return GateResult(gate=words, passed=passed, value=value, message=f"{words}: found {value:.6g}")
    if compared is None:
        message = f"{words}: found {value:.6g}, and {gate.compared_with} points to no version yet"
        return GateResult(gate=words, passed=True, value=value, message=message)
    other = compared.get(gate.metric)
    if other is None or not math.isfinite(other):
        message = f"{words}: found {value:.6g}, and the version at {gate.compared_with} has no such metric"
        return GateResult(gate=words, passed=True, value=value, message=message)
    worse_by = value - other if lower_is_better(gate) else other - value
    message = f"{words}: found {value:.6g} against {other:.6g}"
    return GateResult(gate=words, passed=worse_by <= gate.no_worse_by, value=value, message=message)


def judge_all(
    gates: Sequence[Gate], metrics: Mapping[str, float], by_alias: Mapping[str, Mapping[str, float]]
) -> list[GateResult]:
    """Every gate in order; `by_alias` holds the metrics of the version each alias points to now."""
    return [judge(gate, metrics, by_alias.get(gate.compared_with or "")) for gate in gates]
