"""Leader election: never two leaders, whatever the network and the clocks do; a leader again soon after one is lost."""

import asyncio
from datetime import timedelta

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lightkube.resources.coordination_v1 import Lease

from mizzen.kube.leases import Election, LeadershipLost, LeaseTimes
from mizzen.kube.times import parse_time

from . import virtual
from .fake_server import EPOCH, FakeServer, client_over, virtual_now


class Candidate:
    """A process that would lead, with a network of its own to the server and a clock that may be wrong."""

    def __init__(self, server: FakeServer, name: str, ahead_s: float, leaders: list[str]) -> None:
        self.name, self.leaders = name, leaders
        self.network = _Network(server)
        self.client = self.network.client()
        self.election = Election(
            self.client, "main", "default", name, rng=lambda: 0.5,
            clock=lambda: virtual_now() + timedelta(seconds=ahead_s),
        )  # fmt: skip
        self.terms = 0

    async def run(self) -> None:
        while True:
            try:
                await self.election.run(self._lead)
            except LeadershipLost:
                continue

    async def _lead(self) -> None:
        assert self.leaders == [], "two leaders at once"
        self.leaders.append(self.name)
        self.terms += 1
        try:
            await asyncio.sleep(1e9)
        finally:
            self.leaders.remove(self.name)


class _Network(httpx2.AsyncBaseTransport):
    """The way to the server: it may be cut, slow, or lose the answers to what was done."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.cut = False
        self.loses_answers = False
        self.latency_s = self.answer_s = 0.0

    def client(self):
        return client_over(self)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(self.latency_s)
        if self.cut:
            raise httpx2.ConnectTimeout("cut")
        response = await self.server.handle_async_request(request)
        if request.method == "PUT" or self.answer_s > 10:
            await asyncio.sleep(self.answer_s)
        if self.loses_answers:
            raise httpx2.ReadError("answer lost")
        return response


LATE = [(0, "heal", 5.0), (0, "late", 8.0), (0, "cut", 40.0)]
HANG = [(0, "heal", 20.0), (0, "hang", 40.0)]
troubles = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["cut", "heal", "lose", "slow", "late", "hang", "kill"]),
    st.floats(0, 40),
)


@given(script=st.lists(troubles, max_size=12), skews_s=st.tuples(*[st.sampled_from([0, -3600, 7, 86400])] * 3))
@example(script=LATE, skews_s=(0, 0, 0))
@example(script=HANG, skews_s=(0, 0, 0))
@settings(max_examples=20, deadline=None)
def test_never_two_leaders_and_one_again_when_all_is_well(
    script: list[tuple[int, str, float]], skews_s: tuple[float, ...]
) -> None:
    async def main() -> None:
        server, leaders = FakeServer(), []
        candidates = [Candidate(server, f"c{n}", skew_s, leaders) for n, skew_s in enumerate(skews_s)]
        tasks = [asyncio.create_task(candidate.run()) for candidate in candidates]
        for which, trouble, then_s in script:
            network = candidates[which].network
            network.cut = trouble == "cut"
            network.loses_answers = trouble == "lose"
            network.latency_s = 4.0 if trouble == "slow" else 0.0
            network.answer_s = {"late": 7.5, "hang": 100.0}.get(trouble, 0.0)
            if trouble == "kill":
                tasks[which].cancel()
                await asyncio.gather(tasks[which], return_exceptions=True)
                tasks[which] = asyncio.create_task(candidates[which].run())
            await asyncio.sleep(then_s)
        for candidate in candidates:
            candidate.network.cut = candidate.network.loses_answers = False
            candidate.network.latency_s = candidate.network.answer_s = 0.0
        # The longest: an answer that still hangs, a lease just taken by one that was cut off, and one more try.
        await asyncio.sleep(200 + 15 + 3)
        assert len(leaders) == 1
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    virtual.run(main())


@pytest.mark.looptime
async def test_a_leader_cut_off_stops_before_the_next_starts() -> None:
    server, leaders = FakeServer(), []
    first, second = (Candidate(server, name, 0, leaders) for name in ("first", "second"))
    tasks = [asyncio.create_task(first.run())]
    await asyncio.sleep(1)
    tasks.append(asyncio.create_task(second.run()))
    await asyncio.sleep(60)
    assert leaders == ["first"]
    first.network.cut = True
    loop = asyncio.get_running_loop()
    cut_s = loop.time()
    renewed_s = (parse_time(server.objects["leases", "default", "main"]["spec"]["renewTime"]) - EPOCH).total_seconds()
    while leaders == ["first"]:
        await asyncio.sleep(0.01)
    assert loop.time() - renewed_s == pytest.approx(10, abs=0.011), "stopped by the renew deadline"
    assert leaders == []
    while not leaders:
        await asyncio.sleep(0.01)
    assert leaders == ["second"]
    assert 10 <= loop.time() - cut_s <= 15 + 2.2
    first.network.cut = False
    await asyncio.sleep(60)
    assert leaders == ["second"], "one that comes back does not take the lease from one that renews it"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.looptime
async def test_an_orderly_end_hands_over_at_once_and_returns_what_the_work_returns() -> None:
    server = FakeServer()
    client = server.client()
    election = Election(client, "main", "default", "me", clock=virtual_now, rng=lambda: 0.0)

    async def work() -> None:
        lease = await client.get(Lease, "main")
        assert lease.spec.holderIdentity == "me"
        await asyncio.sleep(100)
        assert election.statistics().leading

    await election.run(work)
    lease = await client.get(Lease, "main")
    assert (lease.spec.holderIdentity, lease.spec.leaseDurationSeconds) == ("", 1)
    began_s = asyncio.get_running_loop().time()
    other = Election(client, "main", "default", "you", clock=virtual_now, rng=lambda: 0.0)
    await other.run(lambda: asyncio.sleep(0))
    assert asyncio.get_running_loop().time() == began_s
    assert other.statistics().transitions == 1


@pytest.mark.looptime
async def test_a_failure_of_the_work_is_the_works_own() -> None:
    server = FakeServer()
    election = Election(server.client(), "main", "default", "me", clock=virtual_now, rng=lambda: 0.0)

    async def work() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await election.run(work)
    assert server.objects["leases", "default", "main"]["spec"]["holderIdentity"] == ""


@pytest.mark.looptime
async def test_a_lease_taken_by_hand_ends_the_term() -> None:
    server = FakeServer()
    election = Election(server.client(), "main", "default", "me", clock=virtual_now, rng=lambda: 0.0)
    loop = asyncio.get_running_loop()
    steal = {"holderIdentity": "thief", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
    loop.call_later(30.5, lambda: server.put("leases", "main", spec=steal))
    with pytest.raises(LeadershipLost, match="now held by thief"):
        await election.run(lambda: asyncio.sleep(1e6))
    assert loop.time() == 32
    assert server.objects["leases", "default", "main"]["spec"]["holderIdentity"] == "thief"


@pytest.mark.parametrize("times", [(10, 10, 2), (15, 2, 2), (15, 10, 0)])
def test_times_that_could_make_two_leaders_are_refused(times: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="duration_s > renew_deadline_s > retry_s"):
        LeaseTimes(*times)
