"""The directory that is a Kubernetes API: endpoints, model versions, worker Pods and key Secrets, by watch.

The informers keep what they know while the API server is away, so the gateway serves on. What an object means for the
gateway is said by the pure functions at the end; one that cannot be understood is left out, and named in the log.
"""

import asyncio
import base64
import binascii
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightkube.models.core_v1 import PodStatus
from lightkube.resources.core_v1 import Pod, Secret

from mizzen.kinds import FeatureView, InferenceEndpoint, ModelVersion, names
from mizzen.kinds.build import Tensor
from mizzen.kinds.lookups import FeatureLookup
from mizzen.kinds.meta import condition_named
from mizzen.kinds.scalars import duration_s, quantity
from mizzen.kinds.serve import Logging as LoggingOptions
from mizzen.kinds.serve import ResponseCache, Traffic
from mizzen.kube.client import Client
from mizzen.kube.informer import Informer
from mizzen.kube.resources import meta_of
from mizzen.serving.gateway.directory import (
    ApiKey,
    Caching,
    Endpoint,
    GraphPlan,
    Listener,
    Logging,
    Lookup,
    TcpAddress,
    Tenant,
    UnixAddress,
    Version,
    View,
    ViewUse,
    Worker,
)
from mizzen.serving.gateway.features.workers import functions_key
from mizzen.serving.gateway.paths import EXPLAIN
from mizzen.serving.tensors import Signature, TensorSpec

log = logging.getLogger("mizzen.gateway")
FRAMES_PORT = "frames"
SOCKET_NAME = "worker.sock"
BY_VERSION = "model version"
COMPLAIN_EVERY_S = 10.0
_HASH = re.compile(r"^[0-9a-f]{64}$")


