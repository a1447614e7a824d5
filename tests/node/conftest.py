"""An API server for the node's tests: the one of `$MIZZEN_TEST_KUBECONFIG` (any Kubernetes), else our own."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.node.cluster import Cluster, OwnServer

from mizzen.local.node import processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The HTTP library leaves a connection open whose handshake is cancelled (it closes on `Exception` only); a Pod that
    ends soon cancels the watches of what it refers to. The leak ends with the next garbage collection."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture(autouse=True)
def nothing_runs_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that failed leaves no container behind."""
    folder: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if folder is not None:
        processes.kill(processes.marked(folder))


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[Path]:
    named = os.environ.get("MIZZEN_TEST_KUBECONFIG")
    if named:
        yield Path(named)
        return
    with tempfile.TemporaryDirectory(prefix="mz-") as home, OwnServer(Path(home)) as server:
        yield server.kubeconfig


@pytest.fixture
async def cluster(kubeconfig: Path) -> AsyncIterator[Cluster]:
    """A namespace, a home and a node's name of this test alone; afterwards nothing of it is left."""
    async with Cluster(kubeconfig) as found:
        yield found
