"""The station of an exchange between decoding and the cache: keys become vectors, and those the model's inputs.

What the request gave is kept (`InferenceRequest.given`), for the prediction log. A store in this machine's memory is
read at once. One elsewhere is read on a thread: while one read is on its way, requests gather, and all of them go in
the next.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import NamedTuple, Protocol

import pyarrow as pa

from mizzen.data.features.errors import FeatureError, RequestUnfit, StoreUnavailable
from mizzen.data.features.events import us_of
from mizzen.data.features.online.store import OnlineStore
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.features.assembling import Assembly, values_of
from mizzen.serving.gateway.features.columns import Plan, planned
from mizzen.serving.gateway.features.functions import Functions
from mizzen.serving.gateway.features.lookup import Entity, Lookup, Read
from mizzen.serving.gateway.features.source import FunctionsOf
from mizzen.serving.gateway.measures import SECONDS_BUCKETS, Measures
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import InferenceRequest
from mizzen.serving.tensors import Signature

Then = Callable[[list[Read] | HttpError], None]
RETRY_S = 1.0
ARROW = {
    "INT64": pa.int64(), "FP64": pa.float64(), "FP32": pa.float32(), "BOOL": pa.bool_(), "BYTES": pa.string(),
}  # fmt: skip
"""What columns of a request are to a function."""


class Onward(Protocol):
    """Where an exchange goes from here, and who ends one that goes nowhere."""

    def onward(self, exchange: Exchange, served: Served) -> None:
        """Raises `HttpError` where it is refused."""

    def serves(self, served: Served) -> bool:
        """Whether that version is still there."""

    def refuse(self, exchange: Exchange, error: HttpError) -> None: ...


class Reads:
    """How a store is read: at once, or on a thread with what gathered meanwhile."""

    def __init__(self, store: OnlineStore, *, at_once: bool, executor: Executor | None = None) -> None:
        """`executor` has the threads; `None`: the event loop's."""
        self._store, self.at_once, self._executor = store, at_once, executor
        self._waiting: list[_Asked] = []
        self._reading = False

    def ask(self, lookup: Lookup, entities: Sequence[Sequence[Entity]], at_us: int | None, then: Then) -> None:
        """Calls `then` with what was read or why not, on a later turn of the event loop. Raises `RequestUnfit`."""
        self._waiting.append(_Asked(lookup, entities, lookup.asked(entities), at_us, then))
        if not self._reading:
            self._reading = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            self._reading = False
            return
        flat = [key for asked in batch for part in asked.keys for key in part]
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                stored: list[bytes | None] | StoreUnavailable = self._store.get(flat)
            except StoreUnavailable as error:
                stored = error
            loop.call_soon_threadsafe(self._done, batch, stored)

        loop.run_in_executor(self._executor, read)

    def _done(self, batch: Sequence["_Asked"], stored: list[bytes | None] | StoreUnavailable) -> None:
        """Each goes on in a turn of its own, so that what one raises is not felt by the others."""
        loop, start = asyncio.get_running_loop(), 0
        for asked in batch:
            stop = start + sum(map(len, asked.keys))
            loop.call_soon(self._tell, asked, stored if isinstance(stored, StoreUnavailable) else stored[start:stop])
            start = stop
        loop.call_soon(self._next)

    def _tell(self, asked: "_Asked", stored: list[bytes | None] | StoreUnavailable) -> None:
        lookup, entities, keys, at_us, then = asked
        try:
            if isinstance(stored, StoreUnavailable):
                found: list[Read] | None = lookup.without(entities, stored)
            else:
                found = lookup.found(entities, keys, stored, at_us)
        except HttpError as error:
            then(error)
            return
        if found is None:  # a view was filled anew: with the keys of now
            self.ask(lookup, entities, at_us, then)
        else:
            then(found)


class _Asked(NamedTuple):
    """A read that waits."""

    lookup: Lookup
    entities: Sequence[Sequence[Entity]]
    keys: Sequence[Sequence[bytes]]
    at_us: int | None
    then: Then


@dataclass(frozen=True, slots=True)
class Stage:
    """What one endpoint looks up, with everything opened."""

    namespace: str
    lookup: Lookup
    reads: Reads
    types: Mapping[str, str]
    time: str | None
    """The column of requests that says when they are asked."""
    functions: FunctionsOf
    measures: Measures
    clock: Callable[[], float]

    def bound(self, model: Signature, to: Onward) -> "Bound":
        """For a model of that signature. Raises `FeatureError` where its inputs cannot be made."""
        views = self.lookup.views
        plan = planned(model, [looked.used for looked in views], self.types, self.time)
        functions = [
            Functions(one, wanted, views, self.functions(self.namespace, one.used.use.view, one.digest))
            for one, wanted in zip(views, plan.made, strict=True)
            if wanted
        ]
        return Bound(self, plan, functions, to)


