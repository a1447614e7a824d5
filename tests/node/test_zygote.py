"""Containers forked from a zygote are containers like others: real processes, each looked at from outside."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from tests.node.running import LIMIT_S, Started, living, until

from mizzen.local.node import moments, processes
from mizzen.local.node.attempts import Attempt, Launch, Spawn, end_of_file
from mizzen.local.node.prefork import NotReadyError, Prefork, Zygote

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="zygotes are Linux's")
MODULE = "tests.node.preforked"
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}


@pytest.fixture
async def zygote() -> AsyncIterator[Zygote]:
    found = Zygote(MODULE, ENVIRONMENT)
    found.start()
    yield found
    await asyncio.to_thread(found.stop)


async def forked(zygote: Zygote, folder: Path, what: str, number: int = 0, **options) -> Started:
    """A container that does `what` (`preforked.__main__`)."""
    folder.mkdir(parents=True, exist_ok=True)
    attempt = Attempt(folder / "containers" / "main" / str(number))
    attempt.create(0.0, moments.now())
    own = {**ENVIRONMENT, processes.ROOTFS_VARIABLE: str(folder), "WHAT": what, "TMPDIR": str(folder)}
    launch = Launch(("python", "-m", MODULE), own, folder, **options)
    shim, ready = await _launched(attempt, launch, zygote.fork)
    await end_of_file(ready)
    return Started(attempt, shim)


async def _launched(attempt: Attempt, launch: Launch, spawn: Spawn) -> tuple[int, int]:
    """As soon as the zygote is ready."""
    found: list[tuple[int, int]] = []

    def tried() -> bool:
        try:
            found.append(attempt.launch(launch, spawn))
        except NotReadyError:
            return False
        return True

    await until(tried, "the zygote is ready")
    return found[0]


async def first_line(started: Started) -> str:
    log = started.attempt.folder / "log.1"
    await until(lambda: b"\n" in log.read_bytes(), "the container says something")
    return log.read_text().splitlines()[0].split(" ", 3)[3]


async def test_it_finds_itself_as_if_it_had_been_executed(zygote: Zygote, tmp_path: Path) -> None:
    """Its own process under its keeper, in a session and folder of its own, with the container's environment and not
    the zygote's, no descriptor but the usual three, and other random numbers than its brother."""
    started = await forked(zygote, tmp_path / "a", "facts")
    end = await started.end()
    assert (end.code, end.reason) == (3, "Error")
    out, err = (await started.text()).splitlines()
    assert err == "and this"
    found = json.loads(out)
    running = started.running()
    assert (found["pid"], found["parent"], found["session"]) == (running.pid, running.shim, running.pid)
    assert found["folder"] == str(tmp_path / "a")
    expected = {**ENVIRONMENT, "MIZZEN_ROOTFS": str(tmp_path / "a"), "WHAT": "facts", "TMPDIR": str(tmp_path / "a")}
    assert found["environment"] == expected
    assert found["descriptors"] == [0, 1, 2]
    other = await forked(zygote, tmp_path / "b", "facts")
    await other.end()
    assert json.loads((await other.text()).splitlines()[0])["random"] != found["random"]


async def test_how_it_ends_is_told_as_the_interpreter_would(zygote: Zygote, tmp_path: Path) -> None:
    cases = {"raise": (1, 0, "ValueError: told in the log"), "exit": (1, 0, "last words"), "crash": (139, 11, "")}
    for number, (what, (code, by, said)) in enumerate(cases.items()):
        started = await forked(zygote, tmp_path, what, number)
        end = await started.end()
        assert (end.code, end.signal) == (code, by)
        assert said in await started.text()
    after_the_crash = await forked(zygote, tmp_path, "facts", 9)
    assert (await after_the_crash.end()).code == 3, "the zygote lives on"


async def test_it_is_found_by_its_mark_and_shows_its_command(zygote: Zygote, tmp_path: Path) -> None:
    started = await forked(zygote, tmp_path, "wait")
    pid = int(await first_line(started))
    assert {process.pid for process in processes.marked(tmp_path)} == {pid, started.shim}
    process = psutil.Process(pid)
    assert [word for word in process.cmdline() if word] == ["python", "-m", MODULE]
    assert process.environ()["WHAT"] == "wait"
    started.attempt.request_stop(5.0)
    assert (await started.end()).signal == signal.SIGTERM


