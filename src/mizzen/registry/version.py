"""A new `ModelVersion`: numbered, labelled, made exactly once for each run.

The number is the next free one. It is taken by creating the object, whose name holds it: of two writers one is told
that the name is taken, looks again, and takes the following. A writer that names its run finds, when it comes again
after a crash, the version that it made before.
"""

from collections.abc import Mapping
from typing import Protocol

from mizzen.kinds.build import Artifact, ConversionCheck, Lineage, Model, ModelVersion, ModelVersionSpec, Signature
from mizzen.kinds.meta import ObjectMeta
from mizzen.kinds.names import LABEL_DIGEST, LABEL_MODEL, LABEL_RUN, LABEL_VERSION, version_name
from mizzen.kube.client import Client
from mizzen.kube.errors import AlreadyExists, NotFound
from mizzen.registry.errors import VersionsContended

_ATTEMPTS = 50


class Versions(Protocol):
    """The model versions of one namespace. Calls raise what the API's client raises, where the API is away."""

    async def with_labels(self, labels: Mapping[str, str]) -> list[ModelVersion]:
        """Those that carry all of the labels."""

    async def highest_known(self, model: str) -> int:
        """The highest number the `Model` ever had, so that a deleted version's is not used again; 0 without one."""

    async def create(self, version: ModelVersion) -> ModelVersion | None:
        """As the server made it; `None` where the name is taken."""


class ClusterVersions:
    """`Versions` of a Kubernetes API server."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client, self._namespace = client, namespace

    async def with_labels(self, labels: Mapping[str, str]) -> list[ModelVersion]:
        return (await self._client.list(ModelVersion, self._namespace, labels=labels)).items

    async def highest_known(self, model: str) -> int:
        try:
            return (await self._client.get(Model, model, self._namespace)).status.latest_version or 0
        except NotFound:
            return 0

    async def create(self, version: ModelVersion) -> ModelVersion | None:
        version.metadata.namespace = self._namespace
        try:
            return await self._client.create(version)
        except AlreadyExists:
            return None


async def create_version(
    versions: Versions,
    *,
    model: str,
    run: str | None,
    artifact: Artifact,
    signature: Signature,
    metrics: Mapping[str, float],
    lineage: Lineage,
    conversion: ConversionCheck | None,
) -> ModelVersion:
    """Creates the model's next version, or returns the one that `run` made before.

    Raises `VersionsContended` where other writers take every number first.
    """
    for _ in range(_ATTEMPTS):
        if run is not None and (made := await versions.with_labels({LABEL_MODEL: model, LABEL_RUN: run})):
            return made[0]
        taken = [version.spec.version for version in await versions.with_labels({LABEL_MODEL: model})]
        number = max([*taken, await versions.highest_known(model)], default=0) + 1
        spec = ModelVersionSpec(
            model=model,
            version=number,
            artifact=artifact,
            signature=signature,
            metrics=dict(metrics),
            lineage=lineage,
            conversion=conversion,
        )
        created = await versions.create(ModelVersion(metadata=_metadata(spec, run), spec=spec))
        if created is not None:
            return created
    raise VersionsContended(f"{model}: {_ATTEMPTS} other versions were created first; try again")


def _metadata(spec: ModelVersionSpec, run: str | None) -> ObjectMeta:
    labels = {
        LABEL_MODEL: spec.model,
        LABEL_VERSION: str(spec.version),
        LABEL_DIGEST: spec.artifact.digest.removeprefix("sha256:")[:16],
    }
    if run is not None:
        labels[LABEL_RUN] = run
    return ObjectMeta(name=version_name(spec.model, spec.version), labels=labels)