class Bound:
    """The stage of one version."""

    def __init__(self, stage: Stage, plan: Plan, functions: Sequence[Functions], to: Onward) -> None:
        self.asked = plan.asked
        """What requests carry."""
        self._stage, self._plan, self._functions, self._to = stage, plan, functions, to
        self._assembly = Assembly(plan, [looked.reader for looked in stage.lookup.views])

    def take(self, exchange: Exchange, served: Served) -> None:
        """Looks up for a decoded exchange, and sends it onward, now or later. Raises `HttpError`."""
        decoded = exchange.decoded
        assert decoded is not None, "what comes here was decoded"
        stage = self._stage
        began_s = stage.clock()
        try:
            entities, at_us = self.entities(decoded), self.moment_us(decoded)
            if not stage.reads.at_once:
                stage.reads.ask(
                    stage.lookup, entities, at_us, lambda found: self._read(exchange, served, found, began_s)
                )
                return
            reads = stage.lookup.read(entities, at_us)
        except FeatureError as error:
            raise HttpError(400, str(error), "bad_request") from error
        if self._functions:
            self._call(exchange, served, reads, began_s)
        else:
            self._complete(exchange, served, reads, (), began_s)

    def entities(self, decoded: InferenceRequest) -> list[list[Entity]]:
        """For each view, the keys of each row."""
        columns: dict[int, list[object]] = {}
        for places in self._plan.entities:
            for at in places:
                if at not in columns:
                    columns[at] = values_of(decoded.inputs[at])
        return [list(zip(*(columns[at] for at in places), strict=True)) for places in self._plan.entities]

    def moment_us(self, decoded: InferenceRequest) -> int | None:
        """When it is asked; `None`: now. Raises `RequestUnfit`."""
        if self._plan.moment is None:
            return None
        tensor = decoded.inputs[self._plan.moment]
        moments = dict.fromkeys(values_of(tensor))
        if len(moments) != 1:
            raise RequestUnfit(
                f"{tensor.name}: expected one moment for all rows of a request, found {len(moments)}; send them apart"
            )
        text = str(next(iter(moments)))
        try:
            return us_of(datetime.fromisoformat(text))
        except ValueError as error:
            raise RequestUnfit(
                f"{tensor.name}: expected a time with a zone such as 2026-01-31T12:00:00Z, found {text!r}"
            ) from error

    def _read(self, exchange: Exchange, served: Served, found: list[Read] | HttpError, began_s: float) -> None:
        """What was read on a thread is here."""
        if exchange.done:
            return
        if isinstance(found, HttpError):
            self._to.refuse(exchange, found)
        elif self._functions:
            self._call(exchange, served, found, began_s)
        else:
            self._complete_later(exchange, served, found, (), began_s)

    def _call(self, exchange: Exchange, served: Served, reads: list[Read], began_s: float) -> None:
        """Has the features of the request computed, those of all views at once."""
        decoded = exchange.decoded
        assert decoded is not None, "what comes here was decoded"
        made: dict[int, Sequence[pa.Array]] = {}

        def then(number: int, found: Sequence[pa.Array] | HttpError) -> None:
            if exchange.done:
                return
            if isinstance(found, HttpError):
                self._to.refuse(exchange, found)
                return
            made[number] = found
            if len(made) == len(self._functions):
                columns = [column for at in sorted(made) for column in made[at]]
                self._complete_later(exchange, served, reads, columns, began_s)

        by_name = {tensor.name: tensor for tensor in decoded.inputs}

        def given(name: str) -> pa.Array:
            return pa.array(values_of(by_name[name]), ARROW[by_name[name].datatype])

        for number, functions in enumerate(self._functions):
            functions.call(self._stage.lookup.views, reads, given, exchange, partial(then, number))

    def _complete_later(
        self, exchange: Exchange, served: Served, reads: list[Read], made: Sequence[pa.Array], began_s: float
    ) -> None:
        """What was waited for is here."""
        try:
            if not self._to.serves(served):
                message = f"version {served.version.version} was replaced while features were looked up; send it again"
                raise HttpError(503, message, "unavailable", retry_after_s=RETRY_S)
            self._complete(exchange, served, reads, made, began_s)
        except HttpError as error:
            self._to.refuse(exchange, error)

    def _complete(
        self, exchange: Exchange, served: Served, reads: list[Read], made: Sequence[pa.Array], began_s: float
    ) -> None:
        """Makes the model's inputs, and sends the exchange onward. Raises `HttpError`."""
        decoded = exchange.decoded
        assert decoded is not None, "what comes here was decoded"
        given = decoded.inputs
        decoded.inputs = self._assembly.inputs(reads, made, given, decoded.rows)
        decoded.given = given
        self._stage.measures.features_s.add(SECONDS_BUCKETS, self._stage.clock() - began_s)
        self._to.onward(exchange, served)
