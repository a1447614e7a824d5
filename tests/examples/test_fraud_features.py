"""No feature of a payment uses what was not known as it was made, in event time and in known-at time; and each is what
it says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from evaluate import FIRST_DAY, evaluated, training_set, views
from learn import DEFAULTS, features_of
from payments import DAY_US, World, days, us_of

from mizzen.kinds import kind_named

WORLD = World(customers=80, terminals=60)
EVERYTHING = days(WORLD, 0, FIRST_DAY + 12)


def as_of(rows: pa.Table) -> pd.DataFrame:
    found = training_set(rows, WORLD)
    return found[["paid_at", *features_of(found)]]


@pytest.mark.parametrize("days_later", [1, 4, 9])
def test_nothing_that_becomes_known_later_changes_a_payments_features(days_later: int) -> None:
    """Other amounts of whatever is booked later, other verdicts wherever they come later, though of payments before."""
    moment_us = WORLD.begins_us + (FIRST_DAY + days_later) * DAY_US + 40_000_000_000
    random = np.random.default_rng(days_later)
    booked_later, known_later = (us_of(EVERYTHING, name) > moment_us for name in ("booked_at", "known_at"))
    amount = np.where(booked_later, random.uniform(0, 500, len(EVERYTHING)), EVERYTHING.column("amount").to_numpy())
    fraud = np.where(known_later, 1 - EVERYTHING.column("fraud").to_numpy(), EVERYTHING.column("fraud").to_numpy())
    changed = EVERYTHING.set_column(EVERYTHING.column_names.index("amount"), "amount", pa.array(amount))
    changed = changed.set_column(changed.column_names.index("fraud"), "fraud", pa.array(fraud))
    before, after = as_of(EVERYTHING), as_of(changed)
    until = (before["paid_at"] <= pd.Timestamp(moment_us, unit="us", tz="UTC")).to_numpy()
    own = [name for name in before.columns if name not in {"amount", "times_usual"}]  # of the payment itself
    pd.testing.assert_frame_equal(before.loc[until, own], after.loc[until, own])
    assert (before.loc[~until, "fraud_rate_30d"] != after.loc[~until, "fraud_rate_30d"]).mean() > 0.05
    assert (before.loc[~until, "spent_1d"] != after.loc[~until, "spent_1d"]).mean() > 0.1


def test_features_are_those_of_a_loop_over_all_payments() -> None:
    """Of some payments: windows by when things happened, among what was known."""
    rows = EVERYTHING.to_pandas()
    found = training_set(EVERYTHING, WORLD)
    for index in np.random.default_rng(3).choice(len(found), 40, replace=False):
        asked = found.iloc[index]
        at = asked["paid_at"]
        booked = rows[(rows["booked_at"] <= at) & (rows["customer"] == asked["customer"])]
        judged = rows[(rows["known_at"] <= at) & (rows["terminal"] == asked["terminal"])]
        for length in (1, 7, 30):
            recent = booked[booked["paid_at"] > at - pd.Timedelta(days=length)]
            assert asked[f"paid_{length}d"] == len(recent)
            assert asked[f"spent_{length}d"] == pytest.approx(recent["amount"].mean() if len(recent) else 0)
        for length in (7, 14, 30):
            recent = judged[judged["paid_at"] > at - pd.Timedelta(days=length)]
            assert asked[f"judged_{length}d"] == len(recent)
            assert asked[f"fraud_rate_{length}d"] == pytest.approx(recent["fraud"].mean() if len(recent) else 0)


@pytest.mark.slow
def test_without_known_at_more_is_promised_than_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the world: what the README shows of the whole one."""
    monkeypatch.setitem(DEFAULTS, "rounds", 60)
    found = evaluated(World(customers=500, terminals=1000))
    assert found.as_known.precision > 0.1
    assert found.promised.roc_auc > 0.99
    assert found.promised.average_precision > found.as_known.average_precision + 0.1
    assert found.kept.average_precision < found.as_known.average_precision


def test_the_resources_are_valid() -> None:
    """Each document is one of our kinds, and what they name is there."""
    text = (Path(__file__).parents[2] / "examples" / "fraud" / "resources.yaml").read_text()
    objects = [kind_named(document["kind"]).model_validate(document) for document in yaml.safe_load_all(text)]
    kinds = [type(each).__name__ for each in objects]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "Dataset": 3, "FeatureView": 4, "Model": 1, "TrainingJob": 1, "InferenceEndpoint": 1,
    }  # fmt: skip
    training, endpoint = objects[-2], objects[-1]
    names = [view.name for view in views()]
    assert [taken.view for taken in training.spec.features.taken()] == names
    assert [used.view for used in endpoint.spec.features.views] == names
