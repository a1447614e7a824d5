"""BatchPrediction: what a run waits for, what it is fixed to, how it ends, and which runs a schedule makes."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.controllers.builders import SETTINGS, T0, batch, dataset, endpoint, loaded_dataset, model, model_version

from mizzen.controllers.batchprediction.decide import Decision, decide
from mizzen.controllers.batchprediction.deleting import Departure, depart, removal_job, removal_name
from mizzen.controllers.batchprediction.inputs import Found
from mizzen.controllers.batchprediction.runs import job_of, task_of
from mizzen.controllers.jobs import ABSENT, Outcome
from mizzen.kinds import BatchPrediction
from mizzen.kinds.batch import BatchResult, BatchShard
from mizzen.kinds.cron import Cron
from mizzen.kinds.meta import condition_named
from mizzen.kinds.names import ANNOTATION_RUN
from mizzen.kinds.pods import SecretKey
from mizzen.serving.batch.task import BatchTask

NOW = datetime.fromisoformat(T0)
VERSIONS = {3: model_version(3)}
FLIGHTS = loaded_dataset(version=7)
FOUND = Found(dataset=FLIGHTS, model=model(), versions=VERSIONS)
CACHED = {"output": {"dataset": "scored", "cache": {"endpoint": "late"}}}
RUNNING, DONE = Outcome("Running"), Outcome("Succeeded")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def said(decision: Decision, type_: str = "Ready") -> tuple[str, str]:
    condition = condition_named(decision.status.conditions, type_)
    assert condition is not None
    return condition.status, condition.reason


def after(of: BatchPrediction, decision: Decision, **changes: Any) -> BatchPrediction:
    return of.model_copy(update={"status": decision.status.model_copy(deep=True), **changes})


def finished(of: BatchPrediction, run: str, **result: Any) -> BatchPrediction:
    status = of.status.model_copy(deep=True)
    status.results[run] = BatchResult(**({"succeeded": True, "version": 1, "rows": 10} | result))
    return of.model_copy(update={"status": status})


def with_columns(*names: str):
    return loaded_dataset(version=7).model_copy(
        update={
            "status": FLIGHTS.status.model_copy(
                update={"columns": [{"name": name, "type": "double"} for name in names] and _columns(names)}
            )
        }
    )


def _columns(names):
    made = dataset(status={"columns": [{"name": name, "type": "double"} for name in names]})
    return made.status.columns


@pytest.mark.parametrize(
    ("spec", "found", "reason", "message"),
    [
        ({}, Found(dataset=FLIGHTS, versions={}), "ModelMissing", "spec.model: expected an existing Model, found no late"),
        ({"model": "late:9"}, FOUND, "VersionMissing", "expected a version of late (3), got 9"),
        ({"model": "late@production"}, FOUND, "AliasMissing", "no alias production yet"),
        ({}, Found(model=model(), versions=VERSIONS), "DatasetMissing", "spec.input.dataset: expected an existing Dataset, found no flights"),
        ({}, Found(dataset=dataset(), model=model(), versions=VERSIONS), "WaitingForDataset", "has no version yet"),
        ({"input": {"dataset": "flights", "version": 8}}, FOUND, "DatasetVersionMissing", "expected at most 7"),
        ({"endpoint": "late"}, FOUND, "EndpointMissing", "spec.endpoint: expected an existing InferenceEndpoint, found no late"),
        ({"endpoint": "late"}, Found(dataset=FLIGHTS, endpoint=endpoint()), "WaitingForEndpoint", "waits for endpoint late to serve a version"),
        ({}, Found(dataset=FLIGHTS, model=model(), versions=VERSIONS, output=dataset("scored")), "OutputTaken", "whose source is python"),
        ({}, Found(dataset=FLIGHTS, model=model(), versions=VERSIONS, output=dataset("scored", source={"batchPrediction": "other"})), "OutputTaken", "source: {batchPrediction: nightly}, found scored, whose source is batchPrediction: other"),
        ({}, Found(dataset=with_columns("xx", "id"), model=model(), versions=VERSIONS), "MissingColumns", "model late-3 takes x: expected a column x in dataset flights at version 7, found xx, id (did you mean xx?)"),
        (CACHED, FOUND, "EndpointMissing", "spec.output.cache.endpoint: expected an existing InferenceEndpoint, found no late"),
        (CACHED, Found(cached=endpoint()), "NoCache", "expected an endpoint with spec.cache: {redis: true}, found late"),
        (CACHED, Found(cached=endpoint(cache={"redis": True})), "WrongCallers", "found none for access: api-key"),
        (CACHED, Found(cached=endpoint(cache={"redis": True}, access="anonymous")), "NoCache", "spec.env: expected MIZZEN_CACHE_REDIS"),
        ({"output": {"dataset": "scored", "keep": ["idd"]}}, Found(dataset=with_columns("x", "id"), model=model(), versions=VERSIONS), "MissingColumns", "spec.output.keep: expected columns of dataset flights at version 7 (x, id), got idd"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_and_no_run_begins(spec, found: Found, reason: str, message: str) -> None:
    decision = decide(batch(**spec), found, {}, NOW)
    assert (decision.start, decision.status.runs, decision.status.phase) == ([], [], "Waiting")
    assert said(decision) == ("Unknown", reason)
    assert said(decision, "InputsReady") == ("False", reason)
    condition = condition_named(decision.status.conditions, "Ready")
    assert condition is not None
    assert message in condition.message
    again = decide(after(batch(**spec), decision), found, {}, at(1))
    assert again.events == [], "it is said once"


def test_a_run_is_fixed_to_versions_and_keeps_them() -> None:
    """A newer input and model change nothing about a run that has begun, nor about its Job that is made again."""
    first = decide(batch(), FOUND, {}, NOW)
    (run,) = first.start
    assert (run.input.version, run.model.digest) == (7, VERSIONS[3].spec.artifact.digest)
    newer = Found(dataset=loaded_dataset(version=8), model=model(), versions=VERSIONS)
    again = decide(after(batch(), first), newer, {run.name: ABSENT}, at(5))
    assert [(each.name, each.input.version) for each in again.start] == [(run.name, 7)]
    going = decide(after(batch(), again), newer, {run.name: RUNNING}, at(6))
    assert (going.start, going.status.runs[0].phase, said(going)) == ([], "Running", ("Unknown", "Running"))


def test_a_run_that_succeeded_is_not_made_again_until_its_work_changes() -> None:
    first = decide(batch(), FOUND, {}, NOW)
    name = first.start[0].name
    ended = decide(finished(after(batch(), first), name, failed_rows=2, example="too far"), FOUND, {name: DONE}, at(60))
    assert said(ended) == ("True", "Succeeded")
    assert (ended.status.phase, ended.status.output_version, ended.status.shards) == ("Succeeded", 1, {})
    assert "2 refused by the model (too far)" in ended.status.runs[0].message
    settled = after(batch(), ended)
    assert decide(settled, FOUND, {}, at(90)).start == []
    for spec, works in (({"suspend": True}, False), ({"retries": 9}, False), ({"batchRows": 5}, True)):
        changed = batch(generation=2, **spec)
        decision = decide(changed.model_copy(update={"status": settled.status}), FOUND, {}, at(99))
        assert bool(decision.start) == works, spec
        assert said(decision)[0] == ("Unknown" if works else "True")
    there = decide(batch(generation=2, batchRows=5).model_copy(update={"status": settled.status}), FOUND, {}, at(99))
    back = batch(generation=3).model_copy(update={"status": there.status})
    assert len(decide(back, FOUND, {}, at(100)).start) == 1, "what was computed meanwhile is something else"


def test_a_spec_that_changes_ends_the_run_that_is_at_work() -> None:
    first = decide(batch(), FOUND, {}, NOW)
    old = first.start[0].name
    changed = batch(generation=2, batchRows=5).model_copy(update={"status": first.status})
    decision = decide(changed, FOUND, {old: RUNNING}, at(1))
    assert decision.end == [old]
    assert [run.phase for run in decision.status.runs] == ["Starting", "Replaced"]
    assert decision.start[0].name != old


@pytest.mark.parametrize(
    ("job", "result", "reason"),
    [
        (Outcome("Failed", "Failed", "exit"), {"succeeded": False, "reason": "TooManyErrors", "message": "12 rows"}, "TooManyErrors"),
        (Outcome("Failed", "DeadlineExceeded", "too slow"), None, "DeadlineExceeded"),
        (Outcome("Succeeded"), None, "NoResult"),
    ],
)  # fmt: skip
def test_a_failure_says_why(job: Outcome, result: dict | None, reason: str) -> None:
    first = decide(batch(), FOUND, {}, NOW)
    name = first.start[0].name
    of = after(batch(), first)
    ended = decide(finished(of, name, **result) if result is not None else of, FOUND, {name: job}, at(60))
    assert (said(ended), ended.status.phase) == (("False", reason), "Failed")
    assert decide(after(of, ended), FOUND, {}, at(61)).start == []


def test_progress_is_that_of_all_pods() -> None:
    """Rows and rates add up; the slowest Pod tells when it will be done; what one waits for is told."""
    first = decide(batch(parallelism=2), FOUND, {}, NOW)
    name = first.start[0].name
    of = after(batch(parallelism=2), first)
    shards = {
        f"{name}/0": BatchShard(rows_total=500, rows_done=400, rows_per_s=50.0, updated_at=T0),
        f"{name}/1": BatchShard(rows_total=500, rows_done=100, rows_per_s=20.0, failed_rows=3, updated_at=T0),
        "gone-1/0": BatchShard(rows_total=9, rows_done=9),
    }
    status = of.status.model_copy(update={"shards": shards})
    told = decide(of.model_copy(update={"status": status}), FOUND, {name: RUNNING}, at(3))
    progress = told.status.progress
    assert progress is not None
    assert (progress.percent, progress.rows_done, progress.rows_total, progress.rows_per_s) == (50, 500, 1000, 70.0)
    assert progress.done_at == "2026-01-01T00:00:20Z"
    assert set(told.status.shards) == {f"{name}/0", f"{name}/1"}
    condition = condition_named(told.status.conditions, "Ready")
    assert condition is not None
    assert condition.message == "500 of 1000 rows (50 %), 70 rows/s, 3 refused"


def test_a_request_makes_one_run_more_when_none_is_at_work() -> None:
    of = batch(schedule={"cron": "@yearly"})
    of.metadata.annotations[ANNOTATION_RUN] = "please"
    first = decide(of, FOUND, {}, NOW)
    (run,) = first.start
    assert decide(after(of, first), FOUND, {run.name: RUNNING}, at(1)).start == []
    ended = decide(finished(after(of, first), run.name), FOUND, {run.name: DONE}, at(9))
    assert decide(after(of, ended), FOUND, {}, at(10)).start == []
    of.metadata.annotations[ANNOTATION_RUN] = "again"
    assert decide(after(of, ended), FOUND, {}, at(11)).start[0].name != run.name


def test_the_output_of_an_older_run_stays_ready_while_the_next_is_made() -> None:
    of = batch(schedule={"cron": "@hourly"})
    first = decide(of, FOUND, {}, at(3600))
    name = first.start[0].name
    ended = decide(finished(after(of, first), name), FOUND, {name: DONE}, at(3700))
    assert (said(ended), ended.status.phase) == (("True", "Succeeded"), "Scheduled")
    following = decide(after(of, ended), FOUND, {}, at(7200))
    assert (len(following.start), said(following), following.status.phase) == (1, ("True", "Succeeded"), "Running")


def test_a_run_of_the_same_work_goes_on_where_one_that_failed_was() -> None:
    """Asked for again, with other options that decide no answer; not with another input or other columns."""
    first = decide(batch(), FOUND, {}, NOW)
    name = first.start[0].name
    failed = decide(after(batch(), first), FOUND, {name: Outcome("Failed", "DeadlineExceeded", "too slow")}, at(9))
    newer = Found(dataset=loaded_dataset(version=8), model=model(), versions=VERSIONS)
    for spec, found, same in (
        ({"parallelism": 4, "timeout": "9h"}, FOUND, True),
        ({}, newer, False),
        ({"output": {"dataset": "scored", "keep": []}}, FOUND, False),
        ({"groupRows": 99}, FOUND, False),
    ):
        again = batch(generation=2, **spec).model_copy(update={"status": failed.status})
        again.metadata.annotations[ANNOTATION_RUN] = "again"
        (run,) = decide(again, found, {}, at(10)).start
        assert run.name != name
        assert (run.kept_in == name) == same


class World:
    """A BatchPrediction with its Jobs, decided about again and again while time passes and things happen."""

    def __init__(self, chance: random.Random, **schedule: Any) -> None:
        self.chance = chance
        self.batch = batch(schedule=schedule, history={"succeeded": 2, "failed": 1})
        self.now = NOW
        self.jobs: dict[str, Outcome] = {}
        self.made: list[tuple[str, datetime]] = []
        """(time of the schedule, when it began)."""

    def turn(self) -> None:
        decision = decide(self.batch, FOUND, self.jobs, self.now)
        known = {run.name for run in self.batch.status.runs}
        self.batch = after(self.batch, decision)
        for run in decision.start:
            self.jobs.setdefault(run.name, RUNNING)
            if run.name not in known:
                assert run.scheduled_for is not None
                self.made.append((run.scheduled_for, self.now))
        for name in decision.end:
            self.jobs.pop(name, None)
        steady = decide(self.batch, FOUND, self.jobs, self.now)
        assert (steady.start, steady.end) == ([], []), "deciding again changes nothing"

    def happen(self) -> None:
        """Jobs end, well or not; a Job is deleted by somebody; the controller forgets everything it held."""
        for name, job in list(self.jobs.items()):
            if job is RUNNING and self.chance.random() < 0.3:
                if self.chance.random() < 0.7:
                    self.batch = finished(self.batch, name)
                    self.jobs[name] = DONE
                else:
                    self.jobs[name] = Outcome("Failed", "Failed", "exit")
            elif job is RUNNING and self.chance.random() < 0.05:
                del self.jobs[name]
        self.batch = BatchPrediction.from_server(self.batch.to_wire())

    @property
    def active(self) -> int:
        return sum(run.active for run in self.batch.status.runs)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("policy", ["Allow", "Forbid", "Replace"])
def test_each_time_of_a_schedule_is_run_once_at_most_whatever_happens(seed: int, policy: str) -> None:
    """Over days with a change of clocks, controllers that are away, Jobs that fail, are slow or are deleted."""
    chance = random.Random(seed)
    zone, text = "Europe/Berlin", chance.choice(["*/20 * * * *", "30 2,3 * * *", "5 */2 * * *"])
    world = World(chance, cron=text, timeZone=zone, concurrencyPolicy=policy)
    world.batch.metadata.creation_timestamp = "2026-03-28T20:00:00Z"
    world.now = datetime(2026, 3, 28, 20, tzinfo=UTC)
    begin = world.now
    for _ in range(150):
        world.turn()
        assert world.active <= (1 if policy != "Allow" else 99)
        ended = [run.phase for run in world.batch.status.runs if not run.active]
        assert ended.count("Succeeded") <= 2
        assert len(ended) <= 3
        world.happen()
        world.now += timedelta(seconds=chance.choice([5, 60, 300, 1200, 9000]))
    times, moment = [], begin
    while (following := Cron.parse(text).after(moment, ZoneInfo(zone))) is not None and following <= world.now:
        times.append(following)
        moment = following
    ran = [datetime.fromisoformat(scheduled) for scheduled, _ in world.made]
    assert len(ran) == len(set(ran))
    assert set(ran) <= set(times)
    assert ran == sorted(ran)
    for scheduled, started in world.made:
        due = datetime.fromisoformat(scheduled)
        assert due <= started
        newer = [each for each in times if due < each <= started]
        assert newer == [], "of several that were missed, only the last is made up for"


def test_a_run_that_comes_too_late_is_left_out_and_said() -> None:
    of = batch(schedule={"cron": "@hourly", "startingDeadline": "5m"})
    late = decide(of, FOUND, {}, at(3600 + 301))
    assert late.start == []
    assert [event.reason for event in late.events] == ["MissedSchedule"]
    assert decide(after(of, late), FOUND, {}, at(3600 + 400)).events == []
    assert len(decide(of, FOUND, {}, at(3600 + 299)).start) == 1


def test_nothing_begins_while_it_is_suspended_and_the_last_time_is_made_up_for() -> None:
    of = batch(schedule={"cron": "@hourly"}, suspend=True)
    held = decide(of, FOUND, {}, at(7300))
    assert (held.start, held.status.phase, held.status.next_schedule_time) == ([], "Suspended", None)
    resumed = batch(schedule={"cron": "@hourly"}).model_copy(update={"status": held.status})
    (run,) = decide(resumed, FOUND, {}, at(7400)).start
    assert run.scheduled_for == "2026-01-01T02:00:00Z"


def test_a_clock_that_jumps_back_makes_no_run_again() -> None:
    of = batch(schedule={"cron": "@hourly"})
    first = decide(of, FOUND, {}, at(7200))
    name = first.start[0].name
    ended = decide(finished(after(of, first), name), FOUND, {name: DONE}, at(7300))
    assert decide(after(of, ended), FOUND, {}, at(3700)).start == []
    assert len(decide(after(of, ended), FOUND, {}, at(10_800)).start) == 1


def test_pods_are_told_all_they_need() -> None:
    """Nothing of the task changes with the spec or the objects once the run has begun, and it fits what Pods expect."""
    of = batch(endpoint="late", parallelism=4, errorLimit="1%", input={"dataset": "flights", "where": "x > 1"})
    traffic = {
        "modelVersion": "late-3",
        "model": "late",
        "version": 3,
        "digest": VERSIONS[3].spec.artifact.digest,
        "percent": 100,
    }
    serving = endpoint({"traffic": [traffic], "replicas": 2}, queue={"maxRows": 100})
    found = Found(dataset=FLIGHTS, endpoint=serving, model=model(), versions=VERSIONS)
    decision = decide(of, found, {}, NOW)
    (run,) = decision.start
    now = after(of, decision)
    told = task_of(now, run, VERSIONS[3], found, SETTINGS)
    assert told["endpoint"] == {
        "name": "late", "url": "http://127.0.0.1:7080/namespaces/default/v2/models/late", "batchRowsMax": 100, "workers": 2,
    }  # fmt: skip
    assert (told["way"], told["where"], told["errorLimit"]) == ("endpoint", "x > 1", "1%")
    assert (told["active"], told["keptIn"]) == ([run.name], run.name)
    BatchTask.model_validate(told)
    job = job_of(now, run, VERSIONS[3], found, SecretKey(name="batchprediction.nightly.key", key="key"), SETTINGS)
    assert job.spec is not None
    assert (job.spec.completionMode, job.spec.completions, job.spec.parallelism) == ("Indexed", 4, 4)
    environment = {value.name: value for value in job.spec.template.spec.containers[0].env}
    assert environment["MIZZEN_API_KEY"].valueFrom.secretKeyRef.name == "batchprediction.nightly.key"


@pytest.mark.parametrize(
    ("at_work", "removal", "expected"),
    [
        (True, ABSENT, Departure()),
        (False, ABSENT, Departure(remove=True)),
        (False, RUNNING, Departure()),
        (False, DONE, Departure(let_go=True)),
        (False, Outcome("Failed", message="no store"), Departure(let_go=True, left="no store")),
    ],
)
def test_a_deleted_one_goes_once_nothing_is_left(at_work: bool, removal: Outcome, expected: Departure) -> None:
    """Its runs end first, then what they kept is removed; and it never waits for what has failed for good."""
    assert depart(at_work=at_work, removal=removal) == expected


def test_who_removes_has_no_owner_that_goes() -> None:
    job = removal_job(batch(), SETTINGS)
    assert job.metadata is not None
    assert job.metadata.ownerReferences is None
    assert job.metadata.name == removal_name(batch())


@pytest.mark.parametrize(("background", "cpu"), [(True, "1m"), (False, "2")])
def test_pods_in_the_background_ask_for_no_processor(background: bool, cpu: str) -> None:
    """The weight of their control group is the least there is; threads are as many as the spec says."""
    of = batch(background=background, resources={"cpu": "2", "memory": "1Gi"})
    run = decide(of, FOUND, {}, NOW).start[0]
    job = job_of(of, run, VERSIONS[3], FOUND, None, SETTINGS)
    assert job.spec is not None
    assert job.spec.template.spec is not None
    (container,) = job.spec.template.spec.containers
    assert container.resources is not None
    assert container.resources.requests == {"cpu": cpu, "memory": "1Gi"}
    assert container.resources.limits == {"memory": "1Gi"}
    assert task_of(of, run, VERSIONS[3], FOUND, SETTINGS)["threads"] == 2
