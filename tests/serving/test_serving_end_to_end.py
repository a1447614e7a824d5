"""Real HTTP to a real gateway to real workers with real models: answers, errors, limits and clients of all sorts."""

import contextlib
import hashlib
import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from mizzen.serving.tensors import pack_strings, unpack_strings

from .builders import doubling_model, picky_model, text_model, whole_model
from .played import api_key
from .stack import Stack, eventually, request_body


@pytest.fixture(scope="module", params=["llhttp", "granian"])
def http(request):
    """Each test is of both HTTP servers."""
    return request.param


@pytest.fixture(scope="module")
def stack(http):
    """Four endpoints behind one gateway process."""
    with Stack() as made:
        for name, model in (
            ("m", doubling_model()), ("text", text_model()), ("picky", picky_model()), ("whole", whole_model()),
        ):  # fmt: skip
            digest = made.put(model)
            made.serve(digest, name)
            made.worker(digest, name)
        made.serve(made.put(doubling_model(factor=3.0)), "closed", anonymous=False)
        made.start_gateway(1, "--http", http, "--body-bytes-max", "100000", "--body-timeout-s", "0.5")
        with made.client() as client:
            eventually(lambda: client.infer([[1.0, 2.0]]).status == 200, "the first answer")
        yield made


@pytest.fixture
def client(stack):
    with stack.client() as made:
        yield made


def test_a_request_is_answered(client):
    answer = client.infer([[1.0, 2.0], [3.0, 4.0]])
    assert answer.json == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 4.0, 6.0, 8.0]}],
    }
    assert answer.headers["content-type"] == "application/json"


def test_an_http_server_that_cannot_hold_back_does_not_answer_in_parts(client, http):
    answer = client.ask("POST", "/v2/models/m/generate_stream", b'{"x": [1, 2]}')
    assert answer.status == (501 if http == "granian" else 200)


def test_many_callers_at_once_each_get_their_own_rows(stack):
    """Two endpoints, JSON and binary, one to four rows each: every answer is compared with its question."""

    def ask(number: int) -> None:
        with stack.client() as client:
            for turn in range(40):
                start = number * 1000.0 + turn * 10
                rows = [[start + row, start + row + 0.5] for row in range(1 + (number + turn) % 4)]
                expected = [2 * value for row in rows for value in row]
                if turn % 2:
                    assert client.infer(rows).values == expected
                else:
                    assert client.infer_binary(rows) == expected

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(12)))


def test_strings_and_several_inputs_and_outputs(client):
    words, text = pack_strings([b"a", "ü".encode()]), {"name": "word", "shape": [2, 1], "datatype": "BYTES"}
    numbers = {"name": "x", "shape": [2, 3], "datatype": "FP64", "data": [[1, 2, 3], [4, 5, 6]]}
    body = json.dumps({"inputs": [numbers, {**text, "data": ["a", "ü"]}], "id": "7"}).encode()
    answer = client.ask("POST", "/v2/models/text/infer", body).json
    assert (answer["id"], {one["name"]: one["data"] for one in answer["outputs"]}) == (
        "7", {"echo": ["a", "ü"], "total": [6.0, 15.0]},
    )  # fmt: skip
    head = json.dumps(
        {
            "inputs": [numbers, {**text, "parameters": {"binary_data_size": len(words)}}],
            "outputs": [{"name": "echo", "parameters": {"binary_data": True}}],
        }
    ).encode()
    answer = client.ask(
        "POST", "/v2/models/text/infer", head + words, {"Inference-Header-Content-Length": str(len(head))}
    )
    size = int(answer.headers["inference-header-content-length"])
    assert unpack_strings(answer.body[size:]) == [b"a", "ü".encode()]


def test_a_model_of_fixed_shape_is_served_one_request_at_a_time(client):
    body = json.dumps({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 5, 2, 3]}]}).encode()
    assert client.ask("POST", "/v2/models/whole/infer", body).values == [-4.0, 0.0, -3.0, -2.0]


def test_bad_rows_among_good_ones_fail_alone(stack):
    """A hundred callers at once, one in ten with a row the model refuses: the ninety are answered."""

    def ask(number: int) -> tuple[int, object]:
        index = 99 if number % 10 == 3 else number % 4
        body = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [index]}]}).encode()
        with stack.client() as client:
            answer = client.ask("POST", "/v2/models/picky/infer", body)
            return answer.status, answer.json["outputs"][0]["data"] if answer.status == 200 else answer.json["error"]

    with ThreadPoolExecutor(25) as pool:
        found = list(pool.map(ask, range(100)))
    for number, (status, what) in enumerate(found):
        if number % 10 == 3:
            assert status == 500
            assert "indices element out of data bounds" in str(what)
        else:
            assert (status, what) == (200, [10.0 + number % 4])


