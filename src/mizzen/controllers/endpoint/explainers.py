"""The workers that say why an endpoint's model answers as it does: one Deployment for the version that gets traffic.

They are workers of the same model with a task of their own, and carry `mizzen.dev/explains` in the place of
`mizzen.dev/endpoint`: nobody takes them for workers that answer. They come after the version has its traffic, and are
no part of whether the endpoint is ready.
"""

import hashlib
import json
from collections.abc import Mapping

from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment

from mizzen.controllers.conditions import Moment
from mizzen.controllers.endpoint.workers import ANNOTATION_SPEC, deployment_for, labels, spec_hash
from mizzen.controllers.jobs import environment, owner_reference
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.names import LABEL_ENDPOINT, LABEL_EXPLAINS
from mizzen.kinds.serve import InferenceEndpointStatus
from mizzen.policy.rollout import Version, version_of

EXPLAINING = "Explaining"


def explainers_of(
    endpoint: InferenceEndpoint, status: InferenceEndpointStatus, settings: PlatformSettings
) -> dict[str, Deployment]:
    """By name: those that there should be."""
    if endpoint.spec.explain is None:
        return {}
    versions = [version_of(traffic) for traffic in status.traffic]
    return {_name(endpoint, version): _deployment(endpoint, version, settings) for version in versions}


def state_explaining(
    endpoint: InferenceEndpoint, status: InferenceEndpointStatus, found: Mapping[str, Deployment], now: str
) -> None:
    """Says how many explainers are ready; nothing where none are asked for."""
    explain = endpoint.spec.explain
    if explain is None:
        status.conditions = [one for one in status.conditions if one.type != EXPLAINING]
        return
    moment = Moment(endpoint.metadata.generation or 0, now)
    ready = sum((one.status.readyReplicas or 0) if one.status is not None else 0 for one in found.values())
    told = f"{ready} of {explain.replicas} explainers ready at {status.url}:explain"
    if ready >= explain.replicas and found:
        moment.state(status, EXPLAINING, "True", "Ready", told)
    else:
        moment.state(status, EXPLAINING, "False", "ExplainersMissing", told)


def _name(endpoint: InferenceEndpoint, version: Version) -> str:
    tag = hashlib.sha256(f"{version.model}:{version.digest}".encode()).hexdigest()[:6]
    return f"{endpoint.name[:36].rstrip('-')}-why-v{version.version}-{tag}"


def _deployment(endpoint: InferenceEndpoint, version: Version, settings: PlatformSettings) -> Deployment:
    explain = endpoint.spec.explain
    assert explain is not None, "asked of endpoints that explain only"
    made = deployment_for(endpoint, version, settings)
    spec = made.spec
    assert spec is not None, "made here"
    pod = spec.template.spec
    assert pod is not None, "made here"
    assert pod.containers[0].env is not None, "made here"
    task = json.loads(pod.containers[0].env[0].value or "{}") | {
        "endpoint": f"{endpoint.name}:explain",
        "explain": {"method": explain.method, "coalitions": explain.coalitions},
        "warmRows": [],
    }
    pod.containers[0].env = environment(task, endpoint.spec.worker.env)
    found_by = {name: value for name, value in labels(endpoint, version).items() if name != LABEL_ENDPOINT}
    found_by[LABEL_EXPLAINS] = endpoint.name
    spec.replicas = explain.replicas
    spec.selector = LabelSelector(matchLabels=found_by)
    spec.template.metadata = ObjectMeta(labels=found_by)
    made.metadata = ObjectMeta(
        name=_name(endpoint, version), namespace=endpoint.namespace, labels=found_by,
        annotations={ANNOTATION_SPEC: spec_hash(spec)}, ownerReferences=[owner_reference(endpoint)],
    )  # fmt: skip
    return made
