"""CloudEvents as KServe's logger sends them: to a real sink over HTTP, at least once, and no table waits for it."""

import asyncio
import json
from collections import Counter

import httpx2
import pytest
from tests.serving.stack import eventually

from mizzen.data.lake.objects import Store
from mizzen.serving.predictionlog import spool as spools
from mizzen.serving.predictionlog.events import REQUEST, RESPONSE, SinkUnavailable, deliver, events_of
from mizzen.serving.predictionlog.journal import Limits
from mizzen.serving.predictionlog.writer import FolderTaken, Writer

from .builders import Log, answer, endpoint


def contents(log: Log):
    journal = log.journal()
    journal.drain()
    journal.seal(now=True)
    (segment,) = journal.spool.segments("sealed")
    return spools.read(segment)


def log_to(tmp_path, **more) -> Log:
    log = Log(tmp_path, endpoint(sink="http://sink/", **more))
    recorder = log.recorder(wall=lambda: 1_700_000_000.0)
    answer(recorder, "one", [(1.0, 2.0), (3.0, 4.0)])
    answer(recorder, "two")
    recorder.close()
    return log


def test_a_request_and_its_answer_are_two_events_of_one_id(tmp_path):
    first, second, *others = events_of(contents(log_to(tmp_path)))
    assert first.headers | {"ce-time": ""} == {
        "content-type": "application/json", "ce-specversion": "1.0", "ce-id": "one", "ce-type": REQUEST,
        "ce-source": "/namespaces/default/inferenceendpoints/m", "ce-time": "", "ce-inferenceservicename": "m",
        "ce-namespace": "default", "ce-component": "predictor", "ce-endpoint": "m-1",
    }  # fmt: skip
    assert first.headers["ce-time"].startswith("2023-11-14T22:13:")
    assert json.loads(first.body) == {
        "id": "one", "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}]
    }  # fmt: skip
    assert second.headers["ce-type"] == RESPONSE
    assert json.loads(second.body)["outputs"] == [{"name": "y", "shape": [2], "datatype": "FP32", "data": [3.0, 7.0]}]
    assert [event.headers["ce-id"] for event in others] == ["two", "two"]


@pytest.mark.parametrize(("events", "types"), [("request", {REQUEST}), ("response", {RESPONSE})])
def test_one_kind_can_be_asked_for(tmp_path, events, types):
    assert {event.headers["ce-type"] for event in events_of(contents(log_to(tmp_path, events=events)))} == types


def test_redacted_values_are_in_no_event(tmp_path):
    bodies = [json.loads(event.body) for event in events_of(contents(log_to(tmp_path, redact=("b", "y"))))]
    assert bodies[0]["inputs"][0]["data"] == [1.0, None, 3.0, None]
    assert all(body.get("outputs", []) == [] for body in bodies)


@pytest.mark.parametrize(("status", "refused"), [(200, 0), (202, 0), (400, 4), (503, None), (429, None)])
async def test_what_a_sink_refuses_is_not_sent_again_and_what_it_cannot_take_now_is(tmp_path, status, refused):
    sink = httpx2.MockTransport(lambda _: httpx2.Response(status))
    async with httpx2.AsyncClient(transport=sink) as client:
        if refused is None:
            with pytest.raises(SinkUnavailable, match=f"answered {status}"):
                await deliver(client, contents(log_to(tmp_path)))
        else:
            assert await deliver(client, contents(log_to(tmp_path))) == refused


async def test_the_writer_brings_records_to_the_table_and_events_to_the_sink(tmp_path):
    """A sink that is away at first gets every event in the end; the table did not wait for it."""
    got: Counter[tuple[str, str]] = Counter()
    away = asyncio.Event()

    async def sink(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            headers = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:] if line)
            await reader.readexactly(int(headers["content-length"]))
            if away.is_set():
                got[headers["ce-id"], headers["ce-type"]] += 1
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % (202 if away.is_set() else 503))

    server = await asyncio.start_server(sink, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    log = Log(tmp_path, endpoint(sink=f"http://127.0.0.1:{port}/"))
    recorder = log.recorder()
    for number in range(20):
        answer(recorder, f"id-{number}")
    recorder.close()
    writer = Writer(
        tmp_path / "rings", tmp_path / "spool", Store.open(f"file://{tmp_path}/store"), Limits(seal_after_s=0.01)
    )
    with pytest.raises(FolderTaken):
        Writer(tmp_path / "rings", tmp_path / "other", Store.open(f"file://{tmp_path}/store"), Limits())
    stop = asyncio.Event()
    running = asyncio.create_task(writer.run(stop))
    found = None
    while found is None:
        found = await asyncio.to_thread(eventually, log.table.arrow, "the table")
    assert found.num_rows == 20
    assert got == {}
    away.set()
    await asyncio.to_thread(eventually, lambda: len(got) == 40, "all events")
    stop.set()
    await running
    assert set(got.values()) == {1}
    server.close()
    assert not (tmp_path / "rings" / "default.m").exists()
