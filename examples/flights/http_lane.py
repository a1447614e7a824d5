"""One HTTP/1.1 connection that posts one body at a time: as little work for each request as Python can do."""

import asyncio
from dataclasses import dataclass
from typing import Self, cast

import httptools


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    retry_after_s: float | None
    """What the server asked to wait, where it did."""
    stays_open: bool


class Lane(asyncio.Protocol):
    """A connection; `post` while `is_open`. Raises `ConnectionError` where it breaks under a request."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._retry_after_s: float | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """Connects. Raises `OSError` where nobody listens."""
        _, lane = await asyncio.get_running_loop().create_connection(cls, host, port)
        return lane

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def post(self, head: bytes, body: bytes) -> Answer:
        """Sends `head` (request line and headers up to the length) with the body, and waits for the answer."""
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        answer = await self._waiting
        if not answer.stays_open:
            self.close()
        return answer

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.close()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is one in all but its bases

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close()
            self._fail(ConnectionError(f"no HTTP answer: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(ConnectionError(f"the connection was closed: {exc or 'by the server'}"))

    def _fail(self, error: ConnectionError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    # -- the parser's side

    def on_message_begin(self) -> None:
        self._body, self._retry_after_s = [], None

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.strip().isdigit():
            self._retry_after_s = float(value)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        answer = Answer(
            self._parser.get_status_code(), b"".join(self._body), self._retry_after_s, self._parser.should_keep_alive()
        )
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)
