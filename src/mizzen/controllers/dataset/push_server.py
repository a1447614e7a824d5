"""The push server of a control plane: one Deployment, made when the first Dataset takes pushed rows.

Nothing runs before that. On a cluster it is reached through its Service; on one machine at the port that the node chose
for its Pod, which the Datasets' status tells.
"""

import json
from collections.abc import Iterable

from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import (
    Container,
    ContainerPort,
    HTTPGetAction,
    PodSpec,
    PodTemplateSpec,
    Probe,
    ServicePort,
    ServiceSpec,
)
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Pod, Service

from mizzen.controllers.jobs import MANAGED_BY, requirements, store_environment
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds.names import ANNOTATION_PORTS, PUSH_SERVER, SYSTEM_NAMESPACE
from mizzen.kinds.pods import Resources

PORT, PORT_NAME = 7082, "push"
LABELS = {**MANAGED_BY, "app.kubernetes.io/name": PUSH_SERVER}
GRACE_S = 60
"""To take in what was acknowledged; what is not, is by the next one."""


def deployment(settings: PlatformSettings) -> Deployment:
    """One process; more may run at once."""
    container = Container(
        name="push",
        image=settings.image,
        command=["python", "-m", "mizzen.data.push", "--host", "pod"],
        envFrom=store_environment(),
        resources=requirements(Resources(cpu="100m", memory="2Gi")),
        ports=[ContainerPort(PORT, name=PORT_NAME)],
        readinessProbe=Probe(httpGet=HTTPGetAction(port=PORT_NAME, path="/readyz"), periodSeconds=2, timeoutSeconds=2),
        livenessProbe=Probe(
            httpGet=HTTPGetAction(port=PORT_NAME, path="/livez"),
            initialDelaySeconds=30,
            periodSeconds=10,
            timeoutSeconds=5,
        ),
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    pod = PodSpec(containers=[container], serviceAccountName=PUSH_SERVER, terminationGracePeriodSeconds=GRACE_S)
    return Deployment(
        metadata=ObjectMeta(name=PUSH_SERVER, namespace=SYSTEM_NAMESPACE, labels=LABELS),
        spec=DeploymentSpec(
            replicas=1,
            selector=LabelSelector(matchLabels=LABELS),
            template=PodTemplateSpec(metadata=ObjectMeta(labels=LABELS), spec=pod),
        ),
    )


def service() -> Service:
    """Its address on a cluster."""
    return Service(
        metadata=ObjectMeta(name=PUSH_SERVER, namespace=SYSTEM_NAMESPACE, labels=LABELS),
        spec=ServiceSpec(selector=LABELS, ports=[ServicePort(PORT, name=PORT_NAME, targetPort=PORT_NAME)]),
    )


def is_of_push_server(pod: Pod) -> bool:
    """Whether the Pod is one of the push server's."""
    labels = (pod.metadata.labels if pod.metadata is not None else None) or {}
    return labels.get("app.kubernetes.io/name") == PUSH_SERVER


def address(pods: Iterable[Pod]) -> str | None:
    """Where the push server answers; `None` while no Pod of it is ready."""
    for pod in pods:
        if not (is_of_push_server(pod) and _is_ready(pod)) or pod.metadata is None or pod.status is None:
            continue
        ports = (pod.metadata.annotations or {}).get(ANNOTATION_PORTS)
        if ports is None:
            return f"http://{PUSH_SERVER}.{SYSTEM_NAMESPACE}.svc:{PORT}"
        return f"http://{pod.status.podIP}:{json.loads(ports)[PORT_NAME]}"
    return None


def _is_ready(pod: Pod) -> bool:
    conditions = (pod.status.conditions if pod.status is not None else None) or ()
    going = pod.metadata is not None and pod.metadata.deletionTimestamp is not None
    return not going and any(each.type == "Ready" and each.status == "True" for each in conditions)
