"""Point-in-time joins: rows in, rows out; three clocks; labels; parts."""

import itertools
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.features.builders import at, defined, payments, times

from mizzen.data.features.definition import as_label
from mizzen.data.features.errors import RequestUnfit, RowsUnfit
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join, join_batches

AMOUNT = {"columns": ["amount"]}


def asked(rows: list[tuple[Any, Any]]) -> pa.Table:
    return pa.table({"card": [r[0] for r in rows], "asked_at": times([r[1] for r in rows])})


def joined(spec: dict[str, Any], events: pa.Table, spine: pa.Table, **clocks: Any) -> dict[str, list[Any]]:
    use = Use(defined(**spec), InMemory(events))
    return join(spine, [use], Clocks("asked_at", **clocks)).select(use.names()).to_pydict()


def test_each_row_gets_the_newest_event_before_it() -> None:
    """At the very moment of an event it is known; a microsecond before it is not."""
    events = payments([("a", 10, 1.0), ("a", 20, 2.0), ("b", 15, 3.0)])
    spine = asked([("a", 20), ("a", 19.999999), ("b", 14), ("a", 9), ("c", 99), ("b", 99)])
    assert joined(AMOUNT, events, spine) == {"amount": [2.0, 1.0, None, None, None, 3.0]}


def test_rows_stay_as_they_were_whatever_the_view_holds() -> None:
    """Equal rows, null keys and a hundred events at one moment: one out for each in, in order."""
    events = payments([("a", 10, float(n)) for n in range(100)])
    rows = [("a", 10), ("a", 10), (None, 10), ("a", 10)]
    assert joined(AMOUNT, events, asked(rows)) == {"amount": [99.0, 99.0, None, 99.0]}


def test_what_was_not_known_yet_is_not_used() -> None:
    """An event of minute 10 that became known at minute 30 is not seen at 20; asked with later knowledge, it is."""
    spec = {**AMOUNT, "knownAt": "booked_at", "aggregations": [{"name": "n", "function": "count"}]}
    events = payments([("a", 5, 6, 1.0), ("a", 10, 30, 2.0), ("a", 15, None, 3.0)], "card paid_at booked_at amount")
    spine = asked([("a", 20), ("a", 30)])
    assert joined(spec, events, spine) == {"amount": [1.0, 2.0], "n": [1, 2]}
    spine = spine.append_column("with_at", times([31, 1]))
    assert joined(spec, events, spine, known="with_at") == {"amount": [2.0, None], "n": [2, 0]}
    assert joined(spec, events, spine, everything=True)["n"] == [3, 3]


def test_of_two_at_one_time_the_later_known_counts() -> None:
    spec = {**AMOUNT, "knownAt": "booked_at"}
    rows = [("a", 5, 9, 1.0), ("a", 5, 6, 2.0), ("a", 4, 10, 3.0)]
    for order in itertools.permutations(rows):
        events = payments(list(order), "card paid_at booked_at amount")
        assert joined(spec, events, asked([("a", 20), ("a", 7)])) == {"amount": [1.0, 2.0]}


def test_what_is_taken_of_equal_times_does_not_hang_on_the_order() -> None:
    """Two rows alike in key and both times: the same one is taken whichever came first, all its columns together."""
    rows = [("a", 5, 1.0, "x"), ("a", 5, 2.0, "w"), ("a", 5, 2.0, "v")]
    answers = [
        joined({"columns": ["amount", "shop"]}, payments(list(o), "card paid_at amount shop"), asked([("a", 5)]))
        for o in itertools.permutations(rows)
    ]
    assert all(answer == answers[0] for answer in answers)
    assert ("a", 5, answers[0]["amount"][0], answers[0]["shop"][0]) in rows


def test_rows_older_than_ttl_are_gone() -> None:
    """The age of a row may be less than ttl, not equal to it; windows have lengths of their own."""
    spec = {**AMOUNT, "ttl": "10m", "aggregations": [{"name": "n", "function": "count"}]}
    events = payments([("a", 10, 1.0)])
    assert joined(spec, events, asked([("a", 19.9), ("a", 20), ("a", 21)])) == {
        "amount": [1.0, None, None],
        "n": [1, 1, 1],
    }


def test_defaults_fill_what_has_no_value() -> None:
    spec = {
        "columns": [{"name": "amount", "default": 0.5}],
        "aggregations": [{"name": "s", "function": "sum", "column": "amount", "window": "5m", "default": 0}],
    }
    assert joined(spec, payments([("a", 10, None)], amount=pa.float64()), asked([("a", 10), ("b", 10)])) == {
        "amount": [0.5, 0.5],
        "s": [0.0, 0.0],
    }


