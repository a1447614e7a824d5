"""Options that many commands share, and how a command reaches the control plane."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from mizzen.kube.client import Client

P = ParamSpec("P")
R = TypeVar("R")

Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", help="Kubeconfig of the control plane to talk to.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace; by default the kubeconfig's.")]
AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="All namespaces.")]
Output = Annotated[str | None, typer.Option("--output", "-o", help="json, yaml, wide or name.")]
Home = Annotated[
    Path | None, typer.Option("--home", help="Folder of this machine's state; default $MIZZEN_HOME or .mizzen.")
]


@asynccontextmanager
async def connected(kubeconfig: Path | None) -> AsyncIterator[Client]:
    """A client of the control plane that is meant: see `Client.from_environment`."""
    async with Client.from_environment(kubeconfig) as client:
        yield client


def run(main: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Runs one command's coroutine to its end."""
    return asyncio.run(main(*args, **kwargs))
