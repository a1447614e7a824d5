"""A cluster on the embedded API server: its controllers with a short grace for nodes, and one hollow node."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from mizzen.kube.client import Client
from mizzen.kube.errors import NotFound
from mizzen.kube.events import Recorder
from mizzen.kube.informer import Informer, Informers
from mizzen.kube.resources import Untyped, meta_of
from mizzen.kube.runtime import Runtime
from mizzen.local.apiserver.server import ApiServer
from mizzen.local.cluster import ClusterContext, cluster_controllers
from mizzen.local.cluster.nodes.lifecycle import NodeLifecycleController
from mizzen.local.cluster.nodes.pod_collection import PodCollector
from mizzen.local.cluster.objects import Pod, labels_of, name_of

from .hollow_node import HollowNode

GRACE_S = 1.5
PATIENCE_S = 20.0


class World:
    """What a test sees: a client, the controllers, a node, and waiting for things to come true."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.informers = Informers(client)
        self.node = HollowNode(client)
        self._tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self.informers.run())]
        self._runtime: Runtime | None = None

    async def start_controllers(self) -> None:
        informers = Informers(self.client)
        recorder = Recorder(self.client, "cluster")
        cluster = ClusterContext(self.client, informers, recorder)
        usual = (NodeLifecycleController, PodCollector)
        controllers = [one for one in cluster_controllers(cluster) if not isinstance(one, usual)]
        controllers += [NodeLifecycleController(cluster, grace_s=GRACE_S), PodCollector(cluster, quarantine_s=GRACE_S)]
        self._runtime = Runtime(informers, controllers, recorder=recorder, grace_s=2.0)
        self._tasks.append(asyncio.create_task(self._runtime.run()))
        await self._runtime.started()

    async def stop_controllers(self, *, kill: bool = False) -> None:
        """In order, or as if the process was killed."""
        assert self._runtime is not None
        task = self._tasks.pop()
        if kill:
            task.cancel()
        else:
            self._runtime.stop()
        await asyncio.gather(task, return_exceptions=kill)
        self._runtime = None

    async def end(self) -> None:
        if self._runtime is not None:
            await self.stop_controllers()
        await self.node.fall_silent()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, cls: type[Untyped], holds: Callable[[list[Untyped]], Any]) -> Any:
        """Waits until it holds of all objects of a kind. Returns what `holds` returns; fails with what is there."""
        informer: Informer[Untyped] = self.informers.of(cls)
        changed = asyncio.Event()
        stop = informer.subscribe(lambda _old, _new: changed.set())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await informer.synced()
                while True:
                    changed.clear()
                    outcome = holds(informer.list())
                    if outcome:
                        return outcome
                    await changed.wait()
        except TimeoutError:
            there = [{key: obj.get(key) for key in ("metadata", "spec", "status")} for obj in informer.list()]
            raise AssertionError(f"it did not come true of {there}") from None
        finally:
            stop()

    async def until_one(
        self, cls: type[Untyped], name: str, holds: Callable[[Any], Any], namespace: str = "default"
    ) -> Any:
        """Waits until it holds of the object of that name, and returns the object."""

        def found(objects: list[Untyped]) -> Untyped | None:
            named = [obj for obj in objects if name_of(obj) == name and meta_of(obj).namespace in {namespace, None}]
            return next((obj for obj in named if holds(obj)), None)

        return await self.until(cls, found)

    async def until_gone(self, cls: type[Untyped], name: str, namespace: str = "default") -> None:
        await self.until(
            cls, lambda objects: all((meta_of(o).namespace, name_of(o)) != (namespace, name) for o in objects)
        )

    async def pods(self, **labels: str) -> list[Untyped]:
        """The Pods with these labels, asked of the server."""
        found = await self.client.list(Pod, "default")
        return [one for one in found if all(labels_of(one).get(key) == value for key, value in labels.items())]

    async def is_there(self, cls: type[Untyped], name: str, namespace: str = "default") -> bool:
        try:
            await self.client.get(cls, name, namespace)
        except NotFound:
            return False
        return True


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[World]:
    """Server and node, no controllers yet."""
    server = ApiServer(tmp_path, port=0)
    await server.start()
    async with Client.from_kubeconfig(server.kubeconfig) as client:
        world = World(client)
        await world.node.start()
        try:
            yield world
        finally:
            await world.end()
    await server.stop()


@pytest.fixture
async def world(bare: World) -> World:
    await bare.start_controllers()
    return bare