def test_expressions_filters_and_types() -> None:
    spec = {
        "where": "amount > 0",
        "columns": [
            {"name": "euros", "expression": "amount / 100", "type": "float32"},
            {"name": "shop", "expression": "upper(shop)"},
        ],
        "aggregations": [
            {"name": "big", "function": "count", "where": "amount > 500", "windows": ["10m", "1h"]},
            {"name": "mean_euros", "function": "mean", "expression": "amount / 100", "window": "1h"},
            {"name": "shops", "function": "last_k", "column": "shop", "k": 2},
        ],
    }
    events = payments(
        [("a", 1, 1000, "x"), ("a", 2, 100, "y"), ("a", 3, -5, "z"), ("a", 55, 600, "x")], "card paid_at amount shop"
    )
    assert joined(spec, events, asked([("a", 5), ("a", 60)])) == {
        "euros": [1.0, 6.0],
        "shop": ["Y", "X"],
        "big_10m": [1, 1],
        "big_1h": [1, 2],
        "mean_euros": [5.5, pytest.approx(17 / 3)],
        "shops": [["y", "x"], ["x", "y"]],
    }


def test_views_with_several_and_different_keys() -> None:
    """Each view finds its keys in the spine, under other names where it is told them."""
    by_pair = defined(
        "pair", entities=["card", {"name": "shop", "column": "place", "type": "int64"}], columns=["amount"]
    )
    by_shop = defined("shop", entities=["shop"], columns=["rank"], eventTime="ranked_at")
    pairs = payments([("a", 1, 1.0, 7), ("a", 2, 2.0, 8), ("b", 1, 3.0, 7)], "card paid_at amount place")
    shops = payments([(7, 0, 70), (8, 0, 80)], "shop ranked_at rank")
    spine = pa.table({"card": ["a", "a", "b", "b"], "terminal": [7, 8, 7, 8], "asked_at": times([5] * 4)})
    keys = {"shop": "terminal"}
    uses = [Use(by_pair, InMemory(pairs), keys=keys), Use(by_shop, InMemory(shops), keys=keys, prefix="shop_")]
    result = join(spine, uses, Clocks("asked_at"))
    assert result.column_names == ["card", "terminal", "asked_at", "amount", "shop_rank"]
    assert result.select(["amount", "shop_rank"]).to_pydict() == {
        "amount": [1.0, 2.0, 3.0, None],
        "shop_rank": [70, 80, 70, 80],
    }


def test_labels_look_ahead_and_may_not_be_known_yet() -> None:
    """'A chargeback within 30 minutes' is null, not false, while the 30 minutes are not over in the data."""
    spec = {
        "eventTime": "claimed_at",
        "aggregations": [
            {"name": "claimed", "function": "max", "expression": "true", "window": "30m", "default": False}
        ],
    }
    label = as_label(defined("claims", **spec))
    claims = payments([("a", 40), ("a", 100)], "card claimed_at")
    spine = asked([("a", 10), ("a", 40), ("a", 39), ("a", 70), ("a", 71), ("b", 10)])
    found = join(spine, [Use(label, InMemory(claims))], Clocks("asked_at")).column("claimed").to_pylist()
    assert found == [True, False, True, True, None, False]


def test_a_view_may_build_upon_another() -> None:
    """The used view's features are columns of the events, as of each event."""
    shops = defined("shop-risk", entities=["shop"], eventTime="seen_at", columns=["risk"])
    seen = payments([(7, 0, 0.1), (7, 10, 0.9)], "shop seen_at risk")
    spec = {
        "uses": ["shop-risk"],
        "aggregations": [{"name": "worst", "function": "max", "expression": '"shop-risk".risk', "window": "1h"}],
    }
    paid = payments([("a", 5, 1.0, 7), ("a", 12, 1.0, 7)], "card paid_at amount shop")
    use = Use(defined(**spec), InMemory(paid), others=(Use(shops, InMemory(seen)),))
    assert join(asked([("a", 11), ("a", 12)]), [use], Clocks("asked_at")).column("worst").to_pylist() == [0.1, 0.9]


