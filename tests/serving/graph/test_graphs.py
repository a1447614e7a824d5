"""Graphs of played models: what comes out is what the models computed, each asked for what it had to be."""

import asyncio
import json

import msgspec
import numpy as np
import pytest
from tests.serving.builders import spec
from tests.serving.graph.builders import GraphStage, column, graph, outputs_of, played, reply_of
from tests.serving.played import Call, turn

from mizzen.serving.gateway.directory import Caching, Endpoint, GraphPlan, Logging, Version
from mizzen.serving.predictionlog.record import decode_chunk
from mizzen.serving.predictionlog.ring import RingReader

pytestmark = pytest.mark.looptime


@pytest.fixture
async def stage():
    return GraphStage()


def double():
    return played(lambda x: 2 * x)


def size_of(x):
    return np.abs(x)


def add(number: float, **more):
    return played(lambda x: x + number, **more)


def got(stage, path):
    return Call(stage, "GET", path, b"", {}).reply


def m(number: int) -> dict:
    return {"model": f"m:{number}"}


async def test_a_sequence_feeds_each_step_with_what_the_one_before_gave(stage):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b"}]}, a=m(1), b=m(2))
    stage.serve(
        shape, models={"a": double(), "b": played(lambda features: features + 1, takes=["features"], gives=["score"])}
    )
    assert await outputs_of(stage.ask(x=[1.0, 2.0])) == {"score": [3.0, 5.0]}


async def test_a_step_can_take_what_the_sequence_was_given_and_the_sequence_give_what_any_step_gave(stage):
    shape = graph(
        main={
            "sequence": [{"node": "a"}, {"node": "b", "inputs": {"p": "a.y", "q": "inputs.x"}}],
            "outputs": {"both": "b.y", "first": "a.y", "given": "inputs.x"},
        },
        a=m(1),
        b=m(2),
    )
    stage.serve(shape, models={"a": double(), "b": played(lambda p, q: p * 100 + q, takes=["p", "q"])})
    assert await outputs_of(stage.ask(x=[1.0])) == {"both": [201.0], "first": [2.0], "given": [1.0]}
    assert await outputs_of(stage.ask(x=[1.0], outputs=["given"])) == {"given": [1.0]}


async def test_an_ensemble_asks_all_at_once_and_combines(stage):
    shape = graph(
        main={"ensemble": {"members": [{"node": "a"}, {"node": "b", "weight": 3}], "combine": "mean"}}, a=m(1), b=m(2)
    )
    models = {"a": add(0), "b": add(4)}
    stage.serve(shape, models=models)
    for link in stage.links:
        link.hold = True
    call = stage.ask(x=[1.0, 2.0])
    await turn()
    assert [len(link.waiting) for link in stage.links] == [1, 1], "both are under way"
    for link in stage.links:
        link.answer()
    assert await outputs_of(call) == {"y": [4.0, 5.0]}


async def test_members_outputs_stand_side_by_side(stage):
    shape = graph(main={"ensemble": {"members": [{"node": "a"}, {"node": "b"}]}}, a=m(1), b=m(2))
    stage.serve(shape, models={"a": add(1, gives=["p"]), "b": add(2, gives=["q"])})
    assert await outputs_of(stage.ask(x=[1.0])) == {"p": [2.0], "q": [3.0]}


async def test_a_switch_sends_each_row_its_way_and_puts_the_answers_back_in_order(stage):
    shape = graph(
        main={"switch": [{"when": "x < 0", "node": "low"}, {"when": "x > 10", "node": "high"}, {"node": "mid"}]},
        low=m(1), mid=m(2), high=m(3),
    )  # fmt: skip
    models = {"low": add(1000), "mid": add(2000), "high": add(3000)}
    stage.serve(shape, models=models)
    assert await outputs_of(stage.ask(x=[5.0, -1.0, 20.0, 6.0, -2.0])) == {"y": [2005.0, 999.0, 3020.0, 2006.0, 998.0]}
    assert [model.rows for model in models.values()] == [2, 2, 1]
    assert await outputs_of(stage.ask(x=[1.0, 2.0])) == {"y": [2001.0, 2002.0]}
    assert [model.batches for model in models.values()] == [1, 2, 1], "who is not needed is not asked"


