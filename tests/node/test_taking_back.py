"""The node comes and goes, is killed, finds its home gone: Pods run on, and nothing is started twice."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.node.cluster import Cluster, is_ready, main_of, terminated, waiting
from tests.node.running import living, read_log
from tests.node.test_node import PORTS, SERVER, SLEEP, python

from mizzen.local.node.moments import Moment, now
from mizzen.local.node.orphans import kill_all
from mizzen.local.node.podfolder import pod_folders
from mizzen.local.node.resources import POD


def processes_of(cluster: Cluster) -> dict[str, int]:
    """The commands that run, by container."""
    found = {}
    for folder in pod_folders(cluster.home):
        for attempt in folder.attempts():
            running = attempt.running()
            if attempt.alive() and running is not None:
                found[attempt.folder.parent.name] = running.pid
    return found


async def test_what_runs_is_taken_back_as_it_is(cluster: Cluster) -> None:
    """A node that is killed and started again: the same processes, no restart, and a ready Pod is ready all the while."""
    probe = {"httpGet": {"port": "http"}, "periodSeconds": 1}
    first = await cluster.process()
    await cluster.create(python(SERVER, ports=PORTS, readinessProbe=probe, startupProbe=probe))
    before = await cluster.until_ready()
    pids = processes_of(cluster)
    version = (await cluster.client.list(POD, cluster.namespace)).resource_version
    await first.kill(signal.SIGKILL)
    second = await cluster.process()
    unready = []

    async def follow() -> None:
        async for event in cluster.client.watch(POD, cluster.namespace, resource_version=version):
            unready.extend([event.payload["status"]] if event.payload and not is_ready(event.payload) else [])

    following = asyncio.create_task(follow())
    marked = {"metadata": {"labels": {"seen": "yes"}}}
    await cluster.client.patch(POD, "p", marked, namespace=cluster.namespace)
    after = await cluster.until(lambda pod: pod["metadata"].get("labels") == {"seen": "yes"})
    assert processes_of(cluster) == pids
    assert main_of(after) == main_of(before)
    Path(psutil.Process(pids["main"]).cwd(), "broken").touch()  # the new node's own probes find it
    await cluster.until(lambda pod: not is_ready(pod))
    following.cancel()
    assert len(unready) <= 1
    await cluster.delete()
    assert living(list(pids.values())) == []
    await second.kill(signal.SIGTERM)


async def test_a_pod_that_ends_while_the_node_is_away_has_ended(cluster: Cluster) -> None:
    """Exit code, times and log are those of the end, not of when the node came back."""
    fifo = cluster.home / "fifo"
    os.mkfifo(fifo)
    node = await cluster.process()
    await cluster.create({"command": ["sh", "-c", f"read code < {fifo}; echo ends; exit $code"]}, restartPolicy="Never")
    await cluster.until_phase("Running")
    await node.kill()
    await asyncio.to_thread(fifo.write_text, "7\n")
    ((attempt,),) = [list(folder.attempts()) for folder in pod_folders(cluster.home)]
    while attempt.alive():
        await asyncio.sleep(0)
    node = await cluster.process()
    pod = await cluster.until_phase("Failed")
    assert terminated(pod)["exitCode"] == 7
    assert await read_log(attempt) == b"ends\n"
    assert attempt.number == 0
    await node.kill(signal.SIGTERM)


async def test_a_pod_deleted_while_the_node_is_away_ends(cluster: Cluster) -> None:
    """Gone from the API server: its processes are ended with their grace, its folder goes."""
    async with cluster.node():
        await cluster.create({"command": SLEEP})
        await cluster.until_phase("Running")
    pids = list(processes_of(cluster).values())
    assert living(pids) == pids
    await cluster.client.delete(POD, "p", cluster.namespace, grace_period_s=0)
    async with cluster.node() as node:
        while list(node.workers()):
            await asyncio.sleep(0)
    assert living(pids) == []
    assert pod_folders(cluster.home) == []


async def test_a_successor_of_the_same_name_is_another_pod(cluster: Cluster) -> None:
    async with cluster.node():
        await cluster.create({"command": SLEEP})
        await cluster.until_phase("Running")
    (old,) = processes_of(cluster).values()
    await cluster.client.delete(POD, "p", cluster.namespace, grace_period_s=0)
    await cluster.create({"command": SLEEP})
    async with cluster.node():
        await cluster.until_phase("Running")
        while living([old]):
            await asyncio.sleep(0)
        (new,) = processes_of(cluster).values()
        assert new != old


async def test_what_was_taken_down_comes_up_again_at_once(cluster: Cluster) -> None:
    """`mizzen down` and `up`, again and again, are no crashes: nothing backs off."""

    def runs_for_the(count: int) -> Callable[[dict], bool]:
        return lambda pod: main_of(pod).get("restartCount") == count and "running" in main_of(pod)["state"]

    for count in range(4):
        async with cluster.node():
            if count == 0:
                await cluster.create({"command": SLEEP})
            await cluster.until(runs_for_the(count))
        assert await asyncio.to_thread(kill_all, cluster.home, 1.0) == [f"container main of pod {cluster.namespace}/p"]


@pytest.mark.parametrize("policy", ["Never", "Always"])
async def test_a_lost_home_does_not_make_a_job_run_twice(cluster: Cluster, policy: str) -> None:
    """The API server has seen the container run: it counts as ended, with the kubelet's word for what nobody knows."""
    runs = cluster.home.parent / f"{cluster.home.name}-runs"
    async with cluster.node():
        await cluster.create({"command": ["sh", "-c", f"echo run >> {runs}; sleep 1000"]}, restartPolicy=policy)
        await cluster.until_phase("Running")
    await asyncio.to_thread(kill_all, cluster.home, 0.0)
    shutil.rmtree(cluster.home / "node")
    async with cluster.node():
        if policy == "Never":
            pod = await cluster.until_phase("Failed")
            assert terminated(pod)["reason"] == "ContainerStatusUnknown"
            assert not runs.exists() or runs.read_text().count("run") == 1
        else:
            last = lambda pod: main_of(pod).get("lastState", {}).get("terminated", {})
            pod = await cluster.until(lambda pod: last(pod).get("reason") == "ContainerStatusUnknown")
    runs.unlink(missing_ok=True)


