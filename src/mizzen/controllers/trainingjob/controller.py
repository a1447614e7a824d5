"""Reconciles TrainingJobs: load, decide (`decide.py`), apply."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mizzen.controllers.jobs import Outcome, job_for, outcome, run_name
from mizzen.controllers.platform import Platform, ResourceController
from mizzen.controllers.settings import PlatformSettings
from mizzen.controllers.trainingjob.decide import decide
from mizzen.controllers.trainingjob.trainingset import Making, making, set_job, set_run, table_of
from mizzen.kinds import Dataset, FeatureView, Model, TrainingJob
from mizzen.kinds.build import TrainingJobStatus
from mizzen.kinds.names import LABEL_RUN
from mizzen.kube.resources import Key
from mizzen.kube.runtime import Result, Watch, controller_of, labelled

MODULE = "mizzen.training.main"
SETTINGS_RETRY_S = 5.0


class TrainingJobController(ResourceController):
    """Makes one run for each generation of a TrainingJob, once what it needs is there."""

    name = "trainingjob"

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)
        informers = platform.informers
        self._trainings = informers.of(TrainingJob)
        self._models = informers.of(Model)
        self._datasets = informers.of(Dataset)
        self._views = informers.of(FeatureView)
        self._trainings.add_index("model", lambda job: [f"{job.namespace}/{job.spec.model}"])
        self._trainings.add_index("dataset", _datasets_of)
        self._trainings.add_index("view", _views_of)
        self._trainings.add_index(
            "run",
            lambda job: [
                f"{job.namespace}/{run}" for run in (job.status.current_run, set_run(job.status.current_run or ""))
            ],
        )

    def watches(self) -> Sequence[Watch[Any]]:
        return (
            Watch(self._trainings),
            Watch(self._models, lambda model: self._found("model", f"{model.namespace}/{model.name}")),
            Watch(self._datasets, lambda dataset: self._found("dataset", f"{dataset.namespace}/{dataset.name}")),
            Watch(self._views, lambda view: self._found("view", f"{view.namespace}/{view.name}")),
            Watch(self.platform.jobs, controller_of(TrainingJob)),
            Watch(self.platform.pods, self._of_run),
        )

    def _of_run(self, pod: object) -> Iterable[Key]:
        """The TrainingJob whose Job the Pod belongs to."""
        return [key for run in labelled(LABEL_RUN)(pod) for key in self._found("run", str(run))]

    def _found(self, index: str, value: str) -> Iterable[Key]:
        return [Key(job.namespace, job.name) for job in self._trainings.by_index(index, value)]

    async def reconcile(self, key: Key) -> Result | None:
        training = self._trainings.at(key)
        if training is None or training.metadata.deletion_timestamp is not None:
            return None
        settings = self.settings_or_none(training)
        if settings is None:
            return Result(after_s=SETTINGS_RETRY_S)
        run, namespace = run_name(training), training.namespace
        named = {wanted.name: self._datasets.get(namespace, wanted.name) for wanted in training.spec.datasets}
        views = {view.name: view for view in self._views.list(namespace)} if training.spec.features is not None else {}
        decision = decide(
            training,
            self._models.get(namespace, training.spec.model),
            {name: dataset for name, dataset in named.items() if dataset is not None},
            self._outcome(namespace, run),
            self.platform.now_text(),
            self._training_set(training, run, views),
        )
        # The status goes first: it fixes the dataset versions, and a Job made from others than it names would lie.
        await self.platform.write_status(training, training.status, decision.status)
        if decision.start_set and decision.status.features is not None:
            await self.platform.create_job(set_job(training, run, decision.status.features, views, settings))
        if decision.start is not None:
            model = self._models.get(namespace, training.spec.model)
            task = task_of(training, model, decision.status, decision.start, settings)
            await self.platform.create_job(job_for(training, decision.start, MODULE, task, training.spec, settings))
        self.platform.tell(training, decision.events)
        return None

    def _outcome(self, namespace: str, run: str) -> Outcome:
        return outcome(self.platform.jobs.get(namespace, run), self.platform.pods_of(namespace, run))

    def _training_set(self, training: TrainingJob, run: str, views: Mapping[str, FeatureView]) -> Making | None:
        if training.spec.features is None:
            return None
        datasets = {dataset.name: dataset for dataset in self._datasets.list(training.namespace)}
        return making(training, run, views, datasets, self._outcome(training.namespace, set_run(run)))


def _datasets_of(training: TrainingJob) -> Iterable[str]:
    names = [dataset.name for dataset in training.spec.datasets]
    names += [training.spec.features.spine.dataset] if training.spec.features is not None else []
    return [f"{training.namespace}/{name}" for name in names]


def _views_of(training: TrainingJob) -> Iterable[str]:
    taken = training.spec.features.taken() if training.spec.features is not None else []
    return [f"{training.namespace}/{each.view}" for each in taken]


def task_of(
    training: TrainingJob, model: Model | None, status: TrainingJobStatus, run: str, settings: PlatformSettings
) -> dict[str, Any]:
    """What the training Pod needs to know; see docs/architecture.md."""
    spec = training.spec
    return {
        "namespace": training.namespace,
        "name": training.name,
        "run": run,
        "storeUrl": settings.store_url,
        "code": spec.code,
        "entrypoint": spec.entrypoint,
        "model": spec.model,
        "modelTask": model.spec.task if model is not None else "other",
        "datasets": [dataset.to_wire() for dataset in status.datasets],
        "parameters": spec.parameters,
        "seed": spec.seed,
        "requirements": spec.requirements,
        "trainingSet": table_of(training, spec.features) if spec.features is not None else None,
    }
