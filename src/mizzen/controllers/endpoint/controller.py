"""Reconciles InferenceEndpoints: load, decide (`decide.py`), apply.

Deployments are made before the status says that a version is on its way, and taken away after the status has moved the
traffic: whatever moment this process dies at, what has traffic has workers.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Pod

from mizzen.controllers.endpoint.decide import decide, resolve
from mizzen.controllers.endpoint.reports import Reports
from mizzen.controllers.endpoint.sizes import sizes
from mizzen.controllers.endpoint.workers import (
    deployment_for,
    deployment_name,
    labels,
    must_apply,
    observed,
    worker_status,
)
from mizzen.controllers.indexes import MODEL, model_of
from mizzen.controllers.jobs import MANAGED_BY
from mizzen.controllers.platform import FIELD_MANAGER, Platform, ResourceController
from mizzen.kinds import InferenceEndpoint, Model, ModelVersion
from mizzen.kinds.names import LABEL_ENDPOINT, ModelReference
from mizzen.kinds.serve import WorkerStatus
from mizzen.kube.errors import NotFound
from mizzen.kube.resources import Key, meta_of
from mizzen.kube.runtime import Result, Watch, labelled
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
        self._versions.add_index(MODEL, model_of)
        self._deployments.add_index("endpoint", _endpoint_of)
        platform.pods.add_index("endpoint", _endpoint_of)
        self._reports = Reports(time.monotonic, self._look_again)

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._endpoints),
            Watch(self._models, lambda model: self._of_model(f"{model.namespace}/{model.name}")),
            Watch(self._versions, lambda version: self._of_model(f"{version.namespace}/{version.spec.model}")),
            Watch(self._deployments, labelled(LABEL_ENDPOINT)),
            Watch(self.platform.pods, labelled(LABEL_ENDPOINT)),
        )

    def _of_model(self, model: str) -> Iterable[Key]:
        return [Key(endpoint.namespace, endpoint.name) for endpoint in self._endpoints.by_index("model", model)]

    async def reconcile(self, key: Key) -> Result | None:
        endpoint = self._endpoints.at(key)
        if endpoint is None or endpoint.metadata.deletion_timestamp is not None:
            return None
        settings = self.settings_or_none(endpoint)
        if settings is None:
            return Result(after_s=SETTINGS_RETRY_S)
        target = self._target(endpoint)
        found = {meta_of(one).name: one for one in self._deployments.by_index("endpoint", str(key))}
        workers = self._workers(endpoint, target, found)
        seen = self._seen(endpoint, target, key)
        size = sizes(endpoint, found)
        replicas = size(target) if isinstance(target, Version) else None
        decision = decide(endpoint, target, workers, settings, self.platform.now_text(), seen, replicas=replicas)
        wanted: set[str] = set()
        for version in decision.deployments:
            deployment = deployment_for(endpoint, version, settings, size(version))
            name = meta_of(deployment).name
            wanted.add(name)
            if must_apply(deployment, found.get(name)):
                await self.platform.client.apply(deployment, field_manager=FIELD_MANAGER, force=True)
        await self.platform.write_status(endpoint, endpoint.status, decision.status)
        self.platform.tell(endpoint, decision.events)
        for name in found.keys() - wanted:
            await self._delete(endpoint, name)
        return Result(after_s=decision.look_again_s) if decision.look_again_s is not None else None

    def _look_again(self, key: Key) -> None:
        self.queue.add(key)

    def _target(self, endpoint: InferenceEndpoint) -> Version | tuple[str, str]:
        reference = ModelReference.parse(endpoint.spec.model)
        versions = self._versions.by_index(MODEL, f"{endpoint.namespace}/{reference.name}")
        by_number = {version.spec.version: version for version in versions}
        return resolve(endpoint.spec.model, self._models.get(endpoint.namespace, reference.name), by_number)

    def _workers(
        self, endpoint: InferenceEndpoint, target: Version | tuple[str, str], found: dict[str, Deployment]
    ) -> dict[str, Workers]:
        """What is seen of the workers of the versions in question, by ModelVersion name."""
        pods = self.platform.pods.by_index("endpoint", f"{endpoint.namespace}/{endpoint.name}")
        seen: dict[str, Workers] = {}
        for version in _versions(endpoint, target):
            deployment = found.get(deployment_name(endpoint.name, version))
            if deployment is not None:
                own = [pod for pod in pods if _serves(pod, endpoint, version)]
                seen[version.name] = observed(deployment, own, self.platform.now())
        return seen

    def _seen(self, endpoint: InferenceEndpoint, target: Version | tuple[str, str], key: Key) -> list[WorkerStatus]:
        """Each worker, with what it told of itself."""
        pods = list(self.platform.pods.by_index("endpoint", f"{endpoint.namespace}/{endpoint.name}"))
        found: dict[str, WorkerStatus] = {}
        for version in _versions(endpoint, target):
            for pod in pods:
                if _serves(pod, endpoint, version):
                    found[meta_of(pod).name] = worker_status(pod, version, self._reports.of(pod, key))
        return [found[name] for name in sorted(found)][:WORKERS_SHOWN_MAX]

    async def _delete(self, endpoint: InferenceEndpoint, name: str) -> None:
        try:
            await self.platform.client.delete(Deployment, name, endpoint.namespace, propagation="Background")
        except NotFound:
            return


def _versions(endpoint: InferenceEndpoint, target: Version | tuple[str, str]) -> list[Version]:
    """Those that may have workers."""
    return [*map(version_of, endpoint.status.traffic), *([target] if isinstance(target, Version) else [])]


def _model_of(endpoint: InferenceEndpoint) -> Iterable[str]:
    return [f"{endpoint.namespace}/{ModelReference.parse(endpoint.spec.model).name}"]


def _endpoint_of(obj: Deployment | Pod) -> Iterable[str]:
    return [str(key) for key in labelled(LABEL_ENDPOINT)(obj)]


def _serves(pod: Pod, endpoint: InferenceEndpoint, version: Version) -> bool:
    """Versions of one model may be the same bytes: it is not the digest alone that tells their Pods apart."""
    return labels(endpoint, version).items() <= meta_of(pod).labels.items()