class KubernetesDirectory:
    """Follows one API server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def run(self, listener: Listener) -> None:
        """Until cancelled. Errors of the server are waited out."""
        client = self._client
        versions = Informer(client, ModelVersion)
        endpoints = Informer(client, InferenceEndpoint)
        views = Informer(client, FeatureView)
        pods = Informer(client, Pod, labels=names.LABEL_ENDPOINT)
        functions = Informer(client, Pod, labels=names.LABEL_VIEW)
        explainers = Informer(client, Pod, labels=names.LABEL_EXPLAINS)
        secrets = Informer(client, Secret, labels={names.LABEL_API_KEY: "true"})

        def endpoint_changed(old: InferenceEndpoint | None, new: InferenceEndpoint | None) -> None:
            if new is not None:
                listener.endpoint_changed(endpoint_of(new, versions.get))
                explains = explainer_of(new)
                if explains is not None:
                    listener.endpoint_changed(explains)
                elif old is not None and old.spec.explain is not None:
                    listener.endpoint_gone((old.namespace, old.name + EXPLAIN))
            elif old is not None:
                listener.endpoint_gone((old.namespace, old.name))
                if old.spec.explain is not None:
                    listener.endpoint_gone((old.namespace, old.name + EXPLAIN))

        def version_changed(_: ModelVersion | None, new: ModelVersion | None) -> None:
            if new is not None:
                for endpoint in endpoints.by_index(BY_VERSION, f"{new.namespace}/{new.name}"):
                    endpoint_changed(endpoint, endpoint)

        endpoints.add_index(BY_VERSION, _versions_served)
        endpoints.subscribe(endpoint_changed)
        versions.subscribe(version_changed)
        views.subscribe(lambda old, new: _tell_view(listener, old, new))
        pods.subscribe(lambda old, new: _tell_pod(listener, old, new))
        functions.subscribe(lambda old, new: _tell_pod(listener, old, new))
        explainers.subscribe(lambda old, new: _tell_pod(listener, old, new))
        secrets.subscribe(lambda old, new: _tell_secret(listener, old, new))
        async with asyncio.TaskGroup() as group:
            informers = (versions, views, pods, functions, explainers, secrets, endpoints)
            for informer in informers:
                group.create_task(informer.run())
            await _synced(*informers)
            listener.synced()


async def _synced(*informers: Informer[Any]) -> None:
    """Waits until all have their first list, and says now and then which have not, and why."""
    while not all(informer.is_synced for informer in informers):
        try:
            async with asyncio.timeout(COMPLAIN_EVERY_S):
                await asyncio.gather(*(informer.synced() for informer in informers))
        except TimeoutError:
            for informer in informers:
                if not informer.is_synced:
                    log.warning("%s are not listed yet: %s", informer.info, informer.statistics().last_error)


def _versions_served(endpoint: InferenceEndpoint) -> list[str]:
    nodes = endpoint.status.graph.nodes if endpoint.status.graph is not None else []
    served = [*endpoint.status.traffic, *(traffic for node in nodes for traffic in node.traffic)]
    return [f"{endpoint.namespace}/{traffic.model_version}" for traffic in served]


def _tell_view(listener: Listener, old: FeatureView | None, new: FeatureView | None) -> None:
    if new is not None:
        listener.view_changed(view_of(new))
    elif old is not None:
        listener.view_gone((old.namespace, old.name))


def _tell_pod(listener: Listener, old: Pod | None, new: Pod | None) -> None:
    worker = worker_of(new) if new is not None else None
    if worker is not None:
        listener.worker_changed(worker)
    gone = meta_of(old).uid if old is not None else None
    if gone is not None and (worker is None or worker.uid != gone):
        listener.worker_gone(gone)


def _tell_secret(listener: Listener, old: Secret | None, new: Secret | None) -> None:
    key = key_of(new) if new is not None else None
    secret = new if new is not None else old
    if key is not None:
        listener.key_changed(str(meta_of(secret).key), key)
    elif secret is not None:
        listener.key_gone(str(meta_of(secret).key))


def endpoint_of(endpoint: InferenceEndpoint, version_named: Callable[[str, str], ModelVersion | None]) -> Endpoint:
    """What an `InferenceEndpoint` means here."""
    spec, status = endpoint.spec, endpoint.status
    batching, queue = spec.batching, spec.queue
    return Endpoint(
        namespace=endpoint.namespace,
        name=endpoint.name,
        anonymous=spec.access == "anonymous",
        batch_rows_max=batching.max_rows,
        queue_rows_max=queue.max_rows,
        timeout_s=duration_s(queue.timeout),
        batch_bytes_max=int(quantity(batching.max_bytes)),
        queue_bytes_max=int(quantity(queue.max_bytes)),
        batch_delay_s=duration_s(batching.max_delay),
        latency_target_s=duration_s(batching.target_latency) if batching.target_latency is not None else None,
        priority_levels=queue.priority_levels,
        priority_default=queue.default_priority,
        tenants=tuple(Tenant(tenant.api_key, tenant.weight, tenant.priority) for tenant in queue.tenants),
        versions=_versions(endpoint.namespace, status.traffic, version_named),
        cache=_caching(spec.cache),
        graph=_graph_plan(endpoint, version_named),
        logging=_logging(spec.logging) if spec.logging is not None else None,
        features=_lookup(spec.features) if spec.features is not None else None,
        hopeless=_hopeless(endpoint),
    )


def explainer_of(endpoint: InferenceEndpoint) -> Endpoint | None:
    """The endpoint that explains its answers; what it gives its workers tell."""
    if endpoint.spec.explain is None:
        return None
    traffic = endpoint.status.traffic
    return Endpoint(
        namespace=endpoint.namespace,
        name=endpoint.name + EXPLAIN,
        anonymous=endpoint.spec.access == "anonymous",
        queue_rows_max=endpoint.spec.queue.max_rows,
        timeout_s=duration_s(endpoint.spec.queue.timeout),
        versions=tuple(Version(part.model, part.version, part.digest, part.percent) for part in traffic),
        features=_lookup(endpoint.spec.features) if endpoint.spec.features is not None else None,
        hopeless=_hopeless(endpoint),
    )


def _versions(
    namespace: str, traffic: Sequence[Traffic], version_named: Callable[[str, str], ModelVersion | None]
) -> tuple[Version, ...]:
    versions = []
    for part in traffic:
        found = version_named(namespace, part.model_version)
        fits = found is not None and found.spec.artifact.digest == part.digest
        signature = signature_of(found) if found is not None and fits else None
        versions.append(Version(part.model, part.version, part.digest, part.percent, signature))
    return tuple(versions)


def _graph_plan(
    endpoint: InferenceEndpoint, version_named: Callable[[str, str], ModelVersion | None]
) -> GraphPlan | None:
    """A graph is told as it was when its status was: node by node, with what gets traffic there."""
    if endpoint.spec.graph is None:
        return None
    nodes = endpoint.status.graph.nodes if endpoint.status.graph is not None else []
    versions = {node.name: _versions(endpoint.namespace, node.traffic, version_named) for node in nodes}
    return GraphPlan(endpoint.spec.graph.to_wire(), versions)


def _caching(cache: ResponseCache | None) -> Caching | None:
    if cache is None:
        return None
    machine_bytes = int(quantity(cache.machine_size)) if cache.machine_size is not None else 0
    return Caching(duration_s(cache.ttl), int(quantity(cache.size)), machine_bytes, cache.redis)


def _logging(wanted: LoggingOptions) -> Logging:
    return Logging(
        sample=wanted.sample, by=wanted.by, errors=wanted.errors, redact=tuple(wanted.redact),
        buffer_bytes=int(quantity(wanted.buffer)), sink=wanted.sink or "", events=wanted.events,
    )  # fmt: skip


def view_of(view: FeatureView) -> View:
    """What a FeatureView means here."""
    audit = view.spec.audit
    report = view.status.skew
    skew = report.differing / report.values if report is not None and report.values else None
    return View(view.namespace, view.name, view.status.digest or "", audit.sample if audit is not None else 0.0, skew)


def _lookup(wanted: FeatureLookup) -> Lookup:
    uses = (
        ViewUse(
            view=used.view, version=used.version, features=tuple(used.features), prefix=used.prefix, keys=used.keys,
            missing=used.missing, stale=used.stale, unavailable=used.unavailable,
        )
        for used in wanted.views
    )  # fmt: skip
    return Lookup(tuple(uses), dict(wanted.columns), wanted.time)


def _hopeless(endpoint: InferenceEndpoint) -> str | None:
    """Why no version will come unless something is changed: the only candidate was given up, or there is none."""
    status = endpoint.status
    if status.traffic or (status.graph is not None and all(node.traffic for node in status.graph.nodes)):
        return None
    if status.candidate is not None:
        return (
            status.candidate.message or "the model's only version failed"
            if status.candidate.phase == "Failed"
            else None
        )
    seen = status.observed_generation is not None and status.observed_generation >= (endpoint.metadata.generation or 0)
    ready = condition_named(status.conditions, "Ready")
    return ready.message or ready.reason if seen and ready is not None and ready.status == "False" else None


def signature_of(version: ModelVersion) -> Signature:
    """A model version's signature as the request path has it."""

    def specs(tensors: list[Tensor]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)

    found = version.spec.signature
    return Signature(specs(found.inputs), specs(found.outputs), tuple(found.columns))


