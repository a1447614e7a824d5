"""Who is answered from the cache, who waits for whom, and who computes: on virtual time, with played workers."""

import asyncio
import hashlib
import json
import random
import struct

import pytest
from tests.serving.builders import signature, spec, tensor
from tests.serving.cache.builders import TTL_S, caching
from tests.serving.played import Stage, api_key, endpoint, turn, version

from mizzen.serving.gateway.cache.responses import Tiers
from mizzen.serving.gateway.gateway import Gateway

pytestmark = pytest.mark.looptime
BIG = 1 << 20


def stage_with(tiers=None, **settings) -> Stage:
    made = Stage()
    loop = asyncio.get_running_loop()
    made.gateway = Gateway(loop.time, connect=made._linked, tiers=tiers)
    made.gateway.endpoint_changed(endpoint(cache=caching(**settings), batch_rows_max=8, queue_rows_max=16))
    return made


@pytest.fixture
async def stage():
    return stage_with()


def found(stage: Stage) -> dict[str, int]:
    return stage.gateway.measures["default", "m"].cache


async def test_what_was_answered_is_not_computed_again(stage):
    link = stage.worker()
    first = stage.call(1.0, 2.0)
    await turn()
    link.answer()
    again = stage.call(1.0, 2.0)
    assert again.exchange is None, "answered at once"
    assert again.reply.answers == first.reply.answers
    assert stage.rows_computed == [1.0, 2.0]
    assert found(stage) == {"miss": 1, "memory": 1}


async def test_json_and_binary_share_an_entry_and_are_answered_each_in_its_form(stage):
    link = stage.worker()
    stage.call(1.0, 2.0)
    await turn()
    link.answer()
    head = json.dumps(
        {
            "id": "7",
            "inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    call = stage.call(body=head + struct.pack("<2f", 1.0, 2.0), inference_header_content_length=str(len(head)))
    ((status, headers, body),) = call.reply.answers
    size = int(headers["inference-header-content-length"])
    assert (status, json.loads(body[:size])["id"], struct.unpack("<2f", body[size:])) == (200, "7", (2.0, 4.0))
    assert stage.rows_computed == [1.0, 2.0]


async def test_without_a_cache_everything_is_computed(stage):
    stage.gateway.endpoint_changed(endpoint())
    link = stage.worker()
    for _ in range(2):
        call = stage.call(1.0)
        await turn()
        link.answer()
        assert call.reply.values == [2.0]
    assert stage.rows_computed == [1.0, 1.0]


async def test_an_answer_is_given_until_its_time_is_over(stage):
    link = stage.worker()
    stage.call(1.0)
    await turn()
    link.answer()
    await asyncio.sleep(TTL_S - 0.1)
    assert stage.call(1.0).reply.answered
    await asyncio.sleep(0.2)
    late = stage.call(1.0)
    await turn()
    assert not late.reply.answered
    link.answer()
    assert stage.rows_computed == [1.0, 1.0]


async def test_tenants_do_not_share_answers():
    stage = stage_with()
    stage.gateway.endpoint_changed(endpoint(anonymous=False, cache=caching()))
    for name in ("one", "two"):
        stage.gateway.key_changed(name, api_key(hashlib.sha256(name.encode()).hexdigest()))
    link = stage.worker()
    stage.call(1.0, x_api_key="one")
    await turn()
    link.answer()
    other = stage.call(1.0, x_api_key="two")
    assert not other.reply.answered
    assert stage.call(1.0, x_api_key="one").reply.answered
    await turn()
    link.answer()
    assert stage.rows_computed == [1.0, 1.0]


async def test_only_outputs_asked_for_are_kept_and_given():
    two = signature(spec("x", shape=(-1, 1)), outputs=[spec("y", shape=(-1, 1)), spec("z", shape=(-1, 1))])
    stage = stage_with()
    stage.gateway.endpoint_changed(endpoint(cache=caching(), versions=[version(takes=two)]))
    link = stage.worker(takes=two)
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}], "outputs": [{"name": "z"}]}
    calls = [stage.call(body=json.dumps(body).encode()) for _ in range(2)]
    await turn()
    link.answer_with(tensor([5.0], shape=(1, 1), name="y"), tensor([6.0], shape=(1, 1), name="z"))
    calls.append(stage.call(body=json.dumps(body).encode()))
    assert [call.reply.json["outputs"] for call in calls] == 3 * [
        [{"name": "z", "datatype": "FP32", "shape": [1, 1], "data": [6.0]}]
    ]
    assert not stage.call(1.0).reply.answered, "all outputs is another question"


