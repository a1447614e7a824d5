"""One endpoint's response cache: what a request meets between being decoded and the queue.

    take ── in memory ─────────────────────────────────────────> answered
     │   ── the same is being computed ──> it waits for that     (a follower)
     │   ── in a shared tier ──────────────────────────────────> answered, and kept in memory
     └── else ──> the queue (a leader); its outputs are kept, and given to its followers

**Single flight.** Requests with the same key are computed once. A leader that fails, is late or goes away ends alone:
the first of its followers that is still there takes its place, and asks anew. Each follower keeps its own deadline.

**Collisions.** Everything is looked up by digest and compared by key: an entry or a leader with the same digest and
another key is not for this request, which is then computed by itself.

**Versions.** The model's digest is part of the key, so a version that takes over begins with nothing; what the old one
answered is freed when it gets no traffic any more.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from mizzen.serving.gateway.cache.entry import Entry, entry_of
from mizzen.serving.gateway.cache.key import DigestFunction, digest_of_key, key_of, place_of, wanted_outputs
from mizzen.serving.gateway.cache.machine import MachineCache, MachineTier
from mizzen.serving.gateway.cache.memory import Memory
from mizzen.serving.gateway.directory import Caching, Endpoint
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.served import Served
from mizzen.serving.tensors import Tensor


class Remote(Protocol):
    """The tier of several machines, as `remote.RemoteCache` is one."""

    @property
    def is_up(self) -> bool: ...
    async def get(self, place: str) -> Entry | None: ...
    def put(self, place: str, entry: Entry, ttl_s: float) -> None: ...


class Downstream(Protocol):
    """What comes after the cache: the service and its queue."""

    def enqueue(self, exchange: Exchange, served: Served) -> None:
        """Queues a decoded request. Raises `HttpError` where it is refused at once."""

    def succeed(self, exchange: Exchange, served: Served, outputs: Sequence[Tensor]) -> None:
        """Answers with these outputs, all of the signature or those asked for, in its order."""

    def refuse(self, exchange: Exchange, error: HttpError) -> None:
        """Answers with an error, unless it has been answered."""

    def variant(self, exchange: Exchange) -> str:
        """What the answer depends on beside the version and the decoded request."""

    def successor(self, served: Served) -> Served | None:
        """The version that answers what was decoded for `served`, now; `None` where none fits."""


class Tiers:
    """What all endpoints of a process share: where answers are kept beside each one's memory."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        machine: MachineCache | None = None,
        remote: Remote | None = None,
        digest: DigestFunction = digest_of_key,
    ) -> None:
        self.clock = clock
        self.machine = machine
        self.remote = remote
        self.digest = digest


class Flight:
    """One computation that several may wait for. `Exchange.flight` of its leader and followers."""

    __slots__ = ("_cache", "digest", "followers", "key", "leader", "outputs", "served")

    def __init__(
        self, cache: "ResponseCache", digest: bytes, key: bytes, served: Served, outputs: tuple[str, ...]
    ) -> None:
        self.digest = digest
        self.key = key
        self.served = served
        self.outputs = outputs
        self.leader: Exchange | None = None
        """`None` while a follower is about to take its place."""
        self.followers: list[tuple[Exchange, asyncio.TimerHandle]] = []
        """Each with the timer of its deadline."""
        self._cache = cache

    def left(self, exchange: Exchange) -> None:
        """That exchange is over without having been answered from here: late, refused, failed, or its client gone."""
        if exchange is self.leader:
            self.leader = None
            self._cache.leaderless(self)

    def computed(self, outputs: Sequence[Tensor]) -> None:
        """The leader's outputs have come, all of the signature, in its order."""
        self._cache.computed(self, outputs)


