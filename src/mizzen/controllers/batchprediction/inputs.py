"""What a run needs, resolved: the model version, the dataset's version, and an output that is its own to write.

All that can be seen in objects is checked here, before a Pod is started; what only the rows can tell (their types, a
condition over them) is checked by the Pod before it computes anything.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mizzen.controllers.endpoint.decide import resolved
from mizzen.kinds import BatchPrediction, Dataset, InferenceEndpoint, Model, ModelVersion
from mizzen.kinds.build import Signature
from mizzen.kinds.data import InputVersion, ModelUsed
from mizzen.kinds.meta import condition_named

CACHE_URL = "MIZZEN_CACHE_REDIS"
Problem = tuple[str, str]
"""(reason, message)."""


@dataclass(frozen=True, slots=True)
class Found:
    """The objects that a batch prediction names, as far as there are any."""

    dataset: Dataset | None = None
    output: Dataset | None = None
    endpoint: InferenceEndpoint | None = None
    model: Model | None = None
    """That of `spec.model`, or of the version that the endpoint serves."""
    versions: Mapping[int, ModelVersion] | None = None
    """That model's, by number."""
    cached: InferenceEndpoint | None = None
    """The endpoint whose cache is to know the answers."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run is made from."""

    model: ModelUsed
    input: InputVersion
    rows: int | None


def inputs_of(batch: BatchPrediction, found: Found) -> Inputs | Problem:
    """What a run that starts now would read, or why it cannot start."""
    problem = _output_problem(batch, found.output) or _cache_problem(batch, found.cached)
    if problem is not None:
        return problem
    model = _model(batch, found)
    if not isinstance(model, ModelVersion):
        return model
    read = _input(batch, found.dataset)
    if not isinstance(read, InputVersion):
        return read
    dataset = found.dataset
    assert dataset is not None, "it has a version"
    served = dataset.status.version == read.version
    if served and dataset.status.columns:
        names = [column.name for column in dataset.status.columns]
        problem = _columns_problem(batch, model, names, f"dataset {dataset.name} at version {read.version}")
        if problem is not None:
            return problem
    spec = model.spec
    used = ModelUsed(name=model.name, model=spec.model, version=spec.version, digest=spec.artifact.digest)
    return Inputs(used, read, dataset.status.rows if served else None)


def _output_problem(batch: BatchPrediction, output: Dataset | None) -> Problem | None:
    if output is None or output.spec.source.batch_prediction == batch.name:
        return None
    source = next(iter(output.spec.source.to_wire().items()))
    what = f"batchPrediction: {source[1]}" if source[0] == "batchPrediction" else source[0]
    return "OutputTaken", (
        f"spec.output.dataset: expected a new name, or a Dataset with source: {{batchPrediction: {batch.name}}}, "
        f"found {output.name}, whose source is {what}"
    )


def _cache_problem(batch: BatchPrediction, endpoint: InferenceEndpoint | None) -> Problem | None:
    wanted = batch.spec.output.cache
    if wanted is None:
        return None
    path = "spec.output.cache"
    if endpoint is None:
        return "EndpointMissing", f"{path}.endpoint: expected an existing InferenceEndpoint, found no {wanted.endpoint}"
    if endpoint.spec.cache is None or not endpoint.spec.cache.redis:
        return (
            "NoCache",
            f"{path}.endpoint: expected an endpoint with spec.cache: {{redis: true}}, found {endpoint.name}",
        )
    if (endpoint.spec.access == "anonymous") == bool(wanted.callers):
        return "WrongCallers", (
            f"{path}.callers: expected names of API keys if and only if the endpoint asks for them, found "
            f"{', '.join(wanted.callers) or 'none'} for access: {endpoint.spec.access}"
        )
    if all(value.name != CACHE_URL for value in batch.spec.env):
        return "NoCache", f"spec.env: expected {CACHE_URL}, the Redis that the gateways of {endpoint.name} share"
    return None


def _model(batch: BatchPrediction, found: Found) -> ModelVersion | Problem:
    versions = found.versions or {}
    if batch.spec.endpoint is None:
        assert batch.spec.model is not None, "exactly one of the two is given"
        version = resolved(batch.spec.model, "spec.model", found.model, versions)
        return version if isinstance(version, tuple) else versions[version.version]
    endpoint = found.endpoint
    if endpoint is None:
        return (
            "EndpointMissing",
            f"spec.endpoint: expected an existing InferenceEndpoint, found no {batch.spec.endpoint}",
        )
    if endpoint.spec.graph is not None:
        return "EndpointIsGraph", (
            f"spec.endpoint: expected an endpoint of one model, found {endpoint.name}, which is a graph of several"
        )
    if not endpoint.status.traffic:
        ready = condition_named(endpoint.status.conditions, "Ready")
        why = f": {ready.message}" if ready is not None and ready.message else ""
        return "WaitingForEndpoint", f"waits for endpoint {endpoint.name} to serve a version{why}"
    traffic = max(endpoint.status.traffic, key=lambda each: each.percent)
    served = versions.get(traffic.version)
    if served is None or served.spec.artifact.digest != traffic.digest:
        return "VersionMissing", f"endpoint {endpoint.name} serves {traffic.model_version}, of which there is no object"
    return served


def _input(batch: BatchPrediction, dataset: Dataset | None) -> InputVersion | Problem:
    wanted = batch.spec.input
    if dataset is None:
        return "DatasetMissing", f"spec.input.dataset: expected an existing Dataset, found no {wanted.dataset}"
    newest = dataset.status.version
    if newest is None:
        ready = condition_named(dataset.status.conditions, "Ready")
        why = f" ({ready.reason}: {ready.message})" if ready is not None and ready.message else ""
        return "WaitingForDataset", f"waits for dataset {dataset.name}, which has no version yet{why}"
    if wanted.version is not None and wanted.version > newest:
        return "DatasetVersionMissing", (
            f"spec.input.version: expected at most {newest}, the newest version of {dataset.name}, got {wanted.version}"
        )
    if wanted.version is None or wanted.version == newest:
        return InputVersion(name=dataset.name, version=newest, digest=dataset.status.digest)
    return InputVersion(name=dataset.name, version=wanted.version)


def taken_columns(signature: Signature) -> Sequence[str]:
    """What the model looks at, by name: the columns of its one matrix, or its inputs."""
    if len(signature.inputs) == 1 and signature.inputs[0].shape == [-1, len(signature.columns)]:
        return signature.columns
    return [tensor.name for tensor in signature.inputs]


def _columns_problem(batch: BatchPrediction, model: ModelVersion, names: Sequence[str], what: str) -> Problem | None:
    wanted = batch.spec.input.columns
    for column in taken_columns(model.spec.signature):
        name = wanted.get(column, column)
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            said = f"spec.input.columns.{column}" if column in wanted else "spec.input"
            return "MissingColumns", (
                f"{said}: model {model.name} takes {column}: expected a column {name} in {what}, found "
                f"{', '.join(names)}{meant}; spec.input.columns says which column is taken for which of the model's"
            )
    missing = [name for name in batch.spec.output.keep or () if name not in names]
    if missing:
        return "MissingColumns", (
            f"spec.output.keep: expected columns of {what} ({', '.join(names)}), got {missing[0]}"
        )
    return None
