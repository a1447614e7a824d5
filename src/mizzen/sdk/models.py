"""Models by hand: made where there is none, and their aliases pinned or let go."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from mizzen.kinds import Model
from mizzen.kube.client import Client
from mizzen.kube.errors import AlreadyExists


async def make_model(client: Client, name: str, namespace: str) -> None:
    """Makes a Model without gates, unless there is one of that name."""
    wire = {"kind": "Model", "metadata": {"name": name, "namespace": namespace}}
    with suppress(AlreadyExists):
        await client.create(Model.model_validate(wire))


async def trust(client: Client, name: str, namespace: str, types: Sequence[str]) -> None:
    """Approves types that a version of the model may hold, beside those that are approved."""
    found: Model = await client.get(Model, name, namespace)
    wanted = [*found.spec.trusted_types, *(one for one in types if one not in found.spec.trusted_types)]
    if wanted != found.spec.trusted_types:
        await client.patch(Model, name, {"spec": {"trustedTypes": wanted}}, namespace=namespace)


async def pin(client: Client, name: str, namespace: str, aliases: Mapping[str, int | None]) -> None:
    """Pins aliases to versions; `None` lets one move by itself again. Raises `NotFound`."""
    await client.patch(Model, name, {"spec": {"aliases": dict(aliases)}}, namespace=namespace)