def worker_of(pod: Pod) -> Worker | None:
    """The worker that a Pod is; `None` while it is not ready, or once it is to go."""
    meta = meta_of(pod)
    endpoint, explains = meta.labels.get(names.LABEL_ENDPOINT), meta.labels.get(names.LABEL_EXPLAINS)
    if explains is not None:
        endpoint = explains + EXPLAIN
    if names.LABEL_VIEW in meta.labels and meta.namespace is not None:
        _, endpoint = functions_key(meta.namespace, meta.labels[names.LABEL_VIEW])
    ready = any(c.type == "Ready" and c.status == "True" for c in (pod.status and pod.status.conditions) or ())
    if endpoint is None or not ready or meta.deleted is not None or meta.namespace is None or pod.status is None:
        return None
    address = _address(meta.annotations, pod, pod.status)
    if address is None:
        log.warning("Pod %s: expected a socket in its run folder, or an IP and a port named frames", meta.key)
        return None
    return Worker(meta.uid, meta.namespace, endpoint, meta.labels.get(names.LABEL_DIGEST, ""), address)


def _address(annotations: Mapping[str, str], pod: Pod, status: PodStatus) -> UnixAddress | TcpAddress | None:
    run_dir = annotations.get(names.ANNOTATION_RUN_DIR)
    if run_dir:
        path = Path(run_dir) / SOCKET_NAME
        if path.exists():
            return UnixAddress(path)
    port = _published_port(annotations)
    if port is None and pod.spec is not None:
        ports = (port for container in pod.spec.containers for port in container.ports or ())
        port = next((found.containerPort for found in ports if found.name == FRAMES_PORT), None)
    return TcpAddress(status.podIP, port) if status.podIP and port is not None else None


def _published_port(annotations: Mapping[str, str]) -> int | None:
    try:
        ports = json.loads(annotations.get(names.ANNOTATION_PORTS, "{}"))
    except json.JSONDecodeError:
        return None
    port = ports.get(FRAMES_PORT) if isinstance(ports, dict) else None
    return port if isinstance(port, int) else None


def key_of(secret: Secret) -> ApiKey | None:
    """The API key in a Secret; `None` where it holds none."""
    meta = meta_of(secret)
    if secret.type != names.SECRET_TYPE_API_KEY or meta.namespace is None:
        return None
    data = secret.data or {}
    try:
        hash_, endpoints, features = (
            base64.b64decode(data.get(name, ""), validate=True).decode() for name in ("hash", "endpoints", "features")
        )
    except (binascii.Error, UnicodeDecodeError) as error:
        log.warning("Secret %s: expected base64 of text: %s", meta.key, error)
        return None
    hash_ = hash_.strip().lower()
    if _HASH.match(hash_) is None:
        log.warning("Secret %s: data.hash: expected the 64 hex digits of a SHA-256", meta.key)
        return None
    return ApiKey(hash_, meta.namespace, _scope(endpoints), _scope(features))


def _scope(names_: str) -> frozenset[str] | None:
    """Names separated by commas; `None`: all."""
    scope = frozenset(filter(None, (name.strip() for name in names_.split(","))))
    return None if "*" in scope else scope
