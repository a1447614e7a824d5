"""What the objects of a Kubernetes API mean to the gateway; and a gateway that follows a real one."""

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lightkube.models.core_v1 import (
    Container,
    ContainerPort,
    PodCondition,
    PodSpec,
    PodStatus,
)
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod, Secret

from mizzen.controllers.install import install
from mizzen.kinds import FeatureView, InferenceEndpoint, ModelVersion, names
from mizzen.kube.client import Client
from mizzen.serving.gateway.directory import Caching, Lookup, TcpAddress, UnixAddress, View, ViewUse
from mizzen.serving.gateway.kubernetes import endpoint_of, explainer_of, key_of, signature_of, view_of, worker_of
from mizzen.serving.tensors import Signature, TensorSpec

from .builders import doubling_model
from .stack import Process, Stack, eventually, free_port

DIGEST = "sha256:" + "ab" * 32


def inference_endpoint(name: str = "m", *, status: dict | None = None, **spec) -> InferenceEndpoint:
    return InferenceEndpoint.model_validate(
        {
            "apiVersion": "mizzen.dev/v1alpha1", "kind": "InferenceEndpoint",
            "metadata": {"name": name, "namespace": "default", "generation": 2},
            "spec": {"model": "m@production", **spec}, "status": status or {},
        }
    )  # fmt: skip


def model_version(number: int = 1, digest: str = DIGEST) -> ModelVersion:
    tensors = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    return ModelVersion.model_validate(
        {
            "apiVersion": "mizzen.dev/v1alpha1", "kind": "ModelVersion",
            "metadata": {"name": f"m-{number}", "namespace": "default"},
            "spec": {
                "model": "m", "version": number, "artifact": {"digest": digest, "bytes": 10},
                "signature": {"inputs": tensors, "outputs": [{**tensors[0], "name": "y"}]},
            },
        }
    )  # fmt: skip


def traffic(number: int = 1, digest: str = DIGEST) -> list[dict]:
    return [{"modelVersion": f"m-{number}", "model": "m", "version": number, "digest": digest, "percent": 100}]


SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))


# What objects mean


def test_an_endpoint_is_read_with_its_limits_and_its_versions_signatures():
    declared = inference_endpoint(
        status={"traffic": traffic()}, access="anonymous", batching={"maxRows": 7},
        queue={"maxRows": 70, "timeout": "1m30s"},
    )  # fmt: skip
    found = endpoint_of(declared, lambda namespace, name: model_version() if name == "m-1" else None)
    assert (found.key, found.anonymous, found.batch_rows_max, found.queue_rows_max) == (("default", "m"), True, 7, 70)
    assert found.timeout_s == 90.0
    (version,) = found.versions
    assert (version.version, version.digest, version.percent, version.signature) == (1, DIGEST, 100, SIGNATURE)
    assert signature_of(model_version()) == SIGNATURE


def test_a_signature_of_other_bytes_is_not_believed():
    declared = inference_endpoint(status={"traffic": traffic()})
    for found in (None, model_version(digest="sha256:" + "cd" * 32)):
        assert endpoint_of(declared, lambda *_, f=found: f).versions[0].signature is None
    assert not endpoint_of(declared, lambda *_: None).anonymous


def ready(status: str, message: str) -> list[dict]:
    moment = "2026-01-01T00:00:00Z"
    return [{"type": "Ready", "status": status, "reason": "R", "message": message, "lastTransitionTime": moment}]


def candidate(phase: str, message: str = "") -> dict:
    return {
        "modelVersion": "m-1", "version": 1, "digest": DIGEST, "phase": phase, "since": "2026-01-01T00:00:00Z",
        "message": message,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "hopeless"),
    [
        ({}, None),
        ({"candidate": candidate("Starting")}, None),
        ({"candidate": candidate("Failed", "it does not load")}, "it does not load"),
        ({"candidate": candidate("Failed")}, "the model's only version failed"),
        ({"candidate": candidate("Failed", "no"), "traffic": traffic()}, None),
        ({"observedGeneration": 2, "conditions": ready("False", "no model m")}, "no model m"),
        ({"observedGeneration": 2, "conditions": ready("False", "")}, "R"),
        ({"observedGeneration": 1, "conditions": ready("False", "no model m")}, None),
        ({"observedGeneration": 2, "conditions": ready("True", "")}, None),
        ({"observedGeneration": 2}, None),
    ],
)
def test_requests_are_refused_at_once_only_where_nothing_will_come(status, hopeless):
    assert endpoint_of(inference_endpoint(status=status), lambda *_: None).hopeless == hopeless


