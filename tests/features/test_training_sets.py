"""Training sets: ids, versions, and which of them late rows change."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.features.builders import payments, times, view

from mizzen.data.features.late_rows import changed_by, changed_since
from mizzen.data.features.pointintime import Clocks
from mizzen.data.features.training_sets import From, build, records
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


def test_a_set_of_a_chained_view_is_made_and_knows_what_changes_it(lake: Store, tmp_path: Path) -> None:
    """The features of a used view as of each event; a late row of the used view's source reaches the set through it."""
    usual = view("usual", source={"dataset": "prices"}, aggregations=[
        {"name": "mean", "function": "mean", "column": "amount"}])  # fmt: skip
    jump = view("jump", uses=["usual"], columns=[{"name": "over", "expression": 'amount - "usual".mean'}], ttl="30m")
    asked = committed(lake, "asked", spine([20, 50]), "r1", tmp_path)
    paid = committed(lake, "payments", payments([("a", 10, 5.0), ("b", 15, 7.0)]), "r1", tmp_path)
    prices = committed(lake, "prices", payments([("a", 1, 1.0), ("a", 30, 90.0), ("b", 2, 2.0)]), "r1", tmp_path)
    uses = [From(jump, paid, others=(From(usual, prices),))]
    made = build(lake, "default", "set", asked, uses, CLOCKS, work=tmp_path / "w")
    assert made.arrow().column("over").to_pylist() == [4.0, 5.0, None, None]
    again = build(lake, "default", "set", asked, uses, CLOCKS, work=tmp_path / "w")
    assert again.version == made.version
    other = view("usual", source={"dataset": "prices"}, aggregations=[
        {"name": "mean", "function": "min", "column": "amount"}])  # fmt: skip
    changed = build(
        lake, "default", "set", asked, [From(jump, paid, others=(From(other, prices),))], CLOCKS, work=tmp_path / "w"
    )
    assert changed.run != made.run, "another definition of a used view is another set"

    def touched(card: str, minute: int) -> set[int]:
        late = payments([(card, minute, 3.0)])
        return {t.rows for t in changed_by(lake, "default", "prices", late) if t.record.id == made.run}

    assert touched("a", 5) == {1}
    assert touched("a", 12) == set(), "after the event whose features it would have been"
    assert touched("c", 5) == set()


def test_what_came_since_a_version_is_told_without_naming_the_rows(lake: Store, tmp_path: Path) -> None:
    asked = committed(lake, "asked", spine([5, 20]), "r1", tmp_path)
    paid = committed(lake, "payments", payments([("a", 1, 1, 1.0)], NAMES), "r1", tmp_path)
    build(lake, "default", "set", asked, [From(view(**SPEC), paid)], CLOCKS, work=tmp_path / "w")
    table = Table(lake, "default", "payments")
    assert changed_since(lake, "default", "payments", paid.version) == []
    late = payments([("a", 3, 3, 2.0)], NAMES)
    schema = storable_schema(late.schema)
    writer = PartWriter(tmp_path / "late", schema)
    writer.write(as_stored(late, schema))
    table.append(writer.close(), schema, "r2")
    (found,) = changed_since(lake, "default", "payments", paid.version) or []
    assert (found.rows, found.features) == (2, ("amount", "num"))
    committed(lake, "payments", late, "r3", tmp_path)
    assert changed_since(lake, "default", "payments", paid.version) is None
