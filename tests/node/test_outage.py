"""The API server goes away and comes back: Pods run on, and what happened meanwhile is said then."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.cluster import Cluster, OwnServer, is_ready, main_of, terminated
from tests.node.test_node import PORTS, SERVER, SLEEP, python
from tests.node.test_taking_back import processes_of

from mizzen.local.node.machine import owner_of
from mizzen.local.node.orphans import kill_all
from mizzen.local.node.resources import POD


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with tempfile.TemporaryDirectory(prefix="mz-") as home, OwnServer(Path(home)) as found:
        yield found


async def test_an_outage_of_the_api_server_disturbs_no_pod(server: OwnServer) -> None:
    """Killed and started again: what ended meanwhile is reported with its code, what crashed was restarted, what ran ran."""
    probe = {"httpGet": {"port": "http"}, "periodSeconds": 1}
    async with Cluster(server.kubeconfig) as cluster, cluster.node() as node:
        fifo = cluster.home / "fifo"
        os.mkfifo(fifo)
        await cluster.create(python(SERVER, ports=PORTS, readinessProbe=probe), name="web")
        await cluster.create({"command": ["sh", "-c", f"read c < {fifo}; exit $c"]}, name="job", restartPolicy="Never")
        await cluster.create({"command": SLEEP}, name="other")
        await cluster.until_ready("web")
        await cluster.until_phase("Running", "job")
        await cluster.until_phase("Running", "other")
        pids = {worker.pod.name: worker.attempt("main").running().pid for worker in node.workers()}
        server.kill()

        await asyncio.to_thread(fifo.write_text, "4\n")
        os.kill(pids["other"], 9)
        by_name = {worker.pod.name: worker for worker in node.workers()}
        while by_name["job"].state.any_alive or by_name["other"].state.containers["main"].attempt != 1:
            await asyncio.sleep(0)
        assert by_name["web"].state.containers["main"].is_ready

        await asyncio.to_thread(server.start)
        assert terminated(await cluster.until_phase("Failed", "job"))["exitCode"] == 4
        other = await cluster.until(lambda pod: main_of(pod).get("restartCount") == 1, "other")
        assert "running" in main_of(other)["state"]
        assert is_ready(await cluster.pod("web"))
        assert by_name["web"].attempt("main").running().pid == pids["web"]
        await cluster.delete("other")


async def test_a_pod_deleted_during_an_outage_of_the_node_and_the_server_is_found(server: OwnServer) -> None:
    """Both go away; whichever comes first waits for the other, and the deletion is done."""
    async with Cluster(server.kubeconfig) as cluster:
        first = await cluster.process()
        await cluster.create({"command": SLEEP})
        await cluster.until_phase("Running")
        await cluster.client.delete(POD, "p", cluster.namespace, grace_period_s=30)
        await first.kill()
        server.kill()
        await asyncio.to_thread(server.start)
        await cluster.process()
        async with asyncio.timeout(60):
            while await cluster.client.list(POD, cluster.namespace):
                await asyncio.sleep(0)
        assert processes_of(cluster) == {}


async def test_everything_can_be_ended_without_any_server(server: OwnServer) -> None:
    """`mizzen down` with the API server already gone."""
    async with Cluster(server.kubeconfig) as cluster:
        node = await cluster.process()
        await cluster.create({"command": SLEEP}, {"name": "second", "command": SLEEP})
        await cluster.until_phase("Running")
        server.kill()
        await node.kill()
        assert len(processes_of(cluster)) == 2
        assert len(await asyncio.to_thread(kill_all, cluster.home, 1.0)) == 2
        assert processes_of(cluster) == {}
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{owner_of(cluster.home)}"))
        await asyncio.to_thread(server.start)
