"""Training runs as real processes: what they make, how they fail, and what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pyarrow as pa
import pytest

from mizzen.data.lake.code import bundle, put_bundle
from mizzen.data.lake.objects import Store
from mizzen.data.lake.parts import PartWriter
from mizzen.data.lake.tables import Table
from mizzen.kinds.build import ModelVersion
from mizzen.registry.artifact import get_model
from mizzen.training.task import TrainingTask

TRAIN = '''
import random, threading, os, pathlib, time
import numpy as np
from sklearn.linear_model import LinearRegression
from mizzen.training import Context, TrainedModel

def fit(ctx: Context) -> TrainedModel:
    rows = ctx.dataset("things")
    frame = rows.pandas()
    print("the user's own words", rows.version, ctx.parameters["rate"], random.random(), np.random.rand(), flush=True)
    for step in range(3):
        ctx.log(step, loss=1.0 / (step + 1), odd=float("nan"))
    ctx.progress(3, 3, "done")
    model = LinearRegression().fit(frame[["x"]], frame["y"])
    return TrainedModel(model, {"rmse": np.float32(0.5)}, example=frame[["x"]][:2], holdout=frame[["x"]])

def raises(ctx):
    def deeper():
        raise ValueError("the learning rate is\\ntoo high")
    deeper()

def exits(ctx): raise SystemExit(0)
def nothing(ctx): pass
def number(ctx): return 42
def pair(ctx): return ("model", {"a": 1})
def nan(ctx): return TrainedModel(LinearRegression(), {"auc": float("nan")}, example=np.zeros((1, 1)))
def text_metric(ctx): return TrainedModel(LinearRegression(), {"auc": "high"}, example=np.zeros((1, 1)))
def no_example(ctx): return LinearRegression().fit([[1.0]], [1.0]), {"auc": 1.0}
def unfitted(ctx): return TrainedModel(LinearRegression(), {}, example=np.zeros((1, 1)))
def no_metrics(ctx): return TrainedModel(LinearRegression(), None, example=np.zeros((1, 1)))
def other_dataset(ctx): ctx.dataset("thingz")
def bad_onnx(ctx): return TrainedModel(b"nonsense", {})

def two_lives(ctx):
    """The first life writes a checkpoint and waits to be killed; the second goes on from it."""
    kept = ctx.checkpoints / "step" / "3.txt"
    if not kept.exists():
        kept.parent.mkdir()
        (kept.parent / "half.tmp").write_text("unfinished")
        kept.write_text("three")
        print("waiting", flush=True)
        threading.Event().wait(float(os.environ.get("WAIT_S", "60")))
    print("resumed from", kept.read_text(), flush=True)
    return fit(ctx)
'''


class Job:
    """A training job's folder, store and tasks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open((folder / "store").as_uri())
        (folder / "project").mkdir()
        (folder / "project" / "train.py").write_text(TRAIN)
        self.code = put_bundle(self.store, bundle(folder / "project"))
        rows = pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": [2.0, 4.0, 6.0, 8.0]})
        writer = PartWriter(folder / "spool", rows.schema)
        writer.write(rows)
        self.dataset = Table(self.store, "ns", "things").commit(writer.close(), rows.schema, "load-1")

    def environment(self, entrypoint: str, **task: Any) -> dict[str, str]:
        known = {
            "namespace": "ns", "name": "job", "run": "run-1", "storeUrl": self.store.url, "code": self.code,
            "entrypoint": entrypoint if ":" in entrypoint else f"train:{entrypoint}", "model": "line", "datasets": [{"name": "things", "version": 1}],
            "parameters": {"rate": 0.1}, "seed": 7,
        }  # fmt: skip
        return {
            **os.environ,
            "MIZZEN_TASK": TrainingTask.model_validate(known | task).model_dump_json(by_alias=True),
            "MIZZEN_ROOTFS": str(self.folder / "rootfs"),
            "PLACE": str(self.folder),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }

    def start(self, entrypoint: str, *, env: dict[str, str] | None = None, **task: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("training_pod.py"))],
            env=self.environment(entrypoint, **task) | (env or {}),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, entrypoint: str, *, env: dict[str, str] | None = None, **task: Any) -> tuple[int, str, str]:
        """(exit code, standard output, termination message)."""
        with self.start(entrypoint, env=env, **task) as process:
            out, _ = process.communicate()
        return process.returncode, out, self.last_words()

    def last_words(self) -> str:
        path = self.folder / "rootfs" / "dev" / "termination-log"
        return path.read_text() if path.exists() else ""

    def reports(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "reports").read_text().splitlines()]

    def versions(self) -> list[ModelVersion]:
        return [ModelVersion.model_validate_json(p.read_text()) for p in sorted(self.folder.glob("*.version.json"))]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    return Job(tmp_path)


