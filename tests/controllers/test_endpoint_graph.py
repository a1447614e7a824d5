"""InferenceEndpoint of a graph: each model is rolled out by itself, what does not fit is not, and the status tells."""

from typing import Any

from lightkube.resources.apps_v1 import Deployment
from tests.controllers.builders import SETTINGS, T0, T1, metadata

from mizzen.controllers.endpoint.decide import Decision
from mizzen.controllers.endpoint.graph import Seen, circle_from, decide_graph
from mizzen.controllers.endpoint.sizes import sizes
from mizzen.controllers.endpoint.workers import deployment_for, deployment_name
from mizzen.controllers.scaling.following import Followed
from mizzen.controllers.scaling.graphs import endpoint_of, served_by, together
from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.build import Signature
from mizzen.kinds.meta import condition_named
from mizzen.kube.resources import Key
from mizzen.policy.rollout import Version, Workers
from mizzen.policy.scaling.decision import Decision as ScaleDecision
from mizzen.policy.scaling.settings import settings_of

CHAIN = {
    "nodes": [
        {"name": "main", "sequence": [{"node": "a"}, {"node": "b"}]},
        {"name": "a", "model": "clean@production"},
        {"name": "b", "model": "score@production"},
    ]
}


def signature(takes: str, gives: str, datatype: str = "FP32") -> Signature:
    def tensors(name: str) -> list[dict[str, Any]]:
        return [{"name": name, "datatype": datatype, "shape": [-1, 2]}]

    return Signature.model_validate({"inputs": tensors(takes), "outputs": tensors(gives)})


def version(model: str, number: int = 1) -> Version:
    return Version(f"{model}-{number}", model, number, f"sha256:{hash((model, number)) % 2**64:064x}")


SIGNATURES = {
    "clean-1": signature("x", "y"),
    "clean-2": signature("x", "z"),
    "score-1": signature("y", "p"),
    "score-2": signature("z", "p"),
    "score-3": signature("y", "p"),
}
# one output into one input fits whatever their names are, so names alone do not make a mismatch here
WRONG = {**SIGNATURES, "clean-2": signature("x", "z", "INT64"), "score-2": signature("z", "p", "INT64")}


def endpoint(status: dict[str, Any] | None = None, **spec: Any) -> InferenceEndpoint:
    return InferenceEndpoint.model_validate(
        {"metadata": metadata("g"), "spec": {"graph": CHAIN, **spec}, "status": status or {}}
    )


def seen(a: Any = None, b: Any = None, ready: tuple[str, ...] = (), **more: Any) -> Seen:
    targets = {"a": a or version("clean"), "b": b or version("score")}
    workers = {name: Workers(wanted=1, ready=1) for name in ready}
    return Seen(**{"targets": targets, "signatures": SIGNATURES, "endpoints": {}, "workers": workers, **more})


def stated(decision: Decision, type_: str) -> tuple[str, str, str]:
    condition = condition_named(decision.status.conditions, type_)
    assert condition is not None
    return condition.status, condition.reason, condition.message


def traffic(decision: Decision) -> dict[str, str | None]:
    assert decision.status.graph is not None
    nodes = decision.status.graph.nodes
    return {node.name: node.traffic[0].model_version if node.traffic else None for node in nodes}


def up(**more: Any) -> Decision:
    return decide_graph(endpoint(), seen(ready=("clean-1", "score-1"), **more), SETTINGS, T0)


def test_each_model_gets_workers_and_then_traffic() -> None:
    starting = decide_graph(endpoint(), seen(), SETTINGS, T0)
    assert {one.name for one in starting.deployments} == {"clean-1", "score-1"}
    assert stated(starting, "Ready")[:2] == ("False", "VersionStarting")
    half = decide_graph(endpoint(starting.status.to_wire()), seen(ready=("clean-1",)), SETTINGS, T1)
    assert traffic(half) == {"a": "clean-1", "b": None}
    assert half.status.serving is None
    whole = up()
    assert traffic(whole) == {"a": "clean-1", "b": "score-1"}
    assert stated(whole, "Ready") == ("True", "Serving", "clean:1, score:1 answer: all workers ready")
    assert whole.status.url == "http://127.0.0.1:7080/v2/models/g"
    assert whole.status.graph is not None
    assert whole.status.graph.signature == signature("x", "p")
    assert (whole.status.replicas, whole.status.ready_replicas) == (2, 2)


