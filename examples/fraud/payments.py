"""Card payments of a world of customers and terminals, with fraud of three kinds in it, and what the bank learns later.

The world is the one of the simulator in "Reproducible machine learning for credit card fraud detection" (Le Borgne,
Siblini, Lebichot and Bontempi, ULB 2022, chapter 3.2); the code is our own, and works on whole days. Customers and
terminals lie on a square of 100 x 100; a customer pays at terminals within `RADIUS`, so many times a day (Poisson) and
so much each time (normal) as is usual for him, mostly around noon. Then there is fraud:

* `LARGE`: every payment above 220;
* `TERMINAL`: each day some terminals are broken into, and for 28 days every payment there is a fraud;
* `CARD`: each day some cards are copied, and for 14 days a third of their payments are frauds of five times the amount.

Two things are added, since they are what makes it hard to do right. Payments are booked minute by minute, so that one
is never part of what is known when it is asked about. And its verdict, fraud or not, comes days later (three to eleven)
with a nightly file: what is known of a terminal today is what it did last week.

Each day hangs on the seed and its number alone: `day(world, 40)` is the same whatever was made before it, so that days
stream in order, from any of them on, and no more than one is ever held.

`history` and `verdicts` are the sources of the datasets: the first `HISTORY_DAYS`, as a bank has them on the evening of
the last. What comes after is for `live.py`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

HISTORY_DAYS, LIVE_DAYS = 90, 7
DAY_S = 86_400
DAY_US, MINUTE_US = DAY_S * 1_000_000, 60_000_000
RADIUS = 5.0
LARGE_AMOUNT = 220.0
TERMINAL_DAYS, CARD_DAYS = 28, 14
CARD_SHARE, CARD_FACTOR = 1 / 3, 5.0
VERDICT_DAYS = (3, 11)
HONEST, LARGE, TERMINAL, CARD = range(4)
PAYMENT_COLUMNS = ("payment", "customer", "terminal", "amount", "paid_at", "booked_at")
VERDICT_COLUMNS = ("payment", "customer", "terminal", "paid_at", "known_at", "fraud")

_PEOPLE, _PAYMENTS, _TERMINALS, _CARDS = range(4)
"""What is drawn, so that one draw does not hang on how many numbers another took."""


@dataclass(frozen=True)
class World:
    """How large the world is; by default the book's."""

    customers: int = 5_000
    terminals: int = 10_000
    terminals_broken_into: int = 2
    """Each day."""
    cards_copied: int = 3
    """Each day."""
    begins: np.datetime64 = np.datetime64("2026-01-01")
    seed: int = 7

    @property
    def begins_us(self) -> int:
        """Midnight of day 0, in microseconds since 1970."""
        return int(self.begins.astype("datetime64[us]").astype(np.int64))

    @classmethod
    def of_environment(cls) -> "World":
        """The book's; smaller by `FRAUD_SCALE` (0.1: a tenth) where that is set, for a quick look."""
        scale = float(os.environ.get("FRAUD_SCALE", "1"))
        return cls(customers=round(cls.customers * scale), terminals=round(cls.terminals * scale))


@dataclass(frozen=True)
class Customers:
    """What is usual for each, and the terminals in reach: those of customer c are `near[first[c] : first[c + 1]]`."""

    amount: NDArray[np.float64]
    payments_a_day: NDArray[np.float64]
    near: NDArray[np.int64]
    first: NDArray[np.int64]


@cache
def customers_of(world: World) -> Customers:
    """The customers of a world."""
    random = np.random.default_rng((world.seed, _PEOPLE))
    homes, places = (random.uniform(0, 100, (count, 2)) for count in (world.customers, world.terminals))
    amount = random.uniform(5, 100, world.customers)
    payments_a_day = random.uniform(0, 4, world.customers)
    near = [np.flatnonzero(((places - home) ** 2).sum(axis=1) < RADIUS**2) for home in homes]
    counts = np.array([len(found) for found in near])
    payments_a_day[counts == 0] = 0.0
    return Customers(amount, payments_a_day, np.concatenate(near), np.concatenate(([0], np.cumsum(counts))))


