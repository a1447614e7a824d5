"""One run: code -> function -> model -> ONNX -> version.

The order makes a restart cheap and harmless: a run that finds its model version made before only reports; one that was
killed while it trained finds its checkpoints. Nothing is numbered before it has been converted, checked and stored.
"""

import logging
import random
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mizzen.data.entrypoint import described, is_class, load_function
from mizzen.data.lake.code import unpack
from mizzen.data.lake.errors import CodeError, DigestMismatch, LakeError, ObjectMissing, VersionMissing
from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table, TableVersion
from mizzen.data.pod import TRY_AGAIN, Failure
from mizzen.kinds.build import DatasetVersion, Lineage, ModelVersion, Progress, TrainingReport
from mizzen.kube.times import format_time
from mizzen.registry.errors import ModelUnfit, RegistryError
from mizzen.registry.lineage import imported_packages, python_version
from mizzen.registry.prepared import Prepared
from mizzen.registry.python_model import PythonModel, prepare_python
from mizzen.registry.registering import prepare
from mizzen.training.checkpoints import Checkpoints
from mizzen.training.context import Context
from mizzen.training.result import TrainedModel, validated
from mizzen.training.task import RunReporter, TrainingTask

_LOG = logging.getLogger(__name__)
_TRACEBACK_LINES = 12

Clock = Callable[[], datetime]


class Registry(Protocol):
    """Where the run's model version is made. Both raise `ConnectionError` where the API was away for too long."""

    def made_by(self, task: TrainingTask) -> ModelVersion | None:
        """The version that this run made before."""

    def register(
        self, task: TrainingTask, store: Store, prepared: Prepared, metrics: Mapping[str, float], lineage: Lineage
    ) -> ModelVersion:
        """Makes the version, or returns the one that this run made."""


def run(task: TrainingTask, registry: Registry, reporter: RunReporter, work: Path, clock: Clock) -> ModelVersion:
    """Trains, converts and registers; returns the version, which is reported.

    Raises `Failure` for whatever went wrong, which is reported too.
    """
    try:
        store = Store.open(task.store_url)
        version = registry.made_by(task)
        if version is None:
            version = _trained(task, store, registry, reporter, work, clock)
        else:
            _LOG.info("%s: this run made %s before", task.name, version.name)
    except ConnectionError as error:  # nobody there to be told of it
        raise Failure("ApiAway", str(error), exit_code=TRY_AGAIN) from error
    except (Failure, LakeError, RegistryError, OSError) as error:
        failure = _as_failure(error)
        _tell_end(reporter, _report(task, clock, succeeded=False, reason=failure.reason, message=failure.message))
        raise failure from error
    end = _report(task, clock, succeeded=True, metrics=version.spec.metrics, model_version=version.name)
    _tell_end(reporter, end)
    return version


def _trained(
    task: TrainingTask, store: Store, registry: Registry, reporter: RunReporter, work: Path, clock: Clock
) -> ModelVersion:
    folder = _unpacked(task, store, work)
    datasets = {dataset.name: _dataset(task, store, dataset) for dataset in task.datasets}

    def tell(progress: Progress | None, metrics: Mapping[str, float]) -> None:
        reporter.update(_report(task, clock, progress=progress, metrics=metrics))

    with Checkpoints(store, f"runs/{task.namespace}/{task.name}/{task.run}/checkpoints", work / "checkpoints") as kept:
        context = Context(
            datasets={name: partial(_same, version) for name, version in datasets.items()},
            parameters=task.parameters,
            seed=task.seed,
            checkpoints=kept.folder,
            tell=tell,
            training_set=task.training_set,
        )
        reporter.update(_report(task, clock))
        if is_class(folder, task.entrypoint):  # nothing to train: the class is the model
            own = PythonModel(task.entrypoint, requirements=task.requirements, parameters=task.parameters)
            result = TrainedModel(own)
        else:
            result = validated(_called(task, folder, context), task.entrypoint)
        prepared = _prepared(task, store, result)
        version = registry.register(task, store, prepared, result.metrics, _lineage(task, datasets))
    kept.forget()
    return version


def _same(version: TableVersion) -> TableVersion:
    return version


def _unpacked(task: TrainingTask, store: Store, work: Path) -> Path:
    try:
        return unpack(store, task.code, work / "code")
    except (CodeError, DigestMismatch, ObjectMissing, ValueError) as error:
        raise Failure("CodeMissing", str(error)) from error


def _dataset(task: TrainingTask, store: Store, dataset: DatasetVersion) -> TableVersion:
    try:
        return Table(store, task.namespace, dataset.name).at(dataset.version)
    except VersionMissing as error:
        raise Failure("DatasetMissing", str(error)) from error


def _called(task: TrainingTask, folder: Path, context: Context) -> Any:
    """What the user's function returns. Raises `Failure` (`FunctionRaised`) for whatever it raises."""
    random.seed(task.seed)
    np.random.seed(task.seed % 2**32)  # noqa: NPY002 - the generator that libraries use unasked
    try:
        return load_function(folder, task.entrypoint)(context)
    except CodeError as error:
        raise Failure("CodeMissing", str(error)) from error
    except (Exception, SystemExit) as error:
        _LOG.exception("%s raised", task.entrypoint)
        lines = "".join(traceback.format_exception(error)).rstrip().splitlines()[-_TRACEBACK_LINES:]
        message = f"{task.entrypoint} raised {described(error, folder)}"
        raise Failure("FunctionRaised", message, details="\n".join(lines)) from error


def _prepared(task: TrainingTask, store: Store, result: TrainedModel) -> Prepared:
    model = result.model
    try:
        if isinstance(model, PythonModel):
            if model.requirements is None and task.requirements is not None:
                model = replace(model, requirements=task.requirements)
            return prepare_python(model, store, task.code, result.example)
        return prepare(model, result.example, result.holdout, result.form, (store, task.code))
    except ModelUnfit as error:
        raise Failure(error.reason, f"{task.entrypoint}: {error}") from error


def _lineage(task: TrainingTask, datasets: Mapping[str, TableVersion]) -> Lineage:
    return Lineage(
        training_job=task.name,
        run=task.run,
        datasets=[DatasetVersion(name=n, version=table.version, digest=table.digest) for n, table in datasets.items()],
        code=task.code,
        entrypoint=task.entrypoint,
        parameters=task.parameters,
        seed=task.seed,
        python=python_version(),
        packages=imported_packages(),
    )


def _report(task: TrainingTask, clock: Clock, **known: Any) -> TrainingReport:
    return TrainingReport(run=task.run, updated_at=format_time(clock()), **known)


def _as_failure(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, ModelUnfit):
        return Failure(error.reason, str(error))
    if isinstance(error, RegistryError):
        return Failure(error.reason, str(error), exit_code=TRY_AGAIN)
    reason = "StoreFailed" if isinstance(error, LakeError) else "InternalError"
    return Failure(reason, str(error), exit_code=TRY_AGAIN)


def _tell_end(reporter: RunReporter, report: TrainingReport) -> None:
    try:
        reporter.finish(report)
    except ConnectionError as error:
        raise Failure("ReportFailed", f"the API server cannot be told: {error}", exit_code=TRY_AGAIN) from error
