"""What a BatchPrediction needs next: a run, its Job, or the end of one put into the status.

Life of a run (`status.runs[].phase`):

    Starting ──► Running ──► Succeeded   the output has a version of it
                    ├──────► Failed      with the reason that a Pod or the Job gave
                    └──────► Replaced    another one was due, or the spec was changed

A run is fixed when it enters the status: the version of the input and of the model, by digest. Its Job is made after
that, and made again where it has gone before the run has ended: it goes on from what is kept. So does a new run of the
same work after one that failed.

`InputsReady` tells whether a run could start. `Ready` is of the last run that ended: True where it made a version,
False where it failed, and Unknown before there was one and, without a schedule, while one is at work. With a schedule
the version before stays as good as it was while the next is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mizzen.controllers.batchprediction.inputs import Found, Inputs, inputs_of
from mizzen.controllers.batchprediction.occasions import (
    Occasion,
    answers_digest,
    next_time,
    occasion_of,
    run_name,
    settle,
)
from mizzen.controllers.conditions import Happened, Moment
from mizzen.controllers.jobs import ABSENT, Outcome
from mizzen.kinds import BatchPrediction
from mizzen.kinds.batch import BatchPredictionStatus, BatchRun
from mizzen.kinds.meta import condition_named
from mizzen.kube.times import format_time
from mizzen.policy.batches import Progress, ended_to_keep, progress

INPUTS, READY = "InputsReady", "Ready"
AGAIN_S_MIN = 0.05


@dataclass(slots=True)
class Decision:
    """`start`: runs whose Jobs are to be made; `end`: Jobs to be deleted; `status`: the whole new one."""

    status: BatchPredictionStatus
    start: list[BatchRun] = field(default_factory=list)
    end: list[str] = field(default_factory=list)
    events: list[Happened] = field(default_factory=list)
    look_again_s: float | None = None


def decide(batch: BatchPrediction, found: Found, jobs: Mapping[str, Outcome], now: datetime) -> Decision:
    """The decision for one BatchPrediction; `jobs` by the run's name."""
    status = batch.status.model_copy(deep=True)
    moment = Moment(batch.metadata.generation or 0, format_time(now))
    decision = Decision(status)
    for run in status.runs:
        if run.active:
            _follow(run, jobs.get(run.name, ABSENT), decision, moment.now)
    inputs = inputs_of(batch, found)
    _state_inputs(status, inputs, decision, moment)
    occasion = occasion_of(batch, status, now)
    if occasion is not None:
        _answer(batch, occasion, inputs, decision, moment)
    _forget(batch, decision)
    following = next_time(batch, now)
    status.next_schedule_time = format_time(following) if following is not None and not batch.spec.suspend else None
    if following is not None:
        decision.look_again_s = max(AGAIN_S_MIN, (following - now).total_seconds())
    _state_ready(batch, occasion, inputs, decision, moment)
    decision.start = [run for run in status.runs if run.phase == "Starting" and run.name not in decision.end]
    return decision


def _follow(run: BatchRun, job: Outcome, decision: Decision, now: str) -> None:
    """What became of a run that is at work."""
    result = decision.status.results.get(run.name)
    if job.state == "Absent":
        run.phase = "Starting"
        return
    run.started_at = run.started_at or (format_time(job.started_at) if job.started_at is not None else now)
    if job.state not in {"Succeeded", "Failed"}:
        run.phase = "Running"
        run.reason, run.message = (job.reason, job.message) if job.state == "Waiting" else ("", "")
        return
    run.finished_at = format_time(job.finished_at) if job.finished_at is not None else now
    if result is not None and result.succeeded:
        run.phase, run.reason = "Succeeded", "Succeeded"
        run.rows, run.failed_rows, run.output_version = result.rows, result.failed_rows, result.version
        took_s = _seconds(run.started_at, run.finished_at)
        run.rows_per_s = round((run.input_rows or run.rows or 0) / took_s, 1) if took_s > 0 else None
        run.message = _succeeded(run, result.example)
        decision.status.output_version = result.version
        decision.status.last_successful_time = run.finished_at
        decision.events.append(Happened("Normal", "Succeeded", run.message))
        return
    run.phase = "Failed"
    told = result is not None and bool(result.message)
    run.reason = (result.reason if result is not None and told else job.reason) or "NoResult"
    run.message = (result.message if result is not None and told else job.message) or "its Pods ended without a result"
    decision.events.append(Happened("Warning", run.reason, run.message))


def _succeeded(run: BatchRun, example: str) -> str:
    refused = f", {run.failed_rows} refused by the model ({example})" if run.failed_rows else ""
    return f"version {run.output_version}: {run.rows} rows by {run.model.name}{refused}"


