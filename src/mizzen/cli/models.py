"""`mizzen models`: register model files, move aliases by hand; `mizzen bundle`: store a project folder."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mizzen.cli import options
from mizzen.cli.failures import USAGE, CommandError
from mizzen.data.lake import code
from mizzen.data.lake.errors import LakeError
from mizzen.registry.errors import RegistryError
from mizzen.registry.python_model import PythonModel
from mizzen.registry.registering import register_file, register_python
from mizzen.sdk.applying import ApplyError, store_of
from mizzen.sdk.models import make_model, pin

app = typer.Typer()
models = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(models, name="models", help="Register models, move aliases.")

Name = Annotated[str, typer.Argument(help="The Model; it is made where there is none.")]
FILE_HELP = "A model file: .onnx, LightGBM's .txt, XGBoost's .ubj or .json, or torch.export's .pt2."
Metric = Annotated[list[str] | None, typer.Option("--metric", help="NAME=VALUE, for the model's gates; repeat.")]


@models.command()
def register(
    name: Name,
    file: Annotated[Path | None, typer.Argument(help=FILE_HELP, exists=True, dir_okay=False)] = None,
    python: Annotated[str | None, typer.Option(help="A class, module:Class, in the place of a file.")] = None,
    code: Annotated[Path, typer.Option(help="The project folder of --python.", exists=True, file_okay=False)] = Path(),
    files: Annotated[Path | None, typer.Option(help="A folder that the class finds in context.folder.")] = None,
    requirements: Annotated[
        Path | None,
        typer.Option(help="requirements.txt, pylock.toml or uv.lock in the project folder: an environment of its own."),
    ] = None,
    example: Annotated[
        Path | None, typer.Option(help='JSON of rows by input: {"x": [[1, 2]]}.', exists=True, dir_okay=False)
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Pin this alias to the new version.")] = None,
    metric: Metric = None,
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Make a model file, or a class of your own, the next version, without training."""
    if (file is None) == (python is None):
        raise CommandError("expected a FILE, or --python module:Class", USAGE)
    metrics = _metrics(metric or [])
    if python is None:
        what: Path | PythonModel = file or Path()
    else:
        what = PythonModel(python, files, requirements)
    rows = None if example is None else _rows(example)
    print(options.run(_register, kubeconfig, name, what, code, rows, alias, metrics, namespace))


def _rows(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise CommandError(f"{path}: expected JSON: {error}", USAGE) from error
    if not isinstance(found, dict):
        raise CommandError(f'{path}: expected rows by input, such as {{"x": [[1, 2]]}}', USAGE)
    return found


def _metrics(given: list[str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in (text.split("=", 1) for text in given)}
    except ValueError as error:
        found = " ".join(given)
        raise CommandError(f"--metric: expected NAME=VALUE, such as roc_auc=0.7, got {found}", USAGE) from error


async def _register(
    kubeconfig: Path | None,
    name: str,
    what: Path | PythonModel,
    code_folder: Path,
    example: dict[str, Any] | None,
    alias: str | None,
    metrics: dict[str, float],
    namespace: str | None,
) -> str:
    async with options.connected(kubeconfig) as client:
        place = namespace or client.namespace
        try:
            store = await store_of(client)
            if isinstance(what, PythonModel):
                version = await register_python(
                    client, store, name, what, code_folder, example=example, namespace=place, metrics=metrics
                )
            else:
                version = await register_file(
                    client, store, name, what, namespace=place, example=example, metrics=metrics
                )
        except (RegistryError, LakeError, ApplyError) as error:
            subject = what.entrypoint if isinstance(what, PythonModel) else what
            raise CommandError(f"{subject}: {error}", USAGE) from error
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
