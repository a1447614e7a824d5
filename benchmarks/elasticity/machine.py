"""A whole Mizzen for the benchmarks of elasticity: asked by HTTP, changed and watched through its API."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil

import mizzen
from benchmarks.startup import Home
from mizzen.kinds import InferenceEndpoint
from mizzen.kube.client import Client

QUICK = os.environ.get("QUICK") == "1"
LIMIT_S = 120.0
LONG_LIVED = {
    "mizzen.local.supervisor": "supervisor",
    "mizzen.local.supervisor.control": "control",
    "mizzen.serving.gateway": "gateway's parent",
    "mizzen.serving.gateway.process": "gateway",
    "mizzen.serving.predictionlog": "log writer",
    "mizzen.local.node.zygote": "zygote",
}


def row(
    what: str, unit: str, value: float, conditions: str, *, system: str = "mizzen", version: str = mizzen.__version__
) -> dict[str, Any]:
    return {
        "system": system, "version": version, "what": what, "unit": unit, "value": value, "conditions": conditions,
    }  # fmt: skip


def distributed(what: str, seconds: Sequence[float], conditions: str, **of: str) -> list[dict[str, Any]]:
    """Median and 99th percentile, with the distribution in words and in numbers; `of`: the system, as for `row`."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]

    found = {"min": at(0), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1)}
    told = f"{conditions}; {len(ordered)} times: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    numbers = {"distribution": {"count": len(ordered), **found}}
    return [
        {**row(f"{what}: median", "s", found["p50"], told, **of), **numbers},
        {**row(f"{what}: p99", "s", found["p99"], told, **of), **numbers},
    ]


def endpoint(name: str, model: str, cpu: str = "50m", memory: str = "256Mi", **scaling: object) -> InferenceEndpoint:
    spec = {
        "model": model, "access": "anonymous", "scaling": scaling,
        "worker": {"resources": {"cpu": cpu, "memory": memory}},
        "rollout": {"keepPrevious": "0s"},  # each swap is to load
    }  # fmt: skip
    return InferenceEndpoint.model_validate({"metadata": {"name": name, "namespace": "default"}, "spec": spec})


class Machine:
    """One that is up. `client` speaks to its API."""

    def __init__(self, home: Home, client: Client) -> None:
        self.home, self.client = home, client

    @property
    def inference_port(self) -> int:
        return self.home.ports[1]

    async def until(self, name: str, holds: Callable[[InferenceEndpoint], bool]) -> float:
        """Follows an endpoint until that holds; returns how long it took. Raises `TimeoutError`."""
        began = time.perf_counter()
        async with asyncio.timeout(LIMIT_S):
            async for event in self.client.watch(InferenceEndpoint, "default", fields={"metadata.name": name}):
                found = event.payload
                if isinstance(found, InferenceEndpoint) and holds(found):
                    return time.perf_counter() - began
        raise TimeoutError(name)

    async def patch(self, name: str, spec: Mapping[str, Any]) -> None:
        await self.client.patch(InferenceEndpoint, name, {"spec": spec}, namespace="default")

    def processes(self) -> list[psutil.Process]:
        """All that work for this home, and what they started."""
        home, found = str(self.home.root), {}
        for process in psutil.process_iter():
            try:
                ours = home in " ".join(process.cmdline()) or home in process.environ().values()
                if ours or process.ppid() in found:
                    found[process.pid] = process
            except psutil.Error:
                continue
        return list(found.values())

    def long_lived(self) -> dict[str, int]:
        """Resident bytes of each process that lives as long as the machine is up."""
        found: dict[str, int] = {}
        for process in self.processes():
            with suppress(psutil.Error):
                if name := _name(process):
                    found[name] = process.memory_info().rss
        return found

    async def control_rests(self) -> float:
        """When the control process began to do next to nothing, by `time.perf_counter`."""
        control = next(one for one in self.processes() if _name(one) == "control")
        async with asyncio.timeout(LIMIT_S):
            while True:
                before, began = sum(control.cpu_times()[:2]), time.perf_counter()
                await asyncio.sleep(0.1)
                if sum(control.cpu_times()[:2]) - before <= 0.01:
                    return began

    def total_bytes(self) -> int:
        """Of all processes together."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total


def _name(process: psutil.Process) -> str:
    """Of one of those that live long; empty for others."""
    try:
        words = process.cmdline()
        return LONG_LIVED.get(words[words.index("-m") + 1], "") if "-m" in words else ""
    except (psutil.Error, IndexError):
        return ""


@asynccontextmanager
async def machine():
    """Up, with the benchmarks' small model registered as `bench:1` and `bench:2`."""
    with Home() as home:
        home.timed_up()
        home.register("bench")
        home.register("bench")
        async with Client.from_kubeconfig(home.root / "kubeconfig") as client:
            yield Machine(home, client)


BODY = json.dumps({"inputs": [{"name": "X", "shape": [1, 20], "datatype": "FP32", "data": [0.5] * 20}]}).encode()
"""A request to the small model."""
