"""The Node object: registered once, kept alive by a Lease every 10 s, its status written when it changes.

As the kubelet does it: the Lease in `kube-node-lease` is the heartbeat; the status goes out when it differs from what
was written, and every 5 minutes in any case.
"""

import asyncio
import logging
import shutil
from datetime import UTC, datetime
from typing import Any

import psutil

from mizzen.kube.backoff import Backoff
from mizzen.kube.errors import AlreadyExists, ApiError, Conflict, NotFound, ServerError, TooManyRequests, Unavailable
from mizzen.kube.resources import Untyped
from mizzen.kube.times import format_micro_time
from mizzen.local.node.host import Host
from mizzen.local.node.machine import node_version
from mizzen.local.node.resources import LEASE, NODE
from mizzen.version import __version__

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
PROCESS_LABEL = "node.mizzen.dev/process"
LIMITS_CONDITION = "node.mizzen.dev/LimitsEnforced"
RENEW_S = 10.0
LEASE_S = 40
STATUS_S = 300.0
_MEMORY_LOW_BYTES = 100 * 2**20
_DISK_LOW_BYTES = 512 * 2**20


class Registration:
    """This node, as the API server sees it. `run` keeps it so."""

    def __init__(self, host: Host, port: int) -> None:
        self._host, self._port = host, port
        self._lease: Untyped | None = None
        self._uid = ""
        self._written: dict[str, Any] | None = None
        self._written_at = 0.0
        self._heartbeats = self._failures = 0

    @property
    def heartbeats(self) -> int:
        return self._heartbeats

    async def register(self) -> None:
        """Makes the Node, or takes the one of that name. Waits for a server that is away. Raises `ApiError`."""
        backoff = Backoff()
        while True:
            try:
                await self._register()
                return
            except (Unavailable, ServerError, TooManyRequests) as error:
                log.warning("node %s: waits for the API server: %s", self._host.options.name, error)
                await asyncio.sleep(backoff.next_s())

    async def _register(self) -> None:
        options, client = self._host.options, self._host.client
        labels = self._labels()
        node = NODE(metadata={"name": options.name, "labels": labels}, spec={"taints": _taints(options.taints)})
        try:
            found = await client.create(node)
        except AlreadyExists:
            found = await client.patch(NODE, options.name, {"metadata": {"labels": labels}})
        self._uid = found["metadata"]["uid"]
        await self._write_status()
        await self._renew()

    async def run(self) -> None:
        """Heartbeats and status until cancelled. A Node that someone deleted is made again."""
        while True:
            await asyncio.sleep(RENEW_S if self._failures == 0 else min(1.0 * 2**self._failures, RENEW_S))
            try:
                await self._beat()
                self._failures = 0
            except ApiError as error:
                self._failures += 1
                log.info("node %s: heartbeat not written: %s", self._host.options.name, error)

    async def _beat(self) -> None:
        """A Lease that is gone went with its Node."""
        try:
            await self._renew()
            await self._write_status()
        except NotFound:
            self._written = self._lease = None
            await self._register()

    async def deregister(self) -> None:
        """Takes the Node away. Raises `ApiError`."""
        client, name = self._host.client, self._host.options.name
        for cls, namespace in ((LEASE, LEASE_NAMESPACE), (NODE, None)):
            try:
                await client.delete(cls, name, namespace)
            except NotFound:
                continue

    async def say_leaving(self) -> None:
        """No new Pods, please: the node is going away. Raises `ApiError`."""
        self._written = None
        await self._write_status(leaving=True)

    # -- the lease

    async def _renew(self) -> None:
        client, name = self._host.client, self._host.options.name
        renewed = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_S,
            "renewTime": format_micro_time(datetime.fromtimestamp(self._host.clock().wall, UTC)),
        }
        if self._lease is None:
            self._lease = await self._first_lease(renewed)
        else:
            try:
                self._lease = await client.replace(LEASE({**self._lease, "spec": renewed}))
            except Conflict:
                self._lease = await self._first_lease(renewed)
        self._heartbeats += 1

    async def _first_lease(self, renewed: dict[str, Any]) -> Untyped:
        client, name = self._host.client, self._host.options.name
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self._uid}
        meta = {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]}
        try:
            return await client.create(LEASE(metadata=meta, spec=renewed))
        except AlreadyExists:
            return await client.patch(
                LEASE, name, {"metadata": {"ownerReferences": [owner]}, "spec": renewed}, namespace=LEASE_NAMESPACE
            )

    # -- the status

    async def _write_status(self, *, leaving: bool = False) -> None:
        now = self._host.clock()
        status = self._status(leaving)
        if status == self._written and now.steady - self._written_at < STATUS_S:
            return
        stamp = now.rfc3339()
        known = {condition["type"]: condition for condition in (self._written or {}).get("conditions") or ()}
        body: dict[str, Any] = {**status, "conditions": []}
        for condition in status["conditions"]:
            entry = {**condition, "lastHeartbeatTime": stamp}
            if known.get(condition["type"], {}).get("status") != condition["status"]:
                entry["lastTransitionTime"] = stamp
            body["conditions"].append(entry)
        await self._host.client.patch(
            NODE, self._host.options.name, {"status": body}, type_="strategic", subresource="status"
        )
        self._written, self._written_at = status, now.steady

    def _status(self, leaving: bool) -> dict[str, Any]:
        machine, options = self._host.machine, self._host.options
        capacity = {
            "cpu": str(machine.cores),
            "memory": f"{machine.memory_bytes // 1024}Ki",
            "ephemeral-storage": f"{machine.disk_bytes // 1024}Ki",
            "pods": str(options.pods_max),
        }
        return {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [
                {"type": "InternalIP", "address": options.address},
                {"type": "Hostname", "address": options.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "nodeInfo": {
                "architecture": machine.architecture,
                "bootID": machine.boot_id,
                "containerRuntimeVersion": f"mizzen-processes://{__version__}",
                "kernelVersion": machine.kernel,
                "kubeProxyVersion": "",
                "kubeletVersion": node_version(),
                "machineID": machine.machine_id,
                "operatingSystem": machine.system,
                "osImage": f"{machine.os_image}, {machine.python}",
                "systemUUID": machine.machine_id,
            },
            "conditions": self._conditions(leaving),
        }

    def _conditions(self, leaving: bool) -> list[dict[str, str]]:
        memory_low = psutil.virtual_memory().available < _MEMORY_LOW_BYTES
        disk_low = shutil.disk_usage(self._host.home).free < _DISK_LOW_BYTES
        held = self._host.enforcement
        whole = held.groups is not None and {"memory", "cpu"} <= held.groups.folders.keys()
        return [
            _condition("MemoryPressure", memory_low, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
            _condition("DiskPressure", disk_low, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
            _condition("PIDPressure", False, "KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
            _condition("Ready", not leaving, "KubeletReady", "NodeShutdown", "Pods are run as processes"),
            _condition(LIMITS_CONDITION, whole, "ControlGroups", "Fallback", held.sentence()),
        ]

    def _labels(self) -> dict[str, str]:
        machine, name = self._host.machine, self._host.options.name
        return {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": machine.system,
            "kubernetes.io/arch": machine.architecture,
            "beta.kubernetes.io/os": machine.system,
            "beta.kubernetes.io/arch": machine.architecture,
            PROCESS_LABEL: "true",
            **dict(self._host.options.labels),
        }


def _condition(kind: str, truth: bool, yes: str, no: str, message: str = "") -> dict[str, str]:
    reason = yes if truth else no
    return {"type": kind, "status": "True" if truth else "False", "reason": reason, "message": message or reason}


def _taints(taints: tuple[str, ...]) -> list[dict[str, str]]:
    """`key=value:Effect` or `key:Effect`, as kubectl writes them."""
    found = []
    for taint in taints:
        pair, _, effect = taint.rpartition(":")
        key, _, value = pair.partition("=")
        found.append({"key": key, "effect": effect} | ({"value": value} if value else {}))
    return found