def test_the_protocol_around_inference(client):
    assert client.ask("GET", "/v2/health/live").status == 200
    assert client.ask("GET", "/v2/health/ready").status == 200
    assert client.ask("GET", "/v2").json["name"] == "mizzen"
    assert client.ask("GET", "/v2/models/m/ready").json == {"name": "m", "ready": True}
    assert client.ask("GET", "/namespaces/default/v2/models/m/versions/1").json["inputs"][0]["shape"] == [-1, 2]
    assert client.ask("HEAD", "/v2").body == b""


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/", None, 404, "expected a path of the Open Inference Protocol"),
        ("GET", "/v2/models/m/infer", None, 405, "expected POST, got GET"),
        ("POST", "/v2/models/m/infer", b"", 400, "body: expected JSON"),
        ("POST", "/v2/models/m/infer", b'{"inputs": []}', 400, "inputs: missing 'x'"),
        ("POST", "/v2/models/m/infer", request_body([[1.0]]), 400, "inputs[0].shape: expected [-1, 2], got [1, 1]"),
        ("POST", "/v2/models/m/infer", request_body([[1.0, 2.0]], "FP64"), 400, "inputs[0].datatype: expected FP32"),
        ("POST", "/v2/models/m/versions/7/infer", b"{}", 404, "expected one that gets traffic (1), got 7"),
        ("POST", "/v2/models/m/infer", bytes(100_001), 413, "body: expected at most 100000 bytes, got 100001"),
        ("POST", "/v2/models/closed/infer", b"{}", 401, "expected an API key"),
    ],
)
def test_every_error_is_an_object_with_a_message(client, method, path, body, status, error):
    answer = client.ask(method, path, body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json) == ["error"]
    assert error in answer.json["error"]


def test_errors_do_not_break_the_connection(client):
    for _ in range(3):
        assert client.ask("POST", "/v2/models/m/infer", b"?").status == 400
        assert client.infer([[1.0, 2.0]]).status == 200


def chunked(stack, chunks: list[bytes], end: bytes = b"0\r\n\r\n") -> bytes:
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as connection:
        connection.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in chunks:
            connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        connection.sendall(end)
        return connection.recv(65536)


def test_chunked_bodies_are_taken_and_limited(stack):
    body = request_body([[1.0, 2.0]])
    assert b"200 OK" in chunked(stack, [body[:10], body[10:]])
    assert b"413 " in chunked(stack, [bytes(60_000), bytes(60_000)])


def test_a_body_that_does_not_come_is_given_up(stack):
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as connection:
        connection.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        assert b"408 " in connection.recv(65536)
    assert b"408 " in chunked(stack, [b"{"], end=b"")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 500_000 + b" HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64),
    ],
)
def test_what_is_no_http_harms_nobody(stack, client, sent):
    """It is answered with an error or cut off, sooner or later in the sending; others notice nothing."""
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            connection.recv(65536)
        assert client.infer([[1.0, 2.0]]).status == 200


def test_clients_that_leave_amid_anything_harm_nobody(stack, client):
    request = request_body([[1.0, 2.0]])
    whole = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(request), request)
    for length in (5, 40, len(whole) - 30, len(whole)):
        with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as connection:
            connection.sendall(whole[:length])
    assert client.infer([[1.0, 2.0]]).status == 200


def test_pipelined_requests_are_answered_in_order(stack):
    bodies = [request_body([[float(number), 0.0]]) for number in range(5)]
    sent = b"".join(
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        for body in bodies
    )
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as connection:
        connection.sendall(sent)
        received = b""
        while received.count(b'"data":') < 5:
            received += connection.recv(65536)
    places = [received.index(b'"data":[%d.0,0.0]' % (2 * number)) for number in range(5)]
    assert places == sorted(places)


def test_http2_is_spoken_by_granian_only(stack, http):
    with httpx2.Client(http1=False, http2=True, timeout=30) as client:
        url = f"http://127.0.0.1:{stack.port}/v2/models/m/infer"
        if http == "granian":
            answers = [client.post(url, content=request_body([[float(n), 0.0]])) for n in range(3)]
            assert [answer.http_version for answer in answers] == ["HTTP/2"] * 3
            assert [answer.json()["outputs"][0]["data"][0] for answer in answers] == [0.0, 2.0, 4.0]
        else:
            with pytest.raises(httpx2.HTTPError):
                client.post(url, content=request_body([[1.0, 0.0]]))


