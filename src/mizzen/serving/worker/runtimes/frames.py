"""Rows as a pandas data frame, for estimators that look at columns by name."""

from collections.abc import Sequence

import pandas as pd

from mizzen.serving.worker.arrays import Array


def data_frame(inputs: dict[str, Array], columns: Sequence[str]) -> pd.DataFrame:
    """One matrix under these column names, or one column from each input."""
    if len(inputs) == 1 and next(iter(inputs)) not in columns:
        (matrix,) = inputs.values()
        return pd.DataFrame(matrix, columns=list(columns))
    return pd.DataFrame({name: inputs[name].ravel() for name in columns})
