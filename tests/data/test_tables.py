"""Tables: versions that never change, loads that commit once, digests of what was written."""
# ruff: noqa: DTZ001 - times without a zone are part of what is tested

import datetime as dt
import decimal
import threading
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mizzen.data.lake import parts as parts_module
from mizzen.data.lake.errors import DigestMismatch, RowsUnfit, VersionMissing
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import Part, PartWriter
from mizzen.data.lake.rows import as_stored, storable_schema
from mizzen.data.lake.tables import Table, TableVersion, version_digest


def spooled(folder: Path, rows: pa.Table, chunk: int = 1000) -> tuple[list[Part], pa.Schema]:
    schema = storable_schema(rows.schema)
    writer = PartWriter(folder, schema)
    for start in range(0, rows.num_rows, chunk):
        writer.write(as_stored(rows.slice(start, chunk), schema))
    return writer.close(), schema


def committed(table: Table, folder: Path, rows: pa.Table, run: str) -> TableVersion:
    parts, schema = spooled(folder / f"{run}-spool", rows)
    return table.commit(parts, schema, run, facts=f"facts of {run}")


def test_versions_stay_as_they_were(store: Store, tmp_path: Path) -> None:
    """Each load replaces the content; the older version reads as before, columns and all."""
    table = Table(store, "default", "things")
    assert not table.exists()
    with pytest.raises(VersionMissing, match="no version yet"):
        table.at()
    first = committed(table, tmp_path, pa.table({"x": [1, 2, 3], "a name, with; signs": ["a", None, "c"]}), "run-1")
    second = committed(table, tmp_path, pa.table({"y": [1.5]}), "run-2")
    assert (first.version, second.version) == (1, 2)
    assert table.at(1).arrow().to_pydict() == {"x": [1, 2, 3], "a name, with; signs": ["a", None, "c"]}
    assert table.at().arrow().to_pydict() == {"y": [1.5]}
    assert (table.at(1).rows, table.at(1).run, table.at(1).facts) == (3, "run-1", "facts of run-1")
    assert [(c.version, c.run, c.digest) for c in table.history()] == [
        (2, "run-2", second.digest),
        (1, "run-1", first.digest),
    ]
    for missing in (0, 3, 99):
        with pytest.raises(VersionMissing, match=f"no version {missing}"):
            table.at(missing)
    table.verify()
    table.verify(1)


def test_a_run_commits_once(store: Store, tmp_path: Path) -> None:
    """Whoever repeats a run gets the version it made, whatever rows it brings."""
    table = Table(store, "default", "things")
    assert table.committed_by("run-1") is None
    committed(table, tmp_path, pa.table({"x": [1]}), "run-1")
    committed(table, tmp_path, pa.table({"x": [2]}), "run-2")
    again = committed(table, tmp_path / "again", pa.table({"z": ["other"]}), "run-1")
    assert (again.version, again.arrow().to_pydict()) == (1, {"x": [1]})
    assert len(table.history()) == 2


def test_racing_writers_each_commit_once(store: Store, tmp_path: Path) -> None:
    """Eight writers, two for each run, on a table that is not there yet: four versions, each complete."""
    made: list[tuple[str, int]] = []
    gate = threading.Barrier(8)

    def write(index: int) -> None:
        run = f"run-{index % 4}"
        parts, schema = spooled(tmp_path / str(index), pa.table({"x": [index % 4] * 100}))
        gate.wait()
        made.append((run, Table(store, "default", "raced").commit(parts, schema, run).version))

    writers = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(made) == 8
    assert len(set(made)) == 4
    table = Table(store, "default", "raced")
    assert sorted(commit.version for commit in table.history()) == [1, 2, 3, 4]
    for run, version in made:
        assert set(table.at(version).arrow().column("x").to_pylist()) == {int(run[-1])}


