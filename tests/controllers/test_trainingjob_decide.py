"""TrainingJob: starts when its inputs are there, with versions that stay fixed, and ends once a generation."""

import pytest
from tests.controllers.builders import T0, T1, dataset, loaded_dataset, model, training

from mizzen.controllers.jobs import ABSENT, Outcome, run_name
from mizzen.controllers.trainingjob.decide import Decision, decide
from mizzen.kinds.build import TrainingReport
from mizzen.kinds.meta import condition_named

DATASETS = {"flights": loaded_dataset(version=3)}


def ready(decision: Decision) -> tuple[str, str]:
    condition = condition_named(decision.status.conditions, "Ready")
    assert condition is not None
    return condition.status, condition.reason


def after(of, decision: Decision, **metadata):
    return of.model_copy(update={"status": decision.status, "metadata": of.metadata.model_copy(update=metadata)})


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"model": None}, "ModelMissing"),
        ({"datasets": {}}, "DatasetMissing"),
        ({"datasets": {"flights": dataset()}}, "WaitingForDataset"),
        ({"training": training(code=None)}, "NoCode"),
        ({"training": training(datasets=[{"name": "flights", "version": 9}])}, "DatasetVersionMissing"),
    ],
)
def test_what_is_missing_is_said_and_nothing_starts(case, reason: str) -> None:
    arguments = {"training": training(), "model": model(), "datasets": DATASETS} | case
    decision = decide(arguments["training"], arguments["model"], arguments["datasets"], ABSENT, T0)
    assert decision.start is None
    assert ready(decision) == ("Unknown", reason)
    assert decision.status.phase == "Pending"


def test_versions_are_fixed_when_the_run_starts() -> None:
    first = decide(training(), model(), DATASETS, ABSENT, T0)
    assert first.start == run_name(training())
    assert [(d.name, d.version) for d in first.status.datasets] == [("flights", 3)]
    newer = {"flights": loaded_dataset(version=4)}
    again = decide(after(training(), first), model(), newer, ABSENT, T1)
    assert [(d.name, d.version) for d in again.status.datasets] == [("flights", 3)]


def test_an_older_version_can_be_asked_for() -> None:
    decision = decide(training(datasets=[{"name": "flights", "version": 1}]), model(), DATASETS, ABSENT, T0)
    assert [(d.version, d.digest) for d in decision.status.datasets] == [(1, None)]


def test_success_needs_a_model_version() -> None:
    of = training()
    report = TrainingReport(run=run_name(of), succeeded=True, model_version="late-1", metrics={"roc_auc": 0.7})
    reported = of.model_copy(
        update={"status": of.status.model_copy(update={"run": report, "current_run": run_name(of)})}
    )
    done = decide(reported, model(), DATASETS, Outcome("Succeeded"), T0)
    assert (done.status.phase, done.status.model_version) == ("Succeeded", "late-1")
    assert ready(done) == ("True", "Succeeded")
    silent = decide(training(), model(), DATASETS, Outcome("Succeeded"), T0)
    assert ready(silent) == ("False", "NoResult")


def test_a_failure_says_why_and_is_final_for_the_generation() -> None:
    failed = decide(training(), model(), DATASETS, Outcome("Failed", "OOMKilled", "too much"), T0)
    assert (failed.status.phase, *ready(failed)) == ("Failed", "False", "OOMKilled")
    assert decide(after(training(), failed), model(), DATASETS, ABSENT, T1).start is None
    changed = decide(after(training(), failed, generation=2), model(), DATASETS, ABSENT, T1)
    assert changed.start is not None
    assert changed.start != failed.status.current_run


def test_why_a_pod_waits_is_passed_on() -> None:
    waiting = Outcome("Waiting", "Unschedulable", "0/1 nodes are available: 1 Insufficient memory.")
    decision = decide(training(), model(), DATASETS, waiting, T0)
    assert ready(decision) == ("Unknown", "Unschedulable")
