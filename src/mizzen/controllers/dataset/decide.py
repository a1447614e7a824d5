"""What a Dataset needs next: a load, or the loaded version put into its status.

Life of one generation:

    no load yet ──► Job made ──► Loading ──► reported and Job done ──► Loaded=True, the version is served
                                    └──────► Job failed ────────────► Loaded=False, the version before stays served

`Loaded` tells of the first load of this generation; `Ready` of what readers get: it is True when the served version is
of this generation. Further loads of the same generation (by the clock, because an input has a new version, because
somebody asked) are told by `Refreshed` alone: while one is at work, and where it fails, the version before is as ready
as it was. A load whose end is known is settled, and a Job that has been cleaned away since is not missed.

Rows of a `push` source come without a Job of the Dataset's: the push server commits and reports them. So do those of a
`batchPrediction`, from its own Jobs.
"""

from dataclasses import dataclass

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.dataset.loads import Wanted
from mizzen.controllers.jobs import Outcome
from mizzen.kinds import Dataset
from mizzen.kinds.data import DatasetStatus, LoadReport
from mizzen.kinds.meta import condition_named

LOADED, READY, REFRESHED = "Loaded", "Ready", "Refreshed"


@dataclass(frozen=True, slots=True)
class Decision:
    """`start` names the Job to make, if any; `status` is the whole new status; `events` are to be recorded."""

    status: DatasetStatus
    start: str | None = None
    events: tuple[Happened, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One Dataset and what is to be said of it."""

    status: DatasetStatus
    """A copy that the decision owns."""
    moment: Moment
    wanted: Wanted
    first: bool
    """Whether no load of this generation has succeeded yet."""


def decide(
    dataset: Dataset,
    wanted: Wanted,
    job: Outcome,
    problem: tuple[str, str] | None,
    now: str,
    push_address: str | None = None,
) -> Decision:
    """The decision for one Dataset, the load it wants, and that load's Job.

    `problem` is what a load cannot begin without, as (reason, message); `push_address` is where pushed rows go now.
    """
    generation = dataset.metadata.generation or 0
    status = dataset.status.model_copy(deep=True)
    loaded = condition_named(status.conditions, LOADED)
    of_now = loaded is not None and loaded.observed_generation == generation
    first = not (of_now and loaded is not None and loaded.status == "True")
    case = Case(status, Moment(generation, now), wanted, first)
    if dataset.spec.source.push is not None and wanted.request is None:
        return _received(dataset, case, push_address)
    if dataset.spec.source.batch_prediction is not None and wanted.request is None:
        return _predicted(case, dataset.spec.source.batch_prediction)
    ended = of_now and loaded is not None and loaded.status != "Unknown"
    if wanted.request is None and ended and wanted.run == (status.settled_run or status.current_run):
        return Decision(status)
    if dataset.spec.source.python is not None and dataset.spec.code is None:
        message = (
            "spec.code: expected the digest of a code bundle, since the source is a Python function. "
            "`mizzen apply` fills it with the manifest's folder; `mizzen bundle FOLDER` prints one."
        )
        return _waiting(case, "NoCode", message, "False")
    report = status.last_run if status.last_run is not None and status.last_run.run == wanted.run else None
    if job.state == "Succeeded" and report is not None and report.succeeded:
        return _served(case, report)
    if job.state == "Failed" or (report is not None and not report.succeeded and job.state == "Succeeded"):
        reason, message = (
            (report.reason, report.message) if report is not None and report.reason else (job.reason, job.message)
        )
        return _failed(case, reason or "LoadFailed", message)
    if job.state == "Absent" and problem is not None:
        return _waiting(case, *problem, "Unknown")
    status.current_run, status.current_request = wanted.run, wanted.request
    if job.state == "Absent":
        _loading(case, "Starting", "the loading Job is being made")
        return Decision(status, start=wanted.run)
    waits = job.state == "Waiting" and job.reason
    _loading(case, job.reason if waits else "Loading", job.message if waits else f"Job {wanted.run} is at work")
    return Decision(status)


def _loading(case: Case, reason: str, message: str) -> None:
    if not case.first:
        case.moment.state(case.status, REFRESHED, "Unknown", reason, message)
        return
    case.moment.state(case.status, LOADED, "Unknown", reason, message)
    case.moment.state(case.status, READY, "False", reason, message + _meanwhile(case.status))


def _meanwhile(status: DatasetStatus) -> str:
    return f"; version {status.version} stays served" if status.version is not None else ""


def _served(case: Case, report: LoadReport) -> Decision:
    status, moment = case.status, case.moment
    _put(status, report, moment)
    _settle(case)
    aside = f", {report.quarantined_rows} set aside" if report.quarantined_rows else ""
    message = f"version {report.version}: {report.rows} rows{aside}"
    moment.state(status, LOADED, "True", "Loaded", message)
    moment.state(status, READY, "True", "Loaded", message)
    if not case.first or condition_named(status.conditions, REFRESHED) is not None:
        moment.state(status, REFRESHED, "True", "Loaded", report.operation)
    return Decision(status, events=(Happened("Normal", "Loaded", message),))


def _put(status: DatasetStatus, report: LoadReport, moment: Moment) -> None:
    for name in ("version", "digest", "location", "rows", "bytes", "columns", "checks", "quarantined_rows",
                 "quarantine_location", "inputs", "model"):  # fmt: skip
        setattr(status, name, getattr(report, name))
    status.loaded_at = report.finished_at or moment.now
    status.loaded_generation = moment.generation
    status.current_run = report.run


def _settle(case: Case) -> None:
    if case.wanted.request is not None:
        case.status.settled_request = case.wanted.request
    else:
        case.status.settled_run = case.wanted.run


def _failed(case: Case, reason: str, message: str) -> Decision:
    _settle(case)
    said = message + _meanwhile(case.status)
    if case.first:
        case.moment.state(case.status, LOADED, "False", reason, message)
        case.moment.state(case.status, READY, "False", reason, said)
    else:
        case.moment.state(case.status, REFRESHED, "False", reason, said)
    return Decision(case.status, events=(Happened("Warning", reason, said),))


def _waiting(case: Case, reason: str, message: str, truth: str) -> Decision:
    """No load can begin; said once, as an event too where somebody has to do something."""
    type_ = LOADED if case.first else REFRESHED
    before = condition_named(case.status.conditions, type_)
    said = message + _meanwhile(case.status)
    _loading(case, reason, message)
    warn = truth == "False" and (before is None or before.reason != reason)
    return Decision(case.status, events=(Happened("Warning", reason, said),) if warn else ())


def _received(dataset: Dataset, case: Case, push_address: str | None) -> Decision:
    """Of a dataset whose rows are sent: the newest version that was reported."""
    status, moment = case.status, case.moment
    status.push_url = (
        f"{push_address}/v1/namespaces/{dataset.namespace}/datasets/{dataset.name}/rows" if push_address else None
    )
    report = status.last_run
    events: tuple[Happened, ...] = ()
    if report is not None and not report.succeeded:
        moment.state(status, REFRESHED, "False", report.reason or "LoadFailed", report.message + _meanwhile(status))
    elif report is not None and (status.version is None or (report.version or 0) > status.version):
        _put(status, report, moment)
    if status.version is None:
        message = f"no row was sent yet to {status.push_url}" if push_address else "the push server is being started"
        moment.state(status, LOADED, "Unknown", "WaitingForRows", message)
        moment.state(status, READY, "False", "WaitingForRows", message)
        return Decision(status)
    message = f"version {status.version}: {status.rows} rows"
    if case.first:
        events = (Happened("Normal", "Receiving", message),)
    status.loaded_generation = moment.generation
    moment.state(status, LOADED, "True", "Receiving", message)
    moment.state(status, READY, "True", "Receiving", message)
    return Decision(status, events=events)


def _predicted(case: Case, batch: str) -> Decision:
    """Of a dataset that a BatchPrediction writes: the newest version that one of its runs reported."""
    status, moment = case.status, case.moment
    report = status.last_run
    events: tuple[Happened, ...] = ()
    if report is not None and report.succeeded and (status.version is None or (report.version or 0) > status.version):
        _put(status, report, moment)
        events = (Happened("Normal", "Loaded", f"version {report.version}: {report.rows} rows by run {report.run}"),)
    if status.version is None:
        message = f"no run of batchprediction/{batch} has succeeded yet"
        moment.state(status, LOADED, "Unknown", "WaitingForRows", message)
        moment.state(status, READY, "False", "WaitingForRows", message)
        return Decision(status)
    message = f"version {status.version}: {status.rows} rows" + (f" by {status.model.name}" if status.model else "")
    status.loaded_generation = moment.generation
    moment.state(status, LOADED, "True", "Loaded", message)
    moment.state(status, READY, "True", "Loaded", message)
    return Decision(status, events=events)
