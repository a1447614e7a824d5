"""Many endpoints on one machine, nearly all idle: memory, and how soon all is as it was after a restart."""

import asyncio
import time
from typing import Any, NamedTuple

from benchmarks.elasticity.asking import timed
from benchmarks.elasticity.machine import BODY, LIMIT_S, QUICK, Machine, distributed, endpoint, machine, row
from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.meta import condition_named

ENDPOINTS = 100 if QUICK else 1000
AT_ONCE = 20
RESTARTS = 5
SCALING = {"minReplicas": 0, "maxReplicas": 1, "scaleToZeroAfter": "2s", "stableWindow": "6s"}


def rows() -> list[dict[str, Any]]:
    return asyncio.run(_rows())


async def _rows() -> list[dict[str, Any]]:
    async with machine() as found:
        empty = found.total_bytes()
        began = time.perf_counter()
        await _register(found)
        seconds = time.perf_counter() - began
        total = found.total_bytes()
        restarts = [await _restart(found, f"many-{number}") for number in range(RESTARTS)]
        told = f"{ENDPOINTS} endpoints, each seen to work once, all idle"
        return [
            row("registered, verified and idle again: each endpoint", "s", seconds / ENDPOINTS, told),
            row("memory with all of them registered", "MB", total / 1e6, f"{told}; {empty / 1e6:.0f} MB with none"),
            row("memory for each registered endpoint", "MB", (total - empty) / 1e6 / ENDPOINTS, told),
            *distributed("restart: `mizzen up`", [one.up_s for one in restarts], told),
            *distributed(
                "restart: then a request to one of them",
                [one.answered_s for one in restarts],
                f"{told}; a cold start included",
            ),
            *distributed(
                "restart: until the control process rests",
                [one.rested_s for one in restarts],
                f"{told}; from `mizzen up`, that request included; it has looked at each of them again",
            ),
        ]


async def _register(found: Machine) -> None:
    """A few at a time, until each has worked and no worker is left."""
    waiting = [f"many-{number}" for number in range(ENDPOINTS)]
    started: set[str] = set()
    async with asyncio.timeout(LIMIT_S + 2.0 * ENDPOINTS):
        while True:
            every = await found.client.list(InferenceEndpoint, "default")
            busy = started - {one.name for one in every if _is_ready(one)}
            if not waiting and not busy and all(_is_idle(one) for one in every):
                return
            for name in waiting[: max(0, AT_ONCE - len(busy))]:
                await found.client.create(endpoint(name, "bench:1", cpu="10m", **SCALING))
                started.add(name)
            del waiting[: max(0, AT_ONCE - len(busy))]
            await asyncio.sleep(0.2)


def _is_ready(one: InferenceEndpoint) -> bool:
    ready = condition_named(one.status.conditions, "Ready")
    return ready is not None and ready.status == "True"


def _is_idle(one: InferenceEndpoint) -> bool:
    return _is_ready(one) and one.status.replicas == 0 and not one.status.workers


class Restart(NamedTuple):
    """Seconds until `mizzen up` returned, then until an idle endpoint answered, and until all was looked at."""

    up_s: float
    answered_s: float
    rested_s: float


async def _restart(found: Machine, name: str) -> Restart:
    await asyncio.to_thread(found.home.mizzen, "down")
    began = time.perf_counter()
    up_s = await asyncio.to_thread(found.home.timed_up)
    answered_s = await timed(found.inference_port, name, BODY)
    return Restart(up_s, answered_s, await found.control_rests() - began)
