"""Objects as the server would have them shown: the `Table` form of a list, as kubectl asks for it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

from mizzen.kube.client import Client
from mizzen.kube.resources import ResourceInfo

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass(frozen=True, slots=True)
class Shown:
    """Headers and rows; the first cells of each row are its namespace and name where `wide` tables have them."""

    headers: list[str]
    rows: list[list[Any]]


async def table_of(
    client: Client,
    info: ResourceInfo,
    namespace: str | None,
    *,
    name: str | None = None,
    labels: str | None = None,
    wide: bool = False,
    all_namespaces: bool = False,
    with_kind: bool = False,
) -> Shown:
    """The table of one resource. Raises `NotFound` for a name that is not there."""
    path = info.path(None if all_namespaces else namespace, name)
    params = {"labelSelector": labels} if labels else {}
    document = await client.request("GET", path, params={**params, "includeObject": "Metadata"}, accept=TABLE)
    found = shown(document, wide=wide, with_namespace=all_namespaces and info.namespaced)
    if with_kind and "Name" in found.headers:
        index = found.headers.index("Name")
        for row in found.rows:
            row[index] = info.named(row[index])
    return found


def shown(document: dict[str, Any], *, wide: bool, with_namespace: bool) -> Shown:
    """The columns that are to be seen: those of priority 0, or all of them."""
    columns = document.get("columnDefinitions") or []
    picked = [index for index, column in enumerate(columns) if wide or not column.get("priority")]
    headers = [columns[index]["name"] for index in picked]
    rows = [[row["cells"][index] for index in picked] for row in document.get("rows") or ()]
    if with_namespace:
        headers.insert(0, "Namespace")
        for row, source in zip(rows, document.get("rows") or (), strict=True):
            row.insert(0, source["object"]["metadata"].get("namespace", ""))
    return Shown(headers, [[_words(cell) for cell in row] for row in rows])


def _words(cell: Any) -> Any:
    if cell is None:
        return ""
    return ",".join(map(str, cell)) if isinstance(cell, list) else cell


async def events_of(
    client: Client, namespace: str | None, *, all_namespaces: bool = False, about: str | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Core events in order of time; `about` is a name, or `kind/name`, they must be of."""
    path = "/api/v1/events" if all_namespaces else f"/api/v1/namespaces/{namespace}/events"
    document = await client.request("GET", path)
    kind, _, name = (about or "").rpartition("/")
    for event in sorted(document.get("items", ()), key=when):
        involved = event.get("involvedObject") or {}
        if about and (involved.get("name") != name or (kind and involved.get("kind", "").lower() != kind.lower())):
            continue
        yield event


def when(event: dict[str, Any]) -> str:
    """When the event was last seen, RFC 3339."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"]["creationTimestamp"]
    )


def how_often(event: dict[str, Any]) -> int:
    """How many times the event was seen."""
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)


def encoded(value: object) -> str:
    """The value in one line, for cells that hold structures."""
    return msgspec.json.encode(value).decode()
