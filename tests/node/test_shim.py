"""One container under its shim: real processes, each ending in a way of its own."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.node.programs import DAEMONS, FOREVER, FORK_BOMB, POLITE, PROMPT, STUBBORN
from tests.node.running import living, python, read_log, start, until

from mizzen.local.node import moments, processes
from mizzen.local.node.attempts import Attempt, attempts, wait_until_ended

# -- how it ends

ENDS = {
    "well": ("pass", 0, 0, "Completed"),
    "with a code": ("raise SystemExit(3)", 3, 0, "Error"),
    "by a signal": ("import os; os.kill(os.getpid(), 6)", 134, 6, "Error"),
    "killed": ("import os; os.kill(os.getpid(), 9)", 137, 9, "Error"),
}


@pytest.mark.parametrize("how", ENDS)
async def test_how_the_command_ended_is_written_down(how: str, tmp_path: Path) -> None:
    code, expected, number, reason = ENDS[how]
    before = moments.now()
    end = await (await python(tmp_path, code)).end()
    assert (end.code, end.signal, end.reason, end.message) == (expected, number, reason, "")
    assert before.steady <= end.started.steady <= end.finished.steady <= moments.now().steady
    assert abs(end.started.wall - before.wall) < 30


async def test_what_cannot_be_executed_is_a_start_error(tmp_path: Path) -> None:
    """In containerd's words where they are known, and always with code 128."""
    (tmp_path / "no-program").write_text("not a program")
    (tmp_path / "no-program").chmod(0o755)
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    cases = {
        ("no-such-command",): 'exec: "no-such-command": executable file not found in $PATH',
        ("/no/such/file",): 'exec: "/no/such/file": no such file or directory',
        (str(tmp_path / "no-program"),): "exec format error",
        (str(tmp_path),): "permission denied",
        (str(tmp_path / "not-executable"),): "permission denied",
    }
    for number, (command, message) in enumerate(cases.items()):
        end = await (await start(tmp_path, *command, number=number)).end()
        assert (end.code, end.reason) == (128, "StartError")
        assert message in end.message
    end = await (await start(tmp_path, "true", number=99, cwd=tmp_path / "gone")).end()
    assert (end.reason, end.message) == ("StartError", f"{tmp_path}/gone: no such file or directory")


async def test_output_of_both_streams_is_logged_and_a_last_line_without_end_too(tmp_path: Path) -> None:
    started = await python(tmp_path, "import sys; print('out'); sys.stdout.flush(); sys.stderr.write('err, no end')")
    await started.end()
    assert await started.text() == "out\nerr, no end"


async def test_a_prompt_is_logged_before_its_line_ends(tmp_path: Path) -> None:
    """A progress bar shows while it goes on, and not only when its line is complete."""
    started = await python(tmp_path, PROMPT)
    await until(lambda: b"P 50 %" in (started.attempt.folder / "log.1").read_bytes())
    started.attempt.request_stop(0)
    await started.end()
    assert await started.text() == "50 %"


# -- what it finds


async def test_the_command_finds_a_clean_world(tmp_path: Path) -> None:
    """Only the descriptors 0-2, default signals, its own session, its folder, and the environment it was given."""
    code = """
import json, os
print(json.dumps({
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")),
    "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
    "cwd": os.getcwd(), "environment": sorted(os.environ), "stdin": os.readlink("/proc/self/fd/0"),
}))
"""
    sh = "unset PWD OLDPWD SHLVL _; grep SigIgn /proc/self/status"
    started = await python(tmp_path, code, environment={"A": "1"})
    await started.end()
    found = json.loads(await started.text())
    assert found["descriptors"] == [0, 1, 2]
    assert found["leads"] is True
    assert found["cwd"] == str(tmp_path)
    assert set(found["environment"]) - {"LC_CTYPE"} == {"A", "PATH", "MIZZEN_ROOTFS"}
    assert found["stdin"] == "/dev/null"
    plain = await start(tmp_path, "sh", "-c", sh, number=1)
    await plain.end()
    assert int((await plain.text()).split()[1], 16) & 0x7FFFFFFF == 0  # above are those that libc keeps to itself


