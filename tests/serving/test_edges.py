"""Limits and edges of both protocols, against a real gateway and worker: whatever comes, no 5xx, no hang, no growth.

A generated story is a list of things that clients do badly. After each, the gateway must answer an ordinary request, and
at the end hold nothing: no bytes of bodies, nothing in the queue. The slow tests are the same, longer.
"""

import contextlib
import importlib.util
import json
import math
import socket
import struct

import grpc
import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from mizzen.serving.oip.messages import INFERENCE

from .builders import doubling_model, text_model
from .stack import PATIENCE_S, Answer, Stack, eventually

BYTES_MAX = 200_000
BODY_TIMEOUT_S = 0.5
REAL = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
LONG = settings(REAL, max_examples=5_000)


NATIVE = importlib.util.find_spec("pygrpc_native") is not None


@pytest.fixture(
    scope="module", params=[("llhttp", "grpcio"), ("granian", "native" if NATIVE else "grpcio")], ids="-".join
)
def stack(request):
    """Both HTTP servers and both transports of gRPC."""
    http, grpc_ = request.param
    with Stack() as made:
        for name, model in (("m", doubling_model()), ("text", text_model())):
            digest = made.put(model)
            made.serve(digest, name, queue_rows_max=20_000)
            made.worker(digest, name)
        made.start_gateway(
            1, "--http", http, "--grpc", grpc_, "--body-bytes-max", str(BYTES_MAX),
            "--body-timeout-s", str(BODY_TIMEOUT_S),
        )  # fmt: skip
        with made.client() as client:
            eventually(lambda: client.infer([[1.0, 2.0]]).status == 200, "the first answer")
            eventually(lambda: client.ask("GET", "/v2/models/text/ready").status == 200, "the text model is ready")
        yield made


@pytest.fixture(scope="module")
def client(stack):
    with stack.client() as made:
        yield made


@pytest.fixture(scope="module")
def channel(stack):
    with grpc.insecure_channel(stack.grpc) as made:
        yield made


def expect_answers(stack: Stack) -> None:
    """An ordinary client is answered."""
    with stack.client() as client:
        assert client.infer([[1.0, 2.0]]).values == [2.0, 4.0]


def expect_no_fault(answer: Answer) -> None:
    assert answer.status < 500, answer
    if answer.status >= 400:
        assert list(answer.json) == ["error"]
        assert answer.json["error"]


# What a body may be

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, 1e39, -0.0, 5e-324])
)
ATOMS = (
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from(["1", "x", "FP32", "\x00", "\ud800"])
)
ANY = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
SHAPES = st.lists(st.integers(-3, 5) | st.sampled_from([2**31, 2**63, -(2**63), 10**6]), max_size=4)
DATATYPES = st.sampled_from(["FP32", "fp32", "BYTES", "INT64", "BF16", "BOOL", "", "FP128"])
TENSORS = st.fixed_dictionaries(
    {"name": st.sampled_from(["x", "word", "z", "", "x\x00"]), "shape": SHAPES | ANY, "datatype": DATATYPES | ANY},
    optional={"data": ANY | st.lists(NUMBERS, max_size=8), "parameters": ANY, "extra": ANY},
)
PARAMETERS = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data_output", "timeout", "priority", "sequence_id", "classification"]),
    ANY,
    max_size=3,
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=3) | ANY},
    optional={
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["y", "z", "echo"])}), max_size=3) | ANY,
        "parameters": PARAMETERS | ANY, "id": ANY,
    },
)  # fmt: skip
ROWS = st.fixed_dictionaries(
    {"instances": st.lists(st.dictionaries(st.sampled_from(["x", "word", "z"]), ANY), max_size=3)}
)
PATHS = st.sampled_from(
    [
        *(f"/v2/models/{name}/{what}" for name in ("m", "text") for what in ("infer", "generate", "versions/1/infer")),
        "/v1/endpoints/m:predict", "/v1/endpoints/text:predict", "/v2/repository/index", "/v2/trace/setting",
        "/v2/models/m/trace/setting",
    ]
)  # fmt: skip


