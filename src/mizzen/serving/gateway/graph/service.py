"""An endpoint that is a graph: toward clients a service like any other, whose requests go from node to node.

Each model of the graph has a service of its own, under the endpoint's name and the node's (`fraud/score`), which is in
the metrics under that name: its histograms are those of the hop. Nodes of the same model share one. Workers of the
endpoint belong to the nodes whose versions they have.

What the graph takes and gives follows from its nodes' signatures, and is worked out anew whenever a node gets another
version. While a signature is not known requests wait; where the nodes do not fit (any more) they are refused with the
reason, which the controller tells as a condition as well.
"""

import dataclasses
import hashlib
import operator
import random
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Protocol

import msgspec

from mizzen.kinds import build
from mizzen.kinds.graph import Graph, GraphNode
from mizzen.policy.graph.ports import GraphError, signature_of
from mizzen.policy.graph.typed import Typed, typed
from mizzen.policy.queue import QueueStatistics
from mizzen.serving.gateway.cache.responses import Tiers
from mizzen.serving.gateway.directory import Endpoint, EndpointKey, GraphPlan, Version, Worker
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.graph.hop import Outcome
from mizzen.serving.gateway.graph.nodes import Node, node_of
from mizzen.serving.gateway.graph.run import HopHook, Run, Scope
from mizzen.serving.gateway.link import Link, Owner
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.recorder import Recorder
from mizzen.serving.gateway.served import Served
from mizzen.serving.gateway.service import Service
from mizzen.serving.tensors import Signature, Tensor, TensorSpec

GRAPH_VERSION = 1
"""A graph has no versions of its own: what changes is what its nodes are."""


class Neighbours(Protocol):
    """The gateway, as a graph sees it."""

    def service_of(self, key: EndpointKey) -> Service | None:
        """That endpoint's service."""

    def measures_of(self, key: EndpointKey) -> Measures:
        """Where that endpoint's numbers, or that node's, are kept."""


class _NodeService(Service):
    """One model of a graph. It says so when it gets to know what its model takes."""

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Callable[[], float],
        measures: Measures,
        connect: Callable[[Worker, Owner], Link],
        changed: Callable[[], None],
    ) -> None:
        self._changed: Callable[[], None] | None = None
        super().__init__(endpoint, clock, measures, connect)
        self._changed = changed

    def update(self, endpoint: Endpoint) -> None:
        super().update(endpoint)
        if self._changed is not None:
            self._changed()


