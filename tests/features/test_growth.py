"""What was added to a table since: a view that follows one is never read anew because the lake tidied up."""

import random
from pathlib import Path

import pyarrow as pa
import pytest
from tests.features.builders import defined
from tests.features.test_materialise import NOW, SPEC, committed, expect_online, parts_of, rows_of
from tests.features.test_online import us

from mizzen.data.features.online.lmdb_store import LmdbStore
from mizzen.data.features.online.materialise import Materialised, materialise
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.online.writer import OnlineWriter
from mizzen.data.lake.changes import NewRows, appending
from mizzen.data.lake.growth import growth
from mizzen.data.lake.objects import Store
from mizzen.data.lake.rows import storable_schema
from mizzen.data.lake.tables import Table, TableVersion


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(Store.open((tmp_path / "store").as_uri()), "default", "payments")


def appended(table: Table, folder: Path, rows: pa.Table, partition_by: tuple[str, ...] = ()) -> TableVersion:
    """A load that appends, as the lake does it: many small files become one."""
    number = random.Random(len(rows)).getrandbits(32)
    run = f"{folder.name}-{number}-{len(list(folder.glob('*')))}"
    parts, schema = parts_of(folder / run, [rows])
    made = table.change(run, appending(NewRows(parts, schema, partition_by=partition_by), folder / f"work-{run}"))
    assert made is not None
    return made


def follower(store: LmdbStore, rows: pa.Table) -> OnlineWriter:
    return OnlineWriter(store, OnlineView(defined(**SPEC), storable_schema(rows.schema)))


def follow(writer: OnlineWriter, source: TableVersion) -> Materialised:
    return materialise(writer, source, lambda: us(NOW), step_rows=30)


@pytest.mark.parametrize("every", [1, 7, 40])
def test_a_view_follows_through_compactions(every: int, table: Table, lmdb_store: LmdbStore, tmp_path: Path) -> None:
    """Each row once and none twice, whether it looks at every version or misses many of them, in one generation."""
    batches = [rows_of(seed, 20) for seed in range(40)]
    writer = follower(lmdb_store, batches[0])
    read = 0
    for number, rows in enumerate(batches, 1):
        version = appended(table, tmp_path, rows)
        if number % every == 0:
            read += follow(writer, version).rows
    done = follow(writer, table.at())
    assert (read + done.rows, done.generation) == (40 * 20, 0)
    assert len(table.at().files) < 20, "the lake wrote files together meanwhile"
    expect_online(lmdb_store, pa.concat_tables(batches))
    assert writer.place().tally().rows == 40 * 20


def test_a_partitioned_table_is_followed_too(table: Table, lmdb_store: LmdbStore, tmp_path: Path) -> None:
    """The values of partition columns are in no file, and the view has them."""
    batches = [rows_of(seed, 30) for seed in range(20)]
    batches = [b.append_column("card_kind", pa.array(["a", "b", "c"] * 10)) for b in batches]
    spec = {**SPEC, "columns": ["amount", "card_kind"]}
    writer = OnlineWriter(lmdb_store, OnlineView(defined(**spec), storable_schema(batches[0].schema)))
    for number, rows in enumerate(batches):
        version = appended(table, tmp_path, rows, ("card_kind",))
        if number % 3 == 0:
            follow(writer, version)
    assert follow(writer, table.at()).generation == 0
    assert writer.place().tally().rows == 20 * 30
    cards = [(f"card-{n}",) for n in range(20)]
    found = OnlineReader(lmdb_store, writer.view, lambda: us(NOW)).many(cards).to_arrow()
    assert found.column("card_kind").null_count == 0
    assert set(found.column("card_kind").to_pylist()) <= {"a", "b", "c"}


def test_rows_that_went_are_told_from_files_that_were_written_together(table: Table, tmp_path: Path) -> None:
    first = committed(table.store, tmp_path, [rows_of(1, 10)], "r1")
    second = committed(table.store, tmp_path, [rows_of(2, 10)], "r2")
    assert growth(table, first.version, second) is None
    assert growth(table, 0, first) is not None
    assert growth(table, second.version, second) == []


def test_what_was_half_read_is_finished_before_what_came_since(
    table: Table, lmdb_store: LmdbStore, tmp_path: Path
) -> None:
    """Killed in the middle of a version that the lake has tidied away when it starts again."""
    batches = [rows_of(seed, 90) for seed in range(30)]
    writer = follower(lmdb_store, batches[0])
    follow(writer, appended(table, tmp_path, batches[0]))
    half = appended(table, tmp_path, batches[1])

    class Killed(Exception):
        pass

    def kill(_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        materialise(writer, half, lambda: us(NOW), step_rows=30, stepped=kill)
    assert writer.place().file_rows == 30
    for rows in batches[2:]:
        appended(table, tmp_path, rows)
    done = follow(writer, table.at())
    assert (done.rows, done.generation) == (28 * 90 + 60, 0)
    expect_online(lmdb_store, pa.concat_tables(batches))


def test_two_that_materialise_at_once_count_nothing_twice(table: Table, lmdb_store: LmdbStore, tmp_path: Path) -> None:
    """At each step of one, the other one makes a step, or all of them."""
    batches = [rows_of(seed, 90) for seed in range(6)]
    one, two = follower(lmdb_store, batches[0]), follower(lmdb_store, batches[0])
    for number, rows in enumerate(batches):
        version = appended(table, tmp_path, rows)
        if number % 2:
            materialise(one, version, lambda: us(NOW), step_rows=20, stepped=lambda _: follow(two, version))
    assert one.place().tally().rows == 6 * 90
    expect_online(lmdb_store, pa.concat_tables(batches))


def test_a_table_made_anew_under_the_same_name_is_read_anew(lmdb_store: LmdbStore, tmp_path: Path) -> None:
    writer = follower(lmdb_store, rows_of(1, 10))
    for seed in (1, 2):
        lake = Store.open((tmp_path / f"store-{seed}").as_uri())
        follow(writer, committed(lake, tmp_path, [rows_of(seed, 50)], f"r{seed}"))
    assert writer.place().serving == 1
    expect_online(lmdb_store, rows_of(2, 50))