def encoded(document) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


BODIES = st.one_of(
    REQUESTS.map(encoded), ROWS.map(encoded), ANY.map(encoded), st.binary(max_size=200),
    st.tuples(REQUESTS.map(encoded), st.integers(0, 100), st.binary(min_size=1, max_size=3)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] :]
    ),
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(["Inference-Header-Content-Length", "Request-Timeout-Ms", "X-API-Key", "Authorization", "X-Other"]),
    st.sampled_from(["0", "1", "-1", "1e3", "99999999999999999999", "", "x", "\xff", "Bearer", "50", "²"]),
    max_size=2,
)  # fmt: skip


def ask_anything(client, path: str, body: bytes, headers: dict[str, str]) -> None:
    headers = {name: value.encode("latin-1") for name, value in headers.items()}
    expect_no_fault(client.ask("POST", path, body, headers))


ANYTHING = (PATHS, BODIES, HEADERS)


@REAL
@given(*ANYTHING)
@example("/v2/models/m/infer", b'{"inputs":' * 2000, {})
@example("/v2/models/m/infer", b"[" * 100_000, {})
@example("/v2/models/m/infer", encoded({"inputs": [], "id": "a" * 100_000}), {})
def test_any_request_is_answered_or_refused(client, path, body, headers):
    ask_anything(client, path, body, headers)


@pytest.mark.slow
@LONG
@given(*ANYTHING)
def test_any_request_is_answered_or_refused_at_length(client, path, body, headers):
    ask_anything(client, path, body, headers)


def x(data, shape=None, datatype: str = "FP32", **more) -> dict:
    shape = [len(data) // 2, 2] if shape is None else shape
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data, **more}


