"""Which run is wanted now: because somebody asked, by the schedule, or because the spec has not been run.

Each occasion has a name and the same occasion always has the same one, so that a controller that looks again, or starts
anew, finds the run instead of making a second one. What changes nothing about the result (`suspend`, the history) is no
reason to run again.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from mizzen.controllers.batchprediction.inputs import Inputs
from mizzen.kinds import BatchPrediction
from mizzen.kinds.batch import BatchPredictionStatus
from mizzen.kinds.cron import Cron
from mizzen.kinds.names import ANNOTATION_RUN
from mizzen.kinds.scalars import duration_s
from mizzen.kinds.zones import zone
from mizzen.kube.times import format_time
from mizzen.policy.batches import Due, due

_NO_WORK = {"suspend", "history", "schedule", "retries", "timeout"}
"""Fields of the spec that say nothing of the result."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """A run that is wanted, and what becomes of it."""

    text: str
    due: Due
    scheduled_for: str | None = None
    request: str | None = None
    spec: str | None = None
    """Digest of the spec, where that is the reason."""


def run_name(batch: BatchPrediction, occasion: str) -> str:
    """Of the Job. It holds a digest of the object's uid: one made anew under the same name has runs of its own."""
    tag = hashlib.sha256(f"{batch.metadata.uid} {occasion}".encode()).hexdigest()[:10]
    return f"{batch.name[:44].rstrip('-')}-{tag}"


def work_digest(batch: BatchPrediction) -> str:
    """Of what the spec asks to be computed."""
    work = {key: value for key, value in batch.spec.to_wire().items() if key not in _NO_WORK}
    return _digest(work)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def answers_digest(batch: BatchPrediction, inputs: Inputs) -> str:
    """Of what decides the answers of a run's row groups: two runs with the same one may use each other's."""
    spec = batch.spec.to_wire()
    output = {key: value for key, value in spec["output"].items() if key not in {"dataset", "mode", "cache"}}
    fixed = [inputs.model.digest, inputs.input.name, inputs.input.version]
    return _digest([fixed, spec["input"], output, spec["groupRows"]])


def occasion_of(batch: BatchPrediction, status: BatchPredictionStatus, now: datetime) -> Occasion | None:
    """The run that is wanted now; `None` where there is none."""
    active = sum(run.active for run in status.runs)
    asked = batch.metadata.annotations.get(ANNOTATION_RUN)
    if asked is not None and asked != status.settled_request:
        act = Due("wait", why="the run before is at work") if active else Due("start")
        return Occasion(f"asked {asked}", act, request=asked)
    schedule = batch.spec.schedule
    if schedule is None:
        digest = work_digest(batch)
        if digest == status.settled_spec:
            return None
        act = Due("wait", why="it is suspended") if batch.spec.suspend else Due("start", replace=active > 0)
        return Occasion(f"spec {digest} of generation {batch.metadata.generation}", act, spec=digest)
    cron, place = Cron.parse(schedule.cron), zone(schedule.time_zone)
    created = batch.metadata.creation_timestamp
    since = status.settled_until or created
    moment = cron.latest(now, datetime.fromisoformat(since) if since is not None else now, place)
    if moment is None:
        return None
    deadline = schedule.starting_deadline
    decided = due(
        moment.timestamp(),
        now.timestamp(),
        deadline_s=duration_s(deadline) if deadline is not None else None,
        concurrency=schedule.concurrency_policy,
        active=active,
        suspended=batch.spec.suspend,
    )
    text = format_time(moment)
    return Occasion(f"scheduled {text}", decided, scheduled_for=text)


def settle(status: BatchPredictionStatus, occasion: Occasion) -> None:
    """It was run, or left out: it is no reason any more."""
    if occasion.request is not None:
        status.settled_request = occasion.request
    if occasion.spec is not None:
        status.settled_spec = occasion.spec
    if occasion.scheduled_for is not None:
        status.settled_until = occasion.scheduled_for
        if occasion.due.act == "start":
            status.last_schedule_time = occasion.scheduled_for


def next_time(batch: BatchPrediction, now: datetime) -> datetime | None:
    """When the schedule falls due next; `None` without one, and where that is never."""
    schedule = batch.spec.schedule
    return Cron.parse(schedule.cron).after(now, zone(schedule.time_zone)) if schedule is not None else None