def pod(name: str = "p", *, ready: str = "True", run_dir: Path | None = None, ports: str | None = None, **meta) -> Pod:
    annotations = {names.ANNOTATION_RUN_DIR: str(run_dir)} if run_dir is not None else {}
    if ports is not None:
        annotations[names.ANNOTATION_PORTS] = ports
    labels = {names.LABEL_ENDPOINT: "m", names.LABEL_DIGEST: DIGEST[7:23]}
    container = Container("worker", ports=[ContainerPort(7090, name="frames"), ContainerPort(7091, name="health")])
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid="u1", labels=labels, annotations=annotations, **meta),
        spec=PodSpec([container]),
        status=PodStatus(conditions=[PodCondition(ready, "Ready")], podIP="10.0.0.7"),
    )


def test_a_ready_pod_is_a_worker_at_its_socket_where_that_is_here_and_else_at_its_port(tmp_path):
    assert worker_of(pod()).address == TcpAddress("10.0.0.7", 7090)
    assert worker_of(pod(ports='{"frames": 41}')).address == TcpAddress("10.0.0.7", 41)
    assert worker_of(pod(run_dir=tmp_path)).address == TcpAddress("10.0.0.7", 7090), "there is no socket here"
    (tmp_path / "worker.sock").touch()
    found = worker_of(pod(run_dir=tmp_path, ports='{"frames": 41}'))
    assert found.address == UnixAddress(tmp_path / "worker.sock")
    assert (found.uid, found.namespace, found.endpoint, found.digest_prefix) == ("u1", "default", "m", DIGEST[7:23])


def test_what_is_not_ready_or_is_to_go_is_no_worker(caplog):
    assert worker_of(pod(ready="False")) is None
    assert worker_of(pod(deletionTimestamp="2026-01-01T00:00:00Z")) is None
    nowhere = pod(ports="{")
    nowhere.status.podIP = None
    assert worker_of(nowhere) is None
    assert "Pod default/p: expected a socket in its run folder" in caplog.text
    unlabelled = pod()
    unlabelled.metadata.labels = {}
    assert worker_of(unlabelled) is None


def secret(hash_: str, endpoints: str, type_: str = "mizzen.dev/api-key") -> Secret:
    data = {
        name: base64.b64encode(value.encode()).decode() for name, value in (("hash", hash_), ("endpoints", endpoints))
    }
    return Secret(metadata=ObjectMeta(name="k", namespace="team"), type=type_, data=data)


def test_a_key_is_read_with_its_scope():
    hash_ = hashlib.sha256(b"k").hexdigest()
    assert key_of(secret(hash_.upper() + "\n", "a, b,")).endpoints == {"a", "b"}
    assert key_of(secret(hash_, "*")).endpoints is None
    assert (key_of(secret(hash_, "")).endpoints, key_of(secret(hash_, "")).hash) == (frozenset(), hash_)
    assert key_of(secret(hash_, "*")).namespace == "team"


def test_a_secret_that_holds_no_key_opens_nothing(caplog):
    assert key_of(secret("k", "*", "Opaque")) is None
    assert key_of(secret("abc", "*")) is None
    broken = secret("a" * 64, "*")
    broken.data["hash"] = "%"
    assert key_of(broken) is None
    assert "expected the 64 hex digits of a SHA-256" in caplog.text


# A real API server