async def test_a_killed_shim_is_seen_and_the_container_started_again(cluster: Cluster) -> None:
    async with cluster.node() as node:
        await cluster.create({"command": SLEEP})
        await cluster.until_phase("Running")
        (worker,) = node.workers()
        running = worker.attempt("main").running()
        os.kill(running.shim, signal.SIGKILL)
        pod = await cluster.until(
            lambda pod: main_of(pod).get("restartCount") == 1 and "running" in main_of(pod)["state"]
        )
        last = main_of(pod)["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (137, "Error")
        assert living([running.pid]) == []


class Jumping:
    """A machine whose wall clock is set while everything runs."""

    def __init__(self) -> None:
        self.off_s = 0.0

    def __call__(self) -> Moment:
        true = now()
        return Moment(true.wall + self.off_s, true.steady)


@pytest.mark.slow
async def test_a_clock_that_is_set_ends_nothing_and_delays_nothing(cluster: Cluster) -> None:
    """A day forward, two days back, also across a restart of the node: deadlines and back-off count true seconds."""
    clock = Jumping()
    async with cluster.node(clock):
        await cluster.create({"command": SLEEP}, activeDeadlineSeconds=3600, restartPolicy="OnFailure")
        started = (await cluster.until_phase("Running"))["status"]["startTime"]
        clock.off_s = 86400.0
        os.kill(processes_of(cluster)["main"], signal.SIGKILL)
        await cluster.until(lambda pod: main_of(pod).get("restartCount") == 1 and "running" in main_of(pod)["state"])
    async with cluster.node(clock):
        clock.off_s = -2 * 86400.0
        os.kill(processes_of(cluster)["main"], signal.SIGKILL)
        await cluster.until(lambda pod: waiting(pod) == "CrashLoopBackOff")  # 10 s, not two days
        pod = await cluster.until(
            lambda pod: main_of(pod).get("restartCount") == 2 and "running" in main_of(pod)["state"]
        )
        assert pod["status"]["phase"] == "Running"
        assert pod["status"]["startTime"] == started


async def test_a_worker_that_fails_is_made_anew_and_takes_its_containers_back(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the node's handling of one Pod ends neither the node nor the Pod."""
    async with cluster.node() as node:
        await cluster.create({"command": SLEEP})
        await cluster.until_phase("Running")
        pids = processes_of(cluster)
        (worker,) = node.workers()

        def fail(_: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(worker, "_do", fail)
        await cluster.delete()
        assert node.statistics().worker_failures == 1
        assert living(list(pids.values())) == []


async def test_a_second_node_on_the_same_home_is_refused(cluster: Cluster) -> None:
    async with cluster.node():
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mizzen.local.node", "--kubeconfig", str(cluster.kubeconfig), "--home", str(cluster.home),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await second.communicate()
        assert second.returncode == 1
        assert b"another node process runs with this home" in said


async def test_draining_ends_pods_and_says_why(cluster: Cluster) -> None:
    node = cluster.node()
    await node.start()
    await cluster.create({"command": SLEEP})
    await cluster.until_phase("Running")
    await node.stop(drain=True, deregister=True)
    pod = await cluster.until_phase("Failed")
    assert (pod["status"]["reason"], terminated(pod)["exitCode"]) == ("Terminated", 143)
    assert processes_of(cluster) == {}
