"""One endpoint's shell around the queue: what clients are told, whatever workers, versions and clocks do."""

import asyncio
import gc
import json
import struct

import pytest

from mizzen.serving.frames import ErrorCode, FrameError
from mizzen.serving.gateway.exchange import Exchange, HttpExchange
from mizzen.serving.gateway.traffic import Traffic
from mizzen.serving.tensors import Tensor

from .builders import signature, spec, tensor
from .played import Stage, endpoint, turn, version, worker

pytestmark = pytest.mark.looptime


@pytest.fixture
async def stage():
    made = Stage()
    made.gateway.endpoint_changed(endpoint(timeout_s=30.0, batch_rows_max=8, queue_rows_max=16))
    return made


async def test_each_caller_gets_its_own_rows(stage):
    link = stage.worker()
    calls = [stage.call(1.0), stage.call(2.0, 3.0), stage.call(4.0)]
    await turn()
    (batch,) = link.batches
    assert link.rows(batch) == [1.0, 2.0, 3.0, 4.0], "what came in one turn is one batch"
    link.answer()
    assert [call.reply.values for call in calls] == [[2.0], [4.0, 6.0], [8.0]]


async def test_the_answer_says_what_answered(stage):
    link = stage.worker()
    call = stage.call(1.0)
    await turn()
    link.answer()
    assert call.reply.json == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [2.0]}],
    }
    assert call.reply.headers["content-type"] == "application/json"


async def test_binary_answers_say_where_the_json_ends(stage):
    link = stage.worker()
    text = json.dumps(
        {
            "inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    call = stage.call(body=text + struct.pack("<2f", 1.0, 2.0), inference_header_content_length=str(len(text)))
    await turn()
    link.answer()
    ((status, headers, body),) = call.reply.answers
    size = int(headers["inference-header-content-length"])
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert json.loads(body[:size])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", body[size:]) == (2.0, 4.0)


# Versions that share the traffic


def answering_version(call) -> str:
    return call.reply.json["model_version"]


async def test_a_unit_is_answered_by_one_version_whatever_else_is_asked(stage):
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, percent=70), version(2, percent=30)]))
    links = [stage.worker(1, batches=1000), stage.worker(2, batches=1000)]

    async def asked(unit: str, **more) -> str:
        call = stage.call(1.0, mizzen_unit=unit, **more)
        await turn()
        for link in links:
            while link.batches:
                link.answer()
        return answering_version(call)

    units = [f"user-{number}" for number in range(400)]
    first = [await asked(unit) for unit in units]
    assert 0.2 < first.count("2") / len(units) < 0.4, "about three in ten"
    assert [await asked(unit) for unit in units] == first
    path = "/v2/models/m/versions/2/infer"
    assert {await asked(unit, path=path) for unit in units[:20]} == {"2"}, "who names a version gets it"
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, percent=50), version(2, percent=50)]))
    after = [await asked(unit) for unit in units]
    assert {pair for pair in zip(first, after, strict=True) if pair[0] != pair[1]} == {("1", "2")}, (
        "only to the version whose share grew"
    )


async def test_without_a_unit_chance_divides(stage):
    chances = iter([0.1, 0.69, 0.7, 0.99] * 2)
    service = stage.gateway.services[("default", "m")]
    shared = Traffic(service.endpoint, service.measures, lambda: next(chances))
    shared.update(endpoint(versions=[version(1, percent=70), version(2, percent=30)]), lambda _: None)
    exchange = Exchange(0.0, 1.0)
    assert [shared.choice(exchange).version.version for _ in range(8)] == [1, 1, 2, 2] * 2


async def test_a_version_without_a_share_answers_only_who_names_it(stage):
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, percent=100), version(2, percent=0)]))
    stage.worker(1, batches=100)
    tried = stage.worker(2, batches=100)
    for number in range(20):
        stage.call(1.0, mizzen_unit=f"user-{number}")
    await turn()
    assert not tried.batches
    stage.call(1.0, path="/v2/models/m/versions/2/infer")
    await turn()
    assert tried.batches


