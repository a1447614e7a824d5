"""The kubelet server: logs for whom the API server lets have them, for nobody else."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.node.cluster import ACCOUNT, Cluster, main_of
from tests.node.programs import COUNTING
from tests.node.test_node import SLEEP, python

from mizzen.kube.errors import ApiError
from mizzen.kube.resources import ResourceInfo, untyped
from mizzen.local.node.node import Node

BINDING = untyped(
    ResourceInfo("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
)
ROLE = untyped(ResourceInfo("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False))
LINES = python("import sys\nfor n in range(5): print('line', n, flush=True)\nsys.stderr.write('last\\n')")


def tls(certificate: Path | None = None) -> ssl.SSLContext:
    """As an API server connects: the node's certificate is not verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def to(node: Node, token: str = "", certificate: Path | None = None) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(
        base_url=f"https://127.0.0.1:{node.port}", verify=tls(certificate), headers=headers, trust_env=False, timeout=30
    )  # fmt: skip


async def token_of(cluster: Cluster, account: str) -> str:
    path = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/{account}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = await cluster.client.request("POST", path, body=body)
    return str(answer["status"]["token"])


@pytest.fixture
async def reader(cluster: Cluster) -> AsyncIterator[str]:
    """The token of an account that may read logs of nodes, and do nothing else there."""
    name = f"{cluster.namespace}-reader"
    await cluster.client.create(ACCOUNT(metadata={"name": "reader", "namespace": cluster.namespace}))
    rule = {"apiGroups": [""], "resources": ["nodes/log"], "verbs": ["get"]}
    await cluster.client.create(ROLE(metadata={"name": name}, rules=[rule]))
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": cluster.namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    await cluster.client.create(BINDING(metadata={"name": name}, roleRef=reference, subjects=[subject]))
    await until_allowed(cluster, f"system:serviceaccount:{cluster.namespace}:reader")
    yield await token_of(cluster, "reader")
    for cls in (BINDING, ROLE):
        await cluster.client.delete(cls, name)


async def until_allowed(cluster: Cluster, user: str) -> None:
    """A server may take a moment to see a new binding."""
    attributes = {"verb": "get", "resource": "nodes", "subresource": "log", "version": "v1"}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    async with asyncio.timeout(30):
        while not (await cluster.client.request("POST", path, body=body))["status"].get("allowed"):
            await asyncio.sleep(0)


async def test_only_who_may_read_logs_gets_them(cluster: Cluster, reader: str) -> None:
    async with cluster.node() as node:
        await cluster.create(LINES, restartPolicy="Never")
        await cluster.until_phase("Succeeded")
        path = f"/containerLogs/{cluster.namespace}/p/main"
        codes = {}
        for who, token in {
            "nobody": "",
            "a liar": "x",
            "reader": reader,
            "default": await token_of(cluster, "default"),
        }.items():
            async with to(node, token) as client:
                codes[who] = [
                    (await client.get(url)).status_code for url in (path, "/metrics", "/pods", "/healthz", "/x")
                ]
        assert codes == {
            "nobody": [401] * 5, "a liar": [401] * 5, "default": [403] * 5, "reader": [200, 403, 403, 403, 403],
        }  # fmt: skip


QUERIES = {
    "": "line 0\nline 1\nline 2\nline 3\nline 4\nlast\n",
    "?tailLines=2": "line 4\nlast\n",
    "?tailLines=0": "",
    "?limitBytes=9": "line 0\nli",
    "?stream=Stderr": "last\n",
    "?sinceSeconds=1000&tailLines=1": "last\n",
    "?sinceTime=2999-01-01T00:00:00Z": "",
    "?follow=true&tailLines=1": "last\n",
}


async def test_log_options_and_errors_are_the_kubelets(cluster: Cluster, reader: str) -> None:
    async with cluster.node() as node, to(node, reader) as client:
        await cluster.create(LINES, restartPolicy="Never")
        await cluster.until_phase("Succeeded")
        await cluster.create(python("raise SystemExit(1)"), name="crash")
        await cluster.until(lambda pod: main_of(pod).get("restartCount") == 1, "crash")
        base = f"/containerLogs/{cluster.namespace}"
        for query, expected in QUERIES.items():
            answer = await client.get(f"{base}/p/main{query}")
            assert (answer.status_code, answer.text) == (200, expected), query
        stamped = (await client.get(f"{base}/p/main?timestamps=true&tailLines=1")).text
        assert datetime.fromisoformat(stamped.split(" ")[0]) <= datetime.now(UTC)
        assert (await client.get(f"{base}/crash/main?previous=true")).status_code == 200
        errors = {
            f"{base}/none/main": (404, f'pod "{cluster.namespace}/none" not found'),
            f"{base}/p/none": (404, 'container "none" in pod "p" is not available'),
            f"{base}/p/main?previous=true": (400, 'previous terminated container "main" in pod "p" not found'),
            f"{base}/p/main?tailLines=x": (400, "log options:"),
            f"{base}/p": (404, "expected /containerLogs"),
        }
        for url, (status, words) in errors.items():
            answer = await client.get(url)
            assert (answer.status_code, words in answer.text) == (status, True), (url, answer.text)
        assert (await client.post(f"{base}/p/main")).status_code == 405


