"""Requests carry keys, and the model gets what the store has for them; what is not there becomes what was declared."""

import asyncio
import json
import math
from pathlib import Path

import numpy as np
import pytest
import redis as redis_package
from tests.features.conftest import redis_url  # noqa: F401 - a fixture
from tests.features.stores import SERVER, redis_server
from tests.serving.builders import spec
from tests.serving.features.builders import FeatureStage, columns, declared, inputs_of, matrix, turn

from mizzen.serving.gateway.directory import ViewUse
from mizzen.serving.gateway.grpc.calls import INFER, Calls
from mizzen.serving.gateway.plan import Limits
from mizzen.serving.oip.messages import message
from mizzen.serving.tensors import unpack_strings

pytestmark = pytest.mark.looptime
MODEL = matrix("spent", "limit", "n")
ROWS = [("a", 0, 5.0, 100.0), ("a", 10, 7.0, 200.0), ("b", 5, 1.0, 50.0)]


@pytest.fixture(params=["lmdb", "redis"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path):
    url = None
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        redis_package.Redis.from_url(url).flushall()
    made = FeatureStage(tmp_path, url)
    made.minutes = 20
    made.tell(declared())
    made.push(ROWS)
    yield made
    made.features.close()


async def answered(stage: FeatureStage, link, call):
    """Once the worker has it, or it was refused."""
    await asyncio.sleep(0.01)
    if not call.reply.answered:
        link.answer_rows()
    return call.reply


async def test_a_request_of_keys_gets_the_models_matrix(stage):
    stage.declare(MODEL)
    link = stage.work(MODEL)
    reply = await answered(stage, link, stage.predict({"card": "a"}, {"card": "b"}, {"card": "a"}))
    ((inputs,),) = link.inputs
    assert inputs.name == "input"
    assert inputs_of(inputs).tolist() == [[12.0, 200.0, 2.0], [1.0, 50.0, 1.0], [12.0, 200.0, 2.0]]
    assert [row["y"] for row in reply.json["predictions"]] == [0.0, 1.0, 2.0]


async def test_many_rows_are_the_same_as_each_alone(stage):
    model = matrix("n", "spent", "bonus", "limit")
    stage.declare(model, queue_rows_max=1000)
    link = stage.work(model)
    rows = [{"card": "abx"[i % 3], "bonus": i / 2} for i in range(100)]
    await answered(stage, link, stage.predict(*rows))
    (together,) = [inputs_of(tensor) for (tensor,) in link.inputs]
    alone = []
    for row in rows[:6]:
        await answered(stage, link, stage.predict(row))
        alone.append(inputs_of(link.inputs[-1][0])[0])
    np.testing.assert_array_equal(together[:6], np.array(alone))


async def test_open_inference_takes_keys_too_and_says_so(stage):
    stage.declare(MODEL)
    link = stage.work(MODEL)
    await turn()
    told = stage.get("/v2/models/m").json
    assert told["inputs"] == [{"name": "card", "datatype": "BYTES", "shape": [-1, 1]}]
    body = {"inputs": [{"name": "card", "shape": [2, 1], "datatype": "BYTES", "data": ["b", "a"]}]}
    reply = await answered(stage, link, stage.call(body=json.dumps(body).encode()))
    assert inputs_of(link.inputs[0][0])[:, 0].tolist() == [1.0, 12.0]
    assert reply.values == [0.0, 1.0]


async def test_grpc_takes_keys_too(stage):
    stage.declare(MODEL)
    link = stage.work(MODEL)
    await turn()
    asked = message("ModelInferRequest")(
        model_name="m",
        inputs=[{"name": "card", "datatype": "BYTES", "shape": [2, 1], "contents": {"bytes_contents": [b"b", b"a"]}}],
    )
    call = GrpcCall()
    Calls(stage.gateway, Limits()).unary(INFER, asked.SerializeToString(), call)
    await asyncio.sleep(0.01)
    link.answer_rows()
    assert inputs_of(link.inputs[0][0])[:, 0].tolist() == [1.0, 12.0]
    answer = message("ModelInferResponse").FromString(call.answer)
    assert list(answer.outputs[0].shape) == [2]


class GrpcCall:
    """A call's client."""

    headers: dict[str, str] = {}
    remaining_s = None
    answer = b""

    def respond(self, message: bytes) -> None:
        self.answer = message

    def fail(self, code: int, message: str, trailers) -> None:
        raise AssertionError(message)


async def test_a_column_that_is_no_feature_is_the_requests(stage):
    model = matrix("amount", "spent")
    stage.declare(model)
    link = stage.work(model)
    await answered(stage, link, stage.predict({"card": "a", "amount": 3.5}))
    assert inputs_of(link.inputs[0][0]).tolist() == [[3.5, 12.0]]
    refused = await answered(stage, link, stage.predict({"card": "a"}))
    assert (refused.status, refused.error) == (400, "instances[0]: object missing required field amount")


async def test_inputs_of_their_own_types(stage):
    model = columns(spec("limit", "FP64", (-1, 1)), spec("n", "INT64", (-1, 1)), spec("card", "BYTES", (-1, 1)))
    stage.declare(model)
    link = stage.work(model)
    await answered(stage, link, stage.predict({"card": "a"}, {"card": "é"}))
    limit, n, card = link.inputs[0]
    assert inputs_of(n).tolist() == [[2], [0]]
    assert inputs_of(limit)[0, 0] == 200.0
    assert math.isnan(inputs_of(limit)[1, 0])
    assert unpack_strings(card.data) == [b"a", "é".encode()]


@pytest.mark.parametrize(("otherwise", "expected"), [("default", [0.0, math.nan, 0.0]), ("empty", [math.nan] * 3)])
async def test_an_entity_that_nobody_has_seen(stage, otherwise, expected):
    stage.declare(MODEL, ViewUse("spending", missing=otherwise))
    link = stage.work(MODEL)
    await answered(stage, link, stage.predict({"card": "a"}, {"card": "x"}))
    found = inputs_of(link.inputs[0][0])
    assert found[0].tolist() == [12.0, 200.0, 2.0]
    np.testing.assert_array_equal(found[1], np.array([expected[0] or math.nan, expected[1], expected[2]], "f4"))
    measures = stage.gateway.measures["default", "m"]
    assert measures.features_read == {"spending": 2}
    assert measures.features_missing == {"spending": 1}


async def test_an_entity_that_nobody_has_seen_may_be_refused(stage):
    stage.declare(MODEL, ViewUse("spending", missing="error"))
    link = stage.work(MODEL)
    reply = await answered(stage, link, stage.predict({"card": "a"}, {"card": "x"}))
    assert (reply.status, reply.error) == (
        400, "row 1: FeatureView spending: expected an entity that was seen, found card='x'",
    )  # fmt: skip
    assert stage.gateway.measures["default", "m"].outcomes == {"features_missing": 1}


@pytest.mark.parametrize("otherwise", ["default", "empty", "error"])
async def test_a_row_older_than_its_ttl_is_stale(stage, otherwise):
    aging = declared("aging", columns=["limit"], ttl="30m")
    stage.tell(aging)
    stage.push(ROWS, aging)
    model = matrix("limit")
    stage.declare(model, ViewUse("aging", stale=otherwise))
    link = stage.work(model)
    await answered(stage, link, stage.predict({"card": "a"}))
    assert inputs_of(link.inputs[0][0]).tolist() == [[200.0]]
    stage.minutes = 41
    reply = await answered(stage, link, stage.predict({"card": "a"}))
    assert stage.gateway.measures["default", "m"].features_stale == {"aging": 1}
    if otherwise == "error":
        assert reply.status == 503
        assert "older than the view's ttl" in reply.error
    else:
        assert math.isnan(inputs_of(link.inputs[1][0])[0, 0])


async def test_two_views_by_different_keys_in_one_read(stage):
    shops = declared("shops", entities=["shop"], columns=["rent"])
    stage.tell(shops)
    stage.push([(3, 1, 9.0)], shops, "shop paid_at rent")
    model = matrix("s_rent", "spent")
    stage.declare(model, ViewUse("spending", keys={"card": "payer"}), ViewUse("shops", prefix="s_"))
    link = stage.work(model)
    await answered(stage, link, stage.predict({"payer": "a", "shop": 3}))
    assert inputs_of(link.inputs[0][0]).tolist() == [[9.0, 12.0]]


async def test_windows_move_with_the_clock(stage):
    stage.declare(MODEL)
    link = stage.work(MODEL)
    for minutes, expected in ((20, [12.0, 200.0, 2.0]), (65, [7.0, 200.0, 1.0]), (300, [math.nan, 200.0, 0.0])):
        stage.minutes = minutes
        await answered(stage, link, stage.predict({"card": "a"}))
        np.testing.assert_array_equal(inputs_of(link.inputs[-1][0])[0], np.array(expected, "f4"))


@pytest.mark.parametrize(
    ("model", "use", "says"),
    [
        (matrix("spent"), ViewUse("nowhere"), "FeatureView nowhere of namespace default is not in the online store yet"),
        (matrix("spent"), ViewUse("spending", version="0" * 12), "expected FeatureView spending at version 000000000000"),
        (matrix("spent"), ViewUse("spending", features=("spend",)), "expected features of limit, spent, n, found spend"),
        (columns(spec("spent", "BYTES", (-1, 1))), ViewUse("spending"), "expected spent to be BYTES of shape [-1, 1]"),
    ],
)  # fmt: skip
async def test_what_cannot_be_looked_up_is_told(stage, model, use, says):
    stage.declare(model, use)
    link = stage.work(model)
    await turn()
    reply = await answered(stage, link, stage.predict({"card": "a"}))
    assert reply.status == 503
    assert says in reply.error


async def test_an_endpoint_goes_on_until_the_view_that_was_declared_anew_is_there(stage):
    stage.declare(MODEL)
    link = stage.work(MODEL)
    await answered(stage, link, stage.predict({"card": "a"}))
    changed = declared(
        columns=["limit"],
        aggregations=[
            {"name": "spent", "function": "max", "column": "amount", "window": "1h"},
            {"name": "n", "function": "count", "window": "1h"},
        ],
    )
    await answered(stage, link, stage.predict({"card": "a"}))
    stage.push(ROWS, changed)
    stage.tell(changed)
    await turn()
    await answered(stage, link, stage.predict({"card": "a"}))
    assert [inputs_of(tensor)[0, 0] for (tensor,) in link.inputs] == [12.0, 12.0, 7.0]


async def test_requests_wait_while_a_view_is_opened_the_first_time(tmp_path):
    stage = FeatureStage(tmp_path)
    stage.push(ROWS)
    stage.tell(declared())
    stage.declare(MODEL)
    link = stage.work(MODEL)
    call = stage.predict({"card": "a"})
    assert not call.reply.answered
    await turn()
    link.answer_rows()
    assert call.reply.status == 200
    stage.features.close()


async def test_who_left_while_the_store_was_read_is_not_computed_for(stage):
    stage.declare(MODEL)
    link = stage.work(MODEL)
    await turn()
    call = stage.predict({"card": "a"})
    call.leave()
    other = stage.predict({"card": "b"})
    await answered(stage, link, other)
    assert sum(len(tensor.data) // 12 for (tensor,) in link.inputs) == 1
    assert not call.reply.answered


DOWN = {"error": None, "default": [math.nan, math.nan, 0.0], "empty": [math.nan] * 3}


@pytest.mark.skipif(SERVER is None, reason="expected a redis-server or valkey-server on the path, found none")
@pytest.mark.parametrize("otherwise", DOWN)
async def test_a_store_that_is_down(tmp_path, otherwise):
    with redis_server(tmp_path) as url:
        stage = FeatureStage(tmp_path, url)
        stage.tell(declared())
        stage.push(ROWS)
        stage.declare(MODEL, ViewUse("spending", unavailable=otherwise))
        link = stage.work(MODEL)
        await answered(stage, link, stage.predict({"card": "a"}))
    reply = await answered(stage, link, stage.predict({"card": "a"}, {"card": "b"}))
    assert stage.gateway.measures["default", "m"].features_unavailable == {"spending": 2}
    if otherwise == "error":
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert "online store" in reply.error
    else:
        np.testing.assert_array_equal(inputs_of(link.inputs[1][0]), np.array([DOWN[otherwise]] * 2, "f4"))
    stage.features.close()


@pytest.mark.skipif(SERVER is None, reason="expected a redis-server or valkey-server on the path, found none")
async def test_a_store_that_came_back_empty_is_down_until_it_is_filled(tmp_path):
    with redis_server(tmp_path) as url:
        stage = FeatureStage(tmp_path, url)
        stage.tell(declared())
        stage.push(ROWS)
        stage.declare(MODEL)
        link = stage.work(MODEL)
        await answered(stage, link, stage.predict({"card": "a"}))
        redis_package.Redis.from_url(url).flushall()
        refused = await answered(stage, link, stage.predict({"card": "a"}))
        assert (refused.status, "is empty now" in refused.error) == (503, True)
        stage.push(ROWS)
        assert (await answered(stage, link, stage.predict({"card": "a"}))).status == 200
        stage.features.close()


async def test_an_endpoint_without_a_store_says_so():
    stage = FeatureStageWithout()
    stage.declare(MODEL)
    await turn()
    reply = stage.predict({"card": "a"}).reply
    assert reply.status == 503
    assert "--online" in reply.error


class FeatureStageWithout(FeatureStage):
    """A gateway that was told of no store."""

    def __init__(self) -> None:
        super(FeatureStage, self).__init__()
