"""A class of one's own, from the command line to an answer; its crash in the endpoint's status and events."""

import json
import urllib.error
import urllib.request
from pathlib import Path

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


def test_a_class_of_ones_own(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(SERVE)
    said = machine.mizzen("models", "register", "tripled", "--python", "serve:Tripled", "--code", str(tmp_path))
    assert said.startswith("modelversion/tripled-1 sha256:")
    wrong = machine.mizzen("models", "register", "tripled", "--python", "serve:Absent", "--code", str(tmp_path), code=2)
    assert "serve:Absent: expected a class Absent in module serve, found nothing of that name" in wrong
    machine.mizzen("apply", "-f", "-", text=ENDPOINT)
    machine.mizzen("wait", "ie/tripled", "--timeout", "90s")
    status, body = ask(machine, 2.0)
    assert (status, body["outputs"][0]["data"]) == (200, [6.0])
    status, body = ask(machine, 13.0)
    assert "not thirteen" in body["error"]
    parts = machine.mizzen("predict", "tripled", '{"x": 2, "parameters": {"parts": 3}}', "--stream")
    assert [json.loads(line) for line in parts.splitlines()] == [{"y": 6.0}, {"y": 7.0}, {"y": 8.0}]
    assert ask(machine, 99.0)[0] == 500
    assert ask(machine, 3.0)[1]["outputs"][0]["data"] == [9.0], "the worker was started again"
    machine.kubectl(
        "wait", "ie/tripled", "--for=jsonpath={.status.workers[0].lastCrash.reason}=Killed", "--timeout=60s"
    )
    (worker,) = machine.get("ie", "tripled")["status"]["workers"]
    assert worker["lastCrash"]["message"] == "killed by SIGSEGV in predict (serve.py:13)"
    machine.kubectl("wait", "ie/tripled", "--for=jsonpath={.status.workers[0].provider}=CPU", "--timeout=60s")
    found = machine.get("ie", "tripled")["status"]
    assert found["workers"][0]["runtime"] == "python serve:Tripled"
    assert found["traffic"][0]["memoryBytes"] > 5_000_000
    events = machine.kubectl("get", "events", "--field-selector=reason=WorkerCrashed", "-o", "jsonpath={..message}")
    assert "Killed: killed by SIGSEGV in predict" in events
    machine.mizzen("delete", "ie", "tripled")
