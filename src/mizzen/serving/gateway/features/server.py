"""The feature server: vectors without a model.

    POST [/namespaces/NS]/v1/features/SERVICE      a FeatureView, or an InferenceEndpoint that looks features up
    POST [/namespaces/NS]/get-online-features      features of any views, as Feast has it

Who asks needs an API key whose `features` name every view that is read: the key of an endpoint opens its answers, and
not what they are made of. What is asked for the first time is opened then, and kept open.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from mizzen.data.features.errors import FeatureError
from mizzen.serving.gateway.directory import Endpoint, EndpointKey, ViewUse
from mizzen.serving.gateway.directory import Lookup as Wanted
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import JSON_HEADERS, Exchange, HeaderMap, Headers, Reply
from mizzen.serving.gateway.features.answers import (
    Asked,
    FeastAsked,
    Vectors,
    decoded,
    decoded_feast,
    encoded,
    encoded_feast,
)
from mizzen.serving.gateway.features.functions import Functions
from mizzen.serving.gateway.features.lookup import Entity, Looked, Read
from mizzen.serving.gateway.features.source import FeatureSource
from mizzen.serving.gateway.features.stage import Stage
from mizzen.serving.gateway.measures import Measures, VersionMeasures
from mizzen.serving.gateway.served import Served
from mizzen.serving.oip import error_body

ROWS_MAX = 10_000
TIMEOUT_S = 30.0
SERVICES_OPEN = 256
"""Those asked last stay open."""
Write = Callable[[Sequence[Vectors]], tuple[Headers, bytes]]


class FeaturesExchange(Exchange):
    """A request for vectors."""

    __slots__ = ("columns", "reply", "wanted", "write_vectors")

    def __init__(
        self, reply: Reply, columns: dict[str, list[Any]], wanted: Sequence[str], write: Write, now: float
    ) -> None:
        super().__init__(now, now + TIMEOUT_S)
        self.reply, self.columns, self.wanted, self.write_vectors = reply, columns, wanted, write

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def refuse(self, error: HttpError) -> None:
        self.reply.response_bytes(error.status, [*JSON_HEADERS, *error.headers], error_body(error.message))
        self.abandon()


class Serving:
    """One service: views that are read together. It is a `source.Looking`."""

    def __init__(self, endpoint: Endpoint, measures: Measures, clock: Callable[[], float]) -> None:
        self.endpoint, self.measures, self._clock = endpoint, measures, clock
        self._stage: Stage | None = None
        self._problem: str | None = None
        self._waiting: deque[FeaturesExchange] = deque()
        self._counted = VersionMeasures()
        """Told nowhere: a service has one version, and its numbers are the service's."""
        self._functions: dict[tuple[str, ...], list[tuple[int, Functions]]] = {}

    def look_up(self, stage: Any, problem: str | None) -> None:
        if stage is not None:
            self._stage, self._problem = stage, None
            self._functions.clear()
        else:
            self._problem = problem
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            self.accept(exchange)

    def onward(self, exchange: Exchange, served: Served) -> None:
        raise NotImplementedError("nothing goes from here to a model")

    def accept(self, exchange: FeaturesExchange) -> None:
        """Answers, now or later."""
        stage = self._stage
        if exchange.done:
            return
        if stage is None:
            if self._problem is None:
                self._waiting.append(exchange)
            else:
                self._refuse(exchange, HttpError(503, self._problem, "unavailable", retry_after_s=1.0))
            return
        try:
            entities = [_entities(looked, exchange) for looked in stage.lookup.views]
            if stage.reads.at_once:
                self._read(exchange, stage, stage.lookup.read(entities))
            else:
                stage.reads.ask(stage.lookup, entities, None, lambda found: self._read(exchange, stage, found))
        except FeatureError as error:
            self._refuse(exchange, HttpError(400, str(error), "bad_request"))
        except HttpError as error:
            self._refuse(exchange, error)

    def leave(self, exchange: Exchange) -> None:
        """The client has gone."""
        exchange.abandon()
        self.measures.outcome("cancelled")

    def _read(self, exchange: FeaturesExchange, stage: Stage, found: list[Read] | HttpError) -> None:
        if exchange.done:
            return
        if isinstance(found, HttpError):
            self._refuse(exchange, found)
            return
        try:
            functions = self._functions_for(stage, exchange.wanted)
            made: dict[int, dict[str, pa.Array]] = {}

            def given(name: str) -> pa.Array:
                if name not in exchange.columns:
                    raise HttpError(400, f"entities: expected the column {name}, which functions take", "bad_request")
                return pa.array(exchange.columns[name])

            def then(at: int, names: Sequence[str], result: Sequence[pa.Array] | HttpError) -> None:
                if exchange.done:
                    return
                if isinstance(result, HttpError):
                    self._refuse(exchange, result)
                    return
                made[at] = dict(zip(names, result, strict=True))
                if len(made) == len(functions):
                    self._answer(exchange, stage, found, made)

            for at, function in functions:
                names = function.wanted
                function.call(stage.lookup.views, found, given, exchange, partial(then, at, names))
            if not functions:
                self._answer(exchange, stage, found, made)
        except HttpError as error:
            self._refuse(exchange, error)
        except FeatureError as error:
            self._refuse(exchange, HttpError(400, str(error), "bad_request"))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            self._refuse(exchange, HttpError(400, f"entities: expected values of one type: {error}", "bad_request"))

    def _functions_for(self, stage: Stage, wanted: Sequence[str]) -> list[tuple[int, Functions]]:
        """The functions of the wanted features, by view. Raises `FeatureError`."""
        key = tuple(wanted)
        if key not in self._functions:
            views, found = stage.lookup.views, []
            for at, looked in enumerate(views):
                names = [name for name in looked.used.made if not wanted or name in wanted]
                if names:
                    asking = stage.functions(stage.namespace, looked.used.use.view, looked.digest)
                    found.append((at, Functions(looked, names, views, asking)))
            if len(self._functions) > SERVICES_OPEN:
                self._functions.clear()
            self._functions[key] = found
        return self._functions[key]

    def _answer(
        self, exchange: FeaturesExchange, stage: Stage, reads: Sequence[Read], made: dict[int, dict[str, pa.Array]]
    ) -> None:
        views = stage.lookup.views
        known = {name for looked in views for name in (*looked.used.names, *looked.used.made)}
        try:
            if unknown := sorted({*exchange.wanted} - known):
                there = ", ".join(sorted(known))
                raise HttpError(400, f"features: expected some of {there}, found {', '.join(unknown)}", "bad_request")
            vectors = [
                Vectors(looked, read, made.get(at, {}), exchange.wanted)
                for at, (looked, read) in enumerate(zip(views, reads, strict=True))
            ]
            headers, body = exchange.write_vectors(vectors)
        except HttpError as error:
            self._refuse(exchange, error)
            return
        exchange.reply.response_bytes(200, headers, body)
        exchange.abandon()
        self.measures.answered(exchange.rows, self._clock() - exchange.came_s, self._counted)

    def _refuse(self, exchange: FeaturesExchange, error: HttpError) -> None:
        self.measures.outcome(error.outcome)
        exchange.refuse(error)


