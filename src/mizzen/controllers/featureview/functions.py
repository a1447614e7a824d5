"""Workers of features of requests: a Deployment for each view that has any, of the version that is online.

While a changed definition is brought online the workers of the one before stay; the gateway finds them by their labels,
and asks those of the version that it reads.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from lightkube.models.apps_v1 import DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment
from lightkube.models.core_v1 import Container, ContainerPort, HTTPGetAction, PodSpec, PodTemplateSpec, Probe
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment

from mizzen.controllers.featureview.wanted import digest_of
from mizzen.controllers.jobs import MANAGED_BY, environment, owner_reference, requirements, store_environment
from mizzen.controllers.platform import FIELD_MANAGER, Platform, ResourceController
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import FeatureView
from mizzen.kinds.names import LABEL_DIGEST, LABEL_VIEW
from mizzen.kube.errors import NotFound
from mizzen.kube.resources import Key, meta_of
from mizzen.kube.runtime import Result, Watch, controller_of

MODULE = "mizzen.serving.worker.functions"
PORT_FRAMES, PORT_HEALTH = 7090, 7091
SETTINGS_RETRY_S = 5.0
START_S = 120
ANNOTATION_SPEC = "mizzen.dev/spec-hash"


class FunctionsController(ResourceController):
    """Keeps a view's functions running."""

    name = "functions"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        self._views = platform.informers.of(FeatureView)
        self._deployments = platform.informers.of(Deployment, labels=MANAGED_BY)

    def watches(self) -> Sequence[Watch[Any]]:
        return (Watch(self._views), Watch(self._deployments, controller_of(FeatureView)))

    async def reconcile(self, key: Key) -> Result | None:
        view = self._views.at(key)
        if view is None or view.metadata.deletion_timestamp is not None:
            return None
        settings = self.settings_or_none(view)
        if settings is None:
            return Result(after_s=SETTINGS_RETRY_S)
        found = self._deployments.get(key.namespace, deployment_name(view))
        if not view.spec.request or not view.spec.online:
            if found is not None:
                await self._delete(view)
            return None
        views = {other.name: other for other in self._views.list(key.namespace)}
        used = {name: digest_of(views[name], views) for name in view.spec.uses if name in views}
        if view.status.digest is None or view.spec.digest(used) != view.status.digest:
            return None  # what is online is of another definition: its workers stay
        wanted = deployment_for(view, used, settings)
        if found is None or _made_from(found) != _made_from(wanted):
            self._deployments.wrote(await self.platform.client.apply(wanted, field_manager=FIELD_MANAGER, force=True))
        return None

    async def _delete(self, view: FeatureView) -> None:
        try:
            await self.platform.client.delete(Deployment, deployment_name(view), view.namespace)
        except NotFound:
            return


def deployment_name(view: FeatureView) -> str:
    """No endpoint's worker has such a name, since those have a version in theirs."""
    return f"{view.name[:48].rstrip('-')}-functions"


def deployment_for(view: FeatureView, used: dict[str, str], settings: PlatformSettings) -> Deployment:
    """One process; all endpoints that use the view share it."""
    digest = view.spec.digest(used)
    metadata = {"name": view.name, "namespace": view.namespace}
    task = {
        "storeUrl": settings.store_url,
        "namespace": view.namespace,
        "endpoint": f"featureview/{view.name}",
        "model": view.name,
        "version": 0,
        "digest": digest,
        "view": {"kind": view.kind, "metadata": metadata, "spec": view.spec.to_wire()},
        "used": used,
    }
    found_by = {
        **MANAGED_BY, LABEL_VIEW: view.name, LABEL_DIGEST: digest.removeprefix("sha256:")[:16],
    }  # fmt: skip
    health, alive = (HTTPGetAction(port="health", path=path) for path in ("/readyz", "/livez"))
    container = Container(
        name="functions",
        image=settings.image,
        command=["python", "-m", MODULE],
        env=environment(task, view.spec.env),
        envFrom=store_environment(),
        resources=requirements(view.spec.resources),
        ports=[ContainerPort(PORT_FRAMES, name="frames"), ContainerPort(PORT_HEALTH, name="health")],
        startupProbe=Probe(httpGet=health, periodSeconds=1, failureThreshold=START_S),
        readinessProbe=Probe(httpGet=health, periodSeconds=2, timeoutSeconds=2),
        livenessProbe=Probe(httpGet=alive, periodSeconds=10, timeoutSeconds=5),
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    pod = PodSpec(
        containers=[container], automountServiceAccountToken=False, nodeSelector=view.spec.node_selector or None
    )
    labels = {**MANAGED_BY, LABEL_VIEW: view.name}
    spec = DeploymentSpec(
        replicas=1,
        selector=LabelSelector(matchLabels=labels),
        template=PodTemplateSpec(metadata=ObjectMeta(labels=found_by), spec=pod),
        strategy=DeploymentStrategy(
            type="RollingUpdate", rollingUpdate=RollingUpdateDeployment(maxSurge=1, maxUnavailable=0)
        ),
    )
    text = json.dumps(spec.to_dict(), sort_keys=True, default=str)
    return Deployment(
        metadata=ObjectMeta(
            name=deployment_name(view),
            namespace=view.namespace,
            labels=labels,
            annotations={ANNOTATION_SPEC: hashlib.sha256(text.encode()).hexdigest()[:16]},
            ownerReferences=[owner_reference(view)],
        ),
        spec=spec,
    )


def _made_from(deployment: Deployment) -> str | None:
    return meta_of(deployment).annotations.get(ANNOTATION_SPEC)
