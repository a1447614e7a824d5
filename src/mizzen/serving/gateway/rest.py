"""What REST tells beside inference: of the server, and of one endpoint, by the path that asks for it (`paths`).

`pages` has the contents, which gRPC tells too.
"""

import asyncio
from typing import Any, Protocol

from mizzen.serving.gateway import openapi, pages
from mizzen.serving.gateway.directory import EndpointKey
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import HeaderMap
from mizzen.serving.gateway.paths import Asked
from mizzen.serving.gateway.service import Service
from mizzen.serving.gateway.trace_settings import LEVEL, Settings, TraceSettings


class Told(Protocol):
    """The gateway, as it is told of."""

    traces: TraceSettings
    totals: pages.Totals
    synced_once: asyncio.Event

    def admitted(self, key: EndpointKey, headers: HeaderMap) -> tuple[Service, str]:
        """The endpoint of that name. Raises `HttpError` where there is none, or the caller may not know."""

    def expect_key_of_all(self, namespace: str, headers: HeaderMap) -> None:
        """Raises `HttpError` where the caller's key is not for all endpoints of the namespace."""

    def visible(self, namespace: str, headers: HeaderMap) -> list[Service]:
        """The endpoints of a namespace that the caller may call."""


def answer(gateway: Told, asked: Asked, headers: HeaderMap, body: bytes) -> object:
    """The answer, as plain values. Raises `HttpError`."""
    if asked.model is None:
        return _of_server(gateway, asked, headers, body)
    service, _ = gateway.admitted((asked.namespace, asked.model), headers)
    return _of_model(gateway, asked, service, headers, body)


def _of_server(gateway: Told, asked: Asked, headers: HeaderMap, body: bytes) -> object:
    match asked.what:
        case "health/live":
            return {"live": True}
        case "health/ready":
            if not gateway.synced_once.is_set():
                raise not_synced()
            return {"ready": True}
        case "models":
            return pages.listing(gateway.visible(asked.namespace, headers))
        case "models/stats":
            return pages.statistics(gateway.visible(asked.namespace, headers), gateway.totals, None)
        case "repository/index":
            return pages.index(gateway.visible(asked.namespace, headers), ready_only=pages.asks_for_ready(body))
        case "trace/setting":
            return _traced(gateway, asked.namespace, None, headers, body)
        case _:
            return pages.server()


def _of_model(gateway: Told, asked: Asked, service: Service, headers: HeaderMap, body: bytes) -> object:
    name, number = service.endpoint.name, asked.version
    match asked.what:
        case "ready":
            if not pages.is_ready(service, number):
                raise HttpError(503, f"{name}: no worker is ready", "not_ready")
            return {"name": name, "ready": True}
        case "infer" | "predict" | "generate" | "generate_stream":
            pages.check_version(service, number)
            raise HttpError(503, "the gateway has not yet heard of that version", "not_ready")
        case "config":
            return pages.configuration(service, number)
        case "stats":
            return pages.statistics([service], gateway.totals, number)
        case "trace/setting":
            return _traced(gateway, asked.namespace, name, headers, body)
        case "openapi.json":
            return openapi.document(service, number)
        case _:
            return pages.model(service, number)


def _traced(gateway: Told, namespace: str, name: str | None, headers: HeaderMap, body: bytes) -> object:
    """The trace settings, after those in the body; lists only where the protocol has them. Raises `HttpError`."""
    settings = trace_settings(gateway, namespace, name, headers, pages.settings_in(body))
    return {key: words if key == LEVEL else words[0] for key, words in settings.items()}


def trace_settings(
    gateway: Told, namespace: str, name: str | None, headers: HeaderMap, wanted: dict[str, Any]
) -> Settings:
    """The trace settings of an endpoint or a namespace, after those that are wanted otherwise. Raises `HttpError`."""
    if not wanted:
        return gateway.traces.told(namespace, name)
    if name is None:
        gateway.expect_key_of_all(namespace, headers)
    return gateway.traces.change(namespace, name, wanted)


def not_synced() -> HttpError:
    """What is told while it is not known what there is."""
    message = "the gateway has not yet heard which endpoints and keys there are"
    return HttpError(503, message, "not_ready", retry_after_s=1.0)
