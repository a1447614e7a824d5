"""LightGBM boosters, in LightGBM's own text format."""

from collections.abc import Sequence
from pathlib import Path

import lightgbm
import numpy as np

from mizzen.registry.package import FILES, Package
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.errors import BatchError
from mizzen.serving.worker.runtimes.runtime import first_line
from mizzen.serving.worker.runtimes.tabular import TabularRuntime, model_file, refusal


class LightgbmRuntime(TabularRuntime):
    """A booster."""

    steady = True

    def __init__(self, package: Package, folder: Path, threads: int) -> None:
        """Raises `TaskError` where LightGBM does not load it."""
        path = folder / FILES / model_file(package)
        try:
            # From its text: a path is handed to native code, which may not find one that is not plain.
            self._booster = lightgbm.Booster(model_str=path.read_text())
            objective = str(self._booster.dump_model(num_iteration=1).get("objective", ""))
        except (lightgbm.basic.LightGBMError, ValueError, KeyError, UnicodeDecodeError) as error:
            raise refusal(package, error) from error
        self._threads = threads
        classes = self._booster.num_model_per_iteration() if objective.startswith(("binary", "multiclass")) else 0
        self.describe(package, self._booster.num_feature(), max(classes, 2) if classes else 0)

    @property
    def facts(self) -> dict[str, str]:
        return {
            "runtime": f"lightgbm {lightgbm.__version__}", "provider": "CPU", "threads": str(self._threads),
        }  # fmt: skip

    def run(self, inputs: dict[str, Array]) -> Sequence[Array]:
        matrix = self.matrix(inputs)
        try:
            raw = self._booster.predict(matrix, num_threads=self._threads)
        except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
            raise BatchError(f"LightGBM: {first_line(error)}") from error
        return self.answers(np.asarray(raw, dtype=np.float64))
