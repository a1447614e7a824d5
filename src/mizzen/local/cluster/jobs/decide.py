"""What becomes of a Job: whether it is over, which Pods to make or delete, and what to say. Pure.

The order in which ends are looked for is Kubernetes': what was decided before, then the ways to fail, then the ways to
succeed. An end is first announced (`FailureTarget`, `SuccessCriteriaMet`), and becomes `Failed` or `Complete` once no
Pod runs and all are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mizzen.kube.conditions import condition, is_true
from mizzen.kube.resources import Json
from mizzen.kube.times import format_time, parse_time
from mizzen.local.cluster.jobs import indexes
from mizzen.local.cluster.jobs.failure_policy import verdict
from mizzen.local.cluster.jobs.tally import Settlement, Tally, has_failed, replaces_only_failed, valid_index
from mizzen.local.cluster.objects import Object, is_deleted, spec_of, status_of
from mizzen.local.cluster.pods import EPOCH, finished_at, is_finished, phase
from mizzen.local.cluster.workloads.replicas import expendable

_FIRST_WAIT_S = 10.0
_LONGEST_WAIT_S = 600.0
FAILURE_TARGET = "FailureTarget"
SUCCESS_CRITERIA_MET = "SuccessCriteriaMet"


@dataclass(frozen=True, slots=True)
class End:
    """Why a Job is over."""

    failed: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Moves:
    """What to do with Pods: delete these, or make so many (by index, or `None` for each), or wait and look again."""

    delete: tuple[Object, ...] = ()
    create: tuple[int | None, ...] = ()
    wait_s: float | None = None


def is_over(job: Object) -> bool:
    """Whether the Job has its last condition."""
    conditions = status_of(job).get("conditions")
    return is_true(conditions, "Complete") or is_true(conditions, "Failed")


def is_suspended(job: Object) -> bool:
    return bool(spec_of(job).get("suspend"))


def end_of(job: Object, pods: Sequence[Object], counted: Tally, now: datetime) -> End | None:
    """Why the Job is over, if it is."""
    conditions = status_of(job).get("conditions")
    for type_ in (SUCCESS_CRITERIA_MET, FAILURE_TARGET):
        announced = condition(conditions, type_)
        if announced is not None and announced.get("status") == "True":
            return End(type_ == FAILURE_TARGET, announced["reason"], announced.get("message") or "")
    return _failure_of(job, pods, counted, now) or _success_of(job, counted)


def _failure_of(job: Object, pods: Sequence[Object], counted: Tally, now: datetime) -> End | None:
    for pod in pods:
        if has_failed(job, pod) and (why := verdict(job, pod).fails_job):
            return End(True, "PodFailurePolicy", why)
    limit = spec_of(job).get("backoffLimit", 6)
    if counted.failed > limit or _restarted_too_often(job, pods, limit):
        return End(True, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left_s = deadline_left_s(job, now)
    if left_s is not None and left_s <= 0:
        return End(True, "DeadlineExceeded", "Job was active longer than specified deadline")
    return None


def _restarted_too_often(job: Object, pods: Sequence[Object], limit: int) -> bool:
    """With `restartPolicy: OnFailure` a Pod fails in place, and its restarts are the failures."""
    if (spec_of(job).get("template") or {}).get("spec", {}).get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        status.get("restartCount") or 0
        for pod in pods
        if not is_finished(pod)
        for kind in ("containerStatuses", "initContainerStatuses")
        for status in status_of(pod).get(kind) or ()
    )
    return restarts > 0 if limit == 0 else restarts >= limit


def deadline_left_s(job: Object, now: datetime) -> float | None:
    """Seconds until `activeDeadlineSeconds` are over; `None` where there is no deadline or the clock does not run."""
    deadline, started = spec_of(job).get("activeDeadlineSeconds"), status_of(job).get("startTime")
    if deadline is None or started is None or is_suspended(job):
        return None
    return ((parse_time(started) or EPOCH) + timedelta(seconds=deadline) - now).total_seconds()


def _success_of(job: Object, counted: Tally) -> End | None:
    for number, rule in enumerate((spec_of(job).get("successPolicy") or {}).get("rules") or ()):
        if _meets(rule, counted.done_indexes):
            return End(False, "SuccessPolicy", f"Matched rules at index {number}")
    completions = spec_of(job).get("completions")
    done = counted.succeeded > 0 if completions is None else counted.succeeded >= completions
    if done and not counted.active:
        return End(False, "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def _meets(rule: Mapping[str, Any], done: frozenset[int]) -> bool:
    """Whether enough of the indexes that a success rule names have succeeded; all of them where it gives no number."""
    named = rule.get("succeededIndexes")
    wanted = indexes.parse(named) if named is not None else None
    met = done if wanted is None else done & wanted
    enough = rule.get("succeededCount")
    return bool(met) and len(met) >= (enough if enough is not None else len(wanted or ()))


def moves_of(job: Object, pods: Sequence[Object], counted: Tally, end: End | None, now: datetime) -> Moves:
    """What brings the running Pods to their number."""
    if end is not None or is_suspended(job):
        return Moves(delete=counted.active)
    if is_deleted(job):
        return Moves()
    wanted = _wanted(job, counted)
    surplus = _surplus(job, counted, len(counted.active) - wanted)
    if surplus:
        return Moves(delete=surplus)
    going = counted.terminating if replaces_only_failed(job) else 0
    missing = wanted - going - len(counted.active)
    if missing <= 0:
        return Moves()
    wait_s = backoff_left_s(job, pods, now)
    if wait_s > 0:
        return Moves(wait_s=wait_s)
    if counted.indexed:
        return Moves(create=tuple(_pending_indexes(job, pods, counted)[:missing]))
    return Moves(create=(None,) * missing)


def _wanted(job: Object, counted: Tally) -> int:
    """How many Pods should run now."""
    spec = spec_of(job)
    parallelism: int = spec.get("parallelism", 1)
    if spec.get("completions") is None:
        # Any success ends such a Job: what runs may finish, and nothing is added.
        return len(counted.active) if counted.succeeded > 0 else parallelism
    return max(0, min(parallelism, int(spec["completions"]) - counted.succeeded))


def _surplus(job: Object, counted: Tally, excess: int) -> tuple[Object, ...]:
    """Pods to delete: those that double an index or have none, then as many as are too many."""
    doubled: list[Object] = []
    left = sorted(counted.active, key=expendable)
    if counted.indexed:
        keepers: dict[int, Object] = {}
        for pod in left:
            index = valid_index(job, pod)
            # Of two with one index the less expendable stays, which comes later here.
            if index is None:
                doubled.append(pod)
            elif index in keepers:
                doubled.append(keepers[index])
                keepers[index] = pod
            else:
                keepers[index] = pod
        left = sorted(keepers.values(), key=expendable)
    return (*doubled, *left[: max(0, excess - len(doubled))])


def _pending_indexes(job: Object, pods: Sequence[Object], counted: Tally) -> list[int]:
    held = list(counted.active)
    if replaces_only_failed(job):
        held += [pod for pod in pods if is_deleted(pod) and not is_finished(pod)]
    taken = {valid_index(job, pod) for pod in held} | counted.done_indexes
    return [index for index in range(spec_of(job).get("completions") or 0) if index not in taken]


def backoff_left_s(job: Object, pods: Sequence[Object], now: datetime) -> float:
    """How long no Pod is made after failures: 10 s after the first since the last success, then twice as long each.

    It is told from the Pods that are there, so that a controller that starts anew waits as the old one would have.
    """
    ends = sorted((pod for pod in pods if is_finished(pod) or has_failed(job, pod)), key=finished_at)
    failures = 0
    for pod in ends:
        failures = 0 if phase(pod) == "Succeeded" else failures + 1
    if failures == 0:
        return 0.0
    full_s = min(_FIRST_WAIT_S * 2.0 ** min(failures - 1, 16), _LONGEST_WAIT_S)
    return max(0.0, full_s - (now - finished_at(ends[-1])).total_seconds())


def status(job: Object, settled: Settlement, end: End | None, now: datetime) -> Json:
    """The status to write before the settled Pods are let go."""
    before, counted = status_of(job), settled.tally
    moment = format_time(now)
    after: Json = {
        "startTime": before.get("startTime"),
        "completionTime": before.get("completionTime"),
        "active": len(counted.active) or None,
        "ready": counted.ready,
        "terminating": counted.terminating,
        "succeeded": (len(counted.done_indexes) if counted.indexed else counted.counted_succeeded) or None,
        "failed": counted.counted_failed or None,
        "completedIndexes": indexes.text_of(counted.done_indexes) or None,
        "uncountedTerminatedPods": {
            key: list(uids)
            for key, uids in (("succeeded", counted.waiting_succeeded), ("failed", counted.waiting_failed))
            if uids
        },
    }
    conditions = [dict(one) for one in before.get("conditions") or ()]
    if end is not None:
        announced = FAILURE_TARGET if end.failed else SUCCESS_CRITERIA_MET
        if not is_true(conditions, announced):
            conditions.append(_condition(announced, True, end.reason, end.message, moment))
        if _is_settled(settled):
            conditions.append(_condition("Failed" if end.failed else "Complete", True, end.reason, end.message, moment))
            after["completionTime"] = None if end.failed else moment
    else:
        conditions, resumed = _with_suspension(job, conditions, moment)
        if is_suspended(job):
            after["startTime"] = None
        elif resumed or after["startTime"] is None:
            # The deadline counts the time it runs without being suspended.
            after["startTime"] = moment
    return {key: value for key, value in after.items() if value is not None} | (
        {"conditions": conditions} if conditions else {}
    )


def _is_settled(settled: Settlement) -> bool:
    """Whether no Pod runs, is going, or is yet to be counted."""
    counted = settled.tally
    waiting = counted.waiting_succeeded or counted.waiting_failed or settled.release or settled.more
    return not (counted.active or counted.terminating or waiting)


def _with_suspension(job: Object, conditions: list[Json], moment: str) -> tuple[list[Json], bool]:
    """The conditions with `Suspended`, and whether the Job was resumed just now."""
    old = condition(conditions, "Suspended")
    if is_suspended(job):
        new = _condition("Suspended", True, "JobSuspended", "Job suspended", moment)
    elif old is not None:
        new = _condition("Suspended", False, "JobResumed", "Job resumed", moment)
    else:
        return conditions, False
    if old is not None and old["status"] == new["status"]:
        return conditions, False
    kept = [one for one in conditions if one["type"] != "Suspended"]
    return [*kept, new], new["status"] == "False"


def _condition(type_: str, holds: bool, reason: str, message: str, moment: str) -> Json:
    return {
        "type": type_,
        "status": "True" if holds else "False",
        "lastProbeTime": moment,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }
