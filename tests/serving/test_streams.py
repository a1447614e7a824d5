"""Answers in parts, from a model that yields to a client: by events over HTTP, and by gRPC."""

import asyncio
import contextlib
import http.client
import json
import socket
import struct

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.grpc import service_pb2

from mizzen.data.lake.code import bundle, put_bundle
from mizzen.data.lake.objects import Store
from mizzen.kinds import build
from mizzen.registry.artifact import put_model
from mizzen.registry.python_model import PythonModel, prepare_python
from mizzen.sdk import predicting
from mizzen.sdk.predicting import Address
from mizzen.sdk.tensors import DataError
from mizzen.serving.gateway.directory import Logging
from mizzen.serving.oip.messages import INFERENCE
from mizzen.serving.predictionlog.journal import Journal, Limits
from mizzen.serving.predictionlog.layout import folder_of, table_path
from mizzen.serving.predictionlog.table import LogTable

from .builders import doubling_model
from .stack import PATIENCE_S, Stack, eventually

MODEL = '''
import os
import threading

import numpy as np


class Counting:
    """Doubles; or counts on from what it is given, for as many parts as it is asked."""

    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def predict(self, batch):
        return {"y": 2 * batch["x"]}

    def generate(self, inputs, parameters):
        for number in range(parameters.get("parts", 3)):
            if number == parameters.get("fails_at"):
                raise ValueError("no more ideas")
            if number == parameters.get("dies_at"):
                os._exit(1)
            if number == parameters.get("hangs_at"):
                threading.Event().wait(parameters.get("for_s", 2))
            yield {"y": (inputs["x"] + number).astype("f4").repeat(parameters.get("rows", 1), axis=0)}
'''


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    project = tmp_path_factory.mktemp("project")
    (project / "serve.py").write_text(MODEL)
    with Stack() as made:
        store = Store.open(f"file://{made.root}/store")
        code = put_bundle(store, bundle(project))
        model = prepare_python(PythonModel("serve:Counting"), store, code, None, cache=made.root / "cache")
        digest = put_model(store, model).digest
        made.serve(digest, logging=Logging(errors=True))
        made.worker(digest, format="python", streams=2)
        plain = made.put(doubling_model(columns=1))
        made.serve(plain, "plain")
        made.worker(plain, "plain")
        made.start_gateway(1, "--grpc", "grpcio", "--log-dir", str(made.root / "rings"))
        with made.client() as client:
            for name in ("m", "plain"):
                ready = f"/v2/models/{name}/ready"
                eventually(lambda ready=ready: client.ask("GET", ready).status == 200, f"{name} is ready")
        yield made


_connections: list[http.client.HTTPConnection] = []


@pytest.fixture(autouse=True)
def closed():
    """What a test opened is closed at its end."""
    yield
    while _connections:
        _connections.pop().close()


def generate(stack, body: dict, path: str = "/v2/models/m/generate_stream", **headers: str):
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=PATIENCE_S)
    _connections.append(connection)
    connection.request("POST", path, json.dumps(body), headers)
    return connection.getresponse()


def closing(response) -> None:
    """The client leaves."""
    response.close()
    _connections.pop().close()


def events(response) -> list[dict]:
    """What came, by server-sent events."""
    assert (response.status, response.headers["content-type"]) == (200, "text/event-stream"), response.read()
    found = response.read().decode()
    assert found.endswith("\n\n") or not found
    return [json.loads(event.removeprefix("data: ")) for event in found.split("\n\n")[:-1]]


def asking(x: float, **parameters) -> dict:
    return {"x": x, "parameters": parameters}


def test_each_part_is_an_event(stack):
    found = events(generate(stack, {**asking(5.0, parts=3), "id": "7"}))
    assert found == [{"id": "7", "model_name": "m", "model_version": "1", "y": y} for y in (5.0, 6.0, 7.0)]


