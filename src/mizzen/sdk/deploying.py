"""`mizzen.deploy`: a fitted estimator behind a URL, in one line.

    endpoint = mizzen.deploy(fitted_estimator, name="churn", example=X.head())
    endpoint.predict(X)

It registers the model as the next version of the model `name` (made where there is none), points the endpoint
`name` at that version, and waits until it answers. Deploying again puts the new version in the old one's place without
a failed request.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mizzen.data.lake.code import bundle, put_bundle
from mizzen.kinds import InferenceEndpoint, ModelVersion
from mizzen.kinds.serve import InferenceEndpointSpec
from mizzen.kube.client import Client as KubeClient
from mizzen.kube.resources import info_of, untyped
from mizzen.registry.python_model import PythonModel
from mizzen.registry.registering import register_estimator, register_python
from mizzen.sdk import waiting
from mizzen.sdk.applying import FIELD_MANAGER, store_of
from mizzen.sdk.client import Client
from mizzen.sdk.models import make_model, trust
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
    model: Any,
    *,
    name: str,
    example: Any | None = None,
    holdout: Any | None = None,
    code: str | os.PathLike[str] | None = None,
    form: Literal["auto", "onnx", "native"] = "auto",
    trusted_types: Sequence[str] = (),
    replicas: int = 1,
    access: str = "api-key",
    timeout_s: float = 300.0,
    client: Client | None = None,
) -> Endpoint:
    """Registers a trained model, serves it and waits until it answers.

    `model` is a fitted estimator or booster, a program of `torch.export`, a model file, or a `mizzen.PythonModel` of
    the project folder `code`. `example` is a few rows as the model gets them (a data frame, an array, arrays by
    input): names, types and shapes are taken from it, and the workers warm up on it. `holdout` is rows on which the
    stored model is checked against the original; by default the example. `form`: see `mizzen.training.TrainedModel`.
    `trusted_types` are approved for this model (its `spec.trustedTypes`); types of your own are looked up in `code`.
    Raises `mizzen.registry.errors.ModelUnfit` where the model cannot be served, `WaitTimeoutError` where it does not
    come up.
    """
    client = client or Client()
    folder = None if code is None else Path(code)
    registering = _Registering(model, name, example, holdout, folder, form, tuple(trusted_types))
    version = client.run(_deployed, registering, replicas, access, client.namespace, timeout_s)
    found: InferenceEndpoint = client.get(InferenceEndpoint, name)
    return Endpoint(name, found.status.url or "", version.name, client)


@dataclass(frozen=True, slots=True)
class _Registering:
    """What is to become a version; see `deploy`."""

    model: Any
    name: str
    example: Any | None
    holdout: Any | None
    code: Path | None
    form: Literal["auto", "onnx", "native"]
    trusted_types: tuple[str, ...]

    async def register(self, kube: KubeClient, namespace: str) -> ModelVersion:
        store = await store_of(kube)
        if isinstance(self.model, PythonModel):
            folder = self.code or Path()
            return await register_python(
                kube, store, self.name, self.model, folder, example=self.example, namespace=namespace
            )
        code = None if self.code is None else (store, put_bundle(store, bundle(self.code)))
        return await register_estimator(
            kube, store, self.name, self.model, example=self.example, holdout=self.holdout, form=self.form, code=code,
            namespace=namespace,
        )  # fmt: skip


async def _deployed(
    kube: KubeClient,
    registering: _Registering,
    replicas: int,
    access: str,
    namespace: str,
    timeout_s: float,
) -> ModelVersion:
    name = registering.name
    version = await registering.register(kube, namespace)
    await make_model(kube, name, namespace)
    if registering.trusted_types:
        await trust(kube, name, namespace, registering.trusted_types)
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
        give_up=lambda seen: seen.reason in {"VersionFailed", "UntrustedTypes"},
    )
    return version
