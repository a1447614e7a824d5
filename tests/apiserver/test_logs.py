"""`pods/log` against a kubelet that is a real TLS server: it sees who asks, and both directions stream."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .conftest import Api, pod

PODS = "/api/v1/namespaces/default/pods"
Answering = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Kubelet:
    """Answers each request with what a test gives it; remembers what was asked and by whom."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.subjects: list[str] = []
        self.answer: Answering = self.text("hello\n")
        self.gone = asyncio.Event()

    @staticmethod
    def text(body: str, status: str = "200 OK") -> Answering:
        async def answer(writer: asyncio.StreamWriter) -> None:
            head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body.encode())

        return answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split(" ")[1])
        certificate = writer.get_extra_info("ssl_object").getpeercert()
        subject = {key: value for part in certificate.get("subject", ()) for key, value in part}
        self.subjects.append(f"{subject.get('commonName')} of {subject.get('organizationName')}")
        try:
            await self.answer(writer)
            await writer.drain()
        except OSError:
            self.gone.set()
        writer.close()


def certificate_of(folder: Path) -> tuple[Path, Path]:
    """A certificate that the kubelet signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubelet")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "kubelet.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "kubelet.key").write_bytes(pem)
    return folder / "kubelet.crt", folder / "kubelet.key"


@pytest.fixture
async def kubelet(api: Api, tmp_path: Path) -> AsyncIterator[Kubelet]:
    """A node `n` whose kubelet trusts the CA that the API server publishes; a Pod `p` of it."""
    kubelet = Kubelet()
    published = await api.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate_of(tmp_path))
    context.load_verify_locations(cadata=published["data"]["client-ca-file"])
    context.verify_mode = ssl.CERT_REQUIRED
    listening = await asyncio.start_server(kubelet.serve, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    await api.create("/api/v1/nodes", {"metadata": {"name": "n"}, "status": status})
    await api.create(PODS, pod("p", nodeName="n"))
    yield kubelet
    listening.close()


async def test_the_log_of_the_only_container(api: Api, kubelet: Kubelet) -> None:
    """The query is passed on, and the server shows the certificate that kubelets know it by."""
    assert await api.get(f"{PODS}/p/log", tailLines="5", timestamps="true", pretty="true") == "hello\n"
    assert kubelet.asked == ["/containerLogs/default/p/main?tailLines=5&timestamps=true"]
    assert kubelet.subjects == ["kube-apiserver-kubelet-client of system:masters"]


async def test_a_followed_log_comes_as_it_is_written(api: Api, kubelet: Kubelet) -> None:
    """Each line reaches the client before the next is written; a client that goes is noticed by the kubelet."""
    read = asyncio.Queue[str]()

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in ("one\n", "two\n"):
            writer.write(f"{len(line):x}\r\n{line}\r\n".encode())
            await writer.drain()
            assert await read.get() == line
        while True:  # until the other side is gone
            writer.write(b"2\r\n.\n\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    kubelet.answer = answer
    async with api.http.stream("GET", f"{PODS}/p/log", params={"follow": "true"}) as response:
        chunks = response.aiter_text()
        for expected in ("one\n", "two\n"):
            assert (await anext(chunks)) == expected
            read.put_nowait(expected)
    async with asyncio.timeout(10):
        await kubelet.gone.wait()


@pytest.mark.parametrize(
    ("status", "body", "code", "reason"),
    [
        ("400 Bad Request", "container main is waiting to start", 400, "BadRequest"),
        ("404 Not Found", "no such log", 404, "NotFound"),
        ("500 Internal Server Error", "the disk is gone", 500, "InternalError"),
    ],
)
async def test_what_the_kubelet_refuses(
    api: Api, kubelet: Kubelet, status: str, body: str, code: int, reason: str
) -> None:
    """Its words reach the user."""
    kubelet.answer = kubelet.text(body, status)
    answered, answer = await api.call("GET", f"{PODS}/p/log")
    assert (answered, answer["reason"]) == (code, reason)
    said = answer["message"] + "".join(cause["message"] for cause in answer.get("details", {}).get("causes", ()))
    assert body in said


async def test_a_node_that_does_not_answer(api: Api) -> None:
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}},
    }
    await api.create("/api/v1/nodes", {"metadata": {"name": "n"}, "status": status})
    await api.create(PODS, pod("p", nodeName="n"))
    code, answer = await api.call("GET", f"{PODS}/p/log")
    assert (code, answer["reason"]) == (500, "InternalError")
    assert 'Get "https://127.0.0.1:1/containerLogs/default/p/main"' in answer["message"]


async def test_what_is_asked_wrongly(api: Api) -> None:
    two = [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]
    await api.create(PODS, pod("p", containers=two, nodeName="gone", initContainers=[{"name": "i", "image": "x"}]))
    for query, code, words in (
        ({}, 400, "choose one of: [a b] or one of the init containers: [i]"),
        ({"container": "c"}, 400, "container c is not valid for pod p"),
        ({"container": "a"}, 404, 'nodes "gone" not found'),
        ({"tailLines": "-1"}, 422, "tailLines: Invalid value: -1"),
        ({"sinceSeconds": "5", "sinceTime": "2026-01-01T00:00:00Z"}, 422, "at most one of"),
    ):
        answered, answer = await api.call("GET", f"{PODS}/p/log", **query)
        assert (answered, words in answer["message"]) == (code, True), answer
    assert (await api.call("GET", f"{PODS}/nope/log"))[0] == 404


async def test_a_pod_that_is_nowhere_has_said_nothing(api: Api) -> None:
    await api.create(PODS, pod("p"))
    response = await api.http.get(f"{PODS}/p/log")
    assert (response.status_code, response.content) == (204, b"")
