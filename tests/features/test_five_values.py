"""The example that others get wrong: 10, 2, 3, 8, 5, one a minute; what was the greatest of the last two minutes?

Feast's tiled windows answer 10, 12, 15, 23, 28. It is 10, 10, 3, 8, 8: in backfill, after pushes in any order, and
online; with tiles and without, whatever the unit of the times.
"""

import itertools
from typing import Any

import pyarrow as pa
import pytest
from tests.features.builders import defined, payments, times
from tests.features.test_online import us

from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join

VALUES = [10.0, 2.0, 3.0, 8.0, 5.0]
GREATEST = [10.0, 10.0, 3.0, 8.0, 8.0]
DEVIATION = [None, 5.657, 0.707, 3.536, 2.121]
SPEC: dict[str, Any] = {
    "aggregations": [
        {"name": name, "function": function, "column": "amount", "window": "2m", **hop}
        for name, function, hop in (
            ("max", "max", {}), ("max_tiled", "max", {"hop": "1m"}), ("std", "std", {}), ("std_tiled", "std", {"hop": "1m"}),
        )
    ]
}  # fmt: skip
ROWS = payments([("a", minute, value) for minute, value in enumerate(VALUES)])


def expect_right(found: dict[str, list[Any]]) -> None:
    assert found["max"] == found["max_tiled"] == GREATEST
    for name in ("std", "std_tiled"):
        assert [None if value is None else round(value, 3) for value in found[name]] == DEVIATION


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_in_backfill_whatever_the_unit_of_time(unit: str) -> None:
    rows = ROWS.set_column(1, "paid_at", ROWS.column("paid_at").cast(pa.timestamp(unit, "UTC")))
    spine = pa.table({"card": ["a"] * 5, "asked_at": times([0, 1, 2, 3, 4])})
    joined = join(spine, [Use(defined(**SPEC), InMemory(rows))], Clocks("asked_at"))
    expect_right(joined.to_pydict())


def test_online_after_pushes_in_any_order(lmdb_store: LmdbStore) -> None:
    """All 120 orders, each value in a push of its own, at moments between which tiles are closed."""
    view = OnlineView(defined(**SPEC), ROWS.schema)
    for number, order in enumerate(itertools.permutations(range(5))):
        writer = OnlineWriter(lmdb_store, view, namespace=f"n{number}")
        for turn, row in enumerate(order):
            writer.push(ROWS.slice(row, 1), as_of_us=us(turn))
        reader = OnlineReader(lmdb_store, view, lambda: 0, namespace=f"n{number}")
        assert [reader.one(("a",), us(minute))["max"] for minute in (4,)] == GREATEST[4:]
        assert reader.one(("a",), us(4))["max_tiled"] == 8.0


def test_online_as_the_values_come(lmdb_store: LmdbStore) -> None:
    view = OnlineView(defined(**SPEC), ROWS.schema)
    writer, reader = OnlineWriter(lmdb_store, view), OnlineReader(lmdb_store, view, lambda: 0)
    found: dict[str, list[Any]] = {name: [] for name in view.layout.names}
    for minute in range(5):
        writer.push(ROWS.slice(minute, 1), as_of_us=us(minute))
        for name, value in reader.one(("a",), us(minute)).items():
            found[name].append(value)
    expect_right(found)
