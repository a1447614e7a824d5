"""Which version is served, what has records, and that nothing is left of a view that goes."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.features.builders import times, view
from tests.features.test_materialise import NOW, committed, rows_of
from tests.features.test_online import us

from mizzen.data.features.online import catalog
from mizzen.data.features.online.catalog import Entry, entry_of
from mizzen.data.features.online.materialise import materialise
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.lake.objects import Store
from mizzen.data.lake.rows import storable_schema
from mizzen.data.lake.tables import TableVersion
from mizzen.kinds import FeatureView

AMOUNT: dict[str, Any] = {"columns": ["amount"]}


@pytest.fixture
def source(tmp_path: Path) -> TableVersion:
    return committed(Store.open((tmp_path / "store").as_uri()), tmp_path, [rows_of(1, 100)], "r1")


def fill(store: OnlineStore, of: FeatureView, source: TableVersion, *, serve: bool = True) -> Entry:
    entry = entry_of(of, source.schema, {})
    catalog.begin(store, "default", entry)
    materialise(OnlineWriter(store, entry.online_view()), source, lambda: us(NOW))
    if serve:
        catalog.serve(store, "default", entry)
    return entry


def records(store: OnlineStore) -> int:
    return sum(1 for _ in store.scan(b"r"))


def test_a_reader_needs_nothing_but_the_store(store: OnlineStore, source: TableVersion) -> None:
    fill(store, view(**AMOUNT), source)
    found = catalog.served(store, "default", "spending")
    assert found is not None
    assert found.feature_view().spec == view(**AMOUNT).spec
    reader = OnlineReader(store, found.online_view(), lambda: us(NOW))
    assert set(reader.one(("card-1",))) == {"amount"}
    assert catalog.served(store, "default", "other") is None
    assert catalog.served(store, "elsewhere", "spending") is None


def test_a_version_that_is_being_filled_is_not_served(store: OnlineStore, source: TableVersion) -> None:
    first = fill(store, view(**AMOUNT), source)
    fill(store, view(**AMOUNT, ttl="1d"), source, serve=False)
    found = catalog.served(store, "default", "spending")
    assert found is not None
    assert found.is_of(first)


def test_of_many_versions_two_have_records(store: OnlineStore, source: TableVersion) -> None:
    """The one that is served and the one before; a version that was begun and never served goes too."""
    fill(store, view(**AMOUNT), source)
    one = records(store)
    fill(store, view(**AMOUNT, ttl="1d"), source, serve=False)
    kept = [fill(store, view(**AMOUNT, ttl=f"{days}d"), source) for days in (2, 3, 4)]
    assert [entry.digest for entry in catalog.entries(store, "default", "spending")] == [
        kept[2].digest,
        kept[1].digest,
    ]
    assert records(store) == 2 * one
    assert catalog.remove(store, "default", "spending") == 2 * one
    assert sum(1 for _ in store.scan(b"")) == 0, "no record, no place, no entry"


def test_going_back_to_the_version_before_costs_nothing(store: OnlineStore, source: TableVersion) -> None:
    first = fill(store, view(**AMOUNT), source)
    fill(store, view(**AMOUNT, ttl="1d"), source)
    again = materialise(OnlineWriter(store, first.online_view()), source, lambda: us(NOW))
    assert again.rows == 0
    catalog.serve(store, "default", first)
    found = catalog.served(store, "default", "spending")
    assert found is not None
    assert found.is_of(first)


def test_a_column_of_another_type_is_another_version(store: OnlineStore, source: TableVersion, tmp_path: Path) -> None:
    """The same words over whole numbers in the place of floats: records of both never meet."""
    rows = rows_of(2, 50)
    whole = rows.set_column(2, "amount", rows.column("amount").cast(pa.int64()))
    fill(store, view(**AMOUNT), source)
    other = Store.open((tmp_path / "other").as_uri())
    entry = fill(store, view(**AMOUNT), committed(other, tmp_path, [whole], "r2"))
    found = OnlineReader(store, entry.online_view(), lambda: us(NOW)).many([("card-1",)]).to_arrow()
    assert found.schema.field("amount").type == pa.int64()
    first, second = catalog.entries(store, "default", "spending")
    assert first.digest == second.digest
    assert not first.is_of(second)
    assert storable_schema(rows.schema).field("paid_at").type == times([0]).type
