"""The queues before the workers of views' functions: one for each view, in which each version that is asked has a lane.

They are services like those of endpoints, whose names no endpoint can have, and to which no path leads.
"""

from collections.abc import Callable

from msgspec.structs import replace

from mizzen.serving.functions import SIGNATURE
from mizzen.serving.gateway.directory import Endpoint, EndpointKey, Version, Worker
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.link import Link, Owner
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.service import Service

VERSIONS_KEPT = 4
"""Of one view, those asked for last."""


def functions_key(namespace: str, view: str) -> EndpointKey:
    """What the functions of a view go by where endpoints have their names."""
    return namespace, f"featureview/{view}"


class _Pinned:
    """The workers of one version."""

    def __init__(self, service: Service, number: int) -> None:
        self._service, self._number = service, number

    def accept(self, exchange: Exchange) -> None:
        exchange.pinned = self._number
        self._service.accept(exchange)


class FunctionWorkers:
    """All views' functions."""

    def __init__(
        self,
        clock: Callable[[], float],
        connect: Callable[[Worker, Owner], Link],
        workers_of: Callable[[EndpointKey], list[Worker]],
        measures_of: Callable[[EndpointKey], Measures],
    ) -> None:
        self._clock, self._connect, self._workers_of, self._measures_of = clock, connect, workers_of, measures_of
        self._services: dict[EndpointKey, Service] = {}

    def service(self, key: EndpointKey) -> Service | None:
        """The view's, where somebody asks for it."""
        return self._services.get(key)

    def of(self, namespace: str, view: str, digest: str) -> _Pinned:
        """Whom to ask for the functions of a version."""
        key = functions_key(namespace, view)
        number = int(digest.removeprefix("sha256:")[:12], 16)
        version = Version(view, number, digest, signature=SIGNATURE)
        service = self._services.get(key)
        if service is None:
            endpoint = Endpoint(*key, anonymous=True, versions=(version,))
            service = self._services[key] = Service(endpoint, self._clock, self._measures_of(key), self._connect)
            for worker in self._workers_of(key):
                service.add_worker(worker)
        elif all(known.digest != digest for known in service.endpoint.versions):
            older = [replace(known, percent=0) for known in service.endpoint.versions]
            versions = (version, *older)[:VERSIONS_KEPT]
            service.update(Endpoint(*key, anonymous=True, versions=versions))
        return _Pinned(service, number)
