"""One embedded API server for scripts written with other people's clients."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.client import Api, Server
from tests.conformance.objects import namespace
from tests.conformance.server import embedded

SCRIPT_S = 60


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with embedded(tmp_path_factory.mktemp("home")) as kubeconfig:
        yield Server.of(kubeconfig)


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    with server.http(identity=True) as admin, server.http(identity=False) as bare:
        yield Api(admin, bare)


@pytest.fixture
def place(api: Api) -> str:
    """A namespace of the test's own."""
    name = f"clients-{secrets.token_hex(4)}"
    api.resource("namespaces").create(namespace(name))
    return name


@pytest.fixture
def run_script(server: Server, place: str) -> Callable[[str], dict[str, Any]]:
    """Run one of the scripts beside this file in the test's namespace; what it printed, as JSON."""

    def run(name: str) -> dict[str, Any]:
        environment = os.environ | {"KUBECONFIG": str(server.kubeconfig), "NAMESPACE": place}
        command = [sys.executable, str(Path(__file__).parent / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SCRIPT_S, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return run
