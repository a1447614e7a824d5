"""Every refusal is a Status with the right code, reason, message and details; media types and body limits."""

import gzip
import json

import httpx2
import pytest

from .client import Api, Json, Resource, refused
from .objects import config_map, pod
from .surroundings import Namespace

STATUS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}


def assert_status(response: httpx2.Response, code: int, reason: str) -> Json:
    """The envelope that all failures share; returns the Status."""
    status: Json = response.json()
    assert response.headers["content-type"] == "application/json"
    assert {key: status[key] for key in STATUS} == STATUS
    assert (response.status_code, status["code"], status["reason"]) == (code, code, reason)
    assert status["message"]
    return status


def test_an_object_that_is_not_there(api: Api, ns: Namespace, widgets: Resource, widgets_group: str) -> None:
    """404 names the resource with its group, and the object."""
    for resource, qualified, group in (
        (ns("pods"), "pods", None),
        (ns("apps/v1/deployments"), "deployments.apps", "apps"),
        (widgets, f"widgets.{widgets_group}", widgets_group),
        (api.resource("batch/v1/jobs", ns.name), "jobs.batch", "batch"),
    ):
        status = assert_status(api.request("GET", resource.at("absent")), 404, "NotFound")
        assert status["message"] == f'{qualified} "absent" not found'
        kind = qualified.split(".")[0]
        expected = {"name": "absent", "kind": kind} | ({"group": group} if group else {})
        assert status["details"] == expected


def test_a_resource_that_is_not_there(api: Api, ns: Namespace) -> None:
    """404 for a resource of a group that is served."""
    for path in ("/api/v1/nopes", f"/api/v1/namespaces/{ns.name}/nopes/x", "/apis/apps/v1/nopes"):
        status = assert_status(api.request("GET", path), 404, "NotFound")
        assert status["message"] == "the server could not find the requested resource"


def test_a_subresource_that_is_not_there(maps: Resource) -> None:
    """404 for a subresource a type does not have."""
    maps.create(config_map("one"))
    assert_status(maps.api.request("GET", maps.at("one", "status")), 404, "NotFound")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/namespaces/default/configmaps/x"),
        ("PUT", "/api/v1/namespaces/default/configmaps"),
        ("PATCH", "/api/v1/namespaces/default/configmaps"),
        ("DELETE", "/api/v1/namespaces"),
        ("GET", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
        ("POST", "/api/v1/pods"),
    ],
)
def test_methods_that_are_not_allowed(api: Api, method: str, path: str) -> None:
    """405 says that the server does not allow the method."""
    headers = {"Content-Type": "application/json"}
    status = assert_status(api.request(method, path, content=b"{}", headers=headers), 405, "MethodNotAllowed")
    assert status["message"] == "the server does not allow this method on the requested resource"


def test_already_exists(maps: Resource, widgets: Resource, widgets_group: str) -> None:
    """409 AlreadyExists names the object."""
    body = {"apiVersion": f"{widgets_group}/v1", "kind": "Widget", "metadata": {"name": "one"}}
    widgets.create(body)
    with refused(409, "AlreadyExists", f'widgets.{widgets_group} "one" already exists') as error:
        widgets.create(body)
    assert error.details == {"name": "one", "group": widgets_group, "kind": "widgets"}


def test_invalid_names_the_kind(pods: Resource, ns: Namespace) -> None:
    """422 names the kind (not the resource), the object, and each field."""
    with refused(422, "Invalid", 'Pod "one" is invalid: spec.containers: Required value') as error:
        pods.create(pod("one", containers=[]))
    assert error.details == {
        "name": "one",
        "kind": "Pod",
        "causes": [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}],
    }
    body: Json = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "one"}, "spec": {}}
    with refused(422, "Invalid", 'Deployment.apps "one" is invalid: [') as error:
        ns("apps/v1/deployments").create(body)
    assert (error.details["kind"], error.details["group"]) == ("Deployment", "apps")


# Media types


def test_an_answer_in_a_type_nobody_makes(maps: Resource) -> None:
    """406 says what there is."""
    response = maps.api.request("GET", maps.path, headers={"Accept": "text/csv"})
    assert response.status_code == 406
    assert "application/json" in response.text


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/json", "text/csv, application/json;q=0.5", "application/json; charset=utf-8", ""],
)
def test_answers_in_json(maps: Resource, accept: str) -> None:
    """JSON is what a client gets that does not insist on something else."""
    response = maps.api.request("GET", maps.path, headers={"Accept": accept} if accept else None)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


def test_a_body_in_a_type_nobody_reads(maps: Resource) -> None:
    """415 says what is read."""
    response = maps.api.request("POST", maps.path, content=b"x", headers={"Content-Type": "text/plain"})
    status = assert_status(response, 415, "UnsupportedMediaType")
    assert "application/json" in status["message"]


