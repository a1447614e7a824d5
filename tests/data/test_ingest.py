"""Loads, from a source to a version and a report: what goes right, what goes wrong, what is killed and repeated."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.project import NOW, Project

from mizzen.data.ingest import main as ingest_main
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake.tables import Table
from mizzen.data.pod import TRY_AGAIN, Failure
from mizzen.kinds.data import LoadReport

TWO_CHUNKS = """
import pyarrow as pa, pandas as pd
def rows():
    print("the user's own words")
    yield pd.DataFrame({"x": [1, 2], "s": ["a", None]})
    yield pa.table({"s": ["b"], "x": [3]})
"""


def test_a_load_becomes_a_version_and_a_report(project: Project) -> None:
    """Rows, columns, bytes, digest, version and checks of the report are the table's."""
    project.write(source=TWO_CHUNKS)
    checks = [{"column": "x", "min": 1}, {"minRows": 3}]
    report = project.load(source={"python": "source:rows"}, expectations=checks)
    version = project.table.at()
    assert version.arrow().to_pydict() == {"x": [1, 2, 3], "s": ["a", None, "b"]}
    assert report == LoadReport(
        run="run-1", succeeded=True, version=1, digest=version.digest, location=version.location, rows=3,
        bytes=version.bytes, columns=version.columns, checks=report.checks, finished_at="2020-06-01T00:00:00Z",
        operation="replace", rows_added=3,
    )  # fmt: skip
    assert [(check.check, check.passed) for check in report.checks] == [("x: min 1", True), ("rows: min 3", True)]
    assert project.load(source={"python": "source:rows"}, expectations=checks) == report


def test_a_failing_check_commits_nothing(project: Project) -> None:
    """The old version stays, the error carries every result and an example."""
    project.write(source=TWO_CHUNKS)
    project.load(source={"python": "source:rows"})
    checks = [{"column": "x", "min": 2}, {"column": "s", "notNull": True}, {"column": "x", "max": 3}]
    with pytest.raises(Failure, match=r"x: min 2: 1 of 3 rows, for example x = '1'; s: not null") as caught:
        project.load("run-2", source={"python": "source:rows"}, expectations=checks)
    assert [result.passed for result in caught.value.results] == [False, False, True]  # type: ignore[attr-defined]
    assert [commit.run for commit in project.table.history()] == ["run-1"]


def test_quarantine_sets_rows_aside_and_commits_the_rest(project: Project) -> None:
    """The side table says why; checks that fail see what is left."""
    project.write(source=TWO_CHUNKS)
    report = project.load(
        source={"python": "source:rows"},
        expectations=[
            {"column": "s", "notNull": True, "onFailure": "quarantine"},
            {"column": "x", "max": 2, "onFailure": "quarantine"},
            {"column": "s", "notNull": True},
            {"maxRows": 1},
        ],
    )
    assert project.table.at().arrow().to_pylist() == [{"x": 1, "s": "a"}]
    side = Table(project.store, "ns", "things", folder="quarantine").at()
    assert side.arrow().to_pylist() == [
        {"x": 2, "s": None, "_reason": "s: not null", "_run": "run-1"},
        {"x": 3, "s": "b", "_reason": "x: max 2", "_run": "run-1"},
    ]
    assert (report.rows, report.quarantined_rows, report.quarantine_location) == (1, 2, side.location)
    assert [(check.passed, check.action) for check in report.checks] == [
        (False, "quarantine"), (False, "quarantine"), (True, "none"), (True, "none"),
    ]  # fmt: skip
    with pytest.raises(Failure, match="every row was set aside"):
        project.load(
            "run-2",
            source={"python": "source:rows"},
            expectations=[{"column": "x", "max": 0, "onFailure": "quarantine"}],
        )


def test_quarantine_keeps_clear_of_the_rows_own_columns(project: Project) -> None:
    """Rows that have a `_reason` already."""
    project.write(source="def rows(): return [{'_reason': 'a', 'x': 1}, {'_reason': 'b', 'x': 2}]")
    project.load(source={"python": "source:rows"}, expectations=[{"column": "x", "max": 1, "onFailure": "quarantine"}])
    side = Table(project.store, "ns", "things", folder="quarantine").at().arrow()
    assert side.to_pylist() == [{"_reason": "b", "x": 2, "__reason": "x: max 1", "_run": "run-1"}]


