"""Random kills of everything, with Pods coming and going: nothing runs twice, nothing is left, no end is misreported."""

import asyncio
import contextlib
import os
import random
import signal
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from tests.node.cluster import Cluster, NodeProcess, terminated
from tests.node.programs import EXCLUSIVE

from mizzen.kube.errors import NotFound
from mizzen.local.node import processes
from mizzen.local.node.podfolder import pod_folders
from mizzen.local.node.podstatus import SETTLED
from mizzen.local.node.resources import POD

ROUNDS = 25


@dataclass
class Chaos:
    """Pods whose every run leaves a trace in `out`."""

    cluster: Cluster
    rng: random.Random
    out: Path
    made: int = 0
    jobs: dict[str, int] = field(default_factory=dict)
    """Jobs that were not touched, and the exit code they must end with."""
    killed: set[str] = field(default_factory=set)

    async def create(self) -> None:
        self.made += 1
        name = f"c{self.made}"
        job = self.rng.random() < 0.6
        seconds, code = (self.rng.uniform(0.05, 1.5), self.rng.choice([0, 3])) if job else (1000, 0)
        await self.cluster.create(
            {"command": ["python", "-S", "-c", EXCLUSIVE, str(seconds), str(code)],
             "volumeMounts": [{"name": "out", "mountPath": "/out"}]},
            name=name, restartPolicy="Never" if job else "Always",
            volumes=[{"name": "out", "hostPath": {"path": str(self.out)}}],
        )  # fmt: skip
        if job:
            self.jobs[name] = code

    async def delete_one(self) -> None:
        pods = [pod["metadata"]["name"] for pod in await self.cluster.client.list(POD, self.cluster.namespace)]
        if pods:
            name = self.rng.choice(pods)
            self.jobs.pop(name, None)
            try:
                await self.cluster.client.delete(POD, name, self.cluster.namespace)
            except NotFound:
                return

    def kill_a_shim_or_command(self) -> None:
        """Of any Pod: what it ends with is then ours to expect."""
        alive = [
            (folder, running)
            for folder in pod_folders(self.cluster.home)
            for attempt in folder.attempts()
            if attempt.alive() and (running := attempt.running()) is not None
        ]
        if not alive:
            return
        folder, running = self.rng.choice(alive)
        name = (folder.load() or {})["metadata"]["name"]
        if name in self.jobs:
            self.jobs[name] = 137
            self.killed.add(name)
        try:
            os.kill(self.rng.choice([running.shim, running.pid]), signal.SIGKILL)
        except ProcessLookupError:
            return

    def runs(self, name: str) -> list[str]:
        path = self.out / f"{name}.runs"
        return path.read_text().split() if path.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_random_kills(cluster: Cluster, seed: int) -> None:
    chaos = Chaos(cluster, random.Random(seed), cluster.home / "out")
    chaos.out.mkdir()
    node: NodeProcess = await cluster.process()
    for _ in range(ROUNDS):
        for _ in range(chaos.rng.randint(1, 3)):
            await chaos.create()
        await asyncio.sleep(chaos.rng.uniform(0, 0.4))  # the moment is what is random
        what = chaos.rng.random()
        if what < 0.5:
            await node.kill()
            if chaos.rng.random() < 0.3:
                chaos.kill_a_shim_or_command()
            if chaos.rng.random() < 0.3:
                await chaos.delete_one()
            node = await cluster.process()
        elif what < 0.75:
            chaos.kill_a_shim_or_command()
        else:
            await chaos.delete_one()

    for name, code in chaos.jobs.items():
        pod = await cluster.until(lambda pod: pod["status"].get("phase") in SETTLED, name)
        runs = chaos.runs(name)
        assert runs.count("run") <= 1, "a container that must run once ran twice"
        reported = terminated(pod).get("exitCode")
        if name in chaos.killed:
            assert reported in {137, 0, 3}  # killed in time or not
        elif runs:
            assert (reported, runs) == (code, ["run", "end"])
    for name in (f"c{number}" for number in range(1, chaos.made + 1)):
        assert "DOUBLE" not in chaos.runs(name)

    for pod in await cluster.client.list(POD, cluster.namespace):
        with contextlib.suppress(NotFound):  # its deletion was under way
            await cluster.delete(pod["metadata"]["name"])
    while pod_folders(cluster.home):
        await asyncio.sleep(0)
    assert list(processes.marked(cluster.home)) == []
    await node.kill(signal.SIGTERM)
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(cluster.home) in " ".join(p.info["cmdline"] or [])]
