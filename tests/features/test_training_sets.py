"""Training sets: ids, versions, and which of them late rows change."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.features.builders import payments, times, view

from mizzen.data.features.pointintime import Clocks
from mizzen.data.features.training_sets import From, build, changed_by, records
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.rows import as_stored, storable_schema
from mizzen.data.lake.tables import Table, TableVersion

CLOCKS = Clocks("asked_at")


@pytest.fixture
def lake(tmp_path: Path) -> Store:
    return Store.open((tmp_path / "store").as_uri())


def committed(lake: Store, name: str, rows: pa.Table, run: str, tmp_path: Path) -> TableVersion:
    schema = storable_schema(rows.schema)
    writer = PartWriter(tmp_path / f"spool-{name}-{run}", schema)
    writer.write(as_stored(rows, schema))
    return Table(lake, "default", name).commit(writer.close(), schema, run)


def spine(minutes: list[int]) -> pa.Table:
    return pa.table({"card": ["a", "b"] * len(minutes), "asked_at": times([m for m in minutes for _ in "ab"])})


SPEC: dict[str, Any] = {
    "columns": ["amount"],
    "ttl": "30m",
    "knownAt": "booked_at",
    "aggregations": [{"name": "num", "function": "count", "window": "10m"}],
}
NAMES = "card paid_at booked_at amount"


def test_the_same_set_is_made_once_and_any_change_makes_another(lake: Store, tmp_path: Path) -> None:
    """The id is of definitions, data versions, row set and clocks; words do not count."""
    asked = committed(lake, "asked", spine([5, 20]), "r1", tmp_path)
    paid = committed(lake, "payments", payments([("a", 1, 1, 1.0)], NAMES), "r1", tmp_path)
    first = build(lake, "default", "set", asked, [From(view(**SPEC), paid)], CLOCKS, work=tmp_path / "w")
    again = build(lake, "default", "set", asked, [From(view(**SPEC, owner="ada"), paid)], CLOCKS, work=tmp_path / "w")
    assert (first.version, first.run) == (again.version, again.run)
    assert first.arrow().drop_columns(["asked_at"]).to_pydict() == {
        "row_id": [0, 1, 2, 3],
        "card": ["a", "b", "a", "b"],
        "amount": [1.0, None, 1.0, None],
        "num": [1, 0, 0, 0],
    }
    paid_more = committed(lake, "payments", payments([("a", 1, 1, 1.0), ("b", 2, 2, 2.0)], NAMES), "r2", tmp_path)
    asked_more = committed(lake, "asked", spine([5]), "r2", tmp_path)
    others = [
        (asked, From(view(**SPEC), paid_more), CLOCKS),
        (asked_more, From(view(**SPEC), paid), CLOCKS),
        (asked, From(view(**{**SPEC, "ttl": "31m"}), paid), CLOCKS),
        (asked, From(view(**SPEC), paid, features=("num",)), CLOCKS),
        (asked, From(view(**SPEC), paid), Clocks("asked_at", everything=True)),
    ]
    runs = {first.run} | {
        build(lake, "default", "set", rows, [use], clocks, work=tmp_path / "w").run for rows, use, clocks in others
    }
    assert len(runs) == 6
    assert {record.id for record in records(lake, "default")} == runs


def test_late_rows_name_the_sets_they_change(lake: Store, tmp_path: Path) -> None:
    """A batch known later changes no set that asked with earlier knowledge; one that was known then does, where it is
    in reach; a label's window reaches ahead."""
    asked = committed(lake, "asked", spine([5, 20]), "r1", tmp_path)
    paid = committed(lake, "payments", payments([("a", 1, 1, 1.0)], NAMES), "r1", tmp_path)
    label = view("claims", knownAt="booked_at", aggregations=[{"name": "soon", "function": "count", "window": "5m"}])
    uses = [From(view(**SPEC), paid), From(label, paid, is_label=True)]
    build(lake, "default", "set", asked, uses, CLOCKS, work=tmp_path / "w")
    build(
        lake,
        "default",
        "leaky",
        asked,
        [From(view(**SPEC), paid)],
        Clocks("asked_at", everything=True),
        work=tmp_path / "w",
    )

    def changed(card: str, paid_at: int, booked_at: int) -> dict[str, tuple[int, tuple[str, ...]]]:
        late = payments([(card, paid_at, booked_at, 9.0)], NAMES)
        return {t.record.name: (t.rows, t.features) for t in changed_by(lake, "default", "payments", late)}

    assert changed("a", 3, 3) == {"set": (2, ("amount", "num")), "leaky": (2, ("amount", "num"))}
    assert changed("a", 3, 99) == {"leaky": (2, ("amount", "num"))}
    assert changed("a", 7, 99) == {"set": (1, ("soon",)), "leaky": (1, ("amount",))}
    assert changed("b", 40, 41) == {}
    assert changed("c", 3, 3) == {}
    assert changed_by(lake, "default", "another", payments([("a", 3, 3, 9.0)], NAMES)) == []
