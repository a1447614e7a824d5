"""Each part alone against any control plane: `mizzen controllers`, `node`, `gateway`; and `mizzen crds` for it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mizzen.cli import options
from mizzen.kinds.definitions import definitions
from mizzen.kinds.yamltext import dump
from mizzen.local.supervisor.home import Home

app = typer.Typer()


def _become(module: str, *arguments: str) -> None:
    """This process goes on as that part."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - our own interpreter


def _kubeconfig(path: Path | None) -> list[str]:
    return ["--kubeconfig", str(path)] if path is not None else []


@app.command()
def crds() -> None:
    """Print the CustomResourceDefinitions: `mizzen crds | kubectl apply -f -`."""
    print("---\n".join(dump(crd) for crd in definitions()), end="")


@app.command()
def controllers(
    kubeconfig: options.Kubeconfig = None,
    store_url: Annotated[str | None, typer.Option(help="Where artifacts and tables are; kept in the cluster.")] = None,
    gateway_url: Annotated[str | None, typer.Option(help="Where endpoints answer; kept in the cluster.")] = None,
) -> None:
    """Run the controllers against a control plane."""
    given = ["--store-url", store_url] if store_url else []
    given += ["--gateway-url", gateway_url] if gateway_url else []
    _become("mizzen.controllers", *_kubeconfig(kubeconfig), *given)


@app.command()
def node(
    kubeconfig: options.Kubeconfig = None,
    home: options.Home = None,
    name: Annotated[str | None, typer.Option(help="The node's name; default: the machine's.")] = None,
) -> None:
    """Run a node against a control plane: Pods as processes of this machine."""
    place = Home.from_environment(home)
    place.prepare()
    given = ["--node-name", name] if name else []
    _become("mizzen.local.node", *_kubeconfig(kubeconfig), "--home", str(place.root), *given)


@app.command("push-server")
def push_server(
    kubeconfig: options.Kubeconfig = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7082,
    store_url: Annotated[str | None, typer.Option(help="Where tables are; default: the platform's.")] = None,
) -> None:
    """Run a push server: takes rows for datasets over HTTP."""
    given = ["--store-url", store_url] if store_url else []
    _become("mizzen.data.push", *_kubeconfig(kubeconfig), "--host", host, "--port", str(port), *given)


@app.command()
def gateway(
    kubeconfig: options.Kubeconfig = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7080,
    grpc_port: Annotated[int | None, typer.Option(help="Port for gRPC.", show_default="the one after --port")] = None,
    processes: Annotated[int, typer.Option(help="Processes on these ports.", min=1)] = 1,
    log_dir: Annotated[Path | None, typer.Option(help="Where the prediction log's rings are; default: none.")] = None,
    traces: Annotated[str | None, typer.Option(help="URL of an OpenTelemetry collector (OTLP over HTTP).")] = None,
    access_log: Annotated[
        str | None, typer.Option(help="A file for a JSON line a request; -: standard output.")
    ] = None,
) -> None:
    """Run a gateway against a control plane."""
    listen = ["--host", host, "--port", str(port), "--processes", str(processes)]
    listen += ["--grpc-port", str(grpc_port)] if grpc_port is not None else []
    observed = [
        *(["--log-dir", str(log_dir)] if log_dir is not None else []),
        *(["--traces", traces] if traces is not None else []),
        *(["--access-log", access_log] if access_log is not None else []),
    ]
    _become("mizzen.serving.gateway", *_kubeconfig(kubeconfig), *listen, *observed)


@app.command()
def predictions(
    kubeconfig: options.Kubeconfig = None,
    home: options.Home = None,
    store_url: Annotated[str | None, typer.Option(help="Where tables are; default: as the platform says.")] = None,
) -> None:
    """Run the prediction log's writer: what this machine's gateways log becomes Delta tables."""
    place = Home.from_environment(home)
    place.prepare()
    given = ["--store", store_url] if store_url else []
    folders = ["--folder", str(place.rings), "--spool", str(place.predictions)]
    _become("mizzen.serving.predictionlog", *_kubeconfig(kubeconfig), *folders, *given)
