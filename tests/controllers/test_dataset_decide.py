"""Dataset: one load a generation; what was served stays served until a load succeeded."""

from datetime import datetime

import pytest
from tests.controllers.builders import CODE, T0, T1, T2, dataset, loaded_dataset

from mizzen.controllers.dataset import decide as deciding
from mizzen.controllers.dataset.decide import Decision
from mizzen.controllers.dataset.loads import circle_of, input_versions, missing_input, wanted_load
from mizzen.controllers.jobs import ABSENT, Outcome, run_name
from mizzen.kinds import Dataset
from mizzen.kinds.data import LoadReport
from mizzen.kinds.meta import condition_named

RUNNING = Outcome("Running")
SUCCEEDED = Outcome("Succeeded")


def decide(of: Dataset, job: Outcome, now: str, **inputs: Dataset) -> Decision:
    """The decision for the load that the Dataset wants at that time."""
    wanted = wanted_load(of, inputs, datetime.fromisoformat(now))
    return deciding.decide(of, wanted, job, missing_input(of, inputs), now, "http://here")


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


# -- loads beyond the first


def asked(of: Dataset, what: str) -> Dataset:
    metadata = of.metadata.model_copy(update={"annotations": {"mizzen.dev/load": what}})
    return of.model_copy(update={"metadata": metadata})


def run_of(of: Dataset, now: str, **inputs: Dataset) -> str:
    return wanted_load(of, inputs, datetime.fromisoformat(now)).run


def finished(of: Dataset, run: str, **facts) -> Dataset:
    """The Dataset once its Pod has reported."""
    report = LoadReport(run=run, **{"succeeded": True, "version": 1, "rows": 3, "bytes": 9, **facts})
    return of.model_copy(update={"status": of.status.model_copy(update={"last_run": report})})


def refreshed(decision: Decision) -> tuple[str, str]:
    condition = condition_named(decision.status.conditions, "Refreshed")
    assert condition is not None
    return condition.status, condition.reason


def test_the_clock_wants_one_load_in_each_period() -> None:
    """The same name within a period, another in the next, and word of when that begins."""
    of = dataset(refresh={"every": "1h"})
    first, later, next_ = "2026-01-01T00:10:00Z", "2026-01-01T00:59:59Z", "2026-01-01T01:00:00Z"
    assert run_of(of, first) == run_of(of, later) != run_of(of, next_)
    assert wanted_load(of, {}, datetime.fromisoformat(first)).next_in_s == 3000
    loaded = after(of, decide(finished(of, run_of(of, first)), SUCCEEDED, first))
    assert decide(loaded, ABSENT, later) == Decision(loaded.status)
    again = decide(loaded, ABSENT, next_)
    assert again.start == run_of(of, next_)
    assert (ready(again), refreshed(again)) == (("True", "Loaded"), ("Unknown", "Starting"))


def test_a_refresh_that_fails_leaves_what_is_served_ready() -> None:
    of = dataset(refresh={"every": "1h"})
    loaded = after(of, decide(finished(of, run_of(of, T0)), SUCCEEDED, T0))
    next_ = "2026-01-01T01:00:00Z"
    failing = finished(loaded, run_of(of, next_), succeeded=False, reason="SourceFailed", message="no such file")
    failed = decide(failing, Outcome("Failed", "Failed", "exit"), next_)
    assert (failed.status.version, ready(failed), refreshed(failed)) == (
        1,
        ("True", "Loaded"),
        ("False", "SourceFailed"),
    )
    assert failed.events[0].message == "no such file; version 1 stays served"
    assert decide(after(loaded, failed), ABSENT, "2026-01-01T01:30:00Z").start is None, "until the next period"


def test_a_request_is_answered_once_and_what_the_spec_wants_stays_settled() -> None:
    of = dataset()
    loaded = after(of, decide(finished(of, run_of(of, T0)), SUCCEEDED, T0))
    restoring = asked(loaded, "restore 1 at 2026-01-01T00:00:30Z")
    wanted = wanted_load(restoring, {}, datetime.fromisoformat(T1))
    assert (wanted.restore, wanted.full, wanted.run != run_of(of, T0)) == (1, False, True)
    begun = decide(restoring, ABSENT, T1)
    assert begun.start == wanted.run
    done = decide(finished(after(restoring, begun), wanted.run, version=7), SUCCEEDED, T1)
    assert (done.status.version, ready(done)) == (7, ("True", "Loaded"))
    settled = after(restoring, done)
    assert decide(settled, ABSENT, T2) == Decision(settled.status), "neither the request nor the first load again"
    assert decide(asked(settled, "full at 2026-01-01T00:03:00Z"), ABSENT, T2).start not in {None, wanted.run}


