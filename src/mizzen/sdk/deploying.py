"""`mizzen.deploy`: a fitted estimator behind a URL, in one line.

    endpoint = mizzen.deploy(fitted_estimator, name="churn", example=X.head())
    endpoint.predict(X)

It registers the estimator as the next version of the model `name` (made where there is none), points the endpoint
`name` at that version, and waits until it answers. Deploying again puts the new version in the old one's place without
a failed request.
"""

from dataclasses import dataclass
from typing import Any

from mizzen.kinds import InferenceEndpoint, ModelVersion
from mizzen.kinds.serve import InferenceEndpointSpec
from mizzen.kube.client import Client as KubeClient
from mizzen.kube.resources import info_of, untyped
from mizzen.registry.registering import register_estimator
from mizzen.sdk import waiting
from mizzen.sdk.applying import FIELD_MANAGER, store_of
from mizzen.sdk.client import Client
from mizzen.sdk.models import make_model
from mizzen.sdk.tensors import Array


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A deployed endpoint."""

    name: str
    url: str
    """Append `/infer` for the Open Inference Protocol."""
    model_version: str
    client: Client

    def predict(self, data: object) -> dict[str, Array]:
        """The outputs by name: rows as a data frame, dicts or an array. See `mizzen.Client.predict`."""
        return self.client.predict(self.name, data)

    def delete(self) -> None:
        """Takes the endpoint away; the model and its versions stay."""
        self.client.delete(InferenceEndpoint, self.name)


def deploy(
    estimator: Any,
    *,
    name: str,
    example: Any,
    holdout: Any | None = None,
    replicas: int = 1,
    access: str = "api-key",
    timeout_s: float = 300.0,
    client: Client | None = None,
) -> Endpoint:
    """Registers a fitted estimator, serves it and waits until it answers.

    `example` is a few rows as the model gets them (a data frame or an array): names, types and shapes are taken from
    it, and the workers warm up on it. `holdout` is rows on which the converted model is checked against the original;
    by default the example. Raises `mizzen.registry.errors.ModelUnfit` where the estimator cannot be served,
    `WaitTimeoutError` where it does not come up.
    """
    client = client or Client()
    version = client.run(_deployed, estimator, name, example, holdout, replicas, access, client.namespace, timeout_s)
    found: InferenceEndpoint = client.get(InferenceEndpoint, name)
    return Endpoint(name, found.status.url or "", version.name, client)


async def _deployed(
    kube: KubeClient,
    estimator: Any,
    name: str,
    example: Any,
    holdout: Any | None,
    replicas: int,
    access: str,
    namespace: str,
    timeout_s: float,
) -> ModelVersion:
    store = await store_of(kube)
    version = await register_estimator(
        kube, store, name, estimator, example=example, holdout=holdout, namespace=namespace
    )
    await make_model(kube, name, namespace)
    spec = InferenceEndpointSpec.model_validate(
        {"model": f"{name}:{version.spec.version}", "access": access, "scaling": {"replicas": replicas}}
    )
    info = info_of(InferenceEndpoint)
    wire = {
        "apiVersion": info.api_version,
        "kind": info.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }
    await kube.apply(untyped(info)(wire), field_manager=FIELD_MANAGER, force=True)
    await waiting.wait_for(
        kube,
        info,
        name,
        namespace=namespace,
        timeout_s=timeout_s,
        give_up=lambda seen: seen.reason == "VersionFailed",
    )
    return version
