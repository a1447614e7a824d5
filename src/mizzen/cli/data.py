"""`mizzen data`: datasets as people ask for them: which there are, their rows, profiles and versions, SQL, loads."""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import pyarrow as pa
import typer

from mizzen.cli import options, output
from mizzen.cli.failures import NO, NOT_FOUND, USAGE, CommandError
from mizzen.cli.forget import forget
from mizzen.cli.predict import rows_of
from mizzen.data.lake.errors import LakeError, VersionMissing
from mizzen.data.lake.queries import Difference, QueryFailed
from mizzen.data.lake.queries import head as first_rows
from mizzen.kinds.meta import condition_named
from mizzen.kinds.scalars import duration_s
from mizzen.sdk.applying import ApplyError
from mizzen.sdk.datasets import DatasetError, Lake, LoadFailed

app = typer.Typer()
data = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data", help="Datasets: rows, profiles, versions, SQL, restore, forget.")
data.command("forget")(forget)
T = TypeVar("T")

Name = Annotated[str, typer.Argument(help="The dataset.")]
Form = Annotated[str, typer.Option("--output", "-o", help="table or json.")]
Version = Annotated[int | None, typer.Option("--version", "-v", help="Default: the one that is served.", min=1)]
Wait = Annotated[str | None, typer.Option(help="Wait at most this long for the load to end, such as 10m.")]


def _asked(kubeconfig: Path | None, namespace: str | None, ask: Callable[[Lake], Awaitable[T]]) -> T:
    """What `ask` finds in the lake; its failures in words."""

    async def run() -> T:
        async with options.connected(kubeconfig) as client:
            return await ask(await Lake.of(client, namespace))

    try:
        return options.run(run)
    except VersionMissing as error:
        raise CommandError(str(error), NOT_FOUND) from error
    except LoadFailed as error:
        raise CommandError(str(error), NO) from error
    except (QueryFailed, DatasetError, ApplyError) as error:
        raise CommandError(str(error), USAGE) from error
    except LakeError as error:
        raise CommandError(str(error)) from error


def _expect_form(form: str) -> None:
    if form not in {"table", "json"}:
        raise CommandError(f"--output: expected table or json, got {form}", USAGE)


def _document(value: Any) -> None:
    """As JSON: times in RFC 3339, bytes in base64, no number that JSON has not."""
    output.document(msgspec.json.decode(msgspec.json.encode(value)), "json")


def _rows(table: pa.Table, form: str) -> None:
    if form == "json":
        _document(table.to_pylist())
    else:
        output.table(table.column_names, [[_cell(value) for value in row.values()] for row in table.to_pylist()])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@data.command("ls")
def ls(form: Form = "table", namespace: options.Namespace = None, kubeconfig: options.Kubeconfig = None) -> None:
    """The datasets, the version that is served, and how they are."""
    _expect_form(form)
    found = _asked(kubeconfig, namespace, lambda lake: lake.datasets())
    rows = []
    for dataset in sorted(found, key=lambda dataset: dataset.name):
        status, ready = dataset.status, condition_named(dataset.status.conditions, "Ready")
        source = next(iter(dataset.spec.source.to_wire()))
        rows.append({
            "name": dataset.name, "source": source, "version": status.version, "rows": status.rows,
            "bytes": status.bytes, "loadedAt": status.loaded_at, "ready": ready.status if ready is not None else "",
            "reason": ready.reason if ready is not None else "",
        })  # fmt: skip
    if form == "json":
        _document(rows)
    else:
        headers = ("name", "source", "version", "rows", "bytes", "loaded at", "ready", "reason")
        output.table(headers, [[*row.values()] for row in rows])