EDGES = {
    "NaN": (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}', 400, "expected JSON"),
    "Infinity": (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,-Infinity]}]}', 400, "expected JSON"),
    "too large for FP32": ({"inputs": [x([1e39, 0])]}, 400, "expected FP32 numbers"),
    "too large for a double": (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1e999,1]}]}', 400, "inputs[0].data"),
    "a number as a string": ({"inputs": [x(["1", "2"])]}, 400, "inputs[0].data[0]: expected float | null, got str"),
    "zero rows": ({"inputs": [x([], [0, 2])]}, 400, "expected at least 1 row, got 0"),
    "negative shape": ({"inputs": [x([1, 2], [-1, 2])]}, 400, "inputs[0].shape: expected [-1, 2], got [-1, 2]"),
    "huge shape": ({"inputs": [x([1, 2], [2**62, 2])]}, 400, "expected 9223372036854775808 elements"),
    "a shape beyond integers": ({"inputs": [x([1, 2], [2**64, 2])]}, 400, "expected 36893488147419103232 elements"),
    "too many rows": ({"inputs": [x([1] * 41_000)]}, 413, "expected at most 20000 rows, got 20500"),
    "short": ({"inputs": [x([1, 2, 3], [2, 2])]}, 400, "expected 4 elements for shape [2, 2], got 3"),
    "long": ({"inputs": [x([1, 2, 3], [1, 2])]}, 400, "expected 2 elements for shape [1, 2], got 3"),
    "the same twice": ({"inputs": [x([1, 2]), x([1, 2])]}, 400, "inputs[1].name: 'x' was given before"),
    "unknown input": ({"inputs": [x([1, 2]), {**x([1, 2]), "name": "z"}]}, 400, "inputs[1].name: expected one of 'x', got 'z'"),
    "unknown output": ({"inputs": [x([1, 2])], "outputs": [{"name": "z"}]}, 400, "outputs[0].name: expected one of 'y', got 'z'"),
    "a key twice": (b'{"inputs":[],"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}', 200, ""),
    "invalid UTF-8": (b'{"inputs":[{"name":"\xff","shape":[1,2],"datatype":"FP32","data":[1,2]}]}', 400, "expected JSON"),
    "half a surrogate": (b'{"inputs":[{"name":"\\ud800","shape":[1,2],"datatype":"FP32","data":[1,2]}]}', 400, ""),
    "deep JSON": (b'{"inputs":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, "inputs[0]: expected object, got array"),
    "deep JSON in what is not read": (b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b',"inputs":[]}', 400, ""),
    "empty": (b"", 400, "expected JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_an_edge_is_refused_with_its_place(client, name):
    body, status, says = EDGES[name]
    answer = client.ask("POST", "/v2/models/m/infer", body if isinstance(body, bytes) else encoded(body))
    assert answer.status == status, answer
    assert status == 200 or says in answer.json["error"], answer


def test_a_body_that_says_it_is_too_large_is_refused_unread(stack):
    with connection(stack) as sock:
        sock.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (BYTES_MAX + 1))
        answer = sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
    expect_answers(stack)


def test_a_request_for_a_million_rows_is_refused_at_once(client):
    """By binary data too large for the limit, and by a shape that says so without them."""
    head = encoded(
        {
            "inputs": [
                {"name": "x", "shape": [10**6, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8 * 10**6}}
            ]
        }
    )
    headers = {"Inference-Header-Content-Length": str(len(head))}
    assert client.ask("POST", "/v2/models/m/infer", head, headers).status == 400
    with_data = client.ask("POST", "/v2/models/m/infer", head + bytes(1000), headers)
    assert (with_data.status, "expected 0 to 1000" in with_data.json["error"]) == (400, True)


# What a connection may do


def connection(stack: Stack) -> socket.socket:
    return socket.create_connection(("127.0.0.1", stack.port), timeout=PATIENCE_S)


def read_all(sock: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := sock.recv(65536):
            found += chunk
    return found


GOOD = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
RAW = st.one_of(
    st.binary(max_size=300),
    st.lists(
        st.sampled_from(
            [
                b"POST /v2/models/m/infer HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"host: x\r\n", b"content-length: 5\r\n",
                b"content-length: -1\r\n", b"content-length: 99999999999999999999\r\n", b"transfer-encoding: chunked\r\n",
                b"\r\n", b"\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffffff\r\n", b"x" * 100, b"\x00", b": \r\n",
                b"connection: upgrade\r\nupgrade: h2c\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"expect: 100-continue\r\n",
                b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n", b"a: " + b"b" * 5000 + b"\r\n", b"\x16\x03\x01\x02\x00\x01",
            ]
        ),
        max_size=8,
    ).map(b"".join),
)  # fmt: skip


def send_anything(stack: Stack, data: bytes, *, half_closed: bool) -> None:
    with connection(stack) as sock, contextlib.suppress(OSError):
        sock.sendall(data)
        if half_closed:
            sock.shutdown(socket.SHUT_WR)
            found = read_all(sock)
            assert b"HTTP/1.1 5" not in found or b"HTTP/1.1 50" not in found[:12], found[:200]


@REAL
@given(RAW, st.booleans())
def test_whatever_comes_over_a_connection_others_are_answered(stack, data, half_closed):
    send_anything(stack, data, half_closed=half_closed)
    expect_answers(stack)


@pytest.mark.slow
@LONG
@given(RAW, st.booleans())
def test_whatever_comes_over_a_connection_others_are_answered_at_length(stack, data, half_closed):
    send_anything(stack, data, half_closed=half_closed)
    expect_answers(stack)


@pytest.mark.parametrize("header", [b"x: " + b"y" * 200_000, b"\r\n".join([b"x%d: y" % n for n in range(20_000)])])
def test_headers_without_end_are_refused(stack, header):
    """In one or in many; refused with their status, or the connection ends."""
    with connection(stack) as sock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n" + header + b"\r\ncontent-length: 0\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock)[:12] in {b"", b"HTTP/1.1 431", b"HTTP/1.1 400"}
    expect_answers(stack)


def test_slow_clients_are_given_up_and_hold_nobody(stack):
    """Some hundred that send a byte and wait, some that never send their body: others are answered meanwhile."""
    body = b'{"inputs": []}'
    with contextlib.ExitStack() as open_:
        socks = [open_.enter_context(connection(stack)) for _ in range(100)]
        for sock in socks[:50]:
            sock.sendall(b"P")
        for sock in socks[50:]:
            sock.sendall(GOOD[:-2] % len(body) + body[:3])
        expect_answers(stack)
        for sock in socks[50:]:
            assert read_all(sock).startswith(b"HTTP/1.1 408")
        expect_answers(stack)
    expect_nothing_held(stack)


def expect_nothing_held(stack: Stack) -> None:
    def held() -> bool:
        metrics = stack.metrics()
        names = ("rows_waiting", "requests_waiting", "batches_running")
        return any(metrics[f'mizzen_gateway_{name}{{namespace="default",endpoint="m"}}'] for name in names)

    eventually(lambda: not held(), "nothing is held")


def test_a_client_that_closes_its_sending_side_is_taken_as_gone_or_answered(stack):
    body = encoded({"inputs": [x([1.0, 2.0])]})
    for _ in range(20):
        with connection(stack) as sock:
            sock.sendall(GOOD % (len(body), body))
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock)[:12] in {b"", b"HTTP/1.1 200"}
    expect_answers(stack)
    expect_nothing_held(stack)


