"""CustomResourceDefinitions at work: their kinds are served from the moment a definition is stored.

A definition's conditions are made with it, in the same write. When it is deleted it stays, terminating, until its
objects are gone: they are deleted here, each as a client would delete it, and their finalizers are waited for.
"""

import asyncio
import logging
from collections.abc import Callable

from mizzen.local.apiserver.catalog import CRDS, Catalog
from mizzen.local.apiserver.errors import ApiError
from mizzen.local.apiserver.schema import crd as definitions
from mizzen.local.apiserver.store import DELETED, Event, Resource, Store
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs import internal
from mizzen.local.apiserver.verbs.context import Context
from mizzen.local.apiserver.verbs.deleting import CRD_FINALIZER

logger = logging.getLogger(__name__)

CRD_RESOURCE = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")


class CustomResources:
    """Keeps the catalog to what is stored, and clears away the objects of definitions that are deleted."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self._terminating: dict[tuple[str, str], str] = {}
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.changed: Callable[[tuple[str, str]], None] = lambda _key: None
        """Called with the key of a resource whose definition changed or went away."""
        for record in store.records(CRDS):
            self._install(record.object())
        store.listen(self._on_event)

    def _on_event(self, resource: Resource, event: Event) -> None:
        if resource == CRDS:
            crd = event.record.object()
            key = (crd["spec"]["group"], crd["spec"]["names"]["plural"])
            if event.type == DELETED:
                self._catalog.remove(event.record.name)
                self._terminating.pop(key, None)
            else:
                self._install(crd)
            old = None if event.previous is None else event.previous.object()
            if event.type == DELETED or (old is not None and old["spec"] != crd["spec"]):
                self.changed(key)
        elif event.type == DELETED and resource in self._terminating:
            self._work.set()

    def _install(self, crd: Json) -> None:
        self._catalog.install(crd, definitions.resource_types(crd))
        if CRD_FINALIZER in crd["metadata"].get("finalizers", ()) and "deletionTimestamp" in crd["metadata"]:
            self._terminating[crd["spec"]["group"], crd["spec"]["names"]["plural"]] = crd["metadata"]["name"]
            self._work.set()

    def start(self, context: Context) -> None:
        self._task = asyncio.create_task(self._clear(context), name="custom-resource-cleanup")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _clear(self, context: Context) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            for key, name in list(self._terminating.items()):
                try:
                    await self._clear_one(context, key, name)
                except ApiError as error:
                    logger.warning("clearing away %s: %s", name, error)

    async def _clear_one(self, context: Context, key: tuple[str, str], name: str) -> None:
        served = self._catalog.of_key(key)
        if served is not None:
            resource = (key[0], served.rtype.version, key[1])
            for record in list(self._store.records(key)):
                if (
                    b'"deletionTimestamp"' not in record.encoded
                    or "deletionTimestamp" not in record.object()["metadata"]
                ):
                    await internal.delete(context, resource, record.namespace, record.name)
        if self._store.collection(key).records:
            return
        definition = self._store.head(CRDS, "", name)
        if definition is not None:
            crd = definition.object()
            crd["metadata"]["finalizers"] = [f for f in crd["metadata"].get("finalizers", ()) if f != CRD_FINALIZER]
            await internal.update(context, CRD_RESOURCE, crd)
