"""`mizzen demo`: real flights become a dataset, a gated model, an endpoint, and a month of answered requests.

It does what a user would: brings Mizzen up, applies `examples/flights/resources.yaml`, waits, makes an API key, and
replays November over HTTP. What it prints is read back from the resources and measured by the replay.
"""

import asyncio
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mizzen.cli import lifecycle, options, output
from mizzen.cli.failures import CommandError
from mizzen.kinds import Dataset, FeatureView, InferenceEndpoint, Model, ModelVersion, Resource, TrainingJob
from mizzen.kube.client import Client
from mizzen.kube.errors import AlreadyExists, NotFound
from mizzen.kube.resources import info_of
from mizzen.local.supervisor.home import Home, HomeError
from mizzen.local.supervisor.processes import StartError, recorded
from mizzen.local.supervisor.supervisor import Addresses, Settings, addresses_of
from mizzen.local.supervisor.supervisor import down as end_all
from mizzen.sdk import applying, keys, waiting
from mizzen.sdk.waiting import Seen

app = typer.Typer()

PLACES = (Path(__file__).parents[1] / "examples" / "flights", Path(__file__).parents[3] / "examples" / "flights")
"""Where the example is: inside an installed package, or in a checkout."""
NAME = "late-arrival"
DATASET = "flights"
ONE_BY_ONE: tuple[type[Resource], ...] = (InferenceEndpoint, TrainingJob, Model, FeatureView, Dataset)
"""The order in which nothing is deleted that another still reads."""
KEY = "demo-replay"
STEP_TIMEOUT_S = 600.0
FAILED_LOAD = frozenset({"Starting", "Loading", "PodStarting", "Waiting", "Unschedulable"})


@dataclass(frozen=True, slots=True)
class Replay:
    """What the replay measured and what the resources say: the table at the end."""

    rows: list[tuple[str, object]]
    failed: int


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it up, and say what to try next.")] = False,
    home: options.Home = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="On that control plane instead of the embedded one.")] = None,
) -> None:
    """Real flights: dataset, model, endpoint, and a month of traffic."""
    example = next((place for place in PLACES if place.is_dir()), None)
    if example is None:
        raise CommandError(f"expected the flights example at {' or '.join(map(str, PLACES))}")
    place = Home.from_environment(home)
    began = time.monotonic()
    already = recorded(place, "supervisor") is not None
    addresses = addresses_of(place) if already else None
    try:
        if addresses is None:
            _tell(began, f"starting in {place.root}")
            kubeconfig = kubeconfig.absolute() if kubeconfig is not None else None
            addresses = lifecycle.start_detached(_settings(place, kubeconfig))
        replay = asyncio.run(_flights(addresses, example, began))
    except (HomeError, StartError) as error:
        raise CommandError(str(error)) from error
    finally:
        if not keep and not already:
            _tell(began, "ending everything")
            end_all(place)
    print()
    output.table(("flights", "late by more than 15 minutes?"), replay.rows)
    if keep:
        _next_steps(addresses, place)
    if replay.failed:
        raise CommandError(f"{replay.failed} requests failed")


def _settings(home: Home, kubeconfig: Path | None) -> Settings:
    """The usual ports, or free ones where another program has them: a demo should not fail for that."""
    return Settings(
        home, control_port=_free_port(7070), inference_port=_free_port(7080), kubeconfig=kubeconfig
    )  # fmt: skip


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CommandError("expected a free port on 127.0.0.1, found none")


def _tell(began: float, message: str) -> None:
    output.errors.print(f"{time.monotonic() - began:6.1f} s  {message}", markup=False)


async def _flights(addresses: Addresses, example: Path, began: float) -> Replay:
    async with Client.from_kubeconfig(addresses.kubeconfig) as client:
        manifests = applying.read([example / "resources.yaml"])
        named = {
            cls: [m.wire["metadata"]["name"] for m in manifests if m.wire["kind"] == cls.__name__] for cls in ONE_BY_ONE
        }
        await _forget_the_last_time(client, named)
        await applying.with_code(client, manifests, example)
        async with aclosing(applying.apply(client, manifests)) as results:
            async for done in results:
                _tell(began, f"{done.info.kind.lower()}/{done.name} {done.change}")
        for name in named[Dataset]:
            await _until(client, Dataset, name, began, gives_up=lambda seen: seen.reason not in FAILED_LOAD)
        await _until(client, TrainingJob, NAME, began, gives_up=lambda seen: seen.state == "False")
        for name in named[FeatureView]:
            await _until(client, FeatureView, name, began, gives_up=lambda seen: seen.reason not in FAILED_LOAD)
        await _until(client, Model, NAME, began, gives_up=lambda seen: seen.reason == "GatesFailed")
        await _until(client, InferenceEndpoint, NAME, began, gives_up=lambda seen: seen.reason == "VersionFailed")
        key = await _key(client)
        endpoint = await client.get(InferenceEndpoint, NAME)
        _tell(began, f"replaying November against {endpoint.status.url}")
        measured = await _replayed(example, endpoint.status.url or "", key)
        return await _table(client, measured, time.monotonic() - began)


