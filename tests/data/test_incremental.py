"""Loads by parts: by file, by watermark, by key; what a source that changes does to its table."""

import json
import sys
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.project import NOW, Project

from mizzen.data.ingest.loading import NOTHING_NEW, Load
from mizzen.data.lake.errors import SourceMoved
from mizzen.data.pod import Failure

BY_FILE = {"mode": "append", "newFiles": True}


def by_watermark(mode: str = "append", **more: Any) -> dict[str, Any]:
    return {"mode": mode, "watermark": "at", **more}


def ids(project: Project) -> list[Any]:
    return [row["id"] for row in project.rows()]


# -- by file


def test_only_new_and_changed_files_are_read(project: Project) -> None:
    """A new file adds its rows; a changed one's take the place of those it had; one that is gone keeps its rows."""
    load = {"source": {"files": ["*.csv"]}, "load": BY_FILE}
    project.put("a.csv", "id,v\n1,a\n2,b\n")
    project.put("b.csv", "id,v\n3,c\n")
    first = project.load("r1", **load)
    assert (first.operation, first.rows, first.version) == ("replace", 3, 1)
    assert [(row["id"], row["_file"]) for row in project.rows()] == [(1, "a.csv"), (2, "a.csv"), (3, "b.csv")]
    again = project.load("r2", **load)
    assert (again.operation, again.version, again.rows_added, again.rows) == (NOTHING_NEW, 1, 0, 3)
    project.put("c.csv", "id,v\n4,d\n")
    project.put("a.csv", "id,v\n1,A\n")
    (project.folder / "project" / "b.csv").unlink()
    third = project.load("r3", **load)
    assert (third.operation, third.rows_added, third.rows, third.version) == ("append", 2, 3, 2)
    assert [(row["id"], row["v"]) for row in project.rows()] == [(3, "c"), (1, "A"), (4, "d")]
    assert project.rows(1)[0] == {"id": 1, "v": "a", "_file": "a.csv"}, "older versions stay as they were"


def test_a_file_that_became_empty_takes_its_rows_with_it(project: Project) -> None:
    load = {"source": {"files": ["*.csv"]}, "load": BY_FILE}
    project.put("a.csv", "id\n1\n")
    project.put("b.csv", "id\n2\n")
    project.load("r1", **load)
    project.put("a.csv", "id\n")
    assert project.load("r2", **load).rows == 1
    assert ids(project) == [2]


@pytest.mark.parametrize("ending", ["parquet", "arrow", "feather", "jsonl", "tsv"])
def test_every_format_is_loaded_by_file(project: Project, ending: str) -> None:
    """Types survive, and the rows say where they came from."""
    for name, value in (("a", 1), ("b", 2)):
        path = project.put(f"{name}.{ending}", "")
        table = pa.table({"id": [value], "s": ["x"]})
        if ending == "parquet":
            pq.write_table(table, path)
        elif ending == "jsonl":
            path.write_text(json.dumps(table.to_pylist()[0]) + "\n")
        elif ending == "tsv":
            path.write_text(f"id\ts\n{value}\tx\n")
        else:
            make = pa.ipc.new_file if ending == "arrow" else pa.ipc.new_stream
            with make(path, table.schema) as writer:
                writer.write_table(table)
    report = project.load("r1", source={"files": [f"*.{ending}"]}, load=BY_FILE)
    assert [(column.name, column.type) for column in report.columns] == [
        ("id", "int64"),
        ("s", "string"),
        ("_file", "string"),
    ]
    assert [(row["id"], row["_file"]) for row in project.rows()] == [(1, f"a.{ending}"), (2, f"b.{ending}")]


