"""`mizzen batch`: a run of a batch prediction now. What there is and how it goes: `get bp`, `describe`, `logs`."""

from pathlib import Path
from typing import Annotated

import typer

from mizzen.cli import options, output
from mizzen.cli.failures import NO, USAGE, CommandError
from mizzen.kinds.scalars import duration_s
from mizzen.sdk import batches

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Batch predictions."""


@app.command("run")
def run(
    name: Annotated[str, typer.Argument(help="The BatchPrediction.")],
    wait: Annotated[str, typer.Option(help="For its end, this long; empty: do not wait.")] = "6h",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Run now, beyond what the spec and its schedule ask for, and wait for the version."""
    try:
        timeout_s = duration_s(wait) if wait else 0.0
    except ValueError as error:
        raise CommandError(f"--wait: {error}", USAGE) from error
    options.run(_run, kubeconfig, name, timeout_s, namespace)


async def _run(kubeconfig: Path | None, name: str, timeout_s: float, namespace: str | None) -> None:
    async with options.connected(kubeconfig) as client:
        place = namespace or client.namespace
        request = await batches.ask(client, name, place)
        if not timeout_s:
            print(f"batchprediction/{name} asked for a run")
            return

        def tell(how: str) -> None:
            if output.is_terminal():
                output.errors.print(f"batchprediction/{name}: {how}", markup=False)

        try:
            ended = await batches.ended(client, name, place, request, timeout_s, tell)
        except batches.RunFailed as error:
            raise CommandError(str(error), NO) from error
        print(f"batchprediction/{name} {ended.message}")
