"""Any fitted tree model as a forest, whichever library it is of."""

import math
from typing import Any

from mizzen.registry.errors import ConversionFailed
from mizzen.registry.forests import lightgbm, scikit, xgboost
from mizzen.registry.forests.forest import Forest

_SCIKIT = {*scikit.SINGLE, *scikit.AVERAGED, *scikit.BOOSTED, *scikit.HISTOGRAM}


def is_forest(model: Any) -> bool:
    """Whether `forest_of` can read such a model; subclasses may do anything and are not taken."""
    return _library(model) is not None


def forest_of(model: Any) -> Forest:
    """The model's trees as it predicts with them.

    Raises `ConversionFailed` for what this cannot express.
    """
    library = _library(model)
    if library == "lightgbm":
        return lightgbm.forest_of(getattr(model, "booster_", model))
    if library == "xgboost":
        return _xgboost(model)
    return scikit.forest_of(model)


def _library(model: Any) -> str | None:
    module, name = type(model).__module__.partition(".")[0], type(model).__name__
    if module == "lightgbm" and name in {"Booster", "LGBMClassifier", "LGBMRegressor", "LGBMRanker"}:
        return module
    if module == "xgboost" and name in {
        "Booster",
        "XGBClassifier",
        "XGBRegressor",
        "XGBRFClassifier",
        "XGBRFRegressor",
    }:
        return module
    return module if module == "sklearn" and name in _SCIKIT else None


def _xgboost(model: Any) -> Forest:
    if xgboost.has_categories(model if type(model).__name__ == "Booster" else model.get_booster()):
        raise ConversionFailed(
            "XGBoost on data frame columns of categories: give it their codes, or encode them in a pipeline"
        )
    if type(model).__name__ == "Booster":
        return xgboost.forest_of(model)
    missing = model.missing
    if missing is not None and not math.isnan(missing):
        raise ConversionFailed(f"{type(model).__name__} with missing={missing}: expected NaN for missing values")
    try:
        iterations = model.best_iteration + 1  # what its `predict` uses after early stopping
    except AttributeError:
        iterations = None
    return xgboost.forest_of(model.get_booster(), iterations=iterations)
