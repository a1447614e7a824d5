"""Every caller gets its own rows, all of them, once and in order, whatever fails, leaves, is late or is replaced.

Generated schedules play a whole gateway on virtual time: requests of one row and of many (which are run in parts),
workers that answer late, refuse, die and come back, clients that leave, versions that are switched meanwhile. The model
is `y = 2 * x`; whose row an answer is can be read from it.
"""

import asyncio
from collections import Counter
from random import Random

import pytest

from mizzen.serving.gateway.directory import Tenant

from .played import Call, PlayedLink, Stage, endpoint, version

pytestmark = pytest.mark.looptime(start=0)
BAD, DEADLY = 0.5, 0.25
"""Added to a value: the worker refuses the batch, or dies of it."""


class Schedule:
    """One schedule, all of it from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.loop = asyncio.get_running_loop()
        self.stage = Stage()
        self.stage.auto = self._run
        self.declared = {
            "batch_rows_max": random.choice([1, 4, 8]), "queue_rows_max": random.choice([30, 500]), "timeout_s": 2.0,
            "batch_delay_s": random.choice([0.0, 0.002]), "priority_levels": random.choice([1, 3]),
            "tenants": (Tenant("a", 2.0),),
        }  # fmt: skip
        self.calls: list[tuple[list[float], Call, bool]] = []
        self.free_s: dict[int, float] = {}
        self.slow = random.choice([0.001, 0.02])

    async def play(self) -> None:
        random, stage = self.random, self.stage
        stage.gateway.endpoint_changed(endpoint(**self.declared))
        for _ in range(random.randint(1, 2)):
            stage.worker(1, batches=random.randint(1, 2))
        count = 0.0
        for number in range(60):
            rows = random.choice([1, 1, 1, 2, 5, 20])
            values = [count + row for row in range(rows)]
            count += rows
            if random.random() < 0.04:
                values[random.randrange(rows)] += random.choice([BAD, DEADLY])
            call = stage.call(*values, request_timeout_ms=str(random.choice([15, 200, 2000])))
            leaves = call.exchange is not None and random.random() < 0.1
            if leaves:
                self.loop.call_later(random.choice([0.0, 0.003]), self._leave, call)
            self.calls.append((values, call, leaves))
            if number == 30 and random.random() < 0.5:
                stage.worker(2, batches=random.randint(1, 2))
                stage.gateway.endpoint_changed(endpoint(versions=[version(2)], **self.declared))
            await asyncio.sleep(random.choice([0.0, 0.0, 0.0005, 0.005]))
        await asyncio.sleep(5.0)

    def _leave(self, call: Call) -> None:
        if not call.reply.answered:
            call.leave()

    def _run(self, link: PlayedLink, batch: object) -> None:
        free_s = max(self.free_s.get(id(link), 0.0), self.loop.time()) + self.random.uniform(0, self.slow)
        self.free_s[id(link)] = free_s  # a worker runs them in order
        self.loop.call_at(free_s, self._done, link, batch)

    def _done(self, link: PlayedLink, batch) -> None:
        if batch not in link.batches:
            return  # its worker has died meanwhile
        parts = {value % 1 for value in link.rows(batch)}
        if DEADLY in parts:
            number = link.hello.version
            link.die()
            link.connect(number, link.credits)
        elif BAD in parts:
            link.fail("bad", batch)
        else:
            link.answer(batch)


async def check(seed: int) -> Counter[int]:
    schedule = Schedule(seed)
    await schedule.play()
    statuses: Counter[int] = Counter()
    for values, call, leaves in schedule.calls:
        assert len(call.reply.answers) <= 1, "nobody is answered twice"
        if not call.reply.answered:
            assert leaves, "only who leaves has no answer"
            statuses[0] += 1
            continue
        status = call.reply.status
        statuses[status] += 1
        if status == 200:
            assert call.reply.values == [2 * value for value in values]
        else:
            assert (status == 500) <= any(value % 1 for value in values), call.reply.error
    (service,) = schedule.stage.gateway.services.values()
    found = service.statistics()
    assert (found.rows_waiting, found.requests_waiting, found.batches_running) == (0, 0, 0)
    return statuses


async def test_schedules():
    statuses: Counter[int] = Counter()
    for seed in range(25):
        statuses += await check(seed)
    assert set(statuses) >= {0, 200, 429, 500, 504}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
async def test_two_thousand_schedules(part):
    for seed in range(1000 + 400 * part, 1000 + 400 * (part + 1)):
        await check(seed)