async def test_a_condition_looks_at_text_and_at_what_a_step_before_gave(stage):
    shape = graph(
        main={"sequence": [{"node": "score"}, {"node": "way"}]},
        score=m(1),
        way={"switch": [{"when": 'outlier > 3 or country in ["NL"]', "node": "a"}, {"node": "b"}],
             "inputs": [{"name": "country", "datatype": "BYTES", "shape": [-1, 1]}]},
        a=m(2), b=m(3),
    )  # fmt: skip
    shape.nodes[0].sequence[1].inputs = {"country": "inputs.country", "x": "inputs.x"}
    models = {"score": played(size_of, gives=["outlier"]), "a": add(100), "b": add(200)}
    stage.serve(shape, models=models)
    asked = stage.ask(x=[1.0, -5.0, 2.0], country=("BYTES", np.array(["BE", "BE", "NL"], object)))
    assert await outputs_of(asked) == {"y": [201.0, 95.0, 102.0]}


async def test_a_splitter_sends_a_unit_the_same_way_always_and_units_by_weight(stage):
    shape = graph(main={"splitter": {"by": "user", "shares": [{"node": "a", "weight": 80}, {"node": "b", "weight": 20}]},
                        "inputs": [{"name": "user", "datatype": "INT64", "shape": [-1, 1]}]}, a=m(1), b=m(2))  # fmt: skip
    stage.serve(shape, models={"a": add(0), "b": add(1)}, queue_rows_max=100_000)
    users = np.arange(4000)
    first = (await outputs_of(stage.ask(x=np.zeros(4000), user=("INT64", users))))["y"]
    again = (await outputs_of(stage.ask(x=np.zeros(4000), user=("INT64", users[::-1]))))["y"]
    assert again[::-1] == first
    assert 700 < sum(first) < 900


async def test_a_splitter_goes_by_the_requests_unit_and_else_by_chance():
    draws = iter([0.9, 0.1, 0.9])
    stage = GraphStage()
    shape = graph(
        main={"splitter": {"shares": [{"node": "a", "weight": 1}, {"node": "b", "weight": 1}]}}, a=m(1), b=m(2)
    )
    stage.serve(shape, models={"a": add(0), "b": add(1)})
    service = stage.gateway.services["default", "g"]
    service._root._chance = lambda: next(draws)
    assert [(await outputs_of(stage.ask(x=[0.0])))["y"] for _ in range(3)] == [[1.0], [0.0], [1.0]]
    ways = {unit: (await outputs_of(stage.ask(x=[0.0], mizzen_unit=unit)))["y"][0] for unit in map(str, range(60))}
    again = {unit: (await outputs_of(stage.ask(x=[0.0], mizzen_unit=unit)))["y"][0] for unit in ways}
    assert again == ways
    assert 15 < sum(ways.values()) < 45


async def test_graphs_are_nodes_of_graphs_and_endpoints_too(stage):
    stage.serve_model(add(1), "other")
    inner = graph(main={"sequence": [{"node": "a"}, {"node": "out"}]}, a=m(1), out={"endpoint": "other"})
    stage.serve(inner, "inner", models={"a": double()})
    shape = graph(
        main={"ensemble": {"members": [{"node": "deep"}, {"node": "seq"}], "combine": "sum"}},
        deep={"endpoint": "inner"},
        seq={"sequence": [{"node": "a"}, {"node": "a", "inputs": {"x": "a.y"}}]},
        a=m(1),
    )
    stage.serve(shape, models={"a": double()})
    assert await outputs_of(stage.ask(x=[1.0, 10.0])) == {"y": [3.0 + 4.0, 21.0 + 40.0]}


# What it takes and gives


