"""The wire: HTTPS only, by modern TLS, with a certificate that the kubeconfig vouches for."""

import socket
import ssl
from urllib.parse import urlsplit

import httpx2

from .client import WAIT_S, Server


def address(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.url)
    assert parts.scheme == "https"
    return parts.hostname or "", parts.port or 443


def handshake(server: Server, context: ssl.SSLContext) -> str | None:
    """The TLS version that the two agree on; the certificate is verified with its name."""
    host, port = address(server)
    with (
        socket.create_connection((host, port), WAIT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        return tls.version()


def test_the_certificate_is_vouched_for(server: Server) -> None:
    """The chain leads to the kubeconfig's authority and names the host; the version is 1.2 or 1.3."""
    assert handshake(server, server.context(identity=False)) in {"TLSv1.2", "TLSv1.3"}


def test_tls_1_3(server: Server) -> None:
    """A client that takes nothing older than 1.3 is served."""
    context = server.context(identity=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    assert handshake(server, context) == "TLSv1.3"


def test_plain_http_is_not_answered(server: Server) -> None:
    """Without TLS there is no API: a hint at most, so that credentials never travel in the clear unnoticed."""
    host, port = address(server)
    try:
        answer = httpx2.get(f"http://{host}:{port}/version", timeout=WAIT_S, trust_env=False)
    except httpx2.TransportError:
        return
    assert answer.status_code == 400
    assert "major" not in answer.text