def test_objects_of_a_bucket_are_loaded_by_file(project: Project, s3: None, s3_endpoint: str) -> None:
    """What tells a changed object is what the bucket says of it."""
    client = boto3.client("s3", endpoint_url=s3_endpoint)

    def put(name: str, text: str) -> None:
        client.put_object(Bucket="lake", Key=f"by-file/{name}", Body=text.encode())

    load = {"source": {"files": ["s3://lake/by-file/*.csv"]}, "load": BY_FILE, "code": None}
    put("a.csv", "id\n1\n")
    project.load("r1", **load)
    put("a.csv", "id\n1\n")
    assert project.load("r2", **load).operation == NOTHING_NEW, "the same bytes again are no change"
    put("a.csv", "id\n7\n")
    put("b.csv", "id\n8\n")
    assert project.load("r3", **load).rows == 2
    assert [(row["id"], row["_file"].rpartition("/")[2]) for row in project.rows()] == [(7, "a.csv"), (8, "b.csv")]


def test_the_types_of_a_text_file_give_way_to_the_tables(project: Project) -> None:
    """Whole numbers in a later file of a column of doubles are doubles; text is not."""
    load = {"source": {"files": ["*.csv"]}, "load": BY_FILE}
    project.put("a.csv", "id\n1.5\n")
    project.load("r1", **load)
    project.put("b.csv", "id\n2\n")
    assert project.load("r2", **load).columns[0].type == "double"
    project.put("c.csv", "id\nnone of your business\n")
    with pytest.raises(Failure, match=r"column id: expected double, found string with a value that is none"):
        project.load("r3", **load)
    assert ids(project) == [1.5, 2.0]


# -- by watermark


ROWS = """
import datetime as dt
def rows(since):
    print("since", since)
    everything = {everything}
    return [row for row in everything if since is None or row["at"] > since]
"""


def write_rows(project: Project, *rows: tuple[int, int]) -> None:
    everything = [{"id": id_, "at": at} for id_, at in rows]
    project.write(source=ROWS.replace("{everything}", repr(everything)))


def test_only_rows_above_the_mark_are_asked_for(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    load = {"source": {"python": "source:rows"}, "load": by_watermark()}
    write_rows(project, (1, 10), (2, 20))
    project.load("r1", **load)
    write_rows(project, (1, 10), (2, 20), (3, 30))
    second = project.load("r2", **load)
    assert (second.operation, second.rows_added, ids(project)) == ("append", 1, [1, 2, 3])
    assert project.load("r3", **load).operation == NOTHING_NEW
    assert capsys.readouterr().out.split() == ["since", "None", "since", "20", "since", "30"]


def test_a_full_load_begins_anew(project: Project) -> None:
    """Asked for, or because the source is another one now."""
    write_rows(project, (1, 10))
    load = {"source": {"python": "source:rows"}, "load": by_watermark()}
    project.load("r1", **load)
    write_rows(project, (1, 10), (2, 5))
    assert project.load("r2", **load).operation == NOTHING_NEW
    full = project.load("r3", full=True, **load)
    assert (full.operation, ids(project)) == ("replace", [1, 2])
    changed = project.load("r4", source={"python": "source:rows"}, load=by_watermark(onNewSchema="addColumns"))
    assert changed.operation == "replace"


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (pa.timestamp("us", "UTC"), ["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.000001Z"]),
        (pa.timestamp("us"), ["2020-01-01T00:00:00", "2020-01-01T00:00:01"]),
        (pa.date32(), ["2020-01-01", "2020-01-02"]),
        (pa.decimal128(20, 4), ["1.0001", "1.0002"]),
        (pa.float64(), ["0.1", "0.30000000000000004"]),
        (pa.int64(), ["-9007199254740993", "9007199254740993"]),
        (pa.string(), ["a", "b"]),
    ],
)
def test_a_mark_of_any_type_is_kept_exactly(project: Project, type_: pa.DataType, values: list[str]) -> None:
    """The value asked for is the very one that was greatest: a SQL source does not see it again."""
    column = pa.array(values).cast(type_)
    for index in (1, 2):
        pq.write_table(pa.table({"at": column[:index]}), project.put(f"{index}.parquet", ""))
    base = {"name": "source", "source": {"files": ["1.parquet"]}}
    project.load("base-1", **base)
    load = {
        "source": {"sql": {"query": "SELECT * FROM source", "datasets": [{"name": "source"}]}},
        "load": by_watermark(),
    }
    assert project.load("r1", inputs=[{"name": "source", "version": 1}], **load).rows_added == 1
    project.load("base-2", **{**base, "source": {"files": ["2.parquet"]}})
    assert project.load("r2", inputs=[{"name": "source", "version": 2}], **load).rows_added == 1
    assert project.table.at().arrow().column("at").to_pylist() == column.to_pylist()


