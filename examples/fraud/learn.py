"""Trains the fraud model on its training set: each payment with what was known as it was made.

The last seven days whose verdicts are all known are held out, and what is trained on is what a bank knew on the morning
of the first: payments whose verdicts had come by then.
"""

import lightgbm as lgb
import numpy as np
import pandas as pd
from moments import times_usual
from numpy.typing import NDArray
from payments import DAY_US, HISTORY_DAYS, VERDICT_DAYS
from scores import Scores, scored

from mizzen.training import Context, TrainedModel

HELD_OUT_DAYS = 7
FACTS = ("row_id", "payment", "customer", "terminal", "paid_at", "known_at", "fraud")
"""Columns of the training set that are no features: which payment it is, and what became of it."""
DEFAULTS = {"rounds": 200, "learning_rate": 0.05, "num_leaves": 31}


def fit(ctx: Context) -> TrainedModel:
    """The entrypoint of the training job."""
    rows = with_moments(ctx.training_set().pandas())
    day = days_of(rows)
    held_out_from = HISTORY_DAYS - VERDICT_DAYS[1] - 1 - HELD_OUT_DAYS
    held_out = rows[(day >= held_out_from) & (day < held_out_from + HELD_OUT_DAYS)]
    known = (rows["known_at"] <= held_out["paid_at"].min().normalize()).to_numpy()
    train = rows[known]
    booster = trained(train, DEFAULTS | ctx.parameters, ctx.seed, ctx)
    scores = judged(booster, held_out)
    print(f"trained on {len(train):,} payments, held out {len(held_out):,}: {scores}")
    metrics = {
        "precision_at_100": scores.precision,
        "best_precision_at_100": scores.best,
        "average_precision": scores.average_precision,
        "roc_auc": scores.roc_auc,
    }
    columns = features_of(rows)
    return TrainedModel(booster, metrics, example=train[columns].head(16), holdout=held_out[columns])


def with_moments(rows: pd.DataFrame) -> pd.DataFrame:
    """The training set with the features of requests."""
    usual = rows["spent_30d"].to_numpy(np.float64)
    return rows.assign(times_usual=times_usual(rows["amount"].to_numpy(np.float64), usual))


def features_of(rows: pd.DataFrame) -> list[str]:
    """The columns that the model takes."""
    return [name for name in rows.columns if name not in FACTS]


def days_of(rows: pd.DataFrame) -> NDArray[np.int64]:
    """The number of each payment's day; the spine begins on day 30."""
    paid_us = rows["paid_at"].dt.as_unit("us").astype("int64").to_numpy()
    return paid_us // DAY_US - paid_us.min() // DAY_US + 30


def trained(rows: pd.DataFrame, parameters: dict[str, float], seed: int, ctx: Context | None = None) -> lgb.Booster:
    """A model of payments whose verdicts are known."""
    rounds = int(parameters["rounds"])

    def tell(env: lgb.callback.CallbackEnv) -> None:
        if ctx is not None and (env.iteration + 1) % 20 == 0:
            ctx.progress(env.iteration + 1, rounds, "boosting")

    return lgb.train(
        {
            "objective": "binary",
            "learning_rate": float(parameters["learning_rate"]),
            "num_leaves": int(parameters["num_leaves"]),
            "min_data_in_leaf": 50,
            "feature_fraction": 0.7,
            "max_bin": 127,
            "seed": seed,
            "deterministic": True,
            "num_threads": 1,
            "verbose": -1,
        },
        lgb.Dataset(rows[features_of(rows)], rows["fraud"].astype(int)),
        num_boost_round=rounds,
        callbacks=[tell],
    )


def judged(booster: lgb.Booster, rows: pd.DataFrame) -> Scores:
    """How the model does on whole days that it has not seen."""
    probability = np.asarray(booster.predict(rows[features_of(rows)]))
    return scored(rows["fraud"].to_numpy(np.int64), probability, days_of(rows))
