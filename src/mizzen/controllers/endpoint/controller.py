"""Reconciles InferenceEndpoints: load, decide (`decide.py`), apply.

Deployments are made before the status says that a version is on its way, and taken away after the status has moved the
traffic: whatever moment this process dies at, what has traffic has workers.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Pod

from mizzen.controllers.endpoint.decide import Decision, decide, resolved
from mizzen.controllers.endpoint.explainers import explainers_of, state_explaining
from mizzen.controllers.endpoint.graph import Seen, circle_from, decide_graph
from mizzen.controllers.endpoint.lookups import state_lookups
from mizzen.controllers.endpoint.placing import Peaks, placing
from mizzen.controllers.endpoint.reports import Reports
from mizzen.controllers.endpoint.sizes import sizes
from mizzen.controllers.endpoint.starts import Starts
from mizzen.controllers.endpoint.workers import (
    deployment_facts,
    deployment_for,
    deployment_name,
    labels,
    must_apply,
    observed,
    pod_facts,
    worker_status,
)
from mizzen.controllers.featureview.users import Users
from mizzen.controllers.indexes import MODEL, model_of
from mizzen.controllers.jobs import MANAGED_BY
from mizzen.controllers.platform import FIELD_MANAGER, Platform, ResourceController
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import FeatureView, InferenceEndpoint, Model, ModelVersion
from mizzen.kinds.build import Signature
from mizzen.kinds.graph import Graph
from mizzen.kinds.names import LABEL_ENDPOINT, LABEL_EXPLAINS, ModelReference
from mizzen.kinds.serve import WorkerStatus
from mizzen.kube.errors import NotFound
from mizzen.kube.resources import Key, meta_of
from mizzen.kube.runtime import Result, Watch, differs, labelled
from mizzen.policy.rollout import Version, Workers, version_of

SETTINGS_RETRY_S = 5.0
WORKERS_SHOWN_MAX = 50
"""In the status: it is for people, and an object has its limits."""


class EndpointController(ResourceController):
    """Keeps workers of the right model version running, and says which version gets traffic."""

    name = "endpoint"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        informers = platform.informers
        self._endpoints = informers.of(InferenceEndpoint)
        self._models = informers.of(Model)
        self._versions = informers.of(ModelVersion)
        self._deployments = informers.of(Deployment, labels=MANAGED_BY)
        self._endpoints.add_index("model", _model_of)
        self._endpoints.add_index("asked", _asked)
        self._views = informers.of(FeatureView)
        self._endpoints.add_index("looked up", _looked_up)
        self._versions.add_index(MODEL, model_of)
        self._deployments.add_index("endpoint", _endpoint_of)
        self._deployments.add_index("explains", _explains)
        platform.pods.add_index("endpoint", _endpoint_of)
        self._peaks = Peaks()
        self._endpoints.subscribe(self._peaks.seen)
        self._reports = Reports(time.monotonic, self._look_again)
        self._starts = Starts(time.monotonic)
        platform.pods.subscribe(self._starts.seen)
        platform.pods.subscribe(self._reports.seen)

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._endpoints),
            Watch(self._endpoints, lambda endpoint: self._asking(f"{endpoint.namespace}/{endpoint.name}")),
            Watch(self._models, lambda model: self._of_model(f"{model.namespace}/{model.name}")),
            Watch(self._versions, lambda version: self._of_model(f"{version.namespace}/{version.spec.model}")),
            Watch(self._views, self._looking_up),
            Watch(self._deployments, labelled(LABEL_ENDPOINT), differs(deployment_facts)),
            Watch(self._deployments, labelled(LABEL_EXPLAINS)),
            Watch(self.platform.pods, labelled(LABEL_ENDPOINT), differs(pod_facts)),
        )

    def _of_model(self, model: str) -> Iterable[Key]:
        return [Key(endpoint.namespace, endpoint.name) for endpoint in self._endpoints.by_index("model", model)]

    def _asking(self, name: str) -> Iterable[Key]:
        """The graphs of which that endpoint is a node."""
        return [Key(endpoint.namespace, endpoint.name) for endpoint in self._endpoints.by_index("asked", name)]

    def _looking_up(self, view: FeatureView) -> Iterable[Key]:
        """The endpoints that look up in a view."""
        found = self._endpoints.by_index("looked up", f"{view.namespace}/{view.name}")
        return [Key(endpoint.namespace, endpoint.name) for endpoint in found]

    async def reconcile(self, key: Key) -> Result | None:
        endpoint = self._endpoints.at(key)
        if endpoint is None or endpoint.metadata.deletion_timestamp is not None:
            return None
        settings = self.settings_or_none(endpoint)
        if settings is None:
            return Result(after_s=SETTINGS_RETRY_S)
        found = {meta_of(one).name: one for one in self._deployments.by_index("endpoint", str(key))}
        size = sizes(endpoint, found)
        decision = self._decision(endpoint, found, settings, key, size)
        wanted: set[str] = set()
        for version in decision.deployments:
            name = deployment_name(endpoint.name, version)
            wanted.add(name)
            there, candidate = found.get(name), endpoint.status.candidate
            failed_on = candidate.failed_on if candidate and candidate.model_version == version.name else ()
            placed = placing(endpoint, there, self._peaks.of(version.digest), failed_on)
            deployment = deployment_for(endpoint, version, settings, size(version), placed)
            if must_apply(deployment, there):
                await self._apply(deployment, there)
        explainers = {meta_of(one).name: one for one in self._deployments.by_index("explains", str(key))}
        state_explaining(endpoint, decision.status, explainers, self.platform.now_text())
        lookups = state_lookups(endpoint, decision.status, self._views_of(endpoint), self.platform.now())
        await self.platform.write_status(endpoint, endpoint.status, decision.status)
        self.platform.tell(endpoint, (*decision.events, *lookups.events))
        wanted_too = explainers_of(endpoint, decision.status, settings)
        for name, deployment in wanted_too.items():
            if must_apply(deployment, explainers.get(name)):
                await self.platform.client.apply(deployment, field_manager=FIELD_MANAGER, force=True)
        for name in (found.keys() - wanted) | (explainers.keys() - wanted_too.keys()):
            await self._delete(endpoint, name)
        pauses = [pause_s for pause_s in (decision.look_again_s, lookups.look_again_s) if pause_s is not None]
        return Result(after_s=min(pauses)) if pauses else None

    def _views_of(self, endpoint: InferenceEndpoint) -> dict[str, FeatureView]:
        """The views that it looks up in, by name."""
        found = {name: self._views.get(endpoint.namespace, name) for name in Users.named_by(endpoint)}
        return {name: view for name, view in found.items() if view is not None}

    async def _apply(self, deployment: Deployment, there: Deployment | None) -> None:
        """Raises `Conflict` where it is not as it was seen: `controllers/scaling` may have set another number."""
        if there is not None and deployment.metadata is not None:
            deployment.metadata.resourceVersion = meta_of(there).resource_version
        self._deployments.wrote(await self.platform.client.apply(deployment, field_manager=FIELD_MANAGER, force=True))

    def _look_again(self, key: Key) -> None:
        self.queue.add(key)

    def _decision(
        self, endpoint: InferenceEndpoint, found: dict[str, Deployment], settings: PlatformSettings, key: Key,
        size: Callable[[Version], int],
    ) -> Decision:  # fmt: skip
        now = self.platform.now_text()
        if endpoint.spec.graph is not None:
            around = self._around(endpoint, endpoint.spec.graph, found)
            told = self._told(endpoint, around.targets.values(), key)
            return decide_graph(endpoint, around, settings, now, told, size)
        target = self._target(endpoint, endpoint.spec.model or "", "spec.model")
        workers, told = self._workers(endpoint, [target], found), self._told(endpoint, [target], key)
        replicas = size(target) if isinstance(target, Version) else None
        return decide(endpoint, target, workers, settings, now, told, replicas=replicas)

    def _around(self, endpoint: InferenceEndpoint, graph: Graph, found: dict[str, Deployment]) -> Seen:
        """What is known around a graph."""
        namespace, targets, endpoints = endpoint.namespace, {}, {}
        for index, node in enumerate(graph.nodes):
            if node.model is not None:
                targets[node.name] = self._target(endpoint, node.model, f"spec.graph.nodes[{index}].model")
            elif node.endpoint is not None:
                endpoints[node.name] = self._signature_of(namespace, node.endpoint)
        versions = _versions(endpoint, targets.values())
        known = {version.name: self._versions.get(namespace, version.name) for version in versions}
        asked = {other.name: tuple(endpoints_of(other)) for other in self._endpoints.list(namespace)}
        return Seen(
            targets=targets,
            signatures={name: version.spec.signature for name, version in known.items() if version is not None},
            endpoints=endpoints,
            workers=self._workers(endpoint, targets.values(), found),
            circle=circle_from(endpoint.name, asked),
        )

    def _signature_of(self, namespace: str, name: str) -> Signature | tuple[str, str]:
        """What another endpoint takes and gives, or why that is not known."""
        endpoint = self._endpoints.get(namespace, name)
        if endpoint is None:
            return "EndpointMissing", f"endpoint: expected an existing InferenceEndpoint, found no {name}"
        if endpoint.status.graph is not None and endpoint.status.graph.signature is not None:
            return endpoint.status.graph.signature
        for traffic in endpoint.status.traffic:
            version = self._versions.get(namespace, traffic.model_version)
            if version is not None:
                return version.spec.signature
        return "EndpointNotServing", f"endpoint: expected {name} to serve a version, it does not yet"

    def _target(self, endpoint: InferenceEndpoint, text: str, path: str) -> Version | tuple[str, str]:
        namespace, memory = endpoint.namespace, endpoint.spec.worker.resources.memory
        reference = ModelReference.parse(text)
        versions = self._versions.by_index(MODEL, f"{namespace}/{reference.name}")
        by_number = {version.spec.version: version for version in versions}
        return resolved(text, path, self._models.get(namespace, reference.name), by_number, memory)

    def _workers(
        self, endpoint: InferenceEndpoint, asked: Iterable[Version | tuple[str, str]], found: dict[str, Deployment]
    ) -> dict[str, Workers]:
        """What is seen of the workers of the versions in question, by ModelVersion name."""
        pods = self.platform.pods.by_index("endpoint", f"{endpoint.namespace}/{endpoint.name}")
        seen: dict[str, Workers] = {}
        for version in _versions(endpoint, asked):
            deployment = found.get(deployment_name(endpoint.name, version))
            if deployment is not None:
                own = [pod for pod in pods if _serves(pod, endpoint, version)]
                seen[version.name] = observed(deployment, own, self.platform.now())
        return seen

    def _told(
        self, endpoint: InferenceEndpoint, asked: Iterable[Version | tuple[str, str]], key: Key
    ) -> list[WorkerStatus]:
        """Each worker, with what it told of itself."""
        pods = list(self.platform.pods.by_index("endpoint", f"{endpoint.namespace}/{endpoint.name}"))
        found: dict[str, WorkerStatus] = {}
        for version in _versions(endpoint, asked):
            for pod in pods:
                if _serves(pod, endpoint, version):
                    found[meta_of(pod).name] = self._status_of(pod, version, key)
        return [found[name] for name in sorted(found)][:WORKERS_SHOWN_MAX]

    def _status_of(self, pod: Pod, version: Version, key: Key) -> WorkerStatus:
        report = self._reports.of(pod, key)
        return worker_status(pod, version, report, self._starts.of(pod, report))

    async def _delete(self, endpoint: InferenceEndpoint, name: str) -> None:
        try:
            await self.platform.client.delete(Deployment, name, endpoint.namespace, propagation="Background")
        except NotFound:
            return


def _versions(endpoint: InferenceEndpoint, asked: Iterable[Version | tuple[str, str]]) -> list[Version]:
    """Those that may have workers."""
    nodes = endpoint.status.graph.nodes if endpoint.status.graph is not None else []
    warm = [endpoint.status.previous] if endpoint.status.previous is not None else []
    serving = [*endpoint.status.traffic, *warm, *(traffic for node in nodes for traffic in node.traffic)]
    found = [*map(version_of, serving), *(target for target in asked if isinstance(target, Version))]
    return list(dict.fromkeys(found))


def _model_of(endpoint: InferenceEndpoint) -> Iterable[str]:
    nodes = endpoint.spec.graph.models if endpoint.spec.graph is not None else []
    texts = {endpoint.spec.model, *(node.model for node in nodes)}
    return [f"{endpoint.namespace}/{ModelReference.parse(text).name}" for text in texts if text is not None]


def endpoints_of(endpoint: InferenceEndpoint) -> list[str]:
    """The endpoints that its graph asks."""
    nodes = endpoint.spec.graph.nodes if endpoint.spec.graph is not None else []
    return [node.endpoint for node in nodes if node.endpoint is not None]


def _asked(endpoint: InferenceEndpoint) -> Iterable[str]:
    return [f"{endpoint.namespace}/{name}" for name in endpoints_of(endpoint)]


def _looked_up(endpoint: InferenceEndpoint) -> Iterable[str]:
    return [f"{endpoint.namespace}/{name}" for name in Users.named_by(endpoint)]


def _explains(deployment: Deployment) -> Iterable[str]:
    return [str(key) for key in labelled(LABEL_EXPLAINS)(deployment)]


def _endpoint_of(obj: Deployment | Pod) -> Iterable[str]:
    return [str(key) for key in labelled(LABEL_ENDPOINT)(obj)]


def _serves(pod: Pod, endpoint: InferenceEndpoint, version: Version) -> bool:
    """Versions of one model may be the same bytes: it is not the digest alone that tells their Pods apart."""
    return labels(endpoint, version).items() <= meta_of(pod).labels.items()
