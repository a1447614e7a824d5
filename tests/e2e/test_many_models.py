"""The example of many endpoints runs from one end to the other, and its README holds what it measures."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.machine import Machine

EXAMPLE = Path(__file__).parents[2] / "examples" / "many-models"


@pytest.mark.slow
def test_endpoints_come_up_rest_and_answer(machine: Machine) -> None:
    command = [sys.executable, str(EXAMPLE / "run.py"), "--endpoints", "6", "--busy", "3", "--seconds", "8"]
    environment = machine.environment
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        [*command, "--home", str(machine.home)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| endpoints registered, each seen to work | 6 in " in done.stdout
    assert "| requests that failed | 0 |" in done.stdout
    assert "default/shop-000" in done.stdout, "`mizzen top` shows those that are asked"


def test_the_readme_has_a_place_for_what_is_measured() -> None:
    text = (EXAMPLE / "README.md").read_text()
    assert 0 < text.find("<!-- measured -->") < text.find("<!-- /measured -->")
