"""What each unary method does: messages to the gateway's pages and queues, whatever transport carried them.

A model's name is its endpoint's, of namespace `default`, or `NAMESPACE/NAME`. Callers show an API key in the metadata
`authorization` or `x-api-key`, as over HTTP.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from mizzen.serving.gateway import pages, rest
from mizzen.serving.gateway.errors import INTERNAL, HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.gateway.grpc.exchange import Call, MessageExchange, StreamCall, StreamExchange, refuse
from mizzen.serving.gateway.http.handler import TOO_MANY_BYTES
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.paths import DEFAULT_NAMESPACE, version_number
from mizzen.serving.gateway.plan import Limits
from mizzen.serving.gateway.service import Service
from mizzen.serving.gateway.streams import Streams
from mizzen.serving.oip.messages import HEALTH, INFERENCE, message

log = logging.getLogger("mizzen.gateway")
INFER = f"/{INFERENCE}/ModelInfer"
SERVING, NOT_SERVING = 1, 2
"""Of gRPC's `HealthCheckResponse`."""
_DECLARED = HttpError(501, "models are declared as resources, and not loaded or unloaded by clients", "bad_method")
_NO_SHARED_MEMORY = HttpError(501, "shared memory is not offered", "bad_method")
_Answer = Callable[[Any, Call], dict[str, Any]]
InferRequest = message("ModelInferRequest")


