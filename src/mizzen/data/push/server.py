"""The push server: `POST /v1/namespaces/NS/datasets/NAME/rows`, health and metrics, as an ASGI application.

An answer of 200 says that the rows are kept: they are in the next version whatever happens to this process. A request
that is sent again with the same `Idempotency-Key` counts once, so whoever has no answer sends it again.
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import uvicorn

from mizzen.data.lake.errors import LakeError
from mizzen.data.lake.objects import Store
from mizzen.data.lake.segments import put_segment
from mizzen.data.push.accepting import RowsRefused, UnknownForm, rows_of
from mizzen.data.push.channel import Channel, Overloaded
from mizzen.data.push.directory import Directory
from mizzen.data.push.taking_in import Report, Taker

BODY_BYTES_MAX = 64 * 1024 * 1024
KEY_BYTES_MAX = 200
"""Of an `Idempotency-Key`."""
_STATUS_OF = {"no key": 401, "unknown key": 401, "forbidden": 403}
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, problems: list[str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.problems = status, message, problems or []


@dataclass(frozen=True, slots=True)
class Line:
    """One dataset's way in."""

    channel: Channel
    taker: Taker
    task: asyncio.Task[None]


class PushServer:
    """An ASGI application; `start` before, `stop` after."""

    def __init__(self, store: Store, directory: Directory, report: Report) -> None:
        self._store, self._directory, self._report = store, directory, report
        self._lines: dict[tuple[str, str], Line] = {}
        self._ready = False

    def start(self) -> None:
        """Takes in what a process before this one left, and says from now on that it is ready."""
        for dataset in self._directory.pushed_to():
            self._line(dataset.namespace, dataset.name)
        self._ready = True

    async def stop(self) -> None:
        """Answers what is under way, takes it in, and ends."""
        self._ready = False
        for (namespace, name), line in self._lines.items():
            await line.channel.drained()
            line.task.cancel()
            dataset = self._directory.dataset(namespace, name)
            if dataset is not None:
                await line.taker.turn(dataset)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, answer = await self._answered(scope, receive)
        except Refused as refused:
            status, answer = refused.status, {"error": refused.message}
            if refused.problems:
                answer["problems"] = refused.problems
        body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        kind = b"text/plain; version=0.0.4" if isinstance(answer, bytes) else b"application/json"
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        if status == 503:
            headers.append((b"retry-after", b"1"))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answered(self, scope: dict[str, Any], receive: Receive) -> tuple[int, Any]:
        path, method = scope["path"], scope["method"]
        if path in {"/livez", "/readyz"}:
            ready = self._ready or path == "/livez"
            return (200 if ready else 503), {"ready": ready}
        if path == "/metrics":
            return 200, self._metrics()
        parts = path.strip("/").split("/")
        if len(parts) != 6 or (parts[0], parts[1], parts[3], parts[5]) != ("v1", "namespaces", "datasets", "rows"):
            raise Refused(404, f"expected /v1/namespaces/NAMESPACE/datasets/NAME/rows, got {path}")
        if method != "POST":
            raise Refused(405, f"expected POST, got {method}")
        return 200, await self._pushed(parts[2], parts[4], scope, receive)

    async def _pushed(self, namespace: str, name: str, scope: dict[str, Any], receive: Receive) -> dict[str, Any]:
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        shown = headers.get("authorization", "")
        key = shown[7:].strip() if shown[:7].casefold() == "bearer " else headers.get("x-api-key")
        verdict = self._directory.judge(key, namespace, name)
        if verdict != "allowed":
            raise Refused(_STATUS_OF[verdict], f"expected an API key that opens dataset {name}, found {verdict}")
        dataset = self._directory.dataset(namespace, name)
        if dataset is None or dataset.spec.source.push is None:
            raise Refused(404, f"expected a Dataset with a push source, found no {namespace}/{name}")
        request_key = headers.get("idempotency-key", "")
        if len(request_key) > KEY_BYTES_MAX or not request_key.isprintable():
            raise Refused(400, f"Idempotency-Key: expected at most {KEY_BYTES_MAX} printable characters")
        body = await _body(receive)
        try:
            columns = dataset.spec.source.push.columns
            rows = await asyncio.to_thread(rows_of, body, headers.get("content-type", ""), columns)
        except UnknownForm as error:
            raise Refused(415, str(error)) from error
        except RowsRefused as error:
            raise Refused(400, error.problems[0], error.problems) from error
        if rows.num_rows:
            try:
                await self._line(namespace, name).channel.accept(rows, request_key)
            except (Overloaded, LakeError) as error:
                raise Refused(503, f"the rows could not be kept: {error}") from error
        return {"rows": rows.num_rows}

    def _line(self, namespace: str, name: str) -> Line:
        line = self._lines.get((namespace, name))
        if line is None or line.task.done():
            taker = Taker(self._store, self._report, partial(self._directory.dataset, namespace, name))
            put = partial(put_segment, self._store, namespace, name)
            # A writer of its own: the numbers of the one before are used up.
            channel = Channel(secrets.token_hex(8), put, taker.wake)
            line = Line(channel, taker, asyncio.create_task(taker.run()))
            self._lines[namespace, name] = line
        return line

    def _metrics(self) -> bytes:
        lines = []
        for metric, words in (("rows", "Rows kept"), ("requests", "Requests kept"), ("segments", "Segments written")):
            lines += [f"# HELP mizzen_push_{metric}_total {words}.", f"# TYPE mizzen_push_{metric}_total counter"]
            for (namespace, name), line in self._lines.items():
                count = getattr(line.channel.statistics(), metric)
                lines.append(f'mizzen_push_{metric}_total{{namespace="{namespace}",dataset="{name}"}} {count}')
        return ("\n".join(lines) + "\n").encode()


@asynccontextmanager
async def served(server: PushServer, listening: socket.socket) -> AsyncIterator[None]:
    """The server at work behind a socket; at the end, what is under way is answered and taken in."""
    config = uvicorn.Config(server, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    http = uvicorn.Server(config)
    http.lifespan = config.lifespan_class(config)
    await http.startup(sockets=[listening])
    serving = asyncio.create_task(http.main_loop())
    server.start()
    try:
        yield
    finally:
        http.should_exit = True
        await serving
        await http.shutdown(sockets=[listening])
        await server.stop()


async def _body(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the connection was closed before the body ended")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > BODY_BYTES_MAX:
            raise Refused(413, f"expected a body of at most {BODY_BYTES_MAX} bytes")
        if not message.get("more_body"):
            return b"".join(pieces)
