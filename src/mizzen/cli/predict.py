"""`mizzen predict`: asks an endpoint and prints its answer."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import typer

from mizzen.cli import options, output
from mizzen.cli.failures import NO, UNAVAILABLE, USAGE, CommandError
from mizzen.local.supervisor.home import Home
from mizzen.sdk import predicting
from mizzen.sdk.predicting import PredictionError
from mizzen.sdk.tensors import Array, DataError

app = typer.Typer()


@app.command()
def predict(
    name: Annotated[str, typer.Argument(help="The endpoint.")],
    data: Annotated[str, typer.Argument(help="JSON, @FILE (.json, .csv, .parquet), or - for JSON on standard input.")],
    key: Annotated[str | None, typer.Option("--api-key", help="Default: $MIZZEN_API_KEY or your own.")] = None,
    namespace: options.Namespace = None,
    form: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
    parts: Annotated[bool, typer.Option("--stream", help="DATA is one request; print what the model yields.")] = False,
    home: options.Home = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Ask an endpoint. DATA is rows: {"age": 31}, [{"age": 31}, …], [[31, 2.5], …], or a protocol document."""
    if form not in {"table", "json"}:
        raise CommandError(f"--output: expected table or json, got {form}", USAGE)
    root = Home.from_environment(home).root
    try:
        if parts:
            options.run(_stream, kubeconfig, name, rows_of(data), key, namespace, root, form)
            return
        answer = options.run(_ask, kubeconfig, name, rows_of(data), key, namespace, root)
    except DataError as error:
        raise CommandError(str(error), USAGE) from error
    except PredictionError as error:
        raise CommandError(str(error), UNAVAILABLE if error.status in {0, 503} else NO) from error
    _print(answer, form)


async def _ask(
    kubeconfig: Path | None, name: str, data: object, key: str | None, namespace: str | None, home: Path
) -> dict[str, Array]:
    async with options.connected(kubeconfig) as client:
        address = await predicting.address_of(client, name, namespace or client.namespace, home, key)
    return await predicting.predict(address, data)


async def _stream(
    kubeconfig: Path | None, name: str, data: object, key: str | None, namespace: str | None, home: Path, form: str
) -> None:
    async with options.connected(kubeconfig) as client:
        address = await predicting.address_of(client, name, namespace or client.namespace, home, key)
    text = False
    async for part in predicting.stream(address, data):
        text = form == "table" and len(part) == 1 and all(isinstance(value, str) for value in part.values())
        print(*part.values() if text else [json.dumps(part)], end="" if text else "\n", flush=True)
    if text:
        print()


def rows_of(text: str) -> object:
    """The data of the command line. Raises `CommandError` where it is neither JSON nor a readable file."""
    if not text.startswith("@"):
        return _json(sys.stdin.read() if text == "-" else text, "DATA")
    path = Path(text[1:])
    try:
        if path.suffix == ".csv":
            return pyarrow.csv.read_csv(path).to_pylist()
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path).to_pylist()
        return _json(path.read_text(), str(path))
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise CommandError(f"{path}: expected a JSON, CSV or Parquet file: {error}", USAGE) from error


def _json(text: str, source: str) -> object:
    try:
        document: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"{source}: expected JSON, found {error}", USAGE) from error
    return document


def _print(answer: dict[str, Array], form: str) -> None:
    if form == "json":
        print(json.dumps({name: values.tolist() for name, values in answer.items()}))
        return
    length = max((len(values) for values in answer.values()), default=0)
    rows = [[_cell(values[i]) for values in answer.values()] for i in range(length)]
    output.table(list(answer), rows)


def _cell(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "  ".join(_cell(inner) for inner in value)
    return f"{value:.6g}" if isinstance(value, np.floating) else str(value)
