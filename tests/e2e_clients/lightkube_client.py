"""lightkube: a kind of one's own, typed built-in kinds, apply, watch, wait, events."""

import asyncio
import json
import os
import secrets
from typing import Any

from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.apiextensions_v1 import (
    CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion,
    CustomResourceSubresources,
    CustomResourceValidation,
    JSONSchemaProps,
)
from lightkube.models.core_v1 import ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.core_v1 import ConfigMap, Event
from lightkube.types import PatchType

NAMESPACE = os.environ["NAMESPACE"]
GROUP = f"lightkube-{secrets.token_hex(4)}.example.com"
Ticket = create_namespaced_resource(GROUP, "v1", "Ticket", "tickets")


def definition() -> CustomResourceDefinition:
    anything = JSONSchemaProps(type="object", x_kubernetes_preserve_unknown_fields=True)
    version = CustomResourceDefinitionVersion(
        name="v1",
        served=True,
        storage=True,
        schema=CustomResourceValidation(openAPIV3Schema=anything),
        subresources=CustomResourceSubresources(status={}),
    )
    names = CustomResourceDefinitionNames(plural="tickets", singular="ticket", kind="Ticket")
    spec = CustomResourceDefinitionSpec(group=GROUP, scope="Namespaced", names=names, versions=[version])
    return CustomResourceDefinition(metadata=ObjectMeta(name=f"tickets.{GROUP}"), spec=spec)


async def tickets(client: AsyncClient) -> dict[str, Any]:
    """A watcher in one task sees what another does to Tickets."""
    seen: list[tuple[str, Any]] = []

    made = await client.create(Ticket(metadata=ObjectMeta(name="one", namespace=NAMESPACE), spec={"title": "t"}))

    async def watch() -> None:
        version = made.metadata.resourceVersion
        async for operation, ticket in client.watch(Ticket, namespace=NAMESPACE, resource_version=version):
            seen.append((operation, (ticket.status or {}).get("phase")))
            if operation == "DELETED":
                return

    watching = asyncio.create_task(watch())
    await client.patch(Ticket, "one", {"spec": {"priority": 5}}, namespace=NAMESPACE, patch_type=PatchType.MERGE)
    await client.patch(
        Ticket.Status, "one", {"status": {"phase": "Open"}}, namespace=NAMESPACE, patch_type=PatchType.MERGE
    )
    got = await client.get(Ticket, "one", namespace=NAMESPACE)
    await client.delete(Ticket, "one", namespace=NAMESPACE)
    await asyncio.wait_for(watching, 20)
    return {"last": list(seen[-1]), "spec": got.spec, "status": got.status}


async def built_in(client: AsyncClient) -> dict[str, Any]:
    """Apply, conflict and force, lists in pages, an event."""
    wanted = ConfigMap(metadata=ObjectMeta(name="one", namespace=NAMESPACE), data={"a": "1"})
    await client.apply(wanted, field_manager="first")
    wanted.data = {"a": "2"}
    try:
        await client.apply(wanted, field_manager="second")
        conflict = 200
    except ApiError as error:
        conflict = error.status.code or 0
    got = await client.apply(wanted, field_manager="second", force=True)
    for number in range(4):
        await client.create(
            ConfigMap(metadata=ObjectMeta(name=f"m{number}", namespace=NAMESPACE, labels={"mine": "1"}))
        )
    listed = [
        one.metadata.name
        async for one in client.list(ConfigMap, namespace=NAMESPACE, labels={"mine": "1"}, chunk_size=2)
    ]
    involved = ObjectReference(kind="ConfigMap", name="one", namespace=NAMESPACE)
    meta = ObjectMeta(generateName="told-", namespace=NAMESPACE)
    told = await client.create(Event(metadata=meta, involvedObject=involved, reason="Told", message="m", type="Normal"))
    return {"conflict": conflict, "data": got.data, "listed": listed, "told": told.reason}


async def main() -> None:
    client = AsyncClient()
    made = await client.create(definition())
    name = made.metadata.name
    try:
        await asyncio.wait_for(client.wait(CustomResourceDefinition, name, for_conditions=["Established"]), 20)
        print(json.dumps({"tickets": await tickets(client), "built_in": await built_in(client)}))
    finally:
        await client.delete(CustomResourceDefinition, name)
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())