def logged(stack) -> list[dict]:
    """All rows of the prediction log up to now."""
    folder = folder_of(stack.root / "rings", "default", "m")
    journal = Journal(folder, stack.root / "spool" / folder.name, Limits())
    journal.look()
    table = LogTable(Store.open(f"file://{stack.root}/store"), table_path("default", "m"))
    journal.drain()
    journal.seal(now=True)
    journal.commit(table)
    found = table.arrow()
    journal.close()
    return [] if found is None else found.to_pylist()


def test_parts_are_in_the_prediction_log_whichever_way_they_were_asked_for(stack):
    events(generate(stack, {**asking(5.0, parts=3), "id": "logged"}))
    broken = events(generate(stack, {**asking(1.0, parts=3, fails_at=2), "id": "broken"}))
    assert "no more ideas" in broken[-1]["error"]
    one = json.loads(generate(stack, {**asking(8.0, parts=1), "id": "one"}, "/v2/models/m/generate").read())
    assert one["y"] == 8.0
    rows = {(row["request_id"], row["part"]): row for row in logged(stack)}
    assert [(rows["logged", part]["input_x"], rows["logged", part]["output_y"]) for part in range(3)] == [
        (5.0, 5.0), (None, 6.0), (None, 7.0)
    ]  # fmt: skip
    assert [rows["broken", part]["outcome"] for part in range(3)] == ["ok", "ok", "failed"]
    assert rows["one", 0]["output_y"] == 8.0


def test_parts_are_read_from_python(stack):
    tensor = build.Tensor(name="x", datatype="FP32", shape=[-1, 1])
    signature = build.Signature(inputs=[tensor], outputs=[tensor])
    address = Address(f"http://127.0.0.1:{stack.port}/v2/models/m", signature, None)

    async def parts(data, most: int = 100) -> list[dict]:
        found = []
        async with contextlib.aclosing(predicting.stream(address, data)) as coming:
            async for part in coming:
                found.append(part)
                if len(found) == most:
                    break
        return found

    assert asyncio.run(parts(asking(5.0, parts=2))) == [{"y": 5.0}, {"y": 6.0}]
    assert asyncio.run(parts(asking(5.0, parts=100), most=1)) == [{"y": 5.0}], "and leaves"
    with pytest.raises(predicting.PredictionError, match="no more ideas"):
        asyncio.run(parts(asking(1.0, fails_at=1)))
    with pytest.raises(predicting.PredictionError, match="400: body"):
        asyncio.run(parts({"z": 1}))
    with pytest.raises(DataError, match="expected one object"):
        asyncio.run(parts([[1.0]]))


def test_a_stream_of_nothing_is_an_answer_too(stack):
    assert events(generate(stack, asking(1.0, parts=0))) == []


def test_a_part_of_several_rows_is_a_list(stack):
    assert [event["y"] for event in events(generate(stack, asking(1.0, parts=1, rows=2)))] == [[1.0, 1.0]]


def test_parts_come_as_they_are_computed(stack):
    """The first is here while the second is not begun."""
    response = generate(stack, asking(1.0, parts=2, hangs_at=1))
    assert b'"y":1.0' in response.readline()
    assert stack.metrics()['mizzen_gateway_requests_total{namespace="default",endpoint="m",outcome="ok"}'] >= 0
    assert b'"y":2.0' in response.read()


def test_one_part_is_the_answer_of_generate(stack):
    response = generate(stack, {**asking(5.0, parts=1), "id": "7"}, "/v2/models/m/generate")
    assert json.loads(response.read()) == {"id": "7", "model_name": "m", "model_version": "1", "y": 5.0}
    refused = generate(stack, asking(5.0, parts=3), "/v2/models/m/versions/1/generate")
    assert (refused.status, "ask with generate_stream" in refused.read().decode()) == (400, True)


def test_a_model_that_does_not_yield_answers_with_one_part(stack):
    assert events(generate(stack, {"x": 5.0}, "/v2/models/plain/generate_stream")) == [
        {"model_name": "plain", "model_version": "1", "y": 10.0}
    ]
    response = generate(stack, {"x": 5.0, "id": "a"}, "/v2/models/plain/generate")
    assert json.loads(response.read()) == {"id": "a", "model_name": "plain", "model_version": "1", "y": 10.0}


