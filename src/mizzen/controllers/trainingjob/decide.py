"""What a TrainingJob needs next: its datasets, its Job, or its end.

Life of one generation (`status.phase`):

    Pending ──► Running ──► Succeeded   a ModelVersion was made
       │           └──────► Failed      with the reason that the function, the Pod or the Job gave
       └─ waits for the Model to exist, for every dataset to have a version, and for the training set to be made

`Ready` is Unknown until the end: True where a version was made, False where the run failed.
The versions of the datasets are fixed when the Job is made, and stay in the status: a retry reads the same rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.jobs import Outcome, run_name
from mizzen.controllers.trainingjob.trainingset import Making
from mizzen.kinds import Dataset, Model, TrainingJob
from mizzen.kinds.build import DatasetVersion, TrainingJobStatus
from mizzen.kinds.meta import condition_named

INPUTS, READY = "InputsReady", "Ready"
TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Decision:
    """`start` names the Job to make, if any; `status` is the whole new status; `events` are to be recorded."""

    status: TrainingJobStatus
    start: str | None = None
    start_set: bool = False
    """Whether the Job is to be made that makes the training set."""
    events: tuple[Happened, ...] = ()


def decide(
    training: TrainingJob,
    model: Model | None,
    datasets: Mapping[str, Dataset],
    job: Outcome,
    now: str,
    training_set: Making | None = None,
) -> Decision:
    """The decision for one TrainingJob. `datasets` are those named in its spec that exist."""
    moment = Moment(training.metadata.generation or 0, now)
    status = training.status.model_copy(deep=True)
    run = run_name(training)
    ready = condition_named(status.conditions, READY)
    if ready is not None and ready.observed_generation == moment.generation and status.phase in TERMINAL:
        return Decision(status)
    if status.current_run != run:
        status = TrainingJobStatus(conditions=status.conditions, current_run=run, phase="Pending")
    if job.state == "Absent":
        return _not_started(training, model, datasets, training_set, status, moment)
    report = status.run if status.run is not None and status.run.run == run else None
    status.started_at = status.started_at or (f"{job.started_at:%Y-%m-%dT%H:%M:%SZ}" if job.started_at else now)
    if job.state == "Succeeded" and report is not None and report.model_version:
        status.phase, status.model_version, status.finished_at = "Succeeded", report.model_version, now
        message = f"made {report.model_version}" + _metrics(report.metrics)
        moment.state(status, READY, "True", "Succeeded", message)
        return Decision(status, events=(Happened("Normal", "Succeeded", message),))
    if job.state in TERMINAL:
        reported = report is not None and report.succeeded is False
        reason = (report.reason if report is not None and reported else job.reason) or "NoResult"
        message = (
            report.message if report is not None and reported else job.message
        ) or "the Pod ended without a result"
        status.phase, status.finished_at = "Failed", now
        moment.state(status, READY, "False", reason, message)
        return Decision(status, events=(Happened("Warning", reason, message),))
    if job.state == "Waiting" and job.reason:
        status.phase = "Pending"
        moment.state(status, READY, "Unknown", job.reason, job.message)
    else:
        status.phase = "Running"
        moment.state(status, READY, "Unknown", "Running", f"Job {run} is at work")
    return Decision(status)


def _not_started(
    training: TrainingJob,
    model: Model | None,
    datasets: Mapping[str, Dataset],
    training_set: Making | None,
    status: TrainingJobStatus,
    moment: Moment,
) -> Decision:
    problem = _problem(training, model, datasets)
    if problem is not None:
        return _pending(status, moment, *problem)
    if training_set is not None and training_set.state == "failed":
        status.phase, status.finished_at = "Failed", moment.now
        moment.state(status, INPUTS, "False", training_set.reason, training_set.message)
        moment.state(status, READY, "False", training_set.reason, training_set.message)
        return Decision(status, events=(Happened("Warning", training_set.reason, training_set.message),))
    if training_set is not None and training_set.state != "made":
        if training_set.state == "absent":
            status.features = training_set.fixed
        pending = _pending(status, moment, training_set.reason, training_set.message)
        return replace(pending, start_set=training_set.state == "absent")
    if not status.datasets:
        status.datasets = [_fixed(wanted, datasets[wanted.name]) for wanted in training.spec.datasets]
        if training_set is not None and training_set.made is not None:
            status.datasets.append(training_set.made)
    read = ", ".join(f"{version.name} at version {version.version}" for version in status.datasets) or "no datasets"
    moment.state(status, INPUTS, "True", "Resolved", f"reads {read}")
    moment.state(status, READY, "Unknown", "Starting", "the training Job is being made")
    return Decision(status, start=status.current_run, events=(Happened("Normal", "Started", f"reads {read}"),))


def _pending(status: TrainingJobStatus, moment: Moment, reason: str, message: str) -> Decision:
    status.phase = "Pending"
    moment.state(status, INPUTS, "False", reason, message)
    moment.state(status, READY, "Unknown", reason, message)
    return Decision(status)


def _problem(training: TrainingJob, model: Model | None, datasets: Mapping[str, Dataset]) -> tuple[str, str] | None:
    """What is missing before the run can start: (reason, message)."""
    spec = training.spec
    if model is None:
        return "ModelMissing", f"spec.model: expected an existing Model, found no {spec.model}"
    if spec.code is None:
        return "NoCode", (
            "spec.code: expected the digest of a code bundle. `mizzen apply` fills it with the manifest's folder; "
            "`mizzen bundle FOLDER` prints one."
        )
    for index, wanted in enumerate(spec.datasets):
        dataset = datasets.get(wanted.name)
        if dataset is None:
            return (
                "DatasetMissing",
                f"spec.datasets[{index}].name: expected an existing Dataset, found no {wanted.name}",
            )
        if dataset.status.version is None or _loading(dataset):
            ready = condition_named(dataset.status.conditions, READY)
            why = f" ({ready.reason}: {ready.message})" if ready is not None and ready.message else ""
            return "WaitingForDataset", f"waits for dataset {wanted.name}{why}"
        if wanted.version is not None and wanted.version > dataset.status.version:
            return "DatasetVersionMissing", (
                f"spec.datasets[{index}].version: expected at most {dataset.status.version}, the newest version of "
                f"{wanted.name}, got {wanted.version}"
            )
    return None


def _loading(dataset: Dataset) -> bool:
    """Whether a newer version is on its way, which the run should read instead."""
    loaded = condition_named(dataset.status.conditions, "Loaded")
    return loaded is None or loaded.observed_generation != dataset.metadata.generation or loaded.status == "Unknown"


def _fixed(wanted: DatasetVersion, dataset: Dataset) -> DatasetVersion:
    if wanted.version is None or wanted.version == dataset.status.version:
        return DatasetVersion(name=wanted.name, version=dataset.status.version, digest=dataset.status.digest)
    return DatasetVersion(name=wanted.name, version=wanted.version)


def _metrics(metrics: Mapping[str, float]) -> str:
    return " with " + ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items())) if metrics else ""
