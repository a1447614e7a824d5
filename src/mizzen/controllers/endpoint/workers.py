"""The worker Deployments of an endpoint: one for each model version that is served or being brought up.

Workers need no access to the Kubernetes API: what they serve is in their environment, and the gateway finds them by
their labels. Probes ask the worker's health port; the port for requests is a Unix socket where the node offers one.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from datetime import datetime

from lightkube.models.apps_v1 import DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment
from lightkube.models.core_v1 import Container, ContainerPort, HTTPGetAction, PodSpec, PodTemplateSpec, Probe
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Pod

from mizzen.controllers.endpoint.crashes import last_crash, restarts
from mizzen.controllers.endpoint.placing import ANYWHERE, Placing, place
from mizzen.controllers.endpoint.reports import Report
from mizzen.controllers.endpoint.starts import is_ready
from mizzen.controllers.jobs import MANAGED_BY, environment, owner_reference, requirements, store_environment
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.names import LABEL_DIGEST, LABEL_ENDPOINT, LABEL_MODEL, LABEL_VERSION
from mizzen.kinds.scalars import duration_s, quantity
from mizzen.kinds.serve import StartTimes, WorkerStatus
from mizzen.kube.resources import meta_of
from mizzen.policy.rollout import Version, Workers

CONTAINER = "worker"
PORT_FRAMES, PORT_HEALTH = 7090, 7091
GRACE_S = 30
WARM_ROWS_MAX = 4096
"""Larger batches are not tried beforehand unless the endpoint names them: they may take long."""
ANNOTATION_SPEC = "mizzen.dev/spec-hash"
"""Digest of the spec that the controller made: tells whether it would make another one now."""


def deployment_name(endpoint: str, version: Version) -> str:
    """`late-arrival-v3-1f2e3d`: the tag tells versions of different models or bytes apart under the same number."""
    tag = hashlib.sha256(f"{version.model}:{version.digest}".encode()).hexdigest()[:6]
    return f"{endpoint[:40].rstrip('-')}-v{version.version}-{tag}"


def labels(endpoint: InferenceEndpoint, version: Version) -> dict[str, str]:
    """What the gateway and the endpoint's selector find the Pods by."""
    return {
        **MANAGED_BY,
        LABEL_ENDPOINT: endpoint.name,
        LABEL_MODEL: version.model,
        LABEL_VERSION: str(version.version),
        LABEL_DIGEST: version.digest.removeprefix("sha256:")[:16],
    }


def selector(endpoint: InferenceEndpoint, version: Version) -> str:
    """The label selector of the version's Pods, for the scale subresource."""
    return ",".join(f"{name}={value}" for name, value in labels(endpoint, version).items() if name not in MANAGED_BY)


def deployment_for(
    endpoint: InferenceEndpoint,
    version: Version,
    settings: PlatformSettings,
    replicas: int | None = None,
    placing: Placing = ANYWHERE,
) -> Deployment:
    """The Deployment of one version's workers: so many, or the spec's number."""
    spec = _spec(endpoint, version, settings)
    place(spec, placing)
    spec.replicas = endpoint.spec.scaling.replicas if replicas is None else replicas
    metadata = ObjectMeta(
        name=deployment_name(endpoint.name, version),
        namespace=endpoint.namespace,
        labels=labels(endpoint, version),
        annotations={ANNOTATION_SPEC: spec_hash(spec)},
        ownerReferences=[owner_reference(endpoint)],
    )
    return Deployment(metadata=metadata, spec=spec)