async def test_statistics_are_told_for_each_version(stage):
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, percent=100), version(2, percent=0)]))
    links = [stage.worker(1, batches=10), stage.worker(2, batches=10)]
    stage.call(1.0, 2.0, 3.0)
    stage.call(4.0, path="/v2/models/m/versions/2/infer")
    stage.call(5.0, path="/v2/models/m/versions/2/infer")
    bad = stage.call(6.0, path="/v2/models/m/versions/1/infer")
    await turn()
    links[0].fail()
    for link in links:
        while link.batches:
            link.answer()
    assert bad.reply.answered

    def told(path: str) -> list[tuple[str, int, int, int, int]]:
        return [
            (one["version"], one["inference_count"], one["execution_count"], one["inference_stats"]["success"]["count"],
             one["inference_stats"]["queue"]["count"])
            for one in stage.get(path).json["model_stats"]
        ]  # fmt: skip

    first, second = told("/v2/models/m/stats")
    assert second == ("2", 2, 1, 2, 2), "two requests of one row, run as one batch"
    assert (first[0], first[1]) == ("1", 4)
    assert told("/v2/models/m/versions/2/stats") == [second]
    assert told("/v2/models/stats") == [first, second]
    assert stage.get("/v2/models/m/versions/3/stats").status == 404


# Waiting


async def test_requests_wait_for_a_worker_and_are_answered_when_it_comes(stage, looptime):
    call = stage.call(1.0)
    await asyncio.sleep(29)
    link = stage.worker()
    link.answer()
    assert call.reply.values == [2.0]


async def test_where_no_worker_comes_in_time_it_is_503(stage, looptime):
    call = stage.call(1.0)
    await asyncio.sleep(29.9)
    assert not call.reply.answered
    await asyncio.sleep(0.2)
    assert call.reply.status == 503
    assert call.reply.error == "no worker was ready within the request's time of 30000 ms"
    assert call.reply.headers["retry-after"] == "1"


async def test_where_a_worker_does_not_answer_in_time_it_is_504_and_the_batch_is_given_up(stage, looptime):
    link = stage.worker()
    call = stage.call(1.0)
    await asyncio.sleep(31)
    assert (call.reply.status, call.reply.error) == (504, "no answer within the request's time of 30000 ms")
    assert link.cancelled == link.batches
    link.answer()
    assert len(call.reply.answers) == 1, "what comes too late is nobody's"


@pytest.mark.parametrize(
    ("headers", "parameters", "expected_s"),
    [
        ({"request_timeout_ms": "20"}, {}, 0.02),
        ({}, {"timeout": 50_000}, 0.05),
        ({"request_timeout_ms": "20"}, {"timeout": 50_000}, 0.02),
        ({"request_timeout_ms": "99000"}, {}, 30.0),
        ({}, {"timeout": 0}, 30.0),
    ],
)
async def test_the_shortest_of_all_times_counts(stage, looptime, headers, parameters, expected_s):
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}], "parameters": parameters}
    ).encode()
    call = stage.call(body=body, **headers)
    await asyncio.sleep(expected_s - 0.005)
    assert not call.reply.answered
    await asyncio.sleep(0.01)
    assert call.reply.status == 503


async def test_what_is_late_costs_no_compute(stage, looptime):
    link = stage.worker()
    first = stage.call(1.0)
    await turn()
    late = stage.call(2.0, request_timeout_ms="100")
    await asyncio.sleep(0.2)
    link.answer()
    await turn()
    assert (first.reply.values, late.reply.status) == ([2.0], 504)
    assert stage.rows_computed == [1.0]


async def test_who_leaves_costs_no_compute(stage):
    link = stage.worker()
    stage.call(1.0)
    await turn()
    gone, stays = stage.call(2.0), stage.call(3.0)
    await turn()
    gone.leave()
    link.answer()
    assert link.rows(link.batches[0]) == [3.0]
    link.answer()
    assert (gone.reply.answers, stays.reply.values) == ([], [6.0])


async def test_a_running_batch_is_cancelled_when_its_last_client_has_left(stage):
    link = stage.worker()
    calls = [stage.call(1.0), stage.call(2.0)]
    await turn()
    calls[0].leave()
    assert link.cancelled == []
    calls[1].leave()
    assert link.cancelled == link.batches
    link.fail(code=ErrorCode.CANCELLED)
    assert [call.reply.answers for call in calls] == [[], []]


