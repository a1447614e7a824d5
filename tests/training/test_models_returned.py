"""What a training function may hand over beside what becomes ONNX: Python classes, and models in their own formats."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.training.test_training import Job

from mizzen.data.lake.code import bundle, put_bundle
from mizzen.registry.artifact import get_package

MODELS = '''
import numpy as np
import lightgbm as lgb
from sklearn.linear_model import LinearRegression
from mizzen.training import PythonModel, TrainedModel

class Own(LinearRegression):
    pass

class Served:
    """Made a version as it is: nothing is trained."""
    inputs = {"x": ("FP64", [-1, 1])}
    outputs = {"y": ("FP64", [-1, 1])}
    def load(self, context):
        self.rate = context.parameters["rate"]
    def predict(self, batch):
        return batch["x"] * self.rate

class Weighted:
    def load(self, context):
        self.weights = np.load(context.folder / "weights.npy")
    def predict(self, batch):
        return {"score": batch["x"] @ self.weights}

class Broken(Weighted):
    def predict(self, batch):
        raise ArithmeticError("no answer")

def weighted(ctx):
    np.save(ctx.checkpoints / "weights.npy", np.array([2.0, 3.0]))
    model = PythonModel("serve:Weighted", ctx.checkpoints)
    return TrainedModel(model, {"rmse": 0.25}, example={"x": [[1.0, 1.0]]})

def broken(ctx):
    np.save(ctx.checkpoints / "weights.npy", np.array([2.0, 3.0]))
    return TrainedModel(PythonModel("serve:Broken", ctx.checkpoints), {}, example={"x": [[1.0, 1.0]]})

def native(ctx):
    x = np.random.default_rng(1).normal(size=(100, 3))
    booster = lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(x, x[:, 0]), 3)
    return TrainedModel(booster, {}, example=x[:5], form="native")

def own(ctx):
    x = np.random.default_rng(1).normal(size=(100, 3))
    return TrainedModel(Own().fit(x, x[:, 0]), {}, example=x[:5], holdout=x)
'''


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    made = Job(tmp_path)
    (tmp_path / "project" / "serve.py").write_text(MODELS)
    made.code = put_bundle(made.store, bundle(tmp_path / "project"))
    return made


def test_a_class_for_an_entrypoint_is_made_a_version_as_it_is(job: Job) -> None:
    code, _, said = job.run("serve:Served")
    assert (code, said) == (0, "")
    (version,) = job.versions()
    artifact = version.spec.artifact
    assert (artifact.format, artifact.entrypoint, artifact.code) == ("python", "serve:Served", job.code)
    assert get_package(job.store, artifact.digest).parameters == {"rate": 0.1}
    assert version.spec.lineage.training_job == "job"


def test_a_function_may_hand_over_a_class_with_what_it_learned(job: Job) -> None:
    code, _, said = job.run("serve:weighted")
    assert (code, said) == (0, "")
    (version,) = job.versions()
    assert version.spec.metrics == {"rmse": 0.25}
    assert [entry.path for entry in get_package(job.store, version.spec.artifact.digest).files] == ["weights.npy"]
    assert [(one.name, one.datatype, one.shape) for one in version.spec.signature.outputs] == [("score", "FP64", [-1])]


def test_a_class_that_does_not_answer_its_example_is_no_version(job: Job) -> None:
    code, _, said = job.run("serve:broken")
    assert code == 1
    assert "serve:Broken: predict raised ArithmeticError: no answer (serve.py:" in said
    assert (job.versions(), job.reports()[-1]["reason"]) == ([], "BadModel")


def test_a_model_may_be_kept_in_its_librarys_own_format(job: Job) -> None:
    code, _, said = job.run("serve:native")
    assert (code, said) == (0, "")
    (version,) = job.versions()
    assert (version.spec.artifact.format, version.spec.lineage.source_type) == ("lightgbm", "lightgbm.Booster")
    assert version.spec.conversion is not None


def test_an_estimator_of_ones_own_is_kept_with_its_code_and_waits_to_be_approved(job: Job) -> None:
    """It has no converter; its type is named for the owner."""
    code, _, said = job.run("serve:own")
    assert (code, said) == (0, "")
    (version,) = job.versions()
    artifact = json.loads(version.spec.artifact.model_dump_json(by_alias=True))
    assert (artifact["format"], artifact["code"]) == ("skops", job.code)
    assert artifact["untrustedTypes"] == ["serve.Own"]
    assert version.spec.conversion is not None
    assert version.spec.conversion.rows == 100