async def _forget_the_last_time(client: Client, named: Mapping[type[Resource], Sequence[str]]) -> None:
    """A demo in a home that has seen one begins anew, so that what it shows happens now."""
    for cls, name in ((kind, name) for kind in ONE_BY_ONE for name in named[kind]):
        try:
            await client.delete(cls, name, propagation="Foreground")
        except NotFound:
            continue
        await waiting.wait_until_gone(client, info_of(cls), name, namespace=client.namespace)
    for version in await client.list(ModelVersion, client.namespace):
        if version.spec.model == NAME:
            await client.delete(ModelVersion, version.name)


async def _until(client: Client, cls: type[Any], name: str, began: float, *, gives_up: Any) -> None:
    async def tell(seen: Seen) -> None:
        if seen.reason:
            _tell(began, f"{cls.__name__.lower()}/{name} {seen.reason}: {seen.message}")

    await waiting.wait_for(
        client,
        info_of(cls),
        name,
        namespace=client.namespace,
        timeout_s=STEP_TIMEOUT_S,
        on_change=tell,
        give_up=lambda seen: bool(seen.state) and gives_up(seen),
    )


async def _key(client: Client) -> str:
    with suppress(NotFound):
        await keys.revoke(client, KEY, client.namespace)
    try:
        return await keys.create(client, KEY, client.namespace, (NAME,))
    except AlreadyExists as error:
        raise CommandError(f"Secret {KEY} came back while it was being replaced: {error}") from error


async def _replayed(example: Path, url: str, key: str) -> dict[str, Any]:
    """Runs the example's replay as a user would, in a process of its own; what it measured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(example / "replay.py"), "--url", url, "--json",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "MIZZEN_API_KEY": key},
    )  # fmt: skip
    answer, _ = await process.communicate()
    if process.returncode != 0:
        raise CommandError(f"the replay ended with {process.returncode}")
    measured: dict[str, Any] = json.loads(answer)
    return measured


async def _table(client: Client, measured: dict[str, Any], seconds: float) -> Replay:
    dataset = await client.get(Dataset, DATASET)
    endpoint = await client.get(InferenceEndpoint, NAME)
    version = await client.get(ModelVersion, endpoint.status.traffic[0].model_version)
    training = await client.get(TrainingJob, NAME)
    metrics = version.spec.metrics
    conversion = version.spec.conversion
    rows: list[tuple[str, object]] = [
        ("dataset", f"{dataset.name} version {dataset.status.version}, {dataset.status.rows:,} rows"),
        ("dataset digest", dataset.status.digest),
        ("model version", f"{version.name}, {version.spec.artifact.bytes:,} bytes of ONNX"),
        ("model digest", version.spec.artifact.digest),
        ("code digest", version.spec.lineage.code),
        ("gates", "; ".join(result.message for result in version.status.gates)),
        ("ONNX against the original", f"{conversion.max_abs_difference:.2g} at most" if conversion else "came as ONNX"),
        ("training set", _training_set(training)),
        ("AUC, October (held out)", f"{metrics['roc_auc']:.4f}"),
        ("AUC, November (replayed)", f"{measured['roc_auc']:.4f}"),
        ("requests", f"{measured['requests']:,} at {measured['requests_per_s']:,.0f}/s"),
        (
            "pushed between requests",
            f"{measured['pushed']:,} events into {_views(training)} feature views",
        ),
        ("errors", measured["errors"]),
        ("latency p50 / p99", f"{measured['latency_ms_p50']:.2f} ms / {measured['latency_ms_p99']:.2f} ms"),
        ("time in all", f"{seconds:.1f} s"),
    ]
    return Replay(rows, int(measured["errors"]))


def _views(training: TrainingJob) -> int:
    return 0 if training.spec.features is None else len(training.spec.features.views)


def _training_set(training: TrainingJob) -> str:
    made = training.status.training_set
    return "none" if made is None else f"{made.rows or 0:,} rows as of their time, {made.id[:15]}"


def _next_steps(addresses: Addresses, home: Home) -> None:
    kubectl = "" if shutil.which("kubectl") else "   # where kubectl is installed"
    print(f"""
It is still up. Try:
  mizzen status
  mizzen describe ie {NAME}
  mizzen logs tj/{NAME}
  export MIZZEN_API_KEY=$(mizzen token create me)
  curl -s -H "Authorization: Bearer $MIZZEN_API_KEY" {addresses.gateway_url}/v2/models/{NAME}
  export KUBECONFIG={addresses.kubeconfig}{kubectl}
  kubectl get dset,tj,mv,ie
  kubectl explain ie.spec.scaling
  kubectl scale ie/{NAME} --replicas=2
  mizzen down --home {home.root}
""")
