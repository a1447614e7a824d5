"""What `transport` needs of HTTP: one request and its answer, or an answer that goes on. Two ways to have it.

`Http1Wire` (in `http1`) speaks to a server. `HttpxWire` here lends the face to any httpx2 transport: a scripted one, or
an ASGI application in the same process.

Both raise `NeverSentError` where nothing was sent, `BrokenError` where the answer did not come or came in part.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import httpx2


class WireError(Exception):
    """The exchange did not come to its end."""


class NeverSentError(WireError):
    """No connection could be made: the server knows nothing of the request."""


class BrokenError(WireError):
    """The connection ended, or was silent for too long, before the answer was complete."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """The head of an answer, and its body as it comes."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Wire(Protocol):
    """HTTP to one server."""

    async def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Answer:
        """Sends a request and reads the whole answer, or gives up after that time."""
        ...

    def stream(
        self, target: str, headers: Mapping[str, str], timeout_s: float, silence_s: float | None
    ) -> AbstractAsyncContextManager[Stream]:
        """A GET whose answer is read as it comes: its head within `timeout_s`, then no silence over `silence_s`."""
        ...

    async def aclose(self) -> None:
        """Ends all connections."""
        ...


def is_about_certificates(error: BaseException | None) -> bool:
    """Whether an error comes from a certificate that is not trusted."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


async def _pieces(response: httpx2.Response) -> AsyncIterator[bytes]:
    """The body as it comes; of an answer that was made whole, at once."""
    if response.is_stream_consumed:
        yield response.content
        return
    async for chunk in response.aiter_raw():
        yield chunk


class HttpxWire:
    """Any httpx2 transport in the place of the network."""

    def __init__(self, transport: httpx2.AsyncBaseTransport, base_url: str) -> None:
        self._transport = transport
        self._base_url = base_url

    async def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Answer:
        async with self._answered(method, target, headers, body, timeout_s) as response:
            content = await response.aread()
        return Answer(response.status_code, response.headers, content)

    @asynccontextmanager
    async def stream(
        self, target: str, headers: Mapping[str, str], timeout_s: float, silence_s: float | None
    ) -> AsyncIterator[Stream]:
        timeout = timeout_s if silence_s is None else silence_s
        async with self._answered("GET", target, headers, None, timeout) as response:
            yield Stream(response.status_code, response.headers, _pieces(response))

    async def aclose(self) -> None:
        await self._transport.aclose()

    @asynccontextmanager
    async def _answered(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> AsyncIterator[httpx2.Response]:
        request = httpx2.Request(
            method, f"{self._base_url}{target}", headers=dict(headers), content=body,
            extensions={"timeout": httpx2.Timeout(timeout_s).as_dict()},
        )  # fmt: skip
        try:
            response = await self._transport.handle_async_request(request)
            response.request = request
            try:
                yield response
            finally:
                await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise NeverSentError(str(error)) from error
        except httpx2.TransportError as error:
            raise BrokenError(str(error) or type(error).__name__) from error