@data.command("head")
def head(
    name: Name,
    rows: Annotated[int, typer.Option("--rows", "-r", help="So many.", min=1)] = 10,
    version: Version = None,
    quarantine: Annotated[bool, typer.Option(help="Of the rows that loads set aside.")] = False,
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """The first rows of a version."""
    _expect_form(form)

    async def ask(lake: Lake) -> pa.Table:
        return first_rows(await lake.version(name, version, quarantine=quarantine), rows)

    _rows(_asked(kubeconfig, namespace, ask), form)


@data.command("profile")
def profile(
    name: Name,
    version: Version = None,
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """What the rows look like: nulls, distinct values, quantiles, the most frequent."""
    _expect_form(form)
    found = _asked(kubeconfig, namespace, lambda lake: lake.profile(name, version))
    if form == "json":
        _document(found)
        return
    headers = ("column", "type", "nulls", "distinct", "min", "5%", "50%", "95%", "max", "mean", "most frequent")
    rows = []
    for column, facts in found["columns"].items():
        quantiles = facts.get("quantiles", {})
        measured = [facts.get("min"), *(quantiles.get(rank) for rank in ("0.05", "0.5", "0.95")), facts.get("max")]
        top = ", ".join(f"{item['value']} ({item['count']})" for item in facts.get("top", ())[:3])
        shown = "(personal data)" if facts.get("personal") else top
        rows.append([column, facts["type"], facts["nulls"], facts["distinct"], *map(_cell, measured),
                     _cell(facts.get("mean")), shown])  # fmt: skip
    output.console.print(f"{name} version {found['version']}: {found['rows']} rows")
    output.table(headers, rows)


@data.command("versions")
def versions(
    name: Name,
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 50,
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """The versions that are kept, newest first."""
    _expect_form(form)
    found = _asked(kubeconfig, namespace, lambda lake: lake.versions(name, limit))
    if form == "json":
        _document([
            {"version": each.version, "operation": each.operation, "committedAt": _moment(each.timestamp_ms),
             "run": each.run, "digest": each.digest}
            for each in found
        ])  # fmt: skip
        return
    rows = [
        (each.version, each.operation, _moment(each.timestamp_ms), each.run, (each.digest or "")[:19]) for each in found
    ]
    output.table(("version", "operation", "committed at", "run", "digest"), rows)


@data.command("diff")
def diff(
    name: Name,
    before: Annotated[int, typer.Argument(metavar="A", help="A version.", min=1)],
    after: Annotated[int, typer.Argument(metavar="B", help="Another.", min=1)],
    key: Annotated[
        list[str] | None, typer.Option("--key", "-k", help="Columns that name a row; default: load.key.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Rows to show of each kind.", min=0)] = 20,
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """What differs between two versions: columns and rows. The exit code is 1 where something does."""
    _expect_form(form)
    found = _asked(kubeconfig, namespace, lambda lake: lake.difference(name, before, after, key or (), limit))
    if form == "json":
        _document(_as_document(found))
    else:
        _print_difference(found)
    if any(found.counts.values()) or found.columns_added or found.columns_removed or found.columns_changed:
        raise typer.Exit(NO)


def _as_document(found: Difference) -> dict[str, Any]:
    rows = {"added": found.added, "removed": found.removed, "changed": found.changed}
    return {
        "columns": {
            "added": dict(found.columns_added),
            "removed": dict(found.columns_removed),
            "changed": {name: {"before": old, "after": new} for name, (old, new) in found.columns_changed.items()},
        },
        "rows": {"before": found.rows_before, "after": found.rows_after, **found.counts},
        **{name: table.to_pylist() for name, table in rows.items() if table is not None},
    }


def _print_difference(found: Difference) -> None:
    for sign, columns in (("+", found.columns_added), ("-", found.columns_removed)):
        for name, type_ in columns.items():
            print(f"{sign} column {name} {type_}")
    for name, (old, new) in found.columns_changed.items():
        print(f"~ column {name} {old} -> {new}")
    counts = ", ".join(f"{count} {kind}" for kind, count in found.counts.items())
    print(f"rows: {found.rows_before} -> {found.rows_after} ({counts})")
    for sign, table in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        if table is not None and table.num_rows:
            rows = [[sign, *(_cell(value) for value in row.values())] for row in table.to_pylist()]
            output.table(("", *table.column_names), rows)


@data.command("sql")
def sql(
    text: Annotated[str, typer.Argument(metavar="QUERY", help='SQL; a dataset is a table, "name@3" a version of it.')],
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """The answer to a query over datasets."""
    _expect_form(form)
    _rows(_asked(kubeconfig, namespace, lambda lake: lake.sql(text)), form)


@data.command("restore")
def restore(
    name: Name,
    version: Annotated[int, typer.Argument(help="The version whose rows are to be those of the next.", min=1)],
    wait: Wait = "10m",
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Make the rows of an older version those of the next one. Nothing is lost: the present version stays readable."""
    _ask_for_load(name, {"restore": version}, wait, form, namespace, kubeconfig)


@data.command("load")
def load(
    name: Name,
    full: Annotated[bool, typer.Option("--full", help="Everything, wherever the last load ended.")] = False,
    wait: Wait = "10m",
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Load now."""
    _ask_for_load(name, {"full": full}, wait, form, namespace, kubeconfig)


def _ask_for_load(
    name: str, what: dict[str, Any], wait: str | None, form: str, namespace: str | None, kubeconfig: Path | None
) -> None:
    _expect_form(form)
    try:
        timeout_s = duration_s(wait) if wait else 0.0
    except ValueError as error:
        raise CommandError(f"--wait: {error}", USAGE) from error

    async def ask(lake: Lake) -> dict[str, Any]:
        request = await lake.ask(name, **what)
        if not timeout_s:
            return {"dataset": name, "request": request}
        dataset = await lake.answered(name, request, timeout_s)
        return {"dataset": name, "request": request, "version": dataset.status.version, "rows": dataset.status.rows}

    done = _asked(kubeconfig, namespace, ask)
    if form == "json":
        _document(done)
    elif "version" in done:
        print(f"dataset/{name} version {done['version']}: {done['rows']} rows")
    else:
        print(f"dataset/{name} asked for")


@data.command("push")
def push(
    name: Name,
    rows: Annotated[str, typer.Argument(help="JSON, @FILE (.json, .csv, .parquet), or - for JSON on standard input.")],
    key: Annotated[str | None, typer.Option("--api-key", help="Default: $MIZZEN_API_KEY.")] = None,
    url: Annotated[str | None, typer.Option(help="The push server; default: the platform's.")] = None,
    form: Form = "table",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Send rows to a dataset with a push source. They are kept when this returns."""
    _expect_form(form)
    used = key or os.environ.get("MIZZEN_API_KEY")
    if not used:
        raise CommandError("--api-key: expected a key (`mizzen token create NAME --dataset DATASET` makes one)", USAGE)
    given = rows_of(rows)
    sent: Sequence[Any] = given if isinstance(given, list) else [given]
    count = _asked(kubeconfig, namespace, lambda lake: lake.push(name, sent, used, url))
    print(json.dumps({"rows": count}) if form == "json" else f"dataset/{name} {count} rows kept", file=sys.stdout)