class ResponseCache:
    """The cache of one endpoint."""

    def __init__(
        self, endpoint: Endpoint, caching: Caching, tiers: Tiers, measures: Measures, downstream: Downstream
    ) -> None:
        self._namespace, self._name = endpoint.key
        self._tiers = tiers
        self._measures = measures
        self._downstream = downstream
        self._loop = asyncio.get_running_loop()
        self._memory = Memory(caching.bytes_max)
        self._machine: MachineTier | None = None
        self._flights: dict[bytes, Flight] = {}
        self._lookups: set[asyncio.Task[None]] = set()
        self.update(caching)

    def take(self, exchange: Exchange, served: Served) -> None:
        """A decoded request: answered, made to wait for the same one, or queued.

        Raises `HttpError` where the queue refuses it.
        """
        request = exchange.decoded
        assert request is not None, "what comes here is decoded"
        outputs = wanted_outputs(request, served.signature)
        key = key_of(exchange.tenant, served.digest, outputs, request, self._downstream.variant(exchange))
        digest = self._tiers.digest(key)
        entry = self._memory.get(digest, self._tiers.clock())
        if entry is not None:
            if entry.key == key:
                self._hit("memory", exchange, served, entry)
                return
            self._measures.cached("collision")
        flight = self._flights.get(digest)
        if flight is None:
            flight = self._flights[digest] = Flight(self, digest, key, served, outputs)
            self._lead(flight, exchange)
        elif flight.key == key:
            self._follow(flight, exchange)
        else:
            self._measures.cached("collision")
            self._measures.cached("miss")
            self._downstream.enqueue(exchange, served)

    @property
    def bytes_used(self) -> int:
        """Bytes of memory."""
        return self._memory.bytes

    @property
    def machine_bytes(self) -> int:
        """Bytes in the tier of this machine, of all its gateway processes."""
        return self._machine.bytes_used if self._machine is not None else 0

    # What changes

    def update(self, caching: Caching) -> None:
        """The endpoint's settings are these from now on."""
        self._caching = caching
        self._memory.resize(caching.bytes_max)
        machine = self._tiers.machine
        if machine is not None and caching.machine_bytes_max:
            self._machine = machine.tier(self._namespace, self._name, caching.machine_bytes_max)
        elif machine is not None and self._machine is not None:
            machine.forget(self._namespace, self._name)
            self._machine = None

    def keep_models(self, digests: Collection[str]) -> None:
        """Only these get traffic: what others answered is freed."""
        self._memory.keep_models(digests)
        if self._machine is not None and self._tiers.machine is not None:
            self._tiers.machine.keep_models(self._machine, digests)

    def close(self, error: HttpError) -> None:
        """There is no cache any more: who waits for another's answer is told so, and all is freed."""
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            if flight.leader is not None:
                flight.leader.flight = None
            for exchange in _landed(flight):
                self._downstream.refuse(exchange, error)
        self._memory.clear()
        if self._tiers.machine is not None:
            self._tiers.machine.forget(self._namespace, self._name)

    # Leaders and followers

    def _lead(self, flight: Flight, exchange: Exchange) -> None:
        """Looks into the shared tiers, then queues. Raises `HttpError`."""
        flight.leader, exchange.flight = exchange, flight
        served, now = flight.served, self._tiers.clock()
        if self._machine is not None:
            entry = self._machine.get(flight.digest, served.digest, now)
            if entry is not None and self._is_for(entry, flight):
                self._found("machine", flight, entry)
                return
        remote = self._tiers.remote
        if remote is not None and self._caching.remote and remote.is_up:
            task = self._loop.create_task(self._look_up(remote, flight, exchange))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)
            return
        self._measures.cached("miss")
        try:
            self._downstream.enqueue(exchange, served)
        except HttpError:
            exchange.flight = None
            flight.leader = None
            self.leaderless(flight)
            raise

    async def _look_up(self, remote: Remote, flight: Flight, exchange: Exchange) -> None:
        timer = self._loop.call_later(exchange.deadline_s - self._tiers.clock(), self._late, exchange)
        entry = await remote.get(self._place(flight))
        timer.cancel()
        if flight.leader is not exchange:
            return  # it has gone, and another looks
        if entry is not None and self._is_for(entry, flight):
            self._found("remote", flight, entry)
            return
        self._measures.cached("miss")
        try:
            self._downstream.enqueue(exchange, flight.served)
        except HttpError as error:
            self._downstream.refuse(exchange, error)

    def _follow(self, flight: Flight, exchange: Exchange) -> None:
        exchange.flight = flight
        timer = self._loop.call_later(exchange.deadline_s - self._tiers.clock(), self._late, exchange)
        flight.followers.append((exchange, timer))

    def _late(self, exchange: Exchange) -> None:
        waited_ms = 1000 * (exchange.deadline_s - exchange.came_s)
        message = f"no answer within the request's time of {waited_ms:.0f} ms"
        self._downstream.refuse(exchange, HttpError(504, message, "timeout"))

    def leaderless(self, flight: Flight) -> None:
        """The leader has ended without an answer: the next takes its place, once this event is dealt with."""
        if flight.followers:
            self._loop.call_soon(self._promote, flight)
        else:
            self._end(flight)

    def _promote(self, flight: Flight) -> None:
        self._end(flight)
        served = self._downstream.successor(flight.served)
        for exchange in _landed(flight):
            try:
                if served is None:
                    message = "the version was replaced while the request waited; send it again"
                    raise HttpError(503, message, "unavailable", retry_after_s=1.0)
                self.take(exchange, served)
            except HttpError as error:
                self._downstream.refuse(exchange, error)

    def _end(self, flight: Flight) -> None:
        if self._flights.get(flight.digest) is flight:
            del self._flights[flight.digest]

    # Answers

    def computed(self, flight: Flight, outputs: Sequence[Tensor]) -> None:
        """Keeps the leader's outputs, and answers its followers. The leader is answered by the service."""
        by_name = {tensor.name: tensor for tensor in outputs}
        now, ttl_s = self._tiers.clock(), self._caching.ttl_s
        wanted = [by_name[name] for name in flight.outputs]
        entry = entry_of(flight.key, flight.served.digest, wanted, now + ttl_s)
        self._memory.put(flight.digest, entry)
        if self._machine is not None and self._tiers.machine is not None:
            self._tiers.machine.put(self._machine, flight.digest, entry)
        if self._tiers.remote is not None and self._caching.remote:
            self._tiers.remote.put(self._place(flight), entry, ttl_s)
        if flight.leader is not None:
            flight.leader.flight = None
            flight.leader = None
        self._answer_followers(flight, entry)

    def _found(self, tier: str, flight: Flight, entry: Entry) -> None:
        """A shared tier had it."""
        self._memory.put(flight.digest, entry)
        leader, flight.leader = flight.leader, None
        if leader is not None:
            leader.flight = None
            self._hit(tier, leader, flight.served, entry)
        self._answer_followers(flight, entry)

    def _answer_followers(self, flight: Flight, entry: Entry) -> None:
        self._end(flight)
        for exchange in _landed(flight):
            self._hit("flight", exchange, flight.served, entry)

    def _hit(self, tier: str, exchange: Exchange, served: Served, entry: Entry) -> None:
        self._measures.cached(tier)
        found = entry.tensors()
        missing = Tensor("", "BOOL", (0,), b"")
        outputs = [found.get(spec.name, missing) for spec in served.signature.outputs]
        self._downstream.succeed(exchange, served, outputs)

    def _is_for(self, entry: Entry, flight: Flight) -> bool:
        if entry.key == flight.key:
            return True
        self._measures.cached("collision")
        return False

    def _place(self, flight: Flight) -> str:
        return place_of(self._namespace, self._name, flight.served.digest, flight.digest)


def _landed(flight: Flight) -> list[Exchange]:
    """The followers that still wait, who are followers no more."""
    followers, flight.followers = flight.followers, []
    waiting = []
    for exchange, timer in followers:
        timer.cancel()
        exchange.flight = None
        if not exchange.done:
            waiting.append(exchange)
    return waiting
