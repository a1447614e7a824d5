"""Training sets made by indexed Jobs on the node, against object storage: 1, 2 and 8 Pods make the same bytes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data.conftest import s3, s3_endpoint  # noqa: F401 - fixtures: an S3 server of this test run
from tests.e2e.machine import OTHER_CONTROL_PLANE, Machine

ROWS = '''
"""Payments, and questions about cards."""

import numpy as np
import pandas as pd


def payments():
    random = np.random.default_rng(7)
    at = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(random.integers(0, 86_400, 20_000), unit="s")
    cards = [f"card-{n}" for n in random.integers(0, 500, 20_000)]
    yield pd.DataFrame({"card": cards, "paid_at": at, "amount": random.normal(size=20_000)})


def asked():
    random = np.random.default_rng(8)
    at = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(random.integers(0, 86_400, 5_000), unit="s")
    yield pd.DataFrame({"card": [f"card-{n}" for n in random.integers(0, 550, 5_000)], "asked_at": at})
'''
TRAIN = '''
"""A model that says how many rows it saw."""

import numpy as np
from sklearn.linear_model import LinearRegression

from mizzen.training import Context, TrainedModel


def fit(ctx: Context) -> TrainedModel:
    frame = ctx.training_set().pandas().fillna(0.0)
    x, y = frame[["spent_1h", "num"]], frame["amount"]
    return TrainedModel(LinearRegression().fit(x, y), {"rows": float(len(frame))}, example=x[:8], holdout=x)
'''
RESOURCES = """
apiVersion: mizzen.dev/v1alpha1
kind: Dataset
metadata: {name: payments}
spec: {source: {python: "cards:payments"}, eventTime: paid_at}
---
kind: Dataset
metadata: {name: asked}
spec: {source: {python: "cards:asked"}, eventTime: asked_at}
---
kind: FeatureView
metadata: {name: spending}
spec:
  entities: [card]
  source: {dataset: payments}
  eventTime: paid_at
  online: false
  columns: [amount]
  aggregations:
    - {name: spent, function: sum, column: amount, windows: [1h, 6h]}
    - {name: num, function: count}
---
kind: Model
metadata: {name: spender}
spec: {task: regression}
"""
JOB = """
apiVersion: mizzen.dev/v1alpha1
kind: TrainingJob
metadata: {name: spender-PARTS}
spec:
  model: spender
  entrypoint: "train:fit"
  features: {spine: {dataset: asked, time: asked_at}, views: [spending], parts: PARTS}
  resources: {cpu: 100m, memory: 1Gi}
"""


@pytest.fixture
def bucket(s3_endpoint: str, s3: None, tmp_path: Path) -> Iterator[Machine]:  # noqa: F811 - the fixtures above
    """A machine whose store is a bucket, with two datasets and a view in it."""
    (tmp_path / "cards.py").write_text(ROWS)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "resources.yaml").write_text(RESOURCES)
    with Machine() as machine:
        machine.up()
        settings = json.dumps({"data": {"storeUrl": f"s3://lake/{tmp_path.name}"}})
        machine.kubectl("patch", "configmap", "mizzen", "-n", "mizzen-system", "--type=merge", "-p", settings)
        known = {"AWS_ENDPOINT_URL": s3_endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        given = [f"--from-literal={name}={value}" for name, value in {**known, "AWS_REGION": "us-east-1"}.items()]
        machine.kubectl("create", "secret", "generic", "mizzen-store", *given)
        machine.mizzen("apply", "-f", str(tmp_path / "resources.yaml"))
        machine.mizzen("wait", "dset/payments", "dset/asked", "fv/spending", "--timeout", "180s", timeout_s=200)
        yield machine


@pytest.mark.slow
@pytest.mark.skipif(bool(OTHER_CONTROL_PLANE), reason="changes the platform's settings")
def test_any_number_of_pods_makes_the_same_training_set(bucket: Machine, tmp_path: Path) -> None:
    found = []
    for parts in (1, 2, 8):
        name = f"spender-{parts}"
        (tmp_path / "job.yaml").write_text(JOB.replace("PARTS", str(parts)))
        bucket.mizzen("apply", "-f", str(tmp_path / "job.yaml"))
        bucket.mizzen("wait", f"tj/{name}", "--timeout", "240s", timeout_s=260)
        status = bucket.get(f"tj/{name}")["status"]
        assert (status["trainingSet"]["rows"], status["run"]["metrics"]["rows"]) == (5_000, 5_000.0)
        assert [view["name"] for view in status["features"]["views"]] == ["spending"]
        found.append(status["trainingSet"]["digest"])
        job = json.loads(bucket.kubectl("get", "job", status["trainingSet"]["run"], "-o", "json"))
        assert job["status"]["succeeded"] == parts
    assert len(set(found)) == 1
