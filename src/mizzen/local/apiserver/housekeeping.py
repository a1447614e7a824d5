"""What a cluster's controller manager does that an API server alone would be missed without.

* Every namespace has its ServiceAccount `default` and ConfigMap `kube-root-ca.crt`. They are submitted in the moment
  the namespace is written, before its creator is answered, so that nobody can create a Pod too early.
* ClusterRoles that aggregate others hold the rules of those they select.
* Events go an hour after they last happened.

Each is decided from what is there, so a start after a crash, or a controller manager that does the same, changes
nothing.
"""

import asyncio
import logging
from datetime import datetime, timedelta

from mizzen.local.apiserver.catalog import EVENTS
from mizzen.local.apiserver.errors import ApiError
from mizzen.local.apiserver.security.rbac import stale_aggregates
from mizzen.local.apiserver.store import DELETED, Event, Record, Resource
from mizzen.local.apiserver.strategies.base import timestamp
from mizzen.local.apiserver.types import Json
from mizzen.local.apiserver.verbs import internal
from mizzen.local.apiserver.verbs.context import Context

logger = logging.getLogger(__name__)

EVENT_LIFETIME = timedelta(hours=1)
_SWEEP_S = 300.0
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
            await asyncio.sleep(_SWEEP_S)
            try:
                await self.sweep()
            except ApiError as error:
                logger.warning("sweeping events: %s", error)

    async def sweep(self) -> None:
        """Delete the events whose time is over."""
        ends = self._context.now() - EVENT_LIFETIME
        served = self._context.catalog.find("", "v1", "events")
        assert served is not None
        for record in list(self._context.store.records(EVENTS)):
            if last_happened(record.object()) < ends:
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
