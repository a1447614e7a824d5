"""Backfills of windows beside DuckDB's SQL and polars, written by hand; and how joins and materialisation grow.

Each measure is of a process of its own, so that its peak of memory is its own too. The backfill is of five aggregates
over three windows at every event; what the systems answer is compared by the sums of all columns. Takes about four
minutes on two quiet cores, most of them for 100 M events.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.features import DAY_US, FIRST_US, NOW_US, TIME, Row, _definition, _row
from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.materialise import materialise
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join_batches
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.tables import Table

EVENTS, KEYS = 10_000_000, 100_000
FUNCTIONS = ("count", "sum", "mean", "min", "max")
HOURS = (24, 168, 720)
GROWTH = (1_000_000, 10_000_000, 100_000_000)
ASKED = 1_000_000
SCHEMA = pa.schema([("key", pa.int64()), ("at", TIME), ("x", pa.float64())])
Said = dict[str, Any]


def run() -> list[Row]:
    """The rows."""
    rows = []
    size = f"{EVENTS:,} events of {KEYS:,} keys; 5 aggregates x 3 windows at every event"
    said = {name: _apart(name, EVENTS) for name in ("mizzen", "duckdb", "polars")}
    versions = {"duckdb": duckdb.__version__, "polars": pl.__version__}
    for name, one in said.items():
        how = size if name == "mizzen" else f"{size}; by hand"
        rows += [
            _row("window backfill", EVENTS / one["seconds"], "rows/s", how, name, versions.get(name, "")),
            _row("window backfill: memory", one["peak_gib"], "GiB", how, name, versions.get(name, "")),
        ]
        if name != "mizzen":
            same = np.isclose(one["sums"], said["mizzen"]["sums"], rtol=1e-6).mean()
            rows.append(_row(f"columns whose sums are as {name}'s", float(same), "share", size))
    for what in ("joined", "materialised"):
        for events in GROWTH:
            one = _apart(what, events)
            label = f"{what}, {events // 1_000_000} M events"
            conditions = f"{ASKED:,} entities and rows asked" if what == "joined" else f"{KEYS:,} entities, durable"
            rows.append(_row(label, events / one["seconds"], "rows/s", conditions))
            rows.append(_row(f"{label}: memory", one["peak_gib"], "GiB", conditions))
    return rows


def _apart(what: str, events: int) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.backfills", what, str(events)],
        capture_output=True, text=True, check=False, timeout=600, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{what} of {events:,} events failed: {done.stderr[-1500:]}")
    said: Said = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def _events(rows: int, keys: int) -> pa.Table:
    rng = np.random.default_rng(3)
    times = np.sort(rng.integers(FIRST_US, FIRST_US + 30 * DAY_US, rows))
    return pa.table({"key": rng.integers(0, keys, rows), "at": pa.array(times, TIME), "x": rng.normal(size=rows)})


class Made:
    """Events that are made when they are read, a million at a time."""

    schema = SCHEMA

    def __init__(self, rows: int, keys: int) -> None:
        self.rows, self._keys = rows, keys

    def batches(self, columns: Any = None) -> Any:
        """Late ones among them."""
        span = 30 * DAY_US // (self.rows // 1_000_000)
        for number in range(self.rows // 1_000_000):
            rng = np.random.default_rng(number)
            times = np.sort(rng.integers(0, span, 1_000_000)) + FIRST_US + number * span
            keys, values = rng.integers(0, self._keys, 1_000_000), rng.normal(size=1_000_000)
            arrays = [pa.array(keys), pa.array(times, TIME), pa.array(values)]
            batch = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
            yield batch if columns is None else batch.select([*columns])


def mizzen(events: pa.Table, work: Path) -> list[float]:
    """Windows by definition, within the memory that a join takes."""
    features = [{"name": f, "function": f, "column": "x", "windows": [f"{h}h" for h in HOURS]} for f in FUNCTIONS]
    use = Use(_definition(aggregations=features), InMemory(events))
    totals = np.zeros(len(FUNCTIONS) * len(HOURS))
    for piece in join_batches(InMemory(events.select(["key", "at"])), [use], Clocks("at"), work=work):
        totals += [pc.sum(piece.column(f"{f}_{h}h")).as_py() for f in FUNCTIONS for h in HOURS]
    return [float(total) for total in totals]


def by_duckdb(events: pa.Table, work: Path) -> list[float]:
    """Window functions over ranges of time."""
    names = {"mean": "avg"}
    listed = ", ".join(
        f'{names.get(f, f)}(x) OVER (PARTITION BY key ORDER BY "at" RANGE BETWEEN INTERVAL {h} HOURS PRECEDING AND '
        f"CURRENT ROW) AS {f}_{h}"
        for f in FUNCTIONS
        for h in HOURS
    )
    connection = duckdb.connect(config={"temp_directory": str(work)})
    connection.register("events", events)
    sums = ", ".join(f"sum({f}_{h})" for f in FUNCTIONS for h in HOURS)
    found = connection.execute(f"SELECT {sums} FROM (SELECT {listed} FROM events)").fetchone()
    assert found is not None, "a sum is one row"
    return [float(total) for total in found]


def by_polars(events: pa.Table, _: Path) -> list[float]:
    """A rolling group-by for each window."""
    frame = pl.from_arrow(events)
    assert isinstance(frame, pl.DataFrame), "a table is a frame"
    frame = frame.sort("key", "at")
    x = pl.col("x")
    made = {"count": x.count(), "sum": x.sum(), "mean": x.mean(), "min": x.min(), "max": x.max()}
    totals: dict[str, float] = {}
    for h in HOURS:
        rolled = frame.rolling("at", period=f"{h}h", group_by="key").agg(**{f: made[f] for f in FUNCTIONS})
        totals |= {f"{f}_{h}": float(rolled[f].sum()) for f in FUNCTIONS}
    return [totals[f"{f}_{h}"] for f in FUNCTIONS for h in HOURS]


def joined(events: int, work: Path) -> None:
    """The newest value and an hour's sum for a million rows."""
    rng = np.random.default_rng(4)
    times = rng.integers(FIRST_US, FIRST_US + 30 * DAY_US, ASKED)
    spine = pa.table({"key": rng.integers(0, ASKED, ASKED), "asked": pa.array(times, TIME)})
    hour = {"name": "s", "function": "sum", "column": "x", "window": "1h"}
    use = Use(_definition(columns=["x"], aggregations=[hour]), Made(events, ASKED))
    rows = sum(len(p) for p in join_batches(InMemory(spine), [use], Clocks("asked"), work=work / "parts"))
    assert rows == ASKED


