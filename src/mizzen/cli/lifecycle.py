"""`mizzen up`, `down`, `status`, `doctor`, `version`."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from lightkube.resources.core_v1 import Node

from mizzen.cli import options, output
from mizzen.cli.failures import NO, UNAVAILABLE, CommandError
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError
from mizzen.kube.process import stop_on_signals
from mizzen.kube.resources import untyped
from mizzen.local.supervisor import doctor as doctors
from mizzen.local.supervisor.home import Home, HomeError
from mizzen.local.supervisor.processes import StartError, memory_bytes, recorded
from mizzen.local.supervisor.supervisor import PARTS, Addresses, Settings, Supervisor, addresses_of
from mizzen.local.supervisor.supervisor import down as end_all
from mizzen.sdk.lookup import OURS
from mizzen.sdk.waiting import condition_of
from mizzen.version import __version__

app = typer.Typer()

Port = Annotated[int, typer.Option("--port", help="Port of the Kubernetes API.")]
InferencePort = Annotated[int, typer.Option("--inference-port", help="Port on which endpoints answer.")]
GrpcPort = Annotated[
    int | None, typer.Option("--grpc-port", help="Port for gRPC.", show_default="the one after --inference-port")
]


@app.command()
def up(
    home: options.Home = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is up.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Port = 7070,
    inference_port: InferencePort = 7080,
    grpc_port: GrpcPort = None,
    gateways: Annotated[int, typer.Option(help="Gateway processes.", min=1)] = 1,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Use that control plane instead of the embedded one.", exists=True)
    ] = None,
) -> None:
    """Bring Mizzen up on this machine."""
    settings = Settings(
        Home.from_environment(home), host, port, inference_port, gateways, grpc_port,
        kubeconfig.absolute() if kubeconfig else None,
    )  # fmt: skip
    started = time.monotonic()
    try:
        if detach:
            show_addresses(start_detached(settings), started)
            return
        asyncio.run(_in_foreground(settings, started))
    except (HomeError, StartError) as error:
        raise CommandError(str(error), NO) from error


async def _in_foreground(settings: Settings, started: float) -> None:
    async def ready(addresses: Addresses) -> None:
        show_addresses(addresses, started)
        output.errors.print("Ctrl-C ends it all.")

    if output.is_terminal():
        output.errors.print(f"starting in {settings.home.root} …")
    await Supervisor(settings).run(stop_on_signals(), ready)


def start_detached(settings: Settings) -> Addresses:
    """Starts a supervisor that outlives this command; returns when all is up. Raises `HomeError`, `StartError`."""
    command = [
        sys.executable, "-m", "mizzen.local.supervisor",
        "--home", str(settings.home.root),
        "--host", settings.host,
        "--port", str(settings.control_port),
        "--inference-port", str(settings.inference_port),
        "--grpc-port", settings.grpc_address.rpartition(":")[2],
        "--gateways", str(settings.gateway_processes),
    ]  # fmt: skip
    if settings.kubeconfig is not None:
        command += ["--kubeconfig", str(settings.kubeconfig)]
    settings.home.prepare()
    with (settings.home.logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.stdout.close()
        if not line:
            raise StartError(f"the supervisor ended with {process.wait()} before it said anything")
        document = json.loads(line)
        if "error" in document:
            process.wait()
            raise StartError(document["error"])
        process.returncode = 0  # it lives on; we are not its keeper
    return Addresses(**document)


def show_addresses(addresses: Addresses, started: float) -> None:
    """The short table at the end of `up`."""
    rows = [("Kubernetes API", addresses.control_url or "(not ours)"), ("endpoints", f"{addresses.gateway_url}/v2"),
            ("gRPC", addresses.grpc_address),
            ("kubeconfig", addresses.kubeconfig), ("store", addresses.store_url)]  # fmt: skip
    output.table(("up", f"ready in {time.monotonic() - started:.1f} s"), rows)


@app.command()
def down(home: options.Home = None) -> None:
    """End everything that `up` started."""
    ended = end_all(Home.from_environment(home))
    print(f"ended: {', '.join(ended)}" if ended else "nothing was up")


@app.command()
def status(home: options.Home = None, kubeconfig: options.Kubeconfig = None) -> None:
    """What is up, where, and how the resources are."""
    place = Home.from_environment(home)
    addresses = addresses_of(place)
    parts = [(name, recorded(place, name)) for name in ("supervisor", *reversed(PARTS))]
    output.table(
        ("process", "state", "pid", "memory"),
        [(name, *(("Running", p.pid, f"{memory_bytes(p) >> 20} MiB") if p else ("down", "", ""))) for name, p in parts],
    )
    if addresses is None and kubeconfig is None:
        raise CommandError(f"{place.root}: nothing is up here. `mizzen up` starts it.", UNAVAILABLE)
    options.run(_resources, kubeconfig or (Path(addresses.kubeconfig) if addresses is not None else None))


async def _resources(kubeconfig: Path | None) -> None:
    async with options.connected(kubeconfig) as client:
        rows = [await _node_row(client)]
        for found in OURS:
            listed = await client.list(untyped(found.info))
            states = [condition_of(obj, "Ready").state for obj in listed]
            rows.append((found.info.plural, len(states), states.count("True"), len(states) - states.count("True")))
        print()
        output.table(("resource", "all", "ready", "not ready"), rows)


async def _node_row(client: Client) -> tuple[str, int, int, int]:
    nodes = await client.list(Node)
    ready = sum(
        any(c.type == "Ready" and c.status == "True" for c in (node.status.conditions or ()))
        for node in nodes
        if node.status is not None
    )
    return "nodes", len(nodes), ready, len(nodes) - ready


@app.command()
def doctor(home: options.Home = None, kubeconfig: options.Kubeconfig = None) -> None:
    """What is wrong with this machine or home, and what to do."""
    findings = asyncio.run(doctors.examine(Home.from_environment(home), kubeconfig))
    output.table(("check", "result", "found"), [(f.check, f.result, f.found) for f in findings])
    todo = [f for f in findings if f.advice and f.result != "ok"]
    if todo:
        print()
        for finding in todo:
            print(f"{finding.check}: {finding.advice}")
    if any(finding.result == "fail" for finding in findings):
        raise typer.Exit(NO)


@app.command()
def version(
    kubeconfig: options.Kubeconfig = None, client_only: Annotated[bool, typer.Option("--client")] = False
) -> None:
    """Print the version."""
    print(f"mizzen {__version__} (Python {sys.version.split()[0]})")
    if client_only:
        return
    try:
        print(f"control plane {options.run(_server_version, kubeconfig)}")
    except KubeError:
        print("control plane: none answers")


async def _server_version(kubeconfig: Path | None) -> str:
    async with options.connected(kubeconfig) as client:
        document = await client.request("GET", "/version")
        return str(document["gitVersion"])