class Calls:
    """The gateway's face to gRPC."""

    def __init__(self, gateway: Gateway, limits: Limits) -> None:
        self.gateway = gateway
        self.limits = limits
        self.bytes_held = 0
        """Of messages that wait for their answer."""
        methods: dict[str, tuple[str, _Answer]] = {
            "ServerLive": ("ServerLive", lambda _message, _call: {"live": True}),
            "ServerReady": ("ServerReady", lambda _message, _call: {"ready": gateway.synced_once.is_set()}),
            "ServerMetadata": ("ServerMetadata", lambda _message, _call: pages.server()),
            "ModelReady": ("ModelReady", self._model_ready),
            "ModelMetadata": ("ModelMetadata", lambda message, call: pages.model(*self._model(message, call))),
            "ModelConfig": ("ModelConfig", self._model_config),
            "ModelStatistics": ("ModelStatistics", self._model_statistics),
            "RepositoryIndex": ("RepositoryIndex", self._repository_index),
            "TraceSetting": ("TraceSetting", self._trace_setting),
        }
        self._pages = {
            f"/{INFERENCE}/{name}": (message(f"{stem}Request"), message(f"{stem}Response"), answer)
            for name, (stem, answer) in methods.items()
        }
        self._pages[f"/{HEALTH}/Check"] = (
            message("HealthCheckRequest"), message("HealthCheckResponse"),
            lambda message, call: {"status": self.health(message.service, call)},
        )  # fmt: skip
        self._refused = {
            f"/{INFERENCE}/{name}": _DECLARED for name in ("RepositoryModelLoad", "RepositoryModelUnload")
        } | {
            f"/{INFERENCE}/{kind}SharedMemory{what}": _NO_SHARED_MEMORY
            for kind in ("System", "Cuda") for what in ("Status", "Register", "Unregister")
        }  # fmt: skip

    @property
    def unary_methods(self) -> list[str]:
        """All that `unary` answers, as paths."""
        return [INFER, *self._pages, *self._refused]

    def unary(self, method: str, data: bytes, call: Call) -> Exchange | None:
        """Answers, or returns the exchange that will be answered later. Never raises."""
        try:
            if method == INFER:
                return self.infer(decoded(InferRequest, data), len(data), call)
            self._page(method, data, call)
        except HttpError as error:
            self.refuse(call, error, None)
        except Exception:
            log.exception("%s: a call failed for a reason that is a bug", method)
            self.refuse(call, INTERNAL, None)
        return None

    def infer(self, found: Any, size: int, call: Call, stream: StreamCall | None = None) -> Exchange | None:
        """One `ModelInferRequest`, which came in so many bytes. Answers, or returns the exchange.

        One of a stream is answered by what the model yields, if it does.
        """
        measures: Measures | None = None
        gateway = self.gateway
        try:
            if self.bytes_held + size > self.limits.bodies_bytes_max:
                raise TOO_MANY_BYTES
            service, tenant = gateway.admitted(_key(found.model_name), call.headers)
            measures = service.measures
            now = gateway.clock()
            deadline_s = gateway.deadline_s(service, call.headers, now, call.remaining_s)
            exchange: Exchange
            taker: Service | Streams = service
            if stream is None:
                exchange = MessageExchange(call, found, now, deadline_s)
            else:
                exchange, taker = StreamExchange(stream, found, now, deadline_s), service.streams
            if found.model_version:
                exchange.pinned = version_number(found.model_version)
            exchange.tenant = tenant
        except HttpError as error:
            self.refuse(call, error, measures)
            return None
        gateway.give(exchange, service, taker, call.headers, INFER)
        if exchange.done:
            return None
        self.bytes_held += size
        exchange.on_done = partial(self._release, size)
        return exchange

    def refuse(self, call: Call, error: HttpError, measures: Measures | None) -> None:
        """Ends the call with an error and counts it."""
        self.gateway.count_refusal(error, measures)
        refuse(call, error)

    def health(self, service: str, call: Call) -> int:
        """The health of the server, of the inference service, or of a model by its name. Raises `HttpError`."""
        if service in {"", INFERENCE, HEALTH}:
            return SERVING if self.gateway.synced_once.is_set() else NOT_SERVING
        found, _ = self.gateway.admitted(_key(service), call.headers)
        return SERVING if found.ready_versions else NOT_SERVING

    def _release(self, size: int) -> None:
        self.bytes_held -= size

    def _page(self, method: str, data: bytes, call: Call) -> None:
        if method in self._refused:
            raise self._refused[method]
        request, response, answer = self._pages[method]
        call.respond(response(**answer(decoded(request, data), call)).SerializeToString())

    def _model(self, message: Any, call: Call) -> tuple[Service, int | None]:
        service, _ = self.gateway.admitted(_key(message.name), call.headers)
        return service, version_number(message.version) if message.version else None

    def _model_ready(self, message: Any, call: Call) -> dict[str, Any]:
        return {"ready": pages.is_ready(*self._model(message, call))}

    def _model_config(self, message: Any, call: Call) -> dict[str, Any]:
        config = pages.configuration(*self._model(message, call))
        for tensor in (*config["input"], *config["output"]):
            tensor["data_type"] = pages.data_type_number(tensor["data_type"])
        return {"config": config}

    def _model_statistics(self, message: Any, call: Call) -> dict[str, Any]:
        if message.name:
            service, number = self._model(message, call)
            return pages.statistics([service], self.gateway.totals, number)
        return pages.statistics(self.gateway.visible(DEFAULT_NAMESPACE, call.headers), self.gateway.totals, None)

    def _repository_index(self, message: Any, call: Call) -> dict[str, Any]:
        namespace = message.repository_name or DEFAULT_NAMESPACE
        return {"models": pages.index(self.gateway.visible(namespace, call.headers), ready_only=message.ready)}

    def _trace_setting(self, message: Any, call: Call) -> dict[str, Any]:
        namespace, name = _key(message.model_name)
        if name:
            self.gateway.admitted((namespace, name), call.headers)
        wanted = {name: list(message.settings[name].value) or None for name in message.settings}
        settings = rest.trace_settings(self.gateway, namespace, name or None, call.headers, wanted)
        return {"settings": {name: {"value": words} for name, words in settings.items()}}


def _key(model: str) -> tuple[str, str]:
    namespace, _, name = model.rpartition("/")
    return namespace or DEFAULT_NAMESPACE, name


def decoded(class_: Any, data: bytes) -> Any:
    """A message of that class. Raises `HttpError`."""
    try:
        return class_.FromString(data)
    except DecodeError as error:
        raise HttpError(400, f"expected a {class_.DESCRIPTOR.name}: {error}", "bad_request") from error