async def test_a_full_queue_is_429_with_a_time_to_come_again(stage):
    stage.call(*range(16))
    refused = stage.call(1.0)
    assert refused.reply.status == 429
    assert refused.reply.error == "the queue is full: 16 rows wait, of at most 16"
    assert refused.reply.headers["retry-after"] == "30"


async def test_more_rows_than_the_queue_holds_is_413(stage):
    refused = stage.call(*range(17))
    assert (refused.reply.status, refused.reply.error) == (413, "inputs: expected at most 16 rows, got 17")


async def test_a_bad_request_is_named_with_its_path(stage):
    refused = stage.call(body=b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}')
    assert (refused.reply.status, refused.reply.error) == (400, "inputs[0].shape: expected [-1, 1], got [1, 2]")


# Failing


async def test_a_bad_request_in_a_batch_fails_alone(stage):
    link = stage.worker()
    stage.auto = lambda link, batch: (
        asyncio.get_running_loop().call_soon(link.fail, "no thirteen", batch)
        if 13.0 in link.rows(batch)
        else asyncio.get_running_loop().call_soon(link.answer, batch)
    )
    calls = [stage.call(float(value)) for value in (11, 12, 13, 14)]
    await asyncio.sleep(0.1)
    assert [call.reply.status for call in calls] == [200, 200, 500, 200]
    assert calls[2].reply.error == "no thirteen"
    assert [calls[index].reply.values for index in (0, 1, 3)] == [[22.0], [24.0], [28.0]]
    assert link.batches == []


async def test_a_worker_that_dies_has_its_requests_run_again_elsewhere(stage):
    first = stage.worker()
    calls = [stage.call(1.0), stage.call(2.0)]
    await turn()
    first.die()
    second = stage.worker()
    await turn()
    second.answer()
    second.answer()
    assert [call.reply.values for call in calls] == [[2.0], [4.0]]


async def test_a_request_that_kills_two_workers_is_500(stage):
    first = stage.worker()
    call = stage.call(13.0)
    await turn()
    first.die()
    stage.worker().die()
    await turn()
    assert (call.reply.status, call.reply.error) == (500, "two workers were lost while they ran this request")


async def test_a_worker_that_gives_back_has_its_requests_run_elsewhere(stage):
    first = stage.worker()
    call = stage.call(1.0)
    await turn()
    first._owner.worker_draining(first)
    first.fail(code=ErrorCode.NOT_RUN)
    assert not call.reply.answered
    stage.worker().answer()
    assert call.reply.values == [2.0]


async def test_outputs_that_cannot_be_taken_apart_are_halved_to_requests_that_can(stage):
    """A model whose output has not the rows of its input serves one request at a time."""
    link = stage.worker()
    calls = [stage.call(1.0), stage.call(2.0)]
    await turn()
    link.answer_with(tensor([7.0], shape=(1, 1), name="y"))
    for _ in calls:
        link.answer()
    assert [call.reply.values for call in calls] == [[2.0], [4.0]]


async def test_an_output_that_is_missing_is_500(stage):
    link = stage.worker()
    call = stage.call(1.0)
    await turn()
    link.answer_with(tensor([7.0], shape=(1, 1), name="z"))
    assert (call.reply.status, call.reply.error) == (500, "the worker sent no output 'y'")


# Versions


async def test_a_new_version_takes_over_without_a_request_lost(stage):
    old = stage.worker(1)
    running = stage.call(1.0)
    await turn()
    waiting = stage.call(2.0)
    new = stage.worker(2)
    stage.gateway.endpoint_changed(endpoint(versions=[version(2)]))
    await turn()
    new.answer()
    assert (waiting.reply.values, waiting.reply.json["model_version"]) == ([4.0], "2")
    old.answer()
    assert (running.reply.values, running.reply.json["model_version"]) == ([2.0], "1")


