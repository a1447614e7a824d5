"""The heart of a gateway process: paths to services, callers to verdicts, the directory to both.

`handle` is called once for each HTTP request, with its whole body, and answers at once or leaves an exchange that a
service answers later. It knows nothing of the HTTP server, and reads no clock but the one it is given. gRPC's calls
(`grpc.calls`) come by `admitted` and `deadline_s`, and see the same callers, limits and queues.

Paths are looked up in a table that holds every path at which inference is answered now, with the form of exchange that
is spoken there. Only what is not found there is taken apart, to say what is wrong with it, or because it asks for
something else than inference.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mizzen.serving.gateway import pages, rest
from mizzen.serving.gateway.cache.responses import Tiers
from mizzen.serving.gateway.directory import ApiKey, Endpoint, EndpointKey, View, Worker
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import JSON_HEADERS, Exchange, HeaderMap, HttpExchange, Reply
from mizzen.serving.gateway.features.source import FeatureServer, FeatureSource
from mizzen.serving.gateway.features.workers import FunctionWorkers
from mizzen.serving.gateway.identity import Keyring, Verdict, shown_key
from mizzen.serving.gateway.link import Link, Owner
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.observer import Observer
from mizzen.serving.gateway.parts import GenerateExchange, GenerateStreamExchange
from mizzen.serving.gateway.paths import FEATURES, Asked, inference_paths, parse_path
from mizzen.serving.gateway.recorder import Recorder
from mizzen.serving.gateway.rows import RowsExchange
from mizzen.serving.gateway.service import Service
from mizzen.serving.gateway.streams import Streams
from mizzen.serving.gateway.trace_settings import TraceSettings
from mizzen.serving.oip import error_body

log = logging.getLogger("mizzen.gateway")
Form = Callable[[Reply, bytes, int | None, float, float], Exchange]
_encode = msgspec.json.Encoder().encode
FORMS: dict[str, Form] = {
    "infer": HttpExchange, "predict": RowsExchange, "generate": GenerateExchange,
    "generate_stream": GenerateStreamExchange,
}  # fmt: skip
"""How requests are read and answered, by what is asked (`paths.inference_paths`)."""
ENDPOINTS_MEASURED_MAX = 1000
"""Endpoints with series of their own in the metrics; those that come later share one."""
OTHERS: EndpointKey = ("_other", "_other")


class Gateway:
    """All endpoints as one process serves them. It is the `directory.Listener`."""

    def __init__(
        self,
        clock: Callable[[], float],
        connect: Callable[[Worker, Owner], Link] = Link,
        tiers: Tiers | None = None,
        log_folder: Path | None = None,
        observer: Observer | None = None,
        features: FeatureSource | None = None,
    ) -> None:
        self.clock = clock
        self.features = features if features is not None else FeatureSource(None, clock)
        """What endpoints look up."""
        self._functions = FunctionWorkers(clock, connect, self._known_workers, self.measures_of)
        self.features.functions_of = self._functions.of
        self._feature_server: FeatureServer | None = None
        """Made when it is first asked."""
        self._connect = connect
        self._tiers = tiers if tiers is not None else Tiers(clock)
        self._observer = observer
        """Traces, and the access log; `None`: neither."""
        self._log_folder = log_folder
        """Of the prediction log's rings; `None`: nothing is logged, whatever endpoints say."""
        self.synced_once = asyncio.Event()
        """Set when the directory has told everything there was."""
        self.keyring = Keyring()
        self.services: dict[EndpointKey, Service] = {}
        self.measures: dict[EndpointKey, Measures] = {}
        """Kept when an endpoint goes: what was counted was counted."""
        self.refusals: dict[str, int] = {}
        """Requests that belong to no endpoint, by why they were refused."""
        self.on_starved: Callable[[Service], None] | None = None
        """Called when requests wait at an endpoint without workers."""
        self.traces = TraceSettings(0.0) if observer is None else observer.settings
        """Which requests are traced."""
        self.totals: pages.Totals = lambda key: self.measures.get(key, Measures())
        """What all processes counted; this one's alone until it is told better."""
        self._inference: dict[str, tuple[Service, int | None, Form, Service | Streams]] = {}
        self._workers_of: dict[EndpointKey, dict[str, Worker]] = {}
        """Those known, whether or not their endpoint is known yet."""
        self._endpoint_of: dict[str, EndpointKey] = {}
        """By a worker's uid."""

    # Requests

    def handle(self, method: str, path: str, headers: HeaderMap, body: bytes, reply: Reply) -> Exchange | None:
        """Answers, or returns the exchange that will be answered later."""
        measures: Measures | None = None
        try:
            target = self._inference.get(path)
            if target is None or method != "POST":
                return self._other(method, path, headers, body, reply)
            service, pinned, form, taker = target
            tenant = "" if service.endpoint.anonymous else self._admit(headers, service.key)
            measures = service.measures
            now = self.clock()
            json_size = headers.get("inference-header-content-length")
            if json_size is not None and not (json_size.isascii() and json_size.isdigit() and len(json_size) < 18):
                raise HttpError(
                    400, f"Inference-Header-Content-Length: expected a number, got {json_size!r}", "bad_request"
                )
            size = None if json_size is None else int(json_size)
            exchange = form(reply, body, size, now, self.deadline_s(service, headers, now))
            exchange.pinned, exchange.tenant = pinned, tenant
        except HttpError as error:
            self.refuse(reply, error, measures)
            return None
        self.give(exchange, service, taker, headers, path)
        return None if exchange.done else exchange

    def give(
        self, exchange: Exchange, service: Service, taker: Service | Streams, headers: HeaderMap, path: str
    ) -> None:
        """Has a request taken, and tells who observes it. It may be answered at once."""
        if service.by_unit:
            exchange.unit = headers.get("mizzen-unit")
        if self._observer is not None:
            self._observer.begin(exchange, headers, service.endpoint.key, path)
        taker.accept(exchange)
        if not exchange.done:
            exchange.on_leave = taker.leave

    def admitted(self, key: EndpointKey, headers: HeaderMap) -> tuple[Service, str]:
        """The endpoint of that name, and who calls. Raises `HttpError` where there is none, or they may not know."""
        service = self.services.get(key)
        tenant = "" if service is not None and service.endpoint.anonymous else self._admit(headers, key)
        if service is None:
            raise self._not_found(key)
        return service, tenant

    def expect_key_of_all(self, namespace: str, headers: HeaderMap) -> None:
        """Raises `HttpError` where the caller's key is not for all endpoints of the namespace."""
        verdict, _ = self.keyring.judge(
            shown_key(headers.get("authorization"), headers.get("x-api-key")), (namespace, "")
        )
        if verdict is not Verdict.ALLOWED:
            raise self._turned_away(verdict, f"the API key is not for all endpoints of namespace {namespace}")

    def deadline_s(self, service: Service, headers: HeaderMap, now: float, remaining_s: float | None = None) -> float:
        """When a request that comes now is late. Raises `HttpError`."""
        timeout_s = service.endpoint.timeout_s
        asked_ms = headers.get("request-timeout-ms")
        if asked_ms is not None:
            if not (asked_ms.isascii() and asked_ms.isdigit() and len(asked_ms) < 18 and int(asked_ms)):
                raise HttpError(
                    400, f"Request-Timeout-Ms: expected milliseconds, at least 1, got {asked_ms!r}", "bad_request"
                )
            timeout_s = min(timeout_s, int(asked_ms) / 1000)
        if remaining_s is not None and remaining_s < timeout_s:
            timeout_s = remaining_s
        return now + timeout_s

    def refuse(self, reply: Reply, error: HttpError, measures: Measures | None = None) -> None:
        """Answers with an error and counts it."""
        reply.response_bytes(error.status, [*JSON_HEADERS, *error.headers], error_body(error.message))
        self.count_refusal(error, measures)

    def count_refusal(self, error: HttpError, measures: Measures | None) -> None:
        """An error at an endpoint, or of a caller who belongs to none."""
        if measures is not None:
            measures.outcome(error.outcome)
        else:
            self.refusals[error.outcome] = self.refusals.get(error.outcome, 0) + 1

    def _admit(self, headers: HeaderMap, endpoint: EndpointKey) -> str:
        """Returns the name of the caller's API key. Raises `HttpError` where it may not call."""
        key = shown_key(headers.get("authorization"), headers.get("x-api-key"))
        verdict, tenant = self.keyring.judge(key, endpoint)
        if verdict is Verdict.ALLOWED:
            return tenant
        if verdict is Verdict.FORBIDDEN and endpoint not in self.services:
            raise self._not_found(endpoint)
        raise self._turned_away(verdict, f"the API key is not for endpoint {endpoint[1]} of namespace {endpoint[0]}")

    def _turned_away(self, verdict: Verdict, message: str) -> HttpError:
        """What a caller is told who may not; `message` to those whose key is good for something else."""
        if not self.synced_once.is_set():
            return rest.not_synced()
        if verdict is Verdict.NO_KEY:
            shown = "expected an API key, as Authorization: Bearer KEY or X-API-Key: KEY"
            return HttpError(401, shown, "unauthenticated")
        if verdict is Verdict.UNKNOWN_KEY:
            return HttpError(401, "the API key is not known", "unauthenticated")
        return HttpError(403, message, "forbidden")

    def _not_found(self, endpoint: EndpointKey) -> HttpError:
        """That something is not there can be said only once everything that is there was told."""
        if not self.synced_once.is_set():
            return rest.not_synced()
        return HttpError(404, f"no endpoint {endpoint[1]} in namespace {endpoint[0]}", "not_found")

    def _other(self, method: str, path: str, headers: HeaderMap, body: bytes, reply: Reply) -> Exchange | None:
        asked = parse_path(path)
        if method not in asked.methods:
            raise HttpError(
                405, f"{path}: expected {' or '.join(asked.methods)}, got {method}", "bad_method",
                allow=", ".join(asked.methods),
            )  # fmt: skip
        if asked.what in FEATURES:
            return self._vectors(asked, headers, body, reply)
        reply.response_bytes(200, JSON_HEADERS, _encode(rest.answer(self, asked, headers, body)))
        return None

    def _vectors(self, asked: Asked, headers: HeaderMap, body: bytes, reply: Reply) -> Exchange | None:
        """What the feature server is asked."""
        if self._feature_server is None:
            self._feature_server = self.features.server(self.admit_reader, self._declared, self.measures_of)
        if asked.model is None:
            return self._feature_server.ask_feast(asked.namespace, headers, body, reply)
        return self._feature_server.ask(asked.namespace, asked.model, headers, body, reply)

    def admit_reader(self, headers: HeaderMap, namespace: str, views: Sequence[str]) -> None:
        """Raises `HttpError` where the caller may not read these FeatureViews."""
        key = shown_key(headers.get("authorization"), headers.get("x-api-key"))
        verdict = self.keyring.judge_reader(key, namespace, views)
        if verdict is not Verdict.ALLOWED:
            named = ", ".join(views)
            raise self._turned_away(verdict, f"the API key is not for the FeatureViews {named} of {namespace}")

    def _declared(self, key: EndpointKey) -> Endpoint | None:
        service = self.services.get(key)
        return service.endpoint if service is not None else None

    def visible(self, namespace: str, headers: HeaderMap) -> list[Service]:
        """The endpoints of a namespace that the caller may call, by name."""
        key = shown_key(headers.get("authorization"), headers.get("x-api-key"))
        return [
            service
            for found, service in sorted(self.services.items())
            if found[0] == namespace
            and (service.endpoint.anonymous or self.keyring.judge(key, found)[0] is Verdict.ALLOWED)
        ]

    # What the directory says

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        service = self.services.get(endpoint.key)
        if service is not None and (service.endpoint.graph is None) != (endpoint.graph is None):
            self.endpoint_gone(endpoint.key)
            service = None
        if service is None:
            service = self.services[endpoint.key] = self._made(endpoint)
            service.on_starved = self.on_starved
            for worker in self._workers_of.get(endpoint.key, {}).values():
                service.add_worker(worker)
        else:
            self._unmap(service.endpoint)
            service.record_with(self._recorder(endpoint, service.recorder, service.measures))
            service.update(endpoint)
        self.features.endpoint_changed(service)
        for path, number, what in inference_paths(endpoint):
            streams = what.startswith("generate") and endpoint.graph is None
            taker = service.streams if streams else service
            self._inference[path] = (service, number, FORMS[what], taker)
        self._refresh_graphs(endpoint.namespace)

    def endpoint_gone(self, key: EndpointKey) -> None:
        service = self.services.pop(key, None)
        if service is not None:
            self._unmap(service.endpoint)
            self.features.endpoint_gone(key)
            service.close()
            if service.recorder is not None:
                service.recorder.close()
            self._refresh_graphs(key[0])

    def _made(self, endpoint: Endpoint) -> Service:
        measures = self.measures_of(endpoint.key)
        recorder = self._recorder(endpoint, None, measures)
        if endpoint.graph is None:
            return Service(endpoint, self.clock, measures, self._connect, tiers=self._tiers, recorder=recorder)
        made: Service = _graphs().GraphService(
            endpoint, self.clock, measures, self._connect, tiers=self._tiers, recorder=recorder, neighbours=self
        )
        return made

    def _refresh_graphs(self, namespace: str) -> None:
        """An endpoint may be a node of another."""
        for service in list(self.services.values()):
            if service.endpoint.graph is not None and service.endpoint.namespace == namespace:
                service.refresh()

    def service_of(self, key: EndpointKey) -> Service | None:
        """That endpoint's service."""
        return self.services.get(key)

    def measured(self, key: EndpointKey) -> Service | None:
        """The service whose numbers are kept under that key: an endpoint's, or that of a model of a graph."""
        graph = self.services.get((key[0], key[1].partition("/")[0]))
        if graph is None or key == graph.key:
            return graph
        return next((node for node in graph.nodes if node.key == key), None)

    def measures_of(self, key: EndpointKey) -> Measures:
        """Where the numbers of that endpoint, or of that node of a graph, are kept."""
        known = key in self.measures or len(self.measures) < ENDPOINTS_MEASURED_MAX
        return self.measures.setdefault(key if known else OTHERS, Measures())

    def _known_workers(self, key: EndpointKey) -> list[Worker]:
        return list(self._workers_of.get(key, {}).values())

    def _service_of(self, key: EndpointKey) -> Service | None:
        """The endpoint's, or that of a view's functions."""
        return self.services.get(key) or self._functions.service(key)

    def _recorder(self, endpoint: Endpoint, old: Recorder | None, measures: Measures) -> Recorder | None:
        """Who notes the endpoint's requests, where it wants that."""
        if endpoint.logging is None or self._log_folder is None:
            if old is not None:
                old.close()
            return None
        if old is None:
            return Recorder(self._log_folder, endpoint, self.clock, measures=measures)
        old.update(endpoint)
        return old

    def worker_changed(self, worker: Worker) -> None:
        key = (worker.namespace, worker.endpoint)
        if self._endpoint_of.get(worker.uid, key) != key:
            self.worker_gone(worker.uid)
        self._endpoint_of[worker.uid] = key
        self._workers_of.setdefault(key, {})[worker.uid] = worker
        service = self._service_of(key)
        if service is not None:
            service.add_worker(worker)

    def worker_gone(self, uid: str) -> None:
        key = self._endpoint_of.pop(uid, None)
        if key is None:
            return
        workers = self._workers_of[key]
        del workers[uid]
        if not workers:
            del self._workers_of[key]
        service = self._service_of(key)
        if service is not None:
            service.remove_worker(uid)

    def _unmap(self, endpoint: Endpoint) -> None:
        for path, _, _ in inference_paths(endpoint):
            self._inference.pop(path, None)

    def view_changed(self, view: View) -> None:
        self.features.view_changed(view)

    def view_gone(self, key: EndpointKey) -> None:
        self.features.view_gone(key)

    def key_changed(self, name: str, key: ApiKey) -> None:
        self.keyring.put(name, key)

    def key_gone(self, name: str) -> None:
        self.keyring.remove(name)

    def synced(self) -> None:
        self.synced_once.set()


def _graphs() -> Any:
    """Loaded when the first graph is declared: it needs numpy, which a gateway without graphs can do without."""
    return importlib.import_module("mizzen.serving.gateway.graph.service")
