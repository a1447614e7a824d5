"""The online store: the rule of the newest row, expiry to the microsecond, batches that are applied once, both stores."""

import datetime as dt
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.features.builders import START, at, defined, payments

from mizzen.data.features.errors import RequestUnfit, StoreUnavailable
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.redis_store import RedisStore
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter

US = dt.timedelta(microseconds=1)


def us(minutes: float) -> int:
    moment = at(minutes)
    assert moment is not None
    return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // US


class Online:
    """A view in a store, with minutes for times."""

    def __init__(self, store: OnlineStore, rows: pa.Table, **spec: Any) -> None:
        self.view = OnlineView(defined(**spec), rows.schema)
        self.writer = OnlineWriter(store, self.view)
        self.reader = OnlineReader(store, self.view, lambda: us(0))

    def push(self, rows: pa.Table, minutes: float, **more: Any) -> Any:
        return self.writer.push(rows, as_of_us=us(minutes), **more)

    def at(self, card: Any, minutes: float, after_us: int = 0) -> dict[str, Any]:
        return self.reader.one((card,), us(minutes) + after_us)


ROW = payments([("a", 0, 0.0)])


def test_the_newest_row_wins_in_any_order_of_batches(store: OnlineStore) -> None:
    """Greatest event time, then known-at: across batches and inside one."""
    rows = [("a", 5, 9, 1.0), ("a", 5, 6, 2.0), ("a", 4, 10, 3.0)]
    names = "card paid_at booked_at amount"
    for number, order in enumerate(itertools.permutations(rows)):
        for cut in range(3):
            spec = {"columns": ["amount"], "knownAt": "booked_at", "tags": {}, "where": f"{number} + {cut} >= 0"}
            online = Online(store, payments([rows[0]], names), **spec)
            for part in (order[:cut], order[cut:]):
                if part:
                    online.push(payments(list(part), names), 20)
            assert online.at("a", 20) == {"amount": 1.0}


def test_a_row_of_the_future_waits_for_its_time(store: OnlineStore) -> None:
    """It neither shows too early nor keeps the rows before it from being seen."""
    online = Online(store, ROW, columns=["amount"])
    online.push(payments([("a", 500, 9.0), ("a", 1, 1.0)]), 10)
    online.push(payments([("a", 2, 2.0)]), 11)
    assert [online.at("a", minutes)["amount"] for minutes in (11, 499, 500, 501)] == [2.0, 2.0, 9.0, 9.0]
    online.push(payments([("a", 502, 10.0)]), 503)
    assert online.at("a", 503) == {"amount": 10.0}


def test_values_change_at_the_very_microsecond(store: OnlineStore) -> None:
    """A window, one that hops, and ttl: each lets go of an event when it is out, though nothing new came in."""
    spec = {
        "columns": ["amount"],
        "ttl": "20m",
        "aggregations": [
            {"name": "slides", "function": "count", "window": "10m"},
            {"name": "hops", "function": "count", "window": "10m", "hop": "5m"},
            {"name": "ever", "function": "count"},
            {"name": "age", "function": "time_since_last"},
        ],
    }
    online = Online(store, ROW, **spec)
    online.push(payments([("a", 7, 1.0)]), 8)

    def seen(minutes: float, after_us: int) -> list[Any]:
        return [online.at("a", minutes, after_us)[name] for name in ("slides", "hops", "ever", "amount")]

    assert seen(17, -1) == [1, 1, 1, 1.0]
    assert seen(17, 0) == [0, 1, 1, 1.0]
    assert seen(20, -1) == [0, 1, 1, 1.0]
    assert seen(20, 0) == [0, 0, 1, 1.0]
    assert seen(27, -1) == [0, 0, 1, 1.0]
    assert seen(27, 0) == [0, 0, 1, None]
    assert online.at("a", 10)["age"] == 180.0
    assert online.at("a", 27, 500_000)["age"] == 1200.5


def test_a_named_batch_is_applied_once(store: OnlineStore) -> None:
    online = Online(store, ROW, aggregations=[{"name": "num", "function": "count"}])
    pushed = [online.push(payments([("a", 1, 1.0)]), 2, batch="first") for _ in range(3)]
    assert [p.again for p in pushed] == [False, True, True]
    online.push(payments([("a", 1, 1.0)]), 2, batch="second")
    assert online.at("a", 3) == {"num": 2}


