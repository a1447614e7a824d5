"""The ASGI application: one request in, one reply out.

    scope ─> user ─> may they? ─> body ─> verb or page ─> reply ─> bytes

There is no framework between uvicorn and the verbs: what every request passes through is in this file.
"""

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import Any

from mizzen.local.apiserver import protobuf
from mizzen.local.apiserver.answers import JSON, Answer, Pieces, Reply, Stream
from mizzen.local.apiserver.errors import ApiError, BadRequest, InternalError, TooLarge, UnsupportedMediaType
from mizzen.local.apiserver.http.attributes import attributes_of
from mizzen.local.apiserver.http.dispatch import Dispatcher, wants_pretty
from mizzen.local.apiserver.http.negotiation import Representation, negotiate
from mizzen.local.apiserver.http.pages import Pages
from mizzen.local.apiserver.http.rendering import encoded
from mizzen.local.apiserver.metrics import Metrics
from mizzen.local.apiserver.request import Query, Request, parse_target, verb_of
from mizzen.local.apiserver.security.authn import Authenticator
from mizzen.local.apiserver.security.impersonation import impersonate
from mizzen.local.apiserver.security.rbac import Authorizer
from mizzen.local.apiserver.store.records import encode
from mizzen.local.apiserver.types import User

logger = logging.getLogger(__name__)

BODY_BYTES_MAX = 3 << 20
_GZIP_FROM_BYTES = 128 << 10
"""Smaller answers are not worth the time; kube-apiserver draws the same line."""
_PIECE_BYTES = 256 << 10
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NOBODY = User("system:anonymous")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class App:
    """Serves until `stop`, which ends watches and other streams in good order."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        pages: Pages,
        authenticator: Authenticator,
        authorizer: Authorizer,
        metrics: Metrics,
        new_id: Callable[[], str],
    ) -> None:
        self._new_id = new_id
        self._dispatcher = dispatcher
        self._pages = pages
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._metrics = metrics
        self._streams: set[Stream] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        metrics = self._metrics
        metrics.inflight += 1
        request = _read_head(scope)
        status = 500
        try:
            reply = await self._reply(request, scope, receive)
            status = reply.status
            await self._send(reply, request, receive, send)
        finally:
            metrics.inflight -= 1
            target = request.target
            group, resource = (target.group, target.resource) if target else ("", "")
            metrics.observe(request.verb.upper(), group, resource, status, perf_counter() - started)

    async def _reply(self, request: Request, scope: Scope, receive: Receive) -> Reply:
        try:
            user = self._authenticator.authenticate(request.headers.get("authorization"), path=request.path)
            if any(name.startswith("impersonate-") for name in request.headers):
                user = impersonate(self._authorizer, user, _pairs(scope))
            request.user = user
            self._authorizer.require(user, attributes_of(request))
            if request.method in _WITH_BODY:
                request.body = await _read_body(request, receive)
                if request.headers.get("content-type", "").startswith(protobuf.MEDIA_TYPE) and request.body:
                    _from_protobuf(request)
            if request.target is None:
                return self._pages.answer(request)
            return await self._dispatcher.answer(request)
        except ApiError as error:
            return _error_answer(error, request)
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            return _error_answer(
                InternalError("an error on the server has prevented the request from succeeding"), request
            )

    async def _send(self, reply: Reply, request: Request, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", reply.content_type.encode()),
            (b"audit-id", self._new_id().encode()),
            *((name.encode(), value.encode()) for name, value in reply.headers),
        ]
        if not any(name == "cache-control" for name, _ in reply.headers):
            headers.append((b"cache-control", b"no-cache, private"))
        headers += [(b"warning", f'299 - "{_escaped(text)}"'.encode("latin-1", "replace")) for text in request.warnings]
        match reply:
            case Answer(body=body):
                if len(body) >= _GZIP_FROM_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
                    await _send_pieces([body], reply.status, headers, request, send)
                    return
                headers.append((b"content-length", str(len(body)).encode()))
                await send({"type": "http.response.start", "status": reply.status, "headers": headers})
                await send({"type": "http.response.body", "body": body})
            case Pieces(pieces=pieces):
                await _send_pieces(pieces, reply.status, headers, request, send)
            case Stream():
                await self._send_stream(reply, headers, receive, send)

    async def _send_stream(
        self, stream: Stream, headers: list[tuple[bytes, bytes]], receive: Receive, send: Send
    ) -> None:
        """Until the stream ends, its client goes, or the server stops."""
        self._streams.add(stream)
        self._metrics.watches += 1
        await send({"type": "http.response.start", "status": stream.status, "headers": headers})
        pump = asyncio.ensure_future(_pump(stream, send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((pump, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            pump.cancel()
            self._metrics.watches -= 1
            self._streams.discard(stream)
            ended, _ = await asyncio.gather(pump, gone, return_exceptions=True)
            if isinstance(ended, Exception):
                logger.error("a stream broke off", exc_info=ended)

    def stop(self) -> None:
        """Ask every stream to end."""
        for stream in list(self._streams):
            stream.stop()


def _pairs(scope: Scope) -> list[tuple[str, str]]:
    """All headers, those included that come more than once."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


def _read_head(scope: Scope) -> Request:
    headers = dict(_pairs(scope))
    path: str = scope["path"]
    query_text = scope["query_string"].decode("latin-1")
    query = Query(query_text)
    raw: bytes = scope.get("raw_path") or path.encode()
    target = parse_target(raw.decode("latin-1"))
    method: str = scope["method"]
    return Request(method, path, query, query_text, headers, _NOBODY, verb_of(method, target, query), target)


async def _read_body(request: Request, receive: Receive) -> bytes:
    if int(request.headers.get("content-length") or 0) > BODY_BYTES_MAX:
        raise _too_large()
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_BYTES_MAX:
            raise _too_large()
    return b"".join(parts)


def _from_protobuf(request: Request) -> None:
    """Read on as if the client had sent JSON."""
    try:
        request.body = encode(protobuf.decode(request.body))
    except protobuf.UnknownType as error:
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: application/json, "
            f"application/yaml ({error})"
        ) from error
    except protobuf.Undecodable as error:
        raise BadRequest(f"the body of the request could not be decoded as protobuf: {error}") from error
    request.headers["content-type"] = JSON


def _too_large() -> TooLarge:
    return TooLarge(f"Request entity too large: limit is {BODY_BYTES_MAX}")


def _error_answer(error: ApiError, request: Request) -> Answer:
    try:
        form = negotiate(request.headers.get("accept", ""), forms=False)
    except ApiError:
        form = Representation(JSON)
    answer = encoded(encode(error.to_status()), form, status=error.code, pretty=wants_pretty(request))
    headers = []
    if error.retry_after_s:
        headers.append(("retry-after", str(error.retry_after_s)))
    if error.code in {401, 403}:
        headers.append(("x-content-type-options", "nosniff"))
    return Answer(answer.body, answer.status, answer.content_type, headers)


async def _send_pieces(
    pieces: Iterable[bytes], status: int, headers: list[tuple[bytes, bytes]], request: Request, send: Send
) -> None:
    compressor = None
    if "gzip" in request.headers.get("accept-encoding", ""):
        compressor = zlib.compressobj(level=1, wbits=31)
        headers += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces:
        for start in range(0, len(piece), _PIECE_BYTES):
            part = piece[start : start + _PIECE_BYTES]
            body = compressor.compress(part) if compressor else part
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0)  # others get their turn while a long list goes out
    await send({"type": "http.response.body", "body": compressor.flush() if compressor else b""})


async def _pump(stream: Stream, send: Send) -> None:
    async for chunk in stream.chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