async def test_the_shim_is_small_and_knows_nothing_of_where_it_was_started(tmp_path: Path) -> None:
    started = await python(tmp_path, FOREVER)
    shim = psutil.Process(started.shim)
    assert shim.memory_info().rss < 20 * 2**20
    assert shim.cwd() == "/"
    assert os.getsid(started.shim) != os.getsid(0)
    started.attempt.request_stop(0)
    await started.end()


# -- how it is stopped


async def test_a_command_that_heeds_the_stop_ends_as_it_likes(tmp_path: Path) -> None:
    started = await python(tmp_path, POLITE)
    await until(lambda: b"up" in (started.attempt.folder / "log.1").read_bytes())
    started.attempt.request_stop(1000)
    assert (await started.end()).code == 7


async def test_a_command_that_does_not_is_killed_after_the_grace(tmp_path: Path) -> None:
    """And a later, shorter grace replaces a longer one."""
    started = await python(tmp_path, STUBBORN)
    await until(lambda: b"up" in (started.attempt.folder / "log.1").read_bytes())
    started.attempt.request_stop(1000)
    started.attempt.request_stop(0.1)
    end = await started.end()
    assert (end.code, end.signal) == (137, 9)


async def test_a_stopped_process_can_be_stopped(tmp_path: Path) -> None:
    """A command frozen by SIGSTOP dies all the same when its grace is over."""
    started = await python(tmp_path, FOREVER)
    command = psutil.Process(started.running().pid)
    command.suspend()
    await until(lambda: command.status() == psutil.STATUS_STOPPED)
    started.attempt.request_stop(0.05)
    assert (await started.end()).code == 137


async def test_no_daemon_survives_its_container(tmp_path: Path) -> None:
    """Whether the container ends by itself or is stopped: what left its session and ignores SIGTERM dies with it."""
    for number, after in enumerate(("", FOREVER)):
        numbers = tmp_path / f"pids{number}"
        started = await python(tmp_path, DAEMONS + after, str(numbers), number=number)
        await until(lambda started=started: b"up" in (started.attempt.folder / "log.1").read_bytes())
        if after:
            started.attempt.request_stop(0.1)
        await started.end()
        daemons = [int(line) for line in numbers.read_text().split()]
        assert len(daemons) == 3
        assert living(daemons) == []


async def test_a_fork_bomb_is_cleaned_up(tmp_path: Path) -> None:
    """A tree that grows while it is killed is killed all the same."""
    started = await python(tmp_path, FORK_BOMB)
    await until(lambda: len(psutil.Process(started.shim).children(recursive=True)) > 60)
    started.attempt.request_stop(0)
    await started.end()
    assert list(processes.marked(tmp_path)) == []


# -- what survives what


async def test_a_killed_shim_takes_its_container_down(tmp_path: Path) -> None:
    """kill -9 of the shim: the command dies with it, its daemons are found by their mark, the end is 137 Error."""
    numbers = tmp_path / "pids"
    started = await python(tmp_path, DAEMONS + FOREVER, str(numbers))
    await until(lambda: b"up" in (started.attempt.folder / "log.1").read_bytes())
    command = started.running().pid
    os.kill(started.shim, signal.SIGKILL)
    await wait_until_ended(started.attempt, started.shim)
    await until(lambda: living([command]) == [])
    assert processes.kill(processes.marked(tmp_path)) == 3
    assert living([int(line) for line in numbers.read_text().split()]) == []
    end = started.attempt.exit(moments.now)
    assert (end.code, end.reason) == (137, "Error")
    assert "killed" in end.message
    assert started.attempt.exit(moments.now) == end  # written down: it does not change when it is asked again