def _entities(looked: Looked, exchange: FeaturesExchange) -> list[Entity]:
    """The keys of each row. Raises `HttpError` where one is not given."""
    columns = []
    for name in looked.used.keys:
        if name not in exchange.columns:
            there = ", ".join(exchange.columns) or "nothing"
            raise HttpError(400, f"entities: expected the key {name}, found {there}", "bad_request")
        columns.append(exchange.columns[name])
    return list(zip(*columns, strict=True))


class FeatureServer:
    """All services of a gateway."""

    def __init__(
        self,
        source: FeatureSource,
        admit: Callable[[HeaderMap, str, Sequence[str]], None],
        endpoint_named: Callable[[EndpointKey], Endpoint | None],
        measures_of: Callable[[EndpointKey], Measures],
        clock: Callable[[], float],
    ) -> None:
        """`admit` raises `HttpError` where a caller may not read these views of a namespace."""
        self._source, self._admit, self._clock = source, admit, clock
        self._endpoint_named, self._measures_of = endpoint_named, measures_of
        self._open: OrderedDict[tuple[str, str], tuple[Wanted, Serving]] = OrderedDict()

    def ask(
        self, namespace: str, service: str, headers: HeaderMap, body: bytes, reply: Reply
    ) -> FeaturesExchange | None:
        """Our own route. Answers, or returns the exchange that is answered later. Raises `HttpError`."""
        wanted = self._service(namespace, service)
        self._admit(headers, namespace, [use.view for use in wanted.views])
        asked: Asked = decoded(body)
        exchange = FeaturesExchange(
            reply, asked.entities, asked.features, lambda vectors: encoded(vectors, asked), self._clock()
        )
        return self._take(namespace, service, wanted, exchange)

    def ask_feast(self, namespace: str, headers: HeaderMap, body: bytes, reply: Reply) -> FeaturesExchange | None:
        """Feast's route, likewise."""
        asked: FeastAsked = decoded_feast(body)
        if asked.feature_service is not None:
            name, wanted = asked.feature_service, self._service(namespace, asked.feature_service)
        else:
            name, wanted = ",".join(sorted({f.partition(":")[0] for f in asked.features})), _of_feast(asked)
        self._admit(headers, namespace, [use.view for use in wanted.views])
        for use in wanted.views:
            if (namespace, use.view) not in self._source.views:
                raise HttpError(404, f"no FeatureView {use.view} in namespace {namespace}", "not_found")
        features = [feature.partition(":")[2] for feature in asked.features]
        exchange = FeaturesExchange(
            reply, asked.entities, features, lambda vectors: encoded_feast(asked, vectors), self._clock()
        )
        return self._take(namespace, name, wanted, exchange)

    def _service(self, namespace: str, name: str) -> Wanted:
        """Raises `HttpError` where there is none of that name."""
        endpoint = self._endpoint_named((namespace, name))
        if endpoint is not None and endpoint.features is not None:
            return endpoint.features
        if (namespace, name) in self._source.views:
            return Wanted((ViewUse(name, missing="empty", stale="empty"),))
        raise HttpError(
            404, f"no FeatureView {name} in namespace {namespace}, and no endpoint that looks features up", "not_found"
        )

    def _take(self, namespace: str, name: str, wanted: Wanted, exchange: FeaturesExchange) -> FeaturesExchange | None:
        lengths = {len(values) for values in exchange.columns.values()}
        if len(lengths) != 1 or exchange.rows == 0:
            raise HttpError(400, "entities: expected columns of one length, at least 1", "bad_request")
        if exchange.rows > ROWS_MAX:
            raise HttpError(413, f"entities: expected at most {ROWS_MAX} rows, got {exchange.rows}", "too_large")
        serving = self._serving(namespace, name, wanted)
        serving.accept(exchange)
        if exchange.done:
            return None
        exchange.on_leave = serving.leave
        return exchange

    def _serving(self, namespace: str, name: str, wanted: Wanted) -> Serving:
        key = (namespace, f"features/{name}")
        found = self._open.get(key)
        if found is not None and found[0] == wanted:
            self._open.move_to_end(key)
            return found[1]
        made = Serving(Endpoint(*key, features=wanted), self._measures_of(key), self._clock)
        self._open[key] = (wanted, made)
        self._source.endpoint_changed(made)
        while len(self._open) > SERVICES_OPEN:
            gone, _ = self._open.popitem(last=False)
            self._source.endpoint_gone(gone)
        return made


def _of_feast(asked: FeastAsked) -> Wanted:
    """The views of `view:feature`, … . Raises `HttpError`."""
    views: dict[str, None] = {}
    for name in asked.features:
        view, colon, feature = name.partition(":")
        if not (view and colon and feature):
            raise HttpError(400, f"features: expected view:feature, got {name!r}", "bad_request")
        views[view] = None
    if not views:
        raise HttpError(400, "features: expected at least one, or feature_service", "bad_request")
    return Wanted(tuple(ViewUse(view, prefix=f"{view}__", missing="empty", stale="empty") for view in views))
