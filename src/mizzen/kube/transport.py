"""One HTTP exchange with the API server: errors made ours, retries where they are safe, and numbers of what happened.

What is tried again, with growing and jittered waits:

* 429 and 503 that carry Retry-After, for any verb: the server says that it did nothing;
* a connection that could not be made, for any verb: nothing was sent;
* a connection that broke later, only where doing it twice is the same as doing it once (`idempotent`).

Everything else is the caller's to decide. A watch or a log is a stream: it is opened with the same care, and once open
its breaking is reported, not hidden.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
import msgspec

from mizzen.kube.connection import Connection
from mizzen.kube.errors import ApiError, ServerError, TooManyRequests, Unavailable, api_error
from mizzen.kube.http1 import Http1Wire
from mizzen.kube.wire import Answer, HttpxWire, NeverSentError, Stream, Wire, WireError, is_about_certificates

_ATTEMPTS = 5
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_PATIENCE_S = 30.0
"""A server that asks for a longer wait than this is reported instead."""
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """Since the start: what was asked and what came of it; and what is open now."""

    requests: int
    errors: int
    """Answers other than success, and no answers."""
    retries: int
    in_flight: int
    streams: int
    """Watches and logs open now."""


class Transport:
    """HTTP to one server. `transport` replaces the network (tests do); `rng` gives the jitter."""

    def __init__(
        self,
        connection: Connection,
        *,
        user_agent: str,
        transport: httpx2.AsyncBaseTransport | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._connection = connection
        self._rng = rng
        self._wire: Wire = (
            HttpxWire(transport, connection.server) if transport else Http1Wire(connection.server, connection.tls)
        )
        host = urlsplit(connection.server).hostname or ""
        near = host in {"localhost", "::1"} or host.startswith("127.")
        # Packing costs more than it saves where nothing leaves the machine.
        self._headers = {"user-agent": user_agent, "accept-encoding": "identity" if near else "gzip"}
        self._requests = self._errors = self._retries = self._in_flight = self._streams = 0

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(self._requests, self._errors, self._retries, self._in_flight, self._streams)

    async def aclose(self) -> None:
        await self._wire.aclose()

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool,
    ) -> Answer:
        """The answer, read in full. Raises `ApiError` (or one of its kind) for any that is no success."""
        target = f"{path}?{urlencode(params)}" if params else path
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._once(method, target, {**self._headers, **(headers or {})}, body, f"{method} {path}")
            except (TooManyRequests, ServerError) as error:
                wait_s = self._wait_asked(error)
                if wait_s is None or attempt == _ATTEMPTS:
                    raise
            except Unavailable as error:
                if attempt == _ATTEMPTS or (error.sent and not idempotent):
                    raise
                wait_s = self._wait(attempt)
            self._retries += 1
            await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, method: str, target: str, headers: dict[str, str], body: bytes | None, said: str) -> Answer:
        """One exchange; two where the server refuses who we are and there is something newer to show."""
        identity = self._connection.identity
        self._in_flight += 1
        try:
            shown = await identity.authorization() if identity else ""
            answer = await self._exchange(method, target, headers, body, shown)
            if answer.status == 401 and identity is not None and await identity.refused(shown):
                answer = await self._exchange(method, target, headers, body, await identity.authorization())
        except WireError as error:
            self._errors += 1
            raise self._unavailable(error, said) from error
        finally:
            self._in_flight -= 1
        if answer.status >= 400:
            self._errors += 1
            raise _error_of(answer.status, answer.headers, answer.body, said)
        return answer

    async def _exchange(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None, authorization: str
    ) -> Answer:
        self._requests += 1
        if authorization:
            headers = {**headers, "authorization": authorization}
        return await self._wire.exchange(method, target, headers, body, _TIMEOUT_S)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        silence_s: float | None = None,
        accept: str = "*/*",
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a GET as it comes. `silence_s`: how long nothing may come before the connection counts as lost.

        Raises as `send` does when it opens; `Unavailable` from the iterator where the connection breaks.
        """
        said = f"GET {path}"
        target = f"{path}?{urlencode(params)}" if params else path
        identity = self._connection.identity
        headers = {**self._headers, "accept": accept, "accept-encoding": "identity"}
        if identity is not None:
            headers["authorization"] = await identity.authorization()
        self._requests += 1
        self._streams += 1
        try:
            async with self._wire.stream(target, headers, _TIMEOUT_S, silence_s) as stream:
                if stream.status >= 400:
                    if stream.status == 401 and identity is not None:
                        await identity.refused(headers["authorization"])
                    raise await _error_of_stream(stream, said)
                yield stream.chunks
        except WireError as error:
            self._errors += 1
            raise self._unavailable(error, said) from error
        except ApiError:
            self._errors += 1
            raise
        finally:
            self._streams -= 1

    def _wait(self, attempt: int) -> float:
        longest = min(_FIRST_WAIT_S * 2.0 ** (attempt - 1), _LONGEST_WAIT_S)
        return longest * (0.5 + 0.5 * self._rng())

    def _wait_asked(self, error: ApiError) -> float | None:
        """What the server asks for, spread a little so that not all come back at once; `None`: do not try again."""
        if error.code not in {429, 503} or error.retry_after_s is None or error.retry_after_s > _PATIENCE_S:
            return None
        return error.retry_after_s * (1.0 + 0.1 * self._rng())

    def _unavailable(self, error: WireError, said: str) -> Unavailable:
        server, source = self._connection.server, self._connection.source
        never_sent = isinstance(error, NeverSentError)
        what = str(error) or type(error).__name__
        if is_about_certificates(error):
            todo = f"the server's certificate is not what {source} expects; was its home made anew?"
        elif never_sent:
            todo = f"is it running? The address comes from {source}"
        else:
            todo = "the connection broke before the answer came"
        verb = "cannot connect to" if never_sent else "lost the connection to"
        return Unavailable(f"{said}: {verb} {server}: {what} ({todo})", sent=not never_sent, request=said)


async def _error_of_stream(stream: Stream, said: str) -> ApiError:
    body = b"".join([chunk async for chunk in stream.chunks])
    return _error_of(stream.status, stream.headers, body, said)


def _error_of(code: int, headers: Mapping[str, str], body: bytes, said: str) -> ApiError:
    """The error in an answer: its `Status` where it is one (a proxy in between may send something else)."""
    try:
        status: dict[str, Any] = msgspec.json.decode(body)
        if status.get("kind") != "Status":
            raise ValueError
    except (msgspec.DecodeError, ValueError, AttributeError):
        text = body[:300].decode(errors="replace").strip()
        status = {"code": code, "message": f"{said}: HTTP {code}: {text}" if text else f"{said}: HTTP {code}"}
    status.setdefault("code", code)
    asked = headers.get("retry-after", "")
    if asked.isdigit():
        details = dict(status.get("details") or {})
        details.setdefault("retryAfterSeconds", int(asked))
        status["details"] = details
    return api_error(status, request=said)