def test_what_does_not_fit_is_not_brought_up_and_the_old_stays() -> None:
    before = up().status.to_wire()
    ready = ("clean-1", "score-1", "clean-2")
    decision = decide_graph(endpoint(before), seen(a=version("clean", 2), ready=ready, signatures=WRONG), SETTINGS, T1)
    assert traffic(decision) == {"a": "clean-1", "b": "score-1"}
    assert {one.name for one in decision.deployments} == {"clean-1", "score-1"}
    assert stated(decision, "GraphFits") == (
        "False",
        "GraphMismatch",
        "spec.graph.nodes[0].sequence[1].inputs.y: expected FP32[-1, 2], found a.z of INT64[-1, 2]",
    )
    assert stated(decision, "Ready")[:2] == ("False", "GraphMismatch")
    assert "clean:1, score:1 stays served" in stated(decision, "Ready")[2]
    assert [event.reason for event in decision.events] == ["GraphMismatch"]
    assert decision.status.graph is not None
    assert decision.status.graph.signature == signature("x", "p"), "of what is served"


def test_versions_that_fit_only_together_get_traffic_together() -> None:
    before = up().status.to_wire()
    both = {"a": version("clean", 2), "b": version("score", 2)}
    one_ready = seen(**both, ready=("clean-1", "score-1", "clean-2"), signatures=WRONG)
    waiting = decide_graph(endpoint(before), one_ready, SETTINGS, T1)
    assert traffic(waiting) == {"a": "clean-1", "b": "score-1"}, "the first that is ready waits for the other"
    assert {one.name for one in waiting.deployments} == {"clean-1", "clean-2", "score-1", "score-2"}
    all_ready = seen(**both, ready=("clean-1", "score-1", "clean-2", "score-2"), signatures=WRONG)
    switched = decide_graph(endpoint(waiting.status.to_wire()), all_ready, SETTINGS, T1)
    assert traffic(switched) == {"a": "clean-2", "b": "score-2"}
    assert {one.name for one in switched.deployments} == {"clean-2", "score-2"}


def test_a_version_that_fits_beside_the_others_goes_ahead_alone() -> None:
    before = up().status.to_wire()
    ready = ("clean-1", "score-1", "score-3")
    decision = decide_graph(endpoint(before), seen(b=version("score", 3), ready=ready), SETTINGS, T1)
    assert traffic(decision) == {"a": "clean-1", "b": "score-3"}
    assert [(event.reason, event.message) for event in decision.events] == [("Serving", "score:3 answers at b")]


def test_a_model_that_is_missing_is_told_with_its_path_and_the_rest_stays() -> None:
    before = up().status.to_wire()
    missing = seen(
        a=("ModelMissing", "model: expected an existing Model, found no clean"), ready=("clean-1", "score-1")
    )
    decision = decide_graph(endpoint(before), missing, SETTINGS, T1)
    assert traffic(decision) == {"a": "clean-1", "b": "score-1"}
    expected = "spec.graph.nodes[1]: model: expected an existing Model, found no clean; clean:1, score:1 stays served"
    assert stated(decision, "Ready") == ("False", "ModelMissing", expected)


def test_a_version_that_fails_is_told_with_its_node() -> None:
    broken = {
        "clean-1": Workers(wanted=1, ready=1),
        "score-1": Workers(wanted=1, ready=0, restarts=5, trouble="corrupt model"),
    }
    decision = decide_graph(endpoint(), seen(workers=broken), SETTINGS, T0)
    assert stated(decision, "Ready") == ("False", "VersionFailed", "node b: version 1 did not come up: corrupt model")


def test_nodes_of_one_model_share_its_workers() -> None:
    same = {"nodes": [
        {"name": "main", "ensemble": {"members": [{"node": "a"}, {"node": "b"}], "combine": "mean"}},
        {"name": "a", "model": "clean:1"}, {"name": "b", "model": "clean:1"},
    ]}  # fmt: skip
    decision = decide_graph(endpoint(graph=same), seen(b=version("clean"), ready=("clean-1",)), SETTINGS, T0)
    assert [one.name for one in decision.deployments] == ["clean-1"]
    assert (decision.status.replicas, decision.status.serving) == (1, "clean:1")


