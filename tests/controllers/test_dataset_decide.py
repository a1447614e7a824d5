"""Dataset: one load a generation; what was served stays served until a load succeeded."""

import pytest
from tests.controllers.builders import T0, T1, dataset

from mizzen.controllers.dataset.decide import Decision, decide
from mizzen.controllers.jobs import ABSENT, Outcome, run_name
from mizzen.kinds.data import LoadReport
from mizzen.kinds.meta import condition_named

RUNNING = Outcome("Running")
SUCCEEDED = Outcome("Succeeded")


def ready(decision: Decision) -> tuple[str, str]:
    condition = condition_named(decision.status.conditions, "Ready")
    assert condition is not None
    return condition.status, condition.reason


def reported(of, **facts):
    report = LoadReport(run=run_name(of), **{"succeeded": True, "version": 0, "rows": 3, "bytes": 9, **facts})
    return of.model_copy(update={"status": of.status.model_copy(update={"last_run": report})})


def after(of, decision: Decision, **metadata):
    return of.model_copy(update={"status": decision.status, "metadata": of.metadata.model_copy(update=metadata)})


def test_a_new_dataset_starts_one_load() -> None:
    first = decide(dataset(), ABSENT, T0)
    assert first.start == run_name(dataset())
    assert ready(first) == ("False", "Starting")
    assert decide(after(dataset(), first), RUNNING, T1).start is None
    assert decide(after(dataset(), first), ABSENT, T1).start == first.start, (
        "the same name, so it cannot be a second load"
    )


def test_a_successful_load_is_served() -> None:
    done = decide(reported(dataset()), SUCCEEDED, T0)
    assert (done.status.version, done.status.rows, done.status.loaded_generation) == (0, 3, 1)
    assert ready(done) == ("True", "Loaded")
    assert [event.reason for event in done.events] == ["Loaded"]


def test_what_is_done_stays_done_when_its_job_is_cleaned_away() -> None:
    done = decide(reported(dataset()), SUCCEEDED, T0)
    for job in (ABSENT, RUNNING, Outcome("Failed", "X", "y")):
        again = decide(after(dataset(), done), job, T1)
        assert again == Decision(done.status)


def test_a_failed_load_keeps_the_version_before() -> None:
    served = after(reported(dataset()), decide(reported(dataset()), SUCCEEDED, T0), generation=2)
    failing = reported(served, succeeded=False, reason="ExpectationsFailed", message="distance: min 1: 3 rows")
    failed = decide(failing, Outcome("Failed", "Failed", "exit"), T1)
    assert failed.status.version == 0
    assert ready(failed) == ("False", "ExpectationsFailed")
    condition = condition_named(failed.status.conditions, "Ready")
    assert condition is not None
    assert condition.message == "distance: min 1: 3 rows; version 0 stays served"
    assert decide(after(served, failed), ABSENT, T1).start is None, (
        "a failed load is not repeated until the spec changes"
    )


def test_a_report_of_another_run_is_not_believed() -> None:
    stale = reported(dataset()).status.last_run.model_copy(update={"run": "other"})
    of = dataset()
    of = of.model_copy(update={"status": of.status.model_copy(update={"last_run": stale})})
    assert decide(of, SUCCEEDED, T0).status.version is None


def test_without_code_the_condition_says_what_to_do() -> None:
    decision = decide(dataset(code=None), ABSENT, T0)
    assert decision.start is None
    assert ready(decision) == ("False", "NoCode")
    again = decide(after(dataset(code=None), decision), ABSENT, T1)
    assert again.events == (), "said once"


@pytest.mark.parametrize("reason", ["OOMKilled", "DeadlineExceeded"])
def test_a_pod_that_cannot_report_is_spoken_for_by_its_job(reason: str) -> None:
    decision = decide(dataset(), Outcome("Failed", reason, "why"), T0)
    assert ready(decision) == ("False", reason)


def test_an_object_made_anew_under_the_same_name_has_runs_of_its_own() -> None:
    one, other = dataset(), dataset()
    other.metadata.uid = "another"
    assert run_name(one) != run_name(other)
