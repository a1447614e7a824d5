"""One test's part of a cluster: a namespace, a node's name, a home, and words to work with Pods."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from mizzen.kube.client import Client
from mizzen.kube.errors import AlreadyExists, ApiError, NotFound
from mizzen.kube.resources import ResourceInfo, untyped
from mizzen.local.node.host import NodeOptions
from mizzen.local.node.moments import Clock, now
from mizzen.local.node.node import Node
from mizzen.local.node.orphans import kill_all
from mizzen.local.node.resources import NODE, POD

NAMESPACE = untyped(ResourceInfo("", "v1", "Namespace", "namespaces", namespaced=False))
ACCOUNT = untyped(ResourceInfo("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True))
CONFIG_MAP = untyped(ResourceInfo("", "v1", "ConfigMap", "configmaps", namespaced=True))
SECRET = untyped(ResourceInfo("", "v1", "Secret", "secrets", namespaced=True))
EVENT = untyped(ResourceInfo("", "v1", "Event", "events", namespaced=True))
LIMIT_S = 60.0


class OwnServer:
    """Our own API server, as a process that can be killed and started again at the same place."""

    def __init__(self, home: Path) -> None:
        self.home, self.kubeconfig = home, home / "kubeconfig"
        self._process: subprocess.Popen[str] | None = None
        self._port = "0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        command = [sys.executable, "-m", "mizzen.local.apiserver", "--home", str(self.home), "--port", self._port]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "KUBECONFIG" in line, "the API server does not start"
        self._port = line.split()[0].rpartition(":")[2]

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


Condition = Callable[[dict[str, Any]], object]


class Cluster:
    """Access to an API server, and the node under test."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        mark = secrets.token_hex(3)
        self.namespace, self.node_name = f"node-test-{mark}", f"node-{mark}"
        self.home = Path(tempfile.mkdtemp(prefix="mz-"))
        self.client = Client.from_kubeconfig(kubeconfig)
        self._processes: list[NodeProcess] = []

    async def __aenter__(self) -> Self:
        await self.client.create(NAMESPACE(metadata={"name": self.namespace}))
        with contextlib.suppress(AlreadyExists):
            await self.client.create(ACCOUNT(metadata={"name": "default", "namespace": self.namespace}))
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self._processes:
            await node.kill()
        await asyncio.to_thread(kill_all, self.home, 0.0)
        for pod in await self.client.list(POD, self.namespace):
            try:
                await self.client.delete(POD, pod["metadata"]["name"], self.namespace, grace_period_s=0)
            except NotFound:
                continue
        for cls, name in ((NAMESPACE, self.namespace), (NODE, self.node_name)):
            try:
                await self.client.delete(cls, name)
            except ApiError:
                continue
        await self.client.aclose()
        shutil.rmtree(self.home, ignore_errors=True)

    # -- the node

    def node(self, clock: Clock = now, **options: Any) -> Node:
        named = NodeOptions(name=self.node_name, taints=("node-test=true:NoSchedule",), **options)
        return Node(self.client, self.home, named, clock=clock)

    async def process(self) -> "NodeProcess":
        """The node as a process of its own, which can be killed."""
        command = [
            sys.executable, "-m", "mizzen.local.node", "--kubeconfig", str(self.kubeconfig), "--home", str(self.home),
            "--node-name", self.node_name, "--taint", "node-test=true:NoSchedule",
        ]  # fmt: skip
        with (self.home / "node.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=log, env=os.environ
            )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), LIMIT_S)
        assert b"registered" in line, (self.home / "node.log").read_text()
        node = NodeProcess(process)
        self._processes.append(node)
        return node

    # -- Pods

    async def create(
        self, *containers: dict[str, Any], name: str = "p", meta: dict[str, Any] | None = None, **spec: Any
    ) -> dict[str, Any]:
        """A Pod bound to the node under test, as if a scheduler had done it."""
        whole = {
            "containers": [{"name": "main", "image": "python:3.12", **c} for c in containers],
            "nodeName": self.node_name,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            **spec,
        }
        metadata = {"name": name, "namespace": self.namespace, **(meta or {})}
        return await self.client.create(POD(metadata=metadata, spec=whole))

    async def pod(self, name: str = "p") -> dict[str, Any]:
        return await self.client.get(POD, name, self.namespace)

    async def until(self, condition: Condition, name: str = "p") -> dict[str, Any]:
        """The Pod, as soon as the condition holds of it."""
        return await self._until(POD, {"metadata.name": name}, condition)

    async def _until(self, cls: type, fields: dict[str, str], condition: Condition) -> dict[str, Any]:
        """Waits by watching: for an object that is there, or comes, and of which the condition holds."""
        last: dict[str, Any] = {}
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    found = await self.client.list(cls, self.namespace, fields=fields)
                    for last in found:
                        if condition(last):
                            return last
                    version = found.resource_version
                    async for event in self.client.watch(cls, self.namespace, resource_version=version, fields=fields):
                        last = event.payload or last
                        if event.type in {"ADDED", "MODIFIED"} and condition(last):
                            return last
        except TimeoutError:
            raise AssertionError(f"did not come about: {last.get('status') or last}") from None

    async def until_phase(self, phase: str, name: str = "p") -> dict[str, Any]:
        """The Pod in that phase; fails where it ends in another."""
        final = {phase, "Succeeded", "Failed"}
        found = await self.until(lambda pod: pod["status"].get("phase") in final, name)
        assert found["status"]["phase"] == phase, self._story(found)
        return found

    def _story(self, pod: dict[str, Any]) -> str:
        logs = (self.home / "node/pods" / pod["metadata"]["uid"]).rglob("log.*")
        return f"{pod['status']}\n" + "\n".join(f"{path}: {path.read_text(errors='replace')}" for path in logs)

    async def until_ready(self, name: str = "p") -> dict[str, Any]:
        return await self.until(is_ready, name)

    async def delete(self, name: str = "p", grace_s: int | None = None) -> None:
        """Returns when the Pod is gone."""
        found = await self.client.list(POD, self.namespace, fields={"metadata.name": name})
        watching = self.client.watch(
            POD, self.namespace, resource_version=found.resource_version, fields={"metadata.name": name}
        )
        await self.client.delete(POD, name, self.namespace, grace_period_s=grace_s)
        async with asyncio.timeout(LIMIT_S):
            async for event in watching:
                if event.type == "DELETED":
                    return

    async def until_event(self, reason: str, name: str = "p", saying: str = "") -> str:
        """The message of the first event of that reason about a Pod."""
        said = lambda event: event["reason"] == reason and saying in event["message"]
        event = await self._until(EVENT, {"involvedObject.name": name}, said)
        return str(event["message"])


class NodeProcess:
    """A node that can be killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()
        assert self.process.stdout is not None
        await self.process.stdout.read()


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions") or ()}
    return conditions.get("Ready") == "True"


def main_of(pod: dict[str, Any]) -> dict[str, Any]:
    """The status of the container `main`."""
    return next((status for status in pod["status"].get("containerStatuses") or () if status["name"] == "main"), {})


def terminated(pod: dict[str, Any]) -> dict[str, Any]:
    return (main_of(pod).get("state") or {}).get("terminated") or {}


def waiting(pod: dict[str, Any]) -> str | None:
    return ((main_of(pod).get("state") or {}).get("waiting") or {}).get("reason")
