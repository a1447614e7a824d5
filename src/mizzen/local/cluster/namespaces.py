"""The namespace controller: empties a namespace that is to go, then lets it go.

It asks for the deletion of everything of every kind, each as a client would ask, and looks again until nothing is left:
Pods take their grace period, finalizers take what they take. What still waits is said in the conditions.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from mizzen.kube.conditions import with_condition
from mizzen.kube.discovery import Served, discover
from mizzen.kube.errors import ApiError, Conflict, NotFound
from mizzen.kube.resources import Json, Key, Untyped, info_of, untyped
from mizzen.kube.runtime import Controller, Result, Watch
from mizzen.local.cluster.context import ClusterContext
from mizzen.local.cluster.objects import Namespace, is_deleted, name_of, spec_of, status_of

_FINALIZER = "kubernetes"
_AT_ONCE = 8
_AGAIN_S = 0.5
_AGAIN_AT_MOST_S = 15.0


class NamespaceController(Controller):
    """Ends namespaces."""

    name = "namespace-controller"

    def __init__(self, cluster: ClusterContext) -> None:
        self._client = cluster.client
        self._clock = cluster.clock
        self._namespaces = cluster.informers.of(Namespace)
        self._looks: dict[str, int] = {}
        """How often each namespace was found not empty: each time is waited a little longer."""

    def watches(self) -> Sequence[Watch[Any]]:
        return (Watch(self._namespaces, when=lambda _old, new: new is None or is_deleted(new)),)

    async def reconcile(self, key: Key) -> Result | None:
        namespace = self._namespaces.at(key)
        if namespace is None or _FINALIZER not in (spec_of(namespace).get("finalizers") or ()):
            self._looks.pop(key.name, None)
            return None
        if not is_deleted(namespace):
            return None
        kinds = [one for one in await discover(self._client) if one.info.namespaced]
        left = await self._empty(key.name, kinds)
        if left:
            await self._say(namespace, left)
            looks = self._looks[key.name] = self._looks.get(key.name, 0) + 1
            return Result(min(_AGAIN_S * 1.5**looks, _AGAIN_AT_MOST_S))
        await self._finalize(namespace)
        return None

    async def _empty(self, namespace: str, kinds: Sequence[Served]) -> dict[str, tuple[int, list[str]]]:
        """Asks for the deletion of all there is. What is left then: how many of each kind, and their finalizers."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def empty(kind: Served) -> tuple[str, tuple[int, list[str]]] | None:
            async with turns:
                return await self._empty_of(namespace, kind)

        found = await asyncio.gather(*(empty(kind) for kind in kinds if {"list", "delete"} <= kind.verbs))
        return dict(sorted(one for one in found if one is not None))

    async def _empty_of(self, namespace: str, kind: Served) -> tuple[str, tuple[int, list[str]]] | None:
        cls = untyped(kind.info)
        try:
            objects = await self._client.list(cls, namespace)
            if any(not is_deleted(obj) for obj in objects):
                if "deletecollection" in kind.verbs:
                    await self._client.delete_collection(cls, namespace, propagation="Background")
                else:
                    for obj in objects:
                        await self._client.delete(cls, name_of(obj), namespace, propagation="Background")
                objects = await self._client.list(cls, namespace)
        except NotFound:
            # The kind, or one of its objects, has gone in the meantime: another look will tell.
            return None if not kind.verbs else (str(kind.info), (1, []))
        except ApiError as error:
            if error.code == 405:
                return None
            raise
        if not objects.items:
            return None
        finalizers = sorted({one for obj in objects for one in obj["metadata"].get("finalizers") or ()})
        return str(kind.info), (len(objects), finalizers)

    async def _say(self, namespace: Untyped, left: dict[str, tuple[int, list[str]]]) -> None:
        """The conditions that `kubectl describe namespace` shows."""
        remaining = ", ".join(f"{kind} has {count} resource instances" for kind, (count, _) in left.items())
        waiting: dict[str, int] = {}
        for count, finalizers in left.values():
            for finalizer in finalizers:
                waiting[finalizer] = waiting.get(finalizer, 0) + count
        held = ", ".join(f"{finalizer} in {count} resource instances" for finalizer, count in sorted(waiting.items()))
        conditions = list(status_of(namespace).get("conditions") or ())
        for type_, holds, reason, message in (
            ("NamespaceDeletionDiscoveryFailure", False, "ResourcesDiscovered",
             "All resources successfully discovered"),
            ("NamespaceDeletionContentFailure", False, "ContentDeleted",
             "All content successfully deleted, may be waiting on finalization"),
            ("NamespaceContentRemaining", True, "SomeResourcesRemain", f"Some resources are remaining: {remaining}"),
            ("NamespaceFinalizersRemaining", bool(held), "SomeFinalizersRemain" if held else "ContentHasNoFinalizers",
             f"Some content in the namespace has finalizers remaining: {held}" if held
             else "All content-preserving finalizers finished"),
        ):  # fmt: skip
            conditions = with_condition(conditions, type_, holds, reason, message, now=self._clock())
        if conditions != status_of(namespace).get("conditions"):
            body: Json = {"metadata": {"uid": namespace["metadata"]["uid"]}, "status": {"conditions": conditions}}
            try:
                patched = await self._client.patch(Namespace, name_of(namespace), body, subresource="status")
                self._namespaces.wrote(patched)
            except (Conflict, NotFound):
                return

    async def _finalize(self, namespace: Untyped) -> None:
        """Takes our name off `spec.finalizers`; with the last name the namespace goes."""
        try:
            fresh = await self._client.get(Namespace, name_of(namespace))
        except NotFound:
            return
        kept = [one for one in spec_of(fresh).get("finalizers") or () if one != _FINALIZER]
        body = {**fresh, "spec": {**spec_of(fresh), "finalizers": kept}}
        path = info_of(Namespace).path(None, name_of(namespace), "finalize")
        try:
            await self._client.request("PUT", path, body=body)
        except NotFound:
            return
