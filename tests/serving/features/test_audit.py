"""Reads that are recorded, and compared later: what is equal offline is found equal, and what is not is named."""

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.features.builders import START, payments, view
from tests.features.test_jobs import Lake
from tests.serving.features.builders import FeatureStage, matrix

from mizzen.data.features.audit import Compared, Reads, as_read, audited
from mizzen.data.features.definition import definition_of
from mizzen.data.features.jobs.audit import AuditTask, audit
from mizzen.data.features.jobs.task import ViewAt
from mizzen.data.features.pointintime import InMemory, Use
from mizzen.kinds import FeatureView
from mizzen.kinds.skew import SkewReport
from mizzen.serving.gateway.directory import ViewUse
from mizzen.serving.gateway.features.audit import READS, key_text, plain
from mizzen.serving.gateway.recorder import share_of
from mizzen.serving.predictionlog.journal import Journal, Limits
from mizzen.serving.predictionlog.layout import folder_of, table_path
from mizzen.serving.predictionlog.table import LogTable

SPENDING: dict[str, Any] = {
    "columns": ["shop"],
    "aggregations": [
        {"name": "spent", "function": "sum", "column": "amount", "window": "1h"},
        {"name": "last", "function": "last_k", "k": 3, "column": "amount"},
        {"name": "quiet", "function": "time_since_last"},
    ],
}
NAMES = "card paid_at amount shop"
EARLY = [("a", 0, 5.0, "x"), ("a", 10, math.inf, "y"), ("b", 5, 0.1, "x"), ("b", 6, 0.2, "z")]
LATE = [("b", 15, 7.0, "late"), ("d", 16, 1.0, "late")]


def brought(lake: Lake, rows: list[tuple[Any, ...]]) -> FeatureView:
    declared = view(**SPENDING)
    lake.add(payments(rows, NAMES))
    lake.run(declared)
    return declared


async def read(stage: FeatureStage, minutes: float, *cards: str) -> None:
    stage.minutes = minutes
    stage.predict(*({"card": card} for card in cards))
    await asyncio.sleep(0.01)


def recorded(lake: Lake) -> LogTable:
    """What waits in the rings is brought to the table, as the writer does."""
    folder = folder_of(lake.folder / "rings", "default", "spending" + READS)
    journal = Journal(folder, lake.folder / "spool", Limits(compact_every=0))
    journal.look()
    table = LogTable(lake.store, table_path("default", "spending" + READS))
    while True:
        drained = journal.drain()
        journal.seal(now=True)
        if not journal.commit(table) and not drained:
            return table


def compared(lake: Lake, of: FeatureView, minutes: float = 600, since: float = 0) -> SkewReport:
    task = AuditTask(
        namespace="default", name=of.name, run="audit-1", store_url=lake.store.url,
        reads=table_path("default", "spending" + READS), digest=of.spec.digest(),
        since=(START + timedelta(minutes=since)).isoformat(),
        target=ViewAt(view=of, source_version=lake.versions["payments"]),
    )  # fmt: skip
    return audit(task, lake.store, START + timedelta(minutes=minutes))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.mark.looptime
async def test_reads_are_recorded_and_found_equal(lake):
    of = brought(lake, EARLY)
    stage = FeatureStage(lake.folder, lake.online_url, audited=1.0)
    stage.declare(matrix("spent", "quiet"))
    for minutes in (700, 701.5, 800):
        await read(stage, minutes, "a", "b", "nobody")
    rows = recorded(lake).arrow().to_pylist()
    assert len(rows) == 9
    assert {row["outcome"] for row in rows} == {"present", "missing"}
    of_a = next(row for row in rows if row["input_card"] == "a")
    assert json.loads(of_a["feature_values"])["last"] == ["inf", 5.0]
    report = compared(lake, of, 900)
    assert (report.reads, report.values, report.differing, report.features) == (9, 36, 0, [])
    assert (report.since, report.until) == ("2026-01-01T00:00:00Z", "2026-01-01T15:00:00Z")
    stage.features.close()


@pytest.mark.looptime
async def test_rows_that_came_late_are_skew(lake):
    """They happened before the read, and it did not see them: the table has no column that says since when."""
    of = brought(lake, EARLY)
    stage = FeatureStage(lake.folder, lake.online_url, audited=1.0)
    stage.declare(matrix("spent", "quiet"))
    await read(stage, 700, "a", "b", "d")
    recorded(lake)
    lake.add(payments([*EARLY, *LATE], NAMES))
    report = compared(lake, of, 900)
    assert report.differing == 6
    assert report.missing == 2, "of d: its shop, and how long it has been quiet"
    found = {one.feature: one for one in report.features}
    assert list(found) == ["last", "quiet", "shop"]
    assert found["quiet"].delta_p50 == 9 * 60.0
    stage.features.close()


@pytest.mark.looptime
async def test_the_feature_server_is_recorded_too_and_only_whom_the_hash_draws(lake):
    brought(lake, EARLY)
    stage = FeatureStage(lake.folder, lake.online_url, audited=0.5)
    stage.declare(matrix("spent"), ViewUse("spending", features=("spent",)))
    cards = [f"card-{number}" for number in range(40)]
    await read(stage, 700, *cards)
    drawn = [card for card in cards if share_of(card) < 0.5]
    assert 0 < len(drawn) < 40
    assert recorded(lake).arrow().column("input_card").to_pylist() == drawn
    stage.features.close()


def test_without_reads_there_is_nothing_to_compare(lake):
    of = brought(lake, EARLY)
    assert compared(lake, of).reads == 0


def test_each_kind_of_difference_is_told_apart():
    of = definition_of(view(**SPENDING))
    source = payments(EARLY, NAMES)
    at_us = [int(datetime(2026, 1, 1, 11, tzinfo=UTC).timestamp() * 1e6)] * 3
    offline = {"shop": "y", "spent": None, "last": ["inf", 5.0], "quiet": 39000.0}
    values = [
        {**offline, "quiet": 39000.0 * (1 + 1e-12)},
        {"shop": None, "spent": 3.0, "last": [5.0, 1.0], "quiet": 38999.0},
        offline,
    ]
    found = {
        one.feature: one
        for one in audited(Reads(pa.table({"card": ["a"] * 3}), at_us, values), Use(of, InMemory(source)))
    }
    assert {name: (one.values, one.differing, one.missing, one.extra) for name, one in found.items()} == {
        "shop": (3, 1, 1, 0), "spent": (3, 1, 0, 1), "last": (3, 1, 0, 0), "quiet": (3, 1, 0, 0),
    }  # fmt: skip
    assert found["quiet"].deltas == [1.0]


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_deltas_with_as_many_below_it(deltas, share):
    found = Compared("x", deltas=deltas).quantile(share)
    assert found in deltas
    assert sum(delta <= found for delta in deltas) >= share * len(deltas) - 1e-9


VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text() | st.lists(st.floats())


@given(VALUES)
def test_a_value_that_was_recorded_is_the_one_that_is_computed(value):
    """Through JSON, and through Arrow."""
    kind = pa.list_(pa.float64()) if isinstance(value, list) else None
    assert json.loads(json.dumps(plain(value))) == as_read(pa.chunked_array([pa.array([value], kind)]))[0]


def test_keys_of_several_parts_do_not_run_together():
    assert key_text(("a", "bc")) != key_text(("ab", "c"))
