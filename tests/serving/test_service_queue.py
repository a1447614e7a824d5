"""What a service does with the queue's decisions: parts, priorities, shares, foreseen lateness, batches called back."""

import asyncio
import hashlib
import json

import pytest

from mizzen.serving.frames import ErrorCode
from mizzen.serving.gateway.directory import Tenant
from mizzen.serving.gateway.exchange import HttpExchange
from mizzen.serving.tensors import Tensor

from .builders import signature, spec, tensor
from .played import Stage, api_key, endpoint, turn, version

pytestmark = pytest.mark.looptime


def staged(**declared) -> Stage:
    made = Stage()
    made.gateway.endpoint_changed(endpoint(**{"batch_rows_max": 4, "queue_rows_max": 100, **declared}))
    return made


def asking(*values: float, **parameters) -> bytes:
    inputs = [{"name": "x", "shape": [len(values), 1], "datatype": "FP32", "data": values}]
    return json.dumps({"inputs": inputs, "parameters": parameters}).encode()


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


# Requests larger than a batch


async def test_a_request_larger_than_a_batch_is_run_in_parts_and_answered_whole():
    stage = staged()
    first, second = stage.worker(), stage.worker()
    large, small = stage.call(*map(float, range(10))), stage.call(100.0)
    await turn()
    assert [link.rows(link.batches[0]) for link in (first, second)] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    second.answer()
    assert second.rows(second.batches[0]) == [6.0, 7.0, 8.0, 9.0]
    second.answer()
    assert not large.reply.answered
    first.answer()
    assert large.reply.values == [2.0 * value for value in range(10)]
    assert large.reply.json["outputs"][0]["shape"] == [10, 1]
    assert second.rows(second.batches[0]) == [100.0]
    second.answer()
    assert small.reply.values == [200.0]


async def test_bytes_bound_a_batch_as_rows_do():
    stage = staged(batch_bytes_max=8)
    link = stage.worker()
    call = stage.call(1.0, 2.0, 3.0)
    await turn()
    assert link.rows(link.batches[0]) == [1.0]
    for _ in range(2):
        link.answer()
    assert call.reply.values == [2.0, 4.0, 6.0]


async def test_one_part_that_fails_fails_the_request_and_its_other_parts_are_not_run():
    stage = staged()
    link = stage.worker()
    call = stage.call(*map(float, range(12)))
    await turn()
    link.fail("no")
    assert (call.reply.status, call.reply.error) == (500, "no")
    assert link.batches == []
    assert stage.rows_computed == [0.0, 1.0, 2.0, 3.0]


async def test_who_leaves_in_parts_leaves_whole():
    stage = staged()
    first, second = stage.worker(), stage.worker()
    call = stage.call(*map(float, range(12)))
    await turn()
    call.leave()
    assert (first.cancelled, second.cancelled) == (first.batches, second.batches)
    first.fail(code=ErrorCode.CANCELLED)
    second.answer()
    assert (first.batches, second.batches, call.reply.answers) == ([], [], [])
    assert stage.gateway.measures["default", "m"].rows_unwanted == 4


async def test_parts_whose_rows_differ_in_shape_make_no_answer():
    """An output whose row length follows from the whole input of its batch cannot be put together."""
    stage = Stage()
    takes = signature(spec("x", shape=(-1, 1)), outputs=[spec("y", shape=(-1, -1))])
    stage.gateway.endpoint_changed(endpoint(versions=[version(1, takes)], batch_rows_max=1))
    link = stage.worker(takes=takes)
    call = stage.call(1.0, 2.0)
    await turn()
    link.answer_with(tensor([1.0], shape=(1, 1), name="y"))
    link.answer_with(Tensor("y", "FP32", (1, 2), bytes(8)))
    assert call.reply.status == 500
    assert "was run in parts, and rows of shape [1] and [2] do not make one tensor" in call.reply.error


