"""Features beside Feast: point-in-time joins, materialisation, online reads.

Feast runs in the same run on the same files, in an environment of its own at `.peers/feast` (`python -m venv
.peers/feast && .peers/feast/bin/pip install "feast[duckdb,redis]"`); where there is none, its rows are left out. The
events are 1 M rows of 50 float features for 10 k entities, the spine 100 k rows; the answers of both joins are compared.
"""

import json
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

import mizzen
from mizzen.data.features.definition import Definition, definition_of
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.materialise import materialise
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join, join_batches
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.rows import as_stored, storable_schema
from mizzen.data.lake.tables import Table
from mizzen.kinds import FeatureView

PEER = Path(__file__).parents[1] / ".peers" / "feast" / "bin" / "python"
EVENTS, ASKED, ENTITIES, FEATURES = 1_000_000, 100_000, 10_000, 50
SECONDS = 3.0
DAY_US = 86_400_000_000
FIRST_US = 1_767_225_600_000_000
"""2026-01-01."""
NOW_US = FIRST_US + 31 * DAY_US
LARGE = 100_000_000
TIME = pa.timestamp("us", "UTC")

Row = dict[str, Any]


def run() -> list[Row]:
    """The rows."""
    with tempfile.TemporaryDirectory(prefix="mzb-") as folder:
        work = Path(folder)
        events, spine = _events(FEATURES, EVENTS), _spine()
        pq.write_table(events, work / "events.parquet")
        pq.write_table(spine, work / "spine.parquet")
        rows = [*_joins(work), *_online(work, events, spine)]
        if PEER.exists():
            rows += _feast(work)
        rows += _redis(work)
    return [*rows, *_wide(), _large()]


def _row(what: str, value: float, unit: str, conditions: str, system: str = "mizzen", version: str = "") -> Row:
    version = version or mizzen.__version__
    return {"system": system, "version": version, "what": what, "unit": unit, "value": value, "conditions": conditions}


def _events(features: int, rows: int, after_days: int = 0) -> pa.Table:
    rng = np.random.default_rng(1 + after_days)
    first_us = FIRST_US + after_days * DAY_US
    times = np.sort(rng.integers(first_us, first_us + (1 if after_days else 30) * DAY_US, rows))
    columns = {f"f{n}": rng.normal(size=rows) for n in range(features)}
    return pa.table({"key": rng.integers(0, ENTITIES, rows), "at": pa.array(times, TIME), **columns})


def _spine() -> pa.Table:
    rng = np.random.default_rng(2)
    times = rng.integers(FIRST_US, FIRST_US + 30 * DAY_US, ASKED)
    return pa.table({"key": rng.integers(0, ENTITIES, ASKED), "event_timestamp": pa.array(times, TIME)})


def _definition(**spec: Any) -> Definition:
    whole = {"entities": ["key"], "source": {"dataset": "events"}, "eventTime": "at", **spec}
    return definition_of(
        FeatureView.model_validate({"kind": "FeatureView", "metadata": {"name": "view"}, "spec": whole})
    )


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


JOIN = "point-in-time join"
JOIN_SIZE = f"{ASKED:,} rows with {EVENTS:,} events of {FEATURES} features"


def _joins(work: Path) -> list[Row]:
    """From Parquet files to a table in memory, as Feast does it; the answer is kept for the comparison."""
    use = _definition(columns=[f"f{n}" for n in range(FEATURES)])
    results: list[pa.Table] = []

    def ours() -> None:
        source = InMemory(pq.read_table(work / "events.parquet"))
        results[:] = [join(pq.read_table(work / "spine.parquet"), [Use(use, source)], Clocks("event_timestamp"))]

    seconds = min(_timed(ours) for _ in range(3))
    pq.write_table(results[0], work / "mizzen.parquet")
    columns = ", ".join(f"e.f{n}" for n in range(FEATURES))
    sql = (
        f"SELECT s.*, {columns} FROM read_parquet('{work}/spine.parquet') s ASOF LEFT JOIN "
        f"read_parquet('{work}/events.parquet') e ON s.key = e.key AND s.event_timestamp >= e.\"at\""
    )
    by_hand = min(_timed(lambda: duckdb.connect().sql(sql).to_arrow_table()) for _ in range(3))
    return [
        _row(JOIN, seconds, "s", f"{JOIN_SIZE}; best of 3"),
        _row(JOIN, by_hand, "s", f"{JOIN_SIZE}; ASOF JOIN by hand, best of 3", "duckdb", duckdb.__version__),
    ]


