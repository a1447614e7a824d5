"""A class of one's own, from the command line to an answer; its crash in the endpoint's status and events."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.e2e.machine import Machine

SERVE = """
import signal
import threading

class Tripled:
    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def predict(self, batch):
        if (batch["x"] == 13).any():
            raise ValueError("not thirteen")
        if (batch["x"] == 99).any():
            signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)
        return 3 * batch["x"]

    def generate(self, inputs, parameters):
        for number in range(parameters.get("parts", 2)):
            yield {"y": 3 * inputs["x"] + number}
"""
ENDPOINT = """
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: tripled}
spec: {model: tripled@production, access: anonymous, worker: {resources: {cpu: 100m, memory: 256Mi}}}
"""


def ask(machine: Machine, value: float) -> tuple[int, dict]:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value]}
    request = urllib.request.Request(
        f"{machine.endpoints_url}/v2/models/tripled/infer", json.dumps({"inputs": [tensor]}).encode()
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def tripled(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The class as a model, and its endpoint, ready."""
    folder = tmp_path_factory.mktemp("tripled")
    (folder / "serve.py").write_text(SERVE)
    said = machine.mizzen("models", "register", "tripled", "--python", "serve:Tripled", "--code", str(folder))
    assert said.startswith("modelversion/tripled-1 sha256:")
    wrong = machine.mizzen("models", "register", "tripled", "--python", "serve:Absent", "--code", str(folder), code=2)
    assert "serve:Absent: expected a class Absent in module serve, found nothing of that name" in wrong
    machine.mizzen("apply", "-f", "-", text=ENDPOINT)
    machine.mizzen("wait", "ie/tripled", "--timeout", "90s")
    yield machine
    machine.mizzen("delete", "ie", "tripled")


def test_a_class_of_ones_own(tripled: Machine) -> None:
    status, body = ask(tripled, 2.0)
    assert (status, body["outputs"][0]["data"]) == (200, [6.0])
    status, body = ask(tripled, 13.0)
    assert "not thirteen" in body["error"]
    parts = tripled.mizzen("predict", "tripled", '{"x": 2, "parameters": {"parts": 3}}', "--stream")
    assert [json.loads(line) for line in parts.splitlines()] == [{"y": 6.0}, {"y": 7.0}, {"y": 8.0}]
    tripled.kubectl("wait", "ie/tripled", "--for=jsonpath={.status.workers[0].provider}=CPU", "--timeout=60s")
    found = tripled.get("ie", "tripled")["status"]
    assert found["workers"][0]["runtime"] == "python serve:Tripled"
    assert found["traffic"][0]["memoryBytes"] > 5_000_000


def test_a_row_in_a_thousand_that_crashes_its_worker_fails_alone_and_is_shown(tripled: Machine) -> None:
    """A thousand requests, eight at a time, to the one worker; number 500 ends its process by SIGSEGV. It is run twice
    (the batch with it, then alone) and refused. The other 999 have their own answers; both crashes are in the metrics,
    and in the endpoint's status and events with the line where it was.
    """
    values = [99.0 if number == 500 else 1000.0 + number for number in range(1000)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda value: ask(tripled, value), values))
    status, body = answers.pop(500)
    assert (status, body["error"]) == (500, "two workers were lost while they ran this request")
    values.pop(500)
    assert [(status, body.get("outputs", [body])[0].get("data")) for status, body in answers] == [
        (200, [3 * value]) for value in values
    ]
    with urllib.request.urlopen(f"{tripled.endpoints_url}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    assert 'mizzen_gateway_workers_lost_total{namespace="default",endpoint="tripled"} 2' in lines
    tripled.kubectl("wait", "ie/tripled", "--for=jsonpath={.status.workers[0].restarts}=2", "--timeout=60s")
    (worker,) = tripled.get("ie", "tripled")["status"]["workers"]
    assert worker["lastCrash"]["reason"] == "Killed"
    assert worker["lastCrash"]["message"] == "killed by SIGSEGV in predict (serve.py:13)"
    events = tripled.kubectl("get", "events", "--field-selector=reason=WorkerCrashed", "-o", "jsonpath={..message}")
    assert "Killed: killed by SIGSEGV in predict" in events
