"""Vectors without a model: three forms of one answer, for who may read them."""

import asyncio
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest
import redis as redis_package
from tests.features.conftest import redis_url  # noqa: F401 - a fixture
from tests.serving.features.builders import FeatureStage, declared, matrix

from mizzen.serving import arrow
from mizzen.serving.gateway.directory import ApiKey, ViewUse
from mizzen.serving.gateway.features.answers import ARROW_TYPE

pytestmark = pytest.mark.looptime
ROWS = [("a", 0, 5.0, 100.0), ("a", 10, 7.0, 200.0), ("b", 5, 1.0, 50.0)]
KEY = {"authorization": "Bearer reads"}
ASKED = {"entities": {"card": ["a", "x", "b"]}}


@pytest.fixture(params=["lmdb", "redis"])
async def stage(request: pytest.FixtureRequest, tmp_path: Path):
    url = None
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        redis_package.Redis.from_url(url).flushall()
    made = FeatureStage(tmp_path, url)
    made.minutes = 20
    made.push(ROWS)
    made.tell(declared())
    hashed = hashlib.sha256(b"reads").hexdigest()
    made.gateway.key_changed(
        "default/reads", ApiKey(hashed, "default", frozenset(), frozenset({"spending", "aging", "dated"}))
    )
    made.gateway.synced()
    yield made
    made.features.close()


async def ask(stage, asked=ASKED, path: str = "/v1/features/spending", body: bytes | None = None, **headers: str):
    call = stage.call(path=path, body=json.dumps(asked).encode() if body is None else body, **{**KEY, **headers})
    await asyncio.sleep(0.01)
    return call.reply


async def test_json(stage):
    reply = await ask(stage)
    version = declared().spec.digest().removeprefix("sha256:")[:12]
    assert reply.json == {
        "features": {"limit": [200.0, None, 50.0], "spent": [12.0, None, 1.0], "n": [2, None, 1]},
        "status": {"spending": ["present", "missing", "present"]},
        "event_times": {"spending": ["2026-01-01T00:10:00Z", None, "2026-01-01T00:05:00Z"]},
        "versions": {"spending": version},
    }
    some = await ask(stage, {**ASKED, "features": ["n"]})
    assert some.json["features"] == {"n": [2, None, 1]}


async def test_many_rows_are_the_same_as_few(stage):
    few, many = await ask(stage), await ask(stage, {"entities": {"card": ["a", "x", "b"] * 60}})
    assert many.json["features"] == {name: values * 60 for name, values in few.json["features"].items()}


async def test_times_are_text(stage):
    """Before 1970 too, and in lists."""
    births = [{"name": "newest", "function": "last_k", "k": 2, "column": "born_at"}]
    dated = declared("dated", columns=["born_at", {"name": "day", "expression": "born_at::date"}], aggregations=births)
    stage.push([("a", 0, -60), ("a", 1, -30_000_000)], dated, "card paid_at born_at")
    stage.tell(dated)
    reply = await ask(stage, {"entities": {"card": ["a", "x"]}}, "/v1/features/dated")
    early, late = "1968-12-17T16:00:00Z", "2025-12-31T23:00:00Z"
    assert reply.json["features"] == {
        "born_at": [early, None], "day": ["1968-12-17", None], "newest": [[early, late], None],
    }  # fmt: skip


async def test_arrow(stage):
    body = arrow.written(pa.table({"card": ["a", "x"]}))
    reply = await ask(stage, body=body)
    ((status, headers, data),) = reply.answers
    wanted = await ask(stage, {"entities": {"card": ["a", "x"]}, "format": "arrow"})
    assert wanted.answers[0][2] == data
    assert (status, headers["content-type"]) == (200, ARROW_TYPE)
    table = arrow.read(data)
    assert table.to_pydict() == {
        "limit": [200.0, None], "spent": [12.0, None], "n": [2, None], "spending:status": ["present", "missing"],
    }  # fmt: skip
    assert table.schema.field("n").type == pa.int64()


async def test_feast(stage):
    asked = {"features": ["spending:spent", "spending:limit"], "entities": {"card": ["a", "x"]}}
    reply = await ask(stage, asked, "/get-online-features")
    assert reply.json["metadata"] == {"feature_names": ["card", "spent", "limit"]}
    card, spent, limit = reply.json["results"]
    assert card == {"values": ["a", "x"], "statuses": ["PRESENT"] * 2, "event_timestamps": ["1970-01-01T00:00:00Z"] * 2}
    assert spent["values"] == [12.0, None]
    assert spent["statuses"] == ["PRESENT", "NOT_FOUND"]
    assert limit["event_timestamps"] == ["2026-01-01T00:10:00Z", "1970-01-01T00:00:00Z"]
    named = await ask(stage, {**asked, "full_feature_names": True}, "/get-online-features")
    assert named.json["metadata"]["feature_names"] == ["card", "spending__spent", "spending__limit"]
    service = await ask(stage, {"feature_service": "spending", "entities": {"card": ["b"]}}, "/get-online-features")
    assert service.json["metadata"]["feature_names"] == ["card", "limit", "spent", "n"]


