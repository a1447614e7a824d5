"""Materialisation: increments, replaced sources, and what a kill at any point leaves."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
import redis
from tests.features.builders import defined, payments, times
from tests.features.stores import redis_server
from tests.features.test_online import us

from mizzen.data.features.errors import RowsUnfit, StoreUnavailable
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.materialise import entities_online, materialise
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.redis_store import RedisStore
from mizzen.data.features.online.store import Changes, OnlineStore
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import Part, PartWriter
from mizzen.data.lake.rows import as_stored, storable_schema
from mizzen.data.lake.tables import Table, TableVersion

SPEC = {
    "columns": ["amount"],
    "aggregations": [
        {"name": "num", "function": "count"},
        {"name": "total", "function": "sum", "column": "amount", "windows": ["1h", "5h"]},
        {"name": "hour", "function": "count", "window": "1h", "hop": "10m"},
    ],
}
NOW = 700.0


def rows_of(seed: int, count: int) -> pa.Table:
    rng = random.Random(seed)
    return payments(
        [(f"card-{rng.randrange(20)}", rng.randrange(600), float(rng.randrange(100))) for _ in range(count)]
    )


def parts_of(folder: Path, tables: Sequence[pa.Table]) -> tuple[list[Part], pa.Schema]:
    """A file for each table."""
    schema = storable_schema(tables[0].schema)
    parts: list[Part] = []
    for number, rows in enumerate(tables):
        writer = PartWriter(folder / str(number), schema)
        writer.write(as_stored(rows, schema))
        parts += writer.close()
    return parts, schema


def committed(lake: Store, folder: Path, tables: Sequence[pa.Table], run: str) -> TableVersion:
    parts, schema = parts_of(folder / run, tables)
    return Table(lake, "default", "payments").commit(parts, schema, run)


@pytest.fixture
def lake(tmp_path: Path) -> Store:
    return Store.open((tmp_path / "store").as_uri())


def writer_to(store: OnlineStore, rows: pa.Table) -> OnlineWriter:
    return OnlineWriter(store, OnlineView(defined(**SPEC), storable_schema(rows.schema)))


def expect_online(store: OnlineStore, rows: pa.Table) -> None:
    """What is online is what a join as of now gives."""
    view = OnlineView(defined(**SPEC), storable_schema(rows.schema))
    cards = [f"card-{n}" for n in range(21)]
    spine = pa.table({"card": cards, "asked_at": times([NOW] * len(cards))})
    offline = join(spine, [Use(view.definition, InMemory(rows))], Clocks("asked_at")).select(view.definition.stored)
    online = OnlineReader(store, view, lambda: us(NOW)).many([(card,) for card in cards]).to_arrow()
    assert online.to_pydict() == offline.to_pydict()


def test_a_version_comes_online_and_comes_once(store: OnlineStore, lake: Store, tmp_path: Path) -> None:
    rows = [rows_of(1, 300), rows_of(2, 200)]
    version = committed(lake, tmp_path, rows, "r1")
    writer = writer_to(store, rows[0])
    done = materialise(writer, version, lambda: us(NOW), step_rows=70)
    assert (done.rows, done.files, done.generation) == (500, 2, 0)
    expect_online(store, pa.concat_tables(rows))
    again = materialise(writer, version, lambda: us(NOW))
    assert (again.rows, again.files) == (0, 0)
    assert entities_online(writer) == 20


def test_a_replaced_source_is_read_beside_the_one_that_is_served(
    store: OnlineStore, lake: Store, tmp_path: Path
) -> None:
    """Readers see the old content until the new is complete, then only the new; the old records go."""
    old, new = rows_of(1, 300), [rows_of(3, 100), rows_of(4, 100)]
    writer = writer_to(store, old)
    materialise(writer, committed(lake, tmp_path, [old], "r1"), lambda: us(NOW))
    seen = []

    def look(_: object) -> None:
        expect_online(store, old)
        seen.append(entities_online(writer))

    done = materialise(writer, committed(lake, tmp_path, new, "r2"), lambda: us(NOW), step_rows=60, stepped=look)
    assert (done.rows, done.generation, len(seen)) == (200, 1, 4)
    expect_online(store, pa.concat_tables(new))
    assert not list(store.scan(writer.view.prefix("default", 0)))


def test_a_push_while_a_replaced_source_is_read_is_in_both(store: OnlineStore, lake: Store, tmp_path: Path) -> None:
    """Seen at once in the old content, and still there when the new is served."""
    old, new = rows_of(1, 100), rows_of(3, 100)
    pushed = payments([("card-1", 650, 7.0)])
    writer = writer_to(store, old)
    materialise(writer, committed(lake, tmp_path, [old], "r1"), lambda: us(NOW))

    def push(_: object) -> None:
        writer.push(pushed, as_of_us=us(NOW), batch="once")
        expect_online(store, pa.concat_tables([old, pushed]))

    materialise(writer, committed(lake, tmp_path, [new], "r2"), lambda: us(NOW), step_rows=40, stepped=push)
    expect_online(store, pa.concat_tables([new, pushed]))


def test_a_column_that_disappears_is_told_and_the_last_good_version_stays(
    store: OnlineStore, lake: Store, tmp_path: Path
) -> None:
    good = rows_of(1, 100)
    writer = writer_to(store, good)
    materialise(writer, committed(lake, tmp_path, [good], "r1"), lambda: us(NOW))
    bad = committed(lake, tmp_path, [good.rename_columns(["card", "paid_at", "price"])], "r2")
    with pytest.raises(RowsUnfit, match="expected the columns amount in its source, found card, paid_at, price"):
        materialise(writer, bad, lambda: us(NOW))
    expect_online(store, good)


class Failing:
    """A store that fails at its n-th transaction, before or after what it does."""

    def __init__(self, inner: OnlineStore, fails_at: int, *, after: bool) -> None:
        self._inner, self._left, self._after = inner, fails_at, after

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._inner.get(keys)

    def write(
        self, keys: Sequence[bytes], place: bytes, change: Callable[[bytes | None, list[bytes | None]], Changes]
    ) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise StoreUnavailable("gone")
        self._inner.write(keys, place, change)
        if self._left == 0:
            raise StoreUnavailable("gone")

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._inner.scan(prefix)

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize("after", [False, True])
def test_a_failure_anywhere_loses_nothing_and_counts_nothing_twice(
    after: bool, lmdb_store: LmdbStore, lake: Store, tmp_path: Path
) -> None:
    """Told of a failure at each transaction in turn, done or not done, the next try goes on."""
    rows = [rows_of(1, 120), rows_of(2, 80)]
    version = committed(lake, tmp_path, rows, "r1")
    failures = 0
    for fails_at in range(1, 9):
        writer = writer_to(Failing(lmdb_store, fails_at, after=after), rows[0])
        try:
            materialise(writer, version, lambda: us(NOW), step_rows=40)
        except StoreUnavailable:
            failures += 1
    materialise(writer_to(lmdb_store, rows[0]), version, lambda: us(NOW), step_rows=40)
    assert failures > 2
    expect_online(lmdb_store, pa.concat_tables(rows))


@pytest.mark.slow
def test_a_killed_materialisation_goes_on_where_it_was(lake: Store, tmp_path: Path) -> None:
    """kill -9 at random steps, until one comes through: each row counts once."""
    rng = random.Random(5)
    rows = [rows_of(seed, 400) for seed in range(4)]
    version = committed(lake, tmp_path, rows, "r1")
    folder = tmp_path / "online"
    script = Path(__file__).parent / "materialising.py"
    kills = 0
    while True:
        command = [sys.executable, str(script), lake.url, str(folder), str(version.version)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            left = rng.randrange(1, 8)
            for _ in process.stdout:
                left -= 1
                if left == 0:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills > 3
    store = LmdbStore(folder)
    expect_online(store, pa.concat_tables(rows))
    store.close()


def test_a_server_that_comes_back_empty_is_told_and_filled_again(lake: Store, tmp_path: Path) -> None:
    rows = rows_of(1, 100)
    version = committed(lake, tmp_path, [rows], "r1")
    with redis_server(tmp_path) as url:
        store = RedisStore(url)
        writer = writer_to(store, rows)
        reader = OnlineReader(store, writer.view, lambda: us(NOW))
        materialise(writer, version, lambda: us(NOW))
        before = reader.one(("card-1",))
        with redis.Redis.from_url(url) as client:
            client.flushall()
        with pytest.raises(StoreUnavailable, match="the online store is empty now"):
            reader.one(("card-1",))
        assert materialise(writer, version, lambda: us(NOW)).rows == 100
        assert reader.one(("card-1",)) == before
        store.close()
