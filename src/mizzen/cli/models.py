"""`mizzen models`: register model files, move aliases by hand; `mizzen bundle`: store a project folder."""

from pathlib import Path
from typing import Annotated

import typer

from mizzen.cli import options
from mizzen.cli.failures import USAGE, CommandError
from mizzen.data.lake import code
from mizzen.data.lake.errors import LakeError
from mizzen.registry.errors import RegistryError
from mizzen.registry.registering import register_file
from mizzen.sdk.applying import ApplyError, store_of
from mizzen.sdk.models import make_model, pin

app = typer.Typer()
models = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(models, name="models", help="Register models, move aliases.")

Name = Annotated[str, typer.Argument(help="The Model; it is made where there is none.")]
Metric = Annotated[list[str] | None, typer.Option("--metric", help="NAME=VALUE, for the model's gates; repeat.")]


@models.command()
def register(
    name: Name,
    file: Annotated[Path, typer.Argument(help="An ONNX file.", exists=True, dir_okay=False)],
    alias: Annotated[str | None, typer.Option(help="Pin this alias to the new version.")] = None,
    metric: Metric = None,
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Make a model file the next version, without training."""
    print(options.run(_register, kubeconfig, name, file, alias, _metrics(metric or []), namespace))


def _metrics(given: list[str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in (text.split("=", 1) for text in given)}
    except ValueError as error:
        found = " ".join(given)
        raise CommandError(f"--metric: expected NAME=VALUE, such as roc_auc=0.7, got {found}", USAGE) from error


async def _register(
    kubeconfig: Path | None,
    name: str,
    file: Path,
    alias: str | None,
    metrics: dict[str, float],
    namespace: str | None,
) -> str:
    async with options.connected(kubeconfig) as client:
        place = namespace or client.namespace
        try:
            store = await store_of(client)
            version = await register_file(client, store, name, file, namespace=place, metrics=metrics)
        except (RegistryError, ApplyError) as error:
            raise CommandError(f"{file}: {error}", USAGE) from error
        await make_model(client, name, place)
        if alias is not None:
            await pin(client, name, place, {alias: version.spec.version})
        return f"modelversion/{version.name} {version.spec.artifact.digest}"


@models.command()
def alias(
    name: Name,
    alias_: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as production.")],
    version: Annotated[int | None, typer.Argument(help="The version to pin it to.", min=1)] = None,
    unpin: Annotated[bool, typer.Option("--unpin", help="Let it move by itself again.")] = False,
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Pin an alias to a version by hand, or let it go."""
    if (version is None) != unpin:
        raise CommandError("expected a VERSION to pin to, or --unpin", USAGE)
    options.run(_alias, kubeconfig, name, alias_, version, namespace)
    print(f"model/{name} {alias_} {'moves by itself' if unpin else f'is pinned to version {version}'}")


async def _alias(kubeconfig: Path | None, name: str, alias: str, version: int | None, namespace: str | None) -> None:
    async with options.connected(kubeconfig) as client:
        await pin(client, name, namespace or client.namespace, {alias: version})


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="The project folder.", exists=True, file_okay=False)] = Path(),
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Store a project folder as a code bundle and print its digest, for `spec.code`."""
    try:
        print(options.run(_bundle, kubeconfig, folder))
    except (LakeError, ApplyError) as error:
        raise CommandError(str(error), USAGE) from error


async def _bundle(kubeconfig: Path | None, folder: Path) -> str:
    async with options.connected(kubeconfig) as client:
        return code.put_bundle(await store_of(client), code.bundle(folder))
