"""The wire: representations, limits, errors, documents, health, metrics."""

import gzip
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mizzen.local.apiserver import housekeeping
from mizzen.local.apiserver.errors import NotAcceptable
from mizzen.local.apiserver.http.negotiation import Representation, negotiate
from mizzen.local.apiserver.request import Query, Target, parse_target, verb_of
from mizzen.local.apiserver.server import ApiServer, Sources

from .conftest import Api, client_of, config_map

NS = "/api/v1/namespaces/default"
MAPS = f"{NS}/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
JSON = "application/json"


# What a path asks for.


@pytest.mark.parametrize(
    ("method", "path", "target", "verb"),
    [
        ("GET", "/api/v1/pods", Target("", "v1", "pods"), "list"),
        ("GET", "/api/v1/namespaces/a/pods", Target("", "v1", "pods", "a"), "list"),
        ("POST", "/api/v1/namespaces/a/pods", Target("", "v1", "pods", "a"), "create"),
        ("DELETE", "/api/v1/namespaces/a/pods", Target("", "v1", "pods", "a"), "deletecollection"),
        ("GET", "/api/v1/namespaces/a/pods/p", Target("", "v1", "pods", "a", "p"), "get"),
        ("PUT", "/api/v1/namespaces/a/pods/p/status", Target("", "v1", "pods", "a", "p", "status"), "update"),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d", Target("apps", "v1", "deployments", "a", "d"), "patch"),
        ("GET", "/api/v1/namespaces", Target("", "v1", "namespaces"), "list"),
        ("GET", "/api/v1/namespaces/a", Target("", "v1", "namespaces", "a", "a"), "get"),
        ("PUT", "/api/v1/namespaces/a/finalize", Target("", "v1", "namespaces", "a", "a", "finalize"), "update"),
        ("GET", "/api/v1/nodes/n", Target("", "v1", "nodes", "", "n"), "get"),
        ("GET", "/api/v1/watch/namespaces/a/pods", Target("", "v1", "pods", "a", watched=True), "watch"),
        ("GET", "/apis/g.io/v1/namespaces/a/things/x%2Fy", Target("g.io", "v1", "things", "a", "x/y"), "get"),
        ("GET", "/apis/apps/v1", None, "get"),
        ("GET", "/version", None, "get"),
    ],
)
def test_paths(method: str, path: str, target: Target | None, verb: str) -> None:
    assert parse_target(path) == target
    assert verb_of(method, target, Query("")) == verb


def test_a_list_that_watches() -> None:
    target = parse_target("/api/v1/pods")
    for query, verb in (("watch=true", "watch"), ("watch=1", "watch"), ("watch", "watch"), ("watch=false", "list")):
        assert verb_of("GET", target, Query(query)) == verb


# Which representation.


@pytest.mark.parametrize(
    ("accept", "of_list", "expected"),
    [
        ("", False, Representation(JSON)),
        ("*/*", False, Representation(JSON)),
        ("application/yaml", False, Representation("application/yaml")),
        ("application/vnd.kubernetes.protobuf,application/json", False, Representation(JSON)),
        ("application/json;q=0.5,application/yaml", False, Representation("application/yaml")),
        ("application/json;stream=watch", True, Representation(JSON)),
        (f"{TABLE},application/json", True, Representation(JSON, "Table", "meta.k8s.io/v1")),
        (f"{TABLE.replace('v1', 'v9')},application/json", True, Representation(JSON)),
        (METADATA, False, Representation(JSON, "PartialObjectMetadata", "meta.k8s.io/v1")),
    ],
)
def test_negotiation(accept: str, of_list: bool, expected: Representation) -> None:
    assert negotiate(accept, of_list=of_list) == expected


