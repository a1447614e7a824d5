"""Tables that grow, shrink, are divided, put together, cleaned and restored; many writers at once; profiles."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mizzen.data.lake import changes
from mizzen.data.lake.changes import NewRows, appending, replacing, restoring, upserting
from mizzen.data.lake.errors import RowsUnfit, SourceMoved, VersionMissing
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.retention import oldest_to_keep, sweep
from mizzen.data.lake.rows import as_stored, storable_schema
from mizzen.data.lake.tables import Table, TableVersion

KEY = ["k"]


def new_rows(
    folder: Path, rows: pa.Table, partition_by: Sequence[str] = (), schema: pa.Schema | None = None
) -> NewRows:
    stored = storable_schema(rows.schema)
    writer = PartWriter(folder, stored)
    writer.write(as_stored(rows, stored))
    return NewRows(writer.close(), schema or stored, partition_by=tuple(partition_by))


class Writer:
    """Changes one table, each change under the next run's name."""

    def __init__(self, store: Store, folder: Path, name: str = "t", partition_by: Sequence[str] = ()) -> None:
        self.table, self.folder, self.partition_by, self.count = Table(store, "ns", name), folder, partition_by, 0

    def _run(self, make: Any, rows: pa.Table, *more: Any) -> TableVersion:
        self.count += 1
        work = self.folder / f"{self.table.path.replace('/', '-')}-{self.count}"
        made = self.table.change(
            f"run-{self.count}", make(new_rows(work / "new", rows, self.partition_by), *more, work)
        )
        assert made is not None
        return made

    def replace(self, rows: pa.Table) -> TableVersion:
        return self._run(replacing, rows)

    def append(self, rows: pa.Table) -> TableVersion:
        return self._run(appending, rows)

    def upsert(self, rows: pa.Table) -> TableVersion:
        return self._run(upserting, rows, KEY)


@pytest.fixture
def writer(file_store: Store, tmp_path: Path) -> Writer:
    return Writer(file_store, tmp_path)


