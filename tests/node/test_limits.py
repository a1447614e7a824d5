"""Resource limits: by control groups where they can be had, by the watchdog where not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.programs import HOG, PARENT_OF_HOG, WITHOUT_MARK
from tests.node.running import python, until

from mizzen.local.node import processes, watchdog
from mizzen.local.node.limits import ControlGroups, Limits, control_groups, pids_in
from mizzen.local.node.machine import node_facts


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[ControlGroups]:
    found = control_groups(f"mizzen-test-{tmp_path.name}")
    if found is None:
        pytest.skip("this machine lets us make no control groups")
    yield found
    found.remove_all()


def needs(groups: ControlGroups, controller: str) -> None:
    if not groups.enforces(controller):
        pytest.skip(f"this machine lets us use no {controller} controller")


async def test_a_container_over_its_memory_limit_is_killed_for_it(groups: ControlGroups, tmp_path: Path) -> None:
    needs(groups, "memory")
    enclosure = groups.enclose("c", Limits(memory_bytes=64 << 20))
    started = await python(tmp_path, HOG, groups=enclosure.groups, oom_file=enclosure.oom_file)
    end = await started.end()
    assert (end.code, end.reason) == (137, "OOMKilled")


async def test_an_error_beside_a_limit_is_not_out_of_memory(groups: ControlGroups, tmp_path: Path) -> None:
    needs(groups, "memory")
    enclosure = groups.enclose("c", Limits(memory_bytes=256 << 20))
    started = await python(tmp_path, "raise SystemExit(137)", groups=enclosure.groups, oom_file=enclosure.oom_file)
    assert (await started.end()).reason == "Error"


async def test_a_cpu_limit_slows_down(groups: ControlGroups, tmp_path: Path) -> None:
    """A tenth of a core: computing for 0.15 s takes about 1.5 s of the wall; half of that is asked for."""
    needs(groups, "cpu")
    enclosure = groups.enclose("c", Limits(cpu=0.1))
    code = (
        "import time\nbegan = time.monotonic()\nwhile time.process_time() < 0.15: pass\nprint(time.monotonic() - began)"
    )
    started = await python(tmp_path, code, groups=enclosure.groups)
    await started.end()
    assert float(await started.text()) > 0.75


async def test_who_asks_for_next_to_nothing_is_beside_the_others_and_has_what_nobody_wants(
    groups: ControlGroups, tmp_path: Path
) -> None:
    needs(groups, "cpu")
    enclosure = groups.enclose("background", Limits(memory_bytes=256 << 20, cpu_request=0.001))
    ordinary = groups.enclose("ordinary", Limits(memory_bytes=256 << 20, cpu_request=0.25))
    aside = {group.parents[1] for group in enclosure.groups} - {group.parents[1] for group in ordinary.groups}
    (folder,) = aside
    assert folder.parent == groups.folders["cpu"].parent
    weight = folder / ("cpu.weight" if groups.version == 2 else "cpu.shares")
    assert int(weight.read_text()) <= 3, "the weight of what is idle"
    started = await python(tmp_path, "import signal; signal.pause()", groups=enclosure.groups)
    await until(lambda: started.running() is not None and pids_in(groups.members("background")) != set())
    assert groups.names() == {"background", "ordinary"}
    started.attempt.request_stop(0)
    await started.end()
    groups.remove_all()
    assert not folder.exists()


async def test_a_process_limit_holds(groups: ControlGroups, tmp_path: Path) -> None:
    needs(groups, "pids")
    enclosure = groups.enclose("c", Limits(pids=8))
    code = "import os, signal\nfor n in range(100):\n try:\n  if os.fork() == 0: signal.pause()\n except OSError: break\nprint(n)"
    started = await python(tmp_path, code, groups=enclosure.groups)
    await started.end()
    assert int(await started.text()) == 7


async def test_what_clears_its_environment_is_found_by_its_group(groups: ControlGroups, tmp_path: Path) -> None:
    """The last resort when a shim was killed: no mark, another session, but still in the group."""
    enclosure = groups.enclose("c", Limits())
    started = await python(tmp_path, WITHOUT_MARK, groups=enclosure.groups)
    await until(lambda: len(pids_in(groups.members("c"))) == 2)
    (child,) = pids_in(groups.members("c")) - {started.running().pid}
    await until(lambda: processes.ROOTFS_VARIABLE.encode() not in Path(f"/proc/{child}/environ").read_bytes())
    started.attempt.folder.joinpath("stop").write_text("0")
    processes.kill(processes.numbered([started.shim]))
    await started.end()
    assert processes.kill(processes.numbered(pids_in(groups.members("c")))) >= 1
    assert pids_in(groups.members("c")) == set()


def test_a_group_goes_away_and_with_it_the_nodes_folder(groups: ControlGroups) -> None:
    groups.enclose("c", Limits(memory_bytes=1 << 30))
    assert groups.names() == {"c"}
    groups.remove_all()
    assert not any(folder.exists() for folder in groups.folders.values())
    groups.enclose("again", Limits(memory_bytes=1 << 30))
    assert groups.names() == {"again"}


async def test_the_watchdog_kills_what_uses_too_much_and_says_why(tmp_path: Path) -> None:
    """Without control groups: the whole tree counts, and the end is OOMKilled all the same."""
    started = await python(tmp_path, PARENT_OF_HOG, environment={"HOG": HOG.replace("0.005", "0.02")})
    assert watchdog.check(started.attempt, 1 << 40) is False
    await until(lambda: watchdog.check(started.attempt, 64 << 20))
    end = await started.end()
    assert (end.code, end.reason) == (137, "OOMKilled")


async def test_memory_that_is_shared_counts_once(tmp_path: Path) -> None:
    """Ten forked readers of 100 MB use 100 MB, not a gigabyte: or data loaders would be killed for nothing."""
    code = """
import os, signal
shared = bytearray(os.urandom(1 << 20)) * 100
for _ in range(10):
    if os.fork() == 0:
        signal.pause()
print("up", flush=True)
signal.pause()
"""
    started = await python(tmp_path, code)
    await until(lambda: b"up" in (started.attempt.folder / "log.1").read_bytes())
    used = processes.memory_bytes(started.running().pid)
    started.attempt.request_stop(0)
    await started.end()
    assert 100 << 20 < used < 300 << 20


def test_the_facts_of_this_machine_leave_nothing_behind() -> None:
    """`mizzen doctor` asks: what is said to be enforced was tried, and the trial is cleaned up."""
    before = control_groups("mizzen-test-facts")
    facts = {fact.name: fact for fact in node_facts()}
    assert set(facts) == {"memory limits", "cpu limits", "pids limits", "orphans", "rights"}
    for controller in ("memory", "cpu", "pids"):
        fact = facts[f"{controller} limits"]
        assert fact.enforced is (before is not None and before.enforces(controller))
        assert bool(fact.advice) is not fact.enforced
    if before is not None:
        parents = {folder.parent for folder in before.folders.values()}
        before.remove_all()
        assert not [path for parent in parents for path in parent.glob("mizzen-doctor-*")]
