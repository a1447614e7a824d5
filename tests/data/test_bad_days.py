"""Stores and sources on a bad day: 503, half an object, half a file, a disk that fills: a clear word, nothing lost."""

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.faults import FaultyProxy
from tests.data.project import NOW, Project

from mizzen.data.ingest import main as ingest_main
from mizzen.data.ingest.task import IngestTask
from mizzen.data.lake import objects
from mizzen.data.lake.errors import StoreUnavailable
from mizzen.data.lake.objects import Store
from mizzen.data.pod import TRY_AGAIN, Failure
from mizzen.kinds.data import LoadReport

APPEND = {"source": {"files": ["*.csv"]}, "load": {"mode": "append", "newFiles": True}}


class Told:
    def __init__(self) -> None:
        self.reports: list[LoadReport] = []

    def report(self, report: LoadReport) -> None:
        self.reports.append(report)


def ingest(project: Project, run: str, **task: Any) -> LoadReport:
    """A whole load, as its Pod does it; the report, whether it went well or not."""
    return of_task(project.task(run, **task))


def of_task(task: IngestTask) -> LoadReport:
    told = Told()
    with contextlib.suppress(Failure):
        ingest_main.ingest(task, told, lambda: NOW)
    return told.reports[-1]


@pytest.fixture
def proxy(s3: None, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The bucket behind a proxy, which is the address that everybody uses; retries end soon."""
    faulty = FaultyProxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.url)
    backoff = {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20), "base": 2}
    retries = {"max_retries": 3, "retry_timeout": timedelta(seconds=5), "backoff": backoff}
    monkeypatch.setattr(objects, "_RETRIES", retries)
    yield faulty
    faulty.close()


@pytest.fixture
def in_bucket(proxy: FaultyProxy, tmp_path: Path) -> Project:
    """A project whose store is in the bucket, with one version loaded."""
    project = Project(Store.open(f"s3://lake/{tmp_path.name}"), tmp_path)
    project.put("a.csv", "id\n1\n")
    assert project.load("r1", **APPEND).version == 1
    project.put("b.csv", "id\n2\n")
    return project


def test_a_store_that_is_busy_now_and_then_costs_nothing(in_bucket: Project, proxy: FaultyProxy) -> None:
    """Every third request is answered 503: the load waits and gets through."""
    seen = {"requests": 0}

    def judge(method: str, path: str) -> str:
        seen["requests"] += 1
        return "503" if seen["requests"] % 3 == 0 else ""

    proxy.judge = judge
    report = in_bucket.load("r2", **APPEND)
    proxy.judge = lambda *_: ""
    assert proxy.counted > 1
    assert (report.rows, [row["id"] for row in in_bucket.rows()]) == (2, [1, 2])


@pytest.mark.parametrize("where", ["_delta_log", ".parquet", "_mizzen"])
def test_a_store_that_refuses_leaves_the_version_before(in_bucket: Project, proxy: FaultyProxy, where: str) -> None:
    """503 for each write to the log, the data, the profile: told with the URL, tried again later, then it comes."""
    proxy.judge = lambda method, path: "503" if method == "PUT" and where in path else ""
    report = ingest(in_bucket, "r2", **APPEND)
    assert (report.succeeded, report.reason) == (False, "StoreFailed")
    assert "s3://lake/" in report.message
    assert "503" in report.message
    proxy.judge = lambda *_: ""
    assert [row["id"] for row in in_bucket.rows()] == [1]
    assert ingest(in_bucket, "r2", **APPEND).rows == 2
    in_bucket.table.verify()


def test_objects_that_stop_in_the_middle_are_never_taken_for_whole(
    project: Project, proxy: FaultyProxy, s3_endpoint: str
) -> None:
    """A source whose every answer is cut: no version; once whole, all rows."""
    content = "id\n" + "".join(f"{index}\n" for index in range(50_000))
    boto3.client("s3", endpoint_url=s3_endpoint).put_object(Bucket="lake", Key="cut/a.csv", Body=content.encode())
    source = {"source": {"files": ["s3://lake/cut/a.csv"]}, "code": None}
    proxy.judge = lambda method, path: "cut" if method == "GET" and path.endswith("a.csv") else ""
    report = ingest(project, "r1", **source)
    assert (report.succeeded, "s3://lake/cut/a.csv" in report.message) == (False, True)
    assert proxy.counted >= 1
    assert not project.table.exists()
    proxy.judge = lambda *_: ""
    assert ingest(project, "r1", **source).rows == 50_000


def test_a_commit_whose_answer_is_lost_is_made_once(in_bucket: Project, proxy: FaultyProxy) -> None:
    """The log entry arrives and the answer says 503: the retry finds it there, and that it is ours."""
    lost = {"left": 1}
    forward = proxy.judge

    def judge(method: str, path: str) -> str:
        if method == "PUT" and "_delta_log" in path and lost["left"]:
            lost["left"] -= 1
            return "cut"
        return forward(method, path)

    proxy.judge = judge
    report = in_bucket.load("r2", **APPEND)
    assert (report.version, report.rows) == (2, 2)
    assert [commit.run for commit in in_bucket.table.history()] == ["r2", "r1"]


def test_a_parquet_file_cut_in_half_leaves_the_version_before(project: Project) -> None:
    """Of two files one is cut: told by name; when it is whole, both come, once."""
    load = {"source": {"files": ["*.parquet"]}, "load": {"mode": "append", "newFiles": True}}
    pq.write_table(pa.table({"id": [1]}), project.put("a.parquet", ""))
    project.load("r1", **load)
    path = project.put("c.parquet", "")
    pq.write_table(pa.table({"id": list(range(1000))}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    pq.write_table(pa.table({"id": [2]}), project.put("b.parquet", ""))
    report = ingest(project, "r2", **load)
    assert (report.reason, report.message.startswith("c.parquet: cannot be read as Parquet")) == ("SourceFailed", True)
    assert [row["id"] for row in project.rows()] == [1]
    path.write_bytes(whole)
    assert ingest(project, "r3", **load).rows == 1002


def test_a_column_that_disappears_leaves_the_version_before(project: Project) -> None:
    project.put("a.csv", "id,v\n1,2\n")
    project.load("r1", **APPEND)
    project.put("b.csv", "id\n2\n")
    report = ingest(project, "r2", **APPEND)
    assert (report.succeeded, report.reason) == (False, "WrongColumns")
    assert "b.csv" not in (row["_file"] for row in project.rows())
    assert report.message == "the source has no column v any more (it has id, _file)"


# -- a disk that fills


def can_mount() -> bool:
    return shutil.which("unshare") is not None and os.geteuid() == 0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = Path(tempfile.mkdtemp(prefix="mz-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a file system")
def test_a_disk_that_fills_during_a_commit_leaves_the_version_before(small_disk: Path, tmp_path: Path) -> None:
    """At every byte that is left: the load fails with a word about space, and comes when there is some."""
    project = Project(Store.open((small_disk / "store").as_uri()), tmp_path)
    project.put("a.csv", "id,v\n1,x\n")
    project.load("r1", **APPEND)
    project.put("b.csv", "id,v\n" + "".join(f"{index},{os.urandom(30).hex()}\n" for index in range(5000)))
    task = project.task("r2", **APPEND)
    refused = 0
    for left in (0, 100, 4096, 8192, 100_000, 200_000, 300_000, 400_000):
        usage = os.statvfs(small_disk)
        ballast = small_disk / "ballast"
        with ballast.open("wb") as file:
            file.write(b"\0" * max(0, usage.f_bavail * usage.f_frsize - left))
        report = of_task(task)
        ballast.unlink()
        assert len(project.table.history()) == (2 if report.succeeded else 1)
        if not report.succeeded:
            refused += 1
            assert "No space left on device" in report.message
            assert project.rows() == [{"id": 1, "v": "x", "_file": "a.csv"}]
    assert refused > 0
    assert of_task(task).rows == 5001
    project.table.verify()


def test_a_work_folder_without_space_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    project.put("a.csv", "id\n1\n")
    monkeypatch.setattr("mizzen.data.lake.parts.PartWriter.write", full)
    report = ingest(project, "r1", **APPEND)
    assert report.reason in {"DiskFull", "SourceFailed"}
    assert "space" in report.message.casefold()


def test_a_store_that_is_not_there_is_told(tmp_path: Path, s3: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at its address: one line with the URL, tried again later."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    retries = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
    monkeypatch.setattr(objects, "_RETRIES", retries)
    with pytest.raises(StoreUnavailable, match="s3://lake/x/a"):
        Store.open("s3://lake/x").get("a")
    assert TRY_AGAIN == 75
