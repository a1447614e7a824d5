"""Discovery: what is served, plain and aggregated; versions and health."""

import json
import re

import httpx2
import pytest

from .client import Api, Json, eventually

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

CORE = {
    "namespaces": (False, "Namespace", ["ns"]),
    "pods": (True, "Pod", ["po"]),
    "services": (True, "Service", ["svc"]),
    "secrets": (True, "Secret", None),
    "configmaps": (True, "ConfigMap", ["cm"]),
    "serviceaccounts": (True, "ServiceAccount", ["sa"]),
    "nodes": (False, "Node", ["no"]),
    "events": (True, "Event", ["ev"]),
}
GROUPS = {
    "apps/v1": {"deployments": "Deployment", "replicasets": "ReplicaSet"},
    "batch/v1": {"jobs": "Job"},
    "coordination.k8s.io/v1": {"leases": "Lease"},
    "discovery.k8s.io/v1": {"endpointslices": "EndpointSlice"},
    "events.k8s.io/v1": {"events": "Event"},
    "rbac.authorization.k8s.io/v1": {
        "roles": "Role",
        "rolebindings": "RoleBinding",
        "clusterroles": "ClusterRole",
        "clusterrolebindings": "ClusterRoleBinding",
    },
    "apiextensions.k8s.io/v1": {"customresourcedefinitions": "CustomResourceDefinition"},
    "authentication.k8s.io/v1": {"tokenreviews": "TokenReview"},
    "authorization.k8s.io/v1": {
        "subjectaccessreviews": "SubjectAccessReview",
        "selfsubjectaccessreviews": "SelfSubjectAccessReview",
        "selfsubjectrulesreviews": "SelfSubjectRulesReview",
        "localsubjectaccessreviews": "LocalSubjectAccessReview",
    },
}
SUBRESOURCES = {
    "v1": {"pods/status", "pods/log", "pods/binding", "pods/eviction", "serviceaccounts/token", "namespaces/finalize"},
    "apps/v1": {"deployments/status", "deployments/scale", "replicasets/scale"},
    "batch/v1": {"jobs/status"},
}


def resources(api: Api, group_version: str) -> dict[str, Json]:
    path = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
    got = api.get(path)
    assert (got["kind"], got["groupVersion"]) == ("APIResourceList", group_version)
    return {one["name"]: one for one in got["resources"]}


def test_core_resources(api: Api) -> None:
    """The core group's kinds with scope and short names."""
    found = resources(api, "v1")
    assert {
        name: (found[name]["namespaced"], found[name]["kind"], found[name].get("shortNames")) for name in CORE
    } == CORE


@pytest.mark.parametrize("group_version", GROUPS)
def test_group_resources(api: Api, group_version: str) -> None:
    """Each group's kinds."""
    found = resources(api, group_version)
    expected = GROUPS[group_version]
    assert {name: found[name]["kind"] for name in expected} == expected


@pytest.mark.parametrize("group_version", SUBRESOURCES)
def test_subresources(api: Api, group_version: str) -> None:
    """Subresources are listed beside their resource."""
    assert SUBRESOURCES[group_version] <= resources(api, group_version).keys()


def test_the_entry_of_a_resource(api: Api) -> None:
    """An entry says scope, kind, verbs, short names, categories."""
    entry = resources(api, "apps/v1")["deployments"]
    assert entry["singularName"] == "deployment"
    assert entry["namespaced"] is True
    assert entry["verbs"] == ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    assert entry["shortNames"] == ["deploy"]
    assert entry["categories"] == ["all"]


def test_the_entry_of_a_scale(api: Api) -> None:
    """A subresource of another kind says which."""
    entry = resources(api, "apps/v1")["deployments/scale"]
    assert (entry["group"], entry["version"], entry["kind"]) == ("autoscaling", "v1", "Scale")
    assert sorted(entry["verbs"]) == ["get", "patch", "update"]


