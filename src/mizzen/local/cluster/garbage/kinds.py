"""All kinds that the server serves, followed as they come and go, metadata only.

The collector has to know every object that may own or be owned. New kinds come with CustomResourceDefinitions, so the
list is asked for again whenever one of those changes, and now and then.
"""

import asyncio
import logging
from collections.abc import Callable

from mizzen.kube.discovery import discover
from mizzen.kube.errors import KubeError
from mizzen.kube.informer import Informer, Informers
from mizzen.kube.resources import ResourceInfo, Untyped, metadata_of
from mizzen.local.cluster.objects import CustomResourceDefinition, owner_uids

log = logging.getLogger(__name__)

_VERBS = frozenset({"delete", "list", "watch"})
_NOT_FOLLOWED = frozenset({("", "events"), ("events.k8s.io", "events")})
"""Owned by nobody, and too many."""
_AGAIN_S = 60.0
_SETTLE_S = 0.2
"""Definitions come in bunches, and one is served a moment after it changed."""

Changed = Callable[[Informer[Untyped], Untyped | None, Untyped | None], None]


class AllKinds:
    """An informer for each kind. `changed` is called with every change of any object, `came` when there are more kinds
    than before."""

    def __init__(self, informers: Informers, changed: Changed, came: Callable[[], None]) -> None:
        self._informers = informers
        self._changed = changed
        self._came = came
        self._of: dict[tuple[str, str], Informer[Untyped]] = {}
        self._stale = asyncio.Event()

    def informers(self) -> list[Informer[Untyped]]:
        return list(self._of.values())

    @property
    def is_synced(self) -> bool:
        """Whether the objects of all kinds are known."""
        return bool(self._of) and all(informer.is_synced for informer in self._of.values())

    def of(self, api_version: str, kind: str) -> ResourceInfo | None:
        """The kind of that name in that group, in whatever version is followed; `None` where there is none."""
        group = api_version.rpartition("/")[0]
        found = (one.info for one in self._of.values() if one.info.group == group and one.info.kind == kind)
        return next(found, None)

    async def run(self) -> None:
        """Keeps the list of kinds true until cancelled."""
        definitions = self._informers.of(CustomResourceDefinition)
        stop = definitions.subscribe(lambda _old, _new: self._stale.set())
        try:
            while True:
                self._stale.clear()
                try:
                    await self._look()
                except KubeError as error:
                    log.info("the kinds that are served cannot be told: %s", error)
                try:
                    async with asyncio.timeout(_AGAIN_S):
                        await self._stale.wait()
                    await asyncio.sleep(_SETTLE_S)
                except TimeoutError:
                    continue
        finally:
            stop()

    async def _look(self) -> None:
        served = {
            (one.info.group, one.info.plural): one.info
            for one in await discover(self._informers.client)
            if one.verbs >= _VERBS and (one.info.group, one.info.plural) not in _NOT_FOLLOWED
        }
        for key in self._of.keys() - served.keys():
            gone = self._of.pop(key)
            self._informers.drop(gone)
            for obj in gone.list():
                self._changed(gone, obj, None)
        new = {key: info for key, info in served.items() if key not in self._of}
        for key, info in new.items():
            self._follow(key, info)
        if new:
            self._came()

    def _follow(self, key: tuple[str, str], info: ResourceInfo) -> None:
        informer = self._informers.of(metadata_of(info))
        informer.add_index("owner", owner_uids)
        self._of[key] = informer
        informer.subscribe(lambda old, new: self._changed(informer, old, new))
