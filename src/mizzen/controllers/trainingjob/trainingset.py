"""The training set of a TrainingJob: what it is made of, and how its making stands.

It is made by a Job of its own before the run, of one Pod or of several, each for its share of the entities. What it is
made of is fixed in the status when that Job is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lightkube.resources.batch_v1 import Job

from mizzen.controllers.featureview.wanted import as_defined, circle_of, digest_of, used_views, version_of
from mizzen.controllers.jobs import Outcome, in_parts, job_for
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import Dataset, FeatureView, TrainingJob
from mizzen.kinds.build import DatasetVersion
from mizzen.kinds.trainingsets import FixedFeatures, FixedView, TrainingSetSpec

MODULE = "mizzen.data.features.jobs.trainingset"


@dataclass(frozen=True, slots=True)
class Making:
    """How the training set stands: `missing` something, to be made (`absent`), at work, `failed` or `made`."""

    state: Literal["missing", "absent", "working", "failed", "made"]
    reason: str = ""
    message: str = ""
    fixed: FixedFeatures | None = None
    made: DatasetVersion | None = None


def set_run(run: str) -> str:
    """The name of the Job that makes the set of a run."""
    return f"{run}-set"


def table_of(training: TrainingJob, wanted: TrainingSetSpec) -> str:
    """The table that keeps the set."""
    return wanted.name or f"{training.name}-set"


def making(
    training: TrainingJob, run: str, views: Mapping[str, FeatureView], datasets: Mapping[str, Dataset], job: Outcome
) -> Making | None:
    """How the set of a run stands; `None` where the training takes none."""
    wanted = training.spec.features
    if wanted is None:
        return None
    report = training.status.training_set
    report = report if report is not None and report.run == set_run(run) else None
    if job.state == "Succeeded" and report is not None and report.succeeded:
        made = DatasetVersion(name=table_of(training, wanted), version=report.version, digest=report.digest)
        return Making("made", made=made)
    if job.state in {"Succeeded", "Failed"}:
        if report is not None and not report.succeeded:
            return Making("failed", report.reason or "Failed", f"the training set: {report.message}")
        message = f"the training set: {job.message or 'its Pods ended without a report'}"
        return Making("failed", job.reason or "NoReport", message)
    if job.state != "Absent":
        message = job.message if job.state == "Waiting" and job.message else f"Job {set_run(run)} is at work"
        return Making("working", "MakingTrainingSet", message)
    problem = _problem(training, wanted, views, datasets)
    if problem is not None:
        return Making("missing", *problem)
    return Making("absent", "MakingTrainingSet", "the training set is being made", _fixed(wanted, views, datasets))


def _problem(
    training: TrainingJob, wanted: TrainingSetSpec, views: Mapping[str, FeatureView], datasets: Mapping[str, Dataset]
) -> tuple[str, str] | None:
    table = table_of(training, wanted)
    if table in datasets:
        return "NameTaken", f"spec.features.name: expected a name that no Dataset has, found {table}; give another"
    problem = _unready(wanted.spine.dataset, "spec.features.spine.dataset", datasets)
    if problem is not None:
        return problem
    for index, taken in enumerate(wanted.taken()):
        where = f"spec.features.views[{index}]"
        if taken.view not in views:
            return "ViewMissing", f"{where}: expected an existing FeatureView, found no {taken.view}"
        if circle := circle_of(views[taken.view], views):
            return "CircularViews", f"{where}: expected no view that refers to itself, found {' -> '.join(circle)}"
        for view in [views[taken.view], *used_views(views[taken.view], views)]:
            missing = [name for name in view.spec.uses if name not in views]
            if missing:
                return "ViewMissing", f"{where}: {view.name} uses {missing[0]}, and there is no such FeatureView"
            if view.spec.source.dataset is None:
                return "NoStreams", f"{where}: expected a view of a dataset, found one of a stream: {view.name}"
            if (problem := _unready(view.spec.source.dataset, f"{where} ({view.name})", datasets)) is not None:
                return problem
    return None


def _unready(name: str, where: str, datasets: Mapping[str, Dataset]) -> tuple[str, str] | None:
    if name not in datasets:
        return "DatasetMissing", f"{where}: expected an existing Dataset, found no {name}"
    if datasets[name].status.version is None:
        return "WaitingForDataset", f"waits for dataset {name}, which has no version yet"
    return None


def _fixed(wanted: TrainingSetSpec, views: Mapping[str, FeatureView], datasets: Mapping[str, Dataset]) -> FixedFeatures:
    fixed: dict[str, FixedView] = {}
    for taken in wanted.taken():
        for view in [views[taken.view], *used_views(views[taken.view], views)]:
            digest, source = digest_of(view, views), view.spec.source.dataset or ""
            fixed[view.name] = FixedView(
                name=view.name,
                version=version_of(digest),
                digest=digest,
                source=source,
                source_version=datasets[source].status.version or 0,
            )
    version = wanted.spine.version or datasets[wanted.spine.dataset].status.version or 0
    return FixedFeatures(spine=wanted.spine.dataset, spine_version=version, views=list(fixed.values()))


def set_job(
    training: TrainingJob, run: str, fixed: FixedFeatures, views: Mapping[str, FeatureView], settings: PlatformSettings
) -> Job:
    """The Job that makes the set: as many Pods as it has parts."""
    wanted = training.spec.features
    assert wanted is not None, "asked for a training with features"
    task = _task(training, wanted, run, fixed, views, settings)
    return in_parts(job_for(training, set_run(run), MODULE, task, training.spec, settings), wanted.parts)


def _task(
    training: TrainingJob,
    wanted: TrainingSetSpec,
    run: str,
    fixed: FixedFeatures,
    views: Mapping[str, FeatureView],
    settings: PlatformSettings,
) -> dict[str, Any]:
    """What the Pods need to know; see docs/architecture.md."""
    at = {
        each.name: {"view": as_defined(views[each.name]), "sourceVersion": each.source_version} for each in fixed.views
    }
    taken = wanted.taken()
    used = [other.name for each in taken for other in used_views(views[each.view], views)]
    return {
        "namespace": training.namespace,
        "name": training.name,
        "run": set_run(run),
        "storeUrl": settings.store_url,
        "table": table_of(training, wanted),
        "spine": {**wanted.spine.to_wire(), "version": fixed.spine_version},
        "views": [{"at": at[each.view], "taken": each.to_wire()} for each in taken],
        "uses": [at[name] for name in dict.fromkeys(used)],
        "parts": wanted.parts,
    }
