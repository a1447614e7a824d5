"""TrainingJobs that declare features: the set is made once, before the run, of what the status says."""

from typing import Any

import pytest
from tests.controllers.builders import SETTINGS, T0, dataset, loaded_dataset, metadata, model, training

from mizzen.controllers.jobs import ABSENT, Outcome, run_name
from mizzen.controllers.trainingjob.decide import Decision, decide
from mizzen.controllers.trainingjob.trainingset import Making, making, set_job, set_run
from mizzen.kinds import FeatureView, TrainingJob
from mizzen.kinds.meta import condition_named
from mizzen.kinds.trainingsets import TrainingSetReport

FEATURES = {"spine": {"dataset": "asked", "time": "asked_at"}, "views": ["spending", {"view": "jump", "prefix": "j_"}]}
DATASETS = {name: loaded_dataset(name, 3) for name in ("asked", "payments", "flights")}


def view(name: str, **spec: Any) -> FeatureView:
    body = {"entities": ["card"], "source": {"dataset": "payments"}, "eventTime": "at", "columns": ["amount"], **spec}
    return FeatureView.model_validate({"metadata": metadata(name), "spec": body})


VIEWS = {"spending": view("spending"), "jump": view("jump", uses=["usual"]), "usual": view("usual")}


def job(**features: Any) -> TrainingJob:
    return training(features={**FEATURES, **features})


def reported(of: TrainingJob, **facts: Any) -> TrainingJob:
    report = TrainingSetReport(run=set_run(run_name(of)), **{"succeeded": True, "version": 7, "digest": "d", **facts})
    return of.model_copy(update={"status": of.status.model_copy(update={"training_set": report})})


def made_of(of: TrainingJob, outcome: Outcome, **datasets: Any) -> Making:
    found = making(of, run_name(of), VIEWS, {**DATASETS, **datasets}, outcome)
    assert found is not None
    return found


def step(of: TrainingJob, set_outcome: Outcome, run: Outcome = ABSENT) -> Decision:
    return decide(of, model(), DATASETS, run, T0, made_of(of, set_outcome))


def test_the_set_is_made_first_and_its_version_is_read_by_the_run() -> None:
    first = step(job(), ABSENT)
    assert (first.start, first.start_set) == (None, True)
    fixed = first.status.features
    assert fixed is not None
    assert (fixed.spine, fixed.spine_version) == ("asked", 3)
    assert [(each.name, each.source, each.source_version) for each in fixed.views] == [
        ("spending", "payments", 3), ("jump", "payments", 3), ("usual", "payments", 3),
    ]  # fmt: skip
    at_work = job().model_copy(update={"status": first.status})
    waiting = step(at_work, Outcome("Running"))
    assert (waiting.start, waiting.start_set) == (None, False)
    condition = condition_named(waiting.status.conditions, "InputsReady")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "MakingTrainingSet")
    done = step(reported(at_work), Outcome("Succeeded"))
    assert done.start == run_name(job())
    assert [(each.name, each.version) for each in done.status.datasets] == [("flights", 3), ("late-set", 7)]


def test_the_pods_are_told_everything() -> None:
    of = job(parts=4, name="rows")
    fixed = made_of(of, ABSENT).fixed
    assert fixed is not None
    made = set_job(of, "late-1-abc", fixed, VIEWS, SETTINGS)
    assert made.spec is not None
    assert (made.spec.completionMode, made.spec.completions, made.spec.parallelism) == ("Indexed", 4, 4)
    template = made.spec.template.spec
    assert template is not None
    (task,) = [variable.value for variable in template.containers[0].env or () if variable.name == "MIZZEN_TASK"]
    assert task is not None
    for part in ('"table":"rows"', '"parts":4', '"run":"late-1-abc-set"', '"prefix":"j_"', '"name":"usual"'):
        assert part in task


def test_a_set_that_cannot_be_made_ends_the_training() -> None:
    of = reported(job(), succeeded=False, reason="RowsUnfit", message="expected the columns card")
    failed = step(of, Outcome("Failed", "Failed", "exit code 1"))
    assert failed.status.phase == "Failed"
    condition = condition_named(failed.status.conditions, "Ready")
    assert condition is not None
    assert (condition.reason, condition.message) == ("RowsUnfit", "the training set: expected the columns card")


def test_a_report_of_another_run_is_not_believed() -> None:
    of = reported(job())
    stale = of.status.training_set
    assert stale is not None
    of.status.training_set = stale.model_copy(update={"run": "other"})
    assert made_of(of, Outcome("Succeeded")).state == "failed"


PROBLEMS: list[tuple[TrainingJob, dict[str, Any], str, str]] = [
    (job(spine={"dataset": "gone", "time": "t"}), {}, "DatasetMissing", "spec.features.spine.dataset: expected"),
    (job(views=["gone"]), {}, "ViewMissing", "spec.features.views[0]: expected an existing FeatureView, found no gone"),
    (job(), {"payments": dataset("payments")}, "WaitingForDataset", "waits for dataset payments"),
    (job(name="payments"), {}, "NameTaken", "expected a name that no Dataset has, found payments"),
]


@pytest.mark.parametrize(("of", "datasets", "reason", "message"), PROBLEMS, ids=[p[2] for p in PROBLEMS])
def test_what_a_set_cannot_be_made_without(
    of: TrainingJob, datasets: dict[str, Any], reason: str, message: str
) -> None:
    found = made_of(of, ABSENT, **datasets)
    assert (found.state, found.reason) == ("missing", reason)
    assert message in found.message


def test_a_training_without_features_makes_no_set() -> None:
    assert making(training(), "run", VIEWS, DATASETS, ABSENT) is None
