"""gRPC to a real gateway and real workers, by both transports: answers, streams, errors, deadlines, limits, leaving."""

import contextlib
import hashlib
import importlib.util
import struct
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tritonclient.grpc import service_pb2

from mizzen.serving.oip.messages import HEALTH, INFERENCE, message

from .builders import doubling_model, endless_model, picky_model, text_model
from .played import api_key
from .stack import PATIENCE_S, Stack, eventually

NATIVE = importlib.util.find_spec("pygrpc_native") is not None
BYTES_MAX = 100_000
BUSY = 800_000
"""Rounds that keep a worker busy for about a second."""


@pytest.fixture(
    scope="module",
    params=[
        "grpcio",
        pytest.param("native", marks=pytest.mark.skipif(not NATIVE, reason="mizzen[grpc] is not installed")),
    ],
)
def stack(request):
    with Stack() as made:
        for name, model in (
            ("m", doubling_model()), ("text", text_model()), ("picky", picky_model()), ("endless", endless_model()),
        ):  # fmt: skip
            digest = made.put(model)
            made.serve(digest, name, queue_rows_max=2 if name == "endless" else 8192)
            made.worker(digest, name)
        made.serve(made.put(doubling_model(factor=3.0)), "closed", anonymous=False)
        made.start_gateway(1, "--grpc", request.param, "--body-bytes-max", str(BYTES_MAX))
        with grpc.insecure_channel(made.grpc) as channel:
            for name in ("m", "text", "picky", "endless"):
                eventually(lambda name=name: Client(channel).is_ready(name), f"{name} is ready")
        yield made