async def test_an_endpoints_features_are_a_service(stage):
    stage.declare(matrix("spent"), ViewUse("spending", features=("spent",), keys={"card": "payer"}), name="fraud")
    reply = await ask(stage, {"entities": {"payer": ["a", "x"]}}, "/v1/features/fraud")
    assert reply.json["features"] == {"spent": [12.0, None]}


async def test_a_stale_row_is_told(stage):
    aging = declared("aging", columns=["limit"], ttl="30m")
    stage.push(ROWS, aging)
    stage.tell(aging)
    stage.minutes = 38
    reply = await ask(stage, {"entities": {"card": ["a", "b"]}}, "/v1/features/aging")
    assert reply.json["status"]["aging"] == ["present", "stale"]
    feast = {"features": ["aging:limit"], "entities": {"card": ["a", "b"]}}
    told = await ask(stage, feast, "/get-online-features")
    assert told.json["results"][1]["statuses"] == ["PRESENT", "OUTSIDE_MAX_AGE"]


@pytest.mark.parametrize(
    ("asked", "path", "says"),
    [
        ({"entities": {"shop": ["a"]}}, "/v1/features/spending", "entities: expected the key card, found shop"),
        ({"entities": {"card": [7]}}, "/v1/features/spending", "expected a key card of type text, found 7"),
        ({"entities": {}}, "/v1/features/spending", "entities: expected columns of one length, at least 1"),
        ({"entities": {"card": ["a"], "x": []}}, "/v1/features/spending", "expected columns of one length"),
        ({**ASKED, "features": ["m"]}, "/v1/features/spending", "expected some of limit, n, spent, found m"),
        ({"rows": 1}, "/v1/features/spending", "body: Object missing required field `entities`"),
        ({**ASKED, "features": ["spending"]}, "/get-online-features", "features: expected view:feature, got 'spending'"),
        ({**ASKED, "features": ["spending:m"]}, "/get-online-features", "found m"),
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_is_told(stage, asked, path, says):
    reply = await ask(stage, asked, path)
    assert (reply.status, says in reply.error) == (400, True), reply.answers
    assert (await ask(stage)).status == 200, "and others are answered"


async def test_no_stream_of_arrow_is_told(stage):
    reply = await ask(stage, body=b"\xff\xff\xff\xffno")
    assert (reply.status, "expected an Arrow IPC stream" in reply.error) == (400, True)


async def test_a_service_that_is_not_there(stage):
    assert (await ask(stage, path="/v1/features/nowhere")).status == 404
    unknown = {**ASKED, "features": ["nowhere:x"]}
    assert (await ask(stage, unknown, "/get-online-features")).status == 403
    every = ApiKey(hashlib.sha256(b"every").hexdigest(), "default", frozenset(), None)
    stage.gateway.key_changed("default/every", every)
    odd = {**ASKED, "features": ['no"where:x']}
    reply = await ask(stage, odd, "/get-online-features", authorization="Bearer every")
    assert reply.status == 404
    assert list(stage.gateway.measures) == [], "no name that a caller made up is in the metrics"


async def test_too_many_rows_are_refused(stage):
    assert (await ask(stage, {"entities": {"card": ["a"] * 10_001}})).status == 413


async def test_who_may_read(stage):
    def hashed(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    stage.gateway.key_changed("default/all", ApiKey(hashed("all"), "default", None))
    stage.gateway.key_changed("other/all", ApiKey(hashed("other"), "other", None, None))
    stage.gateway.key_changed("default/every", ApiKey(hashed("every"), "default", frozenset(), None))
    statuses = [
        (await ask(stage, authorization=shown)).status
        for shown in ("", "Bearer unknown", "Bearer all", "Bearer other", "Bearer every", "Bearer reads")
    ]
    assert statuses == [401, 401, 403, 403, 200, 200]


async def test_it_is_counted(stage):
    await ask(stage)
    await ask(stage, {"entities": {}, "x": 1})
    measures = stage.gateway.measures["default", "features/spending"]
    assert (measures.outcomes, measures.rows) == ({"ok": 1}, 3)
    assert (measures.features_read, measures.features_missing) == ({"spending": 3}, {"spending": 1})
    assert stage.gateway.refusals == {"bad_request": 1}


async def test_get_is_no_way_to_ask(stage):
    assert stage.get("/v1/features/spending").status == 405