def test_many_small_loads_become_few_files_in_the_same_order(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 appends of a row: the rows in order, no more than 17 files, every version as it was."""
    versions = [writer.append(pa.table({"k": [index], "p": ["x"]})) for index in range(40)]
    newest = writer.table.at()
    assert newest.arrow().column("k").to_pylist() == list(range(40))
    assert len(newest.files) <= changes.SMALL_FILES_MAX + 1
    assert [version.rows for version in versions] == list(range(1, 41))
    assert writer.table.at(20).arrow().column("k").to_pylist() == list(range(20))
    for number in (1, 17, 18, 40):
        writer.table.verify(number)


def test_large_files_are_left_alone(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "SMALL_BYTES", 1)
    for index in range(20):
        writer.append(pa.table({"k": [index]}))
    assert len(writer.table.at().files) == 20


def test_partitions_are_files_of_their_own(file_store: Store, tmp_path: Path) -> None:
    """Rows keep their order in each; a filter reads only its partition's files; nulls are a partition too."""
    writer = Writer(file_store, tmp_path, partition_by=["p"])
    first = writer.replace(pa.table({"k": [1, 2, 3, 4], "p": ["b", "a", None, "a"]}))
    assert [file.partition for file in first.files] == [{"p": "a"}, {"p": "b"}, {"p": None}]
    assert first.partition_by == ("p",)
    assert sorted(first.arrow().to_pylist(), key=lambda row: row["k"])[2] == {"k": 3, "p": None}
    second = writer.append(pa.table({"k": [5], "p": ["b"]}))
    assert second.rows == 5
    with duckdb.connect() as connection:
        connection.register("t", second.dataset())
        assert connection.sql("SELECT list(k ORDER BY k) FROM t WHERE p = 'b'").fetchall() == [([1, 5],)]
    third = writer.upsert(pa.table({"k": [2], "p": ["b"]}))
    assert sorted((row["k"], row["p"] or "") for row in third.arrow().to_pylist()) == [
        (1, "b"),
        (2, "b"),
        (3, ""),
        (4, "a"),
        (5, "b"),
    ]
    for index in range(40):
        writer.append(pa.table({"k": [100 + index], "p": ["ab"[index % 2]]}))
    newest = writer.table.at()
    assert (newest.rows, len(newest.files) < 40) == (45, True)
    newest.verify()
    assert first.digest != Writer(file_store, tmp_path, "u").replace(first.arrow()).digest


@pytest.mark.parametrize(
    "column", [pa.array([1, -5]), pa.array([True, False]), pa.array([10957, 0], pa.date32()), pa.array(["x/y=z %", ""])]
)
def test_values_that_divide_come_back(file_store: Store, tmp_path: Path, column: pa.Array) -> None:
    """Whole numbers, booleans, days, and text that no path would take."""
    version = Writer(file_store, tmp_path, partition_by=["p"]).replace(pa.table({"k": [1, 2], "p": column}))
    found = {row["k"]: row["p"] for row in version.arrow().to_pylist()}
    expected = column.to_pylist()
    assert [found[1], found[2] or ""] == [expected[0], expected[1] or ""]


@pytest.mark.parametrize(("rows", "by", "message"), [
    ({"k": [1.5]}, ["k"], "expected a column of whole numbers, text, booleans or days, k is double"),
    ({"k": [1]}, ["q"], "expected a column, found no 'q'"),
    ({"k": [1]}, ["k"], "at least one column that is not partitioned by"),
    ({"k": list(range(5000)), "v": [0] * 5000}, ["k"], "expected at most 4096 partitions, found 5000"),
])  # fmt: skip
def test_columns_that_cannot_divide_are_told(
    file_store: Store, tmp_path: Path, rows: Any, by: list[str], message: str
) -> None:
    with pytest.raises(RowsUnfit, match=message):
        Writer(file_store, tmp_path, partition_by=by).replace(pa.table(rows))


def test_an_old_version_can_be_restored(writer: Writer) -> None:
    """The next version has its rows, its columns and its digest; what lies between stays readable; no file is written."""
    old = writer.append(pa.table({"k": [1], "v": ["a"]}))
    writer.replace(pa.table({"other": [2]}))
    restored = writer.table.change("back", restoring(writer.table, 1, lambda old, totals: f"as version {old.version}"))
    assert restored is not None
    assert (restored.version, restored.facts, restored.operation) == (3, "as version 1", "restore")
    assert (restored.arrow(), restored.digest) == (old.arrow(), old.digest)
    assert [file.path for file in restored.files] == [file.path for file in old.files]
    assert writer.table.at(2).arrow().to_pydict() == {"other": [2]}
    assert writer.append(pa.table({"k": [2], "v": ["b"]})).rows == 2


def test_time_travel(writer: Writer) -> None:
    """The version of a moment is the newest made by then."""
    for index in range(3):
        writer.append(pa.table({"k": [index]}))
    stamps = {commit.version: commit.timestamp_ms for commit in writer.table.history()}
    assert writer.table.at_time(stamps[3] + 1000).version == 3
    assert writer.table.at_time(stamps[2]).version in {2, 3}
    with pytest.raises(VersionMissing, match="from before that time"):
        writer.table.at_time(stamps[1] - 1)


def test_versions_that_are_not_kept_go_with_their_files(writer: Writer) -> None:
    """Two are kept of five: their rows read as before, the files of the others are gone, and a message says so."""
    for index in range(5):
        writer.replace(pa.table({"k": [index]}))
    table = writer.table
    base = table.at()
    oldest = oldest_to_keep(table, base, versions=3, age_ms=None, now_ms=0)
    assert oldest == 4
    work = writer.folder / "retaining"
    rows = new_rows(work / "new", pa.table({"k": [5]}))
    table.change("six", replacing(NewRows(rows.parts, rows.schema, oldest=lambda _: oldest), work))
    assert [commit.version for commit in table.history()] == [6, 5, 4]
    assert sweep(table) == 3
    assert sweep(table) == 0, "and not again"
    for version in (4, 5, 6):
        table.verify(version)
    with pytest.raises(VersionMissing, match="version 3 is no longer kept; the oldest is 4"):
        table.at(3)
    stored = [stored.path for stored in table.store.list(table.path) if stored.path.endswith(".parquet")]
    assert len(stored) == 3


def test_a_sweep_spares_what_a_restore_brought_back(writer: Writer) -> None:
    writer.replace(pa.table({"k": [1]}))
    writer.replace(pa.table({"k": [2]}))
    writer.table.change("back", restoring(writer.table, 1, lambda *_: ""))
    work = writer.folder / "retaining"
    rows = new_rows(work / "new", pa.table({"k": [4]}))
    writer.table.change("four", appending(NewRows(rows.parts, rows.schema, oldest=lambda _: 3), work))
    assert sweep(writer.table) == 1, "the file of version 2 alone"
    assert writer.table.at(3).arrow().to_pydict() == {"k": [1]}
    writer.table.verify()


def test_age_and_number_keep_together(writer: Writer) -> None:
    """A version stays while either of the two keeps it; the newest stays whatever they say."""
    for index in range(4):
        writer.replace(pa.table({"k": [index]}))
    table, base = writer.table, writer.table.at()
    made = {commit.version: commit.timestamp_ms for commit in table.history()}
    day = 86_400_000
    assert oldest_to_keep(table, base, versions=None, age_ms=None, now_ms=made[4] + day) is None
    assert oldest_to_keep(table, base, versions=None, age_ms=2 * day, now_ms=made[4] + day) is None
    assert oldest_to_keep(table, base, versions=None, age_ms=day // 2, now_ms=made[4] + day) == 4
    assert oldest_to_keep(table, base, versions=3, age_ms=day // 2, now_ms=made[4] + day) == 3
    assert oldest_to_keep(table, base, versions=3, age_ms=2 * day, now_ms=made[4] + day) is None
    assert oldest_to_keep(table, base, versions=1, age_ms=None, now_ms=made[4]) == 4


# -- many writers


def test_writers_at_once_lose_no_row(store: Store, tmp_path: Path) -> None:
    """Four append and two upsert, at the same time, twice each, on a table that is not there yet."""
    gate = threading.Barrier(6)
    failed: list[BaseException] = []

    def write(index: int) -> None:
        mine = Writer(store, tmp_path / str(index), "busy")
        gate.wait()
        try:
            for turn in range(2):
                mine.count = 100 * index + turn
                rows = pa.table({"k": [1000 * index + turn], "w": [index]})
                _ = mine.append(rows) if index < 4 else mine.upsert(rows)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=write, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    table = Table(store, "ns", "busy")
    assert sorted(table.at().arrow().column("k").to_pylist()) == sorted(
        1000 * i + t for i in range(6) for t in range(2)
    )
    assert [commit.version for commit in table.history()] == list(range(12, 0, -1))
    table.verify()


# -- against a naive table

ROW = st.tuples(st.integers(0, 6), st.sampled_from(["a", "b", None]), st.integers(-5, 5))
STEP = st.tuples(st.sampled_from(["replace", "append", "upsert", "restore"]), st.lists(ROW, min_size=1, max_size=8))


def last_of_each(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [row for index, row in enumerate(rows) if row[0] not in {later[0] for later in rows[index + 1 :]}]


@given(st.lists(STEP, min_size=1, max_size=8), st.sampled_from([(), ("p",)]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
def test_any_changes_agree_with_a_list_of_rows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[tuple[Any, ...]]]], by: tuple[str, ...]
) -> None:
    """Each version has the rows that the same changes make of a list; in the same order where there are no partitions."""
    top = tmp_path_factory.mktemp("any")
    writer = Writer(Store.open((top / "store").as_uri()), top, partition_by=by)
    content: list[tuple[Any, ...]] = []
    versions: list[list[tuple[Any, ...]]] = []
    for operation, given_rows in steps:
        rows = last_of_each(given_rows) if operation == "upsert" else given_rows
        table = pa.table({name: [row[index] for row in rows] for index, name in enumerate("kpv")}, schema=pa.schema(
            [("k", pa.int64()), ("p", pa.string()), ("v", pa.int64())]))  # fmt: skip
        if operation == "restore" and versions:
            number = 1 + given_rows[0][0] % len(versions)
            writer.count += 1
            writer.table.change(f"run-{writer.count}", restoring(writer.table, number, lambda *_: ""))
            content = versions[number - 1]
        elif operation in {"replace", "restore"}:
            writer.replace(table)
            content = rows
        elif operation == "append":
            writer.append(table)
            content = content + rows
        else:
            writer.upsert(table)
            content = [row for row in content if row[0] not in {new[0] for new in rows}] + rows
        versions.append(content)
    for number, expected in enumerate(versions, start=1):
        found = [(row["k"], row["p"], row["v"]) for row in writer.table.at(number).arrow().to_pylist()]
        assert (sorted(map(str, found)) if by else found) == (sorted(map(str, expected)) if by else expected)
    writer.table.verify()


def test_a_column_that_another_writer_added_meanwhile_stays(writer: Writer) -> None:
    """Rows planned before it came have nulls in it; a column whose type changed meanwhile is told."""
    writer.replace(pa.table({"k": [1], "v": ["a"]}))
    early = new_rows(writer.folder / "early", pa.table({"k": [2], "v": ["b"]}))
    wider = new_rows(writer.folder / "wider", pa.table({"k": [3], "v": ["c"], "w": [1.5]}))
    writer.table.change("wider", appending(wider, writer.folder / "wider"))
    writer.table.change("early", appending(early, writer.folder / "early"))
    assert writer.table.at().arrow().to_pylist() == [
        {"k": 1, "v": "a", "w": None}, {"k": 3, "v": "c", "w": 1.5}, {"k": 2, "v": "b", "w": None},
    ]  # fmt: skip
    writer.table.change("other", upserting(early, KEY, writer.folder / "other"))
    assert writer.table.at().schema.names == ["k", "v", "w"]
    writer.replace(pa.table({"k": ["text"]}))
    with pytest.raises(SourceMoved, match="column k became string meanwhile"):
        writer.table.change("late", appending(early, writer.folder / "late"))


def test_tables_that_another_program_wrote_can_be_changed(file_store: Store, tmp_path: Path) -> None:
    """It appends, in folders whose names need quoting: no row is lost, and its version reads as any."""
    writer = Writer(file_store, tmp_path, partition_by=["p"])
    writer.replace(pa.table({"k": [3], "p": pa.array([None], pa.string())}))
    rows = pa.table({"k": [1, 2], "p": ["a b", "c/d=é%"]})
    write_deltalake(writer.table.location, rows, mode="append", partition_by=["p"])
    assert (writer.table.at().rows, writer.table.at().run) == (3, None)
    writer.upsert(pa.table({"k": [2], "p": ["new"]}))
    found = sorted((row["k"], row["p"] or "") for row in writer.table.at().arrow().to_pylist())
    assert found == [(1, "a b"), (2, "new"), (3, "")]
    for _ in range(20):
        writer.append(pa.table({"k": [9], "p": ["a b"]}))
    assert writer.table.at().rows == 23
