"""An endpoint's requests whose answers come in parts (models that yield), in this process.

A stream does not pass the queue: it is one request, it takes one of a worker's places for streams, and begins at once
where there is one. Until then it waits here, in order, within its deadline.

    accept ──> waits ──a place is free──> reads ──END──> ended
                 └──deadline──> refused      └── worker's error, late part, client left ──> ended, told so

A part is passed on as it comes; the worker computes at most `WINDOW` parts ahead of what the client has taken, so a
client that reads slowly is computed for slowly. The deadline is that of the first part; each next one is given the
endpoint's whole time again, unless the client itself said how long it will wait in all. A stream whose worker is lost
before its first part is begun again elsewhere, once; after it, never, for parts may have been read.

A model that does not yield answers the same paths, through the queue, with one part.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

from mizzen.serving.frames import ErrorCode, Failure, Frame, FrameError, Part
from mizzen.serving.gateway.directory import Endpoint
from mizzen.serving.gateway.ends import Ends
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.link import Link
from mizzen.serving.gateway.parts import PartsExchange
from mizzen.serving.gateway.served import Served, joined
from mizzen.serving.oip import BadRequestError
from mizzen.serving.tensors import BadTensorError, Tensor

WINDOW = 8
LOST = "the worker was lost while it answered"


class Host(Protocol):
    """What streams need of their service."""

    endpoint: Endpoint

    def choice(self, exchange: Exchange) -> Served | None:
        """Which version answers; `None` where that is not known yet. Raises `HttpError`."""

    def links_of(self, digest: str) -> Iterable[Link]:
        """The workers of a version that are connected and take more."""

    def accept(self, exchange: Exchange) -> None:
        """Takes a request into the queue."""

    def assigned(self) -> None:
        """What still waits has no worker now."""

    def leave(self, exchange: Exchange) -> None:
        """The client of one that went into the queue has gone."""


class Streams:
    """The streams of one endpoint."""

    def __init__(self, host: Host, ends: Ends, clock: Callable[[], float]) -> None:
        self._host = host
        self._ends = ends
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[PartsExchange] = deque()
        self._timers: dict[PartsExchange, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """How many wait to begin."""
        return len(self._waiting)

    def accept(self, exchange: Exchange) -> None:
        """Takes a request: from now on it is answered from here, which may be at once."""
        assert isinstance(exchange, PartsExchange), "a path of streams has a form of streams"
        try:
            if self._begin(exchange):
                return
        except HttpError as error:
            self.refuse(exchange, error)
            return
        rows_max = self._host.endpoint.queue_rows_max
        if len(self._waiting) >= rows_max:
            self.refuse(exchange, HttpError(429, f"{rows_max} streams wait", "queue_full", retry_after_s=1.0))
            return
        self._waiting.append(exchange)
        self._time(exchange, exchange.deadline_s)
        self._host.assigned()

    def look_again(self) -> None:
        """A place may be free, or the traffic have changed."""
        for _ in range(len(self._waiting)):
            exchange = self._waiting.popleft()
            try:
                if not exchange.done and not self._begin(exchange):
                    self._waiting.append(exchange)
            except HttpError as error:
                self.refuse(exchange, error)

    def leave(self, exchange: Exchange) -> None:
        """The client has gone."""
        assert isinstance(exchange, PartsExchange), "what came in here"
        if exchange not in self._timers:
            self._host.leave(exchange)  # it went into the queue
        elif not exchange.done:
            self.finish(exchange)
            self._ends.leave(exchange)

    def close(self, error: HttpError) -> None:
        """The endpoint is gone: who waits is told so; what has begun goes on to its end."""
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            self.refuse(exchange, error)

    def refuse(self, exchange: PartsExchange, error: HttpError) -> None:
        """Ends it with an error."""
        if not exchange.done:
            self.finish(exchange)
            self._ends.refuse(exchange, error)

    def finish(self, exchange: PartsExchange) -> None:
        """Nothing more is to come: its worker, if it has one, is told to stop."""
        timer = self._timers.pop(exchange, None)
        if timer is not None:
            timer.cancel()
        if exchange.stop is not None:
            exchange.stop()
            exchange.stop = exchange.more = None

    def _begin(self, exchange: PartsExchange) -> bool:
        """Sends it to a worker that has a place. Raises `HttpError`."""
        host = self._host
        served = host.choice(exchange)
        if served is None:
            return False
        self._decode(exchange, served)
        links = list(host.links_of(served.digest))
        if not links:
            return False
        if not any(link.hello is not None and link.hello.streams for link in links):
            self.finish(exchange)
            host.accept(exchange)
            return True
        if served.features is not None:
            raise HttpError(400, "an endpoint that looks features up does not answer in parts", "bad_request")
        link = max(links, key=lambda link: link.streams_free)
        if link.streams_free <= 0:
            return False
        _Reading(self, exchange, served, link).begin()
        self._time(exchange, exchange.deadline_s)
        return True

    def _decode(self, exchange: PartsExchange, served: Served) -> None:
        if exchange.decoded is None:
            try:
                exchange.decoded = exchange.read(served)
            except BadRequestError as error:
                raise HttpError(400, str(error), "bad_request") from error
            exchange.read_for = served.signature
            exchange.in_time(self._host.endpoint.timeout_s)
        elif exchange.read_for != served.signature:
            raise HttpError(503, "the version was replaced while the request waited; send it again", "unavailable",
                            retry_after_s=1.0)  # fmt: skip

    def again(self, exchange: PartsExchange) -> None:
        """It is begun elsewhere."""
        exchange.stop = exchange.more = None
        self._waiting.appendleft(exchange)
        self.look_again()

    def now(self) -> float:
        return self._clock()

    def part(self, exchange: PartsExchange, served: Served, outputs: Sequence[Tensor], compute_s: float) -> None:
        """A part has come. Raises `BadTensorError` or `HttpError`, with nothing sent, where it does not fit."""
        self._ends.part(exchange, served, outputs, compute_s, self._clock())
        self._time(exchange, min(self._clock() + self._host.endpoint.timeout_s, exchange.ends_s))

    def ended(self, exchange: PartsExchange, served: Served) -> None:
        """All parts were passed on."""
        if not exchange.done:
            self.finish(exchange)
            self._ends.streamed(exchange, served, self._clock())

    def _time(self, exchange: PartsExchange, deadline_s: float) -> None:
        timer = self._timers.pop(exchange, None)
        if timer is not None:
            timer.cancel()
        self._timers[exchange] = self._loop.call_later(max(0.0, deadline_s - self._clock()), self._late, exchange)

    def _late(self, exchange: PartsExchange) -> None:
        begun = exchange.stop is not None
        waited_ms = 1000 * (self._clock() - exchange.came_s)
        if begun:
            error = HttpError(504, f"the next part did not come in time; {waited_ms:.0f} ms in all", "timeout")
        else:
            error = HttpError(503, f"no worker was free within {waited_ms:.0f} ms", "no_worker", retry_after_s=1.0)
        self.refuse(exchange, error)


class _Reading:
    """One stream on its way from a worker to its client. It is the `link.StreamReader`."""

    def __init__(self, streams: Streams, exchange: PartsExchange, served: Served, link: Link) -> None:
        self._streams = streams
        self._exchange = exchange
        self._served = served
        self._link = link

    def begin(self) -> None:
        """Raises `HttpError`."""
        exchange, decoded = self._exchange, self._exchange.decoded
        assert decoded is not None, "what is begun was decoded"
        heads, data = joined([decoded.inputs])
        try:
            number = self._link.generate(self, WINDOW, decoded.parameters or {}, heads, data)
        except FrameError as error:
            raise HttpError(413, str(error), "too_large") from error
        exchange.served, exchange.sent_s = self._served, self._streams.now()
        exchange.stop = lambda: self._link.stop(number)
        exchange.more = lambda: self._link.more(number, 1)

    def part(self, frame: Frame) -> None:
        if self._exchange.done:
            return
        exchange, served = self._exchange, self._served
        try:
            outputs = served.outputs(frame.tensors)
            self._streams.part(exchange, served, outputs, cast("Part", frame.header).compute_s)
        except BadTensorError as error:
            self._streams.refuse(self._exchange, HttpError(500, str(error), "bad_output"))
        except HttpError as error:
            self._streams.refuse(self._exchange, error)

    def ended(self, failure: Failure | None) -> None:
        exchange = self._exchange
        exchange.stop = exchange.more = None
        if failure is None:
            self._streams.ended(exchange, self._served)
        elif failure.code is ErrorCode.NOT_RUN and not exchange.parts and not exchange.done:
            self._streams.again(exchange)
        else:
            bad = failure.code is ErrorCode.INVALID
            error = HttpError(400 if bad else 500, failure.message, "bad_request" if bad else "failed")
            self._streams.refuse(exchange, error)
        self._streams.look_again()

    def lost(self) -> None:
        exchange = self._exchange
        exchange.stop = exchange.more = None
        if exchange.done:
            return
        if exchange.parts or exchange.lost:
            self._streams.refuse(exchange, HttpError(500, LOST, "worker_lost"))
        else:
            exchange.lost = True
            self._streams.again(exchange)
