"""What a training function returns, and what is wrong with what it may return instead."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Literal

from mizzen.data.pod import Failure
from mizzen.registry.originals import onnx_bytes
from mizzen.registry.python_model import PythonModel

EXPECTED = (
    "TrainedModel(model, metrics={'roc_auc': 0.71}, example=rows), or (model, metrics) where the model is ONNX; "
    "a model is a fitted scikit-learn estimator, a LightGBM or XGBoost booster, a torch.export program, a PythonModel, "
    "or ONNX"
)


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model with what is known of it: the return value of a training function."""

    model: Any
    """A fitted scikit-learn classifier, regressor or pipeline; a LightGBM or XGBoost booster or estimator; a
    `torch.export.ExportedProgram`; a `PythonModel`; or ONNX, as bytes, a path or a `ModelProto`."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Finite numbers by name, of rows the model did not see: gates compare them."""
    example: Any = None
    """Some rows as the model is given them (a data frame, an Arrow table, a numpy matrix): inputs get their names and
    types from it, and a worker warms up on it. ONNX can do without, and a Python class that says what it takes."""
    holdout: Any = None
    """Rows on which the converted model is compared with the original; by default the example's."""
    form: Literal["auto", "onnx", "native"] = "auto"
    """ONNX where that answers the same, else the library's own format; or one of the two in any case."""


class BadResult(Failure):
    """The function returned something that cannot become a model version."""

    def __init__(self, message: str) -> None:
        super().__init__("BadResult", message)


def validated(result: Any, entrypoint: str) -> TrainedModel:
    """What the function returned, as a `TrainedModel`.

    Raises `BadResult` with what was expected and what came.
    """
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
        result = TrainedModel(*result)
    if not isinstance(result, TrainedModel):
        raise BadResult(f"{entrypoint}: expected {EXPECTED}; got {_shown(result)}")
    if result.model is None:
        raise BadResult(f"{entrypoint}: expected a model, got None: does the function return what it trained?")
    if not isinstance(result.metrics, Mapping):
        raise BadResult(f"{entrypoint}: metrics: expected numbers by name, got {_shown(result.metrics)}")
    metrics = {_name(name, entrypoint): _number(name, value, entrypoint) for name, value in result.metrics.items()}
    own_words = isinstance(result.model, PythonModel)
    if result.example is None and not own_words and onnx_bytes(result.model) is None:
        raise BadResult(
            f"{entrypoint}: example: expected some rows as the model is given them, got None: return "
            f"TrainedModel(model, metrics, example=X[:10])"
        )
    return replace(result, metrics=metrics)


def finite(value: Any) -> float | None:
    """The number, if it is a finite one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _name(name: Any, entrypoint: str) -> str:
    if not isinstance(name, str) or not name:
        raise BadResult(f"{entrypoint}: metrics: expected names as text, got {_shown(name)}")
    return name


def _number(name: str, value: Any, entrypoint: str) -> float:
    number = finite(value)
    if number is None:
        raise BadResult(f"{entrypoint}: metrics[{name!r}]: expected a finite number, got {_shown(value)}")
    return number


def _shown(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"
