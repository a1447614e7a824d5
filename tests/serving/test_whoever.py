"""Whoever leaves, fails, dies or is late: each caller gets its own rows, once, or is told why not.

A whole service is played on virtual time: clients come with rows of their own, workers answer after a while, die, drain or
refuse, versions change, clients leave. What each client was told is then compared with what it sent.
"""

import asyncio
from dataclasses import dataclass

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .builders import UNHURRIED
from .played import Call, PlayedLink, Stage, endpoint, version

BAD, KILLS = 13.0, 17.0


@dataclass(frozen=True)
class Client:
    at_s: float
    rows: int
    timeout_s: float
    leaves_after_s: float | None
    marker: float | None
    """A row that the model refuses, or that kills its worker."""


@dataclass(frozen=True)
class Event:
    at_s: float
    what: str


CLIENTS = st.builds(
    Client,
    at_s=st.floats(0, 5),
    rows=st.integers(1, 5),
    timeout_s=st.sampled_from([0.05, 1.0, 30.0]),
    leaves_after_s=st.none() | st.none() | st.floats(0, 1),
    marker=st.sampled_from([None] * 10 + [BAD, KILLS]),
)
EVENTS = st.builds(Event, st.floats(0, 5), st.sampled_from(["die", "drain", "worker", "switch", "busy"]))


class Play:
    """One run of a generated story."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.stage.auto = self.computes
        self.version = 1
        self.compute_s = 0.01
        self.calls: list[tuple[Client, list[float], Call]] = []
        self.stage.gateway.endpoint_changed(endpoint(batch_rows_max=6, queue_rows_max=40))

    def computes(self, link: PlayedLink, batch) -> None:
        asyncio.get_running_loop().call_later(self.compute_s, self.comes_back, link, batch)

    def comes_back(self, link: PlayedLink, batch) -> None:
        if batch not in link.batches or link.hello is None:
            return
        if KILLS in link.rows(batch):
            link.die()
            self.new_worker()
        elif BAD in link.rows(batch):
            link.fail("thirteen", batch)
        else:
            link.answer(batch)

    def new_worker(self) -> None:
        self.stage.worker(self.version, batches=2)

    def happens(self, event: Event) -> None:
        alive = [link for link in self.stage.links.values() if link.hello is not None and not link.draining]
        if event.what == "die" and alive:
            alive[0].die()
        elif event.what == "drain" and alive:
            alive[0].draining = True
            alive[0]._owner.worker_draining(alive[0])
        elif event.what == "worker":
            self.new_worker()
        elif event.what == "busy":
            self.compute_s = 0.3
        elif event.what == "switch":
            self.version += 1
            self.new_worker()
            self.stage.gateway.endpoint_changed(
                endpoint(batch_rows_max=6, queue_rows_max=40, versions=[version(self.version)])
            )

    def comes(self, number: int, client: Client) -> None:
        rows = [1000.0 * (number + 1) + row for row in range(client.rows)]
        if client.marker is not None:
            rows[-1] = client.marker
        call = self.stage.call(*rows, request_timeout_ms=str(int(client.timeout_s * 1000)))
        self.calls.append((client, rows, call))
        if client.leaves_after_s is not None and call.exchange is not None:
            asyncio.get_running_loop().call_later(client.leaves_after_s, call.leave)

    async def run(self, clients: list[Client], events: list[Event]) -> None:
        loop = asyncio.get_running_loop()
        self.new_worker()
        for number, client in enumerate(clients):
            loop.call_later(client.at_s, self.comes, number, client)
        for event in events:
            loop.call_later(event.at_s, self.happens, event)
        await asyncio.sleep(6)
        self.compute_s = 0.01
        self.new_worker()
        await asyncio.sleep(60)

    def check(self, client: Client, rows: list[float], call: Call) -> None:
        answers = call.reply.answers
        if not answers:
            assert client.leaves_after_s is not None, "only who has left is told nothing"
            return
        assert len(answers) == 1, "nobody is answered twice"
        status = call.reply.status
        if status == 200:
            assert call.reply.values == [2 * row for row in rows], "its own rows, in order"
            assert client.marker is None
        elif status == 500:
            assert client.marker is not None or "two workers were lost" in call.reply.error
        else:
            assert status in {429, 503, 504}
            assert status == 429 or client.timeout_s <= 1.0 or len(call.reply.error) > 0


@settings(UNHURRIED, max_examples=60)
@given(st.lists(CLIENTS, min_size=1, max_size=25), st.lists(EVENTS, max_size=10))
def test_each_caller_gets_its_own_rows_or_is_told_why_not(clients, events):
    play: list[Play] = []

    async def run():
        play.append(Play())
        await play[0].run(clients, events)

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(run())
    for call in play[0].calls:
        play[0].check(*call)
    service = play[0].stage.gateway.services["default", "m"]
    left = service.statistics()
    assert (left.requests_waiting, left.rows_waiting, left.batches_running) == (0, 0, 0)
    counted = sum(service.measures.outcomes.values())
    assert counted == len(clients), "each request is counted once, however it ended"


@pytest.mark.looptime
async def test_a_story_in_which_nothing_goes_wrong_answers_all():
    play = Play()
    clients = [Client(number * 0.001, 2, 30.0, None, None) for number in range(40)]
    await play.run(clients, [])
    assert [call.reply.status for _, _, call in play.calls] == [200] * 40
    for call in play.calls:
        play.check(*call)
