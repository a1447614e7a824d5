"""What the node does as time goes by: heartbeats, tokens, remembered answers. On virtual time."""

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from tests.kube.fake_server import FakeServer, status
from tests.node.builders import moment, pod

from mizzen.kube.client import Client
from mizzen.kube.events import Recorder
from mizzen.kube.informer import Informers
from mizzen.kube.times import format_time
from mizzen.local.node import machine
from mizzen.local.node.host import Host, NodeOptions
from mizzen.local.node.identity import Identity, Refused
from mizzen.local.node.machine import Enforcement
from mizzen.local.node.metrics import NodeMetrics
from mizzen.local.node.moments import Moment
from mizzen.local.node.registration import Registration
from mizzen.local.node.sources import SourceCache
from mizzen.local.node.tokens import TokenKeeper
from mizzen.local.node.volumes import MountError, TokenWanted

pytestmark = pytest.mark.looptime
WANTED = TokenWanted("", 3600)


def clock() -> Moment:
    """Both clocks go with the event loop's."""
    return moment(asyncio.get_running_loop().time())


def now_s() -> float:
    return asyncio.get_running_loop().time()


def host(client: Client, home: Path) -> Host:
    return Host(
        home, NodeOptions(name="n1"), machine.look(home), Enforcement(None, root=False), client,
        Recorder(client, "test"), SourceCache(Informers(client)), NodeMetrics(), clock, random.Random(1),
    )  # fmt: skip


# -- heartbeats


@pytest.fixture
async def server() -> FakeServer:
    return FakeServer()


async def test_the_lease_is_renewed_every_ten_seconds_and_the_status_every_five_minutes(
    server: FakeServer, tmp_path: Path
) -> None:
    async with server.client() as client:
        registration = Registration(host(client, tmp_path), 1234)
        await registration.register()
        beating = asyncio.create_task(registration.run())
        server.requests.clear()
        await asyncio.sleep(299)
        assert registration.heartbeats == 1 + 29
        assert [path for _, path in server.requests if path.endswith("/status")] == []
        await asyncio.sleep(10)
        assert len([path for _, path in server.requests if path.endswith("/status")]) == 1
        beating.cancel()


async def test_a_node_that_was_deleted_comes_back_with_the_next_heartbeat(server: FakeServer, tmp_path: Path) -> None:
    async with server.client() as client:
        registration = Registration(host(client, tmp_path), 1234)
        await registration.register()
        beating = asyncio.create_task(registration.run())
        server.remove("nodes", "n1", None)
        server.remove("leases", "n1", "kube-node-lease")  # garbage: the Node owns it
        await asyncio.sleep(21)
        assert ("nodes", None, "n1") in server.objects
        assert ("leases", "kube-node-lease", "n1") in server.objects
        beating.cancel()


async def test_a_server_that_is_away_is_waited_for(server: FakeServer, tmp_path: Path) -> None:
    """At the start, and later: the first heartbeat comes soon after the server does."""
    server.down = True
    async with server.client() as client:
        registration = Registration(host(client, tmp_path), 1234)
        starting = asyncio.create_task(registration.register())
        await asyncio.sleep(100)
        assert not starting.done()
        server.down = False
        await starting
        beating = asyncio.create_task(registration.run())
        server.down = True
        await asyncio.sleep(300)
        server.down, beats, at = False, registration.heartbeats, now_s()
        while registration.heartbeats == beats:
            await asyncio.sleep(0.5)
        assert now_s() - at <= 31  # the client itself waits between tries, too
        beating.cancel()


# -- tokens


def issued(text: str, life_s: float = 3600.0) -> httpx2.Response:
    ends = format_time(datetime.fromtimestamp(clock().wall + life_s, UTC))
    return httpx2.Response(201, json={"status": {"token": text, "expirationTimestamp": ends}})


async def test_a_token_is_renewed_at_four_fifths_of_its_life(server: FakeServer) -> None:
    async with server.client() as client:
        keeper = TokenKeeper(client, clock, random.Random(1))
        server.next(issued("first"), "POST", "/token")
        assert await keeper.get(pod(), frozenset({WANTED})) == {WANTED: "first"}
        assert keeper.renew is not None
        assert 0.78 * 3600 <= keeper.renew <= 0.8 * 3600
        await asyncio.sleep(0.77 * 3600)
        assert await keeper.get(pod(), frozenset({WANTED})) == {WANTED: "first"}
        await asyncio.sleep(0.04 * 3600)
        server.next(issued("second"), "POST", "/token")
        assert await keeper.get(pod(), frozenset({WANTED})) == {WANTED: "second"}


async def test_an_old_token_serves_until_it_ends_where_no_new_one_can_be_had(server: FakeServer) -> None:
    async with server.client() as client:
        keeper = TokenKeeper(client, clock, random.Random(1))
        server.next(issued("old", 1000.0), "POST", "/token")
        await keeper.get(pod(), frozenset({WANTED}))
        await asyncio.sleep(900)
        for _ in range(2):
            refused = status(403, "Forbidden", "no more")
            server.next(httpx2.Response(403, json=refused), "POST", "/token")
        assert await keeper.get(pod(), frozenset({WANTED})) == {WANTED: "old"}
        assert keeper.renew == now_s() + 60
        await asyncio.sleep(101)
        with pytest.raises(MountError, match="failed to get a token for default: no more"):
            await keeper.get(pod(), frozenset({WANTED}))


# -- who may


def review(server: FakeServer, user: str | None, *allowed: bool) -> None:
    """What the API server says next about a token and its rights."""
    found = {"authenticated": user is not None, "user": {"username": user, "groups": ["g"]}}
    server.next(httpx2.Response(201, json={"status": found}), "POST", "/tokenreviews")
    for may in allowed:
        server.next(httpx2.Response(201, json={"status": {"allowed": may}}), "POST", "/subjectaccessreviews")


async def test_answers_are_remembered_for_a_while_and_refusals_briefly(server: FakeServer) -> None:
    async with server.client() as client:
        identity = Identity(client, "n1", now_s)
        review(server, "u", True)
        for _ in range(3):
            assert (await identity.allow(None, "token", "log")).name == "u"
        await asyncio.sleep(121)
        review(server, "u", False, False)
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                await identity.allow(None, "token", "log")
            assert caught.value.code == 403
        await asyncio.sleep(11)
        server.next(httpx2.Response(201, json={"status": {"allowed": True}}), "POST", "/subjectaccessreviews")
        assert (await identity.allow(None, "token", "log")).name == "u"
        assert server.scripted == []


async def test_nobody_is_let_in_while_the_server_is_away(server: FakeServer) -> None:
    async with server.client() as client:
        identity = Identity(client, "n1", now_s)
        server.next(httpx2.Response(403, json=status(403, "Forbidden", "not yours to ask")), "POST", "/tokenreviews")
        with pytest.raises(Refused) as caught:
            await identity.allow(None, "token", "log")
        assert caught.value.code == 503
        review(server, None)
        with pytest.raises(Refused) as caught:
            await identity.allow(None, "another", "log")
        assert caught.value.code == 401
