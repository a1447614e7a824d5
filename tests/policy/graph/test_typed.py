"""What a graph takes and gives follows from its models; what does not fit is told with its path."""

from typing import Any

import pytest

from mizzen.kinds.build import Signature
from mizzen.kinds.graph import Graph
from mizzen.policy.graph.ports import GraphError, Type, signature_of
from mizzen.policy.graph.typed import typed


def leaf(takes: dict[str, str], gives: dict[str, str]) -> Signature:
    """Types as `FP32 -1 3`."""

    def ports(texts: dict[str, str]) -> dict[str, Type]:
        return {name: Type(text.split()[0], tuple(map(int, text.split()[1:]))) for name, text in texts.items()}

    return signature_of(ports(takes), ports(gives))


X3, Y1, ROWS = "FP32 -1 3", "FP32 -1 1", "FP32 -1"
LEAVES = {
    "a": leaf({"x": X3}, {"y": Y1}),
    "b": leaf({"z": Y1}, {"p": Y1}),
    "c": leaf({"x": "FP32 -1 -1", "w": "INT64 -1"}, {"y": Y1}),
    "d": leaf({"x": X3}, {"y": "FP64 -1 1"}),
    "e": leaf({"x": X3}, {"x": X3}),
    "f": leaf({"x": "FP32 2 3"}, {"y": "FP32 2 1"}),
    "g": leaf({"x": X3}, {"y": Y1, "z": Y1}),
    "t": leaf({"x": X3}, {"label": "BYTES -1"}),
}


def graph(main: dict[str, Any], *leaves: str, **others: Any) -> Graph:
    nodes = [{"name": "main", **main}, *({"name": name, **body} for name, body in others.items())]
    return Graph.model_validate({"nodes": [*nodes, *({"name": name, "model": f"{name}:1"} for name in leaves)]})


def seq(*steps: Any) -> dict[str, Any]:
    return {"sequence": [step if isinstance(step, dict) else {"node": step} for step in steps]}


def ens(*members: Any, **more: Any) -> dict[str, Any]:
    return {"ensemble": {"members": [m if isinstance(m, dict) else {"node": m} for m in members], **more}}


def switch(*cases: tuple[str | None, str]) -> dict[str, Any]:
    return {"switch": [{"when": when, "node": node} if when else {"node": node} for when, node in cases]}


@pytest.mark.parametrize(
    ("given", "takes", "gives"),
    [
        (graph(seq("a", "b"), "a", "b"), {"x": X3}, {"p": Y1}),
        (graph(seq("e", {"node": "c", "inputs": {"w": "inputs.w"}}), "e", "c"),
         {"x": X3, "w": "INT64 -1"}, {"y": Y1}),
        (graph(ens("a", "c", combine="mean"), "a", "c"), {"x": X3, "w": "INT64 -1"}, {"y": Y1}),
        (graph(ens("a", "a", combine="concat"), "a"), {"x": X3}, {"y": "FP32 -1 2"}),
        (graph(ens("a", "t"), "a", "t"), {"x": X3}, {"y": Y1, "label": "BYTES -1"}),
        (graph(switch(("x[0] > 1", "a"), (None, "c")), "a", "c"), {"x": X3, "w": "INT64 -1"}, {"y": Y1}),
        (graph({"splitter": {"by": "w", "shares": [{"node": "a", "weight": 1}, {"node": "c", "weight": 1}]}}, "a", "c"),
         {"x": X3, "w": "INT64 -1"}, {"y": Y1}),
        (graph(seq("e", "inner"), "e", "a", inner=switch(("max(x) > 1", "a"), (None, "a"))), {"x": X3}, {"y": Y1}),
        (graph({"model": "m:1"}), {"x": X3}, {"y": Y1}),
    ],
)  # fmt: skip
def test_the_signature_follows_from_the_models(given, takes, gives):
    root = typed(given, {**LEAVES, "main": LEAVES["a"]})
    assert signature_of(root.inputs, root.outputs) == leaf(takes, gives)