class ApiServer:
    """The embedded API server as a process, which can be killed and started again on the same home."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        self.process = self.start()

    def start(self) -> Process:
        self.process = Process(["-m", "mizzen.local.apiserver", "--home", str(self.home), "--port", str(self.port)], {})
        self.process.line_with("KUBECONFIG=")
        return self.process

    @property
    def kubeconfig(self) -> str:
        return str(self.home / "kubeconfig")

    def do(self, *steps) -> None:
        """Calls each with a client, one after the other."""

        async def run() -> None:
            async with Client.from_kubeconfig(self.kubeconfig) as client:
                for step in steps:
                    await step(client)

        asyncio.run(run())


@pytest.fixture
def api() -> Iterator[tuple[Stack, ApiServer]]:
    with Stack() as stack:
        server = ApiServer(stack.root / "home")
        stack.processes.append(server.process)
        server.do(lambda client: install(client, None))
        yield stack, server


@contextmanager
def gateway(stack: Stack, server: ApiServer) -> Iterator[None]:
    arguments = ["-m", "mizzen.serving.gateway", "--kubeconfig", server.kubeconfig, "--port", "0", "--processes", "1"]
    process = Process(arguments, {})
    stack.processes.append(process)
    stack.port = int(process.line_with("listening on").rsplit(":", 1)[1])
    yield
    assert process.end() == 0


def with_status(obj):
    async def step(client: Client) -> None:
        made = await client.create(obj)
        wanted = obj.status
        if isinstance(obj, Pod):
            made.status = wanted
        else:
            made = made.model_copy(update={"status": wanted})
        await client.replace_status(made)

    return step


def key_secret(key: str) -> Secret:
    labels = {names.LABEL_API_KEY: "true"}
    made = secret(hashlib.sha256(key.encode()).hexdigest(), "m")
    made.metadata = ObjectMeta(name="key", namespace="default", labels=labels)
    return made


def test_a_gateway_follows_the_api_and_serves_on_while_it_is_away(api):
    """Endpoint, version, worker and key come by watch; the API server is killed; requests are answered all the same;
    it comes back, the key is revoked, and that is seen.
    """
    stack, server = api
    digest = stack.put(doubling_model())
    worker = stack.worker(digest, told=False)
    worker.line_with("ready")
    pod_of_worker = pod("worker", run_dir=worker.described.address.path.parent)
    pod_of_worker.metadata.labels[names.LABEL_DIGEST] = digest[7:23]
    pod_of_worker.metadata.uid = None
    pod_of_worker.spec.containers[0].image = "none"
    pod_of_worker.status.phase = "Running"
    declared = inference_endpoint(status={"traffic": traffic(digest=digest)})
    with gateway(stack, server), stack.client() as client:
        eventually(lambda: client.ask("GET", "/v2/health/ready").status == 200, "the first lists")
        assert client.infer([[1.0, 2.0]], X_API_Key="right").status == 401

        async def create_key(kubernetes: Client) -> None:
            await kubernetes.create(key_secret("right"))

        async def create_version(kubernetes: Client) -> None:
            await kubernetes.create(model_version(digest=digest))

        server.do(create_version, create_key, with_status(declared), with_status(pod_of_worker))
        eventually(lambda: client.infer([[1.0, 2.0]], X_API_Key="right").status == 200, "all to be known")

        server.process.kill()
        for _ in range(20):
            assert client.infer([[1.0, 2.0]], X_API_Key="right").values == [2.0, 4.0]

        stack.processes.append(server.start())

        async def revoke(kubernetes: Client) -> None:
            await kubernetes.delete(Secret, "key", "default")

        server.do(revoke)
        eventually(lambda: client.infer([[1.0, 2.0]], X_API_Key="right").status == 401, "the key to be revoked")

        async def delete_endpoint(kubernetes: Client) -> None:
            await kubernetes.create(key_secret("other"))
            await kubernetes.delete(InferenceEndpoint, "m", "default")

        server.do(delete_endpoint)
        eventually(lambda: client.infer([[1.0, 2.0]], X_API_Key="other").status == 404, "the endpoint to be gone")


def test_a_gateway_that_starts_before_its_api_server_is_not_ready_and_becomes_so(api):
    stack, server = api
    server.process.kill()
    with gateway(stack, server), stack.client() as client:
        eventually(lambda: client.ask("GET", "/v2/health/live").status == 200, "to live")
        assert client.ask("GET", "/v2/health/ready").status == 503
        stack.processes.append(server.start())
        eventually(lambda: client.ask("GET", "/v2/health/ready").status == 200, "to be ready")


# Graphs, caches, explanations


def test_a_cache_is_read_with_its_sizes():
    read = endpoint_of(
        inference_endpoint(cache={"ttl": "2m", "size": "1Ki", "machineSize": "1Mi", "redis": True}), lambda *_: None
    )
    assert read.cache == Caching(120.0, 1024, 1 << 20, True)
    assert endpoint_of(inference_endpoint(), lambda *_: None).cache is None


def test_a_graph_is_read_with_what_gets_traffic_at_each_node():
    nodes = [{"name": "main", "sequence": [{"node": "a"}]}, {"name": "a", "model": "m:1"}]
    status = {"graph": {"nodes": [{"name": "a", "traffic": traffic()}]}}
    declared = InferenceEndpoint.model_validate(
        {"metadata": {"name": "g", "namespace": "default"}, "spec": {"graph": {"nodes": nodes}}, "status": status}
    )
    read = endpoint_of(declared, lambda namespace, name: model_version())
    assert read.versions == ()
    assert read.graph is not None
    assert [version.digest for version in read.graph.versions["a"]] == [DIGEST]
    assert read.graph.versions["a"][0].signature is not None
    assert [node["name"] for node in read.graph.spec["nodes"]] == ["main", "a"]


def test_who_explains_has_an_endpoint_and_workers_of_its_own():
    read = explainer_of(inference_endpoint(status={"traffic": traffic()}, explain={}))
    assert read is not None
    assert (read.name, read.versions[0].digest, read.versions[0].signature) == ("m:explain", DIGEST, None)
    assert explainer_of(inference_endpoint()) is None
    explaining = pod()
    explaining.metadata.labels = {names.LABEL_EXPLAINS: "m", names.LABEL_DIGEST: DIGEST[7:23]}
    assert worker_of(explaining).endpoint == "m:explain"


def test_what_an_endpoint_looks_up_is_read_and_explained_likewise():
    wanted = {
        "views": [
            {"view": "spending", "keys": {"card": "payer"}, "missing": "error"},
            {"view": "shops", "prefix": "shop_", "features": ["rent"], "version": "0" * 12, "stale": "empty"},
        ],
        "columns": {"country": "text"},
    }
    declared = inference_endpoint(features=wanted, explain={})
    found = endpoint_of(declared, lambda *_: None)
    assert found.features == Lookup(
        (
            ViewUse("spending", keys={"card": "payer"}, missing="error"),
            ViewUse("shops", "0" * 12, ("rent",), "shop_", stale="empty"),
        ),
        {"country": "text"},
    )
    assert explainer_of(declared).features == found.features


def test_a_view_is_read_with_what_is_online_and_what_an_audit_found():
    spec = {
        "entities": ["card"],
        "source": {"dataset": "d"},
        "eventTime": "at",
        "columns": ["x"],
        "audit": {"sample": 0.5},
    }
    at = "2026-01-01T00:00:00Z"
    skew = {"run": "r", "since": at, "until": at, "at": at, "reads": 2, "values": 4, "differing": 1}
    metadata = {"name": "spending", "namespace": "default"}
    body = {"metadata": metadata, "spec": spec, "status": {"digest": "sha256:1", "skew": skew}}
    assert view_of(FeatureView.model_validate(body)) == View("default", "spending", "sha256:1", 0.5, 0.25)
    assert view_of(FeatureView.model_validate({"metadata": metadata, "spec": spec})) == View(
        "default", "spending", "", 0.5
    )


def test_a_worker_of_functions_is_known_by_its_view():
    functions = pod()
    functions.metadata.labels = {names.LABEL_VIEW: "spending", names.LABEL_DIGEST: DIGEST[7:23]}
    found = worker_of(functions)
    assert (found.endpoint, found.digest_prefix) == ("featureview/spending", DIGEST[7:23])


def test_a_key_is_read_with_the_views_that_it_opens():
    made = secret("a" * 64, "")
    assert key_of(made).features == frozenset()
    made.data["features"] = base64.b64encode(b"spending, shops").decode()
    assert key_of(made).features == {"spending", "shops"}
    made.data["features"] = base64.b64encode(b"*").decode()
    assert key_of(made).features is None
