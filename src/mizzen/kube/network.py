"""The sockets under the HTTP client: settings for connections that live long, and no socket left behind.

httpcore2 leaves its socket open where a task is cancelled in the middle of a TLS handshake (its `start_tls` cleans up
for `Exception`, which cancellation is not). Watches are cancelled at any moment, so here that is made good.
"""

import socket
import ssl
from collections.abc import Iterable
from typing import Any

import anyio
import httpcore2
import httpx2

_IDLE_S = 60.0
"""Shorter than the idle time of any API server, so that it is we who close."""


def _socket_options() -> list[tuple[int, int, int]]:
    """Lets the kernel find out within about a minute that the other end of a silent watch is gone."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPALIVE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


class _Plain(httpcore2.AsyncNetworkStream):
    """A connection before TLS, or without."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore2's interface
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore2's interface
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's interface
    ) -> httpcore2.AsyncNetworkStream:
        done = False
        try:
            secured = await self._stream.start_tls(ssl_context, server_hostname, timeout)
            done = True
            return secured
        finally:
            if not done:
                with anyio.CancelScope(shield=True):
                    await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Network(httpcore2.AnyIOBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return _Plain(await super().connect_tcp(host, port, timeout, local_address, socket_options))


class PooledTransport(httpx2.AsyncHTTPTransport):
    """As many connections as there are watches, kept while they are used now and then."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(verify=tls)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=None,
            keepalive_expiry=_IDLE_S,
            socket_options=_socket_options(),
            network_backend=_Network(),
        )
