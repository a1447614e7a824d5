"""What a gateway tells the scaling controller: when, and how much, on virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mizzen.policy.scaling.reports import EndpointTotals, decode
from mizzen.serving.gateway.reporting import REPORT_S, Reporter

from .played import Stage, endpoint, turn, worker

pytestmark = pytest.mark.looptime


class Controller:
    """Hears lines, with the time of each."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, list[EndpointTotals]]] = []

    def write(self, line: bytes) -> None:
        self.heard.append((asyncio.get_running_loop().time(), decode(line).endpoints))

    async def drain(self) -> None: ...

    @property
    def last(self) -> EndpointTotals:
        ((one,),) = [totals for _, totals in self.heard[-1:]]
        return one


@asynccontextmanager
async def reporting() -> AsyncIterator[tuple[Stage, Controller]]:
    stage, controller = Stage(), Controller()
    reporter = Reporter(stage.gateway, "unix:/nowhere", asyncio.get_running_loop().time)
    stage.gateway.endpoint_changed(endpoint("m"))
    tasks = [asyncio.create_task(reporter._tell(controller)), asyncio.create_task(reporter._sample())]
    await turn()
    try:
        yield stage, controller
    finally:
        for task in tasks:
            task.cancel()


async def test_an_idle_gateway_says_that_it_is_there() -> None:
    async with reporting() as (_, controller):
        await asyncio.sleep(3.5 * REPORT_S)
        assert [(at, len(totals)) for at, totals in controller.heard] == [(0, 1), (1, 0), (2, 0), (3, 0)]


async def test_a_request_that_finds_no_worker_is_told_at_once_and_once() -> None:
    async with reporting() as (stage, controller):
        await asyncio.sleep(0.25)
        for _ in range(40):
            stage.call(1.0)
        await turn()
        await turn()
        assert [at for at, _ in controller.heard] == [0, 0.25]
        assert (controller.last.waiting, controller.last.arrivals) == (40, 40)


async def test_a_stream_that_finds_no_worker_is_told_at_once_too() -> None:
    """It waits elsewhere than in the queue."""
    async with reporting() as (stage, controller):
        await asyncio.sleep(0.25)
        stage.call(path="/v2/models/m/generate", body=b'{"x": 1.0}')
        await turn()
        await turn()
        assert [at for at, _ in controller.heard] == [0, 0.25]
        assert controller.last.waiting == 1


async def test_sums_say_what_came_waited_and_was_answered() -> None:
    async with reporting() as (stage, controller):
        for _ in range(3):
            stage.call(1.0)
        await asyncio.sleep(2.0)
        added = worker()
        stage.gateway.worker_changed(added)
        stage.links[added.uid].connect()
        await turn()
        await asyncio.sleep(0.5)
        while stage.links[added.uid].batches:
            stage.links[added.uid].answer()
            await turn()
        await asyncio.sleep(1.0)
        assert (controller.last.arrivals, controller.last.answered, controller.last.waiting) == (3, 3, 0)
        assert controller.last.waiting_s == pytest.approx(6.0, abs=0.6), "three for two seconds"
        assert controller.last.running_s == pytest.approx(1.5, abs=0.1), "three for half a second"
        assert controller.last.busy_s > 0
        await asyncio.sleep(2.0)
        assert controller.heard[-1][1] == [], "nothing has changed since"
