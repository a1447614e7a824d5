"""Precision at 100 alerts a day on the week after the history, offline; and what it would be said to be without
known-at times.

The same definitions that the endpoint reads are joined to each payment of 97 days: once with what was known as it was
made, and once with all that is known today, as a join by event time alone does. Two models are trained, each on its own
set, on the payments whose verdicts had come when the history ends.

    python examples/fraud/evaluate.py
"""

from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import pandas as pd
import pyarrow as pa
import yaml
from learn import DEFAULTS, days_of, judged, trained, with_moments
from payments import DAY_US, HISTORY_DAYS, LIVE_DAYS, PAYMENT_COLUMNS, VERDICT_COLUMNS, World, days, us_of
from scores import Scores

from mizzen.data.features.definition import definition_of
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join
from mizzen.kinds import FeatureView

SPINE = ("payment", "customer", "terminal", "amount", "paid_at", "known_at", "fraud")
FIRST_DAY = 30
"""From which on the longest window is full."""
SEED = 7


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found."""

    as_known: Scores
    """Trained on and asked with what was known."""
    promised: Scores
    """Trained on and measured with all that is known today."""
    kept: Scores
    """That model, asked with what is known as a payment is made."""


def views() -> list[FeatureView]:
    """The feature views of `resources.yaml`."""
    documents = yaml.safe_load_all((Path(__file__).parent / "resources.yaml").read_text())
    return [FeatureView.model_validate(document) for document in documents if document["kind"] == "FeatureView"]


def training_set(everything: pa.Table, world: World, *, known_today: bool = False) -> pd.DataFrame:
    """Each payment from `FIRST_DAY` on with its features."""
    sources = {
        "payments": InMemory(everything.select(PAYMENT_COLUMNS)),
        "verdicts": InMemory(everything.select(VERDICT_COLUMNS)),
    }
    first_us = world.begins_us + FIRST_DAY * DAY_US
    spine = everything.select(SPINE).filter(pa.array(us_of(everything, "paid_at") >= first_us))
    uses = [Use(definition_of(view), sources[view.spec.source.dataset or ""]) for view in views()]
    return with_moments(join(spine, uses, Clocks("paid_at", everything=known_today)).to_pandas())


def evaluated(world: World) -> Evaluation:
    """Both ways, on the days after the history."""
    everything = days(world, 0, HISTORY_DAYS + LIVE_DAYS)
    then, today = (training_set(everything, world, known_today=known_today) for known_today in (False, True))
    honest, leaking = (_trained(rows, world) for rows in (then, today))
    return Evaluation(
        as_known=judged(honest, _live(then)),
        promised=judged(leaking, _live(today)),
        kept=judged(leaking, _live(then)),
    )


def _trained(rows: pd.DataFrame, world: World) -> lgb.Booster:
    history_ends = pd.Timestamp(world.begins_us + HISTORY_DAYS * DAY_US, unit="us", tz="UTC")
    return trained(rows[rows["known_at"] <= history_ends], DEFAULTS, SEED)


def _live(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[days_of(rows) >= HISTORY_DAYS]


def main() -> None:
    """Prints the table."""
    found = evaluated(World.of_environment())
    print(f"days {HISTORY_DAYS} to {HISTORY_DAYS + LIVE_DAYS - 1}: {found.as_known.payments:,} payments, "
          f"{found.as_known.frauds} frauds, at best {found.as_known.best:.3f} at 100 alerts a day")  # fmt: skip
    print(f"{'':44}{'precision at 100':>18}{'AUC':>8}")
    for words, scores in (
        ("with what was known as each was made", found.as_known),
        ("without known-at: what offline promises", found.promised),
        ("without known-at: what comes of it", found.kept),
    ):
        print(f"{words:44}{scores.precision:18.3f}{scores.roc_auc:8.3f}")


if __name__ == "__main__":
    main()
