"""The right to be forgotten: nowhere anything of the entity, everything of the others, and a receipt that says so."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.features.builders import payments, times, view
from tests.features.test_growth import appended
from tests.features.test_jobs import Lake
from tests.features.test_materialise import parts_of

from mizzen.data.features.online import catalog
from mizzen.data.features.online.opening import open_store
from mizzen.data.features.pointintime import Clocks
from mizzen.data.features.training_sets import From, build
from mizzen.data.forgetting import Held, Place, Receipt, forget
from mizzen.data.lake.changes import NewRows, appending
from mizzen.data.lake.segments import Batch, Segment, put_segment
from mizzen.data.lake.tables import Table
from mizzen.kinds import FeatureView

SPEC: dict[str, Any] = {"columns": ["amount"], "aggregations": [{"name": "num", "function": "count"}]}
KEY, WHEN = {"card": "card-3"}, "2026-02-01T00:00:00Z"


def rows(*cards: str) -> pa.Table:
    return payments([(card, minute, 1.0) for minute, card in enumerate(cards)])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A table of three loads, a view of it, a training set, a prediction log, and shares of what was broken off."""
    made = Lake(tmp_path)
    table = Table(made.store, "default", "payments")
    for number, load in enumerate((rows("card-1", "card-3"), rows("card-2"), rows("card-3", "card-4", "card-1"))):
        made.versions["payments"] = appended(table, tmp_path / "loads" / str(number), load).version
    made.run(view(**SPEC))
    made.run(view("second", **SPEC, ttl="10d"))
    asked = pa.table({"card": ["card-1", "card-3"], "asked_at": times([50, 60])})
    spine = appended(Table(made.store, "default", "asked"), tmp_path / "asked", asked)
    build(
        made.store, "default", "set", spine, [From(view(**SPEC), table.at())], Clocks("asked_at"), work=tmp_path / "w"
    )
    logged = pa.table({"input_card": ["card-1", "card-3"], "unit": ["u", "card-3"], "date": ["d", "d"]})
    write_deltalake(made.store.url_of("predictions/default/fraud"), logged, partition_by=["date"])
    for begun in ("trainingsets-parts/default/ts-1/2/00000-000", "featureviews-parts/default/spending/x/00001-000"):
        made.store.put(f"{begun}.arrow", b"of card-3")  # shares of what was never put together
    read = pa.table({"input_card": ["card-3", "card-2"], "input_at_us": [1, 2], "date": ["d", "d"]})
    write_deltalake(made.store.url_of("predictions/default/spending.reads"), read, partition_by=["date"])
    return made


def forgotten(lake: Lake, views: list[FeatureView], key: Any = KEY) -> Receipt:
    held = Held("default", views, ["fraud", "unlogged"])
    with closing(open_store(lake.online_url)) as online:
        return forget(lake.store, online, held, key, WHEN)


def test_what_loads_kept_of_values_goes_and_where_they_ended_stays(lake: Lake, tmp_path: Path) -> None:
    """A profile's most frequent values name people too; without its place, the next load would begin from nothing."""
    table = Table(lake.store, "default", "payments")
    parts, schema = parts_of(tmp_path / "more", [rows("card-3")])
    facts = json.dumps({"profile": {"top": ["card-3"]}, "place": {"watermark": 7}}).encode()
    fresh = NewRows(parts, schema, attachment=lambda *_: facts)
    table.change("profiled", appending(fresh, tmp_path / "work"))
    forgotten(lake, [view(**SPEC)])
    assert table.at().attachment == {"place": {"watermark": 7}}
    kept = [path for path in (tmp_path / "store").rglob("*.json") if "card-3" in path.read_text()]
    assert kept == []


def bytes_with(folder: Path, text: bytes) -> list[str]:
    """The Parquet files that hold a text, whatever table they are or were of."""
    found = []
    for path in folder.rglob("*.parquet"):
        table = pa.parquet.read_table(path, partitioning=None)
        if text.decode() in str(table.to_pydict()):
            found.append(path.name)
    return found


def test_nothing_is_left_anywhere_and_the_others_are_untouched(lake: Lake, tmp_path: Path) -> None:
    views = [view(**SPEC), view("second", **SPEC, ttl="10d"), view("shops", entities=["shop"], columns=["amount"])]
    before = lake.read("spending", ["card-1", "card-2", "card-4"])
    assert bytes_with(tmp_path / "store", b"card-3")
    receipt = forgotten(lake, views)
    assert receipt.complete
    assert receipt.places == [
        Place("dataset/payments", 2, versions=3),
        Place("dataset/asked", 1, versions=1),
        Place("trainingset/set", 1, versions=1),
        Place("predictions/fraud", 1),
        Place("predictions/spending.reads", 1),
        Place("featureview/spending", 1),
        Place("featureview/second", 1),
    ]
    assert bytes_with(tmp_path / "store", b"card-3") == []
    table = Table(lake.store, "default", "payments")
    table.verify()
    assert sorted(table.at().arrow().column("card").to_pylist()) == ["card-1", "card-1", "card-2", "card-4"]
    assert lake.read("spending", ["card-1", "card-2", "card-4"]) == before
    assert lake.read("spending", ["card-3"]) == {"amount": [None], "num": [0]}
    log = DeltaTable(lake.store.url_of("predictions/default/fraud")).to_pyarrow_table()
    assert log.column("input_card").to_pylist() == ["card-1"]
    lake.versions["payments"] = table.at().version
    assert lake.run(view(**SPEC)).rows == 4, "brought online anew, it stays forgotten"
    assert lake.read("spending", ["card-3", "card-1"]) == {"amount": [None, 1.0], "num": [0, 2]}


def test_the_receipt_does_not_remember_whom_it_is_of_and_is_kept(lake: Lake) -> None:
    receipt = forgotten(lake, [view(**SPEC)])
    (kept,) = lake.store.list("receipts/default")
    content = lake.store.get(kept.path)
    assert b"card-3" not in content
    assert msgspec.json.decode(content, type=Receipt) == receipt


def test_forgetting_again_finds_nothing(lake: Lake) -> None:
    forgotten(lake, [view(**SPEC)])
    again = forgotten(lake, [view(**SPEC)])
    assert all((place.rows, place.versions, place.verified) == (0, 0, True) for place in again.places)
    version = Table(lake.store, "default", "payments").at().version
    unknown = forgotten(lake, [view(**SPEC)], {"card": "card-99"})
    assert unknown.complete
    assert Table(lake.store, "default", "payments").at().version == version, "nothing was rewritten for nobody"


def test_rows_on_their_way_and_views_by_more_keys_are_named_as_to_come(lake: Lake) -> None:
    put_segment(lake.store, "default", "payments", Segment("w", 1), [Batch(rows("card-3"))])
    with closing(open_store(lake.online_url)) as online:
        assert catalog.served(online, "default", "spending") is not None
    receipt = forgotten(lake, [view(**SPEC)])
    assert not receipt.complete
    assert [place.what for place in receipt.places if place.pending] == ["dataset/payments"]
