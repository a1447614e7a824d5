"""The tier in Redis: a real server where there is one, one that hangs, and none."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.serving.cache.builders import caching, entry
from tests.serving.played import Reply, Stage, endpoint, turn
from tests.serving.stack import PATIENCE_S, free_port

from mizzen.serving.gateway.cache.remote import TIMEOUT_S, RemoteCache
from mizzen.serving.gateway.cache.responses import Tiers
from mizzen.serving.gateway.gateway import Gateway

NEEDS_REDIS = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def redis_url():
    folder, port = tempfile.mkdtemp(prefix="mz-"), free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        if "eady to accept connections" in line:
            break
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(PATIENCE_S)
    server.stdout.close()
    shutil.rmtree(folder)


async def answered(reply: Reply) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not reply.answered:
            await asyncio.sleep(0)


@NEEDS_REDIS
async def test_entries_come_back_on_the_readers_clock_and_end(redis_url):
    wall, one, two = Clock(), Clock(), Clock()
    two.now = 5.0
    writer, reader = (RemoteCache(redis_url, clock, wall, timeout_s=PATIENCE_S) for clock in (one, two))
    writer.put("place", entry(3, expires_s=one.now + 60), 60.0)
    await writer.settled()
    wall.now += 10
    found = await reader.get("place")
    assert found is not None
    assert (found.key, found.outputs, found.expires_s) == (entry(3).key, entry(3).outputs, two.now + 50)
    wall.now += 51
    assert await reader.get("place") is None
    assert await reader.get("nowhere") is None
    assert (reader.statistics.failures, reader.is_up) == (0, True)
    await writer.close()
    await reader.close()


@NEEDS_REDIS
async def test_a_gateway_answers_from_what_another_computed(redis_url):
    loop, stages, remotes = asyncio.get_running_loop(), [], []
    for _ in range(2):
        stage, remote = Stage(), RemoteCache(redis_url, timeout_s=PATIENCE_S)
        stage.gateway = Gateway(loop.time, connect=stage._linked, tiers=Tiers(loop.time, remote=remote))
        stage.gateway.endpoint_changed(endpoint(cache=caching(remote=True)))
        stages.append(stage)
        remotes.append(remote)
    link = stages[0].worker()
    link._stage.auto = lambda link, batch: loop.call_soon(link.answer, batch)
    first = stages[0].call(1.0)
    await answered(first.reply)
    await remotes[0].settled()
    calls = [stages[1].call(1.0), stages[1].call(1.0)]
    for call in calls:
        await answered(call.reply)
    assert [call.reply.values for call in (first, *calls)] == [[2.0]] * 3
    assert stages[1].gateway.measures["default", "m"].cache == {"remote": 1, "flight": 1}
    for remote in remotes:
        await remote.close()


async def test_a_redis_that_hangs_costs_a_request_its_time_once():
    silent = socket.create_server(("127.0.0.1", 0))
    clock = Clock()
    remote = RemoteCache(f"redis://127.0.0.1:{silent.getsockname()[1]}", clock)
    assert await remote.get("place") is None
    assert (remote.is_up, remote.statistics.failures) == (False, 1)
    remote.put("place", entry(), 60.0)
    assert remote.statistics.dropped == 1
    clock.now += 0.6
    assert remote.is_up
    await remote.get("place")
    clock.now += 0.6
    assert not remote.is_up, "it is left alone for longer each time"
    await remote.close()
    silent.close()
    assert TIMEOUT_S < 0.1


async def test_without_redis_requests_are_computed():
    loop, stage, remote = asyncio.get_running_loop(), Stage(), RemoteCache(f"redis://127.0.0.1:{free_port()}")
    stage.gateway = Gateway(loop.time, connect=stage._linked, tiers=Tiers(loop.time, remote=remote))
    stage.gateway.endpoint_changed(endpoint(cache=caching(remote=True)))
    link = stage.worker()
    link._stage.auto = lambda link, batch: loop.call_soon(link.answer, batch)
    for _ in range(2):
        call = stage.call(1.0)
        await answered(call.reply)
        assert call.reply.values == [2.0]
    assert stage.rows_computed == [1.0]
    await remote.close()


@pytest.mark.looptime
async def test_a_client_that_leaves_while_redis_is_asked_is_followed_by_the_next():
    class Slow:
        is_up = True

        async def get(self, place):
            await asyncio.sleep(1)

        def put(self, place, entry, ttl_s):
            pass

    loop, stage = asyncio.get_running_loop(), Stage()
    stage.gateway = Gateway(loop.time, connect=stage._linked, tiers=Tiers(loop.time, remote=Slow()))
    stage.gateway.endpoint_changed(endpoint(cache=caching(remote=True)))
    link = stage.worker()
    late, gone, stays = stage.call(1.0, request_timeout_ms="100"), stage.call(1.0), stage.call(1.0)
    await asyncio.sleep(0.5)
    assert late.reply.status == 504
    gone.leave()
    await asyncio.sleep(3)
    link.answer()
    await turn()
    assert (gone.reply.answers, stays.reply.values) == ([], [2.0])
    assert stage.rows_computed == [1.0]


def test_a_url_that_is_none_is_refused():
    with pytest.raises(ValueError, match="scheme"):
        RemoteCache("http://127.0.0.1")


def test_a_gateway_that_is_told_of_no_redis_ends_with_a_line_that_says_so(tmp_path: Path):
    """What a person configured wrongly ends the gateway with a line that says so."""
    (tmp_path / "directory.json").write_text("{}")
    run = subprocess.run(
        [sys.executable, "-m", "mizzen.serving.gateway", "--directory", str(tmp_path / "directory.json"), "--port", "0"],
        env={**os.environ, "MIZZEN_CACHE_REDIS": "http://x"}, capture_output=True, text=True, check=False,
        timeout=PATIENCE_S,
    )  # fmt: skip
    assert run.returncode == 2
    assert "MIZZEN_CACHE_REDIS" in run.stderr
