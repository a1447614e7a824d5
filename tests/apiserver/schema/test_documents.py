"""Discovery and OpenAPI: what clients read to learn what is served. Real kubectl reads them, too."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mizzen.kinds.crd import crds
from mizzen.local.apiserver.schema import discovery, models, openapi
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.schema.crd import resource_types
from mizzen.local.apiserver.schema.structural import default
from mizzen.local.apiserver.types import Json, ResourceType

CRD = next(rtype for rtype in BUILTIN_TYPES if rtype.kind == "CustomResourceDefinition")
OURS = [rtype for definition in crds() for rtype in resource_types(default(CRD.schema, definition))]
TYPES: list[ResourceType] = [*BUILTIN_TYPES, *OURS]
KUBECTL = shutil.which("kubectl")


def test_versions_are_preferred_in_kubernetes_order() -> None:
    """The example of Kubernetes' documentation of CustomResourceDefinition versions."""
    expected = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
    assert sorted(sorted(expected), key=discovery.version_priority, reverse=True) == expected


def test_storage_hashes_are_those_of_kubernetes() -> None:
    known = {"configmaps": "qFsyl6wFWjQ=", "pods": "xPOwRZ+Yhw8=", "secrets": "S6u1pOWzb84=", "events": "r2yiGXH7wu8="}
    listed = {rtype.plural: discovery.storage_version_hash(rtype) for rtype in BUILTIN_TYPES}
    assert {plural: listed[plural] for plural in known} == known


def test_the_core_group_is_listed_with_its_subresources() -> None:
    document = discovery.api_resource_list(TYPES, "", "v1")
    assert document is not None
    by_name = {resource["name"]: resource for resource in document["resources"]}
    assert by_name["pods"]["shortNames"] == ["po"]
    assert by_name["pods/eviction"] == {
        "name": "pods/eviction", "singularName": "", "namespaced": True, "group": "policy", "version": "v1",
        "kind": "Eviction", "verbs": ["create"],
    }  # fmt: skip
    assert "group" not in by_name["pods/binding"]
    assert by_name["namespaces"]["verbs"] == ["create", "delete", "get", "list", "patch", "update", "watch"]
    assert "storageVersionHash" not in by_name["bindings"]


def test_what_is_not_served_has_no_document() -> None:
    assert discovery.api_group(TYPES, "nope") is None
    assert discovery.api_resource_list(TYPES, "apps", "v2") is None
    assert openapi.v3_document(TYPES, "apis/apps/v2", "1.36") is None


@pytest.mark.parametrize("version", sorted(set(discovery.AGGREGATED.values())))
def test_both_forms_of_discovery_tell_the_same(version: str) -> None:
    told = set()
    for core in (True, False):
        for group in discovery.aggregated(TYPES, core=core, version=version)["items"]:
            for served in group["versions"]:
                for resource in served["resources"]:
                    key = (group["metadata"].get("name", ""), served["version"], resource["resource"])
                    told.add((*key, *resource["verbs"]))
                    for sub in resource.get("subresources", ()):
                        told.add((*key[:2], f"{key[2]}/{sub['subresource']}", *sub["verbs"]))
    expected = set()
    for group, served in {(rtype.group, rtype.version) for rtype in TYPES}:
        document = discovery.api_resource_list(TYPES, group, served)
        assert document is not None
        expected |= {(group, served, item["name"], *item["verbs"]) for item in document["resources"]}
    assert told == expected


@pytest.mark.parametrize("key", openapi.group_versions(TYPES))
def test_every_reference_in_a_document_leads_somewhere(key: str) -> None:
    document = openapi.v3_document(TYPES, key, "1.36")
    assert document is not None
    assert models.references(document) <= set(document["components"]["schemas"])
    assert "x-mizzen" not in json.dumps(document)
    items = [
        operation for item in document["paths"].values() for method, operation in item.items() if method != "parameters"
    ]
    ids = [operation["operationId"] for operation in items]
    assert len(ids) == len(set(ids))