def _spec(endpoint: InferenceEndpoint, version: Version, settings: PlatformSettings) -> DeploymentSpec:
    options = endpoint.spec.worker
    task = {
        "storeUrl": settings.store_url,
        "namespace": endpoint.namespace,
        "endpoint": endpoint.name,
        "model": version.model,
        "version": version.version,
        "digest": version.digest,
        "threads": max(1, math.floor(quantity(options.resources.cpu))),
        "warmRows": warm_rows(endpoint),
    }
    if version.format != "onnx":
        task |= {"format": version.format, "trusted": list(version.trusted)}
    health = HTTPGetAction(port="health", path="/readyz")
    alive = HTTPGetAction(port="health", path="/livez")
    container = Container(
        name=CONTAINER,
        image=settings.image,
        command=["python", "-m", "mizzen.serving.worker"],
        env=environment(task, options.env),
        envFrom=store_environment(),
        resources=requirements(options.resources),
        ports=[ContainerPort(PORT_FRAMES, name="frames"), ContainerPort(PORT_HEALTH, name="health")],
        startupProbe=Probe(httpGet=health, periodSeconds=1, failureThreshold=max(1, round(_start_timeout_s(endpoint)))),
        readinessProbe=Probe(httpGet=health, periodSeconds=2, timeoutSeconds=2),
        livenessProbe=Probe(httpGet=alive, periodSeconds=10, timeoutSeconds=5),
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    pod = PodSpec(
        containers=[container],
        automountServiceAccountToken=False,
        terminationGracePeriodSeconds=GRACE_S,
        nodeSelector=options.node_selector or None,
    )
    found_by = labels(endpoint, version)
    return DeploymentSpec(
        selector=LabelSelector(matchLabels=found_by),
        template=PodTemplateSpec(metadata=ObjectMeta(labels=found_by), spec=pod),
        strategy=DeploymentStrategy(
            type="RollingUpdate", rollingUpdate=RollingUpdateDeployment(maxSurge=1, maxUnavailable=0)
        ),
        progressDeadlineSeconds=max(1, round(_start_timeout_s(endpoint)) + 60),
        revisionHistoryLimit=2,
    )


def warm_rows(endpoint: InferenceEndpoint) -> list[int]:
    """The batch sizes to be warm for: what the endpoint says, or the powers of two up to its largest batch."""
    if endpoint.spec.worker.warm_up_rows is not None:
        return sorted(set(endpoint.spec.worker.warm_up_rows))
    largest = min(endpoint.spec.batching.max_rows, WARM_ROWS_MAX)
    return [*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest]


def _start_timeout_s(endpoint: InferenceEndpoint) -> float:
    return duration_s(endpoint.spec.worker.start_timeout)


def must_apply(wanted: Deployment, found: Deployment | None) -> bool:
    """Whether the Deployment is missing, made from other settings, or scaled by another hand."""
    if found is None:
        return True
    return _made_from(found) != _made_from(wanted) or found.spec.replicas != wanted.spec.replicas


def replicas_of(deployment: Deployment) -> int:
    """How many it is asked for."""
    spec = deployment.spec
    return 1 if spec.replicas is None else spec.replicas


def _made_from(deployment: Deployment) -> str | None:
    annotations = deployment.metadata.annotations if deployment.metadata is not None else None
    return (annotations or {}).get(ANNOTATION_SPEC)


def spec_hash(spec: DeploymentSpec) -> str:
    """What tells whether a Deployment would be made otherwise now, but for how many."""
    made = {name: value for name, value in spec.to_dict().items() if name != "replicas"}
    return hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()[:16]


def observed(deployment: Deployment, pods: Iterable[Pod], now: datetime) -> Workers:
    """What is seen of one version's workers."""
    status, spec = deployment.status, deployment.spec
    generation = deployment.metadata.generation if deployment.metadata is not None else 0
    created = deployment.metadata.creationTimestamp if deployment.metadata is not None else None
    own = list(pods)
    current = status is not None and (status.observedGeneration or 0) >= (generation or 1)
    wanted = spec.replicas if spec.replicas is not None else 1
    updated = (status.updatedReplicas or 0) if status is not None else 0
    return Workers(
        wanted=wanted,
        ready=((status.readyReplicas or 0) if status is not None else 0),
        restarts=max((restarts(pod) for pod in own), default=0),
        age_s=(now - created).total_seconds() if created is not None else 0.0,
        trouble=next((trouble for pod in own if (trouble := _trouble(pod))), ""),
        troubled_on=tuple(pod.spec.nodeName for pod in own if pod.spec and pod.spec.nodeName and not is_ready(pod)),
        template_current=current and updated >= wanted,
    )


def deployment_facts(deployment: Deployment) -> tuple[object, ...]:
    """All of a Deployment that a decision may depend on."""
    meta, status = meta_of(deployment), deployment.status
    seen = (status.observedGeneration, status.readyReplicas, status.updatedReplicas) if status is not None else ()
    return meta.generation, _made_from(deployment), replicas_of(deployment), seen


def pod_facts(pod: Pod) -> tuple[object, ...]:
    """All of a worker's Pod that a decision may depend on."""
    return meta_of(pod).labels, is_ready(pod), restarts(pod), _trouble(pod), last_crash(pod)


def worker_status(pod: Pod, version: Version, report: Report, start: StartTimes | None = None) -> WorkerStatus:
    """What the endpoint's status says of one worker."""
    return WorkerStatus(
        pod=meta_of(pod).name,
        model_version=version.name,
        ready=is_ready(pod),
        restarts=restarts(pod),
        runtime=report.runtime,
        provider=report.provider,
        threads=report.threads,
        memory_bytes=report.memory_bytes,
        peak_bytes=report.peak_bytes,
        warm_up_s=report.warm_up_s,
        start=start,
        last_crash=last_crash(pod),
    )


def _trouble(pod: Pod) -> str:
    """Why the Pod is not ready, in its own words, or empty."""
    if pod.status is None:
        return ""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or "no node takes the Pod"
    crash = last_crash(pod)
    if crash is not None:
        return crash.message if crash.reason == "Failed" else f"{crash.reason}: {crash.message}"
    for status in pod.status.containerStatuses or ():
        waiting = status.state.waiting if status.state is not None else None
        if waiting is not None and waiting.message:
            return f"{waiting.reason}: {waiting.message}"
    return ""
