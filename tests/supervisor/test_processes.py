"""Supervised processes: kept alive, ended in order, found again by their records, never mistaken for others."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from mizzen.local.supervisor.home import Home, write_atomically
from mizzen.local.supervisor.processes import Part, StartError, SupervisedPart, end_recorded, record_self, recorded

READY = (
    "import os, socket, signal, sys;"
    "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET']);"
    "print('up', flush=True);"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "h")
    home.prepare()
    return home


def part(home: Home, code: str, grace_s: float = 5.0) -> SupervisedPart:
    return SupervisedPart(Part("one", [sys.executable, "-c", code], grace_s), home, dict(os.environ))


async def test_a_killed_process_is_started_again(home: Home) -> None:
    supervised = part(home, READY + "signal.pause()")
    keeper = asyncio.create_task(supervised.run())
    await supervised.ready()
    first = supervised.statistics().pid
    assert first is not None
    assert recorded(home, "one") is not None
    os.kill(first, signal.SIGKILL)
    await supervised.ready()
    state = supervised.statistics()
    assert state.pid not in {None, first}
    assert (state.starts, state.last_exit) == (2, -signal.SIGKILL)
    await supervised.stop()
    await keeper
    assert recorded(home, "one") is None
    assert not psutil.pid_exists(state.pid or 0)


async def test_what_is_said_to_nobody_stops_nobody(home: Home) -> None:
    """A gateway says that it is ready each time its child is new; a socket that nobody reads holds some ten datagrams."""
    saying = "[s.sendto(b'STATUS=busy', os.environ['NOTIFY_SOCKET']) for _ in range(100)]; sys.exit(7)"
    supervised = part(home, READY + saying)
    keeper = asyncio.create_task(supervised.run())
    await supervised.ready()
    await supervised.ready()  # said by the second process, so the first has said all it had to say
    state = supervised.statistics()
    assert state.starts >= 2
    assert state.last_exit == 7
    await supervised.stop()
    await keeper


async def test_one_that_ends_before_it_is_ready_says_what_it_printed(home: Home) -> None:
    supervised = part(home, "import sys; print('port 7070 is taken'); sys.exit(3)")
    keeper = asyncio.create_task(supervised.run())
    with pytest.raises(StartError, match=r"ended with 3 before it was ready:\n  port 7070 is taken"):
        await supervised.ready()
    await supervised.stop()
    await keeper


async def test_one_that_ignores_sigterm_is_killed_after_its_grace(home: Home) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY + "\nwhile True: signal.pause()"
    supervised = part(home, code, grace_s=0.2)
    keeper = asyncio.create_task(supervised.run())
    await supervised.ready()
    await supervised.stop()
    await keeper
    assert supervised.statistics().last_exit == -signal.SIGKILL


async def test_processes_of_a_dead_supervisor_are_found_and_ended(home: Home) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import signal; print(1, flush=True); signal.pause()", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    started = psutil.Process(process.pid).create_time()
    write_atomically(home.run / "one.process.json", {"pid": process.pid, "started": started})
    ended = asyncio.create_task(asyncio.to_thread(end_recorded, home, ["one", "never"], 5.0))
    await process.wait()
    assert await ended == ["one"]
    assert await asyncio.to_thread(end_recorded, home, ["one"], 5.0) == []


def test_a_reused_process_id_is_not_the_recorded_process(home: Home) -> None:
    write_atomically(home.run / "one.process.json", {"pid": os.getpid(), "started": 1.0})
    assert recorded(home, "one") is None
    record_self(home, "one")
    found = recorded(home, "one")
    assert found is not None
    assert found.pid == os.getpid()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x", "started": 0}', '{"pid": 4194304999, "started": 0}'])
def test_a_record_that_makes_no_sense_is_no_process(home: Home, text: str) -> None:
    (home.run / "one.process.json").write_text(text)
    assert recorded(home, "one") is None
