"""How good alerts are that people can look into: a hundred a day.

AUC says how well all payments are ranked, which nobody needs who can look into a hundred of nine thousand. Precision at
k is, of the k payments of a day with the highest probability, the share that are frauds; the mean over days. Perfect
ranking does not reach 1 where a day has fewer than k frauds: `best` says what it would reach.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

ALERTS_A_DAY = 100


@dataclass(frozen=True)
class Scores:
    """Of some whole days."""

    precision: float
    """At `ALERTS_A_DAY`: the mean over days."""
    best: float
    """What a ranking without an error would have."""
    average_precision: float
    roc_auc: float
    payments: int
    frauds: int


def scored(
    fraud: NDArray[np.int64], probability: NDArray[np.float64], day: NDArray[np.int64], alerts: int = ALERTS_A_DAY
) -> Scores:
    """The scores of payments with their days. Raises `ValueError` where there is no fraud, or nothing else."""
    precisions, bests = [], []
    for number in np.unique(day):
        today = day == number
        found = fraud[today][alerts_of(probability[today], alerts)]
        precisions.append(found.mean())
        bests.append(min(1.0, fraud[today].sum() / len(found)))
    return Scores(
        precision=float(np.mean(precisions)),
        best=float(np.mean(bests)),
        average_precision=float(average_precision_score(fraud, probability)),
        roc_auc=float(roc_auc_score(fraud, probability)),
        payments=len(fraud),
        frauds=int(fraud.sum()),
    )


def alerts_of(probability: NDArray[np.float64], alerts: int = ALERTS_A_DAY) -> NDArray[np.int64]:
    """Which payments of one day are looked into; of equal ones, the earlier."""
    return np.argsort(-probability, kind="stable")[:alerts]