def _online(work: Path, events: pa.Table, spine: pa.Table) -> list[Row]:
    store = Store.open((work / "lake").as_uri())
    schema = storable_schema(events.schema)
    writer = PartWriter(work / "spool", schema)
    writer.write(as_stored(events, schema))
    version = Table(store, "default", "events").commit(writer.close(), schema, "bench")
    view = OnlineView(_definition(columns=[f"f{n}" for n in range(FEATURES)]), schema)
    online = LmdbStore(work / "online")
    into = OnlineWriter(online, view)
    filled = _timed(lambda: materialise(into, version, lambda: NOW_US))
    rows = [_row("materialise", filled, "s", f"{EVENTS:,} rows to {ENTITIES:,} entities, durable")]
    rows += _reads(OnlineReader(online, view, lambda: NOW_US), spine.column("key").to_pylist(), FEATURES, (1, 100))
    taken = []
    for day in range(31, 36):
        latest = _events(FEATURES, 10_000, day)
        taken.append(_timed(lambda: into.push(latest, as_of_us=NOW_US + 9 * DAY_US)))  # noqa: B023 - called at once
    pushed = min(taken)
    rows.append(_row("push of 10 k rows, visible", pushed * 1e3, "ms", "50 features, durable; best of 5"))
    online.close()
    return rows


def _reads(reader: OnlineReader, keys: list[int], features: int, sizes: tuple[int, ...], store: str = "") -> list[Row]:
    rows = []
    for size in sizes:
        taken, at = [], 0
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end:
            wanted = [(keys[(at + n) % len(keys)],) for n in range(size)]
            began = time.perf_counter_ns()
            if size == 1:
                reader.one(wanted[0], NOW_US)
            else:
                reader.many(wanted, NOW_US).to_pydict()
            taken.append((time.perf_counter_ns() - began) / 1e3)
            at += size
        for quantile in (50, 99):
            what = f"online read, {store}{size} x {features}: p{quantile}"
            value = float(np.percentile(taken, quantile))
            rows.append(_row(what, value, "us", f"in process, as Python values; {len(taken):,} reads"))
    return rows


def _wide() -> list[Row]:
    events = _events(250, ENTITIES)
    with tempfile.TemporaryDirectory(prefix="mzb-") as folder:
        view = OnlineView(_definition(columns=[f"f{n}" for n in range(250)]), events.schema)
        store = LmdbStore(Path(folder), durable=False)
        OnlineWriter(store, view).push(events, as_of_us=NOW_US)
        rows = _reads(OnlineReader(store, view, lambda: NOW_US), list(range(ENTITIES)), 250, (1,))
        store.close()
    return rows


def _feast(work: Path) -> list[Row]:
    """Feast's rows, and how many rows of its join are the same as ours."""
    said = _peer(work)
    version = said["version"]
    same = _same_rows(pq.read_table(work / "mizzen.parquet"), pq.read_table(work / "feast.parquet"))
    rows = [
        _row(JOIN, said["join_s"], "s", f"{JOIN_SIZE}; DuckDB store", "feast", version),
        _row("rows of the join that are as Feast's", same, "share", "all 50 features equal"),
        _row(
            "materialise",
            said["materialise_s"],
            "s",
            f"{EVENTS:,} rows to {ENTITIES:,} entities, SQLite",
            "feast",
            version,
        ),
    ]
    for size in (1, 100):
        for quantile in ("p50", "p99"):
            what = f"online read, {size} x {FEATURES}: {quantile}"
            rows.append(_row(what, said[f"read_{size}"][quantile], "us", "SQLite, in process", "feast", version))
    return rows


