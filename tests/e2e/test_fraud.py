"""The fraud example on a whole machine, in a small world: what its endpoint answers, payment by payment between pushes,
is what its model makes of the features that an offline join gives."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.e2e.machine import Machine

EXAMPLE = Path(__file__).parents[2] / "examples" / "fraud"
SCALE = "0.03"
COMPARE = """
import sys, numpy as np, mizzen
from evaluate import training_set
from learn import days_of, features_of
from live import Endpoint, known, live
from payments import DAY_US, HISTORY_DAYS, World, days
from mizzen.kinds import ModelVersion
from mizzen.registry.onnx_file import session_of

world = World.of_environment()
endpoint = Endpoint(sys.argv[1], sys.argv[2])
with mizzen.Client() as client, client.replays(known(world, HISTORY_DAYS + 1)) as views:
    views.begin(world.begins_us + HISTORY_DAYS * DAY_US)
    outcome = live(endpoint.probability, views.bring, world, 1)
    digest = client.get(ModelVersion, "fraud-1").spec.artifact.digest
rows = training_set(days(world, 0, HISTORY_DAYS + 1), world)
rows = rows[days_of(rows) == HISTORY_DAYS]
model = session_of(open(sys.argv[3] + "/models/sha256/" + digest.removeprefix("sha256:") + ".onnx", "rb").read())
(expected,) = model.run(["probabilities"], {"input": rows[features_of(rows)].to_numpy(np.float64)})
assert len(expected) == len(outcome.probability) > 100
np.testing.assert_allclose(outcome.probability, expected[:, 1], rtol=1e-5)
print("equal", len(expected))
"""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder with a world of a few hundred, whose gate lets any model pass."""
    folder = tmp_path_factory.mktemp("bank") / "fraud"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    documents = list(yaml.safe_load_all((folder / "resources.yaml").read_text()))
    for document in documents:
        if document["kind"] == "Dataset":
            document["spec"]["env"] = [{"name": "FRAUD_SCALE", "value": SCALE}]
        if document["kind"] == "Model":
            document["spec"]["gates"] = [{"metric": "roc_auc", "atLeast": 0.1}]
        if document["kind"] == "TrainingJob":
            document["spec"]["parameters"] = {"rounds": 20}
    (folder / "resources.yaml").write_text(yaml.safe_dump_all(documents))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_payments_are_answered_with_what_an_offline_join_gives(machine: Machine, bank: Path) -> None:
    machine.mizzen("apply", "-f", str(bank / "resources.yaml"))
    views = ["customer-payments", "customer-verdicts", "terminal-payments", "terminal-verdicts"]
    machine.mizzen("wait", *(f"fv/{view}" for view in views), "ie/fraud", "--timeout", "300s", timeout_s=320)
    key = machine.mizzen("token", "create", "live").strip()
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, machine.endpoints_url, key, str(machine.home / "store")],
        env={**machine.environment, "FRAUD_SCALE": SCALE, "PYTHONPATH": str(bank)},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal" in done.stdout
    assert np.isfinite(float(done.stdout.split()[-1]))