WRONG = [
    (graph(seq("a", "d"), "a", "d"), "graph.nodes[0].sequence[1].inputs.x: expected FP32[-1, 3], found a.y of FP32[-1, 1]"),
    (graph(seq("a", "c"), "a", "c"), "graph.nodes[0].sequence[1].inputs.w: expected to know where w INT64[-1] comes from"),
    (graph(seq("a", {"node": "b", "inputs": {"z": "a.no"}}), "a", "b"),
     "graph.nodes[0].sequence[1].inputs.z: expected one of what a gives (y FP32[-1, 1]), found no"),
    (graph(seq({"node": "a", "inputs": {"x": "b.p"}}, "b"), "a", "b"),
     "graph.nodes[0].sequence[0].inputs.x: expected a tensor of one of inputs, found one of b"),
    (graph(seq("a", {"node": "b", "inputs": {"no": "a.y"}}), "a", "b"),
     "graph.nodes[0].sequence[1].inputs.no: expected one of what b takes (z FP32[-1, 1])"),
    (graph({**seq("a", "b"), "outputs": {"q": "inputs.no"}}, "a", "b"),
     "graph.nodes[0].outputs.q: expected one of what the node takes (x FP32[-1, 3]), found no"),
    (graph(seq({"node": "a", "dependency": "Soft"}, "b"), "a", "b"),
     "graph.nodes[0].sequence[0].dependency: expected a Soft step to give only what it takes"),
    (graph(ens("a", "d", combine="mean"), "a", "d"),
     "graph.nodes[0].ensemble.combine: y: expected members that give the same, found FP32[-1, 1], FP64[-1, 1]"),
    (graph(ens("a", "d"), "a", "d"), "graph.nodes[0].ensemble: expected different outputs, found y of a and of d"),
    (graph(ens("t", combine="mean"), "t"), "graph.nodes[0].ensemble.combine: label: expected numbers for mean, found BYTES"),
    (graph(ens("a", "t", combineOutputs={"y": "max"}), "a", "t"),
     "graph.nodes[0].ensemble.members[1]: expected the output y, found label BYTES[-1]"),
    (graph(ens({"node": "a", "inputs": {"x": "d.y"}}), "a"), "graph.nodes[0].ensemble.members[0].inputs.x: expected inputs.NAME"),
    (graph(ens({"node": "a", "dependency": "Soft"}, "t"), "a", "t"),
     "graph.nodes[0].ensemble.members[0].dependency: expected Hard where nothing is combined"),
    (graph(ens("a", "f", combine="mean"), "a", "f"), None),
    (graph(switch(("x[0] > 1", "a"), (None, "d")), "a", "d"), "graph.nodes[0].switch[1]: y: expected FP32[-1, 1]"),
    (graph(switch(("x[0] > 1", "a"), (None, "t")), "a", "t"), "graph.nodes[0].switch[1]: expected the same outputs"),
    (graph(switch(("x[0] > 1", "a"), ("x[1] > 1", "a")), "a"), "graph.nodes[0].switch: expected a last case without `when`"),
    (graph(switch(("x[7] > 1", "a"), (None, "a")), "a"),
     "graph.nodes[0].switch[0].when: expected a column below 3, found 7 (column 1)"),
    (graph(switch(("score > 1", "a"), (None, "a")), "a"),
     "graph.nodes[0].switch[0].when: expected an input of known type (x FP32[-1, 3]), found score: declare it"),
    (graph(switch(("x[0] >", "a"), (None, "a")), "a"), "graph.nodes[0].switch[0].when: expected an expression"),
    (graph({"splitter": {"by": "user", "shares": [{"node": "a", "weight": 1}]}}, "a"),
     "graph.nodes[0].splitter.by: expected an input of known type"),
    (graph(seq("a", "e"), "a", "e"), "graph.nodes[0].sequence[1].inputs.x: expected FP32[-1, 3], found a.y"),
    (graph(seq("g", "g"), "g"), "graph.nodes[0].sequence[0]: expected what g gives (y FP32[-1, 1], z FP32[-1, 1]) to be taken"),
    (graph(seq("a", "inner"), "a", "b", inner=ens("b", "b")), "graph.nodes[1].ensemble: expected different outputs"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_what_does_not_fit_is_told_with_its_path(given, message):
    if message is None:
        root = typed(given, LEAVES)
        assert not root.by_row, "one that takes two rows always is not judged row by row"
        return
    with pytest.raises(GraphError) as raised:
        typed(given, LEAVES)
    assert str(raised.value).startswith(message)


def test_a_switch_over_what_is_no_rows_may_not_look_at_rows():
    mixed = {**LEAVES, "f": leaf({"x": X3, "k": "FP32 2"}, {"y": Y1})}
    with pytest.raises(GraphError, match=r"expected a first dimension of any length"):
        typed(graph(switch(("x[0] > 1", "f"), (None, "f")), "f"), mixed)


def test_a_graph_that_would_ask_without_end_is_refused_at_once():
    """Sixty levels, each of which asks the next twice: 2 to the 60 hops."""
    nodes = [{"name": f"n{i}", **ens(f"n{i + 1}", f"n{i + 1}", combine="mean")} for i in range(60)]
    deep = Graph.model_validate({"nodes": [*nodes, {"name": "n60", "model": "m:1"}]})
    with pytest.raises(GraphError, match=f"graph: expected a request to be sent to at most 256 models, found {2**60}"):
        typed(deep, {"n60": LEAVES["a"]})