def test_a_flood_of_connections_is_served_or_refused(stack):
    with contextlib.ExitStack() as open_:
        for _ in range(500):
            open_.enter_context(connection(stack))
        expect_answers(stack)


def memory(stack: Stack) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in stack.children())


@pytest.mark.slow
def test_bad_requests_leave_nothing_behind(stack):
    """Ten thousand of each kind: memory stands."""
    kinds = [encoded({"inputs": [x(["1"])]}), b"[" * 1000, encoded({"inputs": [x([1.0, 2.0])], "id": "a" * 1000})]

    def round_() -> None:
        with stack.client() as client:
            for number in range(10_000):
                expect_no_fault(client.ask("POST", "/v2/models/m/infer", kinds[number % len(kinds)]))

    round_()
    before = memory(stack)
    round_()
    assert memory(stack) < before + (8 << 20)


# gRPC

MESSAGES = st.builds(
    service_pb2.ModelInferRequest,
    model_name=st.sampled_from(["m", "text", "", "none", "a/b/c", "m\x00"]),
    model_version=st.sampled_from(["", "1", "-1", "x", "9" * 40]),
    id=st.text(max_size=5),
    inputs=st.lists(
        st.builds(
            service_pb2.ModelInferRequest.InferInputTensor,
            name=st.sampled_from(["x", "word", "z"]),
            datatype=st.sampled_from(["FP32", "BYTES", "FP64", "INT64", ""]),
            shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 4), max_size=3),
            contents=st.none()
            | st.builds(
                service_pb2.InferTensorContents,
                fp32_contents=st.lists(st.floats(width=32), max_size=4),
                bytes_contents=st.lists(st.binary(max_size=4), max_size=2),
            ),
        ),
        max_size=3,
    ),
    raw_input_contents=st.lists(st.binary(max_size=16), max_size=3),
)
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE}


def call_anything(channel: grpc.Channel, data: bytes) -> None:
    call = channel.unary_unary(f"/{INFERENCE}/ModelInfer")
    try:
        service_pb2.ModelInferResponse.FromString(call(data, timeout=PATIENCE_S))
    except grpc.RpcError as error:
        assert error.code() not in FAULTS, error  # noqa: PT017 - either is right
        assert error.details()  # noqa: PT017


