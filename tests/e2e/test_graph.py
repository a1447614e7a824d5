"""Graphs, answers from the cache and explanations on a whole machine, declared in YAML."""

import json
import urllib.error
import urllib.request
from typing import Any

from tests.e2e.machine import Machine
from tests.serving.stack import eventually

RESOURCES = """\
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: pair}
spec:
  access: anonymous
  cache: {ttl: 1h, machineSize: 8Mi}
  graph:
    nodes:
      - name: main
        ensemble:
          members: [{node: followed}, {node: fixed}]
          combineOutputs: {probabilities: mean, label: vote}
      - {name: followed, model: thing@production}
      - {name: fixed, model: "thing:1"}
---
kind: InferenceEndpoint
metadata: {name: why}
spec: {model: "thing:1", access: anonymous, explain: {}}
"""
MISMATCH = """\
apiVersion: mizzen.dev/v1alpha1
kind: InferenceEndpoint
metadata: {name: never}
spec:
  access: anonymous
  graph:
    nodes:
      - {name: main, sequence: [{node: a}, {node: b}]}
      - {name: a, model: "thing:1"}
      - {name: b, model: "thing:1"}
"""


def ask(machine: Machine, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
    url = f"{machine.endpoints_url}/v2/models/{name}"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            outputs = json.loads(answer.read())["outputs"]
    except (urllib.error.HTTPError, urllib.error.URLError):
        return None
    return {output["name"]: output["data"] for output in outputs}


def ready(machine: Machine, name: str) -> bool:
    conditions = machine.get(f"ie/{name}")["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def test_a_graph_a_cache_and_explanations_are_declared_and_answer(serving: Machine) -> None:
    serving.mizzen("apply", "-f", "-", text=RESOURCES)
    eventually(lambda: ready(serving, "pair") and ready(serving, "why"), "both are ready")
    status = serving.get("ie/pair")["status"]
    assert status["serving"] == "thing:1"
    assert {output["name"] for output in status["graph"]["signature"]["outputs"]} == {"probabilities", "label"}
    signature = serving.get("mv/thing-1")["spec"]["signature"]
    inputs = [
        {
            "name": one["name"],
            "shape": [1, one["shape"][1]],
            "datatype": one["datatype"],
            "data": [3.0] * one["shape"][1],
        }
        for one in signature["inputs"]
    ]
    body = {"inputs": inputs}
    first = eventually(lambda: ask(serving, "pair/infer", body), "an answer of the graph")
    assert first == ask(serving, "pair/infer", body)
    assert first["label"] == [1]
    alone = ask(serving, "why/infer", body)
    assert alone == first, "the mean of a model and itself"
    told = eventually(lambda: ask(serving, "why:explain", body), "an explanation")
    features = sum(one["shape"][1] for one in signature["inputs"])
    assert len(told["shap_values"]) % features == 0
    assert (
        abs(sum(told["shap_values"][:: len(told["base_values"])]) + told["base_values"][0] - told["explained"][0])
        < 1e-6
    )
    assert abs(told["explained"][0] - first["probabilities"][0]) < 1e-5


def test_a_graph_that_does_not_fit_says_where(serving: Machine) -> None:
    serving.mizzen("apply", "-f", "-", text=MISMATCH)

    def told() -> str | None:
        conditions = serving.get("ie/never")["status"].get("conditions", [])
        return next((one["message"] for one in conditions if one["type"] == "GraphFits"), None)

    message = eventually(told, "the condition")
    assert message.startswith("spec.graph.nodes[0].sequence[0]: expected what a gives (")
    serving.mizzen("delete", "ie/never", "ie/pair", "ie/why")
