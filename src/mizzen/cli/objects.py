"""`mizzen apply`, `diff`, `get`, `describe`, `delete`, `wait`, `events`: resources, ours and Kubernetes' own alike."""

import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import typer

from mizzen.cli import describing, options, output
from mizzen.cli.failures import NO, NOT_FOUND, USAGE, CommandError
from mizzen.kinds.manifests import Manifest
from mizzen.kinds.scalars import duration_s
from mizzen.kube.client import Client
from mizzen.kube.errors import NotFound
from mizzen.kube.resources import ResourceInfo, untyped
from mizzen.sdk import applying, tables, waiting
from mizzen.sdk.lookup import UnknownResourceError, lookup, lookup_object

app = typer.Typer()

Files = Annotated[
    list[Path],
    typer.Option("--filename", "-f", help="Manifest file or folder, or - for standard input; may be repeated."),
]
Code = Annotated[Path | None, typer.Option("--code", help="Project folder to bundle; default: the manifest's folder.")]
Selector = Annotated[str | None, typer.Option("--selector", "-l", help="Label selector.")]
Words = Annotated[list[str], typer.Argument(help="RESOURCE NAME… or RESOURCE/NAME…")]


def _manifests(files: list[Path]) -> list[Manifest]:
    standard_input = sys.stdin.read() if any(str(file) == "-" for file in files) else None
    try:
        return applying.read(files, standard_input)
    except applying.ApplyError as error:
        raise CommandError(str(error), USAGE) from error