def committed(events: int, work: Path) -> Any:
    """A table of so many rows."""
    writer = PartWriter(work / "spool", SCHEMA)
    for batch in Made(events, KEYS).batches():
        writer.write(pa.Table.from_batches([batch]))
    return Table(Store.open((work / "lake").as_uri()), "default", "events").commit(writer.close(), SCHEMA, "bench")


def main(what: str, events: int) -> Said:
    """One measure: seconds, gibibytes at the peak, and the sums of what came out."""
    sums: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mzb-") as folder:
        work = Path(folder)
        if what in {"mizzen", "duckdb", "polars"}:
            by: dict[str, Callable[[pa.Table, Path], list[float]]] = {
                "mizzen": mizzen, "duckdb": by_duckdb, "polars": by_polars,
            }  # fmt: skip
            table = _events(events, KEYS)
            began = time.perf_counter()
            sums = by[what](table, work / "work")
        elif what == "joined":
            began = time.perf_counter()
            joined(events, work)
        else:
            version, view = committed(events, work), OnlineView(_definition(columns=["x"]), SCHEMA)
            store = LmdbStore(work / "online")
            began = time.perf_counter()
            materialise(OnlineWriter(store, view), version, lambda: NOW_US)
            store.close()
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak_gib": peak, "sums": sums}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
