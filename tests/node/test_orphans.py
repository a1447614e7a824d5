"""`mizzen down`: nothing of this home runs any more, whatever state it was left in."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from tests.node.builders import moment, pod_object
from tests.node.programs import DAEMONS, FOREVER, STUBBORN
from tests.node.running import Started, living, python, until

from mizzen.local.node.orphans import HomeLock, NodeRunningError, kill_all
from mizzen.local.node.podfolder import PodFolder


async def start_in(home: Path, uid: str, code: str, *arguments: str) -> Started:
    """A container of a Pod of this home, without a node."""
    folder = PodFolder(home, uid)
    folder.open(pod_object(meta={"uid": uid, "name": uid}), moment(0), moment(0))
    return await python(folder.root, code, *arguments)


async def test_everything_ends_and_is_named(tmp_path: Path) -> None:
    """What heeds SIGTERM, what does not, daemons, what a killed shim left: all of it, and the logs stay."""
    numbers = [tmp_path / "a", tmp_path / "b"]
    started = [
        await start_in(tmp_path, "kind", FOREVER),
        await start_in(tmp_path, "stubborn", STUBBORN),
        await start_in(tmp_path, "daemons", DAEMONS + FOREVER, str(numbers[0])),
        await start_in(tmp_path, "shimless", DAEMONS + FOREVER, str(numbers[1])),
    ]
    for one in started[1:]:
        await until(lambda one=one: b"up" in (one.attempt.folder / "log.1").read_bytes())
    commands = [one.running().pid for one in started]
    os.kill(started[3].shim, signal.SIGKILL)
    os.waitpid(started[3].shim, 0)
    ended = await asyncio.to_thread(kill_all, tmp_path, 0.3)
    daemons = [int(line) for file in numbers for line in file.read_text().split()]
    assert len(daemons) == 6
    assert living(commands + daemons) == []
    assert ended[:3] == [f"container main of pod default/{name}" for name in ("daemons", "kind", "stubborn")]
    assert len([name for name in ended if name.startswith("process ")]) == 3
    assert (started[1].attempt.folder / "log.1").exists()
    assert [one.attempt.was_taken_down for one in started] == [True, True, True, False]
    assert kill_all(tmp_path) == []
    for one in started[:3]:
        await one.end()


async def test_another_homes_pods_are_left_alone(tmp_path: Path) -> None:
    other = await start_in(tmp_path / "other", "u", FOREVER)
    assert kill_all(tmp_path / "mine") == []
    assert kill_all(tmp_path) == []
    assert living([other.running().pid])
    assert await asyncio.to_thread(kill_all, tmp_path / "other", 0.0) == ["container main of pod default/u"]
    await other.end()


def test_a_home_whose_node_runs_is_refused(tmp_path: Path) -> None:
    """It would start again what is killed here; and two nodes on one home are one too many."""
    PodFolder(tmp_path, "u").open(pod_object(), moment(0), moment(0))
    lock = HomeLock(tmp_path)
    lock.take()
    with pytest.raises(NodeRunningError, match="another node process"):
        kill_all(tmp_path)
    with pytest.raises(NodeRunningError):
        HomeLock(tmp_path).take()
    lock.release()
    assert kill_all(tmp_path) == []
