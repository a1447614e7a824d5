"""scikit-learn estimators as skops stores them: a description that names types, each of which is known to be harmless
or was approved by the model's owner. Nothing is unpickled, and a type that is neither is not even imported.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from mizzen.registry.package import CODE, FILES, Package
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.runtimes.frames import data_frame
from mizzen.serving.worker.runtimes.runtime import first_line
from mizzen.serving.worker.runtimes.tabular import TabularRuntime, model_file, refusal


class SkopsRuntime(TabularRuntime):
    """An estimator."""

    def __init__(self, package: Package, folder: Path, threads: int, trusted: Sequence[str]) -> None:
        """Raises `TaskError` where it holds types that are not trusted, and where skops does not load it."""
        path = folder / FILES / model_file(package)
        if (folder / CODE).exists():  # where approved types of the user's own are
            sys.path.insert(0, str(folder / CODE))
        try:
            self._estimator: Any = skops.io.load(path, trusted=list(trusted))
        except UntrustedTypesFoundException as error:
            raise TaskError(
                f"the model holds types that nobody approved: {first_line(error)}; the model's owner approves them in "
                "its spec.trustedTypes"
            ) from error
        except Exception as error:  # whatever the estimators' own code raises
            raise refusal(package, error) from error
        self._threads = threads
        self._columns = package.columns
        self.describe(package, int(getattr(self._estimator, "n_features_in_", -1)), 0)

    @property
    def facts(self) -> dict[str, str]:
        return {
            "runtime": f"scikit-learn {sklearn.__version__}", "provider": "CPU", "threads": str(self._threads),
        }  # fmt: skip

    def run(self, inputs: dict[str, Array]) -> Sequence[Array]:
        rows = self.matrix(inputs) if self._columns is None else data_frame(self.given(inputs), self._columns)
        try:
            if self.classes is None:
                return [np.asarray(self._estimator.predict(rows), dtype=np.float64)]
            if not self.probabilities:
                return [np.asarray(self._estimator.predict(rows))]
            return [
                np.asarray(self._estimator.predict(rows)),
                np.asarray(self._estimator.predict_proba(rows), dtype=np.float32),
            ]
        except Exception as error:  # estimators raise what they like
            raise BatchError(
                f"{type(self._estimator).__name__}: {type(error).__name__}: {first_line(error)}"
            ) from error