async def test_a_replaced_version_whose_worker_is_going_still_answers_what_it_has(stage):
    """The worker drains before the switch is heard of: its batch is the old version's, and is answered as such."""
    old = stage.worker(1)
    running = stage.call(1.0)
    await turn()
    waiting = stage.call(2.0)
    old._owner.worker_draining(old)
    new = stage.worker(2)
    stage.gateway.endpoint_changed(endpoint(versions=[version(2)]))
    await turn()
    old.answer()
    assert (running.reply.values, running.reply.json["model_version"]) == ([2.0], "1")
    new.answer()
    assert (waiting.reply.values, waiting.reply.json["model_version"]) == ([4.0], "2")
    old.die()
    assert list(stage.gateway.services["default", "m"]._traffic.served) == [version(2).digest]


async def test_what_a_replaced_versions_last_worker_had_goes_to_the_successor(stage):
    old = stage.worker(1)
    running = stage.call(1.0)
    await turn()
    new = stage.worker(2)
    stage.gateway.endpoint_changed(endpoint(versions=[version(2)]))
    old.die()
    await turn()
    new.answer()
    assert (running.reply.values, running.reply.json["model_version"]) == ([2.0], "2")


async def test_who_waits_for_a_version_that_takes_something_else_is_answered_while_it_has_workers(stage):
    old = stage.worker(1)
    stage.call(1.0)
    await turn()
    waiting = stage.call(2.0)
    other = signature(spec("z", shape=(-1, 1)), outputs=[spec("y", shape=(-1, 1))])
    stage.gateway.endpoint_changed(endpoint(versions=[version(2, other)]))
    old.answer()
    old.answer()
    assert (waiting.reply.values, waiting.reply.json["model_version"]) == ([4.0], "1")


async def test_and_is_told_to_come_again_when_the_last_of_them_goes(stage):
    old = stage.worker(1)
    stage.call(1.0)
    await turn()
    waiting = stage.call(2.0)
    other = signature(spec("z", shape=(-1, 1)), outputs=[spec("y", shape=(-1, 1))])
    stage.gateway.endpoint_changed(endpoint(versions=[version(2, other)]))
    old.die()
    assert (waiting.reply.status, waiting.reply.headers["retry-after"]) == (503, "1")
    assert "was replaced while the request waited" in waiting.reply.error


async def test_a_version_may_be_asked_for_by_number_while_it_gets_traffic(stage):
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, percent=100), version(2, percent=0)]))
    first, second = stage.worker(1), stage.worker(2)
    any_, pinned = stage.call(1.0), stage.call(2.0, path="/v2/models/m/versions/2/infer")
    await turn()
    first.answer()
    second.answer()
    assert (any_.reply.json["model_version"], pinned.reply.json["model_version"]) == ("1", "2")
    absent = stage.call(1.0, path="/v2/models/m/versions/3/infer")
    assert (absent.reply.status, absent.reply.error) == (404, "version: expected one that gets traffic (1, 2), got 3")


async def test_requests_wait_while_no_version_gets_traffic_and_go_to_the_first(stage, looptime):
    stage.gateway.endpoint_changed(endpoint(versions=[]))
    call = stage.call(1.0)
    late = stage.call(2.0, request_timeout_ms="1000")
    await asyncio.sleep(5)
    link = stage.worker(1)
    stage.gateway.endpoint_changed(endpoint())
    await turn()
    link.answer()
    assert (call.reply.values, late.reply.status) == ([2.0], 503)


async def test_the_signature_is_the_first_workers_where_nobody_else_tells():
    stage = Stage()
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, takes=None)]))
    good, bad = stage.call(1.0), stage.call(body=b"{}")
    await turn()
    assert not bad.reply.answered
    link = stage.worker(1)
    await turn()
    link.answer()
    assert (good.reply.values, bad.reply.status) == ([2.0], 400)


async def test_nothing_is_held_where_nothing_will_come(stage):
    stage.gateway.endpoint_changed(endpoint(versions=[], hopeless="version 1 does not load"))
    call = stage.call(1.0)
    assert (call.reply.status, call.reply.error) == (503, "version 1 does not load")


async def test_who_waits_is_told_when_it_becomes_hopeless(stage):
    stage.gateway.endpoint_changed(endpoint(versions=[]))
    call = stage.call(1.0)
    stage.gateway.endpoint_changed(endpoint(versions=[], hopeless="version 1 does not load"))
    assert (call.reply.status, call.reply.error) == (503, "version 1 does not load")


