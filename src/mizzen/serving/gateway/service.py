"""One endpoint's live state in this process: what its requests meet up to the queue, and what the directory says.

Events come from two sides, both on the event loop: exchanges from clients (`accept`, `leave`), and the directory
(`update`, `add_worker`, …). From the queue on requests are `dispatch`'s.

The stations of an exchange, each in one place: `accept` (version, decoding), the look-up of features where it has any,
`onward`, `enqueue` (a decoded request waits; what answers without a worker stands before it), and its end (`ends`).

A request waits outside the queue (`parked`) while it is not known what the model takes: no version gets traffic yet, or
its signature is to be told by its first worker.
"""

import dataclasses
import random
from collections.abc import Callable, Sequence

from mizzen.policy.queue import QueueStatistics
from mizzen.serving.gateway.cache.responses import ResponseCache, Tiers
from mizzen.serving.gateway.directory import Endpoint, Version, Worker
from mizzen.serving.gateway.dispatch import Dispatch
from mizzen.serving.gateway.ends import Ends, expired
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.features.binding import Binding
from mizzen.serving.gateway.features.source import Stage
from mizzen.serving.gateway.link import Link, Owner
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.parking import Parking
from mizzen.serving.gateway.recorder import Recorder
from mizzen.serving.gateway.served import Served
from mizzen.serving.gateway.streams import Streams
from mizzen.serving.gateway.traffic import Traffic
from mizzen.serving.oip import BadRequestError
from mizzen.serving.tensors import Signature, Tensor


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
        self._features = Binding(self)
        self._traffic = Traffic(endpoint, measures, chance, self._features)
        served = self._traffic.served
        self._ends = Ends(endpoint.name, measures, served.get, recorder)
        self._dispatch = Dispatch(self, endpoint.rules, clock, measures, self._ends, served, connect)
        self._parked = Parking()
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
        if self.cache is None:  # else it may be answered without a place in the queue
            self._dispatch.expect_place(exchange, served)
        try:
            decoded = exchange.decoded = exchange.read(served)
        except BadRequestError as error:
            raise HttpError(400, str(error), "bad_request") from error
        if decoded.timeout_us:
            exchange.deadline_s = min(exchange.deadline_s, exchange.came_s + decoded.timeout_us / 1e6)
        if served.features is not None:
            self._dispatch.expect_room(decoded.rows)
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
        self._dispatch.enqueue(exchange, served)

    def leave(self, exchange: Exchange) -> None:
        """The client has gone: nobody waits for that answer any more."""
        if exchange.done:
            return
        ticket = exchange.ticket
        self._ends.leave(exchange)
        if ticket is not None:
            self._dispatch.cancel(ticket)

    @property
    def nodes(self) -> Sequence["Service"]:
        """The services of its models, where it is a graph."""
        return ()

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
        return [served.version for served in self._traffic.current if self._dispatch.queue.workers(served.digest)]

    def signature(self, number: int | None) -> tuple[Version, Signature] | None:
        """What a version takes and gives; the one with most traffic where no number is said; `None`: not known."""
        return self._traffic.signature(number)

    def choice(self, exchange: Exchange) -> Served | None:
        """Which version answers; `None` where that is not known yet. Raises `HttpError`."""
        return self._traffic.choice(exchange)

    def _park(self, exchange: Exchange) -> None:
        self._parked.put(exchange, self.endpoint.rules.rows_max, self._clock())
        self._dispatch.wake_at(exchange.deadline_s)
        self._dispatch.assign_soon()

    def _unpark(self) -> None:
        for exchange in self._parked.leave():
            self.accept(exchange)

    def statistics(self) -> QueueStatistics:
        """How its queue stands; what is parked counts as waiting."""
        found = self._dispatch.queue.statistics()
        return dataclasses.replace(
            found, requests_waiting=found.requests_waiting + len(self._parked) + len(self.streams)
        )

    # What the directory says

    def update(self, endpoint: Endpoint) -> None:
        """The endpoint is declared so from now on. Requests that wait go with the traffic where they fit."""
        self.endpoint = endpoint
        self._dispatch.queue.rules = endpoint.rules
        gone = self._traffic.update(endpoint, self._dispatch.told_signature)
        self._update_by_unit()
        self._update_cache(endpoint)
        for digest in gone:
            self._dispatch.move(digest, self._traffic.first)
        if self._traffic.current or endpoint.hopeless is not None or self._features.problem is not None:
            self._unpark()
            self.streams.look_again()
        self._dispatch.assign_soon()

    def look_up(self, stage: Stage | None, problem: str | None) -> None:
        """From now on features are looked up so; `None`: they cannot be, for that reason, unless they are already."""
        self._features.opened(stage, problem)
        self.update(self.endpoint)

    def refresh(self) -> None:
        """Another endpoint has changed: what concerns graphs."""

    def links_of(self, digest: str) -> list[Link]:
        """The workers of a version that are connected and take more."""
        return self._dispatch.links_of(digest)

    def add_worker(self, worker: Worker) -> None:
        """A worker Pod is ready, or has another address."""
        self._dispatch.add_worker(worker)

    def remove_worker(self, uid: str) -> None:
        """A worker Pod is to be used no more; what it has it may finish."""
        self._dispatch.remove_worker(uid)

    def close(self) -> None:
        """The endpoint is gone: who waits is told so."""
        gone = HttpError(503, f"endpoint {self.endpoint.name} was deleted", "unavailable")
        if self.cache is not None:
            self.cache.close(gone)
        self._dispatch.close(gone)
        for exchange in self._parked.leave():
            self._ends.refuse(exchange, gone)
        self.streams.close(gone)

    # What dispatching tells (`dispatch.Host`)

    def worker_came(self, digest: str) -> None:
        """A worker of that version is connected: what it takes may be known for the first time."""
        declared = any(version.digest == digest for version in self.endpoint.versions)
        if declared and digest not in self._traffic.served:
            self.update(self.endpoint)
        self.streams.look_again()

    def worker_went(self, digest: str) -> None:
        """One is lost."""
        served = self._traffic.served.get(digest)
        if served is not None and served not in self._traffic.current:
            self._dispatch.move(digest, self._traffic.first)

    def late(self, now: float) -> float | None:
        """Ends what is parked and late by now; returns when the next will be."""
        for exchange in self._parked.late(now):
            self._ends.refuse(exchange, expired(exchange, worker_seen=False))
        return self._parked.deadline_s()

    def assigned(self) -> None:
        """All that workers can take they have."""
        dispatch = self._dispatch
        if dispatch.links or self.on_starved is None:
            return
        if dispatch.queue.rows_waiting or self._parked or self.streams:
            self.on_starved(self)

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
