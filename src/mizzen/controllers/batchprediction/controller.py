"""Reconciles BatchPredictions: load, decide (`decide.py`), apply."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from lightkube.resources.batch_v1 import Job

from mizzen.controllers.batchprediction.decide import decide
from mizzen.controllers.batchprediction.deleting import depart, removal_job, removal_name
from mizzen.controllers.batchprediction.inputs import Found
from mizzen.controllers.batchprediction.keys import key_of
from mizzen.controllers.batchprediction.runs import job_of
from mizzen.controllers.conditions import Happened
from mizzen.controllers.indexes import MODEL, model_of
from mizzen.controllers.jobs import MANAGED_BY, outcome
from mizzen.controllers.platform import Platform, ResourceController
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import BatchPrediction, Dataset, InferenceEndpoint, Model, ModelVersion
from mizzen.kinds.batch import BatchPredictionStatus, BatchRun
from mizzen.kinds.data import DatasetSource, DatasetSpec
from mizzen.kinds.meta import ObjectMeta
from mizzen.kinds.names import FINALIZER_KEPT, LABEL_RUN, ModelReference
from mizzen.kube.conditions import add_finalizer, remove_finalizer
from mizzen.kube.errors import Forbidden, NotFound
from mizzen.kube.resources import Key
from mizzen.kube.runtime import Result, Watch, controller_of, labelled

SETTINGS_RETRY_S = 5.0
DEPART_LOOK_S = 0.5


class BatchPredictionController(ResourceController):
    """Makes the runs that a BatchPrediction wants, and tells how they go."""

    name = "batchprediction"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        informers = platform.informers
        self._batches = informers.of(BatchPrediction)
        self._datasets = informers.of(Dataset)
        self._endpoints = informers.of(InferenceEndpoint)
        self._models = informers.of(Model)
        self._versions = informers.of(ModelVersion)
        self._versions.add_index(MODEL, model_of)
        self._batches.add_index("dataset", lambda b: [f"{b.namespace}/{b.spec.input.dataset}", _output_key(b)])
        self._batches.add_index("endpoint", _endpoints_of)
        self._batches.add_index("model", lambda b: [f"{b.namespace}/{_model_named(b)}"])
        self._batches.add_index("run", lambda b: [f"{b.namespace}/{run.name}" for run in b.status.runs])

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._batches),
            Watch(self._datasets, lambda dataset: self._found("dataset", f"{dataset.namespace}/{dataset.name}")),
            Watch(self._endpoints, lambda endpoint: self._found("endpoint", f"{endpoint.namespace}/{endpoint.name}")),
            Watch(self._models, lambda model: self._found("model", f"{model.namespace}/{model.name}")),
            Watch(self._versions, lambda version: self._found("model", f"{version.namespace}/{version.spec.model}")),
            Watch(self.platform.jobs, controller_of(BatchPrediction)),
            Watch(self.platform.pods, self._of_run),
        )

    def _of_run(self, pod: object) -> Iterable[Key]:
        """The BatchPrediction whose Job the Pod belongs to."""
        return [key for run in labelled(LABEL_RUN)(pod) for key in self._found("run", str(run))]

    def _found(self, index: str, value: str) -> Iterable[Key]:
        return [Key(batch.namespace, batch.name) for batch in self._batches.by_index(index, value)]

    async def reconcile(self, key: Key) -> Result | None:
        batch = self._batches.at(key)
        if batch is None:
            return None
        settings = self.settings_or_none(batch)
        if settings is None:
            return Result(after_s=SETTINGS_RETRY_S)
        if batch.metadata.deletion_timestamp is not None:
            return await self._depart(batch, settings)
        found = self._objects(batch)
        jobs = {
            run.name: outcome(
                self.platform.jobs.get(batch.namespace, run.name), self.platform.pods_of(batch.namespace, run.name)
            )
            for run in batch.status.runs
            if run.active
        }
        decision = decide(batch, found, jobs, self.platform.now())
        if decision.start and FINALIZER_KEPT not in batch.metadata.finalizers:
            # Before the first answer is kept, not after it: what is kept is taken away, whatever happens in between.
            self._batches.wrote(await add_finalizer(self.platform.client, batch, FINALIZER_KEPT))
            return Result(after_s=0.0)
        # The status goes first: it fixes what a run reads, and a Job made from anything else would lie.
        await self.platform.write_status(batch, batch.status, decision.status)
        self.platform.tell(batch, decision.events)
        for name in decision.end:
            await self._end(batch, name)
        for run in decision.start:
            await self._start(batch, decision.status, run, found, settings)
        return Result(after_s=decision.look_again_s) if decision.look_again_s is not None else None

    async def _depart(self, batch: BatchPrediction, settings: PlatformSettings) -> Result | None:
        if FINALIZER_KEPT not in batch.metadata.finalizers:
            return None
        namespace, name = batch.namespace, removal_name(batch)
        jobs = self.platform.jobs
        for run in batch.status.runs:
            await self._end(batch, run.name)
        at_work = any(
            jobs.get(namespace, run.name) is not None or list(self.platform.pods_of(namespace, run.name))
            for run in batch.status.runs
        )
        departure = depart(
            at_work=at_work, removal=outcome(jobs.get(namespace, name), self.platform.pods_of(namespace, name))
        )
        left = departure.left
        if departure.remove:
            try:
                await self.platform.create_job(removal_job(batch, settings))
            except Forbidden as error:  # the namespace goes too
                left = str(error)
        if left:
            said = f"what its runs have kept stays in the store, under runs/{namespace}/{batch.name}: {left}"
            self.platform.tell(batch, [Happened("Warning", "AnswersLeft", said)])
        if departure.let_go or left:
            await remove_finalizer(self.platform.client, batch, FINALIZER_KEPT)
            return None
        return Result(after_s=DEPART_LOOK_S)

    def _objects(self, batch: BatchPrediction) -> Found:
        """What the spec names, as far as it is there."""
        namespace, spec = batch.namespace, batch.spec
        endpoint = self._endpoints.get(namespace, spec.endpoint) if spec.endpoint is not None else None
        model = _model_named(batch) or (
            endpoint.status.traffic[0].model if endpoint is not None and endpoint.status.traffic else ""
        )
        versions = self._versions.by_index(MODEL, f"{namespace}/{model}")
        return Found(
            self._datasets.get(namespace, spec.input.dataset),
            self._datasets.get(namespace, spec.output.dataset),
            endpoint,
            self._models.get(namespace, model),
            {version.spec.version: version for version in versions},
            self._endpoints.get(namespace, spec.output.cache.endpoint) if spec.output.cache is not None else None,
        )

    async def _start(
        self,
        batch: BatchPrediction,
        status: BatchPredictionStatus,
        run: BatchRun,
        found: Found,
        settings: PlatformSettings,
    ) -> None:
        """Makes what a run needs, the Job last."""
        version = self._versions.get(batch.namespace, run.model.name)
        if version is None or version.spec.artifact.digest != run.model.digest:
            said = f"run {run.name}: model version {run.model.name} is gone"
            self.platform.tell(batch, [Happened("Warning", "VersionMissing", said)])
            return
        if found.output is None:
            await self.platform.create_missing(output_of(batch))
        key = None
        endpoint = found.endpoint
        if batch.spec.way == "endpoint" and endpoint is not None and endpoint.spec.access != "anonymous":
            key = await key_of(self.platform, batch, endpoint.name, secrets.token_urlsafe)
        now = batch.model_copy(update={"status": status})
        await self.platform.create_job(job_of(now, run, version, found, key, settings))

    async def _end(self, batch: BatchPrediction, name: str) -> None:
        """Deletes a Job and its Pods."""
        if self.platform.jobs.get(batch.namespace, name) is None:
            return
        try:
            await self.platform.client.delete(Job, name, batch.namespace, propagation="Background")
        except NotFound:
            return


def output_of(batch: BatchPrediction) -> Dataset:
    """The output dataset, where nobody has declared it. It is nobody's: results outlive what made them."""
    metadata = ObjectMeta(name=batch.spec.output.dataset, namespace=batch.namespace, labels=dict(MANAGED_BY))
    return Dataset(metadata=metadata, spec=DatasetSpec(source=DatasetSource(batch_prediction=batch.name)))


def _model_named(batch: BatchPrediction) -> str:
    return ModelReference.parse(batch.spec.model).name if batch.spec.model is not None else ""


def _endpoints_of(batch: BatchPrediction) -> Iterable[str]:
    cache = batch.spec.output.cache
    names = [batch.spec.endpoint, cache.endpoint if cache is not None else None]
    return [f"{batch.namespace}/{name}" for name in names if name is not None]


def _output_key(batch: BatchPrediction) -> str:
    return f"{batch.namespace}/{batch.spec.output.dataset}"
