"""Jobs: counts are exact whatever crashes when, limits hold, and ends are the right ones."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.local.cluster.jobs import decide, indexes
from mizzen.local.cluster.jobs.decide import backoff_left_s, deadline_left_s, end_of, is_over, moves_of
from mizzen.local.cluster.jobs.failure_policy import verdict
from mizzen.local.cluster.jobs.tally import TRACKING, settle, tally
from mizzen.local.cluster.objects import uid_of

from .builders import NOW, at, condition, job, pod


@given(st.sets(st.integers(0, 60)))
def test_index_sets_survive_being_written(found: set[int]) -> None:
    assert indexes.parse(indexes.text_of(found)) == found
    assert "--" not in indexes.text_of(found)


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "1,,2", "3-1"])
def test_index_texts_that_are_none_do_no_harm(text: str) -> None:
    assert indexes.parse(text) <= {1, 2}


class World:
    """A Job on a server that may lose its controller between any two writes."""

    def __init__(self, one: Any, seed: int, fails: float) -> None:
        self.job, self.pods, self.chance, self.fails = one, {}, random.Random(seed), fails
        self.now_s = 0.0
        self.made: list[Any] = []
        self.ended: dict[str, str] = {}
        """What really became of each Pod, by uid."""

    def reconcile(self, *, crash_after: int) -> None:
        """What the controller does, cut off after some writes."""
        writes = crash_after

        def may_write() -> bool:
            nonlocal writes
            writes -= 1
            return writes >= 0

        if is_over(self.job):
            return
        pods, now = list(self.pods.values()), at(self.now_s)
        counted = tally(self.job, pods)
        end = end_of(self.job, pods, counted, now)
        moves = moves_of(self.job, pods, counted, end, now)
        for one in moves.delete:
            if may_write():
                one["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
        for index in moves.create:
            if may_write():
                annotations = {} if index is None else {indexes.COMPLETION_INDEX: str(index)}
                new = pod(finalizers=(TRACKING,), annotations=annotations, created=now, phase="Running")
                self.pods[uid_of(new)] = new
                self.made.append(new)
        counted = tally(self.job, list(self.pods.values()))
        end = None if counted.active else end
        settled = settle(self.job, counted, over=end is not None, failed=end is not None and end.failed)
        if not may_write():
            return
        self.job = type(self.job)({**self.job, "status": decide.status(self.job, settled, end, now)})
        for one in settled.release:
            if may_write():
                one["metadata"]["finalizers"] = []

    def pass_time(self) -> None:
        self.now_s += self.chance.choice([0.0, 1.0, 700.0])
        for uid, one in list(self.pods.items()):
            going = "deletionTimestamp" in one["metadata"]
            if one["status"]["phase"] == "Running" and (going or self.chance.random() < 0.4):
                failed = going or self.chance.random() < self.fails
                one["status"]["phase"] = self.ended[uid] = "Failed" if failed else "Succeeded"
                ended = {"exitCode": int(failed), "finishedAt": at(self.now_s).strftime("%Y-%m-%dT%H:%M:%SZ")}
                one["status"]["containerStatuses"] = [{"name": "main", "state": {"terminated": ended}}]
            if not one["metadata"]["finalizers"] and one["status"]["phase"] != "Running" and self.chance.random() < 0.5:
                # A user, or a collector, deletes what is finished and free.
                del self.pods[uid]


specs = st.one_of(
    st.fixed_dictionaries({"completions": st.integers(1, 6), "parallelism": st.integers(1, 4)}),
    st.fixed_dictionaries(
        {"completions": st.integers(1, 6), "parallelism": st.integers(1, 4), "completionMode": st.just("Indexed")}
    ),
    st.fixed_dictionaries({"completions": st.none(), "parallelism": st.integers(1, 4)}),
)


@given(specs, st.integers(0, 3), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_counts_are_exact_whatever_crashes_when(spec: dict[str, Any], limit: int, fails: float, seed: int) -> None:
    world = World(job(backoffLimit=limit, **spec), seed, fails)
    for step in range(300):
        crash_after = world.chance.choice([0, 1, 2, 3, 99]) if step < 200 else 99
        world.reconcile(crash_after=crash_after)
        active = [
            p
            for p in world.pods.values()
            if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"]
        ]
        assert len(active) <= spec["parallelism"]
        indexed = [indexes.index_of(p) for p in active]
        assert spec.get("completionMode") != "Indexed" or len(set(indexed)) == len(indexed)
        world.pass_time()
    status = world.job["status"]
    assert is_over(world.job)
    complete = any(one["type"] == "Complete" for one in status["conditions"])
    succeeded = sum(1 for phase in world.ended.values() if phase == "Succeeded")
    failed = sum(1 for phase in world.ended.values() if phase == "Failed")
    assert status.get("failed", 0) == failed
    if spec.get("completionMode") == "Indexed":
        done = indexes.parse(status.get("completedIndexes", ""))
        assert status.get("succeeded", 0) == len(done) <= succeeded
        assert not complete or done == set(range(spec["completions"]))
    else:
        assert status.get("succeeded", 0) == succeeded
        assert not complete or succeeded >= (spec["completions"] or 1)
    assert status["uncountedTerminatedPods"] == {}
    assert not any(one["metadata"]["finalizers"] for one in world.pods.values())
    assert complete == (fails == 0.0) or 0 < fails < 1


def ended(code: int, **more: Any) -> Any:
    state = {"name": "main", "state": {"terminated": {"exitCode": code, "finishedAt": "2026-03-01T12:00:00Z"}}}
    return pod(
        phase="Failed" if code else "Succeeded", finalizers=(TRACKING,), status={"containerStatuses": [state], **more}
    )


def end(one: Any, *pods: Any, now: Any = NOW) -> tuple[bool, str] | None:
    found = end_of(one, pods, tally(one, pods), now)
    return None if found is None else (found.failed, found.reason)


def test_ends_in_their_order() -> None:
    assert end(job(), ended(0)) == (False, "CompletionsReached")
    assert end(job(), ended(1)) is None
    assert end(job(backoffLimit=0), ended(1)) == (True, "BackoffLimitExceeded")
    assert end(job(backoffLimit=1), ended(1), ended(1)) == (True, "BackoffLimitExceeded")
    assert end(job(completions=2), ended(0)) is None
    assert end(job(completions=None), ended(0)) == (False, "CompletionsReached")
    assert end(job(completions=None), ended(0), pod(phase="Running", finalizers=(TRACKING,))) is None
    started = {"startTime": "2026-03-01T12:00:00Z"}
    assert end(job(activeDeadlineSeconds=60, status=started), now=at(59)) is None
    assert end(job(activeDeadlineSeconds=60, status=started), now=at(60)) == (True, "DeadlineExceeded")
    announced = {"conditions": [condition("FailureTarget", reason="PodFailurePolicy", message="m")]}
    assert end(job(status=announced), ended(0)) == (True, "PodFailurePolicy"), "what was announced stays"


def test_a_pod_that_restarts_in_place_counts_its_restarts() -> None:
    template = {"spec": {"restartPolicy": "OnFailure"}}
    running = pod(phase="Running", status={"containerStatuses": [{"restartCount": 2}]})
    assert end(job(backoffLimit=2, template=template), running) == (True, "BackoffLimitExceeded")
    assert end(job(backoffLimit=3, template=template), running) is None
    once = pod(phase="Running", status={"containerStatuses": [{"restartCount": 1}]})
    assert end(job(backoffLimit=0, template=template), once) == (True, "BackoffLimitExceeded")


def test_the_deadline_does_not_run_while_suspended() -> None:
    started = {"startTime": "2026-03-01T12:00:00Z"}
    assert deadline_left_s(job(activeDeadlineSeconds=60, status=started), at(20)) == 40
    assert deadline_left_s(job(activeDeadlineSeconds=60, status=started, suspend=True), at(20)) is None
    assert deadline_left_s(job(activeDeadlineSeconds=60), at(20)) is None


POLICY = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [1, 42]}},
        {"action": "Ignore", "onExitCodes": {"containerName": "main", "operator": "In", "values": [1]}},
    ]
}


@pytest.mark.parametrize(
    ("failed", "counts", "fails_job"),
    [
        (ended(7, conditions=[condition("DisruptionTarget")]), False, ""),
        (ended(42), True, "failed with exit code 42 matching FailJob rule at index 1"),
        (ended(7), True, ""),
        (ended(1), False, ""),
        (pod(phase="Failed"), True, ""),
    ],
)
def test_a_failure_policy_decides_by_its_first_rule_that_matches(failed: Any, counts: bool, fails_job: str) -> None:
    found = verdict(job(podFailurePolicy=POLICY), failed)
    assert found.counts == counts
    assert found.fails_job.endswith(fails_job)
    assert bool(found.fails_job) == bool(fails_job)


def test_ignored_failures_are_let_go_and_not_counted() -> None:
    one = job(podFailurePolicy=POLICY, backoffLimit=0)
    ignored = ended(1)
    counted = tally(one, [ignored])
    assert (counted.failed, end(one, ignored)) == (0, None)
    settled = settle(one, counted, over=False, failed=False)
    assert settled.release == (ignored,)
    assert settled.tally.waiting_failed == ()


def test_with_a_failure_policy_a_pod_that_is_going_is_waited_for() -> None:
    going = pod(phase="Running", deleted=True, finalizers=(TRACKING,))
    assert (
        moves_of(
            job(podFailurePolicy=POLICY), [going], tally(job(podFailurePolicy=POLICY), [going]), None, at(99)
        ).create
        == ()
    )
    assert moves_of(job(), [going], tally(job(), [going]), None, at(99)).create == (None,)


@pytest.mark.parametrize(("failures", "full_s"), [(1, 10), (2, 20), (3, 40), (7, 600), (50, 600)])
def test_waits_double_with_each_failure_since_the_last_success(failures: int, full_s: float) -> None:
    pods = [ended(1) for _ in range(failures)]
    assert backoff_left_s(job(), pods, NOW) == full_s
    assert backoff_left_s(job(), pods, at(full_s - 1)) == 1
    assert backoff_left_s(job(), pods, at(full_s)) == 0
    later = ended(0)
    later["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = "2026-03-01T12:00:01Z"
    assert backoff_left_s(job(), [*pods, later], NOW) == 0


def test_indexes_that_double_or_are_none_of_ours_are_deleted_before_more_are_made() -> None:
    one = job(completions=3, parallelism=3, completionMode="Indexed")

    def with_index(index: int | None, *, ready: bool = False) -> Any:
        annotations = {} if index is None else {indexes.COMPLETION_INDEX: str(index)}
        return pod(phase="Running", node="n", ready=ready, annotations=annotations, finalizers=(TRACKING,))

    kept, doubled, stray, beyond = with_index(0, ready=True), with_index(0), with_index(None), with_index(3)
    pods = [doubled, kept, stray, beyond]
    moves = moves_of(one, pods, tally(one, pods), None, NOW)
    assert sorted(map(uid_of, moves.delete)) == sorted(map(uid_of, [doubled, stray, beyond]))
    assert moves.create == ()
    assert moves_of(one, [kept], tally(one, [kept]), None, NOW).create == (1, 2)


def test_a_success_policy_ends_a_job_early() -> None:
    def with_done(text: str, *rules: dict[str, Any]) -> tuple[bool, str] | None:
        one = job(
            completions=5,
            completionMode="Indexed",
            successPolicy={"rules": list(rules)},
            status={"completedIndexes": text},
        )
        return end(one)

    success = (False, "SuccessPolicy")
    assert with_done("0", {"succeededIndexes": "0"}) == success
    assert with_done("1", {"succeededIndexes": "0"}) is None
    assert with_done("1", {"succeededIndexes": "0-2", "succeededCount": 1}) == success
    assert with_done("3,4", {"succeededCount": 2}) == success
    assert with_done("", {"succeededCount": 1}) is None


def test_suspending_and_resuming_is_a_condition_and_starts_the_clock_anew() -> None:
    def status(one: Any, now: Any) -> Any:
        return decide.status(one, settle(one, tally(one, []), over=False, failed=False), None, now)

    suspended = status(job(suspend=True, status={"startTime": "2026-03-01T12:00:00Z"}), at(5))
    assert "startTime" not in suspended
    assert [(one["type"], one["status"], one["reason"]) for one in suspended["conditions"]] == [
        ("Suspended", "True", "JobSuspended")
    ]
    resumed = status(job(status=suspended), at(60))
    assert resumed["startTime"] == "2026-03-01T12:01:00Z"
    assert [(one["status"], one["reason"]) for one in resumed["conditions"]] == [("False", "JobResumed")]
    assert "conditions" not in status(job(), NOW)