@REAL
@given(MESSAGES.map(lambda message: message.SerializeToString()) | st.binary(max_size=200))
def test_any_message_is_answered_or_refused(channel, data):
    call_anything(channel, data)


@pytest.mark.slow
@LONG
@given(MESSAGES.map(lambda message: message.SerializeToString()) | st.binary(max_size=200))
def test_any_message_is_answered_or_refused_at_length(channel, data):
    call_anything(channel, data)


def test_metadata_and_messages_beyond_the_limits_are_refused(stack, channel):
    """And the next call on the same connection is answered, or its client connects anew."""
    call = channel.unary_unary(f"/{INFERENCE}/ModelInfer")
    for data, metadata in ((bytes(BYTES_MAX + 1), ()), (b"", (("x-large", "y" * 200_000),))):
        with pytest.raises(grpc.RpcError) as caught:
            call(data, timeout=PATIENCE_S, metadata=metadata)
        assert caught.value.code() not in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
    live = channel.unary_unary(f"/{INFERENCE}/ServerLive", None, service_pb2.ServerLiveResponse.FromString)
    assert live(b"", timeout=PATIENCE_S, wait_for_ready=True).live


@REAL
@given(st.lists(MESSAGES, min_size=1, max_size=5))
def test_any_stream_of_messages_is_answered_one_by_one(channel, messages):
    call = channel.stream_stream(
        f"/{INFERENCE}/ModelStreamInfer",
        lambda m: m.SerializeToString(),
        service_pb2.ModelStreamInferResponse.FromString,
    )
    assert len(list(call(iter(messages), timeout=PATIENCE_S))) == len(messages)


def preface(frames: bytes) -> bytes:
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


HEADERS_BLOCK = b"\x83\x86\x44\x01/\x41\x01x"  # POST, http, path "/", authority "x", in HPACK
FLOODS = {
    "settings": frame(4, 0, 0) * 20_000,
    "pings": frame(4, 0, 0) + frame(6, 0, 0, bytes(8)) * 20_000,
    "rapid resets": frame(4, 0, 0)
    + b"".join(frame(1, 4, n, HEADERS_BLOCK) + frame(3, 0, n, bytes(4)) for n in range(1, 20_001, 2)),
    "empty data": frame(4, 0, 0) + frame(1, 4, 1, HEADERS_BLOCK) + frame(0, 0, 1) * 20_000,
    "endless headers": frame(4, 0, 0) + frame(1, 0, 1, HEADERS_BLOCK) + frame(9, 0, 1, b"\x00\x01a\x01b" * 1000) * 200,
    "window overflow": frame(4, 0, 0) + frame(8, 0, 0, (2**31 - 1).to_bytes(4, "big")) * 10,
    "no HTTP/2": b"GET / HTTP/1.1\r\n\r\n",
    "noise": bytes(range(256)) * 100,
}  # fmt: skip


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_http2_frames_hurts_nobody_else(stack, channel, kind, protocol):
    """The connection that floods may be closed; others are answered, and memory stands."""
    host, port = stack.grpc.rsplit(":", 1) if protocol == "grpc" else ("127.0.0.1", stack.port)
    before = memory(stack)
    for _ in range(3):
        with socket.create_connection((host, int(port)), timeout=5.0) as sock, contextlib.suppress(OSError):
            sock.sendall(preface(FLOODS[kind]) if kind != "noise" else FLOODS[kind])
            sock.settimeout(0.1)
            read_all(sock)
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[struct.pack("<2f", 1, 2)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    call = channel.unary_unary(f"/{INFERENCE}/ModelInfer", None, service_pb2.ModelInferResponse.FromString)
    answer = call(request.SerializeToString(), timeout=PATIENCE_S)
    assert list(answer.raw_output_contents) == [struct.pack("<2f", 2, 4)]
    expect_answers(stack)
    assert memory(stack) < before + (64 << 20)
