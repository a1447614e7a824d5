"""XGBoost boosters, in XGBoost's own UBJSON or JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xgboost

from mizzen.registry.package import FILES, Package
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.runtimes.runtime import first_line
from mizzen.serving.worker.runtimes.tabular import TabularRuntime, model_file, refusal


class XgboostRuntime(TabularRuntime):
    """A booster."""

    steady = True

    def __init__(self, package: Package, folder: Path, threads: int) -> None:
        """Raises `TaskError` where XGBoost does not load it."""
        path = folder / FILES / model_file(package)
        if path.suffix not in {".ubj", ".json"}:
            raise TaskError(f"expected an XGBoost model in .ubj or .json, got {path.name}")
        data = bytearray(path.read_bytes())
        if path.suffix == ".json" and data[:1] != b"{":
            raise TaskError(f"xgboost cannot load the model: expected JSON in {path.name}")
        try:
            self._booster = xgboost.Booster({"nthread": threads, "verbosity": 0})
            self._booster.load_model(data)
            learner = json.loads(self._booster.save_config())["learner"]
        except (xgboost.core.XGBoostError, ValueError, KeyError) as error:
            raise refusal(package, error) from error
        self._threads = threads
        self._iterations = (0, package.iterations) if package.iterations else (0, 0)
        objective = str(learner["objective"]["name"])
        classes = 2 if objective == "binary:logistic" else 0
        if objective.startswith("multi:"):
            classes = int(learner["learner_model_param"]["num_class"])
        self.describe(package, self._booster.num_features(), classes, probabilities=objective != "multi:softmax")

    @property
    def facts(self) -> dict[str, str]:
        return {"runtime": f"xgboost {xgboost.__version__}", "provider": "CPU", "threads": str(self._threads)}

    def run(self, inputs: dict[str, Array]) -> Sequence[Array]:
        matrix = self.matrix(inputs)
        try:
            raw = self._booster.inplace_predict(matrix, iteration_range=self._iterations, validate_features=False)
        except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
            raise BatchError(f"XGBoost: {first_line(error)}") from error
        return self.answers(np.asarray(raw, dtype=np.float64))
