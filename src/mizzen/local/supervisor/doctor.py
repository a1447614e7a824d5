"""What is wrong with this machine or home, and what to do about it.

Each check looks at one thing and says what it found; none changes anything.
"""

import asyncio
import os
import platform
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2
import psutil

from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError
from mizzen.local.node.machine import node_facts
from mizzen.local.supervisor.home import Home, HomeError
from mizzen.local.supervisor.processes import recorded
from mizzen.local.supervisor.supervisor import PARTS, addresses_of

DISK_BYTES_LOW = 2 * 1024**3
MEMORY_BYTES_LOW = 2 * 1024**3
OPEN_FILES_LOW = 4096
PORTS = (("Kubernetes API", 7070), ("inference", 7080), ("gRPC", 7081))


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `ok`, `warn` (works, but), or `fail`; `advice` says what to do."""

    check: str
    result: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


async def examine(home: Home, kubeconfig: Path | None) -> list[Finding]:
    """All findings, in the order of `CHECKS`."""
    findings: list[Finding] = []
    for check in CHECKS:
        findings += await check(home, kubeconfig)
    return findings


async def _machine(home: Home, kubeconfig: Path | None) -> list[Finding]:  # noqa: ARG001 - checks share one form
    memory = psutil.virtual_memory()
    facts = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory.total / 1024**3:.1f} GiB"
    findings = [Finding("machine", "ok", f"{facts}, Python {sys.version.split()[0]}")]
    if platform.system() not in {"Linux", "Darwin"}:
        findings = [Finding("machine", "fail", facts, "Mizzen runs on Linux and macOS.")]
    if memory.available < MEMORY_BYTES_LOW:
        advice = "Training Pods ask for 2 GiB unless they say otherwise: lower `resources.memory`, or free some."
        findings.append(Finding("memory", "warn", f"{memory.available / 1024**3:.1f} GiB available", advice))
    return findings


async def _home(home: Home, kubeconfig: Path | None) -> list[Finding]:  # noqa: ARG001
    if not home.root.exists():
        return [Finding("home", "ok", f"{home.root} does not exist yet; `mizzen up` makes it")]
    try:
        home.prepare()
    except HomeError as error:
        return [Finding("home", "fail", str(error), "Use another MIZZEN_HOME, or the Mizzen that made this one.")]
    free = shutil.disk_usage(home.root).free
    if free < DISK_BYTES_LOW:
        advice = "Writes fail when the disk is full; nothing acknowledged is lost, but nothing new is taken. Free some."
        return [Finding("home", "warn", f"{home.root}, {free / 1024**3:.1f} GiB free", advice)]
    return [Finding("home", "ok", f"{home.root}, {free / 1024**3:.0f} GiB free")]


async def _open_files(home: Home, kubeconfig: Path | None) -> list[Finding]:  # noqa: ARG001
    count = psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0] if hasattr(psutil, "RLIMIT_NOFILE") else OPEN_FILES_LOW
    if 0 < count < OPEN_FILES_LOW:
        return [
            Finding("open files", "warn", f"limit {count}", f"Many connections need more: ulimit -n {OPEN_FILES_LOW}")
        ]
    return [Finding("open files", "ok", f"limit {count}")]


async def _processes(home: Home, kubeconfig: Path | None) -> list[Finding]:  # noqa: ARG001
    alive = {name: recorded(home, name) is not None for name in ("supervisor", *PARTS)}
    if not any(alive.values()):
        return [Finding("processes", "ok", "nothing is up"), *_ports()]
    dead = [name for name, lives in alive.items() if not lives]
    if dead == ["supervisor"]:
        advice = "What it started goes on serving, but nothing restarts it: run `mizzen up` again."
        return [Finding("processes", "warn", "the supervisor is gone", advice)]
    if dead:
        return [Finding("processes", "warn", f"down: {', '.join(dead)}", f"Look at {home.logs} and `mizzen status`.")]
    return [Finding("processes", "ok", "supervisor, control and gateway are up")]


def _ports() -> list[Finding]:
    findings: list[Finding] = []
    for name, port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                option = {"Kubernetes API": "--port", "gRPC": "--grpc-port"}.get(name, "--inference-port")
                advice = f"Another program has port {port}: end it, or `mizzen up {option} PORT`."
                findings.append(Finding(f"{name} port", "warn", f"{port}: {error.strerror}", advice))
    return findings


async def _enforcement(home: Home, kubeconfig: Path | None) -> list[Finding]:  # noqa: ARG001
    facts = await asyncio.to_thread(node_facts)
    return [Finding(fact.name, "ok" if fact.enforced else "warn", fact.found, fact.advice) for fact in facts]


async def _control_plane(home: Home, kubeconfig: Path | None) -> list[Finding]:
    addresses = addresses_of(home)
    if addresses is None and kubeconfig is None:
        return []
    try:
        async with Client.from_environment(kubeconfig or Path(addresses.kubeconfig if addresses else "")) as client:
            version = (await client.request("GET", "/version"))["gitVersion"]
            await client.request("GET", "/readyz")
    except KubeError as error:
        return [Finding("control plane", "fail", str(error), f"Look at {home.logs / 'control.log'}.")]
    return [Finding("control plane", "ok", f"{version} answers at {client.connection.server}")]


async def _gateway(home: Home, kubeconfig: Path | None) -> list[Finding]:  # noqa: ARG001
    addresses = addresses_of(home)
    if addresses is None:
        return []
    url = f"{addresses.gateway_url}/v2/health/ready"
    try:
        async with httpx2.AsyncClient(timeout=5, trust_env=False) as http:
            code = (await http.get(url)).status_code
    except httpx2.TransportError as error:
        return [Finding("gateway", "fail", f"{url}: {error}", f"Look at {home.logs / 'gateway.log'}.")]
    if code != httpx2.codes.OK:
        return [Finding("gateway", "fail", f"{url}: {code}", f"Look at {home.logs / 'gateway.log'}.")]
    return [Finding("gateway", "ok", f"answers at {addresses.gateway_url}")]


CHECKS: tuple[Callable[[Home, Path | None], Awaitable[list[Finding]]], ...] = (
    _machine,
    _home,
    _open_files,
    _processes,
    _enforcement,
    _control_plane,
    _gateway,
)
