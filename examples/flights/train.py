"""Trains the late-arrival model: January to September to learn from, October held out, November left for the replay."""

import lightgbm as lgb
import numpy as np
import pandas as pd
from flights import FACTS
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from mizzen.training import Context, TrainedModel

LAST_TRAINING_MONTH, HOLDOUT_MONTH = 9, 10
DEFAULTS = {"rounds": 200, "learning_rate": 0.05, "num_leaves": 63}


def fit(ctx: Context) -> TrainedModel:
    """The entrypoint of the training job."""
    parameters = DEFAULTS | ctx.parameters
    rows = ctx.training_set().pandas()
    features = [name for name in rows.columns if name not in FACTS]
    rows = rows[rows["late"].notna()]  # cancelled and diverted flights: the question has no answer
    train, held_out = rows[rows["month"] <= LAST_TRAINING_MONTH], rows[rows["month"] == HOLDOUT_MONTH]
    rounds = int(parameters["rounds"])

    def tell(env: lgb.callback.CallbackEnv) -> None:
        if (env.iteration + 1) % 10 == 0:
            ctx.progress(env.iteration + 1, rounds, "boosting")

    booster = lgb.train(
        {
            "objective": "binary",
            "learning_rate": float(parameters["learning_rate"]),
            "num_leaves": int(parameters["num_leaves"]),
            "min_data_in_leaf": 100,
            "feature_fraction": 0.6,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "lambda_l2": 5.0,
            "max_bin": 63,
            "seed": ctx.seed,
            "deterministic": True,
            "num_threads": 1,
            "verbose": -1,
        },
        lgb.Dataset(train[features], train["late"].astype(int)),
        num_boost_round=rounds,
        callbacks=[tell],
    )
    probability = np.asarray(booster.predict(held_out[features]))
    metrics = scores(held_out["late"].astype(int), probability)
    print(f"trained on {len(train):,} flights, held out {len(held_out):,}: {metrics}")
    return TrainedModel(booster, metrics, example=train[features].head(16), holdout=held_out[features])


def scores(late: "pd.Series[int]", probability: NDArray[np.float64]) -> dict[str, float]:
    """How good the probabilities are: ranking, calibration, both; and how often flights were late."""
    return {
        "roc_auc": float(roc_auc_score(late, probability)),
        "log_loss": float(log_loss(late, probability)),
        "brier": float(brier_score_loss(late, probability)),
        "late_rate": float(late.mean()),
    }
