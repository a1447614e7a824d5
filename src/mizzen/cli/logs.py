"""`mizzen logs`: what the Pods of a resource print."""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer
from lightkube.resources.core_v1 import Pod

from mizzen.cli import options
from mizzen.cli.failures import NOT_FOUND, USAGE, CommandError
from mizzen.kinds.names import LABEL_ENDPOINT, LABEL_RUN
from mizzen.kube.client import Client
from mizzen.kube.resources import ResourceInfo, untyped
from mizzen.sdk.lookup import UnknownResourceError, lookup_object

app = typer.Typer()


@app.command()
def logs(
    words: Annotated[list[str], typer.Argument(help="RESOURCE NAME, RESOURCE/NAME, or the name of a Pod")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the Pod ends.")] = False,
    previous: Annotated[bool, typer.Option("--previous", "-p", help="Of the container before this one.")] = False,
    tail: Annotated[int | None, typer.Option(help="The last lines only.", min=0)] = None,
    namespace: options.Namespace = None,
    kubeconfig: options.Kubeconfig = None,
) -> None:
    """What the Pods of a resource print: of a dataset's load, a training or batch run, or an endpoint's workers."""
    options.run(_logs, kubeconfig, words, namespace, follow, previous, tail)


async def _logs(
    kubeconfig: Path | None,
    words: list[str],
    namespace: str | None,
    follow: bool,
    previous: bool,
    tail: int | None,
) -> None:
    async with options.connected(kubeconfig) as client:
        place = namespace or client.namespace
        names = await _pods(client, words, place)
        prefixed = len(names) > 1
        streams = [
            _copy(client, name, place, f"[{name}] " if prefixed else "", follow=follow, previous=previous, tail=tail)
            for name in names
        ]
        await asyncio.gather(*streams)


async def _pods(client: Client, words: list[str], namespace: str) -> list[str]:
    """The Pods that do the work of the named resource, the newest run's for jobs."""
    if len(words) == 1 and "/" not in words[0]:
        return words
    try:
        [(info, name)] = await lookup_object(client, words)
    except (UnknownResourceError, ValueError) as error:
        raise CommandError(f"expected one resource: {error}", USAGE) from error
    if info.kind == "Pod":
        return [name]
    selector = await _selector(client, info, name, namespace)
    pods = await client.list(Pod, namespace, labels=selector)
    names = [pod.metadata.name for pod in pods if pod.metadata is not None and pod.metadata.name]
    if not names:
        raise CommandError(f"{info.named(name)} has no Pods now (looked for {selector})", NOT_FOUND)
    return sorted(names)


async def _selector(client: Client, info: ResourceInfo, name: str, namespace: str) -> str:
    obj = await client.get(untyped(info), name, namespace)
    if info.kind == "InferenceEndpoint":
        return f"{LABEL_ENDPOINT}={name}"
    run = (obj.get("status") or {}).get("currentRun")
    if run:
        return f"{LABEL_RUN}={run}"
    wanted = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels")
    if wanted:
        return ",".join(f"{key}={value}" for key, value in wanted.items())
    raise CommandError(f"{info.named(name)} has no Pods of its own", NOT_FOUND)


async def _copy(
    client: Client, name: str, namespace: str, prefix: str, *, follow: bool, previous: bool, tail: int | None
) -> None:
    out = sys.stdout.buffer
    stream = client.logs(name, namespace, follow=follow, previous=previous, tail_lines=tail)
    begin = True
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            if not prefix:
                out.write(chunk)
            else:
                for line in chunk.splitlines(keepends=True):
                    out.write((prefix.encode() if begin else b"") + line)
                    begin = line.endswith(b"\n")
            out.flush()