def test_an_entity_nobody_has_seen_has_defaults(store: OnlineStore) -> None:
    spec = {
        "columns": [{"name": "amount", "default": -1.5}],
        "aggregations": [
            {"name": "num", "function": "count"},
            {"name": "mean", "function": "mean", "column": "amount"},
        ],
    }
    online = Online(store, ROW, **spec)
    online.push(payments([("a", 1, None)], amount=pa.float64()), 2)
    for card, count in (("a", 1), ("nobody", 0)):
        assert online.at(card, 3) == {"amount": -1.5, "num": count, "mean": None}
    vectors = online.reader.many([("a",), ("nobody",)], us(3))
    assert vectors.found == [True, False]
    matrix = vectors.matrix(["amount", "num", "mean"])
    assert np.array_equal(matrix, np.array([[-1.5, 1, np.nan], [-1.5, 0, np.nan]], dtype=np.float32), equal_nan=True)


def test_values_of_every_type_come_back(store: OnlineStore) -> None:
    """Text, bytes, times, dates, vectors and lists; and nulls of each."""
    columns = {
        "b": pa.array([True, None]),
        "i": pa.array([2**62, None]),
        "s": pa.array([-3, None], pa.int16()),
        "f": pa.array([0.1, None], pa.float32()),
        "t": pa.array(["é" * 300, None]),
        "raw": pa.array([b"\0\xff", None], pa.binary()),
        "when": pa.array([START, None], pa.timestamp("us", "UTC")),
        "day": pa.array([dt.date(2026, 1, 2), None]),
        "vec": pa.array([[1.0, 2.0, 3.0], None], pa.list_(pa.float32(), 3)),
        "many": pa.array([["x", "y"], None], pa.list_(pa.string())),
        "none": pa.array([[], None], pa.list_(pa.int64())),
    }
    rows = payments([("full", 1), ("empty", 1)], "card paid_at")
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    online = Online(store, rows, columns=list(columns))
    online.push(rows, 2)
    read = online.reader.many([("full",), ("empty",)], us(2)).to_arrow()
    for name, column in columns.items():
        assert read.column(name).to_pylist() == column.to_pylist(), name
    one = online.at("full", 2)
    assert {n: one[n] for n in ("b", "i", "s", "t", "raw", "vec", "many", "none")} == {
        n: columns[n][0].as_py() for n in ("b", "i", "s", "t", "raw", "vec", "many", "none")
    }
    assert one["when"] == us(0)
    assert online.at("empty", 2) == dict.fromkeys(columns)


def test_keys_of_every_kind(store: OnlineStore) -> None:
    """Several keys, long ones, and ones that look alike when put together."""
    names = "card shop paid_at amount"
    pairs = [("a", "bc"), ("ab", "c"), ("", "abc"), ("x" * 2000, "y"), ("x" * 2000, "z")]
    rows = payments([(card, shop, 1, float(n)) for n, (card, shop) in enumerate(pairs)], names)
    online = Online(store, rows, entities=["card", "shop"], columns=["amount"])
    online.push(rows, 2)
    read = online.reader.many([(card, shop) for card, shop in pairs], us(2)).to_arrow()
    assert read.column("amount").to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    with pytest.raises(RequestUnfit, match="expected the keys card, shop, found 1 values"):
        online.reader.one(("a",), us(2))


@pytest.mark.parametrize(("key", "found"), [("7", "'7'"), (1.5, "1.5"), (None, "None"), (True, "True")])
def test_a_key_of_another_type_is_refused(key: Any, found: str, lmdb_store: LmdbStore) -> None:
    rows = payments([(7, 1, 1.0)])
    online = Online(lmdb_store, rows, columns=["amount"])
    online.push(rows, 2)
    with pytest.raises(RequestUnfit, match=f"expected a key card of type int64, found {found}"):
        online.reader.one((key,), us(2))


def test_a_full_store_says_so_and_keeps_what_it_had(tmp_path: Any) -> None:
    store = LmdbStore(tmp_path / "small", map_bytes=1 << 16)
    online = Online(store, ROW, columns=["amount"])
    online.push(payments([("a", 1, 1.0)]), 2)
    many = payments([(f"card-{n}", 1, 1.0) for n in range(5000)])
    with pytest.raises(StoreUnavailable, match="online store .*small.*MAP_FULL"):
        online.push(many, 3, batch="large")
    assert online.at("a", 3) == {"amount": 1.0}
    assert online.at("card-0", 3) == {"amount": None}


