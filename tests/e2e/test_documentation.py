"""The curl commands of README.md and docs/datasets.md, word for word, on a machine whose resources have other names.

Those of docs/inference.md, with what they print, are run in tests/serving/test_clients.py.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.e2e.machine import Machine

ROOT = Path(__file__).parents[2]
CLICKS = """
apiVersion: mizzen.dev/v1alpha1
kind: Dataset
metadata: {name: clicks}
spec:
  source:
    push:
      columns: [{name: id, type: integer, required: true}, {name: at, type: timestamp}]
      commitEvery: 100ms
  eventTime: at
"""
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def commands(page: str) -> list[str]:
    """Each of the page's curl commands, with the lines that it goes on in."""
    text = (ROOT / page).read_text()
    return re.findall(r"^curl (?:.*\\\n)*.*$", text, re.MULTILINE)


def run(machine: Machine, command: str, **environment: str) -> str:
    """What curl prints; it fails where the status is an error."""
    failing = re.sub(r"^curl", "curl --fail-with-body --silent --show-error", command)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", failing], env={**machine.environment, **environment}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{failing}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_readmes_curl_commands_are_answered(serving: Machine) -> None:
    found = commands("README.md")
    assert len(found) == 2
    key = serving.mizzen("token", "create", "newcomer").strip()
    for command in found:
        here = command.replace("http://127.0.0.1:7080", serving.endpoints_url).replace("late-arrival", "thing")
        answer = json.loads(run(serving, here, MIZZEN_API_KEY=key))
        assert "thing" in json.dumps(answer)


def test_the_datasets_pages_curl_command_pushes_its_row(machine: Machine) -> None:
    (command,) = commands("docs/datasets.md")
    machine.apply(CLICKS.replace("clicks", "pressed"))
    machine.kubectl("wait", "dset/pressed", "--for=jsonpath={.status.pushUrl}", "--timeout=90s")
    key = machine.mizzen("token", "create", "presser", "--dataset", "pressed").strip()
    here = command.replace("dset clicks", "dset pressed")
    assert json.loads(run(machine, here, KEY=key))
    machine.kubectl("wait", "dset/pressed", "--for=jsonpath={.status.rows}=1", "--timeout=60s")
    assert json.loads(run(machine, here, KEY=key)), "the same key of idempotency is answered again"
    assert machine.get("dset/pressed")["status"]["rows"] == 1
