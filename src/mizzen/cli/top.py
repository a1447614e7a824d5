"""`mizzen top`: a live view of endpoints, by metrics and status, and of the batch predictions that are at work."""

import asyncio
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from lightkube.resources.core_v1 import ConfigMap
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mizzen.cli import options, output
from mizzen.cli.failures import NOT_FOUND, UNAVAILABLE, USAGE, CommandError
from mizzen.cli.scrape import Activity, Endpoint, Series, between, parse
from mizzen.kinds import BatchPrediction, InferenceEndpoint
from mizzen.kinds.batch import BatchProgress
from mizzen.kinds.names import SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE
from mizzen.kube.client import Client
from mizzen.kube.errors import KubeError, NotFound

app = typer.Typer()
BATCH_HEADERS = ("batch prediction", "phase", "done", "rows/s", "rows", "failed", "waits for")
HEADERS = ("endpoint", "serving", "ready", "req/s", "err/s", "p50", "p99", "queue", "running", "unlogged")
QUEUE_LONG_ROWS = 100
TIMEOUT_S = 5.0


@app.command()
def top(
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look for one interval, print, and end.")] = False,
    form: Annotated[str, typer.Option("--output", "-o", help="table or json (which implies --once).")] = "table",
    gateway: Annotated[str | None, typer.Option(help="URL of the gateway; default: as the platform says.")] = None,
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Watch endpoints (requests and errors a second, latency, queue, replicas) and batch predictions at work.

    Plain where it is no terminal.
    """
    if form not in {"table", "json"}:
        raise CommandError(f"--output: expected table or json, got {form}", USAGE)
    live = not once and form == "table" and output.is_terminal()
    options.run(_top, kubeconfig, gateway, namespace, interval, form, live)


async def _top(
    kubeconfig: Path | None, gateway: str | None, namespace: str | None, interval_s: float, form: str, live: bool
) -> None:
    async with options.connected(kubeconfig) as client, httpx2.AsyncClient(timeout=TIMEOUT_S) as http:
        url = gateway or await _gateway_url(client)
        before, before_s = await _page(http, url), time.monotonic()
        if not live:
            await asyncio.sleep(interval_s)
            after, after_s = await _page(http, url), time.monotonic()
            rows = await _rows(client, between(before, after, after_s - before_s), namespace)
            _print(rows, await _batches(client, namespace), form)
            return
        with Live(console=output.console, screen=True, auto_refresh=False) as screen:
            while True:
                await asyncio.sleep(interval_s)
                try:
                    after, after_s = await _page(http, url), time.monotonic()
                    rows = await _rows(client, between(before, after, after_s - before_s), namespace)
                    batches = await _batches(client, namespace)
                except (CommandError, KubeError, OSError) as error:  # a part starts again: it will be back
                    screen.update(Text(str(error), style="red"), refresh=True)
                    continue
                screen.update(Group(_drawn(rows), *_drawn_batches(batches)), refresh=True)
                before, before_s = after, after_s


async def _gateway_url(client: Client) -> str:
    try:
        settings = await client.get(ConfigMap, SETTINGS_CONFIG_MAP, SYSTEM_NAMESPACE)
    except NotFound:
        settings = None
    url = (settings.data or {}).get("gatewayUrl") if settings is not None else None
    if not url:
        raise CommandError("the platform does not say where its gateway is: give --gateway URL", NOT_FOUND)
    return str(url)


async def _page(http: httpx2.AsyncClient, url: str) -> Series:
    try:
        answer = await http.get(f"{url.rstrip('/')}/metrics")
    except httpx2.HTTPError as error:
        raise CommandError(f"{url}: the gateway does not answer: {error}", UNAVAILABLE) from error
    if answer.status_code != 200:
        raise CommandError(f"{url}/metrics: answered {answer.status_code}: {answer.text}", UNAVAILABLE)
    return parse(answer.text)


async def _rows(client: Client, activities: list[Activity], namespace: str | None) -> list[dict[str, Any]]:
    """What is shown of each endpoint there is, or was in the meantime: metrics beside the status."""
    declared = {(one.namespace, one.name): one for one in await client.list(InferenceEndpoint, namespace)}
    active = {(one.namespace, one.name): one for one in activities if namespace in {None, one.namespace}}
    idle = [key for key in declared if key not in active]
    return [_row(key, active.get(key), declared.get(key)) for key in [*active, *sorted(idle)] if key in declared]


async def _batches(client: Client, namespace: str | None) -> list[list[str]]:
    """The cells of each batch prediction that has a run at work."""
    working = [one for one in await client.list(BatchPrediction, namespace) if one.status.phase == "Running"]
    return [_batch_cells(one, one.status.progress or BatchProgress()) for one in working]


def _batch_cells(batch: BatchPrediction, progress: BatchProgress) -> list[str]:
    return [
        f"{batch.namespace}/{batch.name}",
        batch.status.phase or "",
        f"{progress.percent}%",
        f"{progress.rows_per_s:.0f}",
        f"{progress.rows_done}/{progress.rows_total}",
        str(progress.failed_rows),
        progress.waits,
    ]


def _row(key: Endpoint, activity: Activity | None, declared: InferenceEndpoint | None) -> dict[str, Any]:
    seen = activity if activity is not None else Activity(*key, 0.0, 0.0, None, None, 0, 0, 0, 0)
    status = declared.status if declared is not None else None
    return {
        **asdict(seen),
        "serving": status.serving if status is not None else None,
        "ready_replicas": status.ready_replicas if status is not None else 0,
        "replicas": status.replicas if status is not None else 0,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['namespace']}/{row['name']}",
        row["serving"] or "",
        f"{row['ready_replicas']}/{row['replicas']}",
        f"{row['requests_per_s']:.1f}",
        f"{row['errors_per_s']:.1f}",
        _duration(row["latency_s_p50"]),
        _duration(row["latency_s_p99"]),
        str(row["rows_waiting"]),
        str(row["batches_running"]),
        str(row["log_lost"]),
    ]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.2f}ms" if seconds < 1 else f"{seconds:.2f}s"


def _print(rows: list[dict[str, Any]], batches: list[list[str]], form: str) -> None:
    """As JSON, endpoints alone: of batch predictions their status has all there is."""
    if form == "json":
        print(json.dumps(rows))
        return
    output.table(list(HEADERS), [_cells(row) for row in rows])
    if batches:
        print()
        output.table(list(BATCH_HEADERS), batches)


def _drawn(rows: list[dict[str, Any]]) -> Table:
    """As a person sees it: what is amiss in red."""
    drawn = Table(title=f"endpoints at {time.strftime('%H:%M:%S')}", expand=True, box=None, header_style="bold")
    for number, header in enumerate(HEADERS):
        drawn.add_column(header.upper(), justify="left" if number < 2 else "right")
    for row in rows:
        amiss = (
            row["errors_per_s"] > 0 or row["rows_waiting"] > QUEUE_LONG_ROWS or row["ready_replicas"] < row["replicas"]
        )
        drawn.add_row(*_cells(row), style="red" if amiss else "")
    return drawn


def _drawn_batches(batches: list[list[str]]) -> list[Table]:
    if not batches:
        return []
    drawn = Table(title="batch predictions", expand=True, box=None, header_style="bold")
    for number, header in enumerate(BATCH_HEADERS):
        drawn.add_column(header.upper(), justify="right" if 2 <= number < 6 else "left")
    for cells in batches:
        drawn.add_row(*cells)
    return [drawn]
