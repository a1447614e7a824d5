"""Training functions of the end-to-end tests: one that works, and those that go wrong in the ways of real ones."""

import threading

import numpy as np
from sklearn.linear_model import LogisticRegression

from mizzen.training import Context, TrainedModel


def fit(ctx: Context) -> TrainedModel:
    """Logistic regression on the features, with accuracy on the last fifth."""
    frame = ctx.dataset("things").pandas()
    x, y = frame[["a", "b", "c"]], frame["label"]
    cut = len(frame) * 4 // 5
    print(f"training on {cut} rows")
    model = LogisticRegression(C=ctx.parameters.get("C", 1.0)).fit(x[:cut], y[:cut])
    accuracy = float(model.score(x[cut:], y[cut:]))
    ctx.log(1, accuracy=accuracy)
    return TrainedModel(model, {"accuracy": accuracy}, example=x[:8], holdout=x[cut:])


def raises(ctx: Context) -> TrainedModel:
    raise ValueError(f"the seed {ctx.seed} is unlucky")


def hangs(_: Context) -> TrainedModel:
    threading.Event().wait()
    raise AssertionError


def returns_nonsense(_: Context) -> int:
    return 42


def takes_all_memory(_: Context) -> TrainedModel:
    taken = []
    while True:
        taken.append(np.ones(4_000_000))
