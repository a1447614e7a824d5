"""Cold starts of the flights model, and one worker more."""

import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.elasticity.asking import timed
from benchmarks.elasticity.machine import BODY, QUICK, Machine, distributed, endpoint, machine, row
from mizzen.kinds import InferenceEndpoint, ModelVersion
from mizzen.kinds.serve import StartTimes

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights" / "resources.yaml"
COLD, COLD_SMALL, UPS = (30, 20, 20) if QUICK else (200, 100, 100)
COLD_ENDPOINTS = 10
"""That are started in turn: each gives its worker back after some seconds."""
SCALING = {"minReplicas": 0, "maxReplicas": 1, "scaleToZeroAfter": "1s", "stableWindow": "6s"}
PARTS = {
    "schedule_s": "a node", "start_s": "a process", "fetch_s": "the model's bytes", "load_s": "the session",
    "warm_up_s": "the warm-up", "total_s": "all from the Pod's being there to its being ready",
}  # fmt: skip


def rows() -> list[dict[str, Any]]:
    return asyncio.run(_rows())


async def _rows() -> list[dict[str, Any]]:
    async with machine() as found:
        found.home.mizzen("apply", "-f", str(FLIGHTS), timeout_s=300)
        found.home.mizzen("wait", "ie/late-arrival", "--timeout", "200s", timeout_s=300)
        await found.patch("late-arrival", {"scaling": {"replicas": 1}})
        told = "from sending the request, connection included"
        flights, parts = await _cold_starts(found, "late-arrival@production", await _body(found), COLD)
        small, _ = await _cold_starts(found, "bench:1", BODY, COLD_SMALL)
        return [
            *distributed("zero to first answer, flights model", flights, told),
            *_in_words(parts),
            *distributed("zero to first answer, small model", small, told),
            *distributed("one worker more (1 to 2)", await _scale_ups(found), "from the patch to `readyReplicas: 2`"),
        ]


async def _cold_starts(found: Machine, model: str, body: bytes, count: int) -> tuple[list[float], list[StartTimes]]:
    """Seconds of each, and what the parts of each took."""
    names = [f"cold-{number}" for number in range(COLD_ENDPOINTS)]
    for name in names:
        await found.client.create(endpoint(name, model, **SCALING))
        await found.until(name, lambda one: bool(one.status.traffic))
    seconds, parts = [], []
    for number in range(count):
        name = names[number % COLD_ENDPOINTS]
        await found.until(name, lambda one: one.status.replicas == 0 and not one.status.workers)
        await asyncio.sleep(0.3)  # what ended has ended
        seconds.append(await timed(found.inference_port, name, body))
        await found.until(name, _is_told)
        known = (await found.client.get(InferenceEndpoint, name, "default")).status.last_start
        if known is not None:
            parts.append(known)
    for name in names:
        await found.client.delete(InferenceEndpoint, name, "default")
    return seconds, parts


def _is_told(one: InferenceEndpoint) -> bool:
    """Whether the worker has been asked how long its own parts took."""
    start = one.status.workers[0].start if one.status.workers else None
    return start is not None and start.load_s is not None


def _in_words(parts: list[StartTimes]) -> list[dict[str, Any]]:
    return [
        row(f"of which {words}", "s", statistics.median(values), f"median of {len(values)}, from status.lastStart")
        for name, words in PARTS.items()
        if (values := [value for part in parts if (value := getattr(part, name)) is not None])
    ]


async def _body(found: Machine) -> bytes:
    """A request with zeros for what the model takes."""
    versions = await found.client.list(ModelVersion, "default")
    inputs = next(one.spec.signature.inputs for one in versions if one.spec.model == "late-arrival")
    tensors = []
    for tensor in inputs:
        shape = [1, *tensor.shape[1:]]
        count = 1
        for length in shape:
            count *= max(length, 1)
        tensors.append({"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "data": [0] * count})
    return json.dumps({"inputs": tensors}).encode()


async def _scale_ups(found: Machine) -> list[float]:
    await found.client.create(endpoint("up", "bench:1", replicas=1))
    await found.until("up", lambda one: one.status.ready_replicas == 1)
    seconds = []
    for _ in range(UPS):
        watching = asyncio.create_task(found.until("up", lambda one: one.status.ready_replicas == 2))
        await asyncio.sleep(0.2)  # the watch is there
        began = time.perf_counter()
        await found.patch("up", {"scaling": {"replicas": 2}})
        await watching
        seconds.append(time.perf_counter() - began)
        await found.patch("up", {"scaling": {"replicas": 1}})
        await found.until("up", lambda one: one.status.replicas == 1 and len(one.status.workers) == 1)
    return seconds
