"""From an endpoint's queue to its workers and back: the shell around the queue (`mizzen.policy.queue`).

Events come from two sides, both on the event loop: decoded requests from the service (`enqueue`, `cancel`), and workers
through their links. Each is told to the queue, and what it commands is done: batches are sent, answers taken apart,
refusals and expiries answered. There is one timer, at the earliest deadline, and no task.

Requests that came in one turn of the event loop are assigned together at its end, so that what came at once is one
batch.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from mizzen.policy.queue import Batch, Command, Expired, Failed, GiveUp, Queue, Request, Rules
from mizzen.serving.frames import ErrorCode, Failure, Frame, FrameError, Hello, Result
from mizzen.serving.gateway.directory import Worker
from mizzen.serving.gateway.ends import Ends, expired, failed, refused
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.link import Link, Owner
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.served import Served, joined
from mizzen.serving.gateway.split import Split
from mizzen.serving.tensors import BadTensorError, Signature, Tensor

TIMER_S_MIN = 0.001
"""Deadlines closer than this are looked at together."""


class Host(Protocol):
    """The service, as its dispatch sees it."""

    def worker_came(self, digest: str) -> None:
        """A worker of that version is connected."""

    def worker_went(self, digest: str) -> None:
        """One is lost."""

    def late(self, now: float) -> float | None:
        """Ends what waits elsewhere and is late by now; returns when the next will be."""

    def assigned(self) -> None:
        """All that workers can take they have."""


class Dispatch:
    """The queue of one endpoint, and its workers."""

    def __init__(
        self,
        host: Host,
        rules: Rules,
        clock: Callable[[], float],
        measures: Measures,
        ends: Ends,
        served: dict[str, Served],
        connect: Callable[[Worker, Owner], Link],
    ) -> None:
        self.queue = Queue(rules)
        self.links: dict[str, Link] = {}
        """By a worker's uid."""
        self._host = host
        self._clock = clock
        self._measures = measures
        self._ends = ends
        self._served = served
        """By digest: all versions that have requests here."""
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = float("inf")
        self._assigning = False

    # Requests

    def enqueue(self, exchange: Exchange, served: Served) -> None:
        """The decoded request waits for a worker of that version. Raises `HttpError` where there is no place for it."""
        decoded = exchange.decoded
        assert decoded is not None, "what is queued is decoded"
        queue = self.queue
        self.expect_room(decoded.rows)
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
        self.wake_at(exchange.deadline_s)
        self.assign_soon()

    def expect_place(self, exchange: Exchange, served: Served) -> None:
        """Raises `HttpError` where the request, which is not decoded yet, has no place whatever it says: the more there
        is to be refused, the less may each cost.
        """
        queue = self.queue
        refusal = queue.foresee(exchange.tenant, served.digest, served.row_bytes, exchange.deadline_s, self._clock())
        if refusal is not None:
            raise refused(exchange, refusal, queue.rules, queue.rows_waiting, queue.bytes_waiting)

    def expect_room(self, rows: int) -> None:
        """Raises `HttpError` where so many rows never have a place."""
        most = self.queue.rules.rows_max
        if rows > most:
            raise HttpError(413, f"inputs: expected at most {most} rows, got {rows}", "too_large")

    def cancel(self, ticket: Request) -> None:
        """Nobody waits for that answer any more."""
        self._perform(self.queue.cancel(ticket))

    def move(self, digest: str, successor: Served | None) -> None:
        """A version gets no traffic any more. Who waits for it goes to its successor if that takes and gives the same;
        else it may still be answered while the version has workers.
        """
        old = self._served[digest]
        fits = successor is not None and successor.signature == old.signature
        staying = bool(self.queue.workers(digest)) or successor is None
        if fits or not staying:
            for ticket in self.queue.evict(digest):
                self._move_one(ticket, old, successor if fits else None, staying=staying)
        if not self.queue.is_used(digest):
            del self._served[digest]  # no answer of that version is due

    def _move_one(self, ticket: Request, old: Served, successor: Served | None, *, staying: bool) -> None:
        exchange: Exchange = ticket.payload
        if successor is not None and exchange.pinned is None:
            self.queue.offer_again(ticket, successor.digest, self._clock())
        elif staying:
            self.queue.offer_again(ticket, old.digest, self._clock())
        else:
            message = f"version {old.version.version} was replaced while the request waited; send it again"
            self._ends.refuse(exchange, HttpError(503, message, "unavailable", retry_after_s=1.0))
            return
        assert exchange.decoded is not None, "what is queued is decoded"
        exchange.split = Split(ticket.parts, exchange.decoded.inputs) if ticket.parts is not None else None

    def close(self, error: HttpError) -> None:
        """The endpoint is gone: who waits is told so, and workers are left."""
        for digest in list(self._served):
            for ticket in self.queue.evict(digest):
                self._ends.refuse(ticket.payload, error)
        for uid in list(self.links):
            self.remove_worker(uid)

    # Workers

    def links_of(self, digest: str) -> list[Link]:
        """The workers of a version that are connected and take more."""
        links = (link for link in self.links.values() if link.hello is not None and not link.draining)
        return [link for link in links if link.hello is not None and link.hello.digest == digest]

    def add_worker(self, worker: Worker) -> None:
        """A worker Pod is ready, or has another address."""
        old = self.links.get(worker.uid)
        if old is not None:
            if old.worker == worker:
                return
            old.retire()
        self.links[worker.uid] = self._connect(worker, self)

    def remove_worker(self, uid: str) -> None:
        """A worker Pod is to be used no more; what it has it may finish."""
        link = self.links.pop(uid, None)
        if link is not None:
            link.retire()

    def told_signature(self, digest: str) -> Signature | None:
        """What a worker of that version said it takes and gives."""
        hellos = (link.hello for link in self.links.values())
        return next((hello.signature for hello in hellos if hello is not None and hello.digest == digest), None)

    # What workers say (`link.Owner`)

    def worker_joined(self, link: Link, hello: Hello) -> None:
        if not hello.digest.removeprefix("sha256:").startswith(link.worker.digest_prefix):
            raise FrameError(f"expected a worker of digest {link.worker.digest_prefix}…, got {hello.digest}")
        served = self._served.get(hello.digest)
        if served is not None:
            served.check_fits(hello.signature)
        self.queue.join(link, hello.digest, hello.credits)
        self._host.worker_came(hello.digest)
        self._assign()

    def worker_granted(self, link: Link, credits_more: int) -> None:
        self.queue.grant(link, credits_more)
        self._assign()

    def worker_draining(self, link: Link) -> None:
        self.queue.drain(link)

    def worker_lost(self, link: Link) -> None:
        before = self.queue.workers_lost
        self._perform(self.queue.lost(link, self._clock()))
        self._measures.workers_lost += self.queue.workers_lost - before
        hello = link.hello
        if hello is not None:
            self._host.worker_went(hello.digest)
        self._assign()

    def batch_answered(self, link: Link, batch: Batch, frame: Frame, result: Result) -> None:
        served = self._served[batch.lane]
        now = self._clock()
        self._measures.batch(batch.rows, result.compute_s, served.counted)
        try:
            parts = served.parts(batch, frame.tensors)
        except BadTensorError as error:
            self._perform(self.queue.failed(batch, str(error), self._clock()))
        else:
            commands = self.queue.answered(batch, now, result.wait_s)
            if commands:
                self._perform(commands)
            self._ends.hold(batch.rows, result.compute_s)
            try:
                for ticket, outputs in zip(batch.requests, parts, strict=True):
                    self._deliver(ticket, outputs, served, now)
            finally:
                self._ends.release()
        self.queue.grant(link, result.credits)
        self._assign()

    def batch_failed(self, link: Link, batch: Batch, failure: Failure) -> None:
        if failure.code in {ErrorCode.FAILED, ErrorCode.INVALID}:
            invalid = failure.code is ErrorCode.INVALID
            self._perform(self.queue.failed(batch, failure.message, self._clock(), invalid=invalid))
        else:
            self.queue.returned(batch, self._clock())
        self.queue.grant(link, failure.credits)
        self._assign()

    # Inside

    def _deliver(self, ticket: Request, outputs: Sequence[Tensor], served: Served, now: float) -> None:
        """A request's outputs are here, or those of a part of it."""
        exchange: Exchange = ticket.payload
        split = exchange.split
        if exchange.done or ticket is not (exchange.ticket if split is None else split.parts[ticket.index]):
            self._measures.rows_unwanted += ticket.rows
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

    def assign_soon(self) -> None:
        """At the end of this turn of the event loop."""
        if not self._assigning:
            self._assigning = True
            self._loop.call_soon(self._assign)

    def _assign(self) -> None:
        self._assigning = False
        commands = self.queue.assign(self._clock())
        if commands:
            self._perform(commands)
        held_until_s = self.queue.held_until_s()
        if held_until_s is not None:
            self.wake_at(held_until_s)
        self._host.assigned()

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
            self._perform(self.queue.failed(batch, str(error), self._clock()))
            self.queue.grant(link, 1)
            self.assign_soon()
        else:
            waited_s = []
            for ticket in batch.requests:
                exchange: Exchange = ticket.payload
                exchange.sent_s = now
                waited_s.append(now - exchange.came_s)
            self._measures.waited(waited_s, self._served[batch.lane].counted)

    # The timer

    def wake_at(self, deadline_s: float) -> None:
        """Looks at what is late then."""
        if deadline_s < self._timer_at_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at_s = deadline_s
            self._timer = self._loop.call_later(max(0.0, deadline_s - self._clock()), self._on_time)

    def _on_time(self) -> None:
        self._timer, self._timer_at_s = None, float("inf")
        now = self._clock()
        self._perform(self.queue.expire(now))
        deadlines = [self._host.late(now), self.queue.deadline_s()]
        first_s = min((deadline_s for deadline_s in deadlines if deadline_s is not None), default=None)
        if first_s is not None:
            self.wake_at(max(first_s, now + TIMER_S_MIN))
        self._assign()


def _inputs(ticket: Request) -> Sequence[Tensor]:
    exchange: Exchange = ticket.payload
    if exchange.split is not None:
        return exchange.split.inputs[ticket.index]
    assert exchange.decoded is not None, "what is queued was decoded"
    return exchange.decoded.inputs