# Single flight


async def test_the_same_at_once_is_computed_once(stage):
    link = stage.worker()
    calls = [stage.call(1.0) for _ in range(5)]
    await turn()
    link.answer()
    assert [call.reply.values for call in calls] == 5 * [[2.0]]
    assert stage.rows_computed == [1.0]
    assert found(stage) == {"miss": 1, "flight": 4}


async def test_a_leader_that_leaves_is_followed_by_the_next(stage):
    link = stage.worker()
    calls = [stage.call(1.0) for _ in range(3)]
    await turn()
    calls[0].leave()
    calls[1].leave()
    await turn()
    link.answer()
    await turn()
    link.answer()
    assert [call.reply.answers == [] for call in calls] == [True, True, False]
    assert calls[2].reply.values == [2.0]


async def test_a_leader_that_leaves_while_it_waits_costs_nothing(stage):
    calls = [stage.call(1.0) for _ in range(2)]
    calls[0].leave()
    await turn()
    link = stage.worker()
    await turn()
    link.answer()
    assert calls[1].reply.values == [2.0]
    assert stage.rows_computed == [1.0]


async def test_a_leader_that_fails_fails_alone(stage):
    link = stage.worker()
    calls = [stage.call(1.0) for _ in range(3)]
    await turn()
    link.fail("no")
    assert [call.reply.answered for call in calls] == [True, False, False]
    await turn()
    link.answer()
    assert [call.reply.status for call in calls] == [500, 200, 200]
    assert stage.rows_computed == [1.0, 1.0]


async def test_a_leader_that_is_late_is_late_alone(stage):
    first = stage.call(1.0, request_timeout_ms="100")
    second = stage.call(1.0)
    await asyncio.sleep(0.2)
    assert (first.reply.status, second.reply.answered) == (503, False)
    link = stage.worker()
    await turn()
    link.answer()
    assert second.reply.values == [2.0]


async def test_a_follower_keeps_its_own_deadline(stage):
    link = stage.worker()
    first = stage.call(1.0)
    second = stage.call(1.0, request_timeout_ms="100")
    await asyncio.sleep(0.2)
    assert (first.reply.answered, second.reply.status) == (False, 504)
    assert second.reply.error == "no answer within the request's time of 100 ms"
    link.answer()
    assert first.reply.values == [2.0]
    assert len(second.reply.answers) == 1


async def test_a_failure_is_not_kept(stage):
    link = stage.worker()
    stage.call(1.0)
    await turn()
    link.fail("no")
    again = stage.call(1.0)
    await turn()
    link.answer()
    assert again.reply.values == [2.0]


async def test_who_does_not_fit_into_the_queue_is_refused_and_holds_nobody_up(stage):
    full = [stage.call(*[100.0 * n + m for m in range(8)]) for n in range(2)]
    refused = stage.call(1.0)
    assert refused.reply.status == 429
    link = stage.worker()
    for _ in full:
        await turn()
        link.answer()
    fine = stage.call(1.0)
    await turn()
    link.answer()
    assert fine.reply.values == [2.0]


# Versions


async def test_a_new_version_begins_with_nothing_and_the_old_ones_answers_are_freed(stage):
    link = stage.worker(1)
    stage.call(1.0)
    await turn()
    link.answer()
    cache = stage.gateway.services["default", "m"].cache
    assert cache.bytes_used > 0
    stage.gateway.endpoint_changed(endpoint(cache=caching(), versions=[version(2)]))
    assert cache.bytes_used == 0
    second = stage.worker(2)
    call = stage.call(1.0)
    await turn()
    second.answer()
    assert call.reply.json["model_version"] == "2"