async def test_a_follower_gets_lines_as_they_come_until_the_container_ends(cluster: Cluster, reader: str) -> None:
    async with cluster.node() as node, to(node, reader) as client:
        await cluster.create(python(COUNTING), restartPolicy="Never")
        await cluster.until(lambda pod: "running" in (main_of(pod).get("state") or {}))
        async with client.stream("GET", f"/containerLogs/{cluster.namespace}/p/main?follow=true") as answer:
            pieces = [piece async for piece in answer.aiter_bytes()]
        assert b"".join(pieces) == b"0\n1\n2\n"
        assert len(pieces) >= 2


async def test_a_follower_that_goes_away_is_let_go(cluster: Cluster, reader: str) -> None:
    """Though the container says nothing more: no reader is left behind."""
    async with cluster.node() as node, to(node, reader) as client:
        await cluster.create({"command": ["sh", "-c", "echo up; sleep 1000"]})
        await cluster.until_phase("Running")
        async with client.stream("GET", f"/containerLogs/{cluster.namespace}/p/main?follow=true") as answer:
            assert await anext(answer.aiter_bytes()) == b"up\n"
        server = node._server
        assert server is not None
        async with asyncio.timeout(30):
            while server._connections:
                await asyncio.sleep(0)


def certificate(folder: Path, authority: tuple | None, name: str, *groups: str) -> tuple:
    """A certificate signed by an authority, or an authority. Its file is `<name>.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        + [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(authority[0].subject if authority else subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .sign(authority[1] if authority else key, hashes.SHA256())
    )  # fmt: skip
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + signed.public_bytes(serialization.Encoding.PEM)
    (folder / f"{name}.pem").write_bytes(text)
    return signed, key


async def test_client_certificates_of_the_clusters_authority_say_who_one_is(cluster: Cluster, tmp_path: Path) -> None:
    """As a real API server connects. A certificate of anybody else's is no certificate."""
    authority = certificate(tmp_path, None, "authority")
    certificate(tmp_path, authority, "api-server", "system:masters")
    certificate(tmp_path, authority, "somebody", "some-group")
    certificate(tmp_path, certificate(tmp_path, None, "other"), "stranger", "system:masters")
    async with cluster.node() as node:
        server = node._server
        assert server is not None
        server.trust_clients_of(authority[0].public_bytes(serialization.Encoding.PEM).decode())
        async with to(node, certificate=tmp_path / "api-server.pem") as client:
            assert (await client.get("/healthz")).text == "ok"
            await cluster.create({"command": SLEEP}, {"name": "other", "command": SLEEP})
            await cluster.until_phase("Running")
            assert "mizzen_node_containers_started_total 2" in (await client.get("/metrics")).text
            (pod,) = (await client.get("/pods")).json()["items"]
            assert pod["metadata"]["name"] == "p"
            stats = (await client.get("/stats/summary")).json()
            assert stats["node"]["nodeName"] == cluster.node_name
            assert [one["name"] for one in stats["pods"][0]["containers"]] == ["main", "other"]
        async with to(node, certificate=tmp_path / "somebody.pem") as client:
            assert (await client.get("/healthz")).status_code == 403
        async with to(node, certificate=tmp_path / "stranger.pem") as client:
            with pytest.raises(httpx2.TransportError):
                await client.get("/healthz")
        async with to(node) as client:
            assert (await client.get("/healthz")).status_code == 401


async def test_logs_are_followed_through_the_api_server_to_a_node_process(cluster: Cluster) -> None:
    """`kubectl logs -f`, with the node as it is run (on uvloop)."""
    await cluster.process()
    await cluster.create(python(COUNTING), restartPolicy="Never")
    await cluster.until(lambda pod: "running" in (main_of(pod).get("state") or {}))
    pieces = [piece async for piece in cluster.client.logs("p", cluster.namespace, follow=True)]
    assert b"".join(pieces) == b"0\n1\n2\n"


async def test_the_api_server_passes_logs_on(cluster: Cluster) -> None:
    """`kubectl logs`: through the API server, in both homes."""
    async with cluster.node():
        await cluster.create(LINES, restartPolicy="Never")
        await cluster.until_phase("Succeeded")
        try:
            text = b"".join([piece async for piece in cluster.client.logs("p", cluster.namespace, tail_lines=2)])
        except ApiError as error:
            pytest.fail(f"the API server does not reach the node: {error}")
        assert text == b"line 4\nlast\n"
