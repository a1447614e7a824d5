"""One endpoint's live state in this process: the shell around its queue.

Events come from three sides, all on the event loop: exchanges from clients (`accept`, `leave`), workers through their
links, and the directory (`update`, `add_worker`, …). Each is told to the queue (`mizzen.policy.queue`), and what it
commands is done: batches are sent, answers taken apart and encoded, refusals and expiries answered. There is one timer,
at the earliest deadline, and no task.

The stations of an exchange, each in one place: `accept` (version, decoding), the look-up of features where it has any,
`onward`, `enqueue` (a decoded request waits; what answers without a worker stands before it), `_send`, `_deliver`, and
its end (`ends`).

Requests that came in one turn of the event loop are assigned together at its end, so that what came at once is one
batch.

A request waits outside the queue (`parked`) while it is not known what the model takes: no version gets traffic yet, or
its signature is to be told by its first worker.
"""

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Sequence
from typing import cast

from mizzen.policy.queue import Batch, Command, Expired, Failed, GiveUp, Queue, QueueStatistics, Request
from mizzen.serving.frames import ErrorCode, Failure, Frame, FrameError, Hello, Result
from mizzen.serving.gateway.cache.responses import ResponseCache, Tiers
from mizzen.serving.gateway.directory import Endpoint, Version, Worker
from mizzen.serving.gateway.ends import Ends, expired, failed, refused
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.features.binding import Binding
from mizzen.serving.gateway.features.source import Stage
from mizzen.serving.gateway.link import Link, Owner
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.parking import Parking
from mizzen.serving.gateway.recorder import Recorder
from mizzen.serving.gateway.served import Served, joined
from mizzen.serving.gateway.split import Split
from mizzen.serving.gateway.streams import Streams
from mizzen.serving.gateway.traffic import Traffic
from mizzen.serving.oip import BadRequestError
from mizzen.serving.tensors import BadTensorError, Signature, Tensor

log = logging.getLogger("mizzen.gateway")
TIMER_S_MIN = 0.001
"""Deadlines closer than this are looked at together."""