async def test_a_new_version_runs_a_request_in_parts_from_the_beginning():
    """No answer is of two versions: what the old one has computed of it is of no use."""
    stage = staged()
    old = stage.worker(1)
    call = stage.call(*map(float, range(8)))
    await turn()
    new = stage.worker(2)
    stage.gateway.endpoint_changed(endpoint(versions=[version(2)], batch_rows_max=4, queue_rows_max=100))
    await turn()
    old.answer()
    assert not call.reply.answered
    for _ in range(2):
        new.answer()
    assert (call.reply.values, call.reply.json["model_version"]) == ([2.0 * value for value in range(8)], "2")


# Who is next


async def test_what_is_more_urgent_goes_first():
    stage = staged(batch_rows_max=1, priority_levels=3, priority_default=2)
    link = stage.worker()
    stage.call(0.0)
    await turn()
    calls = [stage.call(body=asking(float(p), priority=p)) for p in (3, 2, 1, 9)]
    await turn()
    order = []
    for _ in range(5):
        order += link.rows(link.batches[0])
        link.answer()
    assert order == [0.0, 1.0, 2.0, 9.0, 3.0], "9 is none that there is, so it has the default"
    assert all(call.reply.status == 200 for call in calls)


async def test_callers_are_told_apart_by_their_keys_and_served_by_weight():
    stage = staged(anonymous=False, batch_rows_max=1, tenants=(Tenant("big", 3.0),))
    for name in ("big", "small"):
        stage.gateway.key_changed(f"default/{name}", api_key(hashed(name)))
    link = stage.worker()
    for number in range(12):
        stage.call(1.0 + number, x_api_key="small")
        stage.call(101.0 + number, x_api_key="big")
    await turn()
    order = []
    for _ in range(12):
        order += link.rows(link.batches[0])
        link.answer()
    assert sum(value > 100 for value in order) == 9


async def test_a_full_queue_makes_room_for_another_caller():
    stage = staged(anonymous=False, queue_rows_max=4)
    for name in ("a", "b"):
        stage.gateway.key_changed(f"default/{name}", api_key(hashed(name)))
    first = [stage.call(float(value), x_api_key="a") for value in range(4)]
    other = stage.call(9.0, x_api_key="b")
    assert first[3].reply.status == 429
    assert first[3].reply.error == (
        "the queue is full: 4 rows wait, of at most 4; this one's place went to a more urgent one, or to a caller with "
        "less than its share"
    )
    again = stage.call(10.0, x_api_key="a")
    assert (again.reply.status, again.reply.error) == (429, "the queue is full: 4 rows wait, of at most 4")
    link = stage.worker()
    await turn()
    link.answer()
    assert other.reply.values == [18.0]
    measures = stage.gateway.measures["default", "m"]
    assert measures.outcomes == {"pushed_out": 1, "queue_full": 1, "ok": 4}


async def test_a_request_that_has_no_place_whatever_it_says_is_refused_unread(monkeypatch):
    stage = staged(queue_rows_max=2)
    waiting = [stage.call(float(value)) for value in range(2)]
    read, bodies = HttpExchange.read, []

    def noted(exchange, served):
        bodies.append(exchange.body)
        return read(exchange, served)

    monkeypatch.setattr(HttpExchange, "read", noted)
    assert stage.call(body=b"no JSON at all").reply.status == 429
    assert bodies == []
    link = stage.worker()
    await turn()
    link.answer()
    assert [call.reply.values for call in waiting] == [[0.0], [2.0]]
    assert stage.call(body=b"no JSON at all").reply.status == 400


# Time


async def learned(stage: Stage, link, batch_s: float, count: int = 8) -> None:
    """The worker shows how long a batch takes."""
    for _ in range(count):
        call = stage.call(1.0)
        await asyncio.sleep(batch_s)
        link.answer()
        assert call.reply.status == 200


async def test_who_would_be_late_is_refused_when_he_comes(looptime):
    """Batches of one take 100 ms and one has just begun: the next, with 120 ms, is told so."""
    stage = staged(batch_rows_max=1)
    link = stage.worker()
    await learned(stage, link, 0.1)
    calls = [stage.call(float(value), request_timeout_ms="5000") for value in range(5)]
    await turn()
    behind = stage.call(9.0, request_timeout_ms="6000")
    late = stage.call(9.0, request_timeout_ms="200")
    assert (late.reply.status, late.reply.headers["retry-after"]) == (429, "1")
    assert late.reply.error == "what waits takes longer than the request's time of 200 ms: 5 rows"
    assert stage.gateway.measures["default", "m"].outcomes["overload"] == 1
    assert not any(call.reply.answered for call in (*calls, behind))


