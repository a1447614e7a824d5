"""Inputs and outputs of every sort: empty, partitioned, with nothing selected, on a folder and on S3, added to and replaced."""

from pathlib import Path

import pyarrow as pa
import pytest
from tests.batch.builders import Told, clock, put_table, rows_of, task
from tests.batch.doubling import DIGEST, DOUBLING, doubling

from mizzen.data.lake.changes import NewRows, replacing
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.tables import QUARANTINE, Table
from mizzen.data.pod import Failure
from mizzen.kinds.data import LoadReport
from mizzen.serving.batch.running import BatchPod


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return Store.open((tmp_path / "store").as_uri())
    request.getfixturevalue("s3")
    return Store.open(f"s3://lake/{tmp_path.name}")


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store.open((tmp_path / "store").as_uri())


async def run(store: Store, name: str = "run-1", **changes) -> LoadReport:
    told = Told()
    await BatchPod(task(store, DIGEST, DOUBLING, run=name, **changes), 0, told, [doubling], clock).run()
    (report,) = told.reports
    return report


def x(*values: int | None) -> pa.Table:
    return pa.table({"x": pa.array(values, pa.int64())})


async def test_runs_on_any_store(store: Store, tmp_path: Path) -> None:
    """Kept, committed, set aside and cleaned up alike, with the report in the commit."""
    put_table(store, tmp_path, x(*range(1, 251)), files=3)
    output = {"dataset": "out", "errors": "quarantine"}
    report = await run(store, output=output)
    assert [row["y"] for row in rows_of(store)] == [2 * value for value in range(1, 251) if value % 97]
    assert [row["x"] for row in rows_of(store, folder=QUARANTINE)] == [97, 194]
    assert (report.rows, report.quarantined_rows, report.inputs[0].version) == (248, 2, 1)
    assert report.quarantine_location == store.url_of("quarantine/ns/out")
    kept = LoadReport.model_validate_json(Table(store, "ns", "out").at().facts)
    assert kept.model_copy(update={"version": 1}) == report
    assert store.list("runs") == []
    assert await run(store, output=output) == report, "who repeats a run finds it made"


async def test_an_empty_dataset_makes_an_empty_version(folder: Store, tmp_path: Path) -> None:
    put_table(folder, tmp_path, x())
    assert (await run(folder)).rows == 0
    assert Table(folder, "ns", "out").at().schema.names == ["x", "y", "error"]


async def test_a_condition_that_is_true_of_no_row_makes_an_empty_version(folder: Store, tmp_path: Path) -> None:
    put_table(folder, tmp_path, x(*range(1, 500)))
    assert (await run(folder, where="x > 1000")).rows == 0


async def test_columns_by_which_the_input_is_partitioned_are_read_as_any(folder: Store, tmp_path: Path) -> None:
    """The values that a table's files do not hold themselves: kept, selected by, and given to the model."""
    rows = pa.table(
        {"x": pa.array(range(1, 91), pa.int64()), "part": pa.array([n % 3 for n in range(1, 91)], pa.int64())}
    )
    writer = PartWriter(tmp_path / "rows", rows.schema)
    writer.write(rows)
    new = NewRows(writer.close(), rows.schema, partition_by=("part",))
    Table(folder, "ns", "in").change("load", replacing(new, tmp_path))
    await run(folder, where="part <> 1", groupRows=7)
    found = sorted((row["x"], row["part"], row["y"]) for row in rows_of(folder))
    assert found == [(n, n % 3, 2 * n) for n in range(1, 91) if n % 3 != 1]
    await run(
        folder, "run-2", columns={"x": "part"}, output={"dataset": "other", "keep": ["x"], "errors": "quarantine"}
    )
    assert sorted((row["x"], row["y"]) for row in rows_of(folder, "other")) == [
        (n, 2 * (n % 3)) for n in range(1, 91) if n % 3
    ]


async def test_what_is_refused_before_the_model_is_asked_counts_like_the_rest(folder: Store, tmp_path: Path) -> None:
    """A null where the model takes a whole number; and of few rows, all: that is no result."""
    put_table(folder, tmp_path, x(1, None, 97, 4))
    report = await run(folder)
    assert [(row["y"], row["error"]) for row in rows_of(folder)] == [
        (2, None), (None, "x: expected a value for the model's INT64, found null"), (None, "refused 97"), (8, None),
    ]  # fmt: skip
    assert report.checks[0].failed_rows == 2
    put_table(folder, tmp_path, x(97, None), name="bad")
    told = Told()
    of = task(folder, DIGEST, DOUBLING, run="run-2", input={"name": "bad", "version": 1})
    with pytest.raises(Failure) as failed:
        await BatchPod(of, 0, told, [doubling], clock).run()
    assert failed.value.reason == "EveryRowFails"
    assert "refused every one of 2 rows" in told.results[0].message


async def test_too_many_errors_of_all_pods_together_make_no_version(folder: Store, tmp_path: Path) -> None:
    """Each Pod's part is within the limit, and their sum is not."""
    put_table(folder, tmp_path, x(97, *range(1, 90), 97))
    told = Told()
    of = task(folder, DIGEST, DOUBLING, parallelism=2, groupRows=46, errorLimit="1")
    await BatchPod(of, 0, told, [doubling], clock).run()
    assert told.results == [], "its own part is within the limit"
    with pytest.raises(Failure) as failed:
        await BatchPod(of, 1, told, [doubling], clock).run()
    assert failed.value.reason == "TooManyErrors"
    assert told.results[0].succeeded is False
    assert not Table(folder, "ns", "out").exists()


async def test_versions_are_replaced_or_added_to_and_kept_as_long_as_is_said(folder: Store, tmp_path: Path) -> None:
    put_table(folder, tmp_path, x(1, 2))
    for number in (1, 2, 3):
        await run(folder, f"run-{number}", retention={"versions": 2})
    table = Table(folder, "ns", "out")
    assert (len(rows_of(folder)), table.oldest(), table.at().version) == (2, 2, 3)
    await run(folder, "run-4", output={"dataset": "out", "mode": "append"})
    assert [row["y"] for row in rows_of(folder)] == [2, 4, 2, 4]