async def test_who_waits_is_told_when_the_endpoint_goes(stage):
    link = stage.worker()
    running = stage.call(1.0)
    await turn()
    waiting = stage.call(2.0)
    stage.gateway.endpoint_gone(("default", "m"))
    assert (waiting.reply.status, waiting.reply.error) == (503, "endpoint m was deleted")
    assert link.retired
    link.answer()
    assert running.reply.values == [2.0]


# Workers that do not belong


async def test_a_worker_of_another_digest_is_refused(stage):
    described = worker(1)
    stage.gateway.worker_changed(described)
    with pytest.raises(FrameError, match="expected a worker of digest 0000000000000000…"):
        stage.links[described.uid].connect(number=int("f" * 64, 16))


async def test_a_worker_whose_model_takes_something_else_is_refused(stage):
    described = worker(1)
    stage.gateway.worker_changed(described)
    with pytest.raises(FrameError, match="expected a worker for Signature"):
        stage.links[described.uid].connect(takes=signature(spec("other")))


async def test_a_retired_worker_gets_no_more(stage):
    link = stage.worker()
    stage.gateway.worker_gone(link.worker.uid)
    stage.call(1.0)
    await turn()
    assert link.batches == []


async def test_requests_with_open_dimensions_are_put_together_by_shape():
    stage = Stage()
    takes = signature(spec("x", shape=(-1, -1)), outputs=[spec("y", shape=(-1, -1))])
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, takes)]))
    link = stage.worker(takes=takes, batches=2)

    def body(rows, columns):
        data = [1.0] * rows * columns
        return json.dumps(
            {"inputs": [{"name": "x", "shape": [rows, columns], "datatype": "FP32", "data": data}]}
        ).encode()

    for rows, columns in ((1, 2), (2, 2), (1, 3), (1, 2)):
        stage.call(body=body(rows, columns))
    await turn()
    assert len(link.rows(link.batches[0])) == 8
    link.answer_with(Tensor("y", "FP32", (4, 2), bytes(32)))
    assert len(link.rows(link.batches[0])) == 3


async def test_a_model_that_is_not_batchable_has_each_request_run_alone():
    stage = Stage()
    takes = signature(spec("x", shape=(1, 1)), outputs=[spec("y", shape=(1, 1))])
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, takes)]))
    link = stage.worker(takes=takes)
    calls = [stage.call(1.0), stage.call(2.0)]
    await turn()
    link.answer()
    link.answer()
    assert [call.reply.values for call in calls] == [[2.0], [4.0]]


async def test_what_happened_is_counted(stage):
    link = stage.worker()
    stage.call(1.0, 2.0)
    await turn()
    link.answer()
    stage.call(body=b"")
    gone = stage.call(1.0)
    gone.leave()
    measures = stage.gateway.measures["default", "m"]
    assert measures.outcomes == {"ok": 1, "bad_request": 1, "cancelled": 1}
    assert (measures.rows, sum(measures.batch_rows.counts), sum(measures.request_s.counts)) == (2, 1, 1)


async def test_requests_leave_nothing_for_the_garbage_collector(stage):
    """However they end, what was made for them goes with the last reference: memory is flat without a collection."""
    link = stage.worker()

    async def some_requests() -> None:
        calls = [stage.call(float(number)) for number in range(6)]
        await turn()
        calls[0].leave()
        link.answer()
        stage.call(1.0, request_timeout_ms="1")
        stage.call(body=b"?")
        await asyncio.sleep(0.01)
        link.fail()
        stage.call(1.0)
        stage.call(2.0)
        await turn()
        link.answer()

    await some_requests()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await some_requests()
        assert gc.collect() == 0
    finally:
        gc.enable()


async def test_a_bug_in_one_answer_is_one_answer_of_500(stage, monkeypatch):
    link = stage.worker()
    calls = [stage.call(1.0), stage.call(2.0)]
    await turn()
    write, seen = HttpExchange.write, []

    def write_but_the_first(exchange, served, outputs):
        seen.append(exchange)
        if len(seen) == 1:
            raise RuntimeError("a bug")
        write(exchange, served, outputs)

    monkeypatch.setattr(HttpExchange, "write", write_but_the_first)
    link.answer()
    assert (calls[0].reply.status, calls[1].reply.values) == (500, [4.0])
