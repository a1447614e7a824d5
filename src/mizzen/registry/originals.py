"""The trained model as its own library answers: what a converted one has to repeat.

Four families are told apart by where their class comes from, without importing any of the libraries: LightGBM boosters,
XGBoost boosters, scikit-learn estimators (theirs, LightGBM's and XGBoost's wrappers, pipelines of them) and ONNX.
"""

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.registry.errors import ConversionFailed, CorruptModel, ModelUnfit
from mizzen.registry.forests import lightgbm, xgboost
from mizzen.registry.rows import LABEL, PREDICTION, PROBABILITIES, Rows

Answers = dict[str, NDArray[Any]]
"""Output name -> values for each row."""


class Family(Enum):
    """Which library a model is of."""

    ONNX = "ONNX bytes or the path of an ONNX file"
    LIGHTGBM = "lightgbm.Booster"
    XGBOOST = "xgboost.Booster"
    SKLEARN = "a fitted scikit-learn classifier or regressor (or a pipeline that ends in one)"


@dataclass(frozen=True, slots=True)
class Original:
    """A trained model of one of the families."""

    model: Any
    family: Family
    classes: NDArray[Any] | None
    """The classes in the order of their probabilities; `None` for a regressor."""
    has_probabilities: bool = True

    @property
    def source_type(self) -> str:
        """The class, as lineage names it: `lightgbm.Booster`."""
        kind = type(self.model)
        if self.family is not Family.SKLEARN:
            return str(self.family.value)
        public = [part for part in kind.__module__.split(".") if not part.startswith("_")]
        return ".".join([*public, kind.__qualname__])

    def answers(self, rows: Rows) -> Answers:
        """What the model's own library predicts, under the names of the converted model's outputs.

        Raises `ModelUnfit` where it cannot predict these rows.
        """
        try:
            return self._answers(rows)
        except Exception as error:  # each library has exceptions of its own, without a common base
            text = " ".join(str(error).split())
            raise ModelUnfit(
                f"{self.source_type} cannot predict the rows it was given: {type(error).__name__}: {text[:300]}"
            ) from error

    def _answers(self, rows: Rows) -> Answers:
        if self.family is Family.SKLEARN:
            predicted = np.asarray(self.model.predict(rows.native))
            if self.classes is None:
                return {PREDICTION: predicted.astype(np.float64)}
            if not self.has_probabilities:
                return {LABEL: predicted}
            return {LABEL: predicted, PROBABILITIES: np.asarray(self.model.predict_proba(rows.native))}
        raw = self._boosted(rows)
        if self.classes is None:
            return {PREDICTION: raw}
        if not self.has_probabilities:
            return {LABEL: raw.astype(np.int64)}
        probabilities = np.column_stack([1.0 - raw, raw]) if raw.ndim == 1 else raw
        return {LABEL: self.classes[probabilities.argmax(axis=1)], PROBABILITIES: probabilities}

    def _boosted(self, rows: Rows) -> NDArray[np.float64]:
        if self.family is Family.LIGHTGBM:
            return np.asarray(self.model.predict(rows.native), dtype=np.float64)
        return np.asarray(self.model.inplace_predict(rows.native, validate_features=False), dtype=np.float64)


def original_of(model: Any) -> Original | None:
    """The model with what is known of it; `None` where it is ONNX already.

    Raises `ConversionFailed` for anything that is no model, is not fitted, or is of no known family.
    """
    if onnx_bytes(model) is not None:
        return None
    names = {(base.__module__.partition(".")[0], base.__name__) for base in type(model).__mro__}
    if ("lightgbm", "Booster") in names:
        return Original(
            model, Family.LIGHTGBM, _counted(lightgbm.is_classifier(model), model.num_model_per_iteration())
        )
    if ("xgboost", "Booster") in names:
        classes = xgboost.classes_in(model)
        return Original(model, Family.XGBOOST, _counted(classes > 0, classes), not xgboost.gives_labels(model))
    if ("sklearn", "BaseEstimator") in names and hasattr(model, "predict"):
        return _sklearn(model)
    expected = "; ".join(family.value for family in Family)
    text = repr(model).replace("\n", " ")
    raise ConversionFailed(f"expected a trained model ({expected}), got {type(model).__name__} {text[:60]}")


def onnx_bytes(model: Any) -> bytes | None:
    """The model's bytes where it is ONNX; `None` where it is something else.

    Raises `CorruptModel` where a path leads to no file.
    """
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model)
    if isinstance(model, str | os.PathLike):
        try:
            return Path(model).read_bytes()
        except OSError as error:
            raise CorruptModel(f"{model}: cannot be read: {error.strerror}") from error
    if type(model).__name__ == "ModelProto" and hasattr(model, "SerializeToString"):
        return bytes(model.SerializeToString())
    return None


def _counted(is_classifier: bool, trees_per_iteration: int) -> NDArray[Any] | None:
    return np.arange(max(trees_per_iteration, 2)) if is_classifier else None


def _sklearn(model: Any) -> Original:
    name = type(model).__name__
    kind = getattr(model, "_estimator_type", None) or _tagged_kind(model)
    if kind not in {"classifier", "regressor"}:
        raise ConversionFailed(f"{name}: expected a classifier or a regressor, got a {kind or 'transformer'}")
    if kind == "regressor":
        return Original(model, Family.SKLEARN, None)
    classes = getattr(model, "classes_", None)
    if classes is None:
        raise ConversionFailed(f"{name} is not fitted: expected a trained model")
    if isinstance(classes, list):
        raise ConversionFailed(f"{name} with several outputs: train one model for each")
    return Original(model, Family.SKLEARN, np.asarray(classes), hasattr(model, "predict_proba"))


def _tagged_kind(model: Any) -> str | None:
    tags = getattr(model, "__sklearn_tags__", None)
    return None if tags is None else tags().estimator_type
