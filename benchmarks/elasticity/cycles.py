"""Up and down under load, version swaps and scale-to-zero cycles: no request lost, no memory kept."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.elasticity.asking import Load, timed
from benchmarks.elasticity.machine import BODY, QUICK, Machine, distributed, endpoint, machine, row
from mizzen.kinds import InferenceEndpoint

RATE_PER_S = 200.0
UP_AND_DOWN, CYCLES = (10, 50) if QUICK else (100, 500)
FILLING = 5 if QUICK else 500
"""Cycles before those that count: by then what is kept of the past is full (changes after 50 cycles; events, of which
1,000 are kept, after 250), and the heap has its holes. What each process had when new is said beside it. The quick run,
which is over before that, tells nothing of memory.
"""
TRIMMED_S = 11.0
"""The control process gives back what it has freed every ten seconds."""


def up_and_down() -> list[dict[str, Any]]:
    return asyncio.run(_up_and_down())


async def _up_and_down() -> list[dict[str, Any]]:
    async with machine() as found:
        await found.client.create(endpoint("updown", "bench:1", replicas=1))
        await found.until("updown", lambda one: one.status.ready_replicas == 1)
        began = time.perf_counter()
        async with Load(found.inference_port, "updown", BODY, RATE_PER_S) as load:
            for _ in range(UP_AND_DOWN):
                for number in (3, 0):
                    await found.patch("updown", {"scaling": {"replicas": number}})
                    await found.until(
                        "updown", lambda one, n=number: one.status.ready_replicas == n == one.status.replicas
                    )
            await found.patch("updown", {"scaling": {"replicas": 1}})
            await found.until("updown", lambda one: one.status.ready_replicas == 1)
        seconds = time.perf_counter() - began
    told = (
        f"{UP_AND_DOWN} cycles 0 to 3 to 0 workers in {seconds:.0f} s under {RATE_PER_S:g} requests/s, "
        f"{load.answered} answers compared ({load.answered / seconds:.0f}/s: a connection that waits sends late)"
    )
    failed = f"; first: {load.failed[0]}" if load.failed else ""
    return [
        row("requests failed or wrong, up and down", "requests", len(load.failed), told + failed),
        *distributed("a request while workers come and go", load.latencies_s, told),
    ]


def swaps() -> list[dict[str, Any]]:
    return asyncio.run(_grown("swap", "version swaps under 20 requests/s", 20.0, _swap))


def zeros() -> list[dict[str, Any]]:
    return asyncio.run(_grown("zero", "cycles to zero and back", 1.0, _zero))


async def _swap(found: Machine, number: int) -> None:
    version = number % 2 + 1
    await found.patch("swap", {"model": f"bench:{version}"})
    await found.until("swap", lambda one: bool(one.status.traffic) and one.status.traffic[0].version == version)


async def _zero(found: Machine, _: int) -> None:
    await found.patch("zero", {"scaling": {"replicas": 0}})
    await found.until("zero", lambda one: one.status.replicas == 0 and not one.status.workers)
    await found.patch("zero", {"scaling": {"replicas": 1}})
    await timed(found.inference_port, "zero", BODY)


async def _grown(
    name: str, what: str, rate_per_s: float, cycle: Callable[[Machine, int], Awaitable[None]]
) -> list[dict[str, Any]]:
    """Runs the cycles; how much more memory each long-lived process has than before those that count."""
    seconds = []
    async with machine() as found:
        await found.client.create(endpoint(name, "bench:1", replicas=1))
        await found.until(name, lambda one: one.status.ready_replicas == 1)
        new = found.long_lived()
        async with Load(found.inference_port, name, BODY, rate_per_s) as load:
            for number in range(FILLING):
                await cycle(found, number)
            await asyncio.sleep(TRIMMED_S)
            before = found.long_lived()
            for number in range(FILLING, FILLING + CYCLES):
                began = time.perf_counter()
                await cycle(found, number)
                seconds.append(time.perf_counter() - began)
        await found.client.delete(InferenceEndpoint, name, "default")
        await asyncio.sleep(TRIMMED_S)
        after = found.long_lived()
    told = f"after {CYCLES} {what}, against after the {FILLING} before them"
    grown = [] if QUICK else [
        row(f"{process}: growth over {name} cycles", "%", 100 * (after[process] / size - 1),
            f"{told}; {size / 2**20:.1f} to {after[process] / 2**20:.1f} MiB resident, {new[process] / 2**20:.1f} when new")
        for process, size in before.items()
        if process in after and process in new
    ]  # fmt: skip
    lost = row(f"requests failed or wrong, {name} cycles", "requests", len(load.failed), f"{load.answered} answers")
    return [lost, *distributed(f"one of the {name} cycles", seconds, what), *grown]
