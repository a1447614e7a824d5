"""SQL over tables by name, and what tells two versions apart."""

from pathlib import Path

import pyarrow as pa
import pytest
from tests.data.test_changes import Writer

from mizzen.data.lake.errors import VersionMissing
from mizzen.data.lake.objects import Store
from mizzen.data.lake.queries import QueryFailed, difference, query, tables_in
from mizzen.data.lake.tables import TableVersion


@pytest.mark.parametrize(("text", "expected"), [
    ("SELECT * FROM a", ["a"]), ('SELECT * FROM "a-b@3" x JOIN c USING (k)', ["a-b@3", "c"]),
    ("WITH q AS (SELECT * FROM a) SELECT * FROM q, b", ["a", "b"]),
    ("WITH a AS (SELECT 1) SELECT * FROM a", []), ("SELECT (SELECT max(x) FROM d) FROM range(3)", ["d"]),
    ("SELECT * FROM a UNION SELECT * FROM b WHERE x IN (SELECT y FROM c)", ["a", "b", "c"]), ("SELECT 1", []),
])  # fmt: skip
def test_tables_of_a_query(text: str, expected: list[str]) -> None:
    assert sorted(tables_in(text)) == sorted(expected)


@pytest.mark.parametrize("text", ["SELEC 1", "DROP TABLE x", "INSERT INTO x VALUES (1)", ""])
def test_what_is_no_query_is_refused(text: str) -> None:
    with pytest.raises(QueryFailed):
        query(text, lambda *_: pytest.fail("no table is opened"))  # type: ignore[arg-type, return-value]


@pytest.fixture
def writer(file_store: Store, tmp_path: Path) -> Writer:
    made = Writer(file_store, tmp_path)
    made.replace(pa.table({"k": [1, 2, 2], "v": ["a", "b", "b"], "old": [1, 1, 1]}))
    made.replace(pa.table({"k": [1, 2, 3], "v": ["A", "b", "c"], "new": [1.5, 1.5, 1.5]}))
    return made


def test_a_query_reads_versions_by_name(writer: Writer) -> None:
    def lookup(name: str, version: int | None) -> TableVersion:
        assert name == "t"
        return writer.table.at(version)

    assert query('SELECT count(*) AS n FROM t JOIN "t@1" b USING (k)', lookup).to_pylist() == [{"n": 3}]
    with pytest.raises(VersionMissing, match="version 9"):
        query('SELECT * FROM "t@9"', lookup)
    with pytest.raises(QueryFailed, match="expected a version as NAME@NUMBER"):
        query('SELECT * FROM "t@new"', lookup)
    with pytest.raises(QueryFailed, match="nothing"):
        query("SELECT nothing FROM t", lookup)


def test_rows_are_compared_as_multisets_or_by_key(writer: Writer) -> None:
    """A row that was there twice and is there once is one removed; with a key, changed values are told as such."""
    before, after = writer.table.at(1), writer.table.at(2)
    found = difference(before, after)
    assert (found.columns_added, found.columns_removed) == ({"new": "double"}, {"old": "int64"})
    assert dict(found.counts) == {"added": 2, "removed": 2}
    assert sorted(row["v"] for row in found.removed.to_pylist()) == ["a", "b"]
    by_key = difference(before, after, ["k"])
    assert dict(by_key.counts) == {"added": 1, "removed": 0, "changed": 1}
    assert by_key.changed is not None
    assert by_key.changed.to_pylist() == [{"k": 1, "v": "A"}]
    assert dict(difference(after, after).counts) == {"added": 0, "removed": 0}
    assert difference(before, after, limit=1).added.num_rows == 1
    with pytest.raises(QueryFailed, match="expected key columns that both versions have, found no old"):
        difference(before, after, ["old"])


def test_a_changed_type_is_told(writer: Writer) -> None:
    writer.replace(pa.table({"k": ["1"], "v": ["A"]}))
    assert difference(writer.table.at(2), writer.table.at(3)).columns_changed == {"k": ("int64", "string")}
