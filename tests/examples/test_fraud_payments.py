"""The world of card payments: its days, its frauds and what is known of them when; and how alerts are scored."""

import dataclasses

import numpy as np
import payments
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import times_usual
from payments import CARD, DAY_US, HISTORY_DAYS, HONEST, LARGE, TERMINAL, World, day, days, us_of
from scores import scored

SMALL = World(customers=300, terminals=600)


def test_a_day_is_the_same_whatever_was_made_before_it() -> None:
    alone = day(SMALL, 40)
    assert alone.equals(days(SMALL, 38, 43).filter(pc.equal(pc.divide(pc.field("payment"), 1_000_000), 40)))
    assert not alone.select(["amount"]).equals(day(dataclasses.replace(SMALL, seed=8), 40).select(["amount"]))


def test_payments_come_in_order_and_each_is_booked_after_it_was_made_and_judged_days_later() -> None:
    rows = days(SMALL, 0, 20)
    paid, booked, known = (us_of(rows, name) for name in ("paid_at", "booked_at", "known_at"))
    assert (np.diff(paid) >= 0).all()
    assert len(set(rows.column("payment").to_pylist())) == len(rows)
    assert ((booked > paid) & (booked - paid <= 60_000_000)).all()
    assert (booked % 60_000_000 == 0).all()
    assert ((known - paid > 3 * DAY_US) & (known - paid <= 12 * DAY_US)).all()
    assert (known % DAY_US == 0).all()


def test_frauds_are_of_three_kinds() -> None:
    """Every large payment; every payment at a terminal while it is broken into; some of a copied card's, times five."""
    rows = days(SMALL, 0, 60).to_pandas()
    large, terminal, card = (rows[rows["scenario"] == kind] for kind in (LARGE, TERMINAL, CARD))
    assert (large["amount"] > 220).all()
    assert rows.loc[rows["scenario"] == HONEST, "amount"].max() <= 220
    assert (rows["fraud"] == (rows["scenario"] != HONEST)).all()
    assert len(terminal) > 0
    at_50 = payments.drawn_lately(SMALL, payments._TERMINALS, 50, SMALL.terminals, SMALL.terminals_broken_into, 28)
    on_50 = rows[rows["payment"] // 1_000_000 == 50]
    assert set(on_50.loc[on_50["terminal"].isin(at_50), "scenario"]) <= {TERMINAL, CARD}
    assert not (on_50.loc[~on_50["terminal"].isin(at_50), "scenario"] == TERMINAL).any()
    usual = payments.customers_of(SMALL).amount[card["customer"]]
    assert (card["amount"] / usual).median() > 3


def test_the_books_world_has_the_books_share_of_frauds() -> None:
    """1,754,155 payments with 0.84 % frauds in 183 days, says the book; ours are drawn otherwise, from the same."""
    rows = days(World(), 60, 75)
    assert len(rows) / 15 == pytest.approx(1_754_155 / 183, rel=0.03)
    assert pc.mean(rows.column("fraud")).as_py() == pytest.approx(0.0084, abs=0.0015)


def test_the_history_has_the_verdicts_that_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_SCALE", "0.02")
    world = World.of_environment()
    made, judged = (pa.concat_tables(list(source())) for source in (payments.history, payments.verdicts))
    ends_us = world.begins_us + HISTORY_DAYS * DAY_US
    assert (world.customers, world.terminals) == (100, 200)
    assert us_of(made, "paid_at").max() < ends_us
    assert us_of(judged, "known_at").max() == ends_us
    waiting = made.filter(pc.invert(pc.is_in(made.column("payment"), judged.column("payment").combine_chunks())))
    assert us_of(waiting, "paid_at").min() > ends_us - 12 * DAY_US
    assert 0 < len(waiting) < len(made) * 12 / 90


def test_what_is_usual_of_somebody_who_has_spent_nothing() -> None:
    assert times_usual(np.array([30.0, 30.0, 0.0]), np.array([10.0, 0.0, 5.0])).tolist() == [3.0, 0.0, 0.0]


PAYMENTS = st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=4, max_size=40)


@given(PAYMENTS, st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_precision_is_that_of_a_loop_over_days(rows: list[tuple[bool, int, int]], alerts: int) -> None:
    """With equal probabilities, days of few payments and days without a fraud."""
    rows = [(True, 5, 0), (False, 0, 0), *rows]
    fraud, probability, of_day = (np.array(column) for column in zip(*rows, strict=True))
    found = scored(fraud.astype(np.int64), probability / 5, of_day, alerts)
    precisions, bests = [], []
    for number in sorted(set(of_day.tolist())):
        today = [(fraud, p) for fraud, p, d in rows if d == number]
        looked_into = sorted(today, key=lambda payment: -payment[1])[:alerts]
        precisions.append(sum(fraud for fraud, _ in looked_into) / len(looked_into))
        bests.append(min(1.0, sum(fraud for fraud, _ in today) / len(looked_into)))
    assert found.precision == pytest.approx(np.mean(precisions))
    assert found.best == pytest.approx(np.mean(bests))
    assert found.precision <= found.best + 1e-12
