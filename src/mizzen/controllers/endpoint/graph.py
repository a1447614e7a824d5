"""What an endpoint that is a graph serves next: each of its models as an endpoint of that model alone would serve it.

Two things are the graph's own. What it takes and gives is derived from its models' signatures, and where they do not
fit nothing new is brought up: what is served stays, and the condition `GraphFits` says where and why. And where a new
version of one model fits only with a new version of another, neither gets traffic before both are ready.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.endpoint.decide import (
    READY,
    RESOLVED,
    WORKERS_READY,
    Decision,
    seconds_between,
    traffic_of,
    url_of,
)
from mizzen.controllers.endpoint.sizes import needed
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.build import Signature
from mizzen.kinds.graph import Graph
from mizzen.kinds.meta import condition_named
from mizzen.kinds.names import LABEL_ENDPOINT
from mizzen.kinds.scalars import duration_s
from mizzen.kinds.serve import GraphStatus, InferenceEndpointStatus, NodeStatus, WorkerStatus
from mizzen.policy import rollout
from mizzen.policy.graph.ports import GraphError, signature_of
from mizzen.policy.rollout import Plan, Version, Workers, version_of

FITS = "GraphFits"
Problem = tuple[str, str]
"""Reason and message."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known around one graph."""

    targets: Mapping[str, Version | Problem]
    """By node: the version it asks for, or why there is none."""
    signatures: Mapping[str, Signature]
    """By `ModelVersion` name."""
    endpoints: Mapping[str, Signature | Problem]
    """By node: what the endpoint it names takes and gives."""
    workers: Mapping[str, Workers]
    """By `ModelVersion` name."""
    circle: tuple[str, ...] = ()
    """Endpoints that lead back to this one."""


def decide_graph(
    endpoint: InferenceEndpoint,
    seen: Seen,
    settings: PlatformSettings,
    now: str,
    told: Sequence[WorkerStatus] = (),
    size: Callable[[Version], int] | None = None,
) -> Decision:
    """The decision for one endpoint that is a graph; `told` is what workers tell of themselves, `size` how many a
    version is to have (`sizes`; absent: as many as the spec says).
    """
    graph = endpoint.spec.graph
    assert graph is not None, "asked of graphs only"
    moment = Moment(endpoint.metadata.generation or 0, now)
    status = endpoint.status.model_copy(deep=True)
    before = {node.name: node for node in status.graph.nodes} if status.graph is not None else {}
    known = {node.name: before.get(node.name, NodeStatus(name=node.name)) for node in graph.models}
    problem, signature = _fits(graph, seen, known)
    size = size or (lambda _: endpoint.spec.scaling.replicas)
    plans = {name: _plan(endpoint, node, seen, problem, moment, size) for name, node in known.items()}
    plans = _together(graph, seen, known, plans)
    nodes = [_node_status(known[name], plan, seen.workers, told) for name, plan in plans.items()]
    status.graph = GraphStatus(signature=signature or _served_signature(graph, seen, nodes), nodes=nodes)
    status.traffic, status.candidate, status.workers = [], None, list(told)
    status.url = url_of(endpoint, settings)
    _sum_up(endpoint, status, seen.workers)
    _state(endpoint, status, problem, plans, seen, moment)
    deployments = tuple(dict.fromkeys(version for plan in plans.values() for version in plan.deployments))
    waits = [plan.look_again_s for plan in plans.values() if plan.look_again_s is not None]
    return Decision(status, deployments, _events(endpoint, plans, problem), min(waits, default=None))