async def test_the_graph_says_what_it_takes_and_gives(stage):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b"}]}, a=m(1), b=m(2))
    stage.serve(shape, models={"a": double(), "b": played(lambda y: y, takes=["y"], gives=["z"])})
    reply = got(stage, "/v2/models/g")
    assert reply.json["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
    assert reply.json["outputs"] == [{"name": "z", "datatype": "FP32", "shape": [-1, 1]}]
    await turn()
    assert got(stage, "/v2/models/g/ready").json == {"name": "g", "ready": True}


async def test_a_request_is_checked_against_it(stage):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b", "inputs": {"x": "a.y"}}]}, a=m(1), b=m(2))
    stage.serve(shape, models={"a": double(), "b": double()})
    reply = stage.ask(x=("INT64", np.array([1]))).reply
    assert (reply.status, reply.error) == (400, "inputs[0].datatype: expected FP32, got INT64")


async def test_requests_wait_until_every_model_is_known(stage):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b", "inputs": {"x": "a.y"}}]}, a=m(1), b=m(2))
    models = {"a": double(), "b": double()}
    unknown = {name: (Version("m", model.number, model.digest),) for name, model in models.items()}
    stage.gateway.endpoint_changed(Endpoint("default", "g", anonymous=True, graph=GraphPlan(shape.to_wire(), unknown)))
    call = stage.ask(x=[1.0])
    await turn()
    assert not call.reply.answered
    stage.start("g", models["a"])
    await turn()
    assert not call.reply.answered
    stage.start("g", models["b"])
    assert await outputs_of(call) == {"y": [4.0]}


async def test_where_the_models_do_not_fit_the_request_is_refused_with_the_reason(stage):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b"}]}, a=m(1), b=m(2))
    stage.serve(shape, models={"a": double(), "b": played(lambda x: x, takes=[column("x", "INT64")], gives=["z"])})
    reply = stage.ask(x=[1.0]).reply
    assert reply.status == 503
    assert reply.error == (
        "the graph does not fit together: graph.nodes[0].sequence[1].inputs.x: "
        "expected INT64[-1, 1], found a.y of FP32[-1, 1]"
    )


async def test_a_nodes_new_version_takes_over_between_requests(stage):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b", "inputs": {"x": "a.y"}}]}, a=m(1), b=m(2))
    models = {"a": double(), "b": add(1)}
    stage.serve(shape, models=models)
    assert await outputs_of(stage.ask(x=[1.0])) == {"y": [3.0]}
    stage.serve(shape, models={**models, "b": add(100)})
    assert await outputs_of(stage.ask(x=[1.0])) == {"y": [102.0]}


# Deadlines, failures, departures


async def test_one_deadline_holds_over_all_hops(stage, looptime):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b", "inputs": {"x": "a.y"}}]}, a=m(1), b=m(2))
    models = {"a": double(), "b": double()}
    stage.serve(shape, models=models)
    first, second = stage.link(models["a"]), stage.link(models["b"])
    first.hold = second.hold = True
    call = stage.ask(x=[1.0], request_timeout_ms="1000")
    await asyncio.sleep(0.7)
    first.answer()
    await asyncio.sleep(0.2)
    assert not call.reply.answered
    assert len(second.waiting) == 1
    await asyncio.sleep(0.2)
    assert (call.reply.status, "node b: " in call.reply.error) == (504, True)
    assert second.cancelled, "what runs for nobody is given up"


async def test_a_client_that_leaves_is_taken_out_of_every_queue(stage):
    shape = graph(main={"ensemble": {"members": [{"node": "a"}, {"node": "b"}], "combine": "sum"}}, a=m(1), b=m(2))
    models = {"a": double(), "b": double()}
    stage.serve(shape, models=models)
    for link in stage.links:
        link.hold = True
    blocking = stage.ask(x=[1.0])
    await turn()
    gone = stage.ask(x=[7.0])
    await turn()
    gone.leave()
    for _ in range(2):
        for link in stage.links:
            if link.waiting:
                link.answer()
        await turn()
    assert await outputs_of(blocking) == {"y": [4.0]}
    assert gone.reply.answers == []
    assert [model.rows for model in models.values()] == [1, 1], "nothing was computed for who had gone"


async def test_a_member_that_fails_ends_the_request_and_the_others_are_given_up(stage):
    shape = graph(main={"ensemble": {"members": [{"node": "a"}, {"node": "b"}], "combine": "sum"}}, a=m(1), b=m(2))

    def refuse(x):
        raise ValueError("not this")

    models = {"a": played(refuse), "b": double()}
    stage.serve(shape, models=models)
    other = stage.link(models["b"])
    other.hold = True
    reply = await reply_of(stage.ask(x=[1.0]))
    assert (reply.status, reply.error) == (500, "node a: not this")
    assert len(other.cancelled) == 1


async def test_a_soft_member_that_fails_is_left_out(stage):
    soft = [
        {"node": "a", "dependency": "Soft"},
        {"node": "b", "dependency": "Soft"},
        {"node": "c", "dependency": "Soft"},
    ]
    shape = graph(main={"ensemble": {"members": soft, "combine": "mean"}}, a=m(1), b=m(2), c=m(3))

    def picky(x):
        if (x > 100).any():
            raise ValueError("too large")
        return x

    stage.serve(shape, models={"a": played(picky), "b": add(2), "c": add(4)})
    assert await outputs_of(stage.ask(x=[3.0])) == {"y": [5.0]}
    assert await outputs_of(stage.ask(x=[300.0])) == {"y": [303.0]}


async def test_where_all_soft_members_fail_the_request_fails(stage):
    soft = [{"node": "a", "dependency": "Soft"}]
    shape = graph(main={"ensemble": {"members": soft, "combine": "mean"}}, a=m(1))

    def refuse(x):
        raise ValueError("never")

    stage.serve(shape, models={"a": played(refuse)})
    assert (await reply_of(stage.ask(x=[3.0]))).error == "node a: never"


async def test_a_soft_step_that_fails_is_passed_over(stage):
    shape = graph(main={"sequence": [{"node": "a", "dependency": "Soft"}, {"node": "b"}]}, a=m(1), b=m(2))

    def clean(x):
        if (x < 0).any():
            raise ValueError("cannot be cleaned")
        return x * 10

    stage.serve(shape, models={"a": played(clean, gives=["x"]), "b": add(1)})
    assert await outputs_of(stage.ask(x=[1.0])) == {"y": [11.0]}
    assert await outputs_of(stage.ask(x=[-1.0])) == {"y": [0.0]}


async def test_one_row_that_fails_its_way_fails_the_request_and_gives_up_the_others(stage):
    shape = graph(main={"switch": [{"when": "x < 0", "node": "a"}, {"node": "b"}]}, a=m(1), b=m(2))

    def refuse(x):
        raise ValueError("no")

    models = {"a": played(refuse), "b": double()}
    stage.serve(shape, models=models)
    stage.link(models["b"]).hold = True
    reply = await reply_of(stage.ask(x=[1.0, -1.0]))
    assert reply.error == "node a: no"
    assert stage.link(models["b"]).cancelled


async def test_a_node_without_workers_is_told_by_name(stage, looptime):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b", "inputs": {"x": "a.y"}}]}, a=m(1), b=m(2))
    models = {"a": double(), "b": double()}
    stage.serve(shape, models=models, workers=False, timeout_s=1.0)
    stage.start("g", models["a"])
    call = stage.ask(x=[1.0])
    await asyncio.sleep(1.1)
    assert call.reply.status == 503
    assert call.reply.error.startswith("node b: no worker was ready")


async def test_an_endpoint_that_goes_answers_what_runs_and_refuses_what_waits(stage):
    stage.serve_model(double(), "other")
    shape = graph(
        main={"sequence": [{"node": "a"}, {"node": "b", "inputs": {"x": "a.y"}}]}, a={"endpoint": "other"}, b=m(1)
    )
    models = {"b": add(1)}
    stage.serve(shape, models=models)
    stage.link(models["b"]).hold = True
    running = stage.ask(x=[1.0])
    for _ in range(3):
        await turn()
    waiting = stage.ask(x=[2.0])
    for _ in range(3):
        await turn()
    stage.gateway.endpoint_gone(("default", "g"))
    assert (waiting.reply.status, waiting.reply.error) == (503, "node b: endpoint g/b was deleted")
    stage.link(models["b"]).answer()
    assert await outputs_of(running) == {"y": [3.0]}


async def test_each_hop_is_counted_at_its_node_and_told_to_the_hook(stage):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b", "inputs": {"x": "a.y"}}]}, a=m(1), b=m(2))
    stage.serve(shape, models={"a": double(), "b": double()})
    told = []
    stage.gateway.services["default", "g"]._hook = lambda exchange, record: told.append((record.node, record.outcome))
    await outputs_of(stage.ask(x=[1.0, 2.0, 3.0]))
    assert told == [("a", "ok"), ("b", "ok")]
    measures = stage.gateway.measures
    assert stage.gateway.services["default", "g"].statistics().workers == 2
    assert {key[1]: (numbers.outcomes, numbers.rows) for key, numbers in measures.items()} == {
        "g": ({"ok": 1}, 3), "g/a": ({"ok": 1}, 3), "g/b": ({"ok": 1}, 3),
    }  # fmt: skip


async def test_nodes_of_one_model_share_its_queue_and_batches_form_across_requests(stage):
    shape = graph(main={"ensemble": {"members": [{"node": "a"}, {"node": "b"}], "combine": "sum"}}, a=m(1), b=m(1))
    model = double()
    stage.serve(shape, models={"a": model, "b": model})
    calls = [stage.ask(x=[float(value)]) for value in range(4)]
    assert [await outputs_of(call) for call in calls] == [{"y": [4.0 * value]} for value in range(4)]
    assert (model.rows, model.batches) == (8, 1)


async def test_tensors_of_every_kind_pass_through(stage):
    kinds = [
        spec("t", "BYTES", (-1, 2)),
        spec("b", "BOOL", (-1,)),
        spec("h", "FP16", (-1, 1, 3)),
        spec("u", "UINT64", (-1,)),
    ]
    model = played(lambda t, b, h, u: {"t2": t, "b2": ~b, "h2": h * 2, "u2": u}, takes=kinds,
                   gives=[spec("t2", "BYTES", (-1, 2)), spec("b2", "BOOL", (-1,)), spec("h2", "FP16", (-1, 1, 3)),
                          spec("u2", "UINT64", (-1,))])  # fmt: skip
    shape = graph(main={"switch": [{"when": "b", "node": "a"}, {"node": "c"}]}, a=m(1), c=m(2))
    other = played(lambda t, b, h, u: {"t2": t[:, ::-1], "b2": b, "h2": h, "u2": u + 1}, takes=kinds,
                   gives=[spec("t2", "BYTES", (-1, 2)), spec("b2", "BOOL", (-1,)), spec("h2", "FP16", (-1, 1, 3)),
                          spec("u2", "UINT64", (-1,))])  # fmt: skip
    stage.serve(shape, models={"a": model, "c": other})
    body = {"inputs": [
        {"name": "t", "datatype": "BYTES", "shape": [2, 2], "data": ["", "ä", "x", "yz"]},
        {"name": "b", "datatype": "BOOL", "shape": [2], "data": [False, True]},
        {"name": "h", "datatype": "FP16", "shape": [2, 1, 3], "data": [1, 2, 3, 4, 5, 6]},
        {"name": "u", "datatype": "UINT64", "shape": [2], "data": [1, 2**64 - 1]},
    ]}  # fmt: skip
    found = await outputs_of(Call(stage, "POST", "/v2/models/g/infer", json.dumps(body).encode(), {}))
    assert found == {"t2": ["ä", "", "x", "yz"], "b2": [False, False], "h2": [1, 2, 3, 8, 10, 12], "u2": [2, 2**64 - 1]}


# With a cache


async def test_answers_of_a_graph_are_kept_until_any_of_its_models_changes(stage):
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b", "inputs": {"x": "a.y"}}]}, a=m(1), b=m(2))
    models = {"a": double(), "b": add(1)}
    keeping = Caching(60.0, 1 << 20)
    stage.serve(shape, models=models, cache=keeping)
    for _ in range(3):
        assert await outputs_of(stage.ask(x=[1.0])) == {"y": [3.0]}
    assert [model.rows for model in models.values()] == [1, 1]
    stage.serve(shape, models={**models, "b": add(10)}, cache=keeping)
    assert await outputs_of(stage.ask(x=[1.0])) == {"y": [12.0]}


async def test_a_unit_that_goes_another_way_is_not_given_the_others_answer(stage):
    shape = graph(
        main={"splitter": {"shares": [{"node": "a", "weight": 1}, {"node": "b", "weight": 1}]}}, a=m(1), b=m(2)
    )
    models = {"a": add(0), "b": add(1)}
    stage.serve(shape, models=models)
    units = [str(number) for number in range(20)]
    without = [(await outputs_of(stage.ask(x=[0.0], mizzen_unit=unit)))["y"] for unit in units]
    stage.serve(shape, models=models, workers=False, cache=Caching(60.0, 1 << 20))
    for _ in range(2):
        assert [(await outputs_of(stage.ask(x=[0.0], mizzen_unit=unit)))["y"] for unit in units] == without
    assert sum(model.rows for model in models.values()) == 40


async def test_where_a_node_is_an_endpoint_whose_versions_share_its_traffic_units_answers_are_kept_apart(stage):
    first, second = add(0), add(1)
    shares = tuple(msgspec.structs.replace(model.version, percent=50) for model in (first, second))
    stage.gateway.endpoint_changed(Endpoint("default", "shared", anonymous=True, versions=shares))
    stage.start("shared", first, second)
    shape = graph(main={"sequence": [{"node": "asked"}]}, asked={"endpoint": "shared"})
    stage.serve(shape, models={}, cache=Caching(60.0, 1 << 20))
    units = [str(number) for number in range(20)]
    alone = [(await outputs_of(stage.ask("shared", x=[0.0], mizzen_unit=unit)))["y"] for unit in units]
    assert {tuple(values) for values in alone} == {(0.0,), (1.0,)}
    for _ in range(2):
        assert [(await outputs_of(stage.ask(x=[0.0], mizzen_unit=unit)))["y"] for unit in units] == alone
    assert first.rows + second.rows == 40, "the second round came from the cache"


# With the prediction log


async def test_what_a_graph_answers_is_logged_once_with_its_own_signature(tmp_path):
    stage = GraphStage(log_folder=tmp_path)
    shape = graph(main={"sequence": [{"node": "a"}, {"node": "b", "inputs": {"x": "a.y"}}]}, a=m(1), b=m(2))
    stage.serve(shape, models={"a": double(), "b": played(refusing_26)}, logging=Logging())
    assert await outputs_of(stage.ask(x=[1.0], mizzen_unit="u7")) == {"y": [2.0]}
    assert (await reply_of(stage.ask(x=[13.0]))).status == 500
    service = stage.gateway.services["default", "g"]
    assert service.recorder.recorded == 2
    (path,) = tmp_path.glob("*/*.ring")
    reader = RingReader.open(path)
    chunks = [decode_chunk(payload) for _, _, payload in reader.frames(1 << 20)]
    reader.close()
    stage.gateway.endpoint_gone(("default", "g"))
    records = [record for chunk in chunks for record in chunk.records]
    assert [(record.status, record.unit) for record in records] == [(200, "u7"), (500, None)]
    assert [np.frombuffer(part, "<f4").tolist() for part in (*chunks[0].inputs, *chunks[0].outputs)] == [[1.0], [2.0]]
    assert {path.parent.name for path in tmp_path.glob("*/*")} == {"default.g"}, "its nodes log nothing of their own"


def refusing_26(x):
    if (x == 26.0).any():
        raise ValueError("not that one")
    return x