def test_a_reader_is_not_disturbed_by_a_writer(file_store: Store, tmp_path: Path) -> None:
    """A scan that has begun ends with the rows of its version."""
    table = Table(file_store, "default", "things")
    committed(table, tmp_path, pa.table({"x": list(range(300_000))}), "run-1")
    batches = table.at().batches()
    seen = next(batches).num_rows
    committed(table, tmp_path, pa.table({"other": ["x"]}), "run-2")
    assert seen + sum(batch.num_rows for batch in batches) == 300_000


def test_rows_in_every_form(store: Store, tmp_path: Path) -> None:
    """Arrow, pandas, batches and DuckDB (a new connection or the user's) agree, with a choice of columns."""
    table = Table(store, "default", "things")
    version = committed(table, tmp_path, pa.table({"x": list(range(2500)), "y": ["a"] * 2500}), "run-1")
    assert version.arrow(["x"]).column_names == ["x"]
    assert version.pandas()["x"].sum() == sum(range(2500))
    assert sum(batch.num_rows for batch in version.batches()) == 2500
    assert version.duckdb().filter("x >= 2000").aggregate("count(*)").fetchall() == [(500,)]
    with duckdb.connect() as connection:
        rows = version.duckdb(connection)
        assert connection.sql("SELECT max(x) FROM rows").fetchall() == [(2499,)]
        assert rows.columns == ["x", "y"]


