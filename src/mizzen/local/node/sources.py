"""The ConfigMaps and Secrets that Pods on this node refer to, each watched by name for as long as a Pod needs it.

By name, as the kubelet does: a node need not be allowed to list all Secrets, and holds none that it has no use for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mizzen.kube.informer import Informer, Informers
from mizzen.kube.resources import ResourceInfo, Untyped, untyped
from mizzen.local.node.environment import ConfigError
from mizzen.local.node.references import Source, SourceKind, Sources

_CLASSES: Mapping[SourceKind, type[Untyped]] = {
    "ConfigMap": untyped(ResourceInfo("", "v1", "ConfigMap", "configmaps", namespaced=True)),
    "Secret": untyped(ResourceInfo("", "v1", "Secret", "secrets", namespaced=True)),
}
_FIRST_LOOK_S = 10.0


@dataclass(slots=True)
class _Watched:
    informer: Informer[Untyped]
    holders: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Who needs it, and how to tell them that it changed."""


class SourceCache:
    """Shared by all Pods of the node."""

    def __init__(self, informers: Informers) -> None:
        self._informers = informers
        self._watched: dict[Source, _Watched] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def hold(self, holder: str, wanted: frozenset[Source], changed: Callable[[], None]) -> None:
        """From now on, `holder` needs just these, and is told when one of them changes."""
        for source in wanted:
            watched = self._watched.get(source)
            if watched is None:
                watched = self._watched[source] = self._watch(source)
            watched.holders[holder] = changed
        for source in [one for one, watched in self._watched.items() if holder in watched.holders]:
            if source not in wanted:
                self._release(source, holder)

    def release(self, holder: str) -> None:
        """`holder` needs nothing any more."""
        self.hold(holder, frozenset(), lambda: None)

    async def get(self, wanted: frozenset[Source]) -> Sources:
        """What there is now of what is held. Raises `ConfigError` where the API server does not say."""
        return {source: await self._get(source) for source in sorted(wanted)}

    async def _get(self, source: Source) -> Untyped | None:
        informer = self._watched[source].informer
        try:
            await informer.synced(_FIRST_LOOK_S)
        except TimeoutError:
            why = informer.statistics().last_error or "no answer"
            raise ConfigError(f"failed to read {source}: {why}") from None
        return informer.get(source.namespace, source.name)

    def _watch(self, source: Source) -> _Watched:
        cls = _CLASSES[source.kind]
        informer = self._informers.of(cls, source.namespace, fields={"metadata.name": source.name})
        watched = _Watched(informer)

        def tell(_: Untyped | None, __: Untyped | None) -> None:
            for changed in tuple(watched.holders.values()):
                changed()

        informer.subscribe(tell)
        return watched

    def _release(self, source: Source, holder: str) -> None:
        watched = self._watched[source]
        del watched.holders[holder]
        if not watched.holders:
            del self._watched[source]
            self._informers.drop(watched.informer)
