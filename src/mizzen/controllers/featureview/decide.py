"""What a FeatureView needs next: a run that brings it online, the end of one put into its status, or nothing.

    no run ──► Job made ──► at work ──► reported and Job done ──► the version is served, as far as the run came
                               └──────► Job failed ─────────────► what was served stays served; tried again later
                                                                  where that may help

One run is at work at a time. A newer version of the source waits for the run to end, however many came meanwhile, and
is then one run. A changed definition does not wait: the run of the old one is stopped, and readers get the old version
until the new one is online as a whole.

`Materialised` tells of the first run of a definition, `Refreshed` of those that follow its source; `Ready` is True
while the version that is served is that of the spec, however far behind its source. `status.lag` says how far.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.featureview.wanted import Wanted, version_of
from mizzen.controllers.jobs import Outcome
from mizzen.kinds import FeatureView
from mizzen.kinds.features import FeatureViewStatus, MaterialisationReport
from mizzen.kinds.meta import condition_named

MATERIALISED, READY, REFRESHED = "Materialised", "Ready", "Refreshed"
_TO_BE_MENDED = frozenset({"InvalidDefinition", "RowsUnfit", "SourceVersionMissing", "NoTask"})
"""Failures that come again until the view or its source changes."""
_PAUSE_S_FIRST, _PAUSE_S_MAX = 10.0, 600.0


@dataclass(frozen=True, slots=True)
class Decision:
    """`start` and `stop` name the Jobs to make and to end, if any; `status` is the whole new status."""

    status: FeatureViewStatus
    start: str | None = None
    stop: str | None = None
    events: tuple[Happened, ...] = ()
    after_s: float | None = None
    """When to look again though nothing changed."""


@dataclass(frozen=True, slots=True)
class Case:
    """One view and what is to be said of it."""

    view: FeatureView
    status: FeatureViewStatus
    """A copy that the decision owns."""
    moment: Moment
    wanted: Wanted

    @property
    def first(self) -> bool:
        """Whether the wanted definition is not served yet."""
        return self.status.digest != self.wanted.digest


def run_at_work(view: FeatureView) -> str | None:
    """The Job that was made and whose end is not known."""
    current = view.status.current_run
    return None if current is None or current == view.status.settled_run else current


def decide(view: FeatureView, wanted: Wanted, job: Outcome, now: datetime, now_text: str) -> Decision:
    """The decision for one view; `job` is how the run at work stands, else the wanted one."""
    status = view.status.model_copy(deep=True)
    case = Case(view, status, Moment(view.metadata.generation or 0, now_text), wanted)
    working = run_at_work(view)
    if wanted.target is not None and view.spec.online:
        status.lag = max(0, wanted.target - (status.source_version or 0))
    if working is not None and job.state in {"Succeeded", "Failed"}:
        return _ended(case, working, job, now)
    if working is not None and job.state != "Absent":
        if wanted.digest and f"-{wanted.version}-" not in working:
            status.settled_run = working
            message = f"the definition changed: Job {working} is stopped"
            return Decision(status, stop=working, events=(Happened("Normal", "Superseded", message),))
        waits = job.state == "Waiting" and job.reason
        _working(case, job.reason if waits else "Running", job.message if waits else f"Job {working} is at work")
        return Decision(status)
    if working is not None and working != wanted.run:
        status.settled_run = working  # its Job is gone, and nobody wants it any more
    if wanted.problem is not None:
        return _waiting(case, *wanted.problem)
    if wanted.run == status.settled_run:
        return _restated(case)
    if (pause_s := _pause_s(status, now)) > 0:
        return Decision(status, after_s=pause_s)
    status.current_run = wanted.run
    _working(case, "Starting", "the Job is being made")
    return Decision(status, start=wanted.run)


def _pause_s(status: FeatureViewStatus, now: datetime) -> float:
    if status.retry_at is None or not status.failures:
        return 0.0
    return (datetime.fromisoformat(status.retry_at) - now).total_seconds()


def _working(case: Case, reason: str, message: str) -> None:
    if case.first:
        case.moment.state(case.status, MATERIALISED, "Unknown", reason, message)
        case.moment.state(case.status, READY, "False", reason, message + _meanwhile(case))
    else:
        case.moment.state(case.status, REFRESHED, "Unknown", reason, message)


def _meanwhile(case: Case) -> str:
    return f"; version {case.status.version} stays served" if case.status.version is not None else ""


def _ended(case: Case, run: str, job: Outcome, now: datetime) -> Decision:
    report = case.status.last_run if case.status.last_run is not None and case.status.last_run.run == run else None
    case.status.settled_run = run
    if job.state == "Succeeded" and report is not None and report.succeeded:
        return _served(case, report)
    if report is not None and not report.succeeded:
        return _failed(case, report.reason or "Failed", report.message, now)
    return _failed(case, job.reason or "NoReport", job.message or "the Pod ended without a report", now)


def _served(case: Case, report: MaterialisationReport) -> Decision:
    status, moment = case.status, case.moment
    before = status.digest
    status.digest = report.digest
    status.version = version_of(report.digest or "")
    for name in ("features", "source_version", "rows", "entities", "newest_event", "incarnation"):
        setattr(status, name, getattr(report, name))
    status.materialised_at = report.finished_at or moment.now
    status.failures, status.retry_at, recovered = 0, None, status.last_error is not None
    status.last_error = None
    if case.view.spec.online:
        status.lag = max(0, (case.wanted.target or 0) - (report.source_version or 0))
    message = _told(case)
    if case.first:  # another definition is wanted by now
        return Decision(status)
    moment.state(status, MATERIALISED, "True", _reason(case), message)
    moment.state(status, READY, "True", _reason(case), message)
    if before == report.digest:
        moment.state(status, REFRESHED, "True", _reason(case), f"{report.rows_read} rows were read")
    tell = before != report.digest or recovered
    return Decision(status, events=(Happened("Normal", _reason(case), message),) if tell else ())


def _reason(case: Case) -> str:
    return "Online" if case.view.spec.online else "Checked"


def _told(case: Case) -> str:
    status = case.status
    if not case.view.spec.online:
        return f"version {status.version}: {len(status.features)} features"
    return (
        f"version {status.version}: {status.entities} entities of {status.rows} events, the source at version "
        f"{status.source_version}"
    )


def _restated(case: Case) -> Decision:
    """Nothing to do; where the spec changed in what decides no value, the conditions are of the new one too."""
    ready = condition_named(case.status.conditions, READY)
    said = ready is not None and ready.status == "True" and ready.observed_generation == case.moment.generation
    if not case.first and not said:
        case.moment.state(case.status, MATERIALISED, "True", _reason(case), _told(case))
        case.moment.state(case.status, READY, "True", _reason(case), _told(case))
    return Decision(case.status)


def _failed(case: Case, reason: str, message: str, now: datetime) -> Decision:
    status, after_s = case.status, None
    said = message
    if reason in _TO_BE_MENDED:
        status.failures, status.retry_at = 0, None
    else:
        after_s = min(_PAUSE_S_MAX, _PAUSE_S_FIRST * 2.0**status.failures)
        status.failures, status.failed_runs = status.failures + 1, status.failed_runs + 1
        at = now + timedelta(seconds=after_s)
        status.retry_at = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        said = f"{message}; tried again at {status.retry_at}"
    status.last_error = f"{reason}: {message}"
    said += _meanwhile(case)
    if case.first:
        case.moment.state(status, MATERIALISED, "False", reason, said)
        case.moment.state(status, READY, "False", reason, said)
    else:
        case.moment.state(status, REFRESHED, "False", reason, said)
    return Decision(status, events=(Happened("Warning", reason, said),), after_s=after_s)


def _waiting(case: Case, reason: str, message: str) -> Decision:
    """No run can begin; said once, as an event too where somebody has to do something."""
    type_ = MATERIALISED if case.first else REFRESHED
    before = condition_named(case.status.conditions, type_)
    said = message + _meanwhile(case)
    if case.first:
        case.moment.state(case.status, MATERIALISED, "False", reason, said)
        case.moment.state(case.status, READY, "False", reason, said)
    else:
        case.moment.state(case.status, REFRESHED, "False", reason, said)
    warn = reason != "WaitingForSource" and (before is None or before.reason != reason)
    return Decision(case.status, events=(Happened("Warning", reason, said),) if warn else ())