async def test_who_cannot_be_answered_in_time_costs_no_compute(looptime):
    """20 ms where a batch takes 100 ms: told at once, and not after it was computed in vain."""
    stage = staged()
    link = stage.worker()
    await learned(stage, link, 0.1)
    computed = len(stage.rows_computed)
    call = stage.call(5.0, request_timeout_ms="20")
    await turn()
    assert (call.reply.status, len(stage.rows_computed)) == (504, computed)
    assert call.reply.error == "no answer within the request's time of 20 ms: a worker would still take 100.0 ms"
    assert stage.gateway.measures["default", "m"].outcomes["dropped"] == 1


async def test_an_answer_that_comes_after_the_deadline_is_no_answer(looptime):
    """Though the timer was not heard yet: a deadline is kept or missed, and who missed it is told so."""
    stage = staged()
    link = stage.worker()
    call = stage.call(5.0, request_timeout_ms="20")
    await turn()
    service = stage.gateway.services["default", "m"]
    service._dispatch._timer.cancel()  # an event loop that is late
    await asyncio.sleep(0.03)
    link.answer()
    assert call.reply.status == 504


async def test_an_idle_worker_waits_for_others_only_where_that_is_asked_for(looptime):
    stage = staged(batch_rows_max=3, batch_delay_s=0.01)
    link = stage.worker()
    stage.call(1.0)
    await asyncio.sleep(0.005)
    stage.call(2.0)
    assert link.batches == []
    await asyncio.sleep(0.0051)
    assert [link.rows(batch) for batch in link.batches] == [[1.0, 2.0]]
    link.answer()
    for value in (3.0, 4.0, 5.0):
        stage.call(value)
    await turn()
    assert [link.rows(batch) for batch in link.batches] == [[3.0, 4.0, 5.0]]


# Leaving


async def test_a_batch_that_was_sent_ahead_is_formed_anew_when_one_of_it_leaves():
    """The worker has not begun it: who left costs no compute, and the others are run all the same."""
    stage = staged(batch_rows_max=2)
    link = stage.worker(batches=2)
    first = stage.call(1.0)
    await turn()
    gone, stays = stage.call(2.0), stage.call(3.0)
    await turn()
    assert [link.rows(batch) for batch in link.batches] == [[1.0], [2.0, 3.0]]
    gone.leave()
    assert link.cancelled == [link.batches[1]]
    link.fail(batch=link.batches[1], code=ErrorCode.CANCELLED)
    link.answer()
    await turn()
    assert [link.rows(batch) for batch in link.batches] == [[3.0]]
    link.answer()
    assert (first.reply.values, stays.reply.values, gone.reply.answers) == ([2.0], [6.0], [])


async def test_a_batch_that_was_begun_all_the_same_is_answered():
    stage = staged(batch_rows_max=2)
    link = stage.worker(batches=2)
    stage.call(1.0)
    await turn()
    gone, stays = stage.call(2.0), stage.call(3.0)
    await turn()
    gone.leave()
    link.answer()
    link.answer()
    assert (stays.reply.values, gone.reply.answers) == ([6.0], [])
    assert stage.gateway.measures["default", "m"].rows_unwanted == 1


async def test_what_a_lost_worker_had_not_begun_is_not_blamed():
    """Of two batches the first was run: the second is run again as it was, together, and may be lost once more."""
    stage = staged(batch_rows_max=2)
    link = stage.worker(batches=2)
    killer = stage.call(13.0)
    await turn()
    others = [stage.call(1.0), stage.call(2.0)]
    await turn()
    link.die()
    second = stage.worker()
    await turn()
    assert second.rows(second.batches[0]) == [13.0], "the suspect has a worker for itself"
    second.die()
    third = stage.worker()
    await turn()
    assert third.rows(third.batches[0]) == [1.0, 2.0]
    third.answer()
    assert [killer.reply.status, *(call.reply.status for call in others)] == [500, 200, 200]
    assert stage.gateway.measures["default", "m"].workers_lost == 2