async def test_followers_go_with_the_traffic(stage):
    calls = [stage.call(1.0) for _ in range(3)]
    stage.gateway.endpoint_changed(endpoint(cache=caching(), versions=[version(2)]))
    calls[0].leave()
    await turn()
    link = stage.worker(2)
    await turn()
    link.answer()
    assert [call.reply.values for call in calls[1:]] == [[2.0], [2.0]]
    assert stage.rows_computed == [1.0]


async def test_followers_of_a_version_that_takes_something_else_are_told(stage):
    other = signature(spec("w", shape=(-1, 1)), outputs=[spec("y", shape=(-1, 1))])
    calls = [stage.call(1.0) for _ in range(2)]
    stage.gateway.endpoint_changed(endpoint(cache=caching(), versions=[version(2, takes=other)]))
    await turn()
    assert [call.reply.status for call in calls] == [503, 503]


async def test_nobody_is_left_waiting_when_the_endpoint_goes(stage):
    calls = [stage.call(1.0) for _ in range(3)]
    stage.gateway.endpoint_gone(("default", "m"))
    await turn()
    assert [call.reply.status for call in calls] == [503, 503, 503]


async def test_nobody_is_left_waiting_when_the_cache_is_switched_off(stage):
    calls = [stage.call(1.0) for _ in range(3)]
    stage.gateway.endpoint_changed(endpoint())
    link = stage.worker()
    await turn()
    link.answer()
    assert sorted(call.reply.status for call in calls) == [200, 503, 503]


# Collisions


async def test_equal_digests_never_give_one_caller_anothers_answer():
    """With a digest function that maps everything to one value, every answer is still its own."""
    stage = stage_with(Tiers(asyncio.get_running_loop().time, digest=lambda key: b"\0" * 32))
    link = stage.worker()
    for values in [(1.0,), (2.0,), (1.0,), (1.0, 2.0)]:
        call = stage.call(*values)
        await turn()
        if not call.reply.answered:
            link.answer()
        assert call.reply.values == [2 * value for value in values]
    assert found(stage)["collision"] == 3


async def test_equal_digests_at_once_are_computed_each_for_itself():
    stage = stage_with(Tiers(asyncio.get_running_loop().time, digest=lambda key: key[-1:] * 32))
    link = stage.worker()
    stage.auto = lambda link, batch: None
    calls = [stage.call(value) for value in (1.0, 2.0, 1.0, 3.0, 2.0)]
    await turn()
    while link.batches:
        link.answer()
        await turn()
    assert [call.reply.values for call in calls] == [[2.0], [4.0], [2.0], [6.0], [4.0]]


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_fails_leaves_or_is_late_each_gets_its_own_answer_or_error_once(seed):
    """A random play, with digests so short that they collide often."""
    rng = random.Random(seed)
    tiers = Tiers(asyncio.get_running_loop().time, digest=lambda key: bytes([key[-2] & 3]) * 32)
    stage = stage_with(tiers, bytes_max=rng.choice([0, 2000, BIG]))
    links = [stage.worker(batches=2) for _ in range(2)]
    calls, left = [], set()
    for _ in range(120):
        event = rng.random()
        if event < 0.5:
            value = float(rng.randrange(12))
            calls.append((value, stage.call(value, request_timeout_ms=rng.choice(["50", "5000"]))))
        elif event < 0.6 and calls:
            index = rng.randrange(len(calls))
            if calls[index][1].exchange is not None and not calls[index][1].exchange.done:
                calls[index][1].leave()
                left.add(index)
        elif event < 0.9:
            link = rng.choice(links)
            if link.batches:
                rng.choice([link.answer, link.answer, link.fail])()
        elif event < 0.95:
            await asyncio.sleep(0.06)
        else:
            await turn()
    while any(link.batches for link in links):
        for link in links:
            while link.batches:
                link.answer()
        await turn()
    await asyncio.sleep(6)
    for index, (value, call) in enumerate(calls):
        if index in left:
            assert call.reply.answers == []
        elif call.reply.status == 200:
            assert call.reply.values == [2 * value]
        else:
            assert call.reply.status in {429, 500, 503, 504}
    cache = stage.gateway.services["default", "m"].cache
    assert cache._flights == {}