def test_a_model_that_yields_answers_an_ordinary_request_whole(stack):
    with stack.client() as client:
        answer = client.infer([[1.0], [2.0]])
    assert answer.values == [2.0, 4.0]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "body: object missing required field x"),
        ({"x": "1"}, "x: expected float | null, got str"),
        ({"x": [1.0]}, "x: expected float | null, got array"),
        ({"x": 1, "z": 2}, "body: object contains unknown field z"),
        ({"x": 1, "parameters": {"a": [1]}}, "parameters[...]: expected bool | int | float | str, got array"),
        ({"x": 1, "parameters": {"timeout": -5}}, "parameters.timeout: expected microseconds"),
        ({"x": 1, "parameters": {"priority": "1"}}, "parameters.priority: expected an integer, got '1'"),
        ({"x": 1e39}, "'x': expected FP32 numbers"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_computed(stack, body, says):
    response = generate(stack, body)
    found = json.loads(response.read())["error"]
    assert (response.status, says in found) == (400, True), found


def test_an_error_after_the_first_part_is_the_last_event(stack):
    *parts, last = events(generate(stack, asking(1.0, parts=5, fails_at=2)))
    assert [part["y"] for part in parts] == [1.0, 2.0]
    assert "no more ideas" in last["error"]


def test_an_error_before_the_first_part_is_the_answer(stack):
    response = generate(stack, asking(1.0, fails_at=0))
    assert (response.status, "no more ideas" in response.read().decode()) == (500, True)


def test_streams_beyond_the_workers_places_wait_their_turn(stack):
    """Two places, six streams: all are answered whole."""
    responses = []
    with contextlib.ExitStack() as open_:
        for number in range(6):
            connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=PATIENCE_S)
            open_.callback(connection.close)
            connection.request("POST", "/v2/models/m/generate_stream", json.dumps(asking(100.0 * number, parts=20)))
            responses.append(connection)
        for number, connection in enumerate(responses):
            found = [event["y"] for event in events(connection.getresponse())]
            assert found == [100.0 * number + part for part in range(20)]


def test_the_clients_time_holds_for_all_parts(stack):
    *parts, last = events(generate(stack, asking(1.0, parts=3, hangs_at=1, for_s=1, timeout=100_000)))
    assert [part["y"] for part in parts] == [1.0]
    assert "the next part did not come in time" in last["error"]
    with stack.client() as client:
        assert client.infer([[1.0]]).values == [2.0]


def computed(stack) -> float:
    (worker,) = (one for one in stack.workers.values() if one.described.endpoint == "m")
    return worker.metric("mizzen_worker_parts_total")


def test_a_client_that_leaves_stops_the_model(stack):
    before = stack.outcomes().get("cancelled", 0)
    response = generate(stack, asking(1.0, parts=1_000_000, rows=1000))
    response.read(10)
    closing(response)
    eventually(lambda: stack.outcomes().get("cancelled", 0) == before + 1, "it is counted")
    with stack.client() as client:
        assert client.infer([[1.0]]).values == [2.0]


def test_a_client_that_does_not_read_is_not_computed_for(stack):
    """The model is at most some parts ahead of what its client takes, and the system's buffers hold."""
    before = computed(stack)
    body = json.dumps(asking(1.0, parts=4000, rows=20_000)).encode()
    with socket.create_connection(("127.0.0.1", stack.port)) as slow:
        slow.sendall(
            b"POST /v2/models/m/generate_stream HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        first = eventually(lambda: computed(stack) - before, "it begins")
        last = [first]

        def stands() -> bool:
            last.append(computed(stack) - before)
            return len(last) > 20 and last[-1] == last[-20]

        eventually(stands, "it stops")
        assert last[-1] < 400


def test_the_gateway_uses_the_connection_on_after_a_stream(stack):
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=PATIENCE_S)
    for number in range(3):
        connection.request("POST", "/v2/models/m/generate_stream", json.dumps(asking(float(number), parts=2)))
        assert [event["y"] for event in events(connection.getresponse())] == [number, number + 1.0]
    connection.close()