class Client:
    """A channel, and calls by name."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def method(self, name: str) -> grpc.UnaryUnaryMultiCallable:
        return self.channel.unary_unary(
            f"/{INFERENCE}/{name}", lambda m: m.SerializeToString(), message(f"{name}Response").FromString
        )

    def ask(self, method: str, /, **fields):
        return self.method(method)(message(f"{method}Request")(**fields), timeout=PATIENCE_S, wait_for_ready=True)

    def is_ready(self, name: str) -> bool:
        with contextlib.suppress(grpc.RpcError):
            return self.ask("ModelReady", name=name).ready
        return False

    def infer(self, request, *, timeout=PATIENCE_S, metadata=()):
        return self.unary()(request, timeout=timeout, metadata=metadata)

    def unary(self) -> grpc.UnaryUnaryMultiCallable:
        return self.channel.unary_unary(
            f"/{INFERENCE}/ModelInfer",
            service_pb2.ModelInferRequest.SerializeToString,
            service_pb2.ModelInferResponse.FromString,
        )

    def stream(self, requests, **more):
        call = self.channel.stream_stream(
            f"/{INFERENCE}/ModelStreamInfer",
            service_pb2.ModelInferRequest.SerializeToString,
            service_pb2.ModelStreamInferResponse.FromString,
        )
        return call(requests, **more)


@pytest.fixture
def client(stack):
    with grpc.insecure_channel(stack.grpc) as channel:
        yield Client(channel)


def asking(*rows: tuple[float, float], model: str = "m", **more) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model, **more)
    request.inputs.add(name="x", datatype="FP32", shape=[len(rows), 2])
    request.raw_input_contents.append(struct.pack(f"<{2 * len(rows)}f", *[value for row in rows for value in row]))
    return request


def endless(rounds: int, model: str = "endless") -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[1])
    request.inputs.add(name="rounds", datatype="INT64", shape=[1])
    request.raw_input_contents.extend([struct.pack("<f", 1.0), struct.pack("<q", rounds)])
    return request


def values(answer: service_pb2.ModelInferResponse) -> list[float]:
    (raw,) = answer.raw_output_contents
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def refusal(call) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def test_a_request_is_answered(client):
    answer = client.infer(asking((1, 2), (3, 4), id="7"))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "7")
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [("y", "FP32", [2, 2])]
    assert values(answer) == [2, 4, 6, 8]


def test_typed_contents_are_answered_typed(client):
    request = service_pb2.ModelInferRequest(model_name="text", model_version="1")
    request.inputs.add(name="word", datatype="BYTES", shape=[2, 1]).contents.bytes_contents.extend([b"u", "é".encode()])
    request.inputs.add(name="x", datatype="FP64", shape=[2, 3]).contents.fp64_contents.extend(range(6))
    request.outputs.add(name="total")
    request.outputs.add(name="echo")
    total, echo = client.infer(request).outputs
    assert (total.name, list(total.contents.fp64_contents)) == ("total", [3.0, 12.0])
    assert list(echo.contents.bytes_contents) == [b"u", "é".encode()]


def test_many_callers_at_once_each_get_their_own_rows(client):
    def ask(number: int) -> bool:
        return values(client.infer(asking((number, number + 0.5)))) == [2.0 * number, 2.0 * number + 1]

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(1000)))


def test_the_server_and_its_models_are_described(client):
    assert client.ask("ServerLive").live
    assert client.ask("ServerReady").ready
    assert client.ask("ServerMetadata").name == "mizzen"
    metadata = client.ask("ModelMetadata", name="m", version="1")
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [("x", "FP32", [-1, 2])]
    config = client.ask("ModelConfig", name="m").config
    assert (config.max_batch_size, [list(one.dims) for one in config.input], config.input[0].data_type) == (
        256,
        [[2]],
        11,
    )
    index = {one.name: (one.version, one.state) for one in client.ask("RepositoryIndex").models}
    assert index == dict.fromkeys(("m", "text", "picky", "endless"), ("1", "READY"))
    assert list(client.ask("TraceSetting").settings["trace_level"].value) == ["OFF"]


def test_statistics_count_what_was_answered_and_what_was_not(client):
    def counted():
        (found,) = client.ask("ModelStatistics", name="picky").model_stats
        stats = found.inference_stats
        return found.inference_count, stats.success.count, stats.fail.count

    def pick(*indices: int):
        request = service_pb2.ModelInferRequest(model_name="picky")
        entry = request.inputs.add(name="x", datatype="INT64", shape=[len(indices)])
        entry.contents.int64_contents.extend(indices)
        return client.infer(request)

    rows, ok, failed = counted()
    assert list(pick(0, 3).outputs[0].contents.fp32_contents) == [10.0, 13.0]
    assert refusal(lambda: pick(9)).code() is grpc.StatusCode.INTERNAL
    assert counted() == (rows + 2, ok + 1, failed + 1)


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (asking((1, 2), model="none"), "UNAUTHENTICATED", "expected an API key"),
        (asking((1, 2), model_version="9"), "NOT_FOUND", "version: expected one that gets traffic (1), got 9"),
        (asking((1, 2), model_version="x"), "NOT_FOUND", "version: expected a number, got 'x'"),
        (service_pb2.ModelInferRequest(model_name="m"), "INVALID_ARGUMENT", "inputs: missing 'x'"),
        (asking(model="m"), "INVALID_ARGUMENT", "expected at least 1 row"),
    ],
)
def test_what_cannot_be_answered_is_said(client, request_, code, says):
    error = refusal(lambda: client.infer(request_))
    assert (error.code().name, says in error.details()) == (code, True), error


def test_bytes_that_are_no_message_are_refused(client):
    call = client.channel.unary_unary(f"/{INFERENCE}/ModelInfer")
    for data in (b"\xff", b"\x0a\x05abc", b"\x0a\x02\xff\xfe"):
        error = refusal(lambda data=data: call(data, timeout=PATIENCE_S))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "name", ["RepositoryModelLoad", "RepositoryModelUnload", "SystemSharedMemoryStatus", "LogSettings", "Nothing"]
)
def test_what_is_not_offered_is_unimplemented(client, name):
    call = client.channel.unary_unary(f"/{INFERENCE}/{name}")
    assert refusal(lambda: call(b"", timeout=PATIENCE_S)).code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("metadata", [[("authorization", "Bearer secret")], [("x-api-key", "secret")]])
def test_a_key_opens_its_endpoint(stack, client, metadata):
    stack.keys["k"] = api_key(hashlib.sha256(b"secret").hexdigest(), endpoints=["closed"])
    stack.tell()

    def code() -> grpc.StatusCode:
        return refusal(
            lambda: client.infer(asking((1, 2), model="closed", model_version="9"), metadata=metadata)
        ).code()

    eventually(lambda: code() is grpc.StatusCode.NOT_FOUND, "the key is known")
    for wrong in ([], [("x-api-key", "wrong")]):
        error = refusal(lambda wrong=wrong: client.infer(asking((1, 2), model="default/closed"), metadata=wrong))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    other = refusal(lambda: client.infer(asking((1, 2), model="none"), metadata=metadata))
    assert other.code() is grpc.StatusCode.NOT_FOUND
    assert client.infer(asking((1, 2), model="default/m")).model_name == "m"


def test_a_message_over_the_limit_is_refused_and_the_next_is_answered(client):
    rows = [(1.0, 2.0)] * (BYTES_MAX // 8 + 1)
    assert refusal(lambda: client.infer(asking(*rows))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert values(client.infer(asking((1, 2)))) == [2, 4]


def waiting(stack) -> float:
    return stack.metrics()['mizzen_gateway_requests_waiting{namespace="default",endpoint="endless"}']


def test_a_deadline_is_kept_and_what_was_late_is_not_run(stack, client):
    """The worker is busy; what waits behind it past its time is refused, and never sent."""
    busy = client.unary().future(endless(BUSY), timeout=PATIENCE_S)
    eventually(lambda: running(stack), "the worker is busy")
    error = refusal(lambda: client.infer(endless(1), timeout=0.05))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: not waiting(stack), "it waits no more")
    assert len(busy.result().raw_output_contents) == 1
    assert values(client.infer(endless(1))) == [2.0]


def running(stack) -> float:
    return stack.metrics()['mizzen_gateway_batches_running{namespace="default",endpoint="endless"}']


def test_a_client_that_leaves_waits_no_more(stack, client):
    before = stack.outcomes("endless").get("cancelled", 0)
    busy = client.unary().future(endless(BUSY), timeout=PATIENCE_S)
    eventually(lambda: running(stack), "the worker is busy")
    leaving = client.unary().future(endless(1), timeout=PATIENCE_S)
    eventually(lambda: waiting(stack), "it waits")
    leaving.cancel()
    eventually(lambda: stack.outcomes("endless").get("cancelled", 0) == before + 1, "it is counted")
    assert not waiting(stack)
    busy.result()


def test_who_is_refused_for_want_of_room_is_told_when_to_come_again(stack, client):
    futures = [client.unary().future(endless(BUSY), timeout=PATIENCE_S)]
    eventually(lambda: running(stack), "the worker is busy")
    futures += [client.unary().future(endless(1), timeout=PATIENCE_S) for _ in range(6)]
    refused = [future for future in futures if future.exception() is not None]
    assert refused
    for future in refused:
        assert future.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert int(dict(future.trailing_metadata())["retry-after"]) >= 1


def test_health_is_told(client):
    check = client.channel.unary_unary(
        f"/{HEALTH}/Check", lambda m: m.SerializeToString(), message("HealthCheckResponse").FromString
    )
    for service in ("", INFERENCE, "m"):
        assert check(message("HealthCheckRequest")(service=service), timeout=PATIENCE_S).status == 1
    assert refusal(lambda: check(message("HealthCheckRequest")(service="none"))).code().name == "UNAUTHENTICATED"
    watch = client.channel.unary_stream(
        f"/{HEALTH}/Watch", lambda m: m.SerializeToString(), message("HealthCheckResponse").FromString
    )
    for service, status in (("", 1), ("else", 3)):
        call = watch(message("HealthCheckRequest")(service=service), timeout=PATIENCE_S)
        assert next(call).status == status
        call.cancel()


# Streams


def test_each_request_of_a_stream_is_answered(client):
    answers = client.stream(iter([asking((n, n), id=str(n)) for n in range(300)]), timeout=PATIENCE_S)
    found = {answer.infer_response.id: values(answer.infer_response) for answer in answers}
    assert found == {str(n): [2.0 * n, 2.0 * n] for n in range(300)}


def test_an_error_in_a_stream_is_an_answer_and_the_stream_goes_on(client):
    requests = [asking((1, 2), id="a"), asking((1, 2), model_version="9", id="b"), asking((3, 4), id="c")]
    answers = {a.infer_response.id: a for a in client.stream(iter(requests), timeout=PATIENCE_S)}
    assert "expected one that gets traffic" in answers["b"].error_message
    assert [answers[id_].error_message for id_ in "ac"] == ["", ""]


def test_a_stream_whose_client_does_not_read_is_not_read_further(stack, client):
    """What the client sends on waits with the client, and nothing is lost once it reads."""
    count = 2000
    requests = (asking(*[(number, number)] * 100, id=str(number)) for number in range(count))
    before = stack.outcomes()["ok"]
    call = client.stream(requests, timeout=PATIENCE_S)
    eventually(lambda: stack.outcomes()["ok"] > before, "some are answered")
    assert sum(1 for _ in call) == count
    assert stack.outcomes()["ok"] == before + count


def test_a_stream_that_is_cancelled_leaves_nothing_behind(stack, client):
    call = client.stream(iter([endless(300_000), endless(1), endless(1)]), timeout=PATIENCE_S)
    eventually(lambda: waiting(stack), "one waits")
    call.cancel()
    eventually(lambda: not waiting(stack), "none waits")
    eventually(lambda: not running(stack), "none runs")


def test_what_was_taken_is_answered_before_the_gateway_ends(stack):
    """Last in the module: it ends the gateway."""
    with grpc.insecure_channel(stack.grpc) as channel:
        busy = Client(channel).unary().future(endless(BUSY), timeout=PATIENCE_S)
        eventually(lambda: running(stack), "the worker is busy")
        stack.gateway.inner.terminate()
        assert values(busy.result()) == [BUSY + 1]
    assert stack.gateway.inner.wait(PATIENCE_S) == 0