def test_the_entry_of_a_token(api: Api) -> None:
    """serviceaccounts/token is created only."""
    entry = resources(api, "v1")["serviceaccounts/token"]
    assert (entry["group"], entry["kind"], entry["verbs"]) == ("authentication.k8s.io", "TokenRequest", ["create"])


def test_reviews_can_only_be_created(api: Api) -> None:
    """Reviews are questions, not objects."""
    found = resources(api, "authorization.k8s.io/v1")
    assert all(entry["verbs"] == ["create"] for entry in found.values())


def test_the_core_versions(api: Api) -> None:
    """/api names the versions of the core group."""
    got = api.get("/api")
    assert (got["kind"], got["versions"]) == ("APIVersions", ["v1"])
    assert got["serverAddressByClientCIDRs"]


def test_the_groups(api: Api) -> None:
    """/apis names the groups, their versions and the preferred one; /apis/GROUP names one."""
    got = api.get("/apis")
    assert (got["kind"], got["apiVersion"]) == ("APIGroupList", "v1")
    groups = {one["name"]: one for one in got["groups"]}
    for group_version in GROUPS:
        group, version = group_version.split("/")
        assert {"groupVersion": group_version, "version": version} in groups[group]["versions"]
        assert groups[group]["preferredVersion"]["groupVersion"] == group_version
        one = api.get(f"/apis/{group}")
        assert (one["kind"], one["name"]) == ("APIGroup", group)
        assert one["versions"] == groups[group]["versions"]


# Aggregated


def aggregated(api: Api, path: str) -> httpx2.Response:
    return api.request("GET", path, headers={"Accept": f"{AGGREGATED},application/json"})


