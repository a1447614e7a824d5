"""The probes' port: `GET /livez`, `/readyz` and `/metrics`, in as little HTTP/1.1 as a kubelet and Prometheus need.

Every answer closes its connection. A client that does not finish its request line and headers in time is let go.
"""

import asyncio
from collections.abc import Callable

HEAD_BYTES_MAX = 8192
HEAD_TIMEOUT_S = 5.0
Answer = tuple[int, str]
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class HealthServer:
    """Answers each path with what its function returns at that moment."""

    def __init__(self, pages: dict[str, Callable[[], Answer]]) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port. Raises `OSError` where it cannot."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=HEAD_BYTES_MAX)
        port_bound: int = self._server.sockets[0].getsockname()[1]
        return port_bound

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            status, body = self._answer(head)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            status, body = 400, "expected an HTTP request"
        data = body.encode()
        writer.write(
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
            + data
        )
        writer.close()

    def _answer(self, head: bytes) -> Answer:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3:
            return 400, "expected an HTTP request"
        page = self._pages.get(words[1].partition(b"?")[0].decode("latin-1"))
        if page is None:
            return 404, f"expected one of {', '.join(self._pages)}"
        if words[0] != b"GET":
            return 405, "expected GET"
        return page()