def test_a_request_that_makes_no_sense_is_told() -> None:
    with pytest.raises(ValueError, match=r"mizzen.dev/load: expected `new at TIME`"):
        wanted_load(asked(dataset(), "please"), {}, datetime.fromisoformat(T0))


def test_a_query_waits_for_its_inputs_and_names_their_versions() -> None:
    sql = {"sql": {"query": "SELECT 1", "datasets": [{"name": "a"}, {"name": "b", "version": 2}]}}
    of = dataset("c", source=sql, code=None)
    a, b = loaded_dataset("a", 5), loaded_dataset("b", 1)
    for inputs, reason in (({}, "InputMissing"), ({"a": dataset("a"), "b": b}, "WaitingForInput"),
                           ({"a": a, "b": b}, "InputVersionMissing")):  # fmt: skip
        waiting = decide(of, ABSENT, T0, **inputs)
        assert (waiting.start, ready(waiting)) == (None, ("False", reason))
    b = loaded_dataset("b", 3)
    assert decide(of, ABSENT, T0, a=a, b=b).start is not None
    found = input_versions(of, {"a": a, "b": b})
    assert [(each.name, each.version, bool(each.digest)) for each in found] == [("a", 5, True), ("b", 2, False)]


def test_a_new_version_of_an_input_is_loaded_where_that_is_asked() -> None:
    sql = {"sql": {"query": "SELECT 1", "datasets": [{"name": "a"}]}}
    still, follows = dataset("c", source=sql), dataset("c", source=sql, refresh={"onInput": True})
    before, now = loaded_dataset("a", 5), loaded_dataset("a", 6)
    assert run_of(still, T0, a=before) == run_of(still, T0, a=now)
    assert run_of(follows, T0, a=before) != run_of(follows, T0, a=now)


def test_a_circle_of_queries_is_found() -> None:
    def reads(name: str, *others: str) -> Dataset:
        return dataset(name, source={"sql": {"query": "SELECT 1", "datasets": [{"name": other} for other in others]}})

    known = {each.name: each for each in (reads("a", "b"), reads("b", "c", "d"), reads("c", "a"), reads("d"))}
    assert circle_of(known["a"], known) == ["a", "b", "c", "a"]
    assert circle_of(known["d"], known) == []
    with pytest.raises(ValueError, match="expected other datasets, found this one itself"):
        reads("a", "a")


def test_predictions_are_served_as_their_runs_report_them() -> None:
    """With the model that made them; without a Job of the dataset's own, and never an older version again."""
    of = dataset(source={"batchPrediction": "nightly"}, code=None)
    empty = decide(of, ABSENT, T0)
    assert (empty.start, ready(empty)) == (None, ("False", "WaitingForRows"))
    used = {"name": "late-3", "model": "late", "version": 3, "digest": CODE}
    served = decide(finished(after(of, empty), "nightly-1", model=used), ABSENT, T1)
    assert (served.start, served.status.version) == (None, 1)
    assert served.status.model is not None
    assert served.status.model.name == "late-3"
    more = decide(finished(after(of, served), "nightly-2", version=2), ABSENT, T2)
    late = decide(finished(after(of, more), "nightly-1", version=1), ABSENT, T2)
    assert (more.status.version, late.status.version) == (2, 2)


def test_pushed_rows_are_served_as_they_are_reported() -> None:
    push = {"push": {"columns": [{"name": "x", "type": "double"}]}}
    of = dataset(source=push, code=None)
    empty = decide(of, ABSENT, T0)
    assert (empty.start, ready(empty)) == (None, ("False", "WaitingForRows"))
    assert empty.status.push_url == "http://here/v1/namespaces/default/datasets/flights/rows"
    served = decide(finished(after(of, empty), "push-1"), ABSENT, T1)
    assert (served.status.version, ready(served)) == (1, ("True", "Receiving"))
    more = decide(finished(after(of, served), "push-2", version=2, rows=4), ABSENT, T2)
    assert (more.status.version, more.status.rows, more.events) == (2, 4, ())
    late = decide(finished(after(of, more), "push-1", version=1), ABSENT, T2)
    assert late.status.version == 2, "a report that comes late takes nothing back"