def protobuf(number: int, content: bytes) -> bytes:
    """One length-delimited field of a protobuf message."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_bodies_in_protobuf(maps: Resource) -> None:
    """Go clients send built-in types as protobuf, and take JSON where protobuf is not made."""
    metadata = protobuf(1, b"one")
    data = protobuf(1, b"a") + protobuf(2, b"1")
    raw = protobuf(1, metadata) + protobuf(2, data)
    type_meta = protobuf(1, b"v1") + protobuf(2, b"ConfigMap")
    content = b"k8s\x00" + protobuf(1, type_meta) + protobuf(2, raw)
    headers = {
        "Content-Type": "application/vnd.kubernetes.protobuf",
        "Accept": "application/vnd.kubernetes.protobuf, application/json",
    }
    response = maps.api.request("POST", maps.path, content=content, headers=headers)
    assert response.status_code == 201, response.text
    assert response.headers["content-type"] in {"application/json", "application/vnd.kubernetes.protobuf"}
    if response.headers["content-type"] == "application/vnd.kubernetes.protobuf":
        assert response.content.startswith(b"k8s\x00")
    assert maps.get("one")["data"] == {"a": "1"}


def test_protobuf_that_is_none(maps: Resource) -> None:
    """Bytes that only claim to be protobuf are a bad request."""
    headers = {"Content-Type": "application/vnd.kubernetes.protobuf"}
    assert_status(maps.api.request("POST", maps.path, content=b"k8s\x00\xff\xff", headers=headers), 400, "BadRequest")


def test_a_body_without_a_type_is_json(maps: Resource) -> None:
    """A body without Content-Type is read as JSON."""
    response = maps.api.request("POST", maps.path, content=json.dumps(config_map("one")).encode())
    assert response.status_code == 201


def test_a_body_with_parameters_in_its_type(maps: Resource) -> None:
    """Parameters of the media type do not matter."""
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    content = json.dumps(config_map("one")).encode()
    assert maps.api.request("POST", maps.path, content=content, headers=headers).status_code == 201


def test_a_bad_yaml_body(maps: Resource) -> None:
    """YAML that is none is a bad request."""
    response = maps.api.request("POST", maps.path, content=b"a: [", headers={"Content-Type": "application/yaml"})
    assert_status(response, 400, "BadRequest")


# Limits


def test_a_body_has_a_limit(maps: Resource) -> None:
    """A body of more than 3 MiB is refused as too large."""
    content = json.dumps(config_map("one", {"a": "x" * (3 * 1024 * 1024 + 10_000)})).encode()
    response = maps.api.request("POST", maps.path, content=content, headers={"Content-Type": "application/json"})
    status = assert_status(response, 413, "RequestEntityTooLarge")
    assert "limit" in status["message"]
    assert not maps.exists("one")


def test_a_large_body_below_the_limit(widgets: Resource, widgets_group: str) -> None:
    """An object of 1 MiB is stored and comes back."""
    body = {"apiVersion": f"{widgets_group}/v1", "kind": "Widget", "metadata": {"name": "one"}}
    spec = {"text": "x" * 1_000_000}
    widgets.create(body | {"spec": spec})
    assert widgets.get("one")["spec"] == spec


def test_bytes_that_are_no_text(maps: Resource) -> None:
    """A body of random bytes is a bad request, not a failure of the server."""
    response = maps.api.request(
        "POST", maps.path, content=bytes(range(256)), headers={"Content-Type": "application/json"}
    )
    assert_status(response, 400, "BadRequest")


def test_a_compressed_body_is_not_taken_for_json(maps: Resource) -> None:
    """A gzip body (which no client sends) is refused and harms nothing."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    content = gzip.compress(json.dumps(config_map("one")).encode())
    assert maps.api.request("POST", maps.path, content=content, headers=headers).status_code in {400, 415}


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/../../secrets",
        "/api/v1//namespaces",
        "/apis/apps/v1/namespaces/default/deployments/a/b/c/d",
        "/api/v1/namespaces/default/configmaps/" + "x" * 3000,
    ],
    ids=range(4),
)
def test_odd_paths(api: Api, path: str) -> None:
    """A path that leads nowhere is a client's error, never the server's."""
    assert 300 <= api.request("GET", path).status_code < 500


@pytest.mark.parametrize("query", [{"watch": "perhaps"}, {"limit": "-1"}, {"timeoutSeconds": "soon"}, {"pretty": "no"}])
def test_odd_parameters(maps: Resource, query: Json) -> None:
    """A parameter that does not parse is a client's error or ignored, never the server's failure."""
    assert (
        maps.api.request("GET", maps.path, **(query | {"timeoutSeconds": query.get("timeoutSeconds", "1")})).status_code
        < 500
    )


def test_unknown_parameters_are_ignored(maps: Resource) -> None:
    """A parameter that the server does not know changes nothing."""
    maps.create(config_map("one"), unknown="1")
    assert maps.get("one", whatever="x")["metadata"]["name"] == "one"


def test_every_answer_has_an_audit_id(maps: Resource) -> None:
    """Each answer carries an Audit-Id and forbids caching."""
    response = maps.api.request("GET", maps.path)
    assert response.headers["audit-id"]
    assert response.headers["cache-control"] == "no-cache, private"


def test_head_and_options_do_no_harm(maps: Resource) -> None:
    """HEAD and OPTIONS are answered, as success or refusal."""
    for method in ("HEAD", "OPTIONS"):
        assert maps.api.request(method, maps.path).status_code < 500
