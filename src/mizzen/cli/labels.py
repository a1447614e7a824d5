"""`mizzen labels`: tells what turned out to be true of requests that were logged."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from lightkube.resources.core_v1 import ConfigMap

from mizzen.cli import options
from mizzen.cli.failures import NOT_FOUND, UNAVAILABLE, USAGE, CommandError
from mizzen.cli.predict import rows_of
from mizzen.data.lake.errors import StoreUnavailable
from mizzen.data.lake.objects import Store
from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube.errors import NotFound
from mizzen.serving.predictionlog.labels import BadLabels, append_labels

app = typer.Typer()


@app.command()
def labels(
    name: Annotated[str, typer.Argument(help="The endpoint.")],
    data: Annotated[str, typer.Argument(help="Rows: JSON, @FILE (.json, .csv, .parquet), or - for standard input.")],
    run: Annotated[str | None, typer.Option(help="A name of this delivery: told again, it counts once.")] = None,
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Say what turned out to be true: rows with request_id, optionally row, and columns that are the labels."""
    rows = rows_of(data)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise CommandError('DATA: expected rows such as [{"request_id": "…", "late": true}]', USAGE)
    store_url, place = options.run(_where, kubeconfig, namespace)
    try:
        added = append_labels(Store.open(store_url), place, name, pa.Table.from_pylist(rows), run=run)
    except (BadLabels, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise CommandError(f"DATA: {error}", USAGE) from error
    except StoreUnavailable as error:
        raise CommandError(str(error), UNAVAILABLE) from error
    print(f"{len(rows)} labels of {place}/{name} are kept" if added else f"{run} was told before: nothing changed")


async def _where(kubeconfig: Path | None, namespace: str | None) -> tuple[str, str]:
    """The store and the namespace."""
    async with options.connected(kubeconfig) as client:
        try:
            settings = await client.get(ConfigMap, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE)
        except NotFound:
            settings = None
        url = (settings.data or {}).get("storeUrl") if settings is not None else None
        if not url:
            raise CommandError(f"ConfigMap {SYSTEM_NAMESPACE}/{SETTINGS_CONFIG_MAP}: expected data.storeUrl", NOT_FOUND)
        return str(url), namespace or client.namespace
