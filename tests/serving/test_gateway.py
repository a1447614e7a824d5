"""Paths, callers and descriptions: who is told what, and who is told nothing."""

import hashlib

import pytest

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.identity import Keyring, Verdict, shown_key
from mizzen.serving.gateway.paths import inference_paths, parse_path

from .played import Stage, api_key, endpoint, turn, version, worker

pytestmark = pytest.mark.looptime

KEY, SCOPED, FOREIGN = "key-of-all", "key-of-one", "key-of-another-namespace"


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
async def stage():
    made = Stage()
    made.gateway.endpoint_changed(endpoint("m", anonymous=False))
    made.gateway.endpoint_changed(endpoint("other", anonymous=False))
    made.gateway.endpoint_changed(endpoint("open"))
    made.gateway.endpoint_changed(endpoint("m", namespace="team", anonymous=False))
    made.gateway.key_changed("all", api_key(hashed(KEY)))
    made.gateway.key_changed("one", api_key(hashed(SCOPED), endpoints=["m"]))
    made.gateway.key_changed("foreign", api_key(hashed(FOREIGN), "team"))
    made.gateway.synced()
    return made


# Callers


@pytest.mark.parametrize(
    ("name", "key", "status", "error"),
    [
        ("m", None, 401, "expected an API key, as Authorization: Bearer KEY or X-API-Key: KEY"),
        ("absent", None, 401, "expected an API key, as Authorization: Bearer KEY or X-API-Key: KEY"),
        ("m", "wrong", 401, "the API key is not known"),
        ("absent", "wrong", 401, "the API key is not known"),
        ("m", FOREIGN, 403, "the API key is not for endpoint m of namespace default"),
        ("absent", FOREIGN, 403, "the API key is not for endpoint absent of namespace default"),
        ("other", SCOPED, 403, "the API key is not for endpoint other of namespace default"),
        ("absent", KEY, 404, "no endpoint absent in namespace default"),
        ("absent", SCOPED, 404, "no endpoint absent in namespace default"),
    ],
)
@pytest.mark.parametrize("what", ["/infer", "/ready", ""])
async def test_who_may_not_is_told_no_more_than_they_may_know(stage, name, key, status, error, what):
    """An endpoint that is not there looks like one that is, to all who have no key of its namespace."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    path = f"/v2/models/{name}{what}"
    reply = stage.call(1.0, path=path, **headers).reply if what == "/infer" else stage.get(path, **headers)
    assert (reply.status, reply.error) == (status, error)
    if status == 401:
        assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("headers", [{}, {"x_api_key": "not told yet"}, {"x_api_key": KEY}])
@pytest.mark.parametrize("what", ["/infer", "/ready", ""])
async def test_before_everything_was_told_nobody_is_refused_for_good(headers, what):
    """A gateway that has just started does not know every key and endpoint; those it knows it serves."""
    stage = Stage()
    stage.gateway.key_changed("all", api_key(hashed(KEY)))
    path = f"/v2/models/m{what}"

    def ask():
        return stage.call(1.0, path=path, **headers).reply if what == "/infer" else stage.get(path, **headers)

    reply = ask()
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    stage.gateway.synced()
    assert ask().status == (404 if headers.get("x_api_key") == KEY else 401)


@pytest.mark.parametrize("headers", [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {SCOPED}"},
                                     {"x_api_key": KEY}])  # fmt: skip
async def test_who_may_is_answered(stage, headers):
    call = stage.call(1.0, **headers)
    await turn()
    stage.worker().answer()
    assert call.reply.values == [2.0]


async def test_an_open_endpoint_asks_for_no_key(stage):
    call = stage.call(1.0, path="/v2/models/open/infer", authorization="Bearer wrong")
    await turn()
    stage.worker(name="open").answer()
    assert call.reply.values == [2.0]


async def test_a_key_opens_its_own_namespace_only(stage):
    call = stage.call(1.0, path="/namespaces/team/v2/models/m/infer", x_api_key=FOREIGN)
    refused = stage.call(1.0, path="/namespaces/team/v2/models/m/infer", x_api_key=KEY)
    await turn()
    stage.worker(namespace="team").answer()
    assert (call.reply.values, refused.reply.status) == ([2.0], 403)


async def test_a_revoked_key_opens_nothing_from_then_on(stage):
    stage.gateway.key_gone("all")
    assert stage.call(1.0, x_api_key=KEY).reply.error == "the API key is not known"
    stage.gateway.key_changed("one", api_key(hashed(SCOPED), endpoints=["other"]))
    assert stage.call(1.0, x_api_key=SCOPED).reply.status == 403


def test_one_key_in_two_secrets_opens_what_either_says():
    keyring = Keyring()
    keyring.put("a", api_key(hashed("k"), "default", ["x"]))
    keyring.put("b", api_key(hashed("k"), "team"))
    verdicts = [
        keyring.judge("k", key)[0] for key in (("default", "x"), ("default", "y"), ("team", "y"), ("else", "y"))
    ]
    assert verdicts == [Verdict.ALLOWED, Verdict.FORBIDDEN, Verdict.ALLOWED, Verdict.FOREIGN]
    keyring.remove("b")
    assert keyring.judge("k", ("team", "y"))[0] is Verdict.FOREIGN
    keyring.put("a", api_key(hashed("new"), "default", ["x"]))
    assert [keyring.judge(key, ("default", "x"))[0] for key in ("k", "new")] == [Verdict.UNKNOWN_KEY, Verdict.ALLOWED]
    assert len(keyring) == 1


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "shown"),
    [("Bearer a", None, "a"), ("BEARER  a ", "b", "a"), ("Basic a", "b", "b"), (None, "b", "b"), (None, None, None),
     ("Bearer", None, None), ("", "", "")],
)  # fmt: skip
def test_where_a_key_is_shown(authorization, x_api_key, shown):
    assert shown_key(authorization, x_api_key) == shown


@pytest.mark.parametrize("key", ["", None, "x" * 2000])
def test_no_key_is_no_key(key):
    assert Keyring().judge(key, ("default", "m"))[0] is Verdict.NO_KEY


# Paths


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/", 404, "/: expected a path of the Open Inference Protocol, such as /v2/models/NAME/infer"),
        ("GET", "/v2/model", 404, "/v2/model: expected a path"),
        ("GET", "/v1/endpoints/open:predict", 405, "/v1/endpoints/open:predict: expected POST, got GET"),
        ("GET", "/v1/endpoints/open", 404, "expected a path"),
        ("GET", "/v2/models/open/else", 404, "expected a path"),
        ("GET", "/v2/models/open/infer", 405, "/v2/models/open/infer: expected POST, got GET"),
        ("POST", "/v2/models/open/ready", 405, "/v2/models/open/ready: expected GET or HEAD, got POST"),
        ("DELETE", "/v2", 405, "/v2: expected GET or HEAD, got DELETE"),
        ("GET", "/v2/models/open/versions/x", 404, "version: expected a number, got 'x'"),
        ("GET", "/v2/models/open/versions/9", 404, "version: expected one that gets traffic (1), got 9"),
        ("GET", "/v2/models/open/ready", 503, "open: no worker is ready"),
        ("GET", "/namespaces//v2", 404, "expected a path"),
    ],
)
async def test_what_cannot_be_asked_is_said(stage, method, path, status, error):
    reply = stage.get(path, method)
    assert reply.status == status
    assert error in reply.error
    assert ("allow" in reply.headers) == (status == 405)


async def test_the_server_describes_itself_to_anyone(stage):
    assert stage.get("/v2").json["name"] == "mizzen"
    assert "binary_tensor_data" in stage.get("/v2/").json["extensions"]
    assert stage.get("/v2/health/live").json == {"live": True}
    assert stage.get("/v2/health/ready").json == {"ready": True}
    assert stage.get("/namespaces/team/v2/health/ready", "HEAD").status == 200


async def test_a_gateway_that_has_not_heard_yet_is_not_ready():
    assert Stage().get("/v2/health/ready").status == 503


@pytest.mark.parametrize(
    "path", ["/v2/models/open", "/v2/models/open/versions/1", "/namespaces/default/v2/models/open"]
)
async def test_a_model_is_described(stage, path):
    assert stage.get(path).json == {
        "name": "open",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
    }


async def test_a_model_whose_signature_nobody_told_is_described_later(stage):
    stage.gateway.endpoint_changed(endpoint("new", versions=[version(5, takes=None)]))
    assert stage.get("/v2/models/new").status == 503
    stage.worker(5, name="new")
    assert stage.get("/v2/models/new").json["versions"] == ["5"]
    assert stage.get("/v2/models/new/ready").json == {"name": "new", "ready": True}


async def test_an_endpoint_that_comes_after_its_worker_finds_it(stage):
    link = None
    described = stage.worker(name="m").worker
    stage.gateway.endpoint_gone(("default", "m"))
    stage.gateway.endpoint_changed(endpoint("m"))
    link = stage.links[described.uid]
    link.connect()
    call = stage.call(1.0)
    await turn()
    link.answer()
    assert call.reply.values == [2.0]


async def test_a_deleted_endpoint_is_not_found_any_more(stage):
    stage.gateway.endpoint_gone(("default", "open"))
    assert stage.call(1.0, path="/v2/models/open/infer", x_api_key=KEY).reply.status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"request_timeout_ms": "0"},
        {"request_timeout_ms": "-1"},
        {"request_timeout_ms": "soon"},
        {"inference_header_content_length": "x"},
        {"inference_header_content_length": "-1"},
        {"inference_header_content_length": "99999"},
    ],
)
async def test_headers_that_make_no_sense_are_400(stage, headers):
    assert stage.call(1.0, path="/v2/models/open/infer", **headers).reply.status == 400


def test_every_path_of_inference_is_one_that_is_understood():
    """The table of paths and the parser agree."""
    for namespace in ("default", "team"):
        one = endpoint("m", namespace=namespace, versions=[version(1), version(2)])
        for path, number, what in inference_paths(one):
            asked = parse_path(path)
            assert (asked.what, asked.namespace, asked.model, asked.version) == (what, namespace, "m", number)


@pytest.mark.parametrize("path", ["/v2/models/a/versions/" + "9" * 30, "/v2/models/a/versions/²/ready"])
def test_versions_that_are_no_numbers_are_not_found(path):
    with pytest.raises(HttpError) as caught:
        parse_path(path)
    assert caught.value.status == 404


async def test_thousands_of_endpoints_workers_and_keys_are_taken_each_by_itself():
    """What one costs does not grow with how many there are: the tables are kept, not made anew."""
    stage = Stage()
    for number in range(3000):
        name = f"e{number}"
        stage.gateway.key_changed(name, api_key(hashed(name), endpoints=[name]))
        stage.gateway.worker_changed(worker(name=name))
        stage.gateway.endpoint_changed(endpoint(name))
    assert len(stage.gateway._inference) == 3000 * 14
    for number in range(3000):
        name = f"e{number}"
        stage.gateway.endpoint_gone(("default", name))
        stage.gateway.key_gone(name)
    assert (stage.gateway._inference, len(stage.gateway.keyring)) == ({}, 0)
    for link in stage.links.values():
        stage.gateway.worker_gone(link.worker.uid)
    assert (stage.gateway._workers_of, stage.gateway._endpoint_of) == ({}, {})


async def test_refusals_outside_endpoints_are_counted_without_names(stage):
    stage.get("/nowhere")
    stage.call(1.0, path="/v2/models/guess/infer")
    assert stage.gateway.refusals == {"not_found": 1, "unauthenticated": 1}
