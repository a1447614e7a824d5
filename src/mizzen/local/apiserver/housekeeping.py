"""What a cluster's controller manager does that an API server alone would be missed without.

* Every namespace has its ServiceAccount `default` and ConfigMap `kube-root-ca.crt`. They are submitted in the moment
  the namespace is written, before its creator is answered, so that nobody can create a Pod too early.
* ClusterRoles that aggregate others hold the rules of those they select.
* Events go an hour after they last happened, and before that where there are more than `EVENTS_MAX`, the oldest first:
  a machine on which much happens shall not fill its memory with telling it.

Each is decided from what is there, so a start after a crash, or a controller manager that does the same, changes
nothing.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta

from mizzen.local.apiserver.catalog import EVENTS
from mizzen.local.apiserver.errors import ApiError
from mizzen.local.apiserver.security.rbac import stale_aggregates
from mizzen.local.apiserver.store import ADDED, DELETED, Event, Record, Resource
from mizzen.local.apiserver.strategies.base import timestamp
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs import internal
from mizzen.local.apiserver.verbs.context import Context

logger = logging.getLogger(__name__)

EVENT_LIFETIME = timedelta(hours=1)
EVENTS_MAX = 1000
_SWEEP_S = 300.0
_SWEEP_AFTER = EVENTS_MAX // 10
"""New events after which it is looked whether there are too many."""
_NAMESPACES = ("", "namespaces")
_ACCOUNTS = ("", "serviceaccounts")
_CONFIG_MAPS = ("", "configmaps")
_CLUSTER_ROLES = ("rbac.authorization.k8s.io", "clusterroles")
_ROOT_CA = "kube-root-ca.crt"
_ROOT_CA_TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class Housekeeping:
    """Listens to the store from `start` to `stop`."""

    def __init__(self, context: Context, ca_pem: bytes) -> None:
        self._context = context
        self._ca = ca_pem.decode()
        self._roles_changed = asyncio.Event()
        self._events_new = 0
        self._many_events = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        store = self._context.store
        for namespace in list(store.records(_NAMESPACES)):
            self._furnish(namespace.name)
        await self._aggregate()
        store.listen(self._on_event)
        self._tasks = [asyncio.create_task(self._keep_aggregates()), asyncio.create_task(self._keep_sweeping())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_event(self, resource: Resource, event: Event) -> None:
        record = event.record
        if resource == _NAMESPACES and event.type != DELETED:
            self._furnish(record.name)
        elif event.type == DELETED and (resource, record.name) in {(_ACCOUNTS, "default"), (_CONFIG_MAPS, _ROOT_CA)}:
            self._furnish(record.namespace)
        elif resource == _CLUSTER_ROLES:
            self._roles_changed.set()
        elif resource == EVENTS and event.type == ADDED:
            self._events_new += 1
            if self._events_new >= _SWEEP_AFTER:
                self._events_new = 0
                self._many_events.set()

    def _furnish(self, namespace: str) -> None:
        found = self._context.store.head(_NAMESPACES, "", namespace)
        if found is None or "deletionTimestamp" in found.object()["metadata"]:
            return
        account: Json = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {}}
        self._submit(_ACCOUNTS, namespace, "default", account)
        authority = {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"annotations": {"kubernetes.io/description": _ROOT_CA_TEXT}},
            "data": {"ca.crt": self._ca},
        }
        self._submit(_CONFIG_MAPS, namespace, _ROOT_CA, authority)

    def _submit(self, resource: Resource, namespace: str, name: str, obj: Json) -> None:
        context = self._context
        existing = context.store.head(resource, namespace, name)
        if existing is not None:
            if resource == _CONFIG_MAPS and (stored := existing.object()).get("data") != obj["data"]:
                # The CA was made anew: Pods must not trust the old one.
                context.store.update(resource, {**stored, "data": obj["data"]}, existing).add_done_callback(
                    _log_failure
                )
            return
        obj["metadata"] = {
            "name": name,
            "namespace": namespace,
            "uid": context.new_uid(),
            "creationTimestamp": timestamp(context.now()),
            **obj["metadata"],
        }
        context.store.create(resource, namespace, name, obj).add_done_callback(_log_failure)

    async def _keep_aggregates(self) -> None:
        while True:
            await self._roles_changed.wait()
            self._roles_changed.clear()
            await self._aggregate()

    async def _aggregate(self) -> None:
        for role in stale_aggregates(self._context.reader):
            try:
                await internal.update(self._context, (_CLUSTER_ROLES[0], "v1", _CLUSTER_ROLES[1]), role)
            except ApiError as error:
                logger.warning("aggregating ClusterRole %s: %s", role["metadata"]["name"], error)

    async def _keep_sweeping(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._many_events.wait(), _SWEEP_S)
            self._many_events.clear()
            try:
                await self.sweep()
            except ApiError as error:
                logger.warning("sweeping events: %s", error)

    async def sweep(self) -> None:
        """Delete the events whose time is over, and the oldest of too many."""
        ends = self._context.now() - EVENT_LIFETIME
        served = self._context.catalog.find("", "v1", "events")
        assert served is not None
        told = [(last_happened(record.object()), record) for record in self._context.store.records(EVENTS)]
        told.sort(key=lambda one: one[0])
        for index, (when, record) in enumerate(told):
            if when < ends or index < len(told) - EVENTS_MAX:
                await internal.delete_record(self._context, served, record)


def last_happened(event: Json) -> datetime:
    """When an event was last seen: the latest time it tells."""
    series = event.get("series") or {}
    told = (
        event["metadata"]["creationTimestamp"],
        event.get("lastTimestamp"),
        event.get("eventTime"),
        series.get("lastObservedTime"),
    )
    return max(datetime.fromisoformat(text) for text in told if text)


def _log_failure(written: "asyncio.Future[Record]") -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        logger.warning("furnishing a namespace: %s", error)
