"""Pushed rows: refused whole or kept, taken in once, whatever is killed."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pytest
from tests.data.project import NOW
from tests.data.pushing import Fixed

from mizzen.data.lake.errors import StoreUnavailable
from mizzen.data.lake.objects import Store
from mizzen.data.lake.segments import Batch, Segment, put_segment, read_segment, segments_of
from mizzen.data.lake.tables import Table
from mizzen.data.push.accepting import ARROW, JSON, JSON_LINES, RowsRefused, rows_of
from mizzen.data.push.channel import Channel
from mizzen.data.push.server import PushServer
from mizzen.data.push.taking_in import take_in
from mizzen.kinds import Dataset
from mizzen.kinds.data import PushColumn

COLUMNS = [{"name": "id", "type": "integer", "required": True}, {"name": "v", "type": "string"}]
TYPED = [
    PushColumn(name=type_, type=type_)
    for type_ in ("boolean", "integer", "double", "string", "timestamp", "date", "binary")
]  # type: ignore[arg-type]
URL = "/v1/namespaces/ns/datasets/things/rows"


def dataset(columns: list[dict[str, Any]] = COLUMNS, commit_every: str = "20ms", **spec: Any) -> Dataset:
    source = {"push": {"columns": columns, "commitEvery": commit_every}}
    return Dataset.model_validate(
        {"metadata": {"name": "things", "namespace": "ns"}, "spec": {"source": source, **spec}}
    )


def batch(*ids: int, key: str = "", v: str = "x") -> Batch:
    return Batch(pa.table({"id": [*ids], "v": [v] * len(ids)}), key)


def keep(store: Store, writer: str, number: int, *batches: Batch) -> None:
    put_segment(store, "ns", "things", Segment(writer, number), batches)


def taken(store: Store, of: Dataset | None = None) -> Any:
    return take_in(of or dataset(), store, lambda: NOW)


def ids(store: Store) -> list[int]:
    found: list[int] = Table(store, "ns", "things").at().arrow().column("id").to_pylist()
    return found


# -- what a body may be


def test_every_form_of_body_gives_the_same_rows() -> None:
    """JSON, JSON Lines and Arrow; columns in any order; what is left out is null."""
    rows = [{"id": 1, "v": "a"}, {"id": 2}]
    columns = [PushColumn.model_validate(column) for column in COLUMNS]
    expected = pa.table({"id": [1, 2], "v": ["a", None]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("v", pa.large_string()), ("id", pa.int32())])) as writer:
        writer.write_table(pa.table({"v": ["a", None], "id": [1, 2]}, schema=writer_schema()))
    for body, form in (
        (json.dumps(rows).encode(), JSON),
        (json.dumps(rows).encode(), "application/json; charset=utf-8"),
        (b"\n".join(json.dumps(row).encode() for row in rows) + b"\n", JSON_LINES),
        (sink.getvalue().to_pybytes(), ARROW),
    ):
        assert rows_of(body, form, columns).equals(expected), form


def writer_schema() -> pa.Schema:
    return pa.schema([("v", pa.large_string()), ("id", pa.int32())])


def test_values_are_taken_to_the_letter() -> None:
    good = {
        "boolean": True,
        "integer": -(2**63),
        "double": 1,
        "string": "",
        "timestamp": "2020-01-01T01:00:00+01:00",
        "date": "2020-02-29",
        "binary": "AP8=",
    }
    (row,) = rows_of(json.dumps([good]).encode(), JSON, TYPED).to_pylist()
    assert row == {
        "boolean": True, "integer": -(2**63), "double": 1.0, "string": "", "binary": b"\x00\xff",
        "timestamp": datetime(2020, 1, 1, tzinfo=UTC), "date": datetime(2020, 2, 29).date(),  # noqa: DTZ001
    }  # fmt: skip


BAD = {
    "boolean": [1, "true"], "integer": [1.5, "1", True, 2**63], "double": ["1", False], "string": [1, ["a"]],
    "timestamp": ["2020-01-01T00:00:00", "noon", 0], "date": ["2020-02-30", "2020-01-01T00:00:00Z"], "binary": ["%%", 1],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_of_another_type_is_told(name: str, value: Any) -> None:
    with pytest.raises(RowsRefused, match=rf"^rows\[0\]\.{name}: expected ") as caught:
        rows_of(json.dumps([{name: value}]).encode(), JSON, TYPED)
    assert json.dumps(value, separators=(",", ":")) in caught.value.problems[0]


@pytest.mark.parametrize(("body", "message"), [
    (b"{}", "expected an array of objects"), (b"[1]", r"rows\[0\]: expected an object, got 1"), (b"[", "expected JSON"),
    (b'[{"id": 1, "w": 2}]', r"rows\[0\]\.w: expected one of the columns id, v"),
    (b'[{"v": "a"}]', r"rows\[0\]\.id: expected an integer of 64 bits, got null"),
    (json.dumps([{"id": "x"}] * 50).encode(), r"rows\[9\]"),
])  # fmt: skip
def test_a_body_that_is_no_rows_is_told(body: bytes, message: str) -> None:
    with pytest.raises(RowsRefused, match=message) as caught:
        rows_of(body, JSON, [PushColumn.model_validate(column) for column in COLUMNS])
    assert len(caught.value.problems) <= 10


# -- taken in once


def test_segments_become_a_version_and_go(store: Store) -> None:
    """Rows in the writers' order; a second turn finds nothing; more rows come after."""
    keep(store, "a", 0, batch(1), batch(2, 3))
    keep(store, "b", 0, batch(4))
    report = taken(store)
    assert (report.version, report.rows, report.rows_added, ids(store)) == (1, 4, 4, [1, 2, 3, 4])
    assert segments_of(store, "ns", "things") == []
    assert taken(store) is None
    keep(store, "a", 1, batch(5))
    assert taken(store).operation == "append"
    assert ids(store) == [1, 2, 3, 4, 5]