def day(world: World, number: int) -> pa.Table:
    """Everything about the payments of one day, in the order in which they were made.

    Columns: those of payments and verdicts, and `scenario`, which nobody in the world ever learns.
    """
    people = customers_of(world)
    random = np.random.default_rng((world.seed, _PAYMENTS, number))
    customer = np.repeat(np.arange(world.customers), random.poisson(people.payments_a_day))
    second = random.normal(DAY_S / 2, 20_000, len(customer))
    usual = people.amount[customer]
    amount = random.normal(usual, usual / 2)
    amount = np.round(np.where(amount < 0, random.uniform(0, 2 * usual), amount), 2)
    reach = people.first[customer + 1] - people.first[customer]
    terminal = people.near[people.first[customer] + (random.random(len(customer)) * reach).astype(np.int64)]
    taken = random.random(len(customer)) < CARD_SHARE
    known_after_us = random.uniform(VERDICT_DAYS[0] * DAY_US, VERDICT_DAYS[1] * DAY_US, len(customer)).astype(np.int64)

    scenario = np.where(amount > LARGE_AMOUNT, LARGE, HONEST)
    broken = drawn_lately(world, _TERMINALS, number, world.terminals, world.terminals_broken_into, TERMINAL_DAYS)
    scenario[np.isin(terminal, broken)] = TERMINAL
    copied = drawn_lately(world, _CARDS, number, world.customers, world.cards_copied, CARD_DAYS)
    by_thief = taken & np.isin(customer, copied)
    scenario[by_thief] = CARD
    amount[by_thief] = np.round(amount[by_thief] * CARD_FACTOR, 2)

    order = np.flatnonzero((second > 0) & (second < DAY_S))
    order = order[np.argsort(second[order], kind="stable")]
    paid_us = world.begins_us + number * DAY_US + (second[order] * 1_000_000).astype(np.int64)
    return pa.table({
        "payment": number * 1_000_000 + np.arange(len(order)),
        "customer": customer[order],
        "terminal": terminal[order],
        "amount": amount[order],
        "paid_at": _times(paid_us),
        "booked_at": _times(_next(paid_us, MINUTE_US)),
        "known_at": _times(_next(paid_us + known_after_us[order], DAY_US)),
        "fraud": (scenario[order] != HONEST).astype(np.int64),
        "scenario": scenario[order],
    })  # fmt: skip


def days(world: World, first: int, until: int) -> pa.Table:
    """The days from `first` to the one before `until`, as one table."""
    return pa.concat_tables([day(world, number) for number in range(first, until)]).combine_chunks()


def history() -> Iterator[pa.Table]:
    """Source of the dataset `payments`."""
    world = World.of_environment()
    for number in range(HISTORY_DAYS):
        yield day(world, number).select(PAYMENT_COLUMNS)


def verdicts() -> Iterator[pa.Table]:
    """Source of the dataset `verdicts`: those that have come."""
    world = World.of_environment()
    now_us = world.begins_us + HISTORY_DAYS * DAY_US
    for number in range(HISTORY_DAYS):
        rows = day(world, number).select(VERDICT_COLUMNS)
        yield rows.filter(pa.array(us_of(rows, "known_at") <= now_us))


def drawn_lately(world: World, what: int, number: int, of: int, each_day: int, lasting: int) -> NDArray[np.int64]:
    """Those that were drawn on the day or on one of the `lasting - 1` days before."""
    drawn = [
        np.random.default_rng((world.seed, what, earlier)).choice(of, each_day, replace=False)
        for earlier in range(max(0, number - lasting + 1), number + 1)
    ]
    return np.unique(np.concatenate(drawn))


def us_of(rows: pa.Table, column: str) -> NDArray[np.int64]:
    """A column of times in microseconds since 1970."""
    found: NDArray[np.int64] = rows.column(column).cast(pa.int64()).to_numpy()
    return found


def _next(us: NDArray[np.int64], step_us: int) -> NDArray[np.int64]:
    return (us // step_us + 1) * step_us


def _times(us: NDArray[np.int64]) -> pa.Array:
    return pa.array(us, pa.timestamp("us", "UTC"))
