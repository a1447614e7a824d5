"""Which endpoints look features up, and the views they look into.

Opening a view imports much and asks a store that may be slow, so that it is done on a thread, and again each second
while it fails: a view that was declared just now is in the store a little later. Until then its endpoint's requests
wait (while it is opened the first time) or are told why not. An endpoint that has looked up goes on as it did until
what was declared anew is there.
"""

import asyncio
import importlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from mizzen.data.features.errors import FeatureError
from mizzen.serving.gateway.directory import Endpoint, EndpointKey, Lookup, View
from mizzen.serving.gateway.exchange import Exchange, HeaderMap, Reply
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.served import Served
from mizzen.serving.tensors import Signature

log = logging.getLogger("mizzen.gateway")
RETRY_S = 1.0
OPENING, SERVER = "mizzen.serving.gateway.features.opening", "mizzen.serving.gateway.features.server"
NO_STORE = "the gateway was told of no online store (--online)"


OnThread = Callable[..., Awaitable[Any]]


class Stage(Protocol):
    """What an endpoint looks up (`stage.Stage`)."""

    def bound(self, model: Signature, to: Any) -> Any: ...


class Asking(Protocol):
    """The queue before the workers of a view's functions."""

    def accept(self, exchange: Exchange) -> None: ...


FunctionsOf = Callable[[str, str, str], Asking]
"""By namespace, view and the digest of its version."""


class Opens(Protocol):
    """What opens views (`opening.Opening`)."""

    def stage(self, namespace: str, wanted: Lookup, measures: Measures, functions: FunctionsOf) -> Stage:
        """On a thread. Raises `FeatureError`."""

    def close(self) -> None: ...


class FeatureServer(Protocol):
    """The feature server (`server.FeatureServer`)."""

    def ask(self, namespace: str, service: str, headers: HeaderMap, body: bytes, reply: Reply) -> Exchange | None: ...

    def ask_feast(self, namespace: str, headers: HeaderMap, body: bytes, reply: Reply) -> Exchange | None: ...


class Looking(Protocol):
    """An endpoint's service."""

    endpoint: Endpoint
    measures: Measures

    def look_up(self, stage: Stage | None, problem: str | None) -> None:
        """From now on it looks up so; `None` and why, where it cannot."""

    def onward(self, exchange: Exchange, served: Served) -> None: ...


class FeatureSource:
    """What this process knows of features."""

    def __init__(
        self,
        url: str | None,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        on_thread: OnThread = asyncio.to_thread,
        opening: Opens | None = None,
        log_folder: Path | None = None,
    ) -> None:
        """`opening` is what opens views, where that is there already; `log_folder` is that of the prediction log."""
        self._log_folder = log_folder
        self._url, self._clock, self._now_us, self._on_thread = url, clock, now_us, on_thread
        self.views: dict[EndpointKey, View] = {}
        self._services: dict[EndpointKey, Looking] = {}
        self._tasks: dict[EndpointKey, asyncio.Task[None]] = {}
        self._opening = opening
        self.functions_of: FunctionsOf | None = None
        """Where features of requests are computed; the gateway sets it."""
        self._lock = threading.Lock()

    def endpoint_changed(self, service: Looking) -> None:
        """The endpoint is declared so from now on."""
        key, wanted = service.endpoint.key, service.endpoint.features
        if wanted is None:
            self.endpoint_gone(key)
            return
        self._services[key] = service
        self._open_anew(key)

    def endpoint_gone(self, key: EndpointKey) -> None:
        self._services.pop(key, None)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()

    def audited(self, namespace: str, view: str) -> float:
        """The share of a view's entities whose reads are recorded."""
        found = self.views.get((namespace, view))
        return found.audited if found is not None else 0.0

    def view_changed(self, view: View) -> None:
        if self.views.get(view.key) == view:
            return
        self.views[view.key] = view
        self._open_users_of(view.key)

    def view_gone(self, key: EndpointKey) -> None:
        """Who looks up in it goes on with what is in the store."""
        self.views.pop(key, None)

    def server(self, admit: Any, endpoint_named: Any, measures_of: Any) -> FeatureServer:
        """The feature server. Where no endpoint has looked anything up yet, this imports much."""
        made: FeatureServer = importlib.import_module(SERVER).FeatureServer(
            self, admit, endpoint_named, measures_of, self._clock
        )
        return made

    def _functions(self, namespace: str, view: str, digest: str) -> Asking:
        assert self.functions_of is not None, "whoever serves endpoints says who computes"
        return self.functions_of(namespace, view, digest)

    def close(self) -> None:
        """Ends what is being opened, and lets go of the store."""
        for key in list(self._services):
            self.endpoint_gone(key)
        if self._opening is not None:
            self._opening.close()

    def _open_users_of(self, key: EndpointKey) -> None:
        namespace, name = key
        for user, service in self._services.items():
            wanted = service.endpoint.features
            if user[0] == namespace and wanted is not None and any(use.view == name for use in wanted.views):
                self._open_anew(user)

    def _open_anew(self, key: EndpointKey) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()
        self._tasks[key] = asyncio.get_running_loop().create_task(self._open(key))

    async def _open(self, key: EndpointKey) -> None:
        """Until it is open."""
        service, told = self._services[key], ""
        while True:
            try:
                stage = await self._on_thread(self._opened, service)
            except FeatureError as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("endpoint %s/%s: %s", *key, told)
                service.look_up(None, told)
            else:
                service.look_up(stage, None)
                return
            await asyncio.sleep(RETRY_S)

    def _opened(self, service: Looking) -> Stage:
        """On a thread. Raises `FeatureError`."""
        endpoint = service.endpoint
        with self._lock:
            if self._opening is None:
                if self._url is None:
                    raise FeatureError(NO_STORE)
                self._opening = importlib.import_module(OPENING).Opening(
                    self._url, self._now_us, self._clock, log_folder=self._log_folder, audited=self.audited
                )
        assert endpoint.features is not None, "what is opened looks features up"
        return self._opening.stage(endpoint.namespace, endpoint.features, service.measures, self._functions)
