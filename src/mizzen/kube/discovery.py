"""What a server serves: its kinds, with their verbs and short names.

One request where the server offers aggregated discovery (Kubernetes since 1.26), one for each group and version
otherwise. Of each kind the version that the server prefers is given.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mizzen.kube.client import Client
from mizzen.kube.errors import ApiError, NotFound, ServerError
from mizzen.kube.resources import Json, ResourceInfo

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


@dataclass(frozen=True, slots=True)
class Served:
    """A kind and what may be done with it."""

    info: ResourceInfo
    verbs: frozenset[str]
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()


async def discover(client: Client) -> tuple[Served, ...]:
    """All kinds that the server serves, each once. Groups that do not answer (an extension is down) are left out."""
    documents = await asyncio.gather(*(client.request("GET", root, accept=_AGGREGATED) for root in ("/api", "/apis")))
    found: dict[tuple[str, str], Served] = {}
    for document in documents:
        kinds = (
            _of_aggregated(document)
            if document.get("kind") == "APIGroupDiscoveryList"
            else await _one_by_one(client, document)
        )
        for served in kinds:
            # Versions come in the order in which the server prefers them.
            found.setdefault((served.info.group, served.info.plural), served)
    return tuple(found.values())


def _of_aggregated(document: Mapping[str, Any]) -> Iterable[Served]:
    for group in document.get("items") or ():
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or ():
            for resource in version.get("resources") or ():
                kind = resource.get("responseKind") or {}
                yield Served(
                    ResourceInfo(
                        name,
                        version["version"],
                        kind.get("kind") or "",
                        resource["resource"],
                        resource.get("scope") == "Namespaced",
                    ),
                    frozenset(resource.get("verbs") or ()),
                    resource.get("singularResource") or "",
                    tuple(resource.get("shortNames") or ()),
                    tuple(resource.get("categories") or ()),
                    frozenset(sub["subresource"] for sub in resource.get("subresources") or ()),
                )


async def _one_by_one(client: Client, document: Json) -> list[Served]:
    if document.get("kind") == "APIVersions":
        names = [("", version) for version in document.get("versions") or ()]
    else:
        names = [
            (group["name"], version["version"])
            for group in document.get("groups") or ()
            for version in _preferred_first(group)
        ]
    lists = await asyncio.gather(*(_resources(client, group, version) for group, version in names))
    return [served for kinds in lists for served in kinds]


def _preferred_first(group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    preferred = (group.get("preferredVersion") or {}).get("version")
    return sorted(group.get("versions") or (), key=lambda version: version["version"] != preferred)


async def _resources(client: Client, group: str, version: str) -> list[Served]:
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        resources = (await client.request("GET", path)).get("resources") or ()
    except (NotFound, ServerError):
        return []
    except ApiError as error:
        # A server that refuses one group of many has said something about that group only.
        if error.code == 403:
            return []
        raise
    subresources: dict[str, set[str]] = {}
    for resource in resources:
        name, _, sub = resource["name"].partition("/")
        if sub:
            subresources.setdefault(name, set()).add(sub)
    return [
        Served(
            ResourceInfo(group, version, resource["kind"], resource["name"], bool(resource.get("namespaced"))),
            frozenset(resource.get("verbs") or ()),
            resource.get("singularName") or "",
            tuple(resource.get("shortNames") or ()),
            tuple(resource.get("categories") or ()),
            frozenset(subresources.get(resource["name"], ())),
        )
        for resource in resources
        if "/" not in resource["name"]
    ]