class Service:
    """Serves one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Callable[[], float],
        measures: Measures,
        connect: Callable[[Worker, Owner], Link] = Link,
        *,
        tiers: Tiers | None = None,
        recorder: Recorder | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.endpoint = endpoint
        self.key = endpoint.key
        self.measures = measures
        self.cache: ResponseCache | None = None
        self._tiers = tiers if tiers is not None else Tiers(clock)
        self._clock = clock
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._queue = Queue(endpoint.rules)
        self._features = Binding(self)
        self._traffic = Traffic(endpoint, measures, chance, self._features)
        self._served = self._traffic.served
        self._ends = Ends(endpoint.name, measures, self._served.get, recorder)
        self._links: dict[str, Link] = {}
        self._parked = Parking()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = float("inf")
        self._assigning = False
        self.by_unit = False
        """Whether it matters whom a request is for: where it is logged, goes through a graph, or versions share."""
        self.on_starved: Callable[[Service], None] | None = None
        """Called when requests wait and there is no worker: see `reporting`."""
        self.streams = Streams(self, self._ends, clock)
        self.update(endpoint)

    # What clients do

    def accept(self, exchange: Exchange) -> None:
        """Takes a request: from now on it is answered from here, which may be at once."""
        try:
            self._accept(exchange)
        except HttpError as error:
            self._ends.refuse(exchange, error)

    def _accept(self, exchange: Exchange) -> None:
        """Raises `HttpError` where it is refused."""
        served = self.choice(exchange)
        if served is None:
            self._park(exchange)
            return
        try:
            decoded = exchange.decoded = exchange.read(served)
        except BadRequestError as error:
            raise HttpError(400, str(error), "bad_request") from error
        if decoded.timeout_us:
            exchange.deadline_s = min(exchange.deadline_s, exchange.came_s + decoded.timeout_us / 1e6)
        if served.features is not None:
            self._expect_room(decoded.rows)
            served.features.take(exchange, served)
        else:
            self.onward(exchange, served)

    def onward(self, exchange: Exchange, served: Served) -> None:
        """Takes an exchange whose inputs are the model's. Raises `HttpError` where it is refused."""
        if self.cache is not None:
            self.cache.take(exchange, served)
        else:
            self.enqueue(exchange, served)

    def serves(self, served: Served) -> bool:
        """Whether that version is still there."""
        return served.digest in self._traffic.served

    def enqueue(self, exchange: Exchange, served: Served) -> None:
        """The decoded request waits for a worker of that version. Raises `HttpError` where there is no place for it."""
        decoded = exchange.decoded
        assert decoded is not None, "what is queued is decoded"
        queue = self._queue
        self._expect_room(decoded.rows)
        size = 0
        for tensor in decoded.inputs:
            size += len(tensor.data)
        ticket = Request(
            decoded.rows, exchange.deadline_s, served.group(decoded), exchange, size=size, by_size=served.by_size,
            tenant=exchange.tenant, priority=decoded.priority, alone=not served.batchable,
        )  # fmt: skip
        refusals = queue.offer(ticket, served.digest, self._clock())
        if refusals:
            for refusal in refusals:
                error = refused(refusal.request.payload, refusal, queue.rules, queue.rows_waiting, queue.bytes_waiting)
                if refusal.request is ticket:
                    raise error
                self._ends.refuse(refusal.request.payload, error)
        exchange.ticket = ticket
        if ticket.parts is not None:
            exchange.split = Split(ticket.parts, decoded.inputs)
        self._wake_at(exchange.deadline_s)
        self._assign_soon()

    def _expect_room(self, rows: int) -> None:
        """Raises `HttpError` where so many rows never have a place."""
        most = self._queue.rules.rows_max
        if rows > most:
            raise HttpError(413, f"inputs: expected at most {most} rows, got {rows}", "too_large")

    def leave(self, exchange: Exchange) -> None:
        """The client has gone: nobody waits for that answer any more."""
        if exchange.done:
            return
        ticket = exchange.ticket
        self._ends.leave(exchange)
        if ticket is not None:
            self._perform(self._queue.cancel(ticket))

    @property
    def versions(self) -> list[Version]:
        """The versions that get traffic, as far as it is known what they take."""
        return [served.version for served in self._traffic.current]

    @property
    def recorder(self) -> Recorder | None:
        """Who notes its requests for the prediction log."""
        return self._ends.recorder

    @property
    def goes_by_unit(self) -> bool:
        """Whether whom a request is for decides what answers it."""
        return self._traffic.is_shared

    def record_with(self, recorder: Recorder | None) -> None:
        """From now on its requests are noted so, or not at all."""
        self._ends.recorder = recorder
        self._update_by_unit()

    @property
    def ready_versions(self) -> list[Version]:
        """The versions that get traffic and have a worker."""
        return [served.version for served in self._traffic.current if self._queue.workers(served.digest)]

    def signature(self, number: int | None) -> tuple[Version, Signature] | None:
        """What a version takes and gives; the one with most traffic where no number is said; `None`: not known."""
        return self._traffic.signature(number)

    def choice(self, exchange: Exchange) -> Served | None:
        """Which version answers; `None` where that is not known yet. Raises `HttpError`."""
        return self._traffic.choice(exchange)

    def _park(self, exchange: Exchange) -> None:
        self._parked.put(exchange, self._queue.rules.rows_max, self._clock())
        self._wake_at(exchange.deadline_s)
        self._assign_soon()

    def _unpark(self) -> None:
        for exchange in self._parked.leave():
            self.accept(exchange)

    def statistics(self) -> QueueStatistics:
        """How its queue stands; what is parked counts as waiting."""
        found = self._queue.statistics()
        return dataclasses.replace(
            found, requests_waiting=found.requests_waiting + len(self._parked) + len(self.streams)
        )

    # What the directory says

    def update(self, endpoint: Endpoint) -> None:
        """The endpoint is declared so from now on. Requests that wait go with the traffic where they fit."""
        self.endpoint = endpoint
        self._queue.rules = endpoint.rules
        gone = self._traffic.update(endpoint, self._told_signature)
        self._update_by_unit()
        self._update_cache(endpoint)
        for digest in gone:
            self._move(digest)
        if self._traffic.current or endpoint.hopeless is not None or self._features.problem is not None:
            self._unpark()
            self.streams.look_again()
        self._assign_soon()

    def look_up(self, stage: Stage | None, problem: str | None) -> None:
        """From now on features are looked up so; `None`: they cannot be, for that reason, unless they are already."""
        self._features.opened(stage, problem)
        self.update(self.endpoint)

    def refresh(self) -> None:
        """Another endpoint has changed: what concerns graphs."""

    def links_of(self, digest: str) -> list[Link]:
        """The workers of a version that are connected and take more."""
        links = (link for link in self._links.values() if link.hello is not None and not link.draining)
        return [link for link in links if link.hello is not None and link.hello.digest == digest]

    def add_worker(self, worker: Worker) -> None:
        """A worker Pod is ready, or has another address."""
        old = self._links.get(worker.uid)
        if old is not None:
            if old.worker == worker:
                return
            old.retire()
        self._links[worker.uid] = self._connect(worker, self)

    def remove_worker(self, uid: str) -> None:
        """A worker Pod is to be used no more; what it has it may finish."""
        link = self._links.pop(uid, None)
        if link is not None:
            link.retire()

    def close(self) -> None:
        """The endpoint is gone: who waits is told so."""
        gone = HttpError(503, f"endpoint {self.endpoint.name} was deleted", "unavailable")
        if self.cache is not None:
            self.cache.close(gone)
        for digest in list(self._served):
            for ticket in self._queue.evict(digest):
                self._ends.refuse(ticket.payload, gone)
        for exchange in self._parked.leave():
            self._ends.refuse(exchange, gone)
        self.streams.close(gone)
        for uid in list(self._links):
            self.remove_worker(uid)

    def _told_signature(self, digest: str) -> Signature | None:
        hellos = (link.hello for link in self._links.values())
        return next((hello.signature for hello in hellos if hello is not None and hello.digest == digest), None)

    def _move(self, digest: str) -> None:
        """A version gets no traffic any more. Who waits for it goes to its successor if that takes and gives the same;
        else it may still be answered while the version has workers.
        """
        old = self._served[digest]
        current = self._traffic.current
        successor = current[0] if current else None
        fits = successor is not None and successor.signature == old.signature
        staying = bool(self._queue.workers(digest)) or successor is None
        if fits or not staying:
            for ticket in self._queue.evict(digest):
                self._move_one(ticket, old, successor if fits else None, staying=staying)
        if not self._queue.is_used(digest):
            del self._served[digest]  # no answer of that version is due

    def _move_one(self, ticket: Request, old: Served, successor: Served | None, *, staying: bool) -> None:
        exchange: Exchange = ticket.payload
        if successor is not None and exchange.pinned is None:
            self._queue.offer_again(ticket, successor.digest, self._clock())
        elif staying:
            self._queue.offer_again(ticket, old.digest, self._clock())
        else:
            message = f"version {old.version.version} was replaced while the request waited; send it again"
            self._ends.refuse(exchange, HttpError(503, message, "unavailable", retry_after_s=1.0))
            return
        assert exchange.decoded is not None, "what is queued is decoded"
        exchange.split = Split(ticket.parts, exchange.decoded.inputs) if ticket.parts is not None else None

    # What workers say (`link.Owner`)

    def worker_joined(self, link: Link, hello: Hello) -> None:
        if not hello.digest.removeprefix("sha256:").startswith(link.worker.digest_prefix):
            raise FrameError(f"expected a worker of digest {link.worker.digest_prefix}…, got {hello.digest}")
        served = self._served.get(hello.digest)
        if served is not None:
            served.check_fits(hello.signature)
        self._queue.join(link, hello.digest, hello.credits)
        if served is None and any(version.digest == hello.digest for version in self.endpoint.versions):
            self.update(self.endpoint)
        self._assign()
        self.streams.look_again()

    def worker_granted(self, link: Link, credits_more: int) -> None:
        self._queue.grant(link, credits_more)
        self._assign()

    def worker_draining(self, link: Link) -> None:
        self._queue.drain(link)

    def worker_lost(self, link: Link) -> None:
        before = self._queue.workers_lost
        self._perform(self._queue.lost(link, self._clock()))
        self.measures.workers_lost += self._queue.workers_lost - before
        hello = link.hello
        if hello is not None and hello.digest in self._served:
            served = self._served[hello.digest]
            if served not in self._traffic.current:
                self._move(hello.digest)
        self._assign()

    def batch_answered(self, link: Link, batch: Batch, frame: Frame, result: Result) -> None:
        served = self._served[batch.lane]
        now = self._clock()
        self.measures.batch(batch.rows, result.compute_s, served.counted)
        try:
            parts = served.parts(batch, frame.tensors)
        except BadTensorError as error:
            self._perform(self._queue.failed(batch, str(error), self._clock()))
        else:
            commands = self._queue.answered(batch, now, result.wait_s)
            if commands:
                self._perform(commands)
            self._ends.hold(batch.rows, result.compute_s)
            try:
                for ticket, outputs in zip(batch.requests, parts, strict=True):
                    self._deliver(ticket, outputs, served, now)
            finally:
                self._ends.release()
        self._queue.grant(link, result.credits)
        self._assign()

    def batch_failed(self, link: Link, batch: Batch, failure: Failure) -> None:
        if failure.code in {ErrorCode.FAILED, ErrorCode.INVALID}:
            invalid = failure.code is ErrorCode.INVALID
            self._perform(self._queue.failed(batch, failure.message, self._clock(), invalid=invalid))
        else:
            self._queue.returned(batch, self._clock())
        self._queue.grant(link, failure.credits)
        self._assign()

    # What the cache asks for, beside `enqueue` (`cache.responses.Downstream`)

    def succeed(self, exchange: Exchange, served: Served, outputs: Sequence[Tensor]) -> None:
        """Answers with outputs that no worker was asked for now."""
        self._ends.answer(exchange, served, outputs, self._clock())

    def refuse(self, exchange: Exchange, error: HttpError) -> None:
        """Answers with an error, unless it has been answered."""
        self._ends.refuse(exchange, error)

    def variant(self, exchange: Exchange) -> str:  # noqa: ARG002 - graphs look at it
        """What the answer depends on beside the version and the decoded request: of one model, nothing."""
        return ""

    def successor(self, served: Served) -> Served | None:
        """The version that answers what was decoded for `served`, now; `None` where none fits."""
        return self._traffic.successor(served)

    # Inside

    def _update_by_unit(self) -> None:
        self.by_unit = self.recorder is not None or self.endpoint.graph is not None or self._traffic.is_shared

    def _update_cache(self, endpoint: Endpoint) -> None:
        if endpoint.cache is None:
            if self.cache is not None:
                self.cache.close(
                    HttpError(503, "the endpoint was changed; send it again", "unavailable", retry_after_s=1.0)
                )
                self.cache = None
            return
        if self.cache is None:
            self.cache = ResponseCache(endpoint, endpoint.cache, self._tiers, self.measures, self)
        else:
            self.cache.update(endpoint.cache)
        self.cache.keep_models({served.digest for served in self._traffic.current})

    def _deliver(self, ticket: Request, outputs: Sequence[Tensor], served: Served, now: float) -> None:
        """A request's outputs are here, or those of a part of it."""
        exchange: Exchange = ticket.payload
        split = exchange.split
        if exchange.done or ticket is not (exchange.ticket if split is None else split.parts[ticket.index]):
            self.measures.rows_unwanted += ticket.rows
            return
        whole: Sequence[Tensor] | None = outputs
        if split is not None:
            try:
                whole = split.put(ticket, outputs)
            except BadTensorError as error:
                self._ends.refuse(exchange, HttpError(500, str(error), "bad_output"))
                return
        if whole is not None:
            self._ends.answer(exchange, served, whole, now)

    def _assign_soon(self) -> None:
        if not self._assigning:
            self._assigning = True
            self._loop.call_soon(self._assign)

    def _assign(self) -> None:
        self._assigning = False
        commands = self._queue.assign(self._clock())
        if commands:
            self._perform(commands)
        held_until_s = self._queue.held_until_s()
        if held_until_s is not None:
            self._wake_at(held_until_s)
        if not self._links and self.on_starved is not None and (self._queue.rows_waiting or self._parked):
            self.on_starved(self)

    def _perform(self, commands: Sequence[Command]) -> None:
        """Does what the queue says."""
        for command in commands:
            if isinstance(command, Batch):
                self._send(command)
            elif isinstance(command, GiveUp):
                cast("Link", command.batch.worker).cancel(command.batch)
            elif isinstance(command, Expired):
                exchange = command.request.payload
                error = expired(exchange, worker_seen=command.worker_seen, needed_s=command.needed_s)
                self._ends.refuse(exchange, error)
            elif isinstance(command, Failed):
                self._ends.refuse(command.request.payload, failed(command))

    def _send(self, batch: Batch) -> None:
        link = cast("Link", batch.worker)
        now = self._clock()
        heads, data = joined([_inputs(ticket) for ticket in batch.requests])
        try:
            link.run(batch, heads, data)
        except FrameError as error:
            self._perform(self._queue.failed(batch, str(error), self._clock()))
            self._queue.grant(link, 1)
            self._assign_soon()
        else:
            waited_s = []
            for ticket in batch.requests:
                exchange: Exchange = ticket.payload
                exchange.sent_s = now
                waited_s.append(now - exchange.came_s)
            self.measures.waited(waited_s, self._served[batch.lane].counted)

    # The timer

    def _wake_at(self, deadline_s: float) -> None:
        if deadline_s < self._timer_at_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at_s = deadline_s
            self._timer = self._loop.call_later(max(0.0, deadline_s - self._clock()), self._on_time)

    def _on_time(self) -> None:
        self._timer, self._timer_at_s = None, float("inf")
        now = self._clock()
        self._perform(self._queue.expire(now))
        for exchange in self._parked.late(now):
            self._ends.refuse(exchange, expired(exchange, worker_seen=False))
        deadlines = [self._queue.deadline_s(), self._parked.deadline_s()]
        first_s = min((deadline_s for deadline_s in deadlines if deadline_s is not None), default=None)
        if first_s is not None:
            self._wake_at(max(first_s, now + TIMER_S_MIN))
        self._assign()


def _inputs(ticket: Request) -> Sequence[Tensor]:
    exchange: Exchange = ticket.payload
    if exchange.split is not None:
        return exchange.split.inputs[ticket.index]
    assert exchange.decoded is not None, "what is queued was decoded"
    return exchange.decoded.inputs
