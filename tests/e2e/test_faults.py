"""What goes wrong ends in a clear message and a condition, and what worked before goes on working."""

import json
import socket
from pathlib import Path

import onnx
import pytest
from tests.e2e.machine import Machine, free_port


def training(name: str, entrypoint: str, **more: object) -> str:
    spec = {
        "model": "thing",
        "entrypoint": f"train:{entrypoint}",
        "datasets": [{"name": "things"}],
        "retries": 0,
        **more,
    }
    return json.dumps(
        {"apiVersion": "mizzen.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}
    )


def dataset(name: str, function: str, **more: object) -> str:
    spec = {"source": {"python": f"things:{function}"}, **more}
    return json.dumps(
        {"apiVersion": "mizzen.dev/v1alpha1", "kind": "Dataset", "metadata": {"name": name}, "spec": spec}
    )


def failed(machine: Machine, what: str) -> tuple[str, str]:
    """Reason and message of the condition `Ready` once the load or the run has failed."""
    machine.mizzen(
        "wait", what, "--for", "Loaded=False" if what.startswith("dset") else "Ready=False", "--timeout", "60s"
    )
    condition = machine.condition(what)
    return condition["reason"], condition["message"]


@pytest.mark.parametrize(
    ("entrypoint", "more", "reason", "words"),
    [
        ("raises", {"seed": 13}, "FunctionRaised", "the seed 13 is unlucky"),
        ("returns_nonsense", {}, "BadResult", "got"),
        ("hangs", {"timeout": "5s"}, "DeadlineExceeded", "longer than its timeout"),
        (
            "takes_all_memory",
            {"resources": {"cpu": "500m", "memory": "400Mi"}},
            "OOMKilled",
            "more memory than its limit",
        ),
        ("nowhere", {}, "CodeMissing", "expected a function nowhere in module train"),
    ],
)
def test_a_training_function_that_fails_says_how(serving: Machine, entrypoint, more, reason, words) -> None:
    name = entrypoint.replace("_", "-")
    serving.apply(training(name, entrypoint, **more))
    found, message = failed(serving, f"tj/{name}")
    assert found == reason
    assert words in message
    assert serving.get("mdl/thing")["status"]["productionVersion"] == 1


def test_a_load_that_fails_keeps_the_version_before(serving: Machine) -> None:
    serving.apply(dataset("fragile", "rows"))
    serving.mizzen("wait", "dset/fragile", "--timeout", "60s")
    before = serving.get("dset/fragile")["status"]
    for function, words in (("raises", "the upstream system sent nothing"), ("other_columns", "d")):
        serving.apply(dataset("fragile", function))
        _, message = failed(serving, "dset/fragile")
        assert words in message
        assert f"version {before['version']} stays served" in message
        after = serving.get("dset/fragile")["status"]
        assert (after["version"], after["digest"]) == (before["version"], before["digest"])
    serving.apply(dataset("fragile", "rows", expectations=[{"column": "a", "min": 0}]))
    reason, message = failed(serving, "dset/fragile")
    assert reason == "ExpectationsFailed"
    assert "a: min 0" in message


def test_rows_can_be_set_aside(serving: Machine) -> None:
    serving.apply(dataset("sifted", "rows", expectations=[{"column": "a", "min": 0, "onFailure": "quarantine"}]))
    serving.mizzen("wait", "dset/sifted", "--timeout", "60s")
    status = serving.get("dset/sifted")["status"]
    assert status["rows"] + status["quarantinedRows"] == 1000
    assert status["quarantinedRows"] > 300


def test_a_version_that_fails_its_gate_is_held_back(serving: Machine) -> None:
    """And the alias, the endpoint and its answers stay as they were."""
    serving.apply(training("weak", "fit", parameters={"C": 1e-9}))
    serving.apply(
        json.dumps(
            {
                "apiVersion": "mizzen.dev/v1alpha1",
                "kind": "Model",
                "metadata": {"name": "thing"},
                "spec": {"task": "binary-classification", "gates": [{"metric": "accuracy", "atLeast": 0.99999}]},
            }
        )
    )
    serving.mizzen("wait", "tj/weak", "--timeout", "60s")
    made = serving.get("tj/weak")["status"]["modelVersion"]
    serving.mizzen("wait", f"mv/{made}", "--for", "GatesPassed=False", "--timeout", "30s")
    model = serving.get("mdl/thing")["status"]
    assert model["productionVersion"] == 1
    assert "held back" in serving.condition("mdl/thing")["message"]
    assert serving.get("ie/thing")["status"]["serving"] == "thing:1"


def test_a_file_that_is_no_model_is_refused(serving: Machine, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"this is not ONNX" * 100)
    said = serving.mizzen("models", "register", "broken", str(path), code=2)
    assert "broken.onnx" in said
    assert "error:" in said
    assert "Traceback" not in said


def test_bytes_changed_in_the_store_never_answer(serving: Machine) -> None:
    """A version whose bytes are not those of its digest does not come up, and the one before goes on answering."""
    serving.mizzen("apply", "-f", "-", text=_endpoint("solid", "thing:1"))
    serving.mizzen("wait", "ie/solid", "--timeout", "60s")
    digest = serving.get("mv/thing-1")["spec"]["artifact"]["digest"].removeprefix("sha256:")
    models = serving.home / "store" / "models" / "sha256"
    twin = onnx.load(models / f"{digest}.onnx")
    twin.doc_string = "the same model under another digest"
    onnx.save(twin, serving.home / "twin.onnx")
    said = serving.mizzen("models", "register", "tampered", str(serving.home / "twin.onnx"))
    stored = models / f"{said.split()[1].removeprefix('sha256:')}.onnx"
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes().replace(b"another digest", b"another_digest"))
    serving.mizzen("apply", "-f", "-", text=_endpoint("solid", "tampered:1"))
    serving.mizzen("wait", "ie/solid", "--for", "Ready=False", "--timeout", "60s")
    assert serving.get("ie/solid")["status"]["serving"] == "thing:1"
    answer = json.loads(serving.mizzen("predict", "solid", "[[3, 3, 0]]", "-o", "json"))
    assert answer["label"] == [1]
    serving.mizzen("delete", "ie/solid")