def test_keys_are_scoped_and_revoked_by_watch(stack, client):
    path = "/v2/models/closed/ready"

    def status(key: str) -> int:
        return client.ask("GET", path, headers={"X-API-Key": key}).status

    stack.keys["a"] = api_key(hashlib.sha256(b"right").hexdigest(), endpoints=["closed"])
    stack.keys["b"] = api_key(hashlib.sha256(b"other").hexdigest(), endpoints=["m"])
    stack.tell()
    eventually(lambda: status("right") == 503, "the key to be known")
    assert (status("other"), status("wrong")) == (403, 401)
    del stack.keys["a"]
    stack.tell()
    eventually(lambda: status("right") == 401, "the key to be revoked")


def test_metrics_count_what_was_asked(stack, client):
    before = stack.outcomes()
    for _ in range(3):
        client.infer([[1.0, 2.0]])
    client.ask("POST", "/v2/models/m/infer", b"?")
    after = stack.outcomes()
    assert {name: after[name] - before.get(name, 0) for name in ("ok", "bad_request")} == {"ok": 3, "bad_request": 1}


# Waiting, behind a worker that is held


@pytest.fixture(scope="module")
def narrow(http):
    """One worker that takes one row at a time, and a queue of ten rows."""
    with Stack() as made:
        digest = made.put(doubling_model())
        made.serve(digest, queue_rows_max=10, batch_rows_max=1)
        made.one = made.worker(digest, credits=1)
        made.start_gateway(1, "--http", http)
        with made.client() as client:
            assert client.infer([[0.0, 0.0]]).status == 200
        yield made


@contextlib.contextmanager
def held(stack: Stack):
    """The worker computes nothing meanwhile, though one row is with it."""
    os.kill(stack.one.inner.pid, signal.SIGSTOP)
    try:
        first = start(stack, 0.0)
        eventually(lambda: standing(stack, "batches_running") == 1, "one row to be with the worker")
        yield
    finally:
        os.kill(stack.one.inner.pid, signal.SIGCONT)
    assert b"200 OK" in read(first)


def start(stack: Stack, value: float, **headers: str) -> socket.socket:
    """Sends a request and does not wait."""
    body = request_body([[value, value]])
    lines = ["POST /v2/models/m/infer HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    connection = socket.create_connection(("127.0.0.1", stack.port), timeout=30)
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


def read(connection: socket.socket) -> bytes:
    """The whole answer."""
    received = b""
    while not received.endswith(b"}"):
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    connection.close()
    return received


def standing(stack: Stack, what: str) -> float:
    return stack.metrics()[f'mizzen_gateway_{what}{{namespace="default",endpoint="m"}}']


def test_who_leaves_the_queue_costs_no_compute(narrow):
    """Six of eight requests leave while they wait: their rows are never computed."""
    before = narrow.one.metric("mizzen_worker_rows_total")
    with held(narrow):
        leaving, staying = [start(narrow, 2.0) for _ in range(6)], [start(narrow, 1.0) for _ in range(2)]
        eventually(lambda: standing(narrow, "rows_waiting") == 8, "eight to wait")
        for connection in leaving:
            connection.close()
        eventually(lambda: standing(narrow, "rows_waiting") == 2, "six to be gone")
    assert all(b'"data":[2.0,2.0]' in read(connection) for connection in staying)
    assert narrow.one.metric("mizzen_worker_rows_total") - before == 3
    assert narrow.outcomes()["cancelled"] == 6


def test_a_full_queue_is_429_and_says_when_to_come_again(narrow):
    with held(narrow):
        waiting = [start(narrow, float(number)) for number in range(10)]
        eventually(lambda: standing(narrow, "rows_waiting") == 10, "ten to wait")
        answer = read(start(narrow, 11.0))
        assert b"429 Too Many Requests" in answer
        assert b"the queue is full: 10 rows wait, of at most 10" in answer
        (line,) = [line for line in answer.split(b"\r\n") if line.startswith(b"retry-after: ")]
        assert 1 <= int(line.split(b" ")[1]) <= 30
    answers = [read(connection) for connection in waiting]
    assert all(b'"data":[%d.0,%d.0]' % (2 * n, 2 * n) in answer for n, answer in enumerate(answers))


def test_a_deadline_is_kept_though_the_worker_is_not_done(narrow):
    before = narrow.one.metric("mizzen_worker_rows_total")
    with held(narrow):
        answer = read(start(narrow, 2.0, Request_Timeout_Ms="20"))
        assert b"504 Gateway Timeout" in answer
        assert b"no answer within the request's time of 20 ms" in answer
    assert narrow.one.metric("mizzen_worker_rows_total") - before == 1