def test_rows_keep_their_order_across_files(file_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of many files reads in the order in which it was written."""
    monkeypatch.setattr(parts_module, "GROUP_ROWS", 10)
    monkeypatch.setattr(parts_module, "FILE_BYTES", 1)
    parts, schema = spooled(tmp_path / "spool", pa.table({"x": list(range(250))}), chunk=10)
    assert len(parts) == 25
    version = Table(file_store, "default", "many").commit(parts, schema, "run-1")
    assert version.arrow().column("x").to_pylist() == list(range(250))
    assert (version.rows, version.bytes) == (250, sum(part.bytes for part in parts))


def test_the_digest_is_of_columns_and_bytes(store: Store, tmp_path: Path) -> None:
    """The same rows have the same digest wherever they are; a value, a name, a type or an order changes it."""

    def digest(name: str, rows: pa.Table) -> str:
        return str(committed(Table(store, "default", name), tmp_path / name, rows, "run-1").digest)

    plain = pa.table({"x": pa.array([1, 2], pa.int64())})
    assert digest("a", plain) == digest("b", plain)
    others = [
        pa.table({"x": pa.array([1, 3], pa.int64())}),
        pa.table({"y": pa.array([1, 2], pa.int64())}),
        pa.table({"x": pa.array([1, 2], pa.int32())}),
        pa.table({"x": pa.array([2, 1], pa.int64())}),
    ]
    digests = {digest(f"other-{index}", rows) for index, rows in enumerate(others)}
    assert len(digests | {digest("c", plain)}) == 5


def test_damage_is_found(file_store: Store, tmp_path: Path) -> None:
    """A data file that was changed behind the table's back fails `verify`."""
    table = Table(file_store, "default", "things")
    committed(table, tmp_path, pa.table({"x": [1, 2, 3]}), "run-1")
    (name,) = [found.path for found in file_store.list(table.path) if found.path.endswith(".parquet")]
    pq.write_table(pa.table({"x": [1, 2, 4]}), tmp_path / "forged")
    file_store.put(name, tmp_path / "forged")
    with pytest.raises(DigestMismatch, match="version 1"):
        table.verify()


NOW = dt.datetime(2020, 2, 29, 12, 30, 0, 123456)
STORED = {
    "uint8": (pa.array([0, 255], pa.uint8()), pa.int16()),
    "uint32": (pa.array([0, 2**32 - 1], pa.uint32()), pa.int64()),
    "half": (pa.array([0.5, None], pa.float16()), pa.float32()),
    "large text": (pa.array(["a", None], pa.large_string()), pa.string()),
    "text view": (pa.array(["a", None], pa.string_view()), pa.string()),
    "dictionary": (pa.array(["a", "b"]).dictionary_encode(), pa.string()),
    "fixed bytes": (pa.array([b"ab", None], pa.binary(2)), pa.binary()),
    "seconds": (pa.array([NOW.replace(microsecond=0), None], pa.timestamp("s")), pa.timestamp("us")),
    "nanoseconds": (pa.array([NOW, None], pa.timestamp("ns", "Europe/Berlin")), pa.timestamp("us", "UTC")),
    "no zone": (pa.array([NOW, None], pa.timestamp("us")), pa.timestamp("us")),
    "date64": (pa.array([NOW.date(), None], pa.date64()), pa.date32()),
    "decimal": (pa.array([decimal.Decimal("1.50"), None], pa.decimal128(10, 2)), pa.decimal128(10, 2)),
    "nothing": (pa.nulls(2), pa.string()),
    "lists": (pa.array([[1], None], pa.list_(pa.uint8())), pa.list_(pa.field("element", pa.int16()))),
    "struct": (pa.array([{"a": 1}, None], pa.struct([("a", pa.uint8())])), pa.struct([("a", pa.int16())])),
    "map": (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), pa.map_(pa.string(), pa.int64())),
}  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_every_type_that_can_be_kept_is(file_store: Store, tmp_path: Path, name: str) -> None:
    """The nearest Delta type, the same values; also as a second version of a table that began with others."""
    column, type_ = STORED[name]
    table = Table(file_store, "default", "types")
    committed(table, tmp_path, pa.table({"x": [1]}), "run-1")
    version = committed(table, tmp_path, pa.table({"c": column}), "run-2")
    assert version.schema.field("c").type == type_
    found, expected = version.arrow().column("c").to_pylist(), column.to_pylist()
    if pa.types.is_timestamp(column.type) and column.type.tz:
        expected = [None if value is None else value.astimezone(dt.UTC) for value in expected]
    assert [str(value) for value in found] == [str(value) for value in expected]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pa.table({"x": pa.array([2**64 - 1], pa.uint64())}), "does not fit int64"),
        (pa.table({"x": pa.array([dt.timedelta(1)])}), "found duration"),
        (pa.table({"x": pa.array([dt.time(1)])}), "found time64"),
        (pa.table({"a": [1], "A": [2]}), "more than case"),
        (pa.table([[1], [2]], names=["a", "a"]), "more than once"),
        (pa.table({" ": [1]}), "expected a name"),
        (pa.table({}), "at least one column"),
    ],
)  # fmt: skip
def test_rows_that_no_table_can_hold_are_refused_by_name(rows: pa.Table, message: str) -> None:
    """The error names the column and what was found."""
    with pytest.raises(RowsUnfit, match=message):
        as_stored(rows, storable_schema(rows.schema))


CELLS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(st.tuples(CELLS, st.one_of(st.none(), st.text()), st.floats()), max_size=40), st.integers(1, 20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_any_rows_come_back_whatever_the_chunks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int | None, str | None, float]], chunk: int
) -> None:
    """Commit, then read, is the identity; the digest is that of the files."""
    top = tmp_path_factory.mktemp("any")
    table = Table(Store.open((top / "store").as_uri()), "ns", "any")
    data = pa.table(
        {
            "i": pa.array([row[0] for row in rows], pa.int64()),
            "s": pa.array([row[1] for row in rows], pa.string()),
            "f": pa.array([row[2] for row in rows], pa.float64()),
        }
    )
    parts, schema = spooled(top / "spool", data, chunk)
    version = table.commit(parts, schema, "run")
    assert version.arrow().equals(data) or repr(version.arrow().to_pydict()) == repr(data.to_pydict())
    assert version.digest == version_digest(schema, [part.sha256 for part in parts])
    table.verify()