def _endpoint(name: str, model: str) -> str:
    spec = {"model": model, "access": "anonymous", "worker": {"resources": {"cpu": "100m", "memory": "256Mi"}}}
    return json.dumps(
        {"apiVersion": "mizzen.dev/v1alpha1", "kind": "InferenceEndpoint", "metadata": {"name": name}, "spec": spec}
    )


def test_wrong_files_are_told_with_place_and_line(machine: Machine) -> None:
    said = machine.mizzen("apply", "-f", "-", text="kind: [unclosed", code=2)
    assert "standard input" in said
    wrong = "apiVersion: mizzen.dev/v1alpha1\nkind: InferenceEndpoint\nmetadata: {name: x}\nspec:\n  modle: a@b\n  scaling: {replicas: -3}\n"
    said = machine.mizzen("apply", "-f", "-", text=wrong, code=2)
    assert "spec.scaling.replicas: expected" in said
    assert "standard input:6" in said
    assert "did you mean model" in said.lower()
    assert "expected a manifest file" in machine.mizzen("apply", "-f", "/nowhere.yaml", code=2)


def test_a_second_up_a_taken_port_and_a_newer_home_are_told(machine: Machine, tmp_path: Path) -> None:
    assert "already up" in machine.mizzen("up", "-d", code=1)
    other = Machine()
    with other:
        said = other.mizzen(
            "up", "-d", "--port", str(machine.port), "--inference-port", str(other.inference_port), code=1
        )
        assert str(machine.port) in said
        assert "in use" in said
    newer = Machine()
    with newer:
        (newer.home / "home.json").write_text('{"format": 99}')
        assert "format 99" in newer.mizzen("up", "-d", code=1)
        (newer.home / "home.json").unlink()
    assert "nothing is up" in machine.mizzen("status", "--home", str(tmp_path / "none"), code=3)


def test_a_home_comes_up_on_other_ports_while_another_program_has_the_old_one() -> None:
    with Machine() as machine:
        machine.up()
        machine.mizzen("down")
        with socket.create_server(("127.0.0.1", machine.port)):
            machine.port, machine.inference_port = free_port(), free_port()
            machine.up()
            assert "gateway" in machine.mizzen("status")
            assert f"https://127.0.0.1:{machine.port}" in machine.kubeconfig.read_text()
