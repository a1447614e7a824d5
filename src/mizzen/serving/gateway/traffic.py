"""What gets an endpoint's requests: its versions as they are served, and which of them a request goes to.

A request is for the version it names by number; else, where several share the traffic, its unit decides (header
`Mizzen-Unit`), so that who asks again is answered by the same one; without a unit chance does.

A version gets traffic once it is known what it takes: from its `ModelVersion`, or from its first worker.
"""

import random
from collections.abc import Callable, Sequence

from mizzen.policy.traffic import Shares
from mizzen.serving.gateway.directory import Endpoint, Version
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange
from mizzen.serving.gateway.features.binding import Binding
from mizzen.serving.gateway.measures import Measures
from mizzen.serving.gateway.served import Served
from mizzen.serving.tensors import Signature


class Traffic:
    """The versions of one endpoint."""

    __slots__ = ("_chance", "_endpoint", "_features", "_measures", "_shares", "_sharing", "current", "served")

    def __init__(
        self,
        endpoint: Endpoint,
        measures: Measures,
        chance: Callable[[], float] = random.random,
        features: Binding | None = None,
    ) -> None:
        self.served: dict[str, Served] = {}
        """By digest: what gets traffic, and what got it while answers are due."""
        self.current: list[Served] = []
        """What gets traffic, the largest share first."""
        self._endpoint = endpoint
        self._measures = measures
        self._chance = chance
        self._features = features if features is not None else Binding(None)
        """What looks features up for them."""
        self._shares: Shares | None = None
        """`None`: one version gets all."""
        self._sharing: list[Served] = []
        """The versions that share, by number."""

    @property
    def is_shared(self) -> bool:
        """Whether it matters whom a request is for."""
        return self._shares is not None

    @property
    def first(self) -> Served | None:
        """That with the largest share."""
        return self.current[0] if self.current else None

    def update(self, endpoint: Endpoint, told: Callable[[str], Signature | None]) -> list[str]:
        """The endpoint is declared so from now on; `told` says what the workers of a digest said of it.

        Returns the digests of `served` that get no traffic any more.
        """
        current = []
        self._features.begin(self._endpoint, endpoint)
        for version in sorted(endpoint.versions, key=lambda version: -version.percent):
            old = self.served.get(version.digest)
            signature = version.signature or (old.signature if old is not None else told(version.digest))
            if signature is None:
                continue
            served = self._features.served(endpoint, version, signature, self._measures.version(version.version), old)
            if served is not None:
                self.served[version.digest] = served
                current.append(served)
        self.serve(endpoint, current)
        return [digest for digest in self.served if all(served.digest != digest for served in current)]

    def serve(self, endpoint: Endpoint, current: Sequence[Served]) -> None:
        """These get the traffic, the largest share first."""
        self._endpoint = endpoint
        self.current = list(current)
        sharing = [served for served in current if served.version.percent > 0]
        self._sharing = sorted(sharing, key=lambda served: served.version.version)
        self._shares = None
        if len(sharing) > 1:
            weights = [served.version.percent for served in self._sharing]
            self._shares = Shares(f"{endpoint.namespace}/{endpoint.name}", weights)

    def choice(self, exchange: Exchange) -> Served | None:
        """Which version answers; `None` where that is not known yet. Raises `HttpError`."""
        pinned = exchange.pinned
        if pinned is None:
            shares = self._shares
            if shares is not None:
                unit = exchange.unit
                return self._sharing[shares.at(self._chance()) if unit is None else shares.of(unit)]
            if self.current:
                return self.current[0]
        else:
            for served in self.current:
                if served.version.version == pinned:
                    return served
            versions = self._endpoint.versions
            if versions and all(version.version != pinned for version in versions):
                known = ", ".join(str(version.version) for version in versions)
                raise HttpError(404, f"version: expected one that gets traffic ({known}), got {pinned}", "not_found")
        if not self._endpoint.versions and self._endpoint.hopeless is not None:
            raise HttpError(503, self._endpoint.hopeless, "unavailable", retry_after_s=1.0)
        if self._features.problem is not None:
            raise HttpError(503, self._features.problem, "unavailable", retry_after_s=1.0)
        return None

    def signature(self, number: int | None) -> tuple[Version, Signature] | None:
        """What a version's requests carry and what it gives; the one with most traffic where no number is said. `None`:
        not known.
        """
        for served in self.current:
            if number is None or served.version.version == number:
                return served.version, served.asked
        return None

    def successor(self, served: Served) -> Served | None:
        """The version that answers what was decoded for `served`, now; `None` where none fits."""
        same = next((other for other in self.current if other.digest == served.digest), None)
        fits = (other for other in self.current if other.signature == served.signature)
        return same if same is not None else next(fits, None)
