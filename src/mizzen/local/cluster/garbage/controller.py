"""The garbage collector: deletes what has lost its owners, and holds owners that wait for their dependents.

Its keys are uids, of objects of all kinds. Whatever it is about to do, it asks the server first: the caches say where
to look, never that something is gone. What it decides is in `decide`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from mizzen.kube.errors import Conflict, NotFound
from mizzen.kube.informer import Informer
from mizzen.kube.resources import Json, Key, Meta, Owner, Untyped, meta_of, metadata_of, untyped
from mizzen.kube.runtime import Controller, Result, Watch
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.garbage.decide import (
    FOREGROUND,
    ORPHAN,
    Delete,
    Drop,
    OwnerState,
    blocking,
    decide,
    leaves_dependents,
    waits_for_dependents,
)
from mizzen.local.cluster.garbage.kinds import AllKinds
from mizzen.local.cluster.objects import owner_uids, uid_of

_GONE_REMEMBERED = 4096
_UNKNOWN_KIND_S = 30.0
_SYNC_S = 1.0
_AT_ONCE = 16


class GarbageCollector(Controller):
    """Makes owner references mean what they say."""

    name = "garbage-collector-controller"
    workers = 8

    def __init__(self, cluster: ClusterContext) -> None:
        self._client = cluster.client
        self._kinds = AllKinds(cluster.informers, self._changed, self._kinds_came)
        self._where: dict[str, tuple[Informer[Untyped], Key]] = {}
        """Where the object of each uid is."""
        self._gone: OrderedDict[str, None] = OrderedDict()
        """Uids that a fresh look did not find; uids are never used again."""
        self._puzzling: set[str] = set()
        """Uids of objects with owners of kinds that are not known (yet)."""

    def watches(self) -> Sequence[Watch[Any]]:
        return ()

    async def run(self) -> None:
        await self._kinds.run()

    def _changed(self, informer: Informer[Untyped], old: Untyped | None, new: Untyped | None) -> None:
        """Files the object and queues all whom the change may concern."""
        if new is None or (old is not None and uid_of(old) != uid_of(new)):
            assert old is not None
            self._where.pop(uid_of(old), None)
            self._remember_gone(uid_of(old))
            # Its dependents have lost it, and its owners need not wait for it.
            self._enqueue(*self._dependent_uids(uid_of(old)), *owner_uids(old))
        if new is not None:
            meta = new["metadata"]
            self._where[uid_of(new)] = (informer, meta_of(new).key)
            if meta.get("ownerReferences") or meta.get("deletionTimestamp"):
                self._enqueue(uid_of(new))
            if meta.get("deletionTimestamp") and FOREGROUND in (meta.get("finalizers") or ()):
                self._enqueue(*self._dependent_uids(uid_of(new)))
            if old is not None and old["metadata"].get("ownerReferences") != meta.get("ownerReferences"):
                # An owner that is no longer blocked may go.
                self._enqueue(*owner_uids(old))

    def _enqueue(self, *uids: str) -> None:
        for uid in uids:
            self.queue.add(Key(None, uid))

    def _kinds_came(self) -> None:
        """A new kind is known a moment after its first objects are made: who was owned by those is looked at again."""
        self._enqueue(*self._puzzling)
        self._puzzling.clear()

    def _remember_gone(self, uid: str) -> None:
        self._gone[uid] = None
        if len(self._gone) > _GONE_REMEMBERED:
            self._gone.popitem(last=False)

    def _dependents(self, uid: str) -> list[tuple[Informer[Untyped], Untyped]]:
        return [
            (informer, obj) for informer in self._kinds.informers() for obj in informer.by_index("owner", uid)
        ]  # fmt: skip

    def _dependent_uids(self, uid: str) -> list[str]:
        return [uid_of(obj) for _, obj in self._dependents(uid)]

    # -- one object

    async def reconcile(self, key: Key) -> Result | None:
        where = self._where.get(key.name)
        if where is None:
            return None
        informer, object_key = where
        cached = informer.at(object_key)
        if cached is None or not self._may_concern_us(meta_of(cached)):
            return None
        fresh = await self._fresh(informer, object_key, key.name)
        if fresh is None:
            return None
        meta = meta_of(fresh)
        ends = leaves_dependents(meta) or waits_for_dependents(meta)
        if ends and not self._kinds.is_synced:
            # Dependents of a kind that is not listed yet would be passed over.
            return Result(_SYNC_S)
        try:
            if leaves_dependents(meta):
                await self._leave_dependents(informer, meta)
            elif waits_for_dependents(meta):
                await self._wait_for_dependents(informer, meta)
            return await self._follow_owners(informer, meta)
        except NotFound:
            return None
        except Conflict:
            # It changed while we looked: look again, at what it is now.
            self.queue.add(key)
            return None

    def _may_concern_us(self, meta: Meta) -> bool:
        """Whether a look at the server is worth while: most objects have owners that are there, and that is all."""
        if meta.deleted is not None:
            return leaves_dependents(meta) or waits_for_dependents(meta)
        return any(self._known_state(meta, owner) is not OwnerState.SOLID for owner in meta.owners)

    async def _fresh(self, informer: Informer[Untyped], key: Key, uid: str) -> Untyped | None:
        """The object as the server has it now; `None` where it is gone or another has its name."""
        try:
            found = await self._client.get(untyped(informer.info), key.name, key.namespace)
        except NotFound:
            return None
        return found if uid_of(found) == uid else None

    async def _follow_owners(self, informer: Informer[Untyped], meta: Meta) -> Result | None:
        states = []
        for owner in meta.owners:
            state = self._known_state(meta, owner) or await self._look_for(meta, owner)
            if state is None:
                self._puzzling.add(meta.uid)
                return Result(_UNKNOWN_KIND_S)
            states.append((owner, state))
        dependents = [meta_of(obj) for _, obj in self._dependents(meta.uid)]
        match decide(meta, states, dependents):
            case Drop(uids):
                await self._drop_references(informer, meta, uids)
            case Delete(propagation, unblock):
                if unblock:
                    meta = await self._unblock(informer, meta)
                await self._client.delete(
                    untyped(informer.info), meta.name, meta.namespace, uid=meta.uid, propagation=propagation,
                    resource_version=meta.resource_version,
                )  # fmt: skip
        return None

    def _known_state(self, meta: Meta, owner: Owner) -> OwnerState | None:
        """What the caches say of an owner; `None` where they do not know it."""
        where = self._where.get(owner.uid)
        if where is None:
            return OwnerState.GONE if owner.uid in self._gone else None
        informer, key = where
        if informer.info.namespaced and key.namespace != meta.namespace:
            # An owner in another namespace is none; one with a namespace cannot own what has none, and is let be.
            return OwnerState.SOLID if meta.namespace is None else OwnerState.GONE
        found = informer.at(key)
        waits = found is not None and waits_for_dependents(meta_of(found))
        return OwnerState.WAITING if waits else OwnerState.SOLID

    async def _look_for(self, meta: Meta, owner: Owner) -> OwnerState | None:
        """Asks the server for an owner that no cache has; `None` where its kind is not served."""
        info = self._kinds.of(owner.api_version, owner.kind)
        if info is None:
            return None
        if info.namespaced and meta.namespace is None:
            return OwnerState.SOLID
        try:
            found = await self._client.get(untyped(info), owner.name, meta.namespace if info.namespaced else None)
        except NotFound:
            self._remember_gone(owner.uid)
            return OwnerState.GONE
        if uid_of(found) != owner.uid:
            self._remember_gone(owner.uid)
            return OwnerState.GONE
        return OwnerState.WAITING if waits_for_dependents(meta_of(found)) else OwnerState.SOLID

    # -- owners that are being deleted

    async def _wait_for_dependents(self, informer: Informer[Untyped], meta: Meta) -> None:
        dependents = [meta_of(obj) for _, obj in self._dependents(meta.uid)]
        if not blocking(meta.uid, dependents):
            await self._patch(informer, meta, {"finalizers": [one for one in meta.finalizers if one != FOREGROUND]})
            return
        self._enqueue(*(one.uid for one in dependents if not waits_for_dependents(one)))

    async def _leave_dependents(self, informer: Informer[Untyped], meta: Meta) -> None:
        turns = asyncio.Semaphore(_AT_ONCE)

        async def leave(of: Informer[Untyped], dependent: Untyped) -> None:
            async with turns:
                fresh = await self._fresh(of, meta_of(dependent).key, uid_of(dependent))
                if fresh is not None:
                    await self._drop_references(of, meta_of(fresh), frozenset({meta.uid}))

        await asyncio.gather(*(leave(of, dependent) for of, dependent in self._dependents(meta.uid)))
        await self._patch(informer, meta, {"finalizers": [one for one in meta.finalizers if one != ORPHAN]})

    # -- writing

    async def _drop_references(self, informer: Informer[Untyped], meta: Meta, uids: frozenset[str]) -> None:
        kept = [_reference(owner) for owner in meta.owners if owner.uid not in uids]
        await self._patch(informer, meta, {"ownerReferences": kept})

    async def _unblock(self, informer: Informer[Untyped], meta: Meta) -> Meta:
        """Lets the owners go without this one, which itself waits for one of them: else both would wait for ever."""
        references = [{**_reference(owner), "blockOwnerDeletion": False} for owner in meta.owners]
        return await self._patch(informer, meta, {"ownerReferences": references})

    async def _patch(self, informer: Informer[Untyped], meta: Meta, metadata: Json) -> Meta:
        """Replaces lists of the metadata; a merge patch with the version, so that it is a conflict if they changed."""
        body = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, **metadata}}
        patched = await self._client.patch(untyped(informer.info), meta.name, body, namespace=meta.namespace)
        after = meta_of(patched)
        if after.deleted is None or after.finalizers:
            kept = {key: patched[key] for key in ("apiVersion", "kind", "metadata")}
            informer.wrote(metadata_of(informer.info)(kept))
        return after


def _reference(owner: Owner) -> Json:
    reference: Json = {
        "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
    }  # fmt: skip
    if owner.controller:
        reference["controller"] = True
    if owner.block_deletion:
        reference["blockOwnerDeletion"] = True
    return reference
