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
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec

from mizzen.kube.connection import Connection
from mizzen.kube.errors import ApiError, ServerError, TooManyRequests, Unavailable, api_error
from mizzen.kube.network import PooledTransport

_ATTEMPTS = 5
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_PATIENCE_S = 30.0
"""A server that asks for a longer wait than this is reported instead."""
_TIMEOUT = httpx2.Timeout(60.0, connect=5.0, pool=None)
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)


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
    """HTTP to one server. `transport` replaces the network in tests; `rng` gives the jitter."""

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
        host = urlsplit(connection.server).hostname or ""
        near = host in {"localhost", "::1"} or host.startswith("127.")
        self._http = httpx2.AsyncClient(
            base_url=connection.server,
            auth=connection.auth,
            # Packing costs more than it saves where nothing leaves the machine.
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity" if near else "gzip"},
            timeout=_TIMEOUT,
            trust_env=False,
            transport=transport or PooledTransport(connection.tls),
        )
        self._requests = self._errors = self._retries = self._in_flight = self._streams = 0

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(self._requests, self._errors, self._retries, self._in_flight, self._streams)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool,
    ) -> httpx2.Response:
        """The answer, read in full. Raises `ApiError` (or one of its kind) for any that is no success."""
        said = f"{method} {path}"
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._once(method, path, params, body, headers, said)
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

    async def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        said: str,
    ) -> httpx2.Response:
        self._requests += 1
        self._in_flight += 1
        try:
            response = await self._http.request(method, path, params=params, content=body, headers=headers)
        except httpx2.TransportError as error:
            self._errors += 1
            raise self._unavailable(error, said) from error
        finally:
            self._in_flight -= 1
        if response.status_code >= 400:
            self._errors += 1
            raise _error_of(response.status_code, response.headers, response.content, said)
        return response

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
        timeout = httpx2.Timeout(60.0, connect=5.0, pool=None, read=silence_s)
        self._requests += 1
        self._streams += 1
        try:
            async with self._http.stream(
                "GET", path, params=params, timeout=timeout, headers={"Accept-Encoding": "identity", "Accept": accept}
            ) as response:
                if response.status_code >= 400:
                    raise _error_of(response.status_code, response.headers, await response.aread(), said)
                yield response.aiter_raw()
        except httpx2.TransportError as error:
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

    def _unavailable(self, error: httpx2.TransportError, said: str) -> Unavailable:
        server, source = self._connection.server, self._connection.source
        never_sent = isinstance(error, _NEVER_SENT)
        what = str(error) or type(error).__name__
        if _is_about_certificates(error):
            todo = f"the server's certificate is not what {source} expects; was its home made anew?"
        elif never_sent:
            todo = f"is it running? The address comes from {source}"
        else:
            todo = "the connection broke before the answer came"
        verb = "cannot connect to" if never_sent else "lost the connection to"
        return Unavailable(f"{said}: {verb} {server}: {what} ({todo})", sent=not never_sent, request=said)


def _is_about_certificates(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


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
