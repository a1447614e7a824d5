"""A replayed view answers each request as a training set has it: at every moment, of rows that came late too."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.builders import START, view

from mizzen.data.features.definition import definition_of
from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.events import us_of
from mizzen.data.features.online import catalog
from mizzen.data.features.online.catalog import entry_of
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.replaying import Replay
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join

MINUTE_US = 60_000_000
VIEW = view(
    "spending",
    knownAt="known_at",
    columns=["amount"],
    aggregations=[
        {"name": "spent", "function": "sum", "column": "amount", "window": "1h"},
        {"name": "n", "function": "count", "window": "20m"},
        {"name": "quiet", "function": "time_since_last", "window": "1h"},
    ],
)
CARDS = ("a", "b")
ROWS = st.lists(
    st.tuples(st.sampled_from(CARDS), st.integers(0, 200), st.integers(0, 90), st.integers(-5, 5)),
    min_size=1, max_size=30,
)  # fmt: skip


def at(minutes: int) -> int:
    return us_of(START) + minutes * MINUTE_US


def times(minutes: list[int]) -> pa.Array:
    return pa.array([at(minute) for minute in minutes], pa.timestamp("us", "UTC"))


def events(rows: list[tuple[str, int, int, int]]) -> pa.Table:
    """Card, when it was paid, how many minutes later that was known, and how much."""
    return pa.table({
        "card": [row[0] for row in rows],
        "paid_at": times([row[1] for row in rows]),
        "known_at": times([row[1] + row[2] for row in rows]),
        "amount": pa.array([float(row[3]) for row in rows]),
    })  # fmt: skip


def filled_today(store: LmdbStore, rows: pa.Table) -> None:
    """As the controller leaves it: the view online long after everything happened."""
    entry = entry_of(VIEW, rows.schema, {})
    catalog.begin(store, "default", entry)
    OnlineWriter(store, entry.online_view()).push(rows, as_of_us=at(100_000))
    catalog.serve(store, "default", entry)


@given(ROWS, st.integers(0, 150))
@settings(max_examples=40, deadline=None)
def test_a_replay_is_what_a_training_set_has(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, int, int]], begins: int
) -> None:
    """Each quarter of an hour from some moment on, for each card: one that nobody has seen too."""
    source = events(rows)
    store = LmdbStore(tmp_path_factory.mktemp("online"), map_bytes=1 << 28, durable=False)
    filled_today(store, source)
    moments = list(range(begins, begins + 120, 15))
    spine = pa.table({"card": [*CARDS, "z"] * len(moments), "at": times(np.repeat(moments, 3).tolist())})
    expected = join(spine, [Use(definition_of(VIEW), InMemory(source))], Clocks("at")).drop_columns(["card", "at"])

    replay = Replay.of(store, "default", "spending", source)
    entry = catalog.served(store, "default", "spending")
    assert entry is not None
    reader = OnlineReader(store, entry.online_view(), lambda: at(100_000))
    brought = replay.begin(at(begins))
    found = []
    for moment in moments:
        brought += replay.bring(at(moment))
        found += [reader.one((card,), at(moment)) for card in (*CARDS, "z")]
    store.close()

    assert found == expected.to_pylist()
    assert brought == sum(row[1] + row[2] <= moments[-1] for row in rows)


def test_one_replay_begins_where_another_was(tmp_path: Path) -> None:
    """Nothing of the first is left, and no more generations than one."""
    source = events([("a", 0, 0, 1), ("a", 50, 0, 2)])
    store = LmdbStore(tmp_path, map_bytes=1 << 28, durable=False)
    filled_today(store, source)
    first = Replay.of(store, "default", "spending", source)
    assert (first.begin(at(10)), first.bring(at(55))) == (1, 1)
    second = Replay.of(store, "default", "spending", source)
    assert second.begin(at(20)) == 1
    entry = catalog.served(store, "default", "spending")
    assert entry is not None
    reader = OnlineReader(store, entry.online_view(), lambda: 0)
    assert reader.one(("a",), at(20))["spent"] == 1.0
    records = [key for key, _ in store.scan(b"r")]
    assert len(records) == 1


def test_a_view_that_is_not_online_cannot_be_replayed(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, map_bytes=1 << 28, durable=False)
    with pytest.raises(StoreUnavailable, match="FeatureView spending of namespace default: expected it in the online"):
        Replay.of(store, "default", "spending", events([("a", 0, 0, 1)]))