def test_a_server_that_is_gone_is_told() -> None:
    store = RedisStore("redis://127.0.0.1:1/0", timeout_s=0.2)
    with pytest.raises(StoreUnavailable, match="online store 127.0.0.1"):
        store.get([b"x"])


def test_writers_at_once_lose_nothing(store: OnlineStore) -> None:
    """Many pushes to one entity from several threads: each event counts once."""
    from concurrent.futures import ThreadPoolExecutor

    online = Online(store, ROW, aggregations=[{"name": "num", "function": "count"}])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: online.push(payments([("a", n, 1.0)]), 100, batch=str(n)), range(40)))
    assert online.at("a", 100) == {"num": 40}


def test_what_is_kept_of_a_busy_entity_does_not_grow(store: OnlineStore) -> None:
    """Windows that hop and those without a length are tiles: a thousand events take no more than a hundred do."""
    aggregations = [
        {"name": "ever", "function": "sum", "column": "amount"},
        {"name": "hops", "function": "max", "column": "amount", "window": "1h", "hop": "10m"},
    ]
    online = Online(store, ROW, aggregations=aggregations)
    sizes = []
    for batch in range(10):
        first = batch * 100
        online.push(payments([("a", minute, float(minute)) for minute in range(first, first + 100)]), first + 100)
        ((_, record),) = store.scan(online.view.prefix("default", 0))
        sizes.append(len(record))
    assert max(sizes) <= 1.2 * sizes[0]
    assert online.at("a", 1000) == {"ever": sum(range(1000)), "hops": 999.0}


def test_what_moves_with_the_clock_moves(store: OnlineStore) -> None:
    """Ages and rates are of the moment that is asked; a default does not grow older."""
    spec = {
        "aggregations": [
            {"name": "age", "function": "time_since_last", "default": -1},
            {"name": "rate", "function": "rate", "window": "10m", "hop": "5m"},
        ]
    }
    online = Online(store, ROW, **spec)
    online.push(payments([("a", 7, 1.0), ("a", 8, 1.0)]), 8)
    for minutes, age, events, since in (
        (8, 0, 2, -5),
        (9.5, 90, 2, -5),
        (14, 360, 2, 0),
        (19.9, 714, 2, 5),
        (20, 720, 0, 10),
    ):
        expected = {"age": float(age), "rate": events / round((minutes - since) * 60)}
        assert online.at("a", minutes) == expected
        vectors = online.reader.many([("a",), ("b",)], us(minutes))
        assert vectors.to_arrow().to_pylist() == [expected, {"age": -1.0, "rate": 0.0}]
        assert vectors.matrix(["rate", "age"], np.float64).tolist() == [
            [expected["rate"], expected["age"]],
            [0.0, -1.0],
        ]
    assert online.at("b", 30) == {"age": -1, "rate": 0.0}


def test_a_forgotten_entity_is_gone_and_the_receipt_does_not_name_it(store: OnlineStore) -> None:
    online = Online(store, ROW, columns=["amount"])
    online.push(payments([("ada lovelace", 1, 1.0), ("b", 1, 2.0)]), 2)
    receipt = online.writer.forget(("ada lovelace",), us(3))
    assert (receipt.records, receipt.verified, receipt.when_us) == (1, True, us(3))
    assert receipt.bytes > 0
    assert "lovelace" not in repr(receipt)
    assert online.reader.many([("ada lovelace",), ("b",)], us(3)).found == [False, True]
    assert online.writer.forget(("ada lovelace",), us(4)).records == 0


def test_stores_open_by_url(tmp_path: Any, redis_url: str) -> None:
    for url in (f"lmdb://{tmp_path}/here", redis_url, redis_url.replace("redis://", "valkey://")):
        opened = open_store(url)
        assert opened.get([b"nothing"]) == [None]
        opened.close()
    for url in ("lmdb://host/path", "file:///x", "memcached://x"):
        with pytest.raises(ValueError, match="expected a URL such as lmdb:///"):
            open_store(url)
