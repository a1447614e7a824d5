"""OpenAPI v3 and v2: the documents that explain, validate and generate clients."""

import re
from typing import Any

import pytest

from .client import Api, Json, eventually
from .objects import fields, schema


def index(api: Api) -> dict[str, str]:
    return {path: one["serverRelativeURL"] for path, one in api.get("/openapi/v3")["paths"].items()}


def document(api: Api, group_version: str) -> Json:
    url = index(api)[f"apis/{group_version}" if "/" in group_version else f"api/{group_version}"]
    return api.call("GET", url)


def components(got: Json) -> dict[str, Json]:
    found: dict[str, Json] = got["components"]["schemas"]
    return found


def test_the_index(api: Api) -> None:
    """Each group version has a document under a URL that holds the hash of its content."""
    paths = index(api)
    assert {"api/v1", "apis/apps/v1", "apis/batch/v1", "apis/rbac.authorization.k8s.io/v1"} <= paths.keys()
    assert all(re.match(rf"^/openapi/v3/{re.escape(path)}\?hash=[0-9A-F]+$", url) for path, url in paths.items())


def test_a_document_with_the_right_hash_never_changes(api: Api) -> None:
    """With the hash, the answer may be kept for ever; with another hash, the client is sent to the right one."""
    url = index(api)["apis/apps/v1"]
    response = api.request("GET", url)
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["content-type"].startswith("application/json")
    assert "etag" in response.headers
    wrong = api.request("GET", "/openapi/v3/apis/apps/v1?hash=00")
    assert (wrong.status_code, wrong.headers["location"]) == (301, url)


def test_entity_tags(api: Api) -> None:
    """Who has the document gets 304."""
    first = api.request("GET", "/openapi/v3/apis/apps/v1")
    again = api.request("GET", "/openapi/v3/apis/apps/v1", headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


def test_the_shape_of_a_document(api: Api) -> None:
    """openapi, info, paths, components."""
    got = document(api, "apps/v1")
    assert got["openapi"].startswith("3.0")
    assert got["info"]["title"]
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" in got["paths"]
    assert "io.k8s.api.apps.v1.Deployment" in components(got)


def test_kinds_are_marked(api: Api) -> None:
    """x-kubernetes-group-version-kind ties schemas and operations to kinds."""
    got = document(api, "apps/v1")
    kind = {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert kind in components(got)["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"]
    operations = got["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    assert operations["get"]["x-kubernetes-group-version-kind"] == kind
    assert operations["get"]["x-kubernetes-action"] == "get"
    assert {"get", "put", "patch", "delete"} <= operations.keys()


def refs(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(refs(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(refs(value) for value in node))
    return set()


@pytest.mark.parametrize("group_version", ["v1", "apps/v1", "batch/v1", "apiextensions.k8s.io/v1"])
def test_references_lead_somewhere(api: Api, group_version: str) -> None:
    """Every $ref names a schema of the same document."""
    got = document(api, group_version)
    known = {f"#/components/schemas/{name}" for name in components(got)}
    assert refs(got) - known == set()


def test_schemas_explain(api: Api) -> None:
    """Descriptions and types of fields, list keys and patch strategies are there."""
    found = components(document(api, "v1"))
    pod_spec = found["io.k8s.api.core.v1.PodSpec"]
    containers = pod_spec["properties"]["containers"]
    assert containers["type"] == "array"
    assert containers["description"]
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert "containers" in pod_spec["required"]


def test_a_custom_kind_has_its_document(api: Api, define) -> None:
    """A CRD's schema is published with its descriptions, metadata and kind."""
    spec = fields(
        ["size"],
        size={"type": "integer", "minimum": 1, "description": "How big."},
        tags={"type": "array", "items": {"type": "string"}},
    )
    group = define(schema(spec, description="A thing of the test."))
    eventually(lambda: f"apis/{group}/v1" in index(api), "the document of a new kind")
    got = document(api, f"{group}/v1")
    reverse = ".".join(reversed(group.split(".")))
    widget = components(got)[f"{reverse}.v1.Widget"]
    assert widget["description"] == "A thing of the test."
    assert widget["x-kubernetes-group-version-kind"] == [{"group": group, "version": "v1", "kind": "Widget"}]
    size = widget["properties"]["spec"]["properties"]["size"]
    assert (size["type"], size["description"], size["minimum"]) == ("integer", "How big.", 1)
    assert widget["properties"]["spec"]["required"] == ["size"]
    assert "metadata" in widget["properties"]
    assert f"/apis/{group}/v1/namespaces/{{namespace}}/widgets/{{name}}" in got["paths"]


def test_a_changed_kind_has_another_hash(api: Api, define) -> None:
    """The hash follows the content."""
    group = define(schema(fields(a={"type": "string"})))
    eventually(lambda: f"apis/{group}/v1" in index(api), "the document of a new kind")
    before = index(api)[f"apis/{group}/v1"]
    definitions = api.resource("apiextensions.k8s.io/v1/customresourcedefinitions")
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/b"
    changed = definitions.patch(f"widgets.{group}", [{"op": "add", "path": path, "value": {"type": "string"}}], "json")
    assert changed["metadata"]["generation"] == 2
    eventually(lambda: index(api)[f"apis/{group}/v1"] != before, "another hash after the change")
    properties = components(document(api, f"{group}/v1"))
    assert any("b" in str(one) for name, one in properties.items() if name.endswith(".v1.Widget"))


def test_version_two(api: Api) -> None:
    """/openapi/v2 is one Swagger document of everything."""
    got = api.get("/openapi/v2")
    assert got["swagger"] == "2.0"
    deployment = got["definitions"]["io.k8s.api.apps.v1.Deployment"]
    assert {"group": "apps", "version": "v1", "kind": "Deployment"} in deployment["x-kubernetes-group-version-kind"]
    assert "/api/v1/namespaces/{namespace}/pods" in got["paths"]


def test_version_two_has_a_tag(api: Api) -> None:
    """The large document is sent once: ETag and 304 (once no other test's kind comes or goes)."""

    def has_tag() -> bool:
        tag = api.request("GET", "/openapi/v2").headers["etag"]
        return api.request("GET", "/openapi/v2", headers={"If-None-Match": tag}).status_code == 304

    eventually(has_tag, "the document is not sent again")