NODE = """
import os, signal, sys
from pathlib import Path
from mizzen.local.node import moments
from mizzen.local.node.attempts import Attempt, Launch
folder = Path(sys.argv[1])
attempt = Attempt(folder / "containers" / "main" / "0")
attempt.create(40.0, moments.now())
shim, ready = attempt.launch(Launch(("sh", "-c", "read line < fifo; echo $line; exit 5"), dict(os.environ), folder))
if sys.argv[2] == "wait":
    os.read(ready, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["wait", "at once"])
async def test_a_container_survives_the_death_of_the_node_and_is_taken_back(tmp_path: Path, when: str) -> None:
    """kill -9 of the node, just after it started the shim or later: the next one sees it alive, and how it ends."""
    os.mkfifo(tmp_path / "fifo")
    code = await asyncio.to_thread(subprocess.call, [sys.executable, "-c", NODE, str(tmp_path), when])
    assert code == -signal.SIGKILL
    (attempt,) = attempts(tmp_path / "containers" / "main")
    assert attempt.begun()
    assert attempt.alive()
    assert attempt.delay_s() == 40.0
    waiting = asyncio.create_task(wait_until_ended(attempt))
    await asyncio.to_thread((tmp_path / "fifo").write_text, "hello\n")
    await waiting
    assert attempt.exit(moments.now).code == 5
    assert await read_log(attempt) == b"hello\n"


def test_an_attempt_whose_shim_was_never_started_may_be_made_again(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "main" / "3")
    attempt.create(0.0, moments.now())
    assert not attempt.begun()
    with pytest.raises(FileExistsError):
        attempt.create(0.0, moments.now())


async def test_nobody_elses_process_is_taken_for_the_shim(tmp_path: Path) -> None:
    """The number in `running` may be another process's by now: only the lock says that the shim lives."""
    started = await python(tmp_path, "pass")
    await started.end()
    bystander = await asyncio.create_subprocess_exec("sleep", "1000")
    record = started.attempt.folder / "running"
    record.write_text(record.read_text().replace(f"shim={started.shim}", f"shim={bystander.pid}"))
    (started.attempt.folder / "exit").unlink()
    assert not started.attempt.alive()
    started.attempt.request_stop(0)
    assert living([bystander.pid]) == [bystander.pid]
    bystander.kill()
    await bystander.wait()


async def test_times_of_another_boot_are_recalled_by_the_wall_clock(tmp_path: Path) -> None:
    """After a reboot the steady clock began anew: what happened then lies before now, by as much as the wall says."""
    started = await python(tmp_path, "pass")
    true = await started.end()
    record = started.attempt.folder / "start"
    record.write_text(json.dumps({**json.loads(record.read_text()), "boot": "another"}))
    later = moments.Moment(true.finished.wall + 100, 50.0)
    end = started.attempt.exit(lambda: later)
    assert end.finished.steady == pytest.approx(-50.0)
    set_back = moments.Moment(true.finished.wall - 100, 50.0)
    assert started.attempt.exit(lambda: set_back).finished.steady == 50.0


# -- much output, little room


async def test_a_flood_without_newline_stays_within_its_files(tmp_path: Path) -> None:
    """100 MB without a newline: the log keeps its size, the shim its memory, and the container its pace."""
    code = "import sys\nfor _ in range(100):\n sys.stdout.write('x' * 1000000)\nsys.stdout.write('END')"
    started = await python(tmp_path, code, log_bytes_max=10**6, log_files_max=3)
    assert (await started.end()).code == 0
    sizes = [path.stat().st_size for path in started.attempt.folder.glob("log.*")]
    assert len(sizes) == 3
    assert sum(sizes) < 3.5e6
    assert (await started.text()).endswith("xEND")


async def test_a_container_is_not_held_up_by_a_log_that_cannot_grow(tmp_path: Path) -> None:
    """Past the limit of a file's size (as on a full disk) lines are lost; the exit code is not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        started = await python(tmp_path, "print('x' * 100000, flush=True); raise SystemExit(5)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    end = await started.end()
    assert (end.code, end.reason) == (5, "Error")
    assert (started.attempt.folder / "log.1").stat().st_size <= 8192
