"""Real gateways, workers, writers and stores: killed, away, full."""

import json
import shutil
import sys
import tempfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest
from tests.serving.builders import doubling_model
from tests.serving.stack import Load, Process, Stack, eventually, kill

from mizzen.data.lake.objects import Store
from mizzen.serving.gateway.directory import Logging
from mizzen.serving.predictionlog.layout import table_path
from mizzen.serving.predictionlog.table import LogTable

from .lake import Lake

TABLE = table_path("default", "m")


@pytest.fixture
def stack():
    with Stack() as made:
        yield made


@pytest.fixture
def rings():
    folder = Path(tempfile.mkdtemp(prefix="mz-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start(stack, rings, *, processes: int = 2, **logging) -> None:
    """A gateway that logs, and its worker."""
    digest = stack.put(doubling_model())
    stack.serve(digest, logging=Logging(**logging))
    stack.worker(digest)
    stack.start_gateway(processes, "--log-dir", str(rings))


def writer(stack, rings, store: str, *arguments: str, before: str = "", **environment: str) -> Process:
    process = Process(
        ["-m", "mizzen.serving.predictionlog.process", "--folder", str(rings), "--spool", str(stack.root / "spool"),
         "--store", store, "--seal-after", "0.1", *arguments],
        environment,
    )  # fmt: skip
    stack.processes.append(process)
    return process


def rows_of(table: LogTable) -> list[dict]:
    found = table.arrow()
    return [] if found is None else found.to_pylist()


def written(rings: Path) -> dict:
    path = rings / "default.m" / "written.json"
    return json.loads(path.read_bytes()) if path.exists() else {"committed": 0, "lost": 0, "trouble": ""}


def answered_ids(load: Load) -> list[str]:
    assert all(answer.status == 200 for answer in load.answers)
    return [answer.json["id"] for answer in load.answers]


def test_killed_gateways_and_killed_writers_lose_nothing_and_write_nothing_twice(stack, rings):
    """Every answer that a client got is in the table, once, whichever processes were killed meanwhile."""
    start(stack, rings)
    store = f"file://{stack.root}/store"
    process = writer(stack, rings, store)
    with Load(stack, clients=4, retries=True) as load:
        for _ in range(4):
            load.after(150)
            process.kill()
            load.after(50)
            kill(stack.children()[0])
            process = writer(stack, rings, store)
        load.after(150)
    stack.gateway.end()
    eventually(lambda: written(rings)["committed"] > 0 and not written(rings)["waiting_bytes"], "all is in the table")
    process.end()
    assert load.wrong == []
    rows = rows_of(LogTable(Store.open(store), TABLE))
    logged = Counter(row["request_id"] for row in rows)
    assert set(logged.values()) == {1}
    assert logged.keys() >= set(answered_ids(load))
    inputs = {row["request_id"]: (row["input_x"], row["output_y"]) for row in rows}
    assert all(got == [2 * value for value in given] for given, got in inputs.values())
    assert not rings.exists() or list(rings.iterdir()) == [], "what is done with is removed"


def test_a_lake_that_is_away_costs_records_and_no_request_and_the_counter_tells_the_truth(stack, rings):
    """The store answers 503 until ring and spool are full: requests go on; what was lost is what was counted; what was
    kept arrives when the store is back.
    """
    start(stack, rings, processes=1, buffer_bytes=1 << 16)
    with Lake() as lake:
        lake.shut.set()
        process = writer(
            stack, rings, "s3://lake/p", "--segment-bytes", "20000", "--spool-bytes", "60000", **lake.environment
        )
        with Load(stack, clients=4) as load:
            load.after(200)
            assert lake.refused.wait(30)
            eventually(lambda: written(rings)["lost"] > 100, "ring and spool are full")
            eventually(lambda: written(rings)["trouble"], "the writer says what is wrong")
            load.after(300)
        assert load.wrong == []
        asked = len(load.answers)
        lake.shut.clear()
        with stack.client() as client:
            eventually(lambda: written(rings)["committed"] > 0 and not written(rings)["waiting_bytes"], "it catches up")
            assert client.infer([[1.0, 2.0]]).status == 200
        stack.gateway.end()
        process.end()
        with pytest.MonkeyPatch.context() as patched:
            for name, value in lake.environment.items():
                patched.setenv(name, value)
            rows = rows_of(LogTable(Store.open("s3://lake/p"), TABLE))
        lost = json.loads((stack.root / "spool" / "default.m" / "retired.json").read_bytes())["lost"]
    logged = Counter(row["request_id"] for row in rows)
    assert set(logged.values()) == {1}
    assert len(logged) + lost == asked + 1
    assert lost > 100


def test_a_lake_that_is_slow_and_then_full_holds_up_no_request(stack, rings):
    """First the store does not answer at all, then it answers that it takes no more. Requests are answered meanwhile, each
    as before: had one waited for the store, none would have come. What is lost, and nothing else, is counted.
    """
    start(stack, rings, processes=1, buffer_bytes=1 << 16)
    with Lake() as lake:
        process = writer(
            stack, rings, "s3://lake/p", "--segment-bytes", "20000", "--spool-bytes", "60000", **lake.environment
        )
        with Load(stack, clients=4) as load:
            load.after(100)
            eventually(lambda: written(rings)["committed"] > 0, "the lake is well")
            lake.moves.clear()
            assert lake.waited_for.wait(30)
            load.after(300)
            lake.shut.set()
            lake.moves.set()
            assert lake.refused.wait(30)
            eventually(lambda: lost(stack) > 100, "full: spool and ring too")
            load.after(300)
        assert load.wrong == []
        asked, missing = len(load.answers), lost(stack)
        lake.shut.clear()
        eventually(lambda: written(rings)["committed"] == asked - missing, "what was not lost arrives, and no more")
        assert lost(stack) == missing
        stack.gateway.end()
        process.end()


def lost(stack) -> int:
    """What the counter in the metrics says."""
    return int(stack.metrics().get('mizzen_gateway_log_lost_total{namespace="default",endpoint="m"}', 0))


def test_a_full_disk_under_spool_and_table_costs_no_request(stack, rings):
    """Spool and store are on a disk of 300 KB. What is lost is counted; nothing is torn."""
    disk = stack.root / "disk"
    disk.mkdir()
    start(stack, rings, processes=1, buffer_bytes=1 << 16)
    program = (
        "import os, subprocess, sys; subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=300k', 'tmpfs', sys.argv[1]],"
        " check=True); os.execv(sys.executable, [sys.executable, '-m', 'mizzen.serving.predictionlog.process',"
        " '--folder', sys.argv[2], '--spool', sys.argv[1] + '/spool', '--store', 'file://' + sys.argv[1] + '/store',"
        " '--seal-after', '0.1'])"
    )
    if shutil.which("unshare") is None:
        pytest.skip("a small disk of its own needs unshare (Linux)")
    process = Process(["-c", UNSHARED, sys.executable, "-c", program, str(disk), str(rings)], {})
    stack.processes.append(process)
    with Load(stack, clients=4) as load:
        eventually(
            lambda: process.inner.poll() is not None or (written(rings)["lost"] > 100 and written(rings)["trouble"]),
            "the disk, then the ring are full",
        )
        if process.inner.poll() is not None:
            pytest.skip(f"no small disk can be made here: {process.output[-1:]}")
        load.after(200)
    assert load.wrong == []
    seen = stack.root / "seen"
    shutil.copytree(f"/proc/{process.inner.pid}/root{disk}/store", seen)
    rows = rows_of(LogTable(Store.open(f"file://{seen}"), TABLE))
    logged = Counter(row["request_id"] for row in rows)
    assert set(logged.values()) <= {1}
    assert logged.keys() <= set(answered_ids(load))
    assert 0 < written(rings)["lost"] <= len(load.answers) - len(logged)


UNSHARED = "import os, sys; os.execvp('unshare', ['unshare', '--user', '--map-root-user', '--mount', *sys.argv[1:]])"


def test_traces_and_the_access_log_of_a_real_gateway(stack):
    """Spans reach a collector over HTTP, and each request is a line, with the same trace."""
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    digest = stack.put(doubling_model())
    stack.serve(digest)
    stack.worker(digest)
    with Collector() as collector:
        stack.start_gateway(
            1, "--traces", collector.url, "--traces-ratio", "0", "--access-log", str(stack.root / "log")
        )
        with stack.client() as client:
            assert client.infer([[1.0, 2.0]], traceparent=f"00-{trace}-{parent}-01").status == 200
            assert client.infer([[1.0, 2.0]]).status == 200
        assert stack.gateway.end() == 0
        names = sorted(span["name"] for span in collector.spans)
    assert names == ["compute", "infer m", "queue"]
    assert {span["traceId"] for span in collector.spans} == {trace}
    lines = [json.loads(line) for line in (stack.root / "log").read_bytes().splitlines()]
    assert [(line["status"], line.get("trace_id")) for line in lines] == [(200, trace), (200, None)]


class Collector:
    """Takes OTLP over HTTP."""

    def __enter__(self) -> Self:
        self.spans: list[dict] = []
        collector = self

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                document = json.loads(self.rfile.read(int(self.headers["content-length"])))
                for resource in document["resourceSpans"]:
                    for scope in resource["scopeSpans"]:
                        collector.spans += scope["spans"]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
