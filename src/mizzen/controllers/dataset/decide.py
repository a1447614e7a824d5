"""What a Dataset needs next: a load for its generation, or the loaded version put into its status.

Life of one generation:

    no load yet ──► Job made ──► Loading ──► reported and Job done ──► Loaded=True, the version is served
                                    └──────► Job failed ────────────► Loaded=False, the version before stays served

`Loaded` tells of the load of this generation; `Ready` of what readers get: it is True when the served version is of
this generation. Once `Loaded` is True or False for a generation, that generation is done, and a Job that has been
cleaned away since is not missed.
"""

from dataclasses import dataclass

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.jobs import Outcome, run_name
from mizzen.kinds import Dataset
from mizzen.kinds.data import DatasetStatus, LoadReport
from mizzen.kinds.meta import condition_named

LOADED, READY = "Loaded", "Ready"


@dataclass(frozen=True, slots=True)
class Decision:
    """`start` names the Job to make, if any; `status` is the whole new status; `events` are to be recorded."""

    status: DatasetStatus
    start: str | None = None
    events: tuple[Happened, ...] = ()


def decide(dataset: Dataset, job: Outcome, now: str) -> Decision:
    """The decision for one Dataset and the Job of its generation."""
    generation = dataset.metadata.generation or 0
    moment = Moment(generation, now)
    status = dataset.status.model_copy(deep=True)
    run = run_name(dataset)
    loaded = condition_named(status.conditions, LOADED)
    if loaded is not None and loaded.observed_generation == generation and loaded.status != "Unknown":
        return Decision(status)
    if dataset.spec.source.python is not None and dataset.spec.code is None:
        message = (
            "spec.code: expected the digest of a code bundle, since the source is a Python function. "
            "`mizzen apply` fills it with the manifest's folder; `mizzen bundle FOLDER` prints one."
        )
        return _failed(status, moment, "NoCode", message, warn=loaded is None or loaded.reason != "NoCode", final=False)
    report = status.last_run if status.last_run is not None and status.last_run.run == run else None
    if job.state == "Succeeded" and report is not None and report.succeeded:
        return _served(status, moment, report)
    if job.state == "Failed" or (report is not None and not report.succeeded and job.state == "Succeeded"):
        reason, message = (
            (report.reason, report.message) if report is not None and report.reason else (job.reason, job.message)
        )
        return _failed(status, moment, reason or "LoadFailed", message, warn=True, final=True)
    status.current_run = run
    if job.state == "Absent":
        _loading(status, moment, "Starting", "the loading Job is being made")
        return Decision(status, start=run)
    waiting = job.state == "Waiting" and job.reason
    _loading(status, moment, job.reason if waiting else "Loading", job.message if waiting else f"Job {run} is at work")
    return Decision(status)


def _loading(status: DatasetStatus, moment: Moment, reason: str, message: str) -> None:
    moment.state(status, LOADED, "Unknown", reason, message)
    moment.state(status, READY, "False", reason, message + _meanwhile(status))


def _meanwhile(status: DatasetStatus) -> str:
    return f"; version {status.version} stays served" if status.version is not None else ""


def _served(status: DatasetStatus, moment: Moment, report: LoadReport) -> Decision:
    for name in ("version", "digest", "location", "rows", "bytes", "columns", "checks", "quarantined_rows",
                 "quarantine_location"):  # fmt: skip
        setattr(status, name, getattr(report, name))
    status.loaded_at = report.finished_at or moment.now
    status.loaded_generation = moment.generation
    status.current_run = report.run
    aside = f", {report.quarantined_rows} set aside" if report.quarantined_rows else ""
    message = f"version {report.version}: {report.rows} rows{aside}"
    moment.state(status, LOADED, "True", "Loaded", message)
    moment.state(status, READY, "True", "Loaded", message)
    return Decision(status, events=(Happened("Normal", "Loaded", message),))


def _failed(status: DatasetStatus, moment: Moment, reason: str, message: str, *, warn: bool, final: bool) -> Decision:
    moment.state(status, LOADED, "False" if final else "Unknown", reason, message)
    moment.state(status, READY, "False", reason, message + _meanwhile(status))
    events = (Happened("Warning", reason, message + _meanwhile(status)),) if warn else ()
    return Decision(status, events=events)
