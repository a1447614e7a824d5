"""Graphs and caches with real gateway and worker processes."""

import pytest
from tests.serving.builders import doubling_model
from tests.serving.graph.builders import graph
from tests.serving.stack import Stack, eventually, kill

from mizzen.serving.gateway.directory import Caching, Endpoint, GraphPlan, Version
from mizzen.serving.tensors import Signature, TensorSpec

TAKES = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))


@pytest.fixture
def stack():
    with Stack() as made:
        yield made


def found(stack: Stack, endpoint: str = "m") -> dict[str, float]:
    start = f'mizzen_gateway_cache_requests_total{{namespace="default",endpoint="{endpoint}",found="'
    return {k.removeprefix(start).rstrip('"}'): v for k, v in stack.metrics().items() if k.startswith(start)}


def serve_graph(stack: Stack, shape, **digests: str) -> None:
    versions = {node: (Version("m", 1, digest, 100, TAKES),) for node, digest in digests.items()}
    stack.endpoints["g"] = Endpoint("default", "g", anonymous=True, graph=GraphPlan(shape.to_wire(), versions))
    stack.tell()


def test_a_graph_of_real_workers_answers_in_json_and_binary_and_survives_a_killed_worker(stack):
    twice, thrice = stack.put(doubling_model(2)), stack.put(doubling_model(2, 3.0))
    shape = graph(
        main={"sequence": [{"node": "a"}, {"node": "both", "inputs": {"x": "a.y"}}]},
        both={"ensemble": {"members": [{"node": "a"}, {"node": "b"}], "combine": "sum"}},
        a={"model": "twice:1"},
        b={"model": "thrice:1"},
    )
    serve_graph(stack, shape, a=twice, b=thrice)
    stack.worker(twice, "g")
    second = stack.worker(thrice, "g")
    stack.start_gateway()
    with stack.client() as client:
        assert eventually(lambda: (a := client.infer([[1.0, 2.0]], "g")).status == 200 and a, "an answer").values == [
            10.0,
            20.0,
        ]
        assert client.infer_binary([[1.0, 2.0], [3.0, 4.0]], "g") == [10.0, 20.0, 30.0, 40.0]
        second.kill()
        replacement = stack.worker(thrice, "g")
        stack.forget(second)
        assert client.infer([[1.0, 2.0]], "g").values == [10.0, 20.0], "the hop waited for the new worker"
        assert replacement.inner.poll() is None
    assert set(stack.outcomes("g/b")) == {"ok"}
    assert stack.outcomes("g/a")["ok"] == 2 * stack.outcomes("g")["ok"]


def test_gateway_processes_share_answers_and_a_killed_one_costs_none(stack):
    digest = stack.put(doubling_model(2))
    stack.serve(digest, cache=Caching(600.0, 1 << 20, machine_bytes_max=1 << 24))
    stack.worker(digest)
    stack.start_gateway(2)
    values = [[[float(n), float(n) + 0.5]] for n in range(40)]
    with stack.client() as client:
        eventually(lambda: client.infer([[0.0, 0.5]]).status == 200, "an answer")

    def ask_all() -> None:
        for value in values:
            with stack.client() as client:  # a connection for each, so that both processes are asked
                assert client.infer(value).values == [2 * number for number in value[0]]

    ask_all()
    eventually(lambda: sum(found(stack).values()) >= 41, "all counted")
    for _ in range(3):
        ask_all()
    assert eventually(lambda: found(stack).get("machine"), "an answer that another process had")
    assert found(stack)["miss"] <= 80
    kill(stack.children()[0])
    eventually(lambda: len(stack.children()) == 2, "a successor")
    for _ in range(2):
        try:
            ask_all()
        except ConnectionError:
            continue
    assert found(stack).get("collision") is None