def test_version_two_is_whole_too() -> None:
    document = openapi.v2_document(TYPES, "1.36")
    found = {name.removeprefix("#/definitions/") for name in models.references(document)}
    assert found <= set(document["definitions"])
    ours = [schema for name, schema in document["definitions"].items() if name.startswith("dev.mizzen.")]
    assert len(ours) == 2 * len(OURS)
    assert [word for word in openapi._NOT_IN_V2[:4] if f'"{word}":' in json.dumps(ours)] == []


def test_patch_takes_field_validation_so_that_kubectl_asks_the_server() -> None:
    document = openapi.v3_document(TYPES, "apis/mizzen.dev/v1alpha1", "1.36")
    assert document is not None
    patch = document["paths"]["/apis/mizzen.dev/v1alpha1/namespaces/{namespace}/models/{name}"]["patch"]
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "mizzen.dev", "version": "v1alpha1", "kind": "Model"}


def test_a_hash_changes_with_its_document_only() -> None:
    keys = openapi.group_versions(TYPES)
    before = {key: openapi.document_hash(TYPES, key) for key in keys}
    without_one = [rtype for rtype in TYPES if rtype.kind != "Dataset"]
    after = {key: openapi.document_hash(without_one, key) for key in keys}
    assert [key for key in keys if before[key] != after[key]] == ["apis/mizzen.dev/v1alpha1"]
    assert openapi.document_hash(list(reversed(TYPES))) == openapi.document_hash(TYPES)
    assert openapi.document_hash(without_one) != openapi.document_hash(TYPES)
    index = openapi.v3_index(TYPES)["paths"]
    assert index["api/v1"]["serverRelativeURL"] == f"/openapi/v3/api/v1?hash={before['api/v1']}"


def test_descriptions_are_kubernetes_own() -> None:
    schema = openapi.published("io.k8s.api.apps.v1.DeploymentSpec", v3=True)
    assert schema["description"] == "DeploymentSpec is the specification of the desired behavior of the Deployment."
    assert schema["properties"]["strategy"] == {
        "description": "The deployment strategy to use to replace existing pods with new ones.",
        "allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}],
        "x-kubernetes-patch-strategy": "retainKeys",
    }


def _answer(path: str, accept: str) -> tuple[Json | None, str]:
    if path in {"/api", "/apis"}:
        media_type = next((name for name in accept.split(",") if name in discovery.AGGREGATED), None)
        if media_type is not None:
            core = path == "/api"
            return discovery.aggregated(TYPES, core=core, version=discovery.AGGREGATED[media_type]), media_type
        return (discovery.api_versions("x") if path == "/api" else discovery.api_group_list(TYPES)), "application/json"
    if path == "/openapi/v3":
        return openapi.v3_index(TYPES), "application/json"
    if path.startswith("/openapi/v3/"):
        return openapi.v3_document(TYPES, path.removeprefix("/openapi/v3/"), "1.36"), "application/json"
    return None, "application/json"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        document, media_type = _answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
        body = json.dumps(document or {"kind": "Status", "status": "Failure", "code": 404}).encode()
        self.send_response(200 if document is not None else 404)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def kubectl(address: str, home: Path, *arguments: str) -> str:
    assert KUBECTL is not None
    command = [KUBECTL, "--server", address, "--kubeconfig", "/dev/null", "--cache-dir", str(home), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("ie.spec.scaling", ["KIND:       InferenceEndpoint", "replicas\t<integer>", "Workers of the version"]),
        ("deployment.spec.strategy", ["FIELD: strategy <DeploymentStrategy>", "enum: Recreate, RollingUpdate"]),
        ("crd.spec.names", ["shortNames\t<[]string>", "plural\t<string> -required-"]),
    ],
)
def test_kubectl_explains(address: str, tmp_path: Path, field: str, expected: list[str]) -> None:
    told = kubectl(address, tmp_path, "explain", field)
    assert [text for text in expected if text not in told] == []


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
def test_kubectl_lists_every_resource(address: str, tmp_path: Path) -> None:
    told = kubectl(address, tmp_path, "api-resources", "-o", "name").split()
    names = {f"{rtype.plural}.{rtype.group}" if rtype.group else rtype.plural for rtype in TYPES}
    assert set(told) == names
    assert "replicas" in kubectl(address, tmp_path, "explain", "deployment.spec", "--recursive")