def test_circles_over_endpoints_are_found() -> None:
    asked = {"a": ("b", "c"), "b": ("c",), "c": ("d",), "d": ("b",)}
    assert circle_from("a", asked) == ()
    assert circle_from("b", asked) == ("b", "c", "d", "b")
    assert circle_from("x", {"x": ("x",)}) == ("x", "x")
    decision = decide_graph(endpoint(), seen(circle=("g", "h", "g")), SETTINGS, T0)
    assert decision.deployments == ()
    assert stated(decision, "GraphFits")[2] == "spec.graph: expected a graph that ends, found g -> h -> g"


def test_an_endpoint_that_is_a_node_has_to_serve() -> None:
    graph = {"nodes": [{"name": "main", "sequence": [{"node": "b"}, {"node": "e"}]},
                       {"name": "b", "model": "score:1"}, {"name": "e", "endpoint": "other"}]}  # fmt: skip
    targets = {"b": version("score")}
    waiting = seen(targets=targets, endpoints={"e": ("EndpointNotServing", "endpoint: expected other to serve")})
    decision = decide_graph(endpoint(graph=graph), waiting, SETTINGS, T0)
    assert stated(decision, "Ready")[:2] == ("False", "EndpointNotServing")
    serving = seen(targets=targets, endpoints={"e": signature("p", "q")}, ready=("score-1",))
    decision = decide_graph(endpoint(graph=graph), serving, SETTINGS, T0)
    assert stated(decision, "Ready")[:2] == ("True", "Serving")
    assert decision.status.graph is not None
    assert decision.status.graph.signature == signature("y", "q")


def deployed(numbers: dict[str, int], of: InferenceEndpoint) -> dict[str, Deployment]:
    versions = {"clean-1": version("clean"), "score-1": version("score")}
    return {
        deployment_name("g", versions[name]): deployment_for(of, versions[name], SETTINGS, number)
        for name, number in numbers.items()
    }


def test_each_model_follows_its_own_load_and_a_new_version_is_as_large_as_its_own_before() -> None:
    """Of two models with one and three workers, each is left as found; their new versions begin with one and three."""
    elastic = {"minReplicas": 1, "maxReplicas": 5}
    now = endpoint(up().status.to_wire(), scaling=elastic)
    size = sizes(now, deployed({"clean-1": 1, "score-1": 3}, now))
    assert [size(version("clean")), size(version("score"))] == [1, 3]
    assert [size(version("clean", 2)), size(version("score", 2))] == [1, 3]
    workers = {"score-1": Workers(wanted=3, ready=3), "score-3": Workers(wanted=3, ready=2)}
    workers |= {"clean-1": Workers(wanted=1, ready=1)}
    asked = seen(b=version("score", 3), workers=workers)
    assert traffic(decide_graph(now, asked, SETTINGS, T1, size=size))["b"] == "score-1", "two are fewer than three"
    workers["score-3"] = Workers(wanted=3, ready=3)
    asked = seen(b=version("score", 3), workers=workers)
    assert traffic(decide_graph(now, asked, SETTINGS, T1, size=size))["b"] == "score-3"


def test_what_of_a_graph_is_followed_is_named_as_gateways_report_it() -> None:
    """A model for its first node; a version once, whoever asks for it; and never more than there is."""
    assert served_by(endpoint(up().status.to_wire())) == {"g/a": version("clean"), "g/b": version("score")}
    assert served_by(endpoint()) == {}
    assert endpoint_of(Key("default", "g/a")) == Key("default", "g")
    again = [
        {"name": "main", "sequence": [{"node": name} for name in "acdb"]},
        *CHAIN["nodes"][1:],
        {"name": "c", "model": "clean@production"},
        {"name": "d", "model": "clean:1"},
    ]
    status = up().status.to_wire()
    status["graph"]["nodes"] += [{**status["graph"]["nodes"][0], "name": name} for name in ("c", "d")]
    assert set(served_by(endpoint(status, graph={"nodes": again}))) == {"g/a", "g/b"}


def test_one_decision_tells_of_all_models() -> None:
    settings = settings_of(endpoint(scaling={"minReplicas": 1, "maxReplicas": 5}).spec)
    assert settings is not None
    followed = Followed(settings)
    one, two = ScaleDecision(1, "concurrency", "little"), ScaleDecision(3, "rate", "much", again_s=1.0)
    _, both = together({"g/a": (followed, one), "g/b": (followed, two)})
    assert (both.desired, both.rule, both.why) == (4, "a 1 by concurrency, b 3 by rate", "a: little; b: much")
    assert both.again_s == 1.0
    assert together({"g/a": (followed, one)}) == (followed, one)
