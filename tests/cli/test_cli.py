"""The command line without a control plane: help, usage, messages and exit codes."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mizzen
from mizzen.cli.main import COMMANDS
from mizzen.kinds.catalog import KINDS


def run(*arguments: str, home: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key not in {"KUBECONFIG", "MIZZEN_API_KEY"}}
    environment = {**kept, "MIZZEN_HOME": str(home), "HOME": str(home), "COLUMNS": "200"}
    command = [sys.executable, "-c", "from mizzen.cli.main import main; main()", *arguments]
    return subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_help_names_every_command_and_imports_none(tmp_path: Path) -> None:
    said = run("--help", home=tmp_path)
    assert said.returncode == 0
    for name, (_, words) in COMMANDS.items():
        assert name in said.stdout
        assert words in said.stdout


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_help_and_is_where_the_table_says(name: str, tmp_path: Path) -> None:
    module, _ = COMMANDS[name]
    assert importlib.import_module(f"mizzen.cli.{module}").app
    said = run(name, "--help", home=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "Usage: mizzen " + name in said.stdout.replace("-c ", "mizzen ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "nonsense"),
        (["get", "ie"], 3, "no Kubernetes API to talk to; `mizzen up` starts one here"),
        (["get", "ie", "-o", "xml"], 2, "expected json, yaml, wide or name, got xml"),
        (["status"], 3, "nothing is up here"),
        (["apply", "-f", "missing.yaml"], 2, "missing.yaml"),
        (["predict", "x", "{"], 2, "expected JSON"),
        (["models", "alias", "m", "production"], 2, "expected a VERSION to pin to, or --unpin"),
        (["delete"], 2, "expected RESOURCE NAME, or --filename FILE"),
    ],
)
def test_what_is_wrong_is_said_in_words_with_a_code(arguments, code: int, words: str, tmp_path: Path) -> None:
    said = run(*arguments, home=tmp_path)
    assert said.returncode == code, said.stderr
    assert words in said.stderr
    assert "Traceback" not in said.stderr


def test_down_with_nothing_up_is_no_failure(tmp_path: Path) -> None:
    said = run("down", home=tmp_path)
    assert (said.returncode, said.stdout.strip()) == (0, "nothing was up")


def test_crds_are_printed_for_a_cluster(tmp_path: Path) -> None:
    said = run("crds", home=tmp_path)
    assert said.returncode == 0
    assert said.stdout.count("kind: CustomResourceDefinition") == len(KINDS)


def test_the_public_surface_is_what_it_says() -> None:
    assert sorted(mizzen.__all__) == ["Client", "Endpoint", "PythonModel", "__version__", "deploy"]
    for name in mizzen.__all__:
        assert getattr(mizzen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mizzen.nothing
