"""CustomResourceDefinitions at work: their kinds are served from the moment a definition is stored.

A definition's conditions are made with it, in the same write. When it is deleted it stays, terminating, until its
objects are gone: they are deleted here, each as a client would delete it, and their finalizers are waited for.
"""

import asyncio
import logging
from collections.abc import Callable

from mizzen.local.apiserver.catalog import CRDS, Catalog, Served
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
        self._schema_revisions: dict[str, int] = {}
        for record in store.records(CRDS):
            self._schema_revisions[record.name] = record.revision
            self._install(record.object())
        store.listen(self._on_event)

    def _on_event(self, resource: Resource, event: Event) -> None:
        if resource == CRDS:
            self._on_definition(event)
        elif event.type == DELETED and resource in self._terminating:
            self._work.set()

    def _on_definition(self, event: Event) -> None:
        crd, name = event.record.object(), event.record.name
        key = (crd["spec"]["group"], crd["spec"]["names"]["plural"])
        old = None if event.previous is None else event.previous.object()
        changed = old is None or old["spec"] != crd["spec"]
        if event.type == DELETED:
            self._catalog.remove(name)
            self._terminating.pop(key, None)
            del self._schema_revisions[name]
        else:
            if changed:
                self._schema_revisions[name] = event.record.revision
            self._install(crd)
        if changed or event.type == DELETED:
            self.changed(key)

    def _install(self, crd: Json) -> None:
        metadata, key = crd["metadata"], (crd["spec"]["group"], crd["spec"]["names"]["plural"])
        if _is_established(crd):
            types = definitions.resource_types(crd)
            self._catalog.install(crd, types, self._schema_revisions[metadata["name"]])
        else:
            self._catalog.remove(metadata["name"])
        if CRD_FINALIZER in metadata.get("finalizers", ()) and "deletionTimestamp" in metadata:
            self._terminating[key] = metadata["name"]
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
        definition = self._store.head(CRDS, "", name)
        if definition is None:
            return
        crd = definition.object()
        served = _as_stored(crd)
        for record in list(self._store.records(key)):
            if "deletionTimestamp" not in record.object()["metadata"]:
                await internal.delete_record(context, served, record)
        if not self._store.collection(key).records:
            crd["metadata"]["finalizers"] = [f for f in crd["metadata"].get("finalizers", ()) if f != CRD_FINALIZER]
            await internal.update(context, CRD_RESOURCE, crd)


def _as_stored(crd: Json) -> Served:
    """The definition's resource in the version that is stored, whether or not anything of it is served."""
    versions = [{**version, "served": True} for version in crd["spec"]["versions"] if version.get("storage")]
    rtype = definitions.resource_types({**crd, "spec": {**crd["spec"], "versions": versions}})[0]
    return Served(rtype, rtype.key, rtype.api_version, terminating=True)


def _is_established(crd: Json) -> bool:
    """Whether its names were accepted at some time: until then nothing of it is served."""
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)