async def test_it_dies_with_its_keeper_and_leaves_no_lock(zygote: Zygote, tmp_path: Path) -> None:
    started = await forked(zygote, tmp_path, "wait")
    pid = int(await first_line(started))
    assert started.attempt.alive()
    os.kill(started.shim, signal.SIGKILL)
    end = await started.end()
    assert not started.attempt.alive(), "the container did not inherit the lock"
    assert end.code == 137
    await until(lambda: not living([pid]), "the container dies with its keeper")


async def test_what_it_leaves_behind_is_ended(zygote: Zygote, tmp_path: Path) -> None:
    started = await forked(zygote, tmp_path, "child")
    assert (await started.end()).code == 0
    assert not living([int(await first_line(started))])


async def test_containers_outlive_the_zygote(zygote: Zygote, tmp_path: Path) -> None:
    started = await forked(zygote, tmp_path, "wait")
    pid = int(await first_line(started))
    await asyncio.to_thread(zygote.stop)
    assert started.attempt.alive()
    assert living([pid, started.shim]) == [pid, started.shim]
    started.attempt.request_stop(5.0)
    assert (await started.end()).signal == signal.SIGTERM


async def test_many_at_once_are_all_started(zygote: Zygote, tmp_path: Path) -> None:
    all_of_them = await asyncio.gather(*(forked(zygote, tmp_path / str(n), "facts") for n in range(20)))
    assert [(await one.end()).code for one in all_of_them] == [3] * 20
    assert len({one.running().pid for one in all_of_them}) == 20


async def test_a_zygote_that_was_killed_is_told_and_started_again_later(tmp_path: Path) -> None:
    now = 0.0
    zygote = Zygote(MODULE, ENVIRONMENT, lambda: now)
    zygote.start()
    try:
        await (await forked(zygote, tmp_path, "facts")).end()
        _killed(zygote)
        attempt = Attempt(tmp_path / "containers" / "main" / "1")
        attempt.create(0.0, moments.now())
        launch = Launch(("python", "-m", MODULE), {"WHAT": "facts"}, tmp_path)
        with pytest.raises((NotReadyError, OSError)):
            attempt.launch(launch, zygote.fork)
        zygote.start()
        with pytest.raises(NotReadyError):
            attempt.launch(launch, zygote.fork)
        now = 11.0
        zygote.start()
        await (await forked(zygote, tmp_path, "facts", 2)).end()
    finally:
        await asyncio.to_thread(zygote.stop)


def _killed(zygote: Zygote) -> None:
    process = zygote._process
    assert process is not None
    process.kill()
    process.wait()


async def test_a_module_that_starts_threads_is_never_forked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    zygote = Zygote("tests.node.threaded", ENVIRONMENT)
    zygote.start()
    process = zygote._process
    assert process is not None
    assert await asyncio.to_thread(process.wait, LIMIT_S) == 1
    assert "cannot be forked: importing it started 1 threads" in capfd.readouterr().err
    with pytest.raises(NotReadyError):
        zygote.fork(tmp_path, [], {}, 0, 0)


def launch_of(*command: str, **environment: str) -> Launch:
    return Launch(command, {**ENVIRONMENT, **environment}, Path("/"))


def test_what_is_read_while_loading_makes_a_container_start_as_a_program(tmp_path: Path) -> None:
    """Only what would be the same either way is forked."""
    prefork = Prefork(tmp_path, [MODULE], ENVIRONMENT)
    assert prefork.spawn(launch_of("python", "-m", MODULE, MINE="1", MIZZEN_TASK="{}")) is not None
    others = [
        launch_of("python", "-m", "json.tool"),
        launch_of("python", "-m", MODULE, "argument"),
        launch_of("/usr/bin/python", "-m", MODULE),
        launch_of("sh", "-c", "true"),
        *(
            launch_of("python", "-m", MODULE, **{name: "x"})
            for name in ("PYTHONPATH", "PYTHONHASHSEED", "PATH", "LD_PRELOAD", "OMP_NUM_THREADS", "LANG")
        ),
    ]
    assert [prefork.spawn(one) for one in others] == [None] * len(others)


def test_a_home_remembers_what_it_wanted(tmp_path: Path) -> None:
    started: list[str] = []
    for wants in (False, True):
        prefork = Prefork(tmp_path, [MODULE], ENVIRONMENT)
        for zygote in prefork._zygotes.values():
            zygote.start = lambda module=zygote.module: started.append(module)  # type: ignore[method-assign]
        prefork.resume()
        if not wants:
            assert started == []
            prefork.spawn(launch_of("python", "-m", MODULE))
    assert started == [MODULE]
