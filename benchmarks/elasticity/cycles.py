"""Up and down under load, version swaps and scale-to-zero cycles: no request lost, no memory kept."""

import asyncio
import gc
from typing import Any

from benchmarks.elasticity.asking import Load, timed
from benchmarks.elasticity.machine import BODY, FULL, Machine, distributed, endpoint, machine, row

RATE_PER_S = 200.0
UP_AND_DOWN, SWAPS, ZEROS = (100, 500, 500) if FULL else (10, 30, 30)
SETTLING = 0.2
"""The share of cycles after which the memory is the start: what is allocated once is allocated by then."""


def rows() -> list[dict[str, Any]]:
    return asyncio.run(_rows())


async def _rows() -> list[dict[str, Any]]:
    async with machine() as found:
        under_load = await _up_and_down(found)
        swaps = await _grown(found, SWAPS, _swap, "swap", "version swaps under 20 requests/s")
        zeros = await _grown(found, ZEROS, _zero, "zero", "cycles to zero and back")
        return [*under_load, *swaps, *zeros]


async def _up_and_down(found: Machine) -> list[dict[str, Any]]:
    await found.client.create(endpoint("updown", "bench:1", replicas=1))
    await found.until("updown", lambda one: one.status.ready_replicas == 1)
    async with Load(found.inference_port, "updown", BODY, RATE_PER_S) as load:
        for _ in range(UP_AND_DOWN):
            for number in (3, 0):
                await found.patch("updown", {"scaling": {"replicas": number}})
                await found.until("updown", lambda one, n=number: one.status.ready_replicas == n == one.status.replicas)
        await found.patch("updown", {"scaling": {"replicas": 1}})
        await found.until("updown", lambda one: one.status.ready_replicas == 1)
    await found.client.delete(type(endpoint("x", "bench:1")), "updown", "default")
    told = f"{UP_AND_DOWN} cycles 0 to 3 to 0 workers under {RATE_PER_S:g} requests/s, {load.answered} answers compared"
    failed = f"; first: {load.failed[0]}" if load.failed else ""
    return [
        row("requests failed or wrong, up and down", "requests", len(load.failed), told + failed),
        *distributed("a request while workers come and go", load.latencies_s, told),
    ]


async def _swap(found: Machine, number: int) -> None:
    version = number % 2 + 1
    await found.patch("swap", {"model": f"bench:{version}"})
    await found.until("swap", lambda one: bool(one.status.traffic) and one.status.traffic[0].version == version)


async def _zero(found: Machine, number: int) -> None:
    replicas = number % 2
    await found.patch("zero", {"scaling": {"replicas": replicas}})
    if replicas:
        await timed(found.inference_port, "zero", BODY)
    else:
        await found.until("zero", lambda one: one.status.replicas == 0 and not one.status.workers)


async def _grown(found: Machine, count: int, cycle: Any, name: str, what: str) -> list[dict[str, Any]]:
    """Runs the cycles; how much more memory each long-lived process has than after the first of them."""
    await found.client.create(endpoint(name, "bench:1", replicas=1))
    await found.until(name, lambda one: one.status.ready_replicas == 1)
    before: dict[str, int] = {}
    times = 2 * count if cycle is _zero else count
    async with Load(found.inference_port, name, BODY, 20.0 if cycle is _swap else 1.0) as load:
        for number in range(times):
            if number == round(SETTLING * times):
                gc.collect()
                before = found.long_lived()
            await cycle(found, number)
    await found.client.delete(type(endpoint("x", "bench:1")), name, "default")
    after = found.long_lived()
    told = f"after {count} {what}, against the first {round(SETTLING * count)} of them"
    grown = [
        row(
            f"{process}: growth over {name} cycles", "%", 100 * (after[process] / size - 1), f"{told}; {size >> 20} MiB"
        )
        for process, size in before.items()
        if process in after
    ]
    lost = row(f"requests failed or wrong, {name} cycles", "requests", len(load.failed), f"{load.answered} answers")
    return [lost, *grown]