def circle_from(name: str, asked: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The shortest way from that endpoint back to itself, over the endpoints that each one's graph asks."""
    ways: list[tuple[str, ...]] = [(name,)]
    met = {name}
    while ways:
        way = ways.pop(0)
        for following in asked.get(way[-1], ()):
            if following == name:
                return (*way, name)
            if following not in met:
                met.add(following)
                ways.append((*way, following))
    return ()


def _fits(graph: Graph, seen: Seen, known: Mapping[str, NodeStatus]) -> tuple[Problem | None, Signature | None]:
    """Why nothing new may be brought up, or what the graph will take and give."""
    if seen.circle:
        return ("Circle", f"spec.graph: expected a graph that ends, found {' -> '.join(seen.circle)}"), None
    for index, node in enumerate(graph.nodes):
        found = seen.targets.get(node.name, seen.endpoints.get(node.name))
        if isinstance(found, tuple):
            reason, message = found
            return (reason, f"spec.graph.nodes[{index}]: {message}"), None
    targets = {name: target for name, target in seen.targets.items() if isinstance(target, Version)}
    try:
        return None, _derived(graph, seen, {name: targets[name].name for name in known})
    except GraphError as error:
        return ("GraphMismatch", f"spec.{error}"), None


def _derived(graph: Graph, seen: Seen, versions: Mapping[str, str]) -> Signature:
    """What the graph takes and gives with these versions, by node. Raises `GraphError`."""
    leaves = {name: signature for name, signature in seen.endpoints.items() if isinstance(signature, Signature)}
    for name, version in versions.items():
        if version not in seen.signatures:
            raise GraphError(f"graph.nodes[{name}]", f"expected a ModelVersion {version}, found none")
        leaves[name] = seen.signatures[version]
    root = importlib.import_module("mizzen.policy.graph.typed").typed(graph, leaves)
    return signature_of(root.inputs, root.outputs)


def _served_signature(graph: Graph, seen: Seen, nodes: list[NodeStatus]) -> Signature | None:
    """Of what gets traffic now; `None` where not every node does, or it is not known any more."""
    serving = {node.name: node.traffic[0].model_version for node in nodes if node.traffic}
    if len(serving) < len(nodes):
        return None
    try:
        return _derived(graph, seen, serving)
    except (GraphError, KeyError):
        return None


def _plan(
    endpoint: InferenceEndpoint, node: NodeStatus, seen: Seen, problem: Problem | None, moment: Moment,
    size: Callable[[Version], int],
) -> Plan:  # fmt: skip
    target = seen.targets[node.name]
    candidate = node.candidate
    return rollout.decide(
        target=target if problem is None and isinstance(target, Version) else None,
        current=node.traffic[0] if node.traffic else None,
        candidate=candidate,
        candidate_age_s=seconds_between(candidate.since, moment.now) if candidate is not None else 0.0,
        workers=seen.workers,
        replicas=size(target) if isinstance(target, Version) else endpoint.spec.scaling.replicas,
        start_timeout_s=duration_s(endpoint.spec.worker.start_timeout),
        spec_changed=endpoint.status.observed_generation != moment.generation,
        now=moment.now,
    )


def _together(graph: Graph, seen: Seen, known: Mapping[str, NodeStatus], plans: Mapping[str, Plan]) -> dict[str, Plan]:
    """Where the switched versions fit only with others that are not ready, they wait beside what they replace."""
    switched = [name for name, plan in plans.items() if plan.switched and known[name].traffic]
    serving = {name: plan.traffic.name for name, plan in plans.items() if plan.traffic is not None}
    if not switched or len(serving) < len(plans):
        return dict(plans)
    try:
        _derived(graph, seen, serving)
    except GraphError:
        held = dict(plans)
        for name in switched:
            old, new = version_of(known[name].traffic[0]), plans[name].traffic
            deployments = (old, new) if new is not None else (old,)
            held[name] = dataclasses.replace(
                plans[name], traffic=old, candidate=known[name].candidate, deployments=deployments, switched=False
            )
        return held
    return dict(plans)


def _node_status(
    before: NodeStatus, plan: Plan, workers: Mapping[str, Workers], told: Sequence[WorkerStatus]
) -> NodeStatus:
    name = before.name
    serving = plan.traffic
    if serving is None:
        return NodeStatus(name=name, candidate=plan.candidate)
    found = workers.get(serving.name)
    ready = found.ready if found is not None else 0
    return NodeStatus(
        name=name, traffic=[traffic_of(serving, told, before.traffic)], candidate=plan.candidate, ready_replicas=ready
    )


def _sum_up(endpoint: InferenceEndpoint, status: InferenceEndpointStatus, workers: Mapping[str, Workers]) -> None:
    """The numbers of all models' workers; nodes of one version share them."""
    nodes = status.graph.nodes if status.graph is not None else []
    versions = {traffic.model_version: traffic for node in nodes for traffic in node.traffic}
    found = [workers[name] for name in versions if name in workers]
    status.replicas = sum(one.wanted for one in found)
    status.ready_replicas = sum(one.ready for one in found)
    status.selector = f"{LABEL_ENDPOINT}={endpoint.name}"
    whole = bool(nodes) and all(node.traffic for node in nodes)
    names = [f"{traffic.model}:{traffic.version}" for traffic in versions.values()]
    status.serving = ", ".join(names) if whole else None


def _state(
    endpoint: InferenceEndpoint,
    status: InferenceEndpointStatus,
    problem: Problem | None,
    plans: Mapping[str, Plan],
    seen: Seen,
    moment: Moment,
) -> None:
    """Ready: the graph as it is declared answers, each model by as many workers as it asks for."""
    if problem is not None:
        moment.state(status, FITS, "False", *problem)
    else:
        moment.state(status, FITS, "True", "Fits", "every node gets what it takes")
    missing = next((target for target in seen.targets.values() if isinstance(target, tuple)), None)
    if missing is not None:
        moment.state(status, RESOLVED, "False", *missing)
    else:
        moment.state(status, RESOLVED, "True", "Resolved", "every model has the version asked for")
    replicas = needed(endpoint, "")
    short = [name for name, plan in plans.items() if _ready(plan, seen.workers) < replicas]
    counted = "all workers ready" if not short else f"workers missing at {', '.join(short)}"
    moment.state(status, WORKERS_READY, "False" if short else "True", "WorkersMissing" if short else "Ready", counted)
    meanwhile = f"; {status.serving} stays served" if status.serving is not None else ""
    under_way = {name: plan.candidate for name, plan in plans.items() if plan.candidate is not None}
    failed = next(((name, one) for name, one in under_way.items() if one.phase == "Failed"), None)
    if problem is not None:
        moment.state(status, READY, "False", problem[0], problem[1] + meanwhile)
    elif failed is not None:
        message = f"node {failed[0]}: version {failed[1].version} did not come up: {failed[1].message}{meanwhile}"
        moment.state(status, READY, "False", "VersionFailed", message)
    elif under_way or status.serving is None:
        what = ", ".join(f"{name} version {one.version}" for name, one in under_way.items())
        moment.state(status, READY, "False", "VersionStarting", f"being brought up: {what}{meanwhile}")
    elif short:
        moment.state(status, READY, "False", "WorkersMissing", counted)
    else:
        moment.state(status, READY, "True", "Serving", f"{status.serving} answer: {counted}")


def _ready(plan: Plan, workers: Mapping[str, Workers]) -> int:
    found = workers.get(plan.traffic.name) if plan.traffic is not None else None
    return found.ready if found is not None else -1


def _events(endpoint: InferenceEndpoint, plans: Mapping[str, Plan], problem: Problem | None) -> tuple[Happened, ...]:
    events: list[Happened] = []
    for name, plan in plans.items():
        if plan.switched and plan.traffic is not None:
            events.append(
                Happened("Normal", "Serving", f"{plan.traffic.model}:{plan.traffic.version} answers at {name}")
            )
        if plan.gave_up and plan.candidate is not None:
            what = f"version {plan.candidate.version} was given up at {name}: {plan.candidate.message}"
            events.append(Happened("Warning", "VersionFailed", what))
    fits = condition_named(endpoint.status.conditions, FITS)
    if problem is not None and (fits is None or fits.reason != problem[0]):
        events.append(Happened("Warning", *problem))
    return tuple(events)