def test_a_segment_that_was_not_deleted_is_not_taken_in_again(file_store: Store) -> None:
    """A process that was killed between commit and deletion; the next turn only deletes."""
    keep(file_store, "a", 0, batch(1))
    path = Segment("a", 0).path("ns", "things")
    content = file_store.get(path)
    taken(file_store)
    file_store.put(path, content)
    again = taken(file_store)
    assert (again.version, again.run) == (1, Table(file_store, "ns", "things").at().run), "told again, not done again"
    assert (ids(file_store), segments_of(file_store, "ns", "things")) == ([1], [])


def test_a_key_counts_once(file_store: Store) -> None:
    """In one segment, in two, and after the first was taken in."""
    keep(file_store, "a", 0, batch(1, key="k1"), batch(1, key="k1"), batch(2))
    keep(file_store, "b", 0, batch(1, key="k1"), batch(3, key="k3"))
    taken(file_store)
    keep(file_store, "c", 0, batch(1, key="k1"), batch(3, key="k3"), batch(4, key="k4"))
    taken(file_store)
    assert ids(file_store) == [1, 2, 3, 4]


def test_processes_that_take_in_at_once_lose_and_double_nothing(store: Store) -> None:
    for number in range(6):
        keep(store, "ab"[number % 2], number, batch(number))
    gate = threading.Barrier(3)

    def turn() -> None:
        gate.wait()
        for _ in range(3):
            taken(store)

    threads = [threading.Thread(target=turn) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken(store)
    assert sorted(ids(store)) == list(range(6))


def test_rows_that_break_a_check_wait_and_are_told(file_store: Store) -> None:
    """Nothing is lost: with another spec they come in. With quarantine they never wait."""
    of = dataset(expectations=[{"column": "id", "max": 5}])
    keep(file_store, "a", 0, batch(1), batch(9))
    report = taken(file_store, of)
    assert (report.succeeded, report.reason) == (False, "ExpectationsFailed")
    assert report.message.endswith("the rows sent since are kept and will be tried again")
    aside = dataset(expectations=[{"column": "id", "max": 5, "onFailure": "quarantine"}])
    assert taken(file_store, aside).quarantined_rows == 1
    assert ids(file_store) == [1]


def test_columns_may_come_and_go(file_store: Store) -> None:
    """A column that is declared later is null before; one that is declared no more is null from then on."""
    keep(file_store, "a", 0, batch(1))
    taken(file_store)
    keep(file_store, "a", 1, batch(2))
    keep(file_store, "b", 0, Batch(pa.table({"id": [3], "w": [1.5]})))
    other = dataset([COLUMNS[0], {"name": "w", "type": "double"}])
    taken(file_store, other)
    assert Table(file_store, "ns", "things").at().arrow().to_pylist() == [
        {"id": 1, "v": "x", "w": None}, {"id": 2, "v": "x", "w": None}, {"id": 3, "v": None, "w": 1.5},
    ]  # fmt: skip


def test_rows_of_a_key_replace_each_other(file_store: Store) -> None:
    upsert = dataset(load={"mode": "upsert", "key": ["id"]})
    for number, value in enumerate("abc"):
        keep(file_store, "a", number, batch(1, 10 + number, v=value))
        taken(file_store, upsert)
    rows = Table(file_store, "ns", "things").at().arrow().to_pylist()
    assert rows == [{"id": 10, "v": "a"}, {"id": 11, "v": "b"}, {"id": 1, "v": "c"}, {"id": 12, "v": "c"}]


# -- the channel


async def test_requests_share_a_write_and_each_is_answered_when_it_is_kept() -> None:
    """The first is written alone; those that come meanwhile go together; a failed write fails its requests alone."""
    gate, written = threading.Event(), []

    def put(segment: Segment, batches: list[Batch]) -> None:
        gate.wait()
        written.append([batch.key for batch in batches])
        if segment.number == 1:
            raise StoreUnavailable("the disk is full")

    kept: list[int] = []
    channel = Channel("w", put, lambda: kept.append(1))
    rows = pa.table({"id": [1]})
    first = asyncio.create_task(channel.accept(rows, "a"))
    await asyncio.sleep(0)
    more = [asyncio.create_task(channel.accept(rows, key)) for key in "bc"]
    await asyncio.sleep(0)
    assert not first.done()
    gate.set()
    await first
    results = await asyncio.gather(*more, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable, StoreUnavailable]
    await channel.accept(rows, "d")
    assert written == [["a"], ["b", "c"], ["d"]]
    assert (len(kept), channel.statistics().rows, channel.statistics().bytes_waiting) == (2, 2, 0)


# -- over HTTP


@contextlib.contextmanager
def serving(
    store: Store, folder: Path, of: Dataset | None = None, **env: str
) -> Iterator[tuple[httpx2.Client, subprocess.Popen[str]]]:
    """A push server in a process of its own, and a client that has its key."""
    environment = {
        **os.environ, "STORE": store.url, "DATASET": (of or dataset()).model_dump_json(by_alias=True),
        "KEYS": json.dumps({"good": "things", "other": "others"}), "REPORTS": str(folder / "reports"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **env,
    }  # fmt: skip
    script = Path(__file__).with_name("pushing.py")
    with subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx2.Client(base_url=url, headers={"Authorization": "Bearer good"}, trust_env=False) as client:
            yield client, process
        if process.poll() is None:
            process.terminate()
        process.wait()


def test_rows_over_http(file_store: Store, tmp_path: Path) -> None:
    """Answers for good rows, bad rows, bad keys, bad places; what was acknowledged is in the table after a stop."""
    with serving(file_store, tmp_path) as (client, _):
        assert client.get("/readyz").status_code == 200
        answer = client.post(URL, json=[{"id": 1}, {"id": 2}])
        assert (answer.status_code, answer.json()) == (200, {"rows": 2})
        refused = client.post(URL, json=[{"id": 3}, {"id": "x"}])
        assert (refused.status_code, refused.json()["problems"]) == (
            400,
            ['rows[1].id: expected an integer of 64 bits, got "x"'],
        )
        assert client.post(URL, json=[], headers={"Authorization": ""}).status_code == 401
        assert client.post(URL, json=[], headers={"Authorization": "Bearer bad"}).status_code == 401
        assert client.post(URL, json=[], headers={"Authorization": "Bearer other"}).status_code == 403
        assert (
            client.post(
                URL.replace("things", "others"), json=[], headers={"X-API-Key": "other", "Authorization": ""}
            ).status_code
            == 404
        )
        assert client.post(URL, content=b"x", headers={"Content-Type": "text/csv"}).status_code == 415
        assert client.get(URL).status_code == 405
        assert client.post("/v2/models/x/infer", json=[]).status_code == 404
        assert 'mizzen_push_rows_total{namespace="ns",dataset="things"} 2' in client.get("/metrics").text
    assert ids(file_store) == [1, 2]
    reports = [json.loads(line) for line in (tmp_path / "reports").read_text().splitlines()]
    assert reports[-1]["rows"] == 2


@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_acknowledged_rows_survive_any_kill_and_count_once(file_store: Store, tmp_path: Path, kills: int) -> None:
    """SIGKILL while requests and commits are under way, each request repeated under its key until it is acknowledged."""
    rng = random.Random(kills)
    sent = 0
    unanswered: int | None = None
    for _ in range(kills):
        with serving(file_store, tmp_path, dataset(commit_every="1ms")) as (client, process):
            timer = threading.Timer(rng.uniform(0.02, 0.3), process.send_signal, [signal.SIGKILL])
            timer.start()
            with contextlib.suppress(httpx2.HTTPError):
                while True:
                    number = unanswered if unanswered is not None else sent
                    unanswered = number
                    answer = client.post(URL, json=[{"id": number}], headers={"Idempotency-Key": f"k{number}"})
                    if answer.status_code == 200:
                        unanswered, sent = None, number + 1
            timer.join()
    while taken(file_store) is not None:
        pass
    assert sent > kills
    expected = list(range(sent + (unanswered is not None)))
    assert sorted(ids(file_store)) in (expected, expected[:sent])
    Table(file_store, "ns", "things").verify()


async def test_a_full_disk_is_answered_and_nothing_is_acknowledged(
    file_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with a word about trying again."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mizzen.data.push.server.put_segment", full)
    server = PushServer(file_store, Fixed(dataset(), {"good": "things"}), None)  # type: ignore[arg-type]
    transport = httpx2.ASGITransport(app=server)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://x", headers={"X-API-Key": "good"}) as client:
        answer = await client.post(URL, json=[{"id": 1}])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "No space left" in answer.json()["error"]
    for line in server._lines.values():
        line.task.cancel()


def test_a_segment_reads_as_it_was_written(store: Store) -> None:
    keep(store, "w", 7, batch(1, key="a"), batch(2, 3))
    (segment,) = segments_of(store, "ns", "things")
    assert segment == Segment("w", 7)
    assert [
        (found.key, found.rows.column("id").to_pylist()) for found in read_segment(store, "ns", "things", segment)
    ] == [("a", [1]), ("", [2, 3])]
