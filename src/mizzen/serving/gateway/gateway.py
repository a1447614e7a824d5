"""The heart of a gateway process: paths to services, callers to verdicts, the directory to both.

`handle` is called once for each HTTP request, with its whole body, and answers at once or leaves an exchange that a
service answers later. It knows nothing of the HTTP server, and reads no clock but the one it is given.

Paths are looked up in a table that holds every path at which inference is answered now. Only what is not found there is
taken apart, to say what is wrong with it, or because it asks for something else than inference.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from mizzen.serving.gateway.cache.responses import Tiers
from mizzen.serving.gateway.directory import ApiKey, Endpoint, EndpointKey, Worker
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import JSON_HEADERS, Exchange, HeaderMap, Reply
from mizzen.serving.gateway.identity import Keyring, Verdict, shown_key
from mizzen.serving.gateway.link import Link, Owner
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.paths import Asked, inference_paths, parse_path
from mizzen.serving.gateway.service import Service
from mizzen.serving.oip import error_body
from mizzen.version import __version__

log = logging.getLogger("mizzen.gateway")
_encode = msgspec.json.Encoder().encode


class Gateway:
    """All endpoints as one process serves them. It is the `directory.Listener`."""

    def __init__(
        self,
        clock: Callable[[], float],
        connect: Callable[[Worker, Owner], Link] = Link,
        tiers: Tiers | None = None,
    ) -> None:
        self.clock = clock
        self._connect = connect
        self._tiers = tiers if tiers is not None else Tiers(clock)
        self.synced_once = asyncio.Event()
        """Set when the directory has told everything there was."""
        self.keyring = Keyring()
        self.services: dict[EndpointKey, Service] = {}
        self.measures: dict[EndpointKey, Measures] = {}
        """Kept when an endpoint goes: what was counted was counted."""
        self.refusals: dict[str, int] = {}
        """Requests that belong to no endpoint, by why they were refused."""
        self._inference: dict[str, tuple[Service, int | None]] = {}
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
                self._other(method, path, headers, reply)
                return None
            service, pinned = target
            tenant = "" if service.endpoint.anonymous else self._admit(headers, service.endpoint.key)
            measures = service.measures
            exchange = self._exchange(service, headers, body, reply)
            exchange.tenant = tenant
            exchange.pinned = pinned
            if service.endpoint.graph is not None:
                exchange.unit = headers.get("mizzen-unit")
        except HttpError as error:
            self.refuse(reply, error, measures)
            return None
        service.accept(exchange)
        if exchange.done:
            return None
        exchange.on_leave = service.leave
        return exchange

    def refuse(self, reply: Reply, error: HttpError, measures: Measures | None = None) -> None:
        """Answers with an error and counts it."""
        reply.response_bytes(error.status, [*JSON_HEADERS, *error.headers], error_body(error.message))
        if measures is not None:
            measures.outcome(error.outcome)
        else:
            self.refusals[error.outcome] = self.refusals.get(error.outcome, 0) + 1

    def _exchange(self, service: Service, headers: HeaderMap, body: bytes, reply: Reply) -> Exchange:
        now = self.clock()
        json_size = headers.get("inference-header-content-length")
        timeout_s = service.endpoint.timeout_s
        asked_ms = headers.get("request-timeout-ms")
        if asked_ms is not None:
            if not asked_ms.isascii() or not asked_ms.isdigit() or int(asked_ms) == 0:
                raise HttpError(
                    400, f"Request-Timeout-Ms: expected milliseconds, at least 1, got {asked_ms!r}", "bad_request"
                )
            timeout_s = min(timeout_s, int(asked_ms) / 1000)
        if json_size is None:
            return Exchange(reply, body, None, now, now + timeout_s)
        if not json_size.isascii() or not json_size.isdigit():
            raise HttpError(
                400, f"Inference-Header-Content-Length: expected a number, got {json_size!r}", "bad_request"
            )
        return Exchange(reply, body, int(json_size), now, now + timeout_s)

    def _admit(self, headers: HeaderMap, endpoint: EndpointKey) -> str:
        """Returns the name of the caller's API key. Raises `HttpError` where it may not call."""
        key = shown_key(headers.get("authorization"), headers.get("x-api-key"))
        verdict, tenant = self.keyring.judge(key, endpoint)
        if verdict is Verdict.ALLOWED:
            return tenant
        if not self.synced_once.is_set():
            raise _not_synced()
        if verdict is Verdict.NO_KEY:
            message = "expected an API key, as Authorization: Bearer KEY or X-API-Key: KEY"
            raise HttpError(401, message, "unauthenticated")
        if verdict is Verdict.UNKNOWN_KEY:
            raise HttpError(401, "the API key is not known", "unauthenticated")
        if verdict is Verdict.FORBIDDEN and endpoint not in self.services:
            raise self._not_found(endpoint)
        raise HttpError(403, f"the API key is not for endpoint {endpoint[1]} of namespace {endpoint[0]}", "forbidden")

    def _not_found(self, endpoint: EndpointKey) -> HttpError:
        """That something is not there can be said only once everything that is there was told."""
        if not self.synced_once.is_set():
            return _not_synced()
        return HttpError(404, f"no endpoint {endpoint[1]} in namespace {endpoint[0]}", "not_found")

    def _other(self, method: str, path: str, headers: HeaderMap, reply: Reply) -> None:
        asked = parse_path(path)
        if method not in asked.methods:
            raise HttpError(
                405, f"{path}: expected {' or '.join(asked.methods)}, got {method}", "bad_method",
                allow=", ".join(asked.methods),
            )  # fmt: skip
        if asked.model is None:
            body = self._of_server(asked)
        else:
            endpoint = (asked.namespace, asked.model)
            service = self.services.get(endpoint)
            if service is None or not service.endpoint.anonymous:
                self._admit(headers, endpoint)
            if service is None:
                raise self._not_found(endpoint)
            body = self._of_model(asked, service)
        reply.response_bytes(200, JSON_HEADERS, _encode(body))

    def _of_server(self, asked: Asked) -> object:
        if asked.what == "live":
            return {"live": True}
        if asked.what == "ready":
            if not self.synced_once.is_set():
                raise _not_synced()
            return {"ready": True}
        return {"name": "mizzen", "version": __version__, "extensions": ["binary_tensor_data"]}

    def _of_model(self, asked: Asked, service: Service) -> object:
        name, number = service.endpoint.name, asked.version
        versions = service.endpoint.versions
        if number is not None and all(version.version != number for version in versions):
            known = ", ".join(str(version.version) for version in versions) or "none"
            raise HttpError(404, f"version: expected one that gets traffic ({known}), got {number}", "not_found")
        if asked.what == "ready":
            ready = [version for version in service.ready_versions if number is None or version.version == number]
            if not ready:
                raise HttpError(503, f"{name}: no worker is ready", "not_ready")
            return {"name": name, "ready": True}
        if asked.what == "infer":
            raise HttpError(503, "the gateway has not yet heard of that version", "not_ready")
        found = service.signature(number)
        if found is None:
            raise HttpError(503, f"{name}: what it takes is not known yet, since no version gets traffic", "not_ready")
        _, signature = found
        tensors = {
            what: [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
            for what, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
        }
        return {
            "name": name, "versions": [str(version.version) for version in versions], "platform": "onnxruntime_onnx",
            **tensors,
        }  # fmt: skip

    # What the directory says

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        service = self.services.get(endpoint.key)
        if service is not None and (service.endpoint.graph is None) != (endpoint.graph is None):
            self.endpoint_gone(endpoint.key)
            service = None
        if service is None:
            service = self.services[endpoint.key] = self._made(endpoint)
            for worker in self._workers_of.get(endpoint.key, {}).values():
                service.add_worker(worker)
        else:
            self._unmap(service.endpoint)
            service.update(endpoint)
        for path, number in inference_paths(endpoint):
            self._inference[path] = (service, number)
        self._refresh_graphs(endpoint.namespace)

    def endpoint_gone(self, key: EndpointKey) -> None:
        service = self.services.pop(key, None)
        if service is not None:
            self._unmap(service.endpoint)
            service.close()
            self._refresh_graphs(key[0])

    def _made(self, endpoint: Endpoint) -> Service:
        measures = self.measures_of(endpoint.key)
        if endpoint.graph is None:
            return Service(endpoint, self.clock, measures, self._connect, self._tiers)
        made: Service = _graphs().GraphService(endpoint, self.clock, measures, self._connect, self._tiers, self)
        return made

    def _refresh_graphs(self, namespace: str) -> None:
        """An endpoint may be a node of another."""
        for service in list(self.services.values()):
            if service.endpoint.graph is not None and service.endpoint.namespace == namespace:
                service.refresh()

    def service_of(self, key: EndpointKey) -> Service | None:
        """That endpoint's service."""
        return self.services.get(key)

    def measures_of(self, key: EndpointKey) -> Measures:
        """Where the numbers of that endpoint, or of that node of a graph, are kept."""
        return self.measures.setdefault(key, Measures())

    def worker_changed(self, worker: Worker) -> None:
        key = (worker.namespace, worker.endpoint)
        if self._endpoint_of.get(worker.uid, key) != key:
            self.worker_gone(worker.uid)
        self._endpoint_of[worker.uid] = key
        self._workers_of.setdefault(key, {})[worker.uid] = worker
        service = self.services.get(key)
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
        service = self.services.get(key)
        if service is not None:
            service.remove_worker(uid)

    def _unmap(self, endpoint: Endpoint) -> None:
        for path, _ in inference_paths(endpoint):
            self._inference.pop(path, None)

    def key_changed(self, name: str, key: ApiKey) -> None:
        self.keyring.put(name, key)

    def key_gone(self, name: str) -> None:
        self.keyring.remove(name)

    def synced(self) -> None:
        self.synced_once.set()


def _graphs() -> Any:
    """Loaded when the first graph is declared: it needs numpy, which a gateway without graphs can do without."""
    return importlib.import_module("mizzen.serving.gateway.graph.service")


def _not_synced() -> HttpError:
    message = "the gateway has not yet heard which endpoints and keys there are"
    return HttpError(503, message, "not_ready", retry_after_s=1.0)