GOOD_SOURCES = {
    "a table": "def rows(): return pa.table({'x': [1]})",
    "a batch": "def rows(): return pa.record_batch({'x': [1]})",
    "a reader": "def rows(): return pa.table({'x': [1]}).to_reader()",
    "a frame": "def rows(): return pd.DataFrame({'x': [1]}, index=[7])",
    "dicts": "def rows(): return [{'x': 1}]",
    "dicts with gaps": "def rows(): yield [{'x': 1}, {'y': 'a'}]",
    "a list of frames": "def rows(): return [pd.DataFrame({'x': [1]}), pd.DataFrame({'x': [2]})]",
    "a column of nulls, later": "def rows():\n yield pd.DataFrame({'x': ['a']})\n yield pd.DataFrame({'x': [None]})",
    "no rows": "def rows(): return pa.table({'x': pa.array([], pa.int64())})",
    "another library's": "import duckdb\ndef rows(): return duckdb.sql('SELECT 1 AS x').to_arrow_table()",
}


@pytest.mark.parametrize("name", GOOD_SOURCES)
def test_rows_come_in_every_form_that_people_have(project: Project, name: str) -> None:
    """Each becomes a version."""
    project.write(source=f"import pyarrow as pa, pandas as pd\n{GOOD_SOURCES[name]}\n")
    assert project.load(source={"python": "source:rows"}).version == 1