def test_the_aggregated_answer(api: Api) -> None:
    """One request tells all groups; its type is named in the header and the body."""
    response = aggregated(api, "/apis")
    assert response.headers["content-type"] == AGGREGATED
    got = response.json()
    assert (got["kind"], got["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    groups = {one["metadata"]["name"]: one for one in got["items"]}
    for group_version, expected in GROUPS.items():
        group, version = group_version.split("/")
        versions = {one["version"]: one for one in groups[group]["versions"]}
        found = {one["resource"]: one["responseKind"]["kind"] for one in versions[version]["resources"]}
        assert {name: found.get(name) for name in expected} == expected


def test_the_aggregated_core(api: Api) -> None:
    """/api tells the core group the same way, under an empty name."""
    got = aggregated(api, "/api").json()
    (group,) = got["items"]
    assert group["metadata"].get("name", "") == ""
    found = {one["resource"]: one for one in group["versions"][0]["resources"]}
    assert found["pods"]["scope"] == "Namespaced"
    assert found["nodes"]["scope"] == "Cluster"
    assert found["pods"]["shortNames"] == ["po"]
    assert found["pods"]["singularResource"] == "pod"
    assert "log" in {one["subresource"] for one in found["pods"]["subresources"]}


def test_both_forms_tell_the_same(api: Api) -> None:
    """Plain and aggregated discovery agree on every resource, verb and subresource of the built-in groups."""
    items = aggregated(api, "/apis").json()["items"] + aggregated(api, "/api").json()["items"]
    built_in = {"", *(group_version.split("/")[0] for group_version in GROUPS)}
    for item in items:
        if item["metadata"].get("name", "") not in built_in:
            continue
        for version in item["versions"]:
            group = item["metadata"].get("name", "")
            plain = resources(api, f"{group}/{version['version']}" if group else version["version"])
            told: dict[str, list[str]] = {}
            for one in version.get("resources", []):
                told[one["resource"]] = sorted(one["verbs"])
                for sub in one.get("subresources", []):
                    told[f"{one['resource']}/{sub['subresource']}"] = sorted(sub["verbs"])
            assert {name: sorted(one["verbs"]) for name, one in plain.items()} == told, group


@pytest.mark.parametrize("path", ["/api", "/apis"])
def test_entity_tags(api: Api, path: str) -> None:
    """The aggregated answer has an ETag; who has it already gets 304."""
    first = aggregated(api, path)
    headers = {"Accept": AGGREGATED, "If-None-Match": first.headers["etag"]}
    again = api.request("GET", path, headers=headers)
    assert (again.status_code, again.content) == (304, b"")


def test_a_client_that_takes_only_plain(api: Api) -> None:
    """Accept: application/json gives the plain form."""
    got = api.request("GET", "/apis", headers={"Accept": "application/json"})
    assert got.json()["kind"] == "APIGroupList"


def test_a_new_kind_is_discovered(api: Api, define) -> None:
    """A CRD's kind is in both forms, with its names, once it is established, and gone after it."""
    group = define(
        names={"shortNames": ["wdg"], "categories": ["all", "conformance"]},
        version={"subresources": {"status": {}}},
    )
    eventually(lambda: f"apis/{group}" in str(api.get("/")["paths"]), "the new group is among the paths")
    entry = resources(api, f"{group}/v1")["widgets"]
    assert (entry["kind"], entry["shortNames"], entry["categories"]) == ("Widget", ["wdg"], ["all", "conformance"])
    assert "widgets/status" in resources(api, f"{group}/v1")
    assert sorted(entry["verbs"]) == ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    told = aggregated(api, "/apis").json()["items"]
    ours = next(one for one in told if one["metadata"]["name"] == group)["versions"][0]["resources"][0]
    assert (ours["resource"], ours["responseKind"]["kind"], ours["shortNames"]) == ("widgets", "Widget", ["wdg"])


# Versions and health


def test_version(api: Api) -> None:
    """/version tells a Kubernetes version of at least 1.32."""
    got = api.get("/version")
    major, minor = int(got["major"]), int(re.match(r"\d+", got["minor"])[0])
    assert (major, minor) >= (1, 32)
    assert got["gitVersion"].startswith(f"v{major}.{minor}.")
    assert {"gitCommit", "buildDate", "platform", "goVersion", "compiler", "gitTreeState"} <= got.keys()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/livez"])
def test_health(api: Api, path: str) -> None:
    """Health is `ok`, as text, for everybody; verbose lists the checks."""
    response = api.anonymous().request("GET", path)
    assert (response.status_code, response.text) == (200, "ok")
    assert response.headers["content-type"].startswith("text/plain")
    verbose = api.request("GET", path, verbose="true")
    assert verbose.text.rstrip().endswith(f"{path[1:]} check passed")
    assert "[+]ping ok" in verbose.text


def test_root_paths(api: Api) -> None:
    """/ lists the paths."""
    paths = api.get("/")["paths"]
    assert {"/api", "/api/v1", "/apis", "/apis/apps/v1", "/healthz", "/openapi/v2", "/openapi/v3", "/version"} <= set(
        paths
    )


def test_discovery_needs_no_rights_beyond_authentication(api: Api) -> None:
    """Any authenticated user discovers; an anonymous one does not."""
    somebody = api.impersonating("nobody-in-particular", "system:authenticated")
    for path in ("/api", "/apis", "/api/v1", "/apis/apps/v1", "/openapi/v3", "/version"):
        assert somebody.request("GET", path).status_code == 200, path
    assert api.anonymous().request("GET", "/apis").status_code in {401, 403}
    assert api.anonymous().request("GET", "/version").status_code == 200


def test_a_group_that_is_not_there(api: Api) -> None:
    """404."""
    assert api.request("GET", "/apis/nope.example.com/v1").status_code == 404
    assert api.request("GET", "/apis/apps/v9").status_code == 404
    assert api.request("GET", "/nope").status_code == 404


def test_compressed_answers(api: Api) -> None:
    """A client that takes gzip may get an answer compressed, with the same content; one that does not, never."""
    plain = api.request("GET", "/api/v1", headers={"Accept-Encoding": "identity"})
    packed = api.request("GET", "/api/v1", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert json.loads(plain.content)["resources"] == json.loads(packed.content)["resources"]
