"""The Pods of a Job, counted so that none is counted twice and none is missed. Pure.

A finished Pod stays, held by a finalizer, until it is counted; and it is counted in two steps, so that a crash between
any two writes does no harm:

1. its uid is written to `status.uncountedTerminatedPods` (for an indexed Job that succeeded, its index to
   `completedIndexes`, which is the count);
2. its finalizer is taken off;
3. at the next look, a uid whose Pod has no finalizer any more moves from the list into the number.

This is Kubernetes' scheme, and the same fields, so that either controller can go on where the other stopped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from mizzen.local.cluster.jobs import indexes
from mizzen.local.cluster.jobs.failure_policy import verdict
from mizzen.local.cluster.objects import Object, is_deleted, spec_of, status_of, uid_of
from mizzen.local.cluster.pods import is_active, is_finished, is_ready, phase

TRACKING = "batch.kubernetes.io/job-tracking"
_UNCOUNTED_AT_ONCE = 500


def is_tracked(pod: Object) -> bool:
    """Whether the Pod is held until it is counted."""
    return TRACKING in (pod["metadata"].get("finalizers") or ())


def is_indexed(job: Object) -> bool:
    return spec_of(job).get("completionMode") == "Indexed"


def replaces_only_failed(job: Object) -> bool:
    """Whether a Pod that is going away is waited for before it counts as failed and is replaced."""
    spec = spec_of(job)
    return spec.get("podReplacementPolicy") == "Failed" or bool(spec.get("podFailurePolicy"))


def has_failed(job: Object, pod: Object) -> bool:
    """Whether the Pod's work came to nothing."""
    if phase(pod) == "Failed":
        return True
    return is_deleted(pod) and phase(pod) != "Succeeded" and not replaces_only_failed(job)


@dataclass(frozen=True, slots=True)
class Tally:
    """What there is, and what has come of it so far."""

    active: tuple[Object, ...]
    terminating: int
    ready: int
    tracked: tuple[Object, ...]
    counted_succeeded: int
    counted_failed: int
    waiting_succeeded: tuple[str, ...]
    """Uids noted in the status and not yet in the number."""
    waiting_failed: tuple[str, ...]
    new_succeeded: tuple[Object, ...]
    new_failed: tuple[Object, ...]
    """Failed, noted nowhere yet, and counting against the limit or not."""
    counting_failed: int
    """How many of `new_failed` count."""
    done_indexes: frozenset[int] = field(default_factory=frozenset)
    """Of an indexed Job, those that succeeded."""
    indexed: bool = False

    @property
    def succeeded(self) -> int:
        """Successes, noted or not."""
        if self.indexed:
            return len(self.done_indexes)
        return self.counted_succeeded + len(self.waiting_succeeded) + len(self.new_succeeded)

    @property
    def failed(self) -> int:
        """Failures that count against the limit, noted or not."""
        return self.counted_failed + len(self.waiting_failed) + self.counting_failed


def tally(job: Object, pods: Sequence[Object]) -> Tally:
    """Counts the Pods of a Job."""
    status = status_of(job)
    tracked = tuple(pod for pod in pods if is_tracked(pod))
    held = {uid_of(pod) for pod in tracked}
    noted = status.get("uncountedTerminatedPods") or {}
    succeeded, failed = noted.get("succeeded") or (), noted.get("failed") or ()
    known = {*succeeded, *failed}
    new = [pod for pod in tracked if uid_of(pod) not in known]
    new_failed = tuple(pod for pod in new if has_failed(job, pod))
    done = indexes.parse(status.get("completedIndexes") or "") | {
        index for pod in tracked if phase(pod) == "Succeeded" and (index := valid_index(job, pod)) is not None
    }
    return Tally(
        active=tuple(pod for pod in pods if is_active(pod)),
        terminating=sum(1 for pod in pods if is_deleted(pod) and not is_finished(pod)),
        ready=sum(1 for pod in pods if is_active(pod) and is_ready(pod)),
        tracked=tracked,
        counted_succeeded=(status.get("succeeded") or 0) + _gone(succeeded, held),
        counted_failed=(status.get("failed") or 0) + _gone(failed, held),
        waiting_succeeded=tuple(uid for uid in succeeded if uid in held),
        waiting_failed=tuple(uid for uid in failed if uid in held),
        new_succeeded=tuple(pod for pod in new if phase(pod) == "Succeeded"),
        new_failed=new_failed,
        counting_failed=sum(1 for pod in new_failed if _counts(job, pod)),
        done_indexes=frozenset(done) if is_indexed(job) else frozenset(),
        indexed=is_indexed(job),
    )


def valid_index(job: Object, pod: Object) -> int | None:
    """The Pod's completion index; `None` where the Job has none of that number."""
    index = indexes.index_of(pod)
    return index if index is not None and index < (spec_of(job).get("completions") or 0) else None


def _gone(uids: Iterable[str], held: set[str]) -> int:
    return sum(1 for uid in uids if uid not in held)


def _counts(job: Object, pod: Object) -> bool:
    return (not is_indexed(job) or valid_index(job, pod) is not None) and verdict(job, pod).counts


@dataclass(frozen=True, slots=True)
class Settlement:
    """The tally with more Pods noted, and the Pods that may be let go once that is written."""

    tally: Tally
    release: tuple[Object, ...]
    more: bool
    """Whether Pods are left for another time."""


def settle(job: Object, counted: Tally, *, over: bool, failed: bool) -> Settlement:
    """Notes what has ended. Where the Job is `over`, so is every Pod, and where it `failed`, each that did not succeed
    counts as failed.
    """
    all_go = over or is_deleted(job)
    release: list[Object] = []
    succeeded, failures = list(counted.waiting_succeeded), list(counted.waiting_failed)
    known = {*succeeded, *failures}
    done: set[int] = set()
    for pod in counted.tracked:
        fell = has_failed(job, pod)
        if not (all_go or fell or phase(pod) == "Succeeded"):
            continue
        if len(release) >= _UNCOUNTED_AT_ONCE:
            return Settlement(_noted(counted, succeeded, failures, done), tuple(release), more=True)
        release.append(pod)
        if uid_of(pod) in known:
            continue
        if phase(pod) == "Succeeded":
            index = valid_index(job, pod)
            if not counted.indexed:
                succeeded.append(uid_of(pod))
            elif index is not None:
                done.add(index)
        elif (fell or (over and failed)) and _counts(job, pod):
            failures.append(uid_of(pod))
    return Settlement(_noted(counted, succeeded, failures, done), tuple(release), more=False)


def _noted(counted: Tally, succeeded: list[str], failures: list[str], done: set[int]) -> Tally:
    return replace(
        counted,
        waiting_succeeded=tuple(succeeded),
        waiting_failed=tuple(failures),
        new_succeeded=(),
        new_failed=(),
        counting_failed=0,
        done_indexes=counted.done_indexes | done,
    )
