"""What every conformance test stands on: the server under test, an identity at it, a namespace of the test's own.

Options: `--kubeconfig PATH` judges that server (administrator's rights needed), and `--with-controllers` and `--with-node`
say what runs beside it. Without them Mizzen's embedded API server is started in a temporary home, with the controllers
beside it, and with a node for the tests that need one.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .client import Api, Json, Resource, Server
from .gaps import GAPS
from .objects import namespace
from .server import embedded, has_part, part
from .surroundings import Namespace, has_condition, served

MARKERS = {
    "needs_controllers": "a controller manager must run beside the API server (--with-controllers)",
    "needs_node": "a node that runs Pods must be registered (--with-node)",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "Kubernetes API conformance")
    group.addoption("--kubeconfig", type=Path, help="judge this server; without it: Mizzen's embedded one")
    group.addoption("--with-controllers", action="store_true", help="a controller manager runs beside the server")
    group.addoption("--with-node", action="store_true", help="a node that runs Pods is registered")


def pytest_configure(config: pytest.Config) -> None:
    for marker, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, before any fixture waits for it, what needs more than there is."""
    for marker, option in {"needs_controllers": "with_controllers", "needs_node": "with_node"}.items():
        if item.get_closest_marker(marker) and not has_beside(item.config, option):
            pytest.skip(MARKERS[marker])


CLUSTER, NODE = "mizzen.local.cluster", "mizzen.local.node"


def given(config: pytest.Config) -> Path | None:
    """The kubeconfig of a server that is not ours to start."""
    path: Path | None = config.getoption("kubeconfig", default=None)
    return path


def has_beside(config: pytest.Config, option: str) -> bool:
    """Whether controllers or a node run beside the server: as said, or as started here."""
    if given(config) is None:
        return has_part(CLUSTER)
    return bool(config.getoption(option, default=False))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server under test."""
    path = given(request.config)
    if path is not None:
        yield Server.of(path)
        return
    home = tmp_path_factory.mktemp("home")
    with ExitStack() as stack:
        kubeconfig = stack.enter_context(embedded(home))
        if has_part(CLUSTER):
            stack.enter_context(part(CLUSTER, home / "cluster.log", kubeconfig=kubeconfig))
        yield Server.of(kubeconfig)


@pytest.fixture(scope="module")
def node_ready(
    request: pytest.FixtureRequest, server: Server, api: Api, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A node that is ready: one of those there, or one of ours while the module's tests run."""
    with ExitStack() as stack:
        if given(request.config) is None:
            home = tmp_path_factory.mktemp("node")
            stack.enter_context(part(NODE, home / "node.log", kubeconfig=server.kubeconfig, home=home))
        with api.watch("/api/v1/nodes") as nodes:
            nodes.until(lambda event: has_condition(event.object, "Ready"))
        yield


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    """The server as its administrator sees it."""
    with server.http(identity=True) as admin, server.http(identity=False) as bare:
        yield Api(admin, bare)


@pytest.fixture(scope="session")
def is_mizzen(api: Api) -> bool:
    return "mizzen" in api.get("/version")["gitVersion"]


@pytest.fixture(autouse=True)
def _known_gap(request: pytest.FixtureRequest) -> None:
    """Expect a test in the table of gaps to fail on Mizzen's own server, and only there; one that passes fails."""
    reason = GAPS.get(f"{request.path.stem}::{request.node.name}")
    if reason and request.getfixturevalue("is_mizzen"):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture
def unique() -> Callable[[], str]:
    """Names that no other test and no other run uses."""
    return lambda: f"conformance-{secrets.token_hex(5)}"


@pytest.fixture
def namespaces(api: Api, unique: Callable[[], str]) -> Iterator[Callable[[], Namespace]]:
    """Make namespaces of the test's own; they are deleted when it ends."""
    made: list[str] = []
    collection = api.resource("namespaces")

    def make() -> Namespace:
        name = unique()
        collection.create(namespace(name))
        made.append(name)
        return Namespace(api, name)

    yield make
    for name in made:
        api.request("DELETE", collection.at(name))


@pytest.fixture
def ns(namespaces: Callable[[], Namespace]) -> Namespace:
    """The test's own namespace."""
    return namespaces()


@pytest.fixture
def maps(ns: Namespace) -> Resource:
    """ConfigMaps of the test's own namespace: the plainest objects there are."""
    return ns("configmaps")


@pytest.fixture
def pods(ns: Namespace) -> Resource:
    """Pods of the test's own namespace."""
    return ns.admit_pods()("pods")


@pytest.fixture
def own(api: Api) -> Iterator[Callable[[str, Json], Json]]:
    """`own(resource, body)` makes a cluster-scoped object that is deleted when the test ends."""
    made: list[str] = []

    def make(resource: str, body: Json) -> Json:
        collection = api.resource(resource)
        created = collection.create(body)
        made.append(collection.at(created["metadata"]["name"]))
        return created

    yield make
    for path in reversed(made):
        api.request("DELETE", path)


@pytest.fixture
def define(api: Api) -> Iterator[Callable[..., str]]:
    """`define(schema, ...)` serves a CRD while the test runs and returns its group."""
    with ExitStack() as stack:
        yield lambda schema=None, **changes: stack.enter_context(served(api, schema, **changes))


@pytest.fixture(scope="module")
def widgets_group(api: Api) -> Iterator[str]:
    """The group of a CRD that admits anything, with status and scale, for tests that need just some custom kind."""
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    with served(api, version={"subresources": {"status": {}, "scale": scale}}) as group:
        yield group


@pytest.fixture
def widgets(ns: Namespace, widgets_group: str) -> Resource:
    """Custom resources of the test's own namespace."""
    return ns(f"{widgets_group}/v1/widgets")