def test_a_row_without_a_mark_is_refused(project: Project) -> None:
    """It would never be seen again."""
    project.write(source="def rows(): return [{'id': 1, 'at': 5}, {'id': 2, 'at': None}]")
    with pytest.raises(Failure, match=r"load\.watermark: expected a value of at in every row, found 1 of 2 without"):
        project.load("r1", source={"python": "source:rows"}, load=by_watermark())


def test_two_loads_from_one_place_do_not_both_bring_its_rows(project: Project) -> None:
    """The second of two loads that began at the same place is refused, and finds nothing new when it is repeated."""
    write_rows(project, (1, 10))
    load = {"source": {"python": "source:rows"}, "load": by_watermark()}
    project.load("r1", **load)
    write_rows(project, (1, 10), (2, 20))

    class Slow(Load):
        def _committed(self, *args: Any) -> Any:
            project.load("faster", **load)
            return super()._committed(*args)

    work = project.folder / "slow"
    work.mkdir()
    sys.modules.pop("source", None)
    with pytest.raises(SourceMoved, match="another load of this dataset ended first"):
        Slow(project.task("r2", **load), project.store, work, lambda: NOW).run()
    assert project.load("r2", **load).operation == NOTHING_NEW
    assert ids(project) == [1, 2]


# -- by key


def test_rows_with_the_same_key_are_replaced(project: Project) -> None:
    """Of one load the last counts, by event time where there is one; the others keep their place."""
    upsert = {"source": {"python": "source:rows"}, "load": {"mode": "upsert", "key": ["id"]}}
    project.write(source="def rows(): return [{'id': 1, 'v': 'a'}, {'id': 2, 'v': 'b'}, {'id': 1, 'v': 'c'}]")
    project.load("r1", **upsert)
    assert [(row["id"], row["v"]) for row in project.rows()] == [(2, "b"), (1, "c")]
    project.write(source="def rows(): return [{'id': 2, 'v': 'B'}, {'id': 3, 'v': 'd'}]")
    report = project.load("r2", **upsert)
    assert [(row["id"], row["v"]) for row in project.rows()] == [(1, "c"), (2, "B"), (3, "d")]
    assert (report.operation, report.rows, report.rows_added) == ("upsert", 3, 2)
    assert len(project.rows(1)) == 2
    project.table.verify()


def test_the_latest_event_of_a_key_stays(project: Project) -> None:
    rows = "[{'id': 1, 'at': t(5), 'v': 'new'}, {'id': 1, 'at': t(3), 'v': 'old'}]"
    project.write(
        source=f"import datetime as dt\nt = lambda d: dt.datetime(2020, 1, d, tzinfo=dt.UTC)\ndef rows(): return {rows}"
    )
    project.load("r1", source={"python": "source:rows"}, eventTime="at", load={"mode": "upsert", "key": ["id"]})
    assert [row["v"] for row in project.rows()] == ["new"]


def test_a_row_without_a_key_is_refused(project: Project) -> None:
    project.write(source="def rows(): return [{'id': 1}, {'id': None}]")
    with pytest.raises(Failure, match=r"load\.key: expected a value of id in every row, found 1 of 2 without"):
        project.load("r1", source={"python": "source:rows"}, load={"mode": "upsert", "key": ["id"]})
    with pytest.raises(Failure, match=r"load\.key: expected a column of the source, found no nr \(it has id\)"):
        project.load("r2", source={"python": "source:rows"}, load={"mode": "upsert", "key": ["nr"]})