@app.command()
def apply(
    files: Files,
    namespace: options.Namespace = None,
    code: Code = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask the server, change nothing.")] = False,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Make resources as a file says."""
    options.run(_apply, kubeconfig, _manifests(files), namespace, code, dry_run)


async def _apply(
    kubeconfig: Path | None, manifests: list[Manifest], namespace: str | None, code: Path | None, dry_run: bool
) -> None:
    async with options.connected(kubeconfig) as client:
        try:
            await applying.with_code(client, manifests, code)
            async with aclosing(applying.apply(client, manifests, namespace=namespace, dry_run=dry_run)) as results:
                async for done in results:
                    print(f"{done.info.named(done.name)} {done.change}{' (dry run)' if dry_run else ''}")
        except (applying.ApplyError, UnknownResourceError) as error:
            raise CommandError(str(error), USAGE) from error


@app.command()
def diff(
    files: Files, namespace: options.Namespace = None, code: Code = None, kubeconfig: options.Kubeconfig = None
) -> None:
    """What `apply` would change. The exit code is 1 where it would change something."""
    text = options.run(_diff, kubeconfig, _manifests(files), namespace, code)
    if text:
        print(text)
        raise typer.Exit(NO)


async def _diff(kubeconfig: Path | None, manifests: list[Manifest], namespace: str | None, code: Path | None) -> str:
    async with options.connected(kubeconfig) as client:
        try:
            await applying.with_code(client, manifests, code)
            return await applying.differences(client, manifests, namespace=namespace)
        except (applying.ApplyError, UnknownResourceError) as error:
            raise CommandError(str(error), USAGE) from error


@app.command()
def get(
    words: Annotated[list[str], typer.Argument(help="RESOURCE [NAME…], RESOURCE,RESOURCE, or RESOURCE/NAME")],
    namespace: options.Namespace = None,
    all_namespaces: options.AllNamespaces = False,
    form: options.Output = None,
    selector: Selector = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """List resources, or show one."""
    if form not in {None, "json", "yaml", "wide", "name"}:
        raise CommandError(f"--output: expected json, yaml, wide or name, got {form}", USAGE)
    options.run(_get, kubeconfig, words, namespace, all_namespaces, form, selector)


async def _get(
    kubeconfig: Path | None,
    words: list[str],
    namespace: str | None,
    everywhere: bool,
    form: str | None,
    selector: str | None,
) -> None:
    async with options.connected(kubeconfig) as client:
        try:
            if "/" in words[0] or len(words) > 1:
                wanted: list[tuple[ResourceInfo, str | None]] = [*await lookup_object(client, words)]
            else:
                wanted = [(await lookup(client, word), None) for word in words[0].split(",")]
        except UnknownResourceError as error:
            raise CommandError(str(error), USAGE) from error
        place = namespace or client.namespace
        if form in {"json", "yaml", "name"}:
            await _documents(client, wanted, place, everywhere, form, selector)
            return
        for index, (info, name) in enumerate(wanted):
            if index and name is None:
                print()
            shown = await tables.table_of(
                client, info, place, name=name, labels=selector, wide=form == "wide", all_namespaces=everywhere,
                with_kind=len(wanted) > 1,
            )  # fmt: skip
            if shown.rows:
                output.table(shown.headers, shown.rows)
            else:
                where = "" if everywhere or not info.namespaced else f" in namespace {place}"
                output.errors.print(f"no {info.plural}{where}")


async def _documents(
    client: Client,
    wanted: list[tuple[ResourceInfo, str | None]],
    namespace: str,
    everywhere: bool,
    form: str,
    selector: str | None,
) -> None:
    objects: list[dict[str, Any]] = []
    for info, name in wanted:
        if name is not None:
            objects.append({**await client.get(untyped(info), name, namespace)})
            continue
        listed = await client.list(untyped(info), None if everywhere else namespace, labels=selector)
        objects += [{"apiVersion": info.api_version, "kind": info.kind, **obj} for obj in listed]
    if form == "name":
        for obj in objects:
            group = obj["apiVersion"].rpartition("/")[0]
            print(f"{obj['kind'].lower()}{'.' if group else ''}{group}/{obj['metadata']['name']}")
        return
    for obj in objects:
        obj["metadata"].pop("managedFields", None)
    single = len(wanted) == 1 and wanted[0][1] is not None
    output.document(objects[0] if single else {"apiVersion": "v1", "kind": "List", "items": objects}, form)


@app.command()
def describe(words: Words, namespace: options.Namespace = None, kubeconfig: options.Kubeconfig = None) -> None:
    """One resource in words, with its conditions and events."""
    options.run(_describe, kubeconfig, words, namespace)


async def _describe(kubeconfig: Path | None, words: list[str], namespace: str | None) -> None:
    async with options.connected(kubeconfig) as client:
        place = namespace or client.namespace
        for info, name in await _named(client, words):
            obj = await client.get(untyped(info), name, place)
            about = f"{info.kind}/{name}"
            events = tables.events_of(client, place, about=about, all_namespaces=not info.namespaced)
            describing.describe(obj, [event async for event in events])


async def _named(client: Client, words: list[str]) -> list[tuple[ResourceInfo, str]]:
    try:
        return await lookup_object(client, words)
    except UnknownResourceError as error:
        raise CommandError(str(error), USAGE) from error


@app.command()
def delete(
    words: Annotated[list[str] | None, typer.Argument(help="RESOURCE NAME… or RESOURCE/NAME…")] = None,
    files: Annotated[
        list[Path] | None, typer.Option("--filename", "-f", help="Delete what these manifests name.")
    ] = None,
    namespace: options.Namespace = None,
    wait: Annotated[bool, typer.Option(help="Return when they are gone.")] = True,
    timeout: Annotated[str, typer.Option(help="How long to wait.")] = "60s",
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Delete resources, and what they own."""
    if not words and not files:
        raise CommandError("expected RESOURCE NAME, or --filename FILE", USAGE)
    manifests = _manifests(files) if files else []
    options.run(_delete, kubeconfig, words or [], manifests, namespace, wait, duration_s(timeout))


async def _delete(
    kubeconfig: Path | None,
    words: list[str],
    manifests: list[Manifest],
    namespace: str | None,
    wait: bool,
    timeout_s: float,
) -> None:
    async with options.connected(kubeconfig) as client:
        place = namespace or client.namespace
        named = [(info, name, place) for info, name in (await _named(client, words) if words else [])]
        for manifest in reversed(manifests):
            metadata = manifest.wire.get("metadata") or {}
            info = await lookup(client, manifest.wire["kind"])
            named.append((info, metadata["name"], metadata.get("namespace") or place))
        missing = False
        for info, name, where in named:
            try:
                await client.delete(untyped(info), name, where, propagation="Background")
            except NotFound as error:
                output.errors.print(f"error: {error}", markup=False)
                missing = True
                continue
            if wait:
                await waiting.wait_until_gone(client, info, name, namespace=where, timeout_s=timeout_s)
            print(f"{info.named(name)} deleted")
        if missing:
            raise typer.Exit(NOT_FOUND)


@app.command()
def wait(
    words: Words,
    condition: Annotated[
        str, typer.Option("--for", help="CONDITION, or condition=CONDITION[=STATE], or delete.")
    ] = "Ready",
    timeout: Annotated[str, typer.Option(help="Such as 30s or 5m.")] = "5m",
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """Wait for a condition. The exit code is 6 where it does not come in time."""
    options.run(_wait, kubeconfig, words, condition.removeprefix("condition="), duration_s(timeout), namespace)


async def _wait(
    kubeconfig: Path | None, words: list[str], condition: str, timeout_s: float, namespace: str | None
) -> None:
    async with options.connected(kubeconfig) as client:
        place = namespace or client.namespace
        for info, name in await _named(client, words):
            if condition == "delete":
                await waiting.wait_until_gone(client, info, name, namespace=place, timeout_s=timeout_s)
                print(f"{info.named(name)} is gone")
                continue
            type_, _, state = condition.partition("=")

            async def tell(seen: waiting.Seen, title: str = f"{info.kind.lower()}/{name}") -> None:
                if output.is_terminal() and seen.state:
                    output.errors.print(f"{title}: {seen.reason} {seen.message}", markup=False)

            await waiting.wait_for(
                client,
                info,
                name,
                namespace=place,
                condition=type_,
                state=state.capitalize() or "True",
                timeout_s=timeout_s,
                on_change=tell,
            )
            print(f"{info.named(name)} condition met")


@app.command()
def events(
    about: Annotated[str | None, typer.Option("--for", help="NAME, or KIND/NAME.")] = None,
    namespace: options.Namespace = None,
    all_namespaces: options.AllNamespaces = False,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """What happened lately, oldest first."""
    options.run(_events, kubeconfig, about, namespace, all_namespaces)


async def _events(kubeconfig: Path | None, about: str | None, namespace: str | None, everywhere: bool) -> None:
    async with options.connected(kubeconfig) as client:
        place = namespace or client.namespace
        found = [event async for event in tables.events_of(client, place, all_namespaces=everywhere, about=about)]
        if not found:
            output.errors.print("no events")
            return
        output.table(("when", "type", "object", "reason", "message"), [describing.event_row(event) for event in found])
