"""Cards for the end-to-end test of features: a training on a point-in-time set, and a feature that a request tells."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from mizzen.training import Context, TrainedModel

COLUMNS = ["amount", "spent_1h", "payments", "ceiling", "share"]


def share(amount: np.ndarray, ceiling: np.ndarray) -> np.ndarray:
    """Of a payment in its card's limit."""
    return amount / ceiling


def fit(ctx: Context) -> TrainedModel:
    """A plane through the set: its answers are its inputs' sum, so that each of them can be read from an answer."""
    frame = ctx.training_set().pandas()
    frame["share"] = share(frame["amount"].to_numpy(), frame["ceiling"].to_numpy())
    x = frame[COLUMNS].fillna(0.0)
    model = LinearRegression(fit_intercept=False).fit(
        pd.DataFrame(np.eye(len(COLUMNS)), columns=COLUMNS), np.array([1.0, 10.0, 100.0, 1000.0, 1e6])
    )
    return TrainedModel(model, {"rows": float(len(x))}, example=x[:8])