# -- a source that changes


def evolve(project: Project, first: str, then: str, policy: str | None, mode: str = "append") -> Any:
    load = {"source": {"python": "source:rows"}, "load": {"mode": mode, **({"onNewSchema": policy} if policy else {})}}
    head = "import pyarrow as pa\ndef rows(): return pa.table("
    project.write(source=f"{head}{first})")
    project.load("r1", **load)
    project.write(source=f"{head}{then})")
    return project.load("r2", **load)


GONE = ("{'a': [1], 'b': ['x']}", "{'a': [2]}")
MORE = ("{'a': [1]}", "{'a': [2], 'b': ['y']}")
OTHER = ("{'a': [1]}", "{'a': ['2']}")
WORSE = ("{'a': [1]}", "{'a': ['two']}")
FAILING = {
    ("gone", "fail"): (GONE, r"the source has no column b any more \(it has a\)"),
    ("gone", "addColumns"): (GONE, "no column b any more"),
    ("gone", "cast"): (GONE, "no column b any more"),
    ("more", "fail"): (MORE, r"the source has new columns: b; load.onNewSchema: addColumns takes them in"),
    ("more", None): (MORE, "new columns: b"),
    ("other", "fail"): (OTHER, r"column a: expected int64, found string; load.onNewSchema: cast"),
    ("other", "addColumns"): (OTHER, "column a: expected int64, found string"),
    ("worse", "cast"): (WORSE, "column a: expected int64, found string with a value that is none"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILING, ids=str)
def test_a_change_that_is_not_allowed_is_told_and_nothing_moves(project: Project, case: tuple[str, str | None]) -> None:
    (first, then), message = FAILING[case]
    with pytest.raises(Failure, match=message) as caught:
        evolve(project, first, then, case[1])
    assert caught.value.reason == "WrongColumns"
    assert [commit.run for commit in project.table.history()] == ["r1"]


def test_changes_that_are_allowed(project: Project) -> None:
    """A new column is null in older rows; values that survive it are cast; `replace` takes what comes."""
    assert evolve(project, *MORE, "addColumns").rows == 2
    assert project.rows() == [{"a": 1, "b": None}, {"a": 2, "b": "y"}]
    assert project.rows(1) == [{"a": 1}]


def test_values_are_cast_where_they_survive_it(project: Project) -> None:
    evolve(project, *OTHER, "cast")
    assert project.rows() == [{"a": 1}, {"a": 2}]


def test_a_replacement_takes_what_comes_unless_it_says_otherwise(project: Project) -> None:
    evolve(project, *GONE, None, mode="replace")
    assert project.rows() == [{"a": 2}]


def test_a_replacement_can_hold_its_columns(project: Project) -> None:
    with pytest.raises(Failure, match="no column b any more"):
        evolve(project, *GONE, "fail", mode="replace")


def test_a_column_of_nulls_fits_any(project: Project) -> None:
    evolve(project, "{'a': [1]}", "{'a': pa.nulls(1)}", "fail")
    assert project.rows() == [{"a": 1}, {"a": None}]


# -- times without a zone


def test_event_times_without_a_zone_are_refused_or_placed(project: Project) -> None:
    """Where the spec says which zone, they become moments; what the clocks make impossible is told."""
    source = {"source": {"files": ["a.csv"]}, "eventTime": "at"}
    project.put("a.csv", "at\n2020-07-01T12:00:00\n2020-01-01T12:00:00\n")
    with pytest.raises(Failure, match=r"spec\.eventTime: expected times with a time zone, the values of at have none"):
        project.load("r1", **source)
    project.load("r2", timeZone="Europe/Berlin", **source)
    assert [str(row["at"]) for row in project.rows()] == ["2020-07-01 10:00:00+00:00", "2020-01-01 11:00:00+00:00"]
    project.put("a.csv", "at\n2020-10-25T02:30:00\n")
    with pytest.raises(Failure, match="is there twice in Europe/Berlin"):
        project.load("r3", timeZone="Europe/Berlin", **source)
    project.put("a.csv", "at\n2020-03-29T02:30:00\n")
    with pytest.raises(Failure, match="does not exist in Europe/Berlin"):
        project.load("r4", timeZone="Europe/Berlin", **source)
    with pytest.raises(Failure, match=r"spec\.timeZone: expected the name of a time zone"):
        project.load("r5", timeZone="Mars/Olympus", **source)


# -- checks of loads that add


def test_checks_of_a_load_that_adds_see_what_is_there(project: Project) -> None:
    """`unique` and the number of rows are of the version; a row check is of the new rows."""
    project.write(source="def rows(): return [{'id': 1, 'v': 1}]")
    append = {"source": {"python": "source:rows"}, "load": {"mode": "append"}}
    project.load("r1", **append)
    with pytest.raises(Failure, match=r"id: unique: 1 of 1 rows"):
        project.load("r2", expectations=[{"column": "id", "unique": True}], **append)
    with pytest.raises(Failure, match=r"rows: max 1: found 2 rows"):
        project.load("r3", expectations=[{"maxRows": 1}], **append)
    assert len(project.table.history()) == 1
    report = project.load("r4", expectations=[{"minRows": 2}, {"column": "v", "max": 1}], **append)
    assert [(check.check, check.passed) for check in report.checks] == [("v: max 1", True), ("rows: min 2", True)]


def test_an_upsert_replaces_the_row_that_it_would_repeat(project: Project) -> None:
    upsert = {"source": {"python": "source:rows"}, "load": {"mode": "upsert", "key": ["id"]}}
    project.write(source="def rows(): return [{'id': 1, 'email': 'a'}, {'id': 2, 'email': 'b'}]")
    check = [{"column": "email", "unique": True}]
    project.load("r1", expectations=check, **upsert)
    project.write(source="def rows(): return [{'id': 1, 'email': 'a'}]")
    assert project.load("r2", expectations=check, **upsert).rows == 2
    project.write(source="def rows(): return [{'id': 1, 'email': 'b'}]")
    with pytest.raises(Failure, match="email: unique"):
        project.load("r3", expectations=check, **upsert)


def test_what_is_set_aside_gathers_where_the_table_grows(project: Project) -> None:
    """Rows set aside by every load stay together, each under its load."""
    append = {
        "source": {"python": "source:rows"}, "load": {"mode": "append"},
        "expectations": [{"column": "v", "max": 1, "onFailure": "quarantine"}],
    }  # fmt: skip
    for run, value in (("r1", 5), ("r2", 6)):
        project.write(source=f"def rows(): return [{{'v': 1}}, {{'v': {value}}}]")
        report = project.load(run, **append)
        assert report.quarantined_rows == 1
    side = type(project.table)(project.store, "ns", "things", folder="quarantine").at().arrow().to_pylist()
    assert [(row["v"], row["_run"]) for row in side] == [(5, "r1"), (6, "r2")]
    assert [row["v"] for row in project.rows()] == [1, 1]


def test_a_dataset_cannot_be_named_like_what_another_set_aside(project: Project) -> None:
    """`things.quarantine` is a table of its own, and the rows set aside of `things` are not in it."""
    project.write(source="def rows(): return [{'v': 1}, {'v': 5}]")
    checks = [{"column": "v", "max": 1, "onFailure": "quarantine"}]
    report = project.load("r1", source={"python": "source:rows"}, expectations=checks)
    project.load("r2", name="things.quarantine", source={"python": "source:rows"})
    other = type(project.table)(project.store, "ns", "things.quarantine")
    assert other.at().rows == 2
    assert report.quarantine_location not in {None, other.location}
    assert str(report.quarantine_location).rpartition("/")[2] == "things"