BAD_SOURCES = {
    "raises": ("def rows():\n    raise ValueError('no more\\nflights')", "SourceFailed", r"source:rows raised ValueError: no more flights \(source\.py:3, in rows\)"),
    "raises late": ("def rows():\n    yield [{'x': 1}]\n    helper()\ndef helper():\n    {}['k']", "SourceFailed", r"KeyError: 'k' \(source\.py:6, in helper\)"),
    "exits": ("import sys\ndef rows(): sys.exit(0)", "SourceFailed", "SystemExit: 0"),
    "fails to import": ("import not_there", "SourceFailed", "ModuleNotFoundError.*not_there"),
    "is no Python": ("def rows(:", "SourceFailed", "SyntaxError"),
    "lacks the function": ("x = 1", "SourceFailed", "expected a function rows in module source, found nothing"),
    "is async": ("async def rows():\n    yield 1", "SourceFailed", "expected a plain function"),
    "is a coroutine": ("async def rows(): return 1", "SourceFailed", "expected a plain function"),
    "returns nothing": ("def rows(): pass", "SourceFailed", "expected Arrow tables.*got NoneType None"),
    "yields nothing": ("def rows(): yield from ()", "SourceFailed", "the source yielded nothing"),
    "returns an empty list": ("def rows(): return []", "SourceFailed", "yielded nothing"),
    "yields numbers": ("def rows(): yield 42", "SourceFailed", "chunk 1: expected Arrow tables.*got int 42"),
    "yields a dict": ("def rows(): return {'x': [1]}", "SourceFailed", "expected Arrow tables.*got dict"),
    "mixes types": ("def rows(): return [{'x': 1}, {'x': 'a'}]", "WrongColumns", "chunk 1: expected columns of one type each"),
    "changes a type": ("def rows():\n yield [{'x': 1}]\n yield [{'x': 1.5}]", "WrongColumns", "chunk 2 column x: expected int64, found double"),
    "changes columns": ("def rows():\n yield [{'x': 1, 'y': 1}]\n yield [{'x': 1, 'z': 1}]", "WrongColumns", "chunk 2 lacks y; has z"),
    "has durations": ("import datetime\ndef rows(): return [{'x': datetime.timedelta(1)}]", "WrongColumns", "column 'x'.*found duration"),
    "repeats a name": ("import pandas as pd\ndef rows(): return pd.DataFrame([[1, 2]], columns=['a', 'a'])", "WrongColumns", "(?i)duplicate|more than once"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_a_bad_source_is_told_in_one_line(project: Project, name: str) -> None:
    """The reason is for programs, the line for people; nothing is committed; it is not tried again."""
    code, reason, message = BAD_SOURCES[name]
    project.write(source=f"\n{code}\n")
    with pytest.raises(Failure, match=message) as caught:
        project.load(source={"python": "source:rows"})
    assert (caught.value.reason, caught.value.exit_code) == (reason, 1)
    assert "\n" not in caught.value.message
    assert not project.table.exists()


def test_code_that_is_missing_or_damaged_is_told(project: Project) -> None:
    """No bundle, an unknown one, a damaged one."""
    project.write(source=TWO_CHUNKS)
    for code, message in ((None, "spec.code"), ("sha256:" + "0" * 64, "nothing is stored there")):
        with pytest.raises(Failure, match=message) as caught:
            project.load(source={"python": "source:rows"}, code=code)
        assert caught.value.reason == "CodeMissing"


# -- files


def put(project: Project, **files: str | bytes) -> None:
    for name, content in files.items():
        path = project.folder / "project" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_csv_types_are_those_of_all_rows(project: Project) -> None:
    """A late fraction, a quoted delimiter, times with a zone, empty fields, another file's column order."""
    many = "".join(f"{index},a,2020-01-01T00:00:00Z\n" for index in range(30_000))
    put(project, a_DOT_csv="n,s,t\n" + many + '1.5,"x, ""y""",\n', b_DOT_csv="s;n;t\n")
    put(project, c_DOT_csv="s,t,n\nz,,7\n")
    report = project.load(source={"files": ["[ac].csv"]}, eventTime="t")
    assert [(column.name, column.type) for column in report.columns] == [
        ("n", "double"), ("s", "string"), ("t", "timestamp[us, tz=UTC]"),
    ]  # fmt: skip
    rows = project.table.at().arrow().to_pylist()
    assert rows[-2:] == [{"n": 1.5, "s": 'x, "y"', "t": None}, {"n": 7.0, "s": "z", "t": None}]
    assert project.load("run-2", source={"files": ["b.csv"]}).rows == 0


def test_files_of_each_format_are_read(project: Project) -> None:
    """Parquet, JSON Lines, compressed or not, by recursive globs; file:// URLs too."""
    folder = project.folder / "project" / "data" / "deep"
    folder.mkdir(parents=True)
    for index in range(3):
        pq.write_table(pa.table({"x": [index], "s": ["a"]}), folder / f"{index}.parquet")
    put(project, a_DOT_jsonl='{"x": 1, "l": [1]}\n{"x": 2.5}\n')
    (project.folder / "project" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"x": 3, "l": null}\n'))
    assert project.load("p", source={"files": ["data/**/*.parquet"]}).rows == 3
    assert project.table.at().arrow().column("x").to_pylist() == [0, 1, 2]
    assert project.load("j", source={"files": ["a.jsonl", "b.jsonl.gz"]}).rows == 3
    assert project.table.at().arrow().to_pydict() == {"x": [1.0, 2.5, 3.0], "l": [[1], None, None]}
    assert project.load("f", source={"files": [(folder / "*.parquet").as_uri()]}, code=None).rows == 3


def test_files_in_a_bucket_are_read(project: Project, s3: None, s3_endpoint: str) -> None:
    """One object, and a glob over a prefix that has others."""
    project.write(unrelated="")
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    for name in ("a/1.csv", "a/2.csv", "a/deep/3.csv", "a/readme.txt"):
        client.put_object(Bucket="lake", Key=f"in/{name}", Body=b"x\n" + name[-5:-4].encode() + b"\n")
    assert project.load("one", source={"files": ["s3://lake/in/a/1.csv"]}, code=None).rows == 1
    assert project.load("glob", source={"files": ["s3://lake/in/a/*.csv"]}, code=None).rows == 2
    assert project.load("deep", source={"files": ["s3://lake/in/**/*.csv"]}, code=None).rows == 3
    for missing in ("s3://lake/in/none*.csv", "s3://lake/in/none.csv"):
        with pytest.raises(Failure, match="none"):
            project.load("none", source={"files": [missing]}, code=None)


GOOD_PARQUET = pa.BufferOutputStream()
pq.write_table(pa.table({"x": list(range(1000))}), GOOD_PARQUET)
HALF = GOOD_PARQUET.getvalue().to_pybytes()[:800]
BAD_FILES = {
    "nothing matches": ({}, ["*.csv"], r"\*\.csv: matches no file"),
    "no such file": ({}, ["a.csv"], r"a\.csv: there is no such file"),
    "half a Parquet file": ({"a.parquet": HALF}, ["a.parquet"], r"a\.parquet: cannot be read as Parquet"),
    "no Parquet file": ({"a.parquet": b"hello"}, ["a.parquet"], r"a\.parquet: cannot be read as Parquet"),
    "an empty CSV file": ({"a.csv": b""}, ["a.csv"], r"a\.csv: expected a header line"),
    "a short line": ({"a.csv": b"x,y\n1,2\n3\n4,5\n"}, ["a.csv"], r"a\.csv line 3: expected 2 fields, found 1: 3"),
    "a long line": ({"a.csv": b"x,y\n1,2\n3,4,5\n"}, ["a.csv"], r"a\.csv line 3: expected 2 fields, found 3: 3,4,5"),
    "another encoding": ({"a.csv": "x,y\n1,é\n".encode("latin-1")}, ["a.csv"], r"a\.csv: expected text in UTF-8, found byte 0xe9"),
    "broken JSON": ({"a.jsonl": b'{"x": 1}\n{"x": \n'}, ["a.jsonl"], r"a\.jsonl"),
    "no known ending": ({"a.xlsx": b"x"}, ["a.xlsx"], r"a\.xlsx: expected a file that ends in \.parquet"),
    "two formats": ({"a.csv": b"x\n1\n", "b.jsonl": b'{"x": 1}\n'}, ["a.csv", "b.jsonl"], "expected files of one format, found csv, json"),
    "other columns": ({"a.csv": b"x,y\n1,2\n", "b.csv": b"x,z\n1,2\n"}, ["*.csv"], r"b\.csv: expected the columns of a\.csv \(x, y\), found x, z"),
    "out of the bundle": ({}, ["../secret.csv"], "expected a path inside the code bundle"),
    "an absolute path": ({}, ["/etc/passwd"], "expected a path inside the code bundle"),
    "another scheme": ({}, ["http://example.invalid/x.csv"], "expected a path inside the code bundle"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_told_by_name(project: Project, name: str) -> None:
    """The file as the user knows it, in one line."""
    files, patterns, message = BAD_FILES[name]
    project.write(unrelated="")
    for file, content in files.items():
        (project.folder / "project" / file).write_bytes(content)
    with pytest.raises(Failure, match=message) as caught:
        project.load(source={"files": patterns})
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    assert str(project.folder) not in caught.value.message


# -- reports and exit codes


class Told:
    """A reporter that remembers, and that may be deaf."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.reports: list[LoadReport] = []
        self.deaf = deaf

    def report(self, report: LoadReport) -> None:
        if self.deaf:
            raise ConnectionError("nobody listens")
        self.reports.append(report)


def test_failures_are_reported_with_their_checks(project: Project) -> None:
    """What the status shows of a load whose check failed, and of one whose store is away."""
    project.write(source=TWO_CHUNKS)
    told = Told()
    task = project.task(source={"python": "source:rows"}, expectations=[{"column": "x", "min": 2}])
    with pytest.raises(Failure):
        ingest_main.ingest(task, told, lambda: NOW)
    (report,) = told.reports
    assert (report.succeeded, report.reason, report.run) == (False, "ExpectationsFailed", "run-1")
    assert [check.failed_rows for check in report.checks] == [1]
    (project.folder / "a file").write_text("")
    away = task.model_copy(update={"store_url": (project.folder / "a file" / "store").as_uri()})
    with pytest.raises(Failure) as caught:
        ingest_main.ingest(away, told, lambda: NOW)
    assert (caught.value.exit_code, told.reports[-1].succeeded) == (TRY_AGAIN, False)


def test_a_load_that_could_not_be_told_is_told_when_it_is_repeated(project: Project) -> None:
    """The version stays, the Pod fails in a way that is tried again, and the next one only reports."""
    project.write(source=TWO_CHUNKS)
    task = project.task(source={"python": "source:rows"})
    with pytest.raises(Failure) as caught:
        ingest_main.ingest(task, Told(deaf=True), lambda: NOW)
    assert (caught.value.reason, caught.value.exit_code) == ("ReportFailed", TRY_AGAIN)
    told = Told()
    project.write(source="def rows(): raise AssertionError('never called again')")
    ingest_main.ingest(task, told, lambda: NOW)
    assert [(report.succeeded, report.version) for report in told.reports] == [(True, 1)]


# -- real processes


def run_pod(project: Project, task: IngestTask, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("loading_pod.py"))],
        env={
            **os.environ,
            "MIZZEN_TASK": task.model_dump_json(by_alias=True),
            "MIZZEN_ROOTFS": str(project.folder / "rootfs"),
            "REPORTS": str(project.folder / "reports"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            **environment,
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_step_and_repeated_there_is_one_version(project: Project, stride: int) -> None:
    """SIGKILL before and after each write, commit and report; each time the run is repeated. One version, whole."""
    project.write(source=TWO_CHUNKS)
    task = project.task(
        source={"python": "source:rows"}, expectations=[{"column": "x", "max": 2, "onFailure": "quarantine"}]
    )
    for step in range(2, 60, stride):
        ended = run_pod(project, task, DIE_AT=str(step))
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        versions = [commit.run for commit in project.table.history()]
        assert versions in ([], ["run-1"])
    else:
        raise AssertionError("it never ended")
    assert step > 6
    assert [(commit.version, commit.run) for commit in project.table.history()] == [(1, "run-1")]
    assert project.table.at().arrow().to_pydict() == {"x": [1, 2], "s": ["a", None]}
    project.table.verify()
    reports = [json.loads(line) for line in (project.folder / "reports").read_text().splitlines()]
    assert {(report["succeeded"], report["version"], report["quarantinedRows"]) for report in reports} == {(True, 1, 1)}


@pytest.mark.slow
def test_a_source_that_changes_its_mind_has_its_last_word_in_both_tables(project: Project) -> None:
    """Killed after the side table's commit and before the other, repeated with other rows: both tables are of those."""
    checks = [{"column": "x", "max": 2, "onFailure": "quarantine"}]
    project.write(source="def rows(): return [{'x': 1}, {'x': 5}]")
    task = project.task(source={"python": "source:rows"}, expectations=checks)
    side = Table(project.store, "ns", "things", folder="quarantine")
    for step in range(1, 20):
        run_pod(project, task, DIE_AT=str(step))
        if side.exists():
            break
    assert not project.table.exists()
    project.write(source="def rows(): return [{'x': 2}, {'x': 7}, {'x': 8}]")
    assert run_pod(project, project.task(source={"python": "source:rows"}, expectations=checks)).returncode == 0
    assert project.table.at().arrow().column("x").to_pylist() == [2]
    assert side.at().arrow().column("x").to_pylist() == [7, 8]
    assert set(side.at().arrow().column("_run").to_pylist()) == {"run-1"}


def test_the_process_tells_why_it_failed(project: Project) -> None:
    """The exit code, the termination message where the node promised it, the user's words on standard output."""
    project.write(source=TWO_CHUNKS.replace('["b"]', "[1/0]"))
    ended = run_pod(project, project.task(source={"python": "source:rows"}))
    assert (ended.returncode, ended.stdout) == (1, "the user's own words\n")
    message = (project.folder / "rootfs" / "dev" / "termination-log").read_text()
    assert message == "SourceFailed: source:rows raised ZeroDivisionError: division by zero (source.py:6, in rows)"
    assert "Traceback" in ended.stderr


def test_a_task_that_is_none_is_told(project: Project) -> None:
    """No task, another shape: exit code 1 with the place."""
    project.write(source="")
    task = project.task(source={"python": "source:rows"})
    for text, message in (("", "found nothing"), ("{}", "namespace: Field required")):
        ended = run_pod(project, task, MIZZEN_TASK=text)
        assert ended.returncode == 1
        assert message in (project.folder / "rootfs" / "dev" / "termination-log").read_text()


def test_a_full_disk_is_told_and_tried_again(project: Project) -> None:
    """Spooling to a device that is full: one line, exit code 75, and the old version stays."""
    project.write(source=TWO_CHUNKS)
    project.load("run-0", source={"python": "source:rows"})
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    big = "import os\ndef rows():\n    for _ in range(9): yield pa.table({'x': [os.urandom(1 << 20)]})\n"
    project.write(big=full + ignore + "import pyarrow as pa\n" + big)
    ended = run_pod(project, project.task("run-1", source={"python": "big:rows"}))
    message = (project.folder / "rootfs" / "dev" / "termination-log").read_text()
    assert ended.returncode == TRY_AGAIN, message
    assert "\n" not in message
    assert [commit.run for commit in project.table.history()] == ["run-0"]
