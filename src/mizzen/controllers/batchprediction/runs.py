"""The Job of a run, and what its Pods are told.

The Job is an indexed one: each index has a part of the row groups, whatever becomes of the others, and a Pod that is
started again goes on with its own.
"""

from typing import Any

from lightkube.models.core_v1 import Container
from lightkube.resources.batch_v1 import Job

from mizzen.controllers.batchprediction.inputs import Found
from mizzen.controllers.jobs import job_for, requirements
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import BatchPrediction, ModelVersion
from mizzen.kinds.batch import BatchRun
from mizzen.kinds.pods import EnvValue, SecretKey
from mizzen.kinds.scalars import duration_s, quantity

MODULE = "mizzen.serving.batch"
KEY_VARIABLE = "MIZZEN_API_KEY"
BACKGROUND_CPU = "1m"
"""What a Pod in the background asks for: the least weight there is."""


def job_of(
    batch: BatchPrediction,
    run: BatchRun,
    version: ModelVersion,
    found: Found,
    key: SecretKey | None,
    settings: PlatformSettings,
) -> Job:
    """The Job of a run. `key` is where the API key of the endpoint is, where it wants one."""
    spec = batch.spec
    options = spec
    if key is not None:
        options = spec.model_copy(update={"env": [*spec.env, EnvValue(name=KEY_VARIABLE, secret=key)]})
    task = task_of(batch, run, version, found, settings)
    job = job_for(batch, run.name, MODULE, task, options, settings)
    assert job.spec is not None, "a Job of ours has a spec"
    if spec.background:
        # Processes of a container share its weight among themselves, whatever their scheduling class: it is the
        # container's own that has to be small beside others', and nothing is reserved.
        (container,) = _containers(job)
        container.resources = requirements(spec.resources.model_copy(update={"cpu": BACKGROUND_CPU}))
    job.spec.completionMode = "Indexed"
    job.spec.completions = job.spec.parallelism = spec.parallelism
    return job


def _containers(job: Job) -> list[Container]:
    assert job.spec is not None, "a Job of ours has a spec"
    pod = job.spec.template.spec
    assert pod is not None, "and its template a Pod's"
    return pod.containers


def task_of(
    batch: BatchPrediction,
    run: BatchRun,
    version: ModelVersion,
    found: Found,
    settings: PlatformSettings,
) -> dict[str, Any]:
    """What the Pods need to know; see docs/architecture.md."""
    endpoint, output, dataset = found.endpoint, found.output, found.dataset
    columns = dataset.status.columns if dataset is not None else []
    known = [column for column in columns if column.personal is not None or column.residency or column.tags]
    spec, artifact = batch.spec, version.spec.artifact
    wire = spec.to_wire()
    task = {
        "namespace": batch.namespace,
        "name": batch.name,
        "run": run.name,
        "storeUrl": settings.store_url,
        "input": run.input.to_wire(),
        "model": run.model.to_wire(),
        "known": [column.to_wire() for column in known],
        "format": artifact.format,
        "trusted": artifact.untrusted_types,
        "signature": version.spec.signature.to_wire(),
        "output": wire["output"],
        "columns": spec.input.columns,
        "way": spec.way,
        "parallelism": spec.parallelism,
        "batchRows": spec.batch_rows,
        "groupRows": spec.group_rows,
        "threads": max(1, int(quantity(spec.resources.cpu))),
        "background": spec.background,
        "keptIn": run.kept_in,
        "active": [each.kept_in for each in batch.status.runs if each.active],
    }
    given = {"where": spec.input.where, "errorLimit": spec.error_limit, "lineageUrl": settings.lineage_url or None}
    task |= {name: value for name, value in given.items() if value is not None}
    if output is not None:
        task["retention"] = output.spec.retention.to_wire()
    cached = found.cached.spec.cache if found.cached is not None else None
    if spec.output.cache is not None and cached is not None:
        callers = spec.output.cache.callers or [""]
        task["cache"] = {"endpoint": spec.output.cache.endpoint, "callers": callers, "ttlS": duration_s(cached.ttl)}
    if endpoint is not None and spec.way == "endpoint":
        path = f"/namespaces/{endpoint.namespace}/v2/models/{endpoint.name}"
        rows_max = min(endpoint.spec.batching.max_rows, endpoint.spec.queue.max_rows)
        task["endpoint"] = {
            "name": endpoint.name,
            "url": settings.gateway_url + path,
            "batchRowsMax": rows_max,
            "workers": endpoint.status.replicas,
        }
    return task
