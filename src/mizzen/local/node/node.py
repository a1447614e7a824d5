"""A kubelet to any API server: runs the Pods bound to one Node as processes of this machine.

    API server ──watch Pods of this node──► Node ──one task each──► PodWorker ──► shim ──► command
        ▲                                    │
        ├── Node, Lease ◄── Registration ────┤
        ├── Pod status ◄── PodWorker         │
        └── logs ──────────────────────────► KubeletServer

The node can be stopped, or killed, at any moment: containers run on with their shims, and the next one takes them back.
A worker that fails on something unforeseen is logged and made anew, from the disk, as after a crash.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mizzen.kube.backoff import Backoff
from mizzen.kube.client import Client
from mizzen.kube.errors import ApiError
from mizzen.kube.events import Recorder
from mizzen.kube.informer import Informer, Informers
from mizzen.kube.resources import ResourceInfo, Untyped, untyped
from mizzen.local.node import machine, processes, watchdog
from mizzen.local.node.certificate import server_context
from mizzen.local.node.host import Host, NodeOptions
from mizzen.local.node.identity import Identity
from mizzen.local.node.limits import dissolve, pids_in, remove_folders
from mizzen.local.node.metrics import NodeMetrics
from mizzen.local.node.moments import Clock, now
from mizzen.local.node.orphans import HomeLock, remember_groups
from mizzen.local.node.podfolder import PodFolder, pod_folders
from mizzen.local.node.podspec import PodSpec
from mizzen.local.node.podstatus import pod_phase
from mizzen.local.node.podworker import PodWorker
from mizzen.local.node.registration import Registration
from mizzen.local.node.resources import POD
from mizzen.local.node.routes import Routes
from mizzen.local.node.server import KubeletServer
from mizzen.local.node.sources import SourceCache

log = logging.getLogger(__name__)

_CONFIG_MAP = untyped(ResourceInfo("", "v1", "ConfigMap", "configmaps", namespaced=True))
_RESUME_S = 2.0
"""When a machine starts, its processors have other things to do first."""
_CLIENT_CA = ("kube-system", "extension-apiserver-authentication", "client-ca-file")


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """What a node has and did."""

    name: str
    port: int
    pods: dict[str, int]
    """By phase."""
    containers: int
    """That run."""
    sources: int
    """ConfigMaps and Secrets that are watched."""
    heartbeats: int
    worker_failures: int


class Node:
    """One node. `start` returns when it is registered and takes Pods; `stop` leaves what runs running."""

    def __init__(
        self,
        client: Client,
        home: Path,
        options: NodeOptions | None = None,
        *,
        clock: Clock = now,
        rng: random.Random | None = None,
        metrics: NodeMetrics | None = None,
    ) -> None:
        self.home = home.resolve()
        self.options = options = options or NodeOptions()
        self._client = client
        self._clock = clock
        self._lock = HomeLock(self.home)
        self._informers = Informers(client)
        self._host = Host(
            self.home, options, machine.look(_made(self.home)), machine.enforcement(self.home), client,
            Recorder(client, "mizzen-node"), SourceCache(self._informers), metrics or NodeMetrics(), clock,
            rng or random.Random(),  # noqa: S311 - ports and jitter, nothing secret
        )  # fmt: skip
        self._workers: dict[str, PodWorker] = {}
        self._group: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._server: KubeletServer | None = None
        self._registration: Registration | None = None
        self._ready = asyncio.Event()
        self.port = 0
        """Of the kubelet server, once started."""

    def __repr__(self) -> str:
        return f"Node({self.options.name}, {len(self._workers)} pods, port {self.port})"

    # -- starting and stopping

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Returns when the Node is registered and takes Pods. Raises `NodeRunningError`, `ApiError`, `OSError`."""
        self._lock.take()
        remember_groups(self.home, self._host.groups)
        self._task = asyncio.create_task(self._run(), name=f"node {self.options.name}")
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._lock.release()
            self._task.result()

    async def wait(self) -> None:
        """Until the node fails, which it should not: raises what it failed of."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self, *, drain: bool = False, deregister: bool = False) -> None:
        """Ends the node. With `drain`, all containers are ended first, each with its grace; else they run on."""
        try:
            if drain and self._registration is not None:
                await self._drain(self._registration)
            if deregister and self._registration is not None:
                await self._registration.deregister()
        except ApiError as error:
            log.warning("%r: leaves without saying so: %s", self, error)
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            if self._host.groups is not None:
                remove_folders(self._host.groups.all_folders)
            self._lock.release()

    async def _drain(self, registration: Registration) -> None:
        await registration.say_leaving()
        workers = [worker for worker in self._workers.values() if worker.state.any_alive]
        await asyncio.gather(*(worker.drain() for worker in workers))
        await self._host.recorder.flush(2.0)

    async def _run(self) -> None:
        host = self._host
        context = await asyncio.to_thread(server_context, self.home / "node", self.options.name, self.options.address)
        identity = Identity(self._client, self.options.name, lambda: host.clock().steady)
        server = self._server = KubeletServer(Routes(host, self.workers).all(), identity, context)
        self.port = await server.start(self.options.address, self.options.port)
        try:
            async with asyncio.TaskGroup() as self._group:
                self._group.create_task(self._informers.run(), name="informers")
                self._group.create_task(host.recorder.run(), name="events")
                registration = self._registration = Registration(host, self.port)
                await registration.register()
                self._group.create_task(registration.run(), name="heartbeat")
                if host.groups is None or not host.groups.enforces("memory"):
                    self._group.create_task(watchdog.watch(self.workers), name="watchdog")
                self._follow_client_authority()
                await self._take_pods()
                self._ready.set()
                await asyncio.sleep(_RESUME_S)
                await asyncio.to_thread(host.prefork.resume)
        finally:
            await asyncio.to_thread(host.prefork.stop)
            await server.close()

    def _follow_client_authority(self) -> None:
        namespace, name, key = _CLIENT_CA

        def changed(_: Untyped | None, found: Untyped | None) -> None:
            authority = None if found is None else (found.get("data") or {}).get(key)
            if authority and self._server is not None:
                self._server.trust_clients_of(authority)

        self._informers.of(_CONFIG_MAP, namespace, fields={"metadata.name": name}).subscribe(changed)

    # -- Pods

    def workers(self) -> Iterator[PodWorker]:
        """The workers there are now."""
        return iter(tuple(self._workers.values()))

    async def _take_pods(self) -> None:
        pods: Informer[Any] = self._informers.of(POD, fields={"spec.nodeName": self.options.name})
        await pods.synced()
        pods.subscribe(self._pod_changed)
        for folder in await asyncio.to_thread(pod_folders, self.home):
            if folder.uid not in self._workers:
                await self._end_orphan(folder)
        await asyncio.to_thread(self._clear_groups)

    def _pod_changed(self, old: Untyped | None, new: Untyped | None) -> None:
        """From the informer: quick, and raises nothing."""
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            worker = self._workers.get(old["metadata"]["uid"])
            if worker is not None:
                worker.forget()
        if new is None:
            return
        pod = PodSpec.parse(new)
        worker = self._workers.get(pod.uid)
        if worker is not None:
            worker.update(pod)
        else:
            self._take(PodWorker(self._host, pod))

    def _take(self, worker: PodWorker) -> None:
        if self._group is None:
            raise RuntimeError(f"{self!r} does not run")
        self._workers[worker.pod.uid] = worker
        self._group.create_task(self._supervise(worker), name=f"pod {worker.pod.key}")

    async def _end_orphan(self, folder: PodFolder) -> None:
        """A Pod of which the API server knows nothing: what runs of it is ended as the Pod itself says."""
        pod = await asyncio.to_thread(folder.load)
        if pod is None:
            await asyncio.to_thread(lambda: processes.kill(processes.marked(folder.root)))
            await asyncio.to_thread(folder.remove)
            return
        worker = PodWorker(self._host, PodSpec.parse(POD(pod)))
        worker.forget()
        log.info("%s: is no longer on the API server: ends", worker.pod.key)
        self._take(worker)

    def _clear_groups(self) -> None:
        """Control groups of Pods that are no more."""
        groups = self._host.groups
        if groups is None:
            return
        for name in groups.names():
            if name.split(".", 1)[0] not in self._workers:
                processes.kill(processes.numbered(pids_in(groups.members(name))))
                dissolve(groups.members(name))

    async def _supervise(self, worker: PodWorker) -> None:
        """Runs a Pod's worker to its end; one that fails is made anew from what is on disk."""
        backoff = Backoff()
        while True:
            try:
                await worker.run()
            except Exception:
                log.exception("%r failed and is made anew", worker)
                self._host.metrics.worker_failures.add()
                await asyncio.sleep(backoff.next_s())
                fresh = PodWorker(self._host, worker.pod)
                if worker.gone:
                    fresh.forget()
                worker = self._workers[worker.pod.uid] = fresh
            else:
                del self._workers[worker.pod.uid]
                return

    def statistics(self) -> NodeStatistics:
        phases: dict[str, int] = {}
        containers = 0
        for worker in self.workers():
            phase = pod_phase(worker.pod, worker.state)
            phases[phase] = phases.get(phase, 0) + 1
            containers += sum(container.alive for container in worker.state.containers.values())
        return NodeStatistics(
            self.options.name, self.port, phases, containers, len(self._host.sources),
            self._registration.heartbeats if self._registration else 0,
            int(self._host.metrics.worker_failures.value()),
        )  # fmt: skip


def _made(home: Path) -> Path:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home
