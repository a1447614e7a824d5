"""What is served, told to clients: one group or version at a time, or all at once (aggregated discovery).

Old clients ask `/api`, `/apis`, `/api/v1` and `/apis/GROUP/VERSION`; kubectl since 1.26 asks `/api` and `/apis` once
each with the media types in `AGGREGATED`. Documents are functions of the served types alone; callers keep them until
those change.
"""

import base64
import hashlib
import re
from collections.abc import Iterable

from mizzen.local.apiserver.schema.builtin import SUBRESOURCE_TYPES, SUBRESOURCE_VERBS
from mizzen.local.apiserver.types import Json, ResourceType

AGGREGATED: dict[str, str] = {
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList": "v2",
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList": "v2beta1",
}
"""Media types of aggregated discovery, best first, and the version each names."""

_VERSION = re.compile(r"^v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?$")
_STABILITY = {None: 2, "beta": 1, "alpha": 0}


def version_priority(version: str) -> tuple[int, int, int, int, str]:
    """Sorts versions as Kubernetes prefers them, best last: `v1` above `v1beta2` above `v1alpha1` above other names."""
    match = _VERSION.match(version)
    if match is None:
        return 0, 0, 0, 0, "".join(chr(0x10FFFF - ord(letter)) for letter in version) + chr(0x10FFFF)
    return 1, _STABILITY[match[2]], int(match[1]), int(match[3] or 0), ""


def storage_version_hash(rtype: ResourceType) -> str:
    """As Kubernetes computes it, from what the object is stored as. Both event APIs store core events."""
    group = "" if rtype.plural == "events" and rtype.group == "events.k8s.io" else rtype.group
    digest = hashlib.sha256(f"{group}/{rtype.version}/{rtype.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def api_versions(server_address: str) -> Json:
    """`/api`: the versions of the core group. `server_address` is `host:port`."""
    clients = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": clients}


def _versions(types: Iterable[ResourceType]) -> dict[str, list[str]]:
    """Versions by group, best first; groups in the order in which they were first seen, without the core group."""
    groups: dict[str, set[str]] = {}
    for rtype in types:
        if rtype.group:
            groups.setdefault(rtype.group, set()).add(rtype.version)
    return {group: sorted(versions, key=version_priority, reverse=True) for group, versions in groups.items()}


def _group_entry(group: str, versions: list[str]) -> Json:
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def api_group_list(types: Iterable[ResourceType]) -> Json:
    """`/apis`."""
    groups = [_group_entry(group, versions) for group, versions in _versions(types).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(types: Iterable[ResourceType], group: str) -> Json | None:
    """`/apis/GROUP`, or `None` where nothing of the group is served."""
    versions = _versions(types).get(group)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group_entry(group, versions)} if versions else None


def _subresource(rtype: ResourceType, name: str) -> tuple[str, str, str, tuple[str, ...]]:
    """Group, version and kind of what the subresource gives (empty where the resource's own), and its verbs."""
    other = SUBRESOURCE_TYPES.get(name)
    verbs = SUBRESOURCE_VERBS[name]
    if other is None or (other.group, other.version) == (rtype.group, rtype.version):
        return "", "", other.kind if other else rtype.kind, verbs
    return other.group, other.version, other.kind, verbs


def api_resource_list(types: Iterable[ResourceType], group: str, version: str) -> Json | None:
    """`/api/v1` or `/apis/GROUP/VERSION`, or `None` where nothing of it is served."""
    resources: list[Json] = []
    for rtype in sorted((t for t in types if (t.group, t.version) == (group, version)), key=lambda t: t.plural):
        entry: Json = {
            "name": rtype.plural,
            "singularName": rtype.singular,
            "namespaced": rtype.namespaced,
            "kind": rtype.kind,
            "verbs": list(rtype.verbs),
        }
        if rtype.short_names:
            entry["shortNames"] = list(rtype.short_names)
        if rtype.categories:
            entry["categories"] = list(rtype.categories)
        if rtype.stored:
            entry["storageVersionHash"] = storage_version_hash(rtype)
        resources.append(entry)
        for name in sorted(rtype.subresources):
            sub_group, sub_version, kind, verbs = _subresource(rtype, name)
            where = {"group": sub_group, "version": sub_version} if sub_group else {}
            resources.append({
                "name": f"{rtype.plural}/{name}", "singularName": "", "namespaced": rtype.namespaced, **where,
                "kind": kind, "verbs": list(verbs),
            })  # fmt: skip
    if not resources:
        return None
    api_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources}


def aggregated(types: Iterable[ResourceType], *, core: bool, version: str = "v2") -> Json:
    """`/api` (`core`) or `/apis` as one document with every resource, in version `v2` or `v2beta1` of discovery."""
    listed = list(types)
    groups = {"": ["v1"]} if core else _versions(listed)
    items = []
    for group, versions in groups.items():
        found = [
            {"version": name, "resources": _aggregated_resources(listed, group, name), "freshness": "Current"}
            for name in versions
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": found})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_resources(types: list[ResourceType], group: str, version: str) -> list[Json]:
    resources = []
    for rtype in sorted((t for t in types if (t.group, t.version) == (group, version)), key=lambda t: t.plural):
        entry: Json = {
            "resource": rtype.plural,
            "responseKind": {"group": "", "version": "", "kind": rtype.kind},
            "scope": "Namespaced" if rtype.namespaced else "Cluster",
            "singularResource": rtype.singular,
            "verbs": list(rtype.verbs),
        }
        if rtype.short_names:
            entry["shortNames"] = list(rtype.short_names)
        if rtype.categories:
            entry["categories"] = list(rtype.categories)
        if rtype.subresources:
            entry["subresources"] = []
            for name in sorted(rtype.subresources):
                sub_group, sub_version, kind, verbs = _subresource(rtype, name)
                entry["subresources"].append({
                    "subresource": name,
                    "responseKind": {"group": sub_group, "version": sub_version, "kind": kind},
                    "verbs": list(verbs),
                })  # fmt: skip
        resources.append(entry)
    return resources