class GraphService(Service):
    """Serves one graph."""

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Callable[[], float],
        measures: Measures,
        connect: Callable[[Worker, Owner], Link],
        *,
        tiers: Tiers,
        neighbours: Neighbours,
        recorder: Recorder | None = None,
        hook: HopHook | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._neighbours = neighbours
        self._hook = hook
        self._chance = chance
        self._plan: GraphPlan | None = None
        self._graph: Graph | None = None
        self._nodes: dict[str, _NodeService] = {}
        """By the model's reference."""
        self._all_workers: dict[str, Worker] = {}
        self._goes_by_unit = False
        self._problem: str | None = None
        self._root: Node | None = None
        self._updating = False
        super().__init__(endpoint, clock, measures, connect, tiers=tiers, recorder=recorder, chance=chance)

    # What clients do

    def enqueue(self, exchange: Exchange, served: Served) -> None:
        """Sends the decoded request on its way."""
        decoded = exchange.decoded
        assert decoded is not None, "what is sent on its way is decoded"
        assert self._root is not None, "what gets traffic has been worked out"
        scope = Scope(Run(exchange, self._clock, self._hook, partial(self.refuse, exchange)))
        exchange.run = scope
        inputs = {tensor.name: tensor for tensor in decoded.inputs}
        self._root.begin(scope, inputs, partial(self._ended, exchange, served))

    def variant(self, exchange: Exchange) -> str:
        """The unit, where the graph goes by it."""
        return (exchange.unit or "") if self._goes_by_unit else ""

    @property
    def goes_by_unit(self) -> bool:
        """Whether a splitter does, or what the graph asks."""
        return self._goes_by_unit

    def _ended(self, exchange: Exchange, served: Served, outcome: Outcome) -> None:
        if isinstance(outcome, HttpError):
            self.refuse(exchange, outcome)
        elif not exchange.done:
            self.succeed(exchange, served, [_named(spec, outcome[spec.name]) for spec in served.signature.outputs])

    def choice(self, exchange: Exchange) -> Served | None:
        if not self._traffic.current:
            self.refresh()
        if not self._traffic.current and self._problem is not None:
            raise HttpError(503, self._problem, "unavailable", retry_after_s=1.0)
        return super().choice(exchange)

    @property
    def ready_versions(self) -> list[Version]:
        """The graph, where each of its nodes has a worker."""
        ready = all(service is not None and service.ready_versions for service in map(self._service, self._leaves()))
        return [served.version for served in self._traffic.current] if ready else []

    @property
    def nodes(self) -> Sequence[Service]:
        """The services of its models."""
        return list(self._nodes.values())

    def statistics(self) -> QueueStatistics:
        """How all its queues stand."""
        found = [super().statistics(), *(node.statistics() for node in self._nodes.values())]
        names = [field.name for field in dataclasses.fields(QueueStatistics)]
        return QueueStatistics(**{name: reduce(operator.add, [getattr(one, name) for one in found]) for name in names})

    # What the directory says

    def update(self, endpoint: Endpoint) -> None:
        """The graph is declared so from now on."""
        self.endpoint = endpoint
        plan = endpoint.graph
        assert plan is not None, "made for graphs only"
        if self._graph is None or self._plan is None or plan.spec != self._plan.spec:
            self._graph = Graph.model_validate(plan.spec)
        self._plan = plan
        self._update_by_unit()
        self._updating = True
        self._update_nodes(self._graph, plan)
        self._hand_out_workers()
        self._updating = False
        self.refresh()

    def refresh(self) -> None:
        """A node may take or give something else now."""
        if self._updating or self._graph is None:
            return
        self._problem = self.endpoint.hopeless
        leaves = self._signatures()
        root: Typed | None = None
        if leaves is not None:
            try:
                root = typed(self._graph, leaves)
            except GraphError as error:
                self._problem = f"the graph does not fit together: {error}"
        if root is None:
            self._root = None
            self._traffic.serve(self.endpoint, [])
        else:
            self._serve(root)
        self._goes_by_unit = self._unit_matters(self._graph)
        self._update_cache(self.endpoint)
        if self._traffic.current or self._problem is not None:
            self._unpark()
            self.streams.look_again()

    def add_worker(self, worker: Worker) -> None:
        self._all_workers[worker.uid] = worker
        self._hand_out_workers()

    def remove_worker(self, uid: str) -> None:
        self._all_workers.pop(uid, None)
        for node in self._nodes.values():
            node.remove_worker(uid)

    def close(self) -> None:
        super().close()
        for node in self._nodes.values():
            node.close()

    # Inside

    def _update_nodes(self, graph: Graph, plan: GraphPlan) -> None:
        endpoint = self.endpoint
        wanted: dict[str, Endpoint] = {}
        for node in graph.models:
            wanted.setdefault(
                str(node.model),
                msgspec.structs.replace(
                    endpoint, name=f"{endpoint.name}/{node.name}", graph=None, cache=None, logging=None, hopeless=None,
                    versions=plan.versions.get(node.name, ()),
                ),
            )  # fmt: skip
        for reference in self._nodes.keys() - wanted.keys():
            self._nodes.pop(reference).close()
        for reference, declared in wanted.items():
            found = self._nodes.get(reference)
            if found is not None:
                found.update(declared)
            else:
                measures = self._neighbours.measures_of(declared.key)
                self._nodes[reference] = _NodeService(declared, self._clock, measures, self._connect, self.refresh)

    def _hand_out_workers(self) -> None:
        """Each worker to the nodes that its version is for."""
        for node in self._nodes.values():
            digests = [version.digest.removeprefix("sha256:") for version in node.endpoint.versions]
            for worker in self._all_workers.values():
                if any(digest.startswith(worker.digest_prefix) for digest in digests):
                    node.add_worker(worker)
                else:
                    node.remove_worker(worker.uid)

    def _leaves(self) -> list[GraphNode]:
        nodes = self._graph.nodes if self._graph is not None else []
        return [node for node in nodes if not node.uses]

    def _service(self, node: GraphNode) -> Service | None:
        if node.endpoint is not None:
            return self._neighbours.service_of((self.endpoint.namespace, node.endpoint))
        return self._nodes.get(str(node.model))

    def _signatures(self) -> dict[str, build.Signature] | None:
        """By node; `None` while one is not known."""
        found = {}
        for node in self._leaves():
            service = self._service(node)
            known = service.signature(None) if service is not None else None
            if known is None:
                return None
            found[node.name] = _declared(known[1])
        return found

    def _serve(self, root: Typed) -> None:
        signature = _served(signature_of(root.inputs, root.outputs))
        digest = self._whole_digest()
        current = self._traffic.current
        if current and current[0].digest == digest and current[0].signature == signature:
            return
        self._root = node_of(root, self._target, f"{self.endpoint.namespace}/{self.endpoint.name}", self._chance)
        version = Version(self.endpoint.name, GRAPH_VERSION, digest)
        served = Served(self.endpoint.name, version, signature, self.measures.version(GRAPH_VERSION))
        self._traffic.serve(self.endpoint, [served])

    def _unit_matters(self, graph: Graph) -> bool:
        splitters = [node.splitter for node in graph.nodes if node.splitter is not None]
        services = [service for service in map(self._service, self._leaves()) if service is not None]
        return any(splitter.by is None for splitter in splitters) or any(one.goes_by_unit for one in services)

    def _target(self, name: str) -> Service | None:
        assert self._graph is not None, "a graph that is under way was declared"
        return self._service(self._graph.named(name))

    def _whole_digest(self) -> str:
        """Of the graph as it is declared and of every model that may answer in it: what an answer depends on."""
        parts: list[object] = [self._plan.spec if self._plan is not None else None]
        for node in self._leaves():
            service = self._service(node)
            parts.append(
                [(version.digest, version.percent) for version in service.versions] if service is not None else None
            )
        return "sha256:" + hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def _declared(signature: Signature) -> build.Signature:
    def tensors(specs: Sequence[TensorSpec]) -> list[build.Tensor]:
        return [
            build.Tensor.model_validate({"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)})
            for spec in specs
        ]

    return build.Signature(inputs=tensors(signature.inputs), outputs=tensors(signature.outputs))


def _served(signature: build.Signature) -> Signature:
    def specs(tensors: Sequence[build.Tensor]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)

    return Signature(specs(signature.inputs), specs(signature.outputs))


def _named(spec: TensorSpec, tensor: Tensor) -> Tensor:
    return tensor if tensor.name == spec.name else Tensor(spec.name, tensor.datatype, tensor.shape, tensor.data)