def _redis(work: Path) -> list[Row]:
    """The same in a Redis server of this run, beside Feast in it; none where no server is installed."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        return []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(work)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        with redis.Redis(port=port, retry=Retry(ConstantBackoff(0.05), 200)) as client:
            client.ping()
        rows = _our_redis(work, url)
        return [*rows, *_feasts_redis(work, f"127.0.0.1:{port}")] if PEER.exists() else rows
    finally:
        process.terminate()
        process.wait()


def _our_redis(work: Path, url: str) -> list[Row]:
    version = Table(Store.open((work / "lake").as_uri()), "default", "events").at()
    view = OnlineView(_definition(columns=[f"f{n}" for n in range(FEATURES)]), version.schema)
    online = open_store(url)
    filled = _timed(lambda: materialise(OnlineWriter(online, view), version, lambda: NOW_US))
    keys = pq.read_table(work / "spine.parquet").column("key").to_pylist()
    reader = OnlineReader(online, view, lambda: NOW_US)
    rows = [_row("materialise, Redis", filled, "s", f"{EVENTS:,} rows to {ENTITIES:,} entities")]
    rows += _reads(reader, keys, FEATURES, (1, 100), "Redis, ")
    online.close()
    return rows


def _feasts_redis(work: Path, address: str) -> list[Row]:
    said = _peer(work, address)
    size = f"{EVENTS:,} rows to {ENTITIES:,} entities"
    rows = [_row("materialise, Redis", said["materialise_s"], "s", size, "feast", said["version"])]
    for count in (1, 100):
        for quantile in ("p50", "p99"):
            what = f"online read, Redis, {count} x {FEATURES}: {quantile}"
            rows.append(_row(what, said[f"read_{count}"][quantile], "us", "in process", "feast", said["version"]))
    return rows


def _peer(work: Path, *more: str) -> dict[str, Any]:
    """What Feast says of itself."""
    done = subprocess.run(
        [str(PEER), str(Path(__file__).parent / "feast_peer.py"), str(work), str(FEATURES), *more],
        capture_output=True, text=True, check=False, timeout=1200, cwd=work,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"Feast failed: {done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def _same_rows(ours: pa.Table, theirs: pa.Table) -> float:
    names = ["key", "event_timestamp", *(f"f{n}" for n in range(FEATURES))]
    theirs = theirs.select(names).set_column(1, "event_timestamp", theirs.column("event_timestamp").cast(TIME))
    order = [("key", "ascending"), ("event_timestamp", "ascending")]
    a, b = ours.select(names).sort_by(order).to_pandas(), theirs.sort_by(order).to_pandas()
    if len(a) != len(b):
        return 0.0
    same = ((a == b) | (a.isna() & b.isna())).all(axis=1)
    return float(same.mean())


class _Many:
    """Events that are made when they are read, so that the measure is of the join's memory alone."""

    schema = pa.schema([("key", pa.int64()), ("at", TIME), ("x", pa.float64())])
    rows = LARGE

    def batches(self, columns: Any = None) -> Any:
        """A million rows at a time, late ones among them."""
        for start in range(0, LARGE, 1_000_000):
            rng = np.random.default_rng(start)
            times = np.sort(rng.integers(0, DAY_US, 1_000_000)) + FIRST_US + start * 300
            arrays = [
                pa.array(rng.integers(0, 1_000_000, 1_000_000)),
                pa.array(times, TIME),
                pa.array(rng.normal(size=1_000_000)),
            ]
            batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
            yield batch if columns is None else batch.select([*columns])


def large_join() -> tuple[float, float]:
    """Seconds, and gibibytes at the peak, of a join with 100 M events; in a process of its own."""
    rng = np.random.default_rng(4)
    times = rng.integers(FIRST_US, FIRST_US + DAY_US + LARGE * 300, 1_000_000)
    spine = pa.table({"key": rng.integers(0, 1_000_000, 1_000_000), "asked": pa.array(times, TIME)})
    use = Use(
        _definition(columns=["x"], aggregations=[{"name": "s", "function": "sum", "column": "x", "window": "1h"}]),
        _Many(),
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mzb-") as folder:
        rows = sum(len(p) for p in join_batches(InMemory(spine), [use], Clocks("asked"), work=Path(folder) / "parts"))
    assert rows == len(spine)
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _large() -> Row:
    script = "from benchmarks.features import large_join; import json; print(json.dumps(large_join()))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PEER.parents[3]
    )
    seconds, peak_gib = json.loads(done.stdout.strip().splitlines()[-1])
    return _row("join with 100 M events: memory", peak_gib, "GiB", f"1 M rows asked, 1 M entities; {seconds:.0f} s")


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