def test_a_run_makes_a_version_with_its_lineage(job: Job) -> None:
    """Model, metrics, conversion, datasets by version and digest, code, parameters, seed, packages; and it told how
    it went."""
    code, out, _ = job.run("fit")
    assert code == 0
    (version,) = job.versions()
    lineage = version.spec.lineage
    assert (version.name, version.spec.metrics) == ("line-1", {"rmse": 0.5})
    assert (lineage.training_job, lineage.run, lineage.code, lineage.entrypoint) == (
        "job",
        "run-1",
        job.code,
        "train:fit",
    )
    assert (lineage.parameters, lineage.seed) == ({"rate": 0.1}, 7)
    assert [(d.name, d.version, d.digest) for d in lineage.datasets] == [("things", 1, job.dataset.digest)]
    assert {"scikit-learn", "numpy", "pyarrow"} <= lineage.packages.keys()
    assert version.spec.conversion is not None
    assert version.spec.conversion.rows == 4
    session = onnxruntime.InferenceSession(get_model(job.store, version.spec.artifact.digest))
    assert session.run(None, {"input": [[10.0]]})[0] == pytest.approx([20.0])
    assert out.startswith("the user's own words 1 0.1 ")
    last = job.reports()[-1]
    assert (last["succeeded"], last["modelVersion"], last["metrics"]) == (True, "line-1", {"rmse": 0.5})
    told = [(report["progress"]["step"], report["metrics"]) for report in job.reports() if "progress" in report]
    assert told[-1] == (3, {"loss": pytest.approx(1 / 3)})
    assert job.store.list("runs") == []


def test_the_same_seed_makes_the_same_model(job: Job) -> None:
    """Python's and numpy's generators are seeded; the bytes, and so the digest, are the same."""
    first, second = (job.run("fit", run=run)[1] for run in ("run-1", "run-2"))
    assert first == second
    assert len({version.spec.artifact.digest for version in job.versions()}) == 1
    assert [version.spec.version for version in job.versions()] == [1, 2]


FAILURES = {
    "raises": ("FunctionRaised", "train:raises raised ValueError: the learning rate is too high (train.py:"),
    "exits": ("FunctionRaised", "train:exits raised SystemExit: 0"),
    "nothing": ("BadResult", "expected TrainedModel(model, metrics"),
    "number": ("BadResult", "got int 42"),
    "pair": ("CorruptModel", "model: cannot be read"),
    "nan": ("BadResult", "metrics['auc']: expected a finite number, got float nan"),
    "text_metric": ("BadResult", "metrics['auc']: expected a finite number, got str 'high'"),
    "no_example": ("BadResult", "example: expected some rows"),
    "unfitted": ("BadModel", "cannot predict the rows it was given: NotFittedError"),
    "no_metrics": ("BadResult", "metrics: expected numbers by name"),
    "other_dataset": ("FunctionRaised", "thingz: expected a dataset of the job's spec.datasets; did you mean things?"),
    "bad_onnx": ("CorruptModel", "cannot load the model"),
    "not_there": ("CodeMissing", "expected a function not_there in module train"),
}


@pytest.mark.parametrize("entrypoint", ["raises", "number", "nan", *(
    pytest.param(name, marks=pytest.mark.slow) for name in FAILURES if name not in {"raises", "number", "nan"}
)])  # fmt: skip
def test_what_goes_wrong_is_told_and_not_tried_again(job: Job, entrypoint: str) -> None:
    """Exit code 1, the reason in the report and the termination message, which has the end of the traceback."""
    reason, message = FAILURES[entrypoint]
    code, _, words = job.run(entrypoint)
    last = job.reports()[-1]
    assert (code, last["succeeded"], last["reason"]) == (1, False, reason)
    assert message in last["message"]
    assert "\n" not in last["message"]
    assert words.startswith(f"{reason}: {last['message']}")
    assert job.versions() == []
    if reason == "FunctionRaised":
        assert words.splitlines()[-1].startswith(("too high", "SystemExit", "mizzen.training.context.UnknownDataset"))


@pytest.mark.parametrize("moment", ["before-version", "after-version"])
def test_killed_around_its_version_and_repeated_there_is_one(job: Job, moment: str) -> None:
    """SIGKILL just before and just after the version is made: the second life makes it, or only reports it."""
    code, _, _ = job.run("fit", env={"DIE_AT": moment})
    assert code == -signal.SIGKILL
    code, out, _ = job.run("fit")
    assert code == 0
    assert (out == "") == (moment == "after-version")  # a version that was made is not trained again
    assert [version.name for version in job.versions()] == ["line-1"]
    assert job.reports()[-1]["modelVersion"] == "line-1"


def test_asked_to_stop_it_keeps_its_checkpoints_and_goes_on_from_them(job: Job) -> None:
    """SIGTERM: the files are in the store before the process ends, and the next life finds them; whole ones only."""
    with job.start("two_lives") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "waiting\n"
        first.terminate()
        first.communicate()
    assert first.returncode == 128 + signal.SIGTERM
    assert job.last_words().startswith("Terminated")
    kept = [stored.path for stored in job.store.list("runs")]
    assert kept == ["runs/ns/job/run-1/checkpoints/step/3.txt"]
    code, out, _ = job.run("two_lives")
    assert (code, out.splitlines()[0]) == (0, "resumed from three")
    assert job.store.list("runs") == []


def test_missing_things_are_told(job: Job) -> None:
    """A dataset version that is not there: the controller's fault, but nothing to try again."""
    code, _, words = job.run("fit", datasets=[{"name": "things", "version": 9}])
    assert (code, words.partition(":")[0]) == (1, "DatasetMissing")
