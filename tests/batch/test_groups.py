"""Row groups: every row in exactly one, whatever the files, the Parquet row groups in them and what is missing."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.batch.builders import put_table

from mizzen.data.lake.objects import Store
from mizzen.serving.batch.groups import groups_of, read, share


@given(files=st.lists(st.integers(0, 50), max_size=8), group_rows=st.integers(1, 60), pods=st.integers(1, 9))
def test_every_row_is_in_one_group_of_one_pod(files: list[int], group_rows: int, pods: int) -> None:
    """The groups cover the rows in order without overlap, and the Pods' shares cover the groups."""
    groups = groups_of(files, group_rows)
    rows = [(group.file, group.start + row) for group in groups for row in range(group.rows)]
    assert rows == [(file, row) for file, count in enumerate(files) for row in range(count)]
    assert [group.number for group in groups] == list(range(len(groups)))
    assert all(1 <= group.rows <= group_rows for group in groups)
    shares = [share(groups, index, pods) for index in range(pods)]
    assert [group for part in shares for group in part] == groups
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("seed", range(6))
def test_what_is_missing_is_read_row_by_row_as_it_was_written(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any choice of groups, of files with row groups of any size, is read with just its rows, in order."""
    chance = random.Random(seed)
    store = Store.open((tmp_path / "store").as_uri())
    sizes = chance.randrange(1, 40)

    def small_groups(self: pq.ParquetWriter, table: pa.Table, row_group_size: int | None = None) -> None:
        write(self, table, row_group_size=sizes)

    write = pq.ParquetWriter.write_table
    monkeypatch.setattr(pq.ParquetWriter, "write_table", small_groups)
    count = chance.randrange(1, 400)
    rows = pa.table({"id": pa.array(range(count), pa.int64()), "x": pa.array([str(n) for n in range(count)])})
    version = put_table(store, tmp_path, rows, files=chance.randrange(1, 5))
    groups = groups_of([file.rows for file in version.files], chance.randrange(1, 90))
    wanted = [group for group in groups if chance.random() < 0.6]
    starts = [0]
    for file in version.files:
        starts.append(starts[-1] + file.rows)
    found = list(read(version, wanted, ["id"]))
    assert [group for group, _ in found] == wanted
    for group, table in found:
        first = starts[group.file] + group.start
        assert table.column("id").to_pylist() == list(range(first, first + group.rows))
        assert table.schema.names == ["id"]
