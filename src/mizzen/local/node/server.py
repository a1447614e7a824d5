"""The kubelet's HTTPS server: how an API server gets a container's log, and a scraper the node's numbers.

Small on purpose: HTTP/1.1, GET, one request a connection, every path behind `Identity`. Handlers give pieces of a body
as they come; a client that goes away stops them.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from mizzen.local.node.identity import Identity, Refused

log = logging.getLogger(__name__)

_HEAD_BYTES_MAX = 32768
_HEAD_WITHIN_S = 15.0


class Request(NamedTuple):
    """What was asked for."""

    parts: tuple[str, ...]
    """The path, split at `/`."""
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is given. `body` may go on for as long as it likes."""

    body: AsyncIterator[bytes]
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """The first part of a path, the subresource of `nodes` one must be allowed to get, and who answers."""

    first: str
    subresource: str
    handler: Handler


class HttpError(Exception):
    """An answer other than success: its words are for the user."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


_NOT_DONE = {"exec", "attach", "portForward", "run", "checkpoint"}
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
            405: "Method Not Allowed", 501: "Not Implemented", 503: "Service Unavailable"}  # fmt: skip


@dataclass(slots=True)
class KubeletServer:
    """Serves until closed."""

    routes: tuple[Route, ...]
    identity: Identity
    context: ssl.SSLContext
    _server: asyncio.Server | None = None
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, address: str, port: int) -> int:
        """Returns the port. Raises `OSError` where it is in use."""
        self._server = await asyncio.start_server(
            self._accept, address, port, ssl=self.context, limit=_HEAD_BYTES_MAX, ssl_handshake_timeout=10.0
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()

    def trust_clients_of(self, authority_pem: str) -> None:
        """Client certificates of this CA say who one is, from the next connection on."""
        self.context.load_verify_locations(cadata=authority_pem)
        self.context.verify_mode = ssl.CERT_OPTIONAL

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="kubelet request")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as error:
            log.debug("kubelet request: %s", error)
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_HEAD_WITHIN_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        try:
            answer = await self._handle(head, writer)
        except (HttpError, Refused) as error:
            status = error.status if isinstance(error, HttpError) else error.code
            answer = Answer(_one(error.message.encode() + b"\n"), status)
        lines = [
            f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}",
            f"Content-Type: {answer.content_type}",
            "Transfer-Encoding: chunked",
            "Connection: close",
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        sending = asyncio.create_task(_send(answer.body, writer))
        leaving = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                if not task.done():
                    task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def _handle(self, head: list[str], writer: asyncio.StreamWriter) -> Answer:
        words = head[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise HttpError(400, "expected an HTTP/1.1 request")
        url = urlsplit(words[1])
        parts = tuple(unquote(part) for part in url.path.split("/") if part)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        route = next((route for route in self.routes if parts[:1] == (route.first,)), None)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        await self.identity.allow(tls.getpeercert(), bearer, route.subresource if route else "proxy")
        if parts[:1] and parts[0] in _NOT_DONE:
            raise HttpError(501, f"{parts[0]} is not supported by a node that runs Pods as processes")
        if route is None:
            raise HttpError(404, "404 page not found")
        if words[0] != "GET":
            raise HttpError(405, f"{words[0]} is not supported: this node runs Pods as processes")
        return await route.handler(Request(parts[1:], dict(parse_qsl(url.query, keep_blank_values=True))))


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


def text(data: str, content_type: str = "text/plain; charset=utf-8") -> Answer:
    """An answer that is there already."""
    return Answer(_one(data.encode()), content_type=content_type)


async def _send(body: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    async for piece in body:
        if piece:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
