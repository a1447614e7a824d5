"""One machine for the tests that only look and add; tests that break things bring up their own."""

from collections.abc import Iterator

import pytest
from tests.e2e.machine import PROJECT, Machine


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """Up, with nothing applied."""
    with Machine() as up:
        up.up()
        yield up


@pytest.fixture(scope="session")
def serving(machine: Machine) -> Machine:
    """The project's dataset, model and endpoint, ready."""
    machine.mizzen("apply", "-f", str(PROJECT / "resources.yaml"))
    for what in ("dset/things", "tj/thing", "mdl/thing", "ie/thing"):
        machine.mizzen("wait", what, "--timeout", "90s")
    return machine
