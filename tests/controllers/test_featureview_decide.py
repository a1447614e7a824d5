"""FeatureView: one run at a time, the last good version served, nobody's features taken away from under them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.controllers.builders import T0, dataset, loaded_dataset, metadata

from mizzen.controllers.featureview.controller import task_of
from mizzen.controllers.featureview.decide import Decision, decide, run_at_work
from mizzen.controllers.featureview.deleting import Jobs, depart, removal_run
from mizzen.controllers.featureview.users import named_views
from mizzen.controllers.featureview.wanted import Surroundings, Wanted, wanted_run
from mizzen.controllers.jobs import ABSENT, Outcome
from mizzen.controllers.settings import PlatformSettings
from mizzen.kinds import Dataset, FeatureView
from mizzen.kinds.features import MaterialisationReport
from mizzen.kinds.meta import condition_named

NOW = datetime.fromisoformat(T0)
RUNNING, SUCCEEDED = Outcome("Running"), Outcome("Succeeded")
KILLED = Outcome("Failed", "BackoffLimitExceeded", "the Pod ended with exit code 137 (Error)")


def view(name: str = "spending", **spec: Any) -> FeatureView:
    body = {"entities": ["card"], "source": {"dataset": "payments"}, "eventTime": "at", "columns": ["amount"], **spec}
    return FeatureView.model_validate({"metadata": metadata(name), "spec": body})


def around(*others: FeatureView, version: int | None = 1, online: str = "lmdb:///online") -> Surroundings:
    datasets: dict[str, Dataset] = {}
    if version is not None:
        datasets["payments"] = loaded_dataset("payments", version)
    return Surroundings({other.name: other for other in others}, datasets, online)


def step(of: FeatureView, surroundings: Surroundings, job: Outcome = ABSENT, now: datetime = NOW) -> Decision:
    """The decision on the view as it is."""
    return decide(of, wanted_run(of, surroundings), job, now, f"{now:%Y-%m-%dT%H:%M:%SZ}")


def after(of: FeatureView, decision: Decision) -> FeatureView:
    return of.model_copy(update={"status": decision.status})


def reported(of: FeatureView, **facts: Any) -> FeatureView:
    """What the Pod of the run at work says."""
    run = run_at_work(of) or ""
    wanted = {"succeeded": True, "digest": of.spec.digest(), "source_version": 1, "rows": 5, "entities": 2, **facts}
    status = of.status.model_copy(update={"last_run": MaterialisationReport(run=run, **wanted)})
    return of.model_copy(update={"status": status})


def online(of: FeatureView, surroundings: Surroundings, **facts: Any) -> FeatureView:
    """The view after a run that came through."""
    at_work = after(of, step(of, surroundings))
    return after(at_work, step(reported(at_work, **facts), surroundings, SUCCEEDED))


def changed(of: FeatureView, **spec: Any) -> FeatureView:
    """The same view with another spec."""
    return view(of.name, **spec).model_copy(update={"status": of.status})


def expect_condition(decision: Decision, type_: str, status: str, reason: str) -> str:
    condition = condition_named(decision.status.conditions, type_)
    assert condition is not None
    assert (condition.status, condition.reason) == (status, reason)
    return condition.message


def test_a_view_comes_online_by_one_job_and_stays_there() -> None:
    first = step(view(), around())
    assert first.start is not None
    expect_condition(first, "Ready", "False", "Starting")
    assert step(after(view(), first), around(), RUNNING).start is None
    assert step(after(view(), first), around(), ABSENT).start == first.start, "the same name: no second run"
    done = online(view(), around())
    assert (done.status.version, done.status.source_version, done.status.lag) == (view().spec.digest()[7:19], 1, 0)
    for job in (ABSENT, RUNNING, KILLED):
        assert step(done, around(), job).start is None, "what is done stays done when its Job is cleaned away"


def test_a_new_version_of_the_source_asks_for_one_run_and_the_view_stays_ready() -> None:
    done = online(view(), around())
    started = step(done, around(version=2))
    assert started.start is not None
    assert started.status.lag == 1
    expect_condition(started, "Ready", "True", "Online")
    expect_condition(started, "Refreshed", "Unknown", "Starting")
    behind = step(after(done, started), around(version=4), RUNNING)
    assert behind.start is None, "one run at a time"
    assert behind.status.lag == 3
    ended = step(reported(after(done, behind), source_version=2), around(version=4), SUCCEEDED)
    assert (ended.status.source_version, ended.status.lag) == (2, 2)
    following = step(after(done, ended), around(version=4))
    assert following.start not in {None, started.start}, "the versions that came meanwhile are one run"


def test_a_changed_definition_stops_the_run_and_the_old_one_stays_served() -> None:
    done = online(view(), around())
    old = done.status.version
    other = changed(done, columns=["amount"], ttl="1d")
    started = step(other, around())
    assert started.start is not None
    assert f"version {old} stays served" in expect_condition(started, "Ready", "False", "Starting")
    third = changed(after(other, started), columns=["amount"], ttl="2d")
    stopped = step(third, around(), RUNNING)
    assert (stopped.stop, stopped.start) == (started.start, None)
    fresh = step(after(third, stopped), around())
    assert fresh.start not in {None, started.start}
    assert fresh.status.version == old


def test_a_description_asks_for_nothing_and_is_observed() -> None:
    done = online(view(), around())
    described = changed(done, owner="ada", description="what was spent", resources={"cpu": "2"})
    described.metadata.generation = 2
    again = step(described, around())
    assert again.start is None
    ready = condition_named(again.status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.observed_generation) == ("True", 2)


@pytest.mark.parametrize("reason", ["RowsUnfit", "InvalidDefinition"])
def test_what_the_user_must_mend_is_not_tried_again(reason: str) -> None:
    done = online(view(), around())
    at_work = after(done, step(done, around(version=2)))
    bad = reported(at_work, succeeded=False, reason=reason, message="expected the columns amount, found price")
    failed = step(bad, around(version=2), Outcome("Failed", "Failed", "exit code 1"))
    message = expect_condition(failed, "Refreshed", "False", reason)
    assert message == f"expected the columns amount, found price; version {done.status.version} stays served"
    expect_condition(failed, "Ready", "True", "Online")
    assert failed.status.last_error == f"{reason}: expected the columns amount, found price"
    assert (failed.status.source_version, failed.status.lag) == (1, 1)
    assert step(after(done, failed), around(version=2)).start is None
    mended = after(done, step(after(done, failed), around(version=3)))
    healed = step(reported(mended, source_version=3), around(version=3), SUCCEEDED)
    assert (healed.status.last_error, healed.status.lag) == (None, 0)
    assert [event.reason for event in healed.events] == ["Online"]


def test_what_may_pass_is_tried_again_after_growing_pauses() -> None:
    of, now, pauses = view(), NOW, []
    for _ in range(8):
        at_work = after(of, step(of, around(), now=now))
        assert run_at_work(at_work) is not None
        failed = step(at_work, around(), KILLED, now)
        assert failed.after_s is not None
        pauses.append(failed.after_s)
        of = after(at_work, failed)
        early = step(of, around(), now=now + timedelta(seconds=failed.after_s - 1))
        assert early.start is None
        assert early.after_s == 1.0
        now += timedelta(seconds=failed.after_s)
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600]
    at_work = after(of, step(of, around(), now=now))
    done = after(of, step(reported(at_work), around(), SUCCEEDED, now))
    assert step(done, around(), now=now).start is None, "the run that came through is the last one"


SECOND = view("second", uses=["spending"])
PROBLEMS: list[tuple[FeatureView, Surroundings, str, str]] = [
    (view(), around(version=None), "SourceMissing", "expected an existing Dataset, found no payments"),
    (view(source={"stream": "s"}), around(), "NoStreams", "spec.source: expected a dataset"),
    (view(), around(online=""), "NoOnlineStore", "expected data.onlineUrl"),
    (view(request=[{"name": "r", "function": "a:b", "inputs": ["amount"]}]), around(), "NoCode", "`mizzen apply`"),
    (SECOND, around(SECOND), "ViewMissing", "spec.uses: expected an existing FeatureView, found no spending"),
    (
        SECOND,
        around(SECOND, view(uses=["second"])),
        "CircularViews",
        "expected no view that refers to itself, found second -> spending -> second",
    ),
    (
        SECOND,
        around(SECOND, view(source={"dataset": "elsewhere"})),
        "SourceMissing",
        "spec.source.dataset of the view spending, which this one uses: expected an existing Dataset",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("of", "surroundings", "reason", "message"), PROBLEMS, ids=[p[2] for p in PROBLEMS])
def test_what_a_run_cannot_begin_without(
    of: FeatureView, surroundings: Surroundings, reason: str, message: str
) -> None:
    """Said in the condition, told once, and nothing is started."""
    decision = step(of, surroundings)
    assert decision.start is None
    assert message in expect_condition(decision, "Ready", "False", reason)
    assert [event.reason for event in decision.events] == [reason]
    assert step(after(of, decision), surroundings).events == ()


def test_a_source_without_rows_is_waited_for_in_silence() -> None:
    empty = Surroundings({}, {"payments": dataset("payments")}, "lmdb:///online")
    decision = step(view(), empty)
    assert (decision.start, decision.events) == (None, ())
    expect_condition(decision, "Ready", "False", "WaitingForSource")


def test_the_version_of_a_view_is_of_those_it_uses() -> None:
    """Whatever a used view becomes, the name and version of the one that uses it never mean two things."""
    one, two = (wanted_run(SECOND, around(SECOND, used)) for used in (view(), view(ttl="1d")))
    assert one.version != two.version
    assert one.run != two.run
    same = wanted_run(SECOND, around(SECOND, view(owner="ada")))
    assert same.run == one.run


def test_a_view_that_is_not_online_is_checked_and_needs_no_store() -> None:
    offline = view(online=False)
    done = online(offline, around(online=""), entities=None, rows=None)
    assert step(done, around(version=2, online="")).start is None, "only other columns make it worth another look"
    expect_condition(step(done, around(online="")), "Ready", "True", "Checked")


def test_a_definition_is_brought_online_by_as_many_pods_as_are_wanted_and_kept_there_by_one() -> None:
    settings = PlatformSettings("file:///store", "http://gateway", online_url="lmdb:///online")
    shared = view(parts=4)
    assert task_of(shared, wanted_run(shared, around()), settings)["parts"] == 4
    kept = online(shared, around())
    assert task_of(kept, wanted_run(kept, around(version=2)), settings)["parts"] == 1
    assert step(kept.model_copy(update={"spec": view(parts=2).spec}), around()).start is None, "it decides no value"


def test_a_view_in_use_stays_and_says_by_whom() -> None:
    kept = depart(view(), ["inferenceendpoint/fraud"], Jobs(ABSENT, ABSENT), NOW, T0)
    assert (kept.start, kept.let_go) == (None, False)
    condition = condition_named(kept.status.conditions, "Deleted")
    assert condition is not None
    assert condition.message == "is read by inferenceendpoint/fraud: take it out there, and it goes"
    again = depart(
        view().model_copy(update={"status": kept.status}), ["inferenceendpoint/fraud"], Jobs(ABSENT, ABSENT), NOW, T0
    )
    assert again.events == (), "told once"


def test_a_view_goes_when_its_records_have() -> None:
    at_work = after(view(), step(view(), around()))
    stopping = depart(at_work, [], Jobs(RUNNING, ABSENT), NOW, T0)
    assert stopping.stop == at_work.status.current_run
    removing = depart(view(), [], Jobs(ABSENT, ABSENT), NOW, T0)
    assert removing.start == removal_run(view(), NOW)
    assert not depart(view(), [], Jobs(ABSENT, RUNNING, removing.start), NOW, T0).let_go
    failed = depart(view(), [], Jobs(ABSENT, KILLED, removing.start), NOW, T0)
    assert (failed.start, failed.after_s) == (None, 60.0)
    later = depart(view(), [], Jobs(ABSENT, KILLED, removing.start), NOW + timedelta(seconds=60), T0)
    assert later.start not in {None, removing.start}
    assert depart(view(), [], Jobs(ABSENT, SUCCEEDED, later.start), NOW, T0).let_go
    without = depart(view(), [], Jobs(ABSENT, ABSENT, store=False), NOW, T0)
    assert (without.let_go, without.start, without.events[0].reason) == (True, None, "NoOnlineStore")


def test_views_are_found_in_whatever_form_features_are_named() -> None:
    assert named_views(["a", {"view": "b", "features": ["x"]}]) == ["a", "b"]
    assert named_views({"spine": {"dataset": "d"}, "views": ["a", {"view": "b"}]}) == ["a", "b"]


def test_times_are_of_the_clock_that_is_given() -> None:
    decision = decide(view(), Wanted("", problem=("X", "y")), ABSENT, NOW.astimezone(UTC), "2030-01-01T00:00:00Z")
    ready = condition_named(decision.status.conditions, "Ready")
    assert ready is not None
    assert ready.last_transition_time == "2030-01-01T00:00:00Z"


def test_a_request_runs_it_once_more() -> None:
    done = online(view(), around())
    done.metadata.annotations["mizzen.dev/materialise"] = "now at 2026-01-01T00:00:00Z"
    asked = step(done, around())
    assert asked.start is not None
    ended = after(done, step(reported(after(done, asked)), around(), SUCCEEDED))
    assert step(ended, around()).start is None


def test_a_server_that_came_back_empty_is_filled_again() -> None:
    """One view looks once a minute; the others follow what it found. A store that is a file is not looked at."""
    redis = "redis://host:6379/0"

    def there(now_s: float, *views: FeatureView) -> Surroundings:
        return Surroundings({v.name: v for v in views}, {"payments": loaded_dataset("payments", 1)}, redis, now_s)

    first = view("a")
    first = online(first, there(0, first), incarnation="x")
    second = view("b")
    second = online(second, there(0, first, second), incarnation="x")
    assert step(second, there(0, first, second)).start is None
    assert step(first, there(59, first, second)).start is None
    assert wanted_run(first, there(59, first, second)).look_again_s == 1.0
    looking = step(first, there(60, first, second))
    assert looking.start is not None
    ended = step(reported(after(first, looking), incarnation="y"), there(60, first, second), SUCCEEDED)
    found = after(first, ended)
    assert found.status.incarnation == "y"
    filling = step(second, there(60, found, second))
    assert filling.start is not None
    assert wanted_run(first, around(first)).look_again_s is None
