"""A node without processes: it registers, heartbeats and plays the life of its Pods through the API, as the script says.

A Pod becomes Running and Ready as soon as it is bound, and goes when it is deleted. Annotations make it otherwise:
`hollow/exit: "0"` ends it with that code, `hollow/never-ready: ""` keeps it from being ready.
"""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any, Self

from mizzen.kube.client import Client
from mizzen.kube.errors import ApiError, NotFound
from mizzen.kube.informer import Informer
from mizzen.kube.times import format_micro_time, format_time
from mizzen.local.cluster.objects import (
    Lease,
    Node,
    Pod,
    annotations_of,
    is_deleted,
    name_of,
    namespace_of,
    spec_of,
    status_of,
)
from mizzen.local.cluster.pods import is_finished, node_of, phase


class HollowNode:
    """Runs from `async with` on."""

    def __init__(
        self, client: Client, name: str = "hollow", cpu: str = "8", memory: str = "16Gi", pods: str = "500"
    ) -> None:
        self.client, self.name = client, name
        self.allocatable = {"cpu": cpu, "memory": memory, "pods": pods}
        self.exits: dict[str, int] = {}
        """Pods to end with that code, by name."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._addresses = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.fall_silent()

    async def start(self) -> None:
        """Registers and begins."""
        labels = {"kubernetes.io/hostname": self.name}
        await self.client.create(Node({"metadata": {"name": self.name, "labels": labels}}))
        await self.say_ready(True)
        await self._renew()
        self._tasks = [asyncio.create_task(self._play()), asyncio.create_task(self._heartbeat())]

    async def fall_silent(self) -> None:
        """As if the power went."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def say_ready(self, ready: bool) -> None:
        now = format_time(datetime.now(UTC))
        condition = {
            "type": "Ready",
            "status": str(ready),
            "reason": "Hollow",
            "message": "",
            "lastTransitionTime": now,
        }
        status = {"conditions": [condition], "allocatable": self.allocatable, "capacity": self.allocatable}
        await self.client.patch(Node, self.name, {"status": status}, subresource="status")

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self.name,
            "leaseDurationSeconds": 40,
            "renewTime": format_micro_time(datetime.now(UTC)),
        }
        lease = Lease({"metadata": {"name": self.name, "namespace": "kube-node-lease"}, "spec": spec})
        await self.client.apply(lease, field_manager=self.name, force=True)

    async def _heartbeat(self) -> None:
        """Renews often: tests shorten the grace."""
        pause = asyncio.Event()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await pause.wait()
            await self._renew()

    async def _play(self) -> None:
        async with Informer(self.client, Pod, fields=f"spec.nodeName={self.name}") as pods:
            changed = asyncio.Event()
            pods.subscribe(lambda _old, _new: changed.set())
            while True:
                changed.clear()
                for pod in pods.list():
                    with contextlib.suppress(ApiError):
                        await self._act(pod, pods)
                await changed.wait()

    async def _act(self, pod: Any, pods: Informer[Any]) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        if is_deleted(pod):
            if not is_finished(pod):
                pods.wrote(await self._say(pod, "Failed", ready=False, code=137))
            with contextlib.suppress(NotFound):
                await self.client.delete(Pod, name, namespace, grace_period_s=0)
            return
        wanted = annotations_of(pod).get("hollow/exit")
        code = int(wanted) if wanted is not None else self.exits.get(name)
        if code is not None and not is_finished(pod):
            pods.wrote(await self._say(pod, "Failed" if code else "Succeeded", ready=False, code=code))
        elif phase(pod) == "Pending" and node_of(pod):
            ready = "hollow/never-ready" not in annotations_of(pod)
            pods.wrote(await self._say(pod, "Running", ready=ready))

    async def _say(self, pod: Any, phase_: str, *, ready: bool, code: int | None = None) -> Any:
        now = format_time(datetime.now(UTC))
        address = status_of(pod).get("podIP")
        if address is None:
            self._addresses += 1
            address = f"10.1.{self._addresses // 250}.{self._addresses % 250 + 1}"
        state = (
            {"running": {"startedAt": now}}
            if code is None
            else {"terminated": {"exitCode": code, "startedAt": now, "finishedAt": now, "reason": "Done"}}
        )
        container = spec_of(pod)["containers"][0]
        status = {
            "phase": phase_,
            "startTime": now,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [
                {"type": type_, "status": str(ready), "lastTransitionTime": now} for type_ in ("Ready", "ContainersReady")
            ],
            "containerStatuses": [
                {
                    "name": container["name"], "image": container.get("image") or "none", "imageID": "", "ready": ready,
                    "restartCount": 0, "state": state,
                }
            ],
        }  # fmt: skip
        return await self.client.patch(
            Pod, name_of(pod), {"status": status}, namespace=namespace_of(pod), type_="strategic", subresource="status"
        )
