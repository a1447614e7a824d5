"""Discovery gives the same from the one aggregated answer and from many plain ones."""

import json
from typing import Any

import httpx2
import pytest

from mizzen.kube.discovery import Served, discover
from mizzen.kube.resources import ResourceInfo

from .fake_server import client_of, status

PODS = Served(
    ResourceInfo("", "v1", "Pod", "pods", namespaced=True),
    frozenset({"get", "list"}), "pod", ("po",), ("all",), frozenset({"log", "status"}),
)  # fmt: skip
WIDGETS = Served(ResourceInfo("x.io", "v2", "Widget", "widgets", namespaced=False), frozenset({"get"}))


def resource(served: Served) -> dict[str, Any]:
    info = served.info
    return {"name": info.plural, "singularName": served.singular, "namespaced": info.namespaced, "kind": info.kind,
            "verbs": sorted(served.verbs), "shortNames": list(served.short_names), "categories": list(served.categories)}  # fmt: skip


PLAIN: dict[str, Any] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": {"resources": [resource(PODS), {"name": "pods/log", "kind": "Pod", "verbs": ["get"]},
                              {"name": "pods/status", "kind": "Pod", "verbs": ["get"]}]},
    "/apis": {
        "kind": "APIGroupList",
        "groups": [
            {"name": "x.io", "versions": [{"version": "v1"}, {"version": "v2"}], "preferredVersion": {"version": "v2"}},
            {"name": "down.io", "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}},
        ],
    },
    "/apis/x.io/v1": {"resources": [resource(WIDGETS)]},
    "/apis/x.io/v2": {"resources": [resource(WIDGETS)]},
}  # fmt: skip


def aggregated(*groups: tuple[str, str, Served]) -> dict[str, Any]:
    return {
        "kind": "APIGroupDiscoveryList",
        "items": [
            {
                "metadata": {"name": group},
                "versions": [
                    {
                        "version": version,
                        "resources": [
                            {
                                "resource": one.info.plural, "singularResource": one.singular,
                                "responseKind": {"kind": one.info.kind}, "verbs": sorted(one.verbs),
                                "scope": "Namespaced" if one.info.namespaced else "Cluster",
                                "shortNames": list(one.short_names), "categories": list(one.categories),
                                "subresources": [{"subresource": name} for name in sorted(one.subresources)],
                            }
                        ],
                    }
                    for version in ([version] if group == "" else [version, "v1"])
                ],
            }
            for group, version, one in groups
        ],
    }  # fmt: skip


AGGREGATED = {"/api": aggregated(("", "v1", PODS)), "/apis": aggregated(("x.io", "v2", WIDGETS))}


@pytest.mark.parametrize("documents", [PLAIN, AGGREGATED], ids=["plain", "aggregated"])
async def test_both_ways_give_the_same(documents: dict[str, Any]) -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        document = documents.get(request.url.path)
        if document is None:
            return httpx2.Response(503, json=status(503, "ServiceUnavailable"))
        return httpx2.Response(200, content=json.dumps(document), headers={"content-type": "application/json"})

    assert await discover(client_of(handle)) == (PODS, WIDGETS)