def _answer(
    batch: BatchPrediction, occasion: Occasion, inputs: "Inputs | tuple[str, str]", decision: Decision, moment: Moment
) -> None:
    """Begins the run that is wanted, leaves it out, or lets it wait."""
    status = decision.status
    if occasion.due.act == "skip":
        settle(status, occasion)
        said = f"the run of {occasion.scheduled_for} is left out: {occasion.due.why}"
        decision.events.append(Happened("Warning", "MissedSchedule", said))
        return
    if occasion.due.act == "wait" or isinstance(inputs, tuple):
        return
    if occasion.due.replace:
        for other in status.runs:
            if other.active:
                other.phase, other.finished_at = "Replaced", moment.now
                other.message = f"ended for the run {occasion.text}"
                decision.end.append(other.name)
                decision.events.append(Happened("Normal", "Replaced", f"run {other.name}: {other.message}"))
    settle(status, occasion)
    name = run_name(batch, occasion.text)
    if any(run.name == name for run in status.runs):
        return
    work = answers_digest(batch, inputs)
    failed = next((run for run in status.runs if run.work == work and run.phase in {"Failed", "Replaced"}), None)
    run = BatchRun(
        name=name,
        occasion=occasion.text,
        phase="Starting",
        model=inputs.model,
        input=inputs.input,
        input_rows=inputs.rows,
        work=work,
        kept_in=failed.kept_in if failed is not None else name,
        scheduled_for=occasion.scheduled_for,
    )
    status.runs = [run, *status.runs]
    status.current_run = name
    said = f"run {name}: {inputs.model.name} over {inputs.input.name} at version {inputs.input.version}"
    decision.events.append(Happened("Normal", "Started", said))


def _forget(batch: BatchPrediction, decision: Decision) -> None:
    """Keeps of the runs that have ended as many as the history is to hold, and of reports those of the others."""
    status, history = decision.status, batch.spec.history
    ended = [run for run in status.runs if not run.active]
    places = ended_to_keep(
        [run.phase == "Succeeded" for run in ended], succeeded=history.succeeded, failed=history.failed
    )
    kept = {ended[place].name for place in places}
    decision.end += [run.name for run in ended if run.name not in kept and run.name not in decision.end]
    status.runs = [run for run in status.runs if run.active or run.name in kept]
    at_work = {run.name for run in status.runs if run.active}
    status.shards = {key: shard for key, shard in status.shards.items() if key.rpartition("/")[0] in at_work}
    status.results = {name: result for name, result in status.results.items() if name in at_work}


def _state_inputs(
    status: BatchPredictionStatus, inputs: "Inputs | tuple[str, str]", decision: Decision, moment: Moment
) -> None:
    if isinstance(inputs, Inputs):
        read = f"{inputs.model.name} over {inputs.input.name} at version {inputs.input.version}"
        moment.state(status, INPUTS, "True", "Resolved", read)
        return
    before = condition_named(status.conditions, INPUTS)
    if (before is None or before.reason != inputs[0]) and not inputs[0].startswith("WaitingFor"):
        decision.events.append(Happened("Warning", *inputs))
    moment.state(status, INPUTS, "False", *inputs)


def _state_ready(
    batch: BatchPrediction,
    occasion: Occasion | None,
    inputs: "Inputs | tuple[str, str]",
    decision: Decision,
    moment: Moment,
) -> None:
    """The phase, the progress and the condition `Ready`."""
    status = decision.status
    active = [run for run in status.runs if run.active]
    last = next((run for run in status.runs if run.phase in {"Succeeded", "Failed"}), None)
    scheduled = batch.spec.schedule is not None
    status.progress = None
    if active:
        found = progress(list(status.shards.values()), sum(run.input_rows or 0 for run in active))
        status.progress = found.as_status(_done_at(status, found))
        status.phase = "Running"
        if not scheduled or last is None:
            waits = next((run for run in active if run.reason), None)
            reason, message = (waits.reason, waits.message) if waits is not None else ("Running", _said(found))
            moment.state(status, READY, "Unknown", reason, message)
            return
    elif batch.spec.suspend:
        status.phase = "Suspended"
    elif occasion is not None and isinstance(inputs, tuple):
        status.phase = "Waiting"
        if last is None or not scheduled:
            moment.state(status, READY, "Unknown", *inputs)
            return
    elif scheduled:
        status.phase = "Scheduled"
    if last is None:
        why = f"the first run is due at {status.next_schedule_time}" if scheduled else "no run has begun"
        moment.state(status, READY, "Unknown", status.phase or "Waiting", why)
        return
    if not scheduled and not active and not batch.spec.suspend:
        status.phase = "Succeeded" if last.phase == "Succeeded" else "Failed"
    moment.state(
        status, READY, "True" if last.phase == "Succeeded" else "False", last.reason or last.phase, last.message
    )


def _done_at(status: BatchPredictionStatus, found: Progress) -> str | None:
    """Counted from the newest report, so that looking again does not change it."""
    reported = max((shard.updated_at for shard in status.shards.values() if shard.updated_at), default=None)
    if reported is None or found.left_s is None or not found.per_s:
        return None
    return format_time(datetime.fromisoformat(reported) + timedelta(seconds=round(found.left_s)))


def _said(found: Progress) -> str:
    if found.waits:
        return found.waits
    failed = f", {found.failed} refused" if found.failed else ""
    return f"{found.done} of {found.total} rows ({found.percent} %), {found.per_s:.0f} rows/s{failed}"


def _seconds(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