@pytest.mark.parametrize("rows_in_memory", [50, 150, 1000])
def test_parts_give_the_same_bytes(rows_in_memory: int, tmp_path: Path) -> None:
    """However much fits into memory, the answer is the same, in the same order; nothing is left on the disk."""
    rng = random.Random(7)
    cards = [*"abcdefgh", "é", "", None]
    events = payments(
        [
            (rng.choice(cards), rng.randrange(500), rng.choice([None, rng.uniform(0, 9)]), rng.randrange(600))
            for _ in range(300)
        ],
        "card paid_at amount booked_at",
    )
    spec = {
        "knownAt": "booked_at",
        "columns": ["amount"],
        "aggregations": [
            {"name": "s", "function": "sum", "column": "amount", "windows": ["1h", "5h"]},
            {"name": "top", "function": "top_k", "column": "amount", "k": 2, "window": "2h"},
        ],
    }
    spine = asked([(rng.choice(cards), rng.randrange(700)) for _ in range(200)])
    use = Use(defined(**spec), InMemory(events))
    whole = join(spine, [use], Clocks("asked_at"))
    work = tmp_path / "work"
    pieces = list(join_batches(InMemory(spine), [use], Clocks("asked_at"), work=work, rows_in_memory=rows_in_memory))
    assert pa.concat_tables(pieces).equals(whole)
    assert not work.exists()


@pytest.mark.parametrize(
    ("spec", "events", "spine", "error", "message"),
    [
        ({}, payments([("a", None, 1.0)]), asked([("a", 1)]), RowsUnfit, "found none in 1 of 1 rows, first in row 0"),
        ({}, payments([(7, 1, 1.0)]), asked([("a", 1)]), RequestUnfit, "expected keys card of type int64, found string"),
        ({}, payments([(1.5, 1, 1.0)]), asked([("a", 1)]), RowsUnfit, "a key of whole numbers or text, found double"),
        ({"aggregations": [{"name": "s", "function": "sum", "column": "amount"}]}, payments([("a", 1, 2**63)], amount=pa.uint64()), asked([("a", 1)]), RowsUnfit, "expected whole numbers that fit int64, found uint64"),
        ({}, payments([(2**63, 1, 1.0)], card=pa.uint64()), asked([("a", 1)]), RowsUnfit, "expected keys that fit int64, found uint64"),
        ({"columns": ["gone"]}, payments([("a", 1, 1.0)]), asked([("a", 1)]), RowsUnfit, "expected the columns gone in its source"),
        ({}, payments([("a", 1, 1.0)]), asked([("a", 1)]).rename_columns(["who", "asked_at"]), RequestUnfit, "expected the columns card in the spine"),
        ({}, payments([("a", 1, 1.0)]), asked([("a", 1)]).append_column("amount", pa.array([1])), RequestUnfit, "give a prefix"),
        ({"columns": [{"name": "x", "expression": "amount + nope"}]}, payments([("a", 1, 1.0)]), asked([("a", 1)]), RowsUnfit, "expected the columns nope"),
        ({"columns": [{"name": "amount", "type": "int8"}]}, payments([("a", 1, 1.5)]), asked([("a", 1)]), RowsUnfit, "expected values of type int8"),
        ({"columns": [{"name": "x", "expression": "amount::INT + shop::INT"}]}, payments([("a", 1, 1.0, "s")], "card paid_at amount shop"), asked([("a", 1)]), RowsUnfit, "Could not convert string 's'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(
    spec: dict[str, Any], events: pa.Table, spine: pa.Table, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        joined({**AMOUNT, **spec}, events, spine)


def test_a_time_without_a_zone_is_refused_until_one_is_stated() -> None:
    """Stated, the zone's own rules hold: 10:00 in Paris in winter is 09:00 UTC."""
    events = payments([("a", 9 * 60, 1.0)])
    local = pa.array([at(10 * 60).replace(tzinfo=None)], pa.timestamp("us"))  # type: ignore[union-attr]
    events = events.set_column(1, "paid_at", local)
    with pytest.raises(RowsUnfit, match="expected times with a zone in paid_at.*timeZone"):
        joined(AMOUNT, events, asked([("a", 600)]))
    spec = {**AMOUNT, "timeZone": "Europe/Paris"}
    assert joined(spec, events, asked([("a", 9 * 60), ("a", 9 * 60 - 1)])) == {"amount": [1.0, None]}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_unit_of_times_does_not_matter(unit: str) -> None:
    events = payments([("a", 10, 1.0), ("a", 11, 2.0)])
    events = events.set_column(1, "paid_at", events.column("paid_at").cast(pa.timestamp(unit, "UTC")))
    assert joined(AMOUNT, events, asked([("a", 10), ("a", 11)])) == {"amount": [1.0, 2.0]}


def test_empty_tables_join() -> None:
    events = payments([], card=pa.string(), amount=pa.float64())
    assert joined(AMOUNT, events, asked([("a", 1)])) == {"amount": [None]}
    empty = asked([("a", 1)]).slice(1)
    assert joined(AMOUNT, payments([("a", 1, 1.0)]), empty) == {"amount": []}