def test_a_client_of_http_1_0_reads_to_the_end_of_the_connection(stack):
    body = json.dumps(asking(1.0, parts=2)).encode()
    with socket.create_connection(("127.0.0.1", stack.port), timeout=PATIENCE_S) as old:
        old.sendall(b"POST /v2/models/m/generate_stream HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        answer = b""
        while chunk := old.recv(65536):
            answer += chunk
    head, _, parts = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert parts.count(b"data: ") == 2


# gRPC


def request_of(x: float, id_: str = "", **parameters) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="m", id=id_)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<f", x))
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    return request


def stream(channel, requests):
    return channel.stream_stream(
        f"/{INFERENCE}/ModelStreamInfer",
        service_pb2.ModelInferRequest.SerializeToString,
        service_pb2.ModelStreamInferResponse.FromString,
    )(iter(requests), timeout=PATIENCE_S)


def value(answer) -> float:
    return struct.unpack("<f", answer.infer_response.raw_output_contents[0])[0]


def test_a_request_of_a_grpc_stream_is_answered_by_what_the_model_yields(stack):
    with grpc.insecure_channel(stack.grpc) as channel:
        answers = list(stream(channel, [request_of(10.0, "a", parts=3), request_of(20.0, "b", parts=2)]))
    found = {id_: [value(a) for a in answers if a.infer_response.id == id_] for id_ in "ab"}
    assert found == {"a": [10.0, 11.0, 12.0], "b": [20.0, 21.0]}


def test_the_last_part_is_told_to_who_asks(stack):
    asked = request_of(1.0, "a", parts=2, triton_enable_empty_final_response=True)
    with grpc.insecure_channel(stack.grpc) as channel:
        answers = list(stream(channel, [asked]))
    finals = [answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers]
    assert (finals, len(answers[-1].infer_response.outputs)) == ([False, False, True], 0)


def test_an_error_amid_parts_ends_that_request_alone(stack):
    with grpc.insecure_channel(stack.grpc) as channel:
        answers = list(stream(channel, [request_of(1.0, "a", parts=3, fails_at=1), request_of(2.0, "b", parts=1)]))
    failed = [answer for answer in answers if answer.error_message]
    assert len(failed) == 1
    assert (failed[0].infer_response.id, "no more ideas" in failed[0].error_message) == ("a", True)
    assert [value(answer) for answer in answers if answer.infer_response.id == "b"] == [2.0]


def test_tritons_client_streams_from_a_model_that_yields(stack):
    answers = []
    with tritonclient.grpc.InferenceServerClient(stack.grpc) as client:
        client.start_stream(lambda result, error: answers.append((result, error)))
        one = tritonclient.grpc.InferInput("x", [1, 1], "FP32")
        one.set_data_from_numpy(np.array([[3.0]], np.float32))
        client.async_stream_infer("m", [one], request_id="r", parameters={"parts": 4}, enable_empty_final_response=True)
        client.stop_stream()
    assert [error for _, error in answers if error is not None] == []
    *parts, last = [result for result, _ in answers]
    assert [float(part.as_numpy("y")[0, 0]) for part in parts] == [3.0, 4.0, 5.0, 6.0]
    assert last.get_response().parameters["triton_final_response"].bool_param


def test_a_worker_that_dies_amid_a_stream_is_told_to_the_client(stack):
    """Last in the module: it takes the worker. One that dies before the first part is tried once more, elsewhere."""
    (worker,) = (one for one in stack.workers.values() if one.described.endpoint == "m")
    again = stack.worker(stack.endpoints["m"].versions[0].digest, format="python", streams=2)
    again.line_with("ready")
    *parts, last = events(generate(stack, asking(1.0, parts=3, dies_at=1)))
    assert [part["y"] for part in parts] == [1.0]
    assert "the worker was lost" in last["error"]
    eventually(lambda: (worker.inner.poll() is None) != (again.inner.poll() is None), "one of two died")
    response = generate(stack, asking(1.0, parts=3, dies_at=0, timeout=2_000_000))
    assert response.status in {500, 503}
    response.read()