@pytest.mark.parametrize("accept", ["text/html", "application/vnd.kubernetes.protobuf", f"{JSON};as=Foo;v=v1;g=x"])
def test_what_there_is_not(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiate(accept)


@given(st.text(alphabet="ajson/*yml;=,q.01 ", max_size=40))
def test_any_accept_header_is_answered(accept: str) -> None:
    try:
        negotiate(accept)
    except NotAcceptable:
        return


async def test_one_object_in_all_forms(api: Api) -> None:
    made = await api.create(MAPS, config_map("one", {"a": "1"}, labels={"x": "y"}))
    path = f"{MAPS}/one"
    as_yaml = await api.http.get(path, headers={"Accept": "application/yaml"})
    assert (as_yaml.headers["content-type"], yaml.safe_load(as_yaml.text)) == ("application/yaml", made)
    metadata = (await api.http.get(path, headers={"Accept": METADATA})).json()
    assert metadata == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"]}
    table = (await api.http.get(path, headers={"Accept": TABLE})).json()
    assert table["rows"][0]["cells"][:2] == ["one", 1]
    indented = await api.http.get(path, params={"pretty": "true"})
    assert indented.text.startswith('{\n  "kind": "ConfigMap",\n')
    assert indented.json() == made
    curl = await api.http.get(path, headers={"User-Agent": "curl/8"})
    assert curl.text == indented.text
    assert (await api.http.get(path, headers={"Accept": "text/html"})).status_code == 406


async def test_a_list_in_all_forms(api: Api) -> None:
    """Items of Kubernetes' own lists do not repeat their kind, as on any cluster."""
    await api.create(MAPS, config_map("one"))
    plain = await api.get(MAPS)
    assert (plain["kind"], plain["apiVersion"]) == ("ConfigMapList", "v1")
    assert all("kind" not in item for item in plain["items"])
    as_yaml = await api.http.get(MAPS, headers={"Accept": "application/yaml"})
    assert yaml.safe_load(as_yaml.text) == plain
    metadata = (await api.http.get(MAPS, headers={"Accept": METADATA.replace("Metadata", "MetadataList")})).json()
    assert [item["metadata"] for item in metadata["items"]] == [item["metadata"] for item in plain["items"]]
    table = (await api.http.get(MAPS, headers={"Accept": TABLE}, params={"includeObject": "None"})).json()
    assert [row["cells"][0] for row in table["rows"]] == [item["metadata"]["name"] for item in plain["items"]]
    assert "object" not in table["rows"][0]


async def test_long_answers_are_compressed_for_who_asks(api: Api) -> None:
    for i in range(40):
        await api.create(MAPS, config_map(f"m{i:02}", {"text": "x" * 8000}))
    async with api.http.stream("GET", MAPS, headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["content-encoding"] == "gzip"
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    async with api.http.stream("GET", MAPS, headers={"Accept-Encoding": "identity"}) as response:
        assert "content-encoding" not in response.headers
        plain = b"".join([chunk async for chunk in response.aiter_raw()])
    assert len(raw) < len(plain) / 10
    assert json.loads(gzip.decompress(raw)) == json.loads(plain)
    short = await api.http.get(f"{MAPS}/m00", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in short.headers


# Limits and errors.


async def test_a_body_of_more_than_three_mebibytes(api: Api) -> None:
    """413, whether the length is said beforehand or not."""
    body = json.dumps(config_map("big", {"x": "x" * (3 << 20)})).encode()

    async def in_pieces():
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for content in (body, in_pieces()):
        response = await api.http.post(MAPS, content=content, headers={"Content-Type": JSON})
        assert (response.status_code, response.json()["reason"]) == (413, "RequestEntityTooLarge")


async def test_errors_are_statuses(api: Api) -> None:
    """Each error is a Status with its code and reason, in the form asked for, and with an id of its own."""
    for method, path, code, reason in (
        ("GET", f"{MAPS}/nope", 404, "NotFound"),
        ("GET", "/api/v1/nopes", 404, "NotFound"),
        ("GET", "/apis/apps/v9/deployments", 404, "NotFound"),
        ("PUT", MAPS, 405, "MethodNotAllowed"),
        ("POST", f"{MAPS}/one", 405, "MethodNotAllowed"),
        ("PATCH", f"{MAPS}/one", 415, "UnsupportedMediaType"),
        ("GET", f"{MAPS}?limit=x", 400, "BadRequest"),
        ("GET", f"{MAPS}?resourceVersion=999999", 504, "Timeout"),
    ):
        response = await api.http.request(method, path, content=b"{}" if method != "GET" else None)
        status = response.json()
        assert (response.status_code, status["kind"], status["code"], status["reason"]) == (
            code,
            "Status",
            code,
            reason,
        )
        assert response.headers["audit-id"]
    as_yaml = await api.http.get(f"{MAPS}/nope", headers={"Accept": "application/yaml"})
    assert yaml.safe_load(as_yaml.text)["code"] == 404
    other = await api.http.get("/nothing/here")
    assert (other.status_code, other.text) == (404, "404 page not found\n")


async def test_a_defect_of_ours_is_a_500_and_the_next_request_is_answered(api: Api, caplog, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("mizzen.local.apiserver.http.dispatch.listing.list_objects", broken)
    status, answer = await api.call("GET", MAPS)
    assert (status, answer["reason"]) == (500, "InternalError")
    assert "a defect" not in json.dumps(answer), "what went wrong inside is for the log"
    assert "a defect" in caplog.text
    assert (await api.call("GET", "/version"))[0] == 200


async def test_warnings(api: Api) -> None:
    """Unknown fields are told in headers, once each, and can be made errors."""
    body = {**config_map("one"), "datas": 1, "more": {"a": 1}}
    response = await api.http.post(MAPS, json=body)
    assert response.headers.get_list("warning") == [
        '299 - "unknown field \\"datas\\""',
        '299 - "unknown field \\"more\\""',
    ]
    strict = await api.http.post(MAPS, json=body, params={"fieldValidation": "Strict"})
    assert (strict.status_code, "strict decoding error" in strict.json()["message"]) == (400, True)


async def test_only_tls_1_3(api: Api) -> None:
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with httpx2.AsyncClient(verify=old) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get(f"{api.server.url}/version")


# Who may.


async def test_without_a_token_health_only(api: Api) -> None:
    async with client_of(api.server) as client:
        del client.headers["authorization"]
        assert (await client.get("/readyz")).text == "ok"
        assert (await client.get("/version")).status_code == 200
        refused = await client.get(MAPS)
        assert (refused.status_code, refused.json()["reason"]) == (401, "Unauthorized")
        client.headers["authorization"] = "Bearer nonsense"
        assert (await client.get("/version")).status_code == 401


async def test_as_somebody_else(api: Api) -> None:
    """`kubectl --as`: forbidden in Kubernetes' words until a role is bound; then allowed."""
    headers = {"Impersonate-User": "alice"}
    refused = await api.http.get(f"{NS}/secrets", headers=headers)
    assert refused.json()["message"] == (
        'secrets is forbidden: User "alice" cannot list resource "secrets" in API group "" in the namespace "default"'
    )
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
    await api.create(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "b"},
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "alice"}],
    }
    await api.create(f"{rbac}/rolebindings", binding)
    assert (await api.http.get(f"{NS}/secrets", headers=headers)).status_code == 200
    assert (await api.http.get(f"{NS}/secrets/x", headers=headers)).status_code == 403


async def test_a_list_of_one_name_needs_the_right_to_that_name(api: Api) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"], "resourceNames": ["mine"]}
    await api.create(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": [rule]})
    subjects = [{"kind": "User", "name": "bob"}]
    await api.create(
        f"{rbac}/rolebindings",
        {"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": subjects},
    )
    headers = {"Impersonate-User": "bob"}
    for name, code in (("mine", 200), ("other", 403)):
        response = await api.http.get(MAPS, headers=headers, params={"fieldSelector": f"metadata.name={name}"})
        assert response.status_code == code
    assert (await api.http.get(MAPS, headers=headers)).status_code == 403


# Pages.


async def test_health(api: Api) -> None:
    for endpoint in ("healthz", "livez", "readyz"):
        assert await api.get(f"/{endpoint}") == "ok"
        verbose = await api.get(f"/{endpoint}", verbose="")
        assert verbose.splitlines()[-1] == f"{endpoint} check passed"
        assert "[+]ping ok" in verbose
        assert "[+]ping excluded: ok" in await api.get(f"/{endpoint}", verbose="", exclude="ping")
        assert ("[+]store ok" in verbose) is (endpoint != "livez")
    assert await api.get("/readyz/store") == "ok"
    assert (await api.call("GET", "/readyz/nothing"))[0] == 404


async def test_metrics(api: Api) -> None:
    await api.create(MAPS, config_map("one"))
    await api.call("GET", f"{MAPS}/nope")
    lines = (await api.get("/metrics")).splitlines()
    assert 'apiserver_request_total{verb="CREATE",group="",resource="configmaps",code="201"} 1' in lines
    assert 'apiserver_request_total{verb="GET",group="",resource="configmaps",code="404"} 1' in lines
    count = next(line for line in lines if line.startswith('apiserver_request_duration_seconds_count{verb="CREATE"'))
    assert count.endswith(" 1")
    assert any(line.startswith('apiserver_storage_objects{resource="configmaps"}') for line in lines)
    revision = next(int(line.split()[1]) for line in lines if line.startswith("mizzen_store_revision"))
    assert revision == api.server.statistics().revision


async def test_the_version_names_a_kubernetes_it_is_like(api: Api) -> None:
    version = await api.get("/version")
    assert version["gitVersion"].endswith("+mizzen")
    assert version["gitVersion"].startswith(f"v{version['major']}.{version['minor']}.")


async def test_documents_are_kept_until_the_types_change(api: Api) -> None:
    """An OpenAPI document changes its hash with its own group only; discovery changes with any."""
    from .conftest import definition

    accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    index = (await api.get("/openapi/v3"))["paths"]
    discovered = await api.http.get("/apis", headers=accept)
    again = await api.http.get("/apis", headers={**accept, "If-None-Match": discovered.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition())
    now = (await api.get("/openapi/v3"))["paths"]
    assert {path for path in now if now[path] != index.get(path)} == {"apis/example.com/v1"}
    changed = await api.http.get("/apis", headers={**accept, "If-None-Match": discovered.headers["etag"]})
    assert changed.status_code == 200
    url = now["apis/example.com/v1"]["serverRelativeURL"]
    document = await api.http.get(url)
    assert "com.example.v1.Widget" in document.json()["components"]["schemas"]
    assert "immutable" in document.headers["cache-control"]


async def test_the_keys_of_tokens_are_published(api: Api) -> None:
    configuration = await api.get("/.well-known/openid-configuration")
    assert configuration["jwks_uri"] == f"{api.server.url}/openid/v1/jwks"
    keys = (await api.http.get("/openid/v1/jwks")).json()["keys"]
    assert all(key["kty"] == "EC" and "d" not in key for key in keys)


# Time.


async def test_events_go_an_hour_after_they_last_happened(tmp_path: Path) -> None:
    moment = [datetime.now(UTC)]
    server = ApiServer(tmp_path / "home", port=0, sources=Sources(now=lambda: moment[0]))
    await server.start()
    async with client_of(server) as http:
        api = Api(http, server)
        event = {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "Test"}
        for name in ("once", "again"):
            await api.create(f"{NS}/events", {"metadata": {"name": name}, **event})
        moment[0] += timedelta(minutes=50)
        await api.merge(f"{NS}/events/again", {"lastTimestamp": moment[0].strftime("%Y-%m-%dT%H:%M:%SZ"), "count": 2})
        moment[0] += timedelta(minutes=15)
        await server.housekeeping.sweep()
        assert [one["metadata"]["name"] for one in (await api.get(f"{NS}/events"))["items"]] == ["again"]
    await server.stop()


async def test_of_too_many_events_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "EVENTS_MAX", 2)
    moment = [datetime.now(UTC)]
    server = ApiServer(tmp_path / "home", port=0, sources=Sources(now=lambda: moment[0]))
    await server.start()
    async with client_of(server) as http:
        api = Api(http, server)
        event = {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "Test"}
        for name in ("c-first", "a-second", "b-third", "d-fourth"):
            moment[0] += timedelta(seconds=1)
            await api.create(f"{NS}/events", {"metadata": {"name": name}, **event})
        await server.housekeeping.sweep()
        assert [one["metadata"]["name"] for one in (await api.get(f"{NS}/events"))["items"]] == ["b-third", "d-fourth"]
    await server.stop()
