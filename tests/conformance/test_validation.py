"""Field validation (Strict, Warn, Ignore) and the rules that all objects share."""

import json
import re

import httpx2
import pytest

from .client import Json, Refused, Resource, refused
from .objects import WEB_LABELS, config_map, container, custom, deployment, fields, job, pod, schema, secret
from .surroundings import Namespace


def send(resource: Resource, text: str, **query: str) -> httpx2.Response:
    headers = {"Content-Type": "application/json"}
    return resource.api.request("POST", resource.path, content=text.encode(), headers=headers, **query)


def warnings(response: httpx2.Response) -> list[str]:
    return response.headers.get_list("warning")


UNKNOWN = json.dumps(config_map("one") | {"datas": {"a": "1"}, "more": 1})
DUPLICATE = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"},"data":{"a":"1","a":"2"}}'

# Strict, Warn, Ignore


def test_strict_refuses_unknown_fields(maps: Resource) -> None:
    """Strict: all unknown fields are named, and nothing is stored."""
    response = send(maps, UNKNOWN, fieldValidation="Strict")
    assert response.status_code == 400
    status = response.json()
    assert status["reason"] == "BadRequest"
    assert 'strict decoding error: unknown field "datas", unknown field "more"' in status["message"]
    assert not maps.exists("one")


def test_strict_refuses_duplicate_fields(maps: Resource) -> None:
    """Strict: a key that comes twice is refused with its path."""
    response = send(maps, DUPLICATE, fieldValidation="Strict")
    assert response.status_code == 400
    assert 'duplicate field "data.a"' in response.json()["message"]


def test_strict_names_the_path(ns: Namespace) -> None:
    """Unknown fields below are named with their whole path and position."""
    body = deployment("web")
    body["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    response = send(ns("apps/v1/deployments"), json.dumps(body), fieldValidation="Strict")
    assert 'unknown field "spec.template.spec.containers[0].imagee"' in response.json()["message"]


@pytest.mark.parametrize("query", [{"fieldValidation": "Warn"}, {}], ids=["warn", "default"])
def test_warn_warns_and_stores(maps: Resource, query: Json) -> None:
    """Warn, the default of the API: a Warning header for each, the field dropped, the rest stored."""
    response = send(maps, UNKNOWN, **query)
    assert response.status_code == 201
    assert warnings(response) == ['299 - "unknown field \\"datas\\""', '299 - "unknown field \\"more\\""']
    assert maps.get("one").keys() == {"kind", "apiVersion", "metadata"}


def test_warn_for_duplicates(maps: Resource) -> None:
    """Of duplicates the last counts, with a warning."""
    response = send(maps, DUPLICATE, fieldValidation="Warn")
    assert warnings(response) == ['299 - "duplicate field \\"data.a\\""']
    assert maps.get("one")["data"] == {"a": "2"}


def test_ignore_is_silent(maps: Resource) -> None:
    """Ignore: dropped without a word."""
    response = send(maps, UNKNOWN, fieldValidation="Ignore")
    assert (response.status_code, warnings(response)) == (201, [])
    assert "datas" not in maps.get("one")


def test_another_value_is_refused(maps: Resource) -> None:
    """fieldValidation takes three values."""
    with refused(422, "Invalid") as error:
        maps.create(config_map("one"), fieldValidation="Loose")
    assert error.causes == [("fieldValidation", "FieldValueNotSupported")]


@pytest.mark.parametrize("kind", ["merge", "strategic", "json", "put"])
def test_changes_are_checked_too(maps: Resource, kind: str) -> None:
    """Updates and patches take fieldValidation."""
    made = maps.create(config_map("one"))
    body: object = {"datas": {"a": "1"}}
    if kind == "json":
        body = [{"op": "add", "path": "/datas", "value": {}}]
    strict = {"fieldValidation": "Strict"}

    def change() -> Json:
        return (
            maps.replace(config_map("one") | {"datas": {}}, **strict)
            if kind == "put"
            else maps.patch("one", body, kind, **strict)
        )

    with pytest.raises(Refused, match='unknown field "datas"'):
        change()
    assert maps.get("one") == made


def test_custom_resources_are_checked(define, ns: Namespace) -> None:
    """Unknown fields of a custom resource are named by path; so are unknown metadata fields."""
    group = define(schema(fields(a={"type": "integer"}, deep=fields(b={"type": "string"}))))
    things = ns(f"{group}/v1/widgets")
    body = custom(group, "one", {"a": 1, "x": 1, "deep": {"b": "1", "y": 2}})
    body["metadata"]["zap"] = 1
    response = send(things, json.dumps(body), fieldValidation="Strict")
    assert response.status_code == 400
    for path in ("spec.x", "spec.deep.y", "metadata.zap"):
        assert f'unknown field "{path}"' in response.json()["message"]
    warned = send(things, json.dumps(body), fieldValidation="Warn")
    assert warned.status_code == 201
    assert sorted(warnings(warned)) == [
        f'299 - "unknown field \\"{path}\\""' for path in ("metadata.zap", "spec.deep.y", "spec.x")
    ]
    assert things.get("one")["spec"] == {"a": 1, "deep": {"b": "1"}}


# Shape


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        ("configmaps", config_map("one", {"a": 1})),
        ("configmaps", config_map("one") | {"data": ["a"]}),
        ("configmaps", config_map("one", labels={"a": 1})),
        ("configmaps", config_map("one") | {"metadata": "one"}),
        ("configmaps", config_map("one") | {"immutable": "yes"}),
        ("secrets", secret("one", {"a": "not base64!"})),
        ("pods", pod("one", containers={"name": "x"})),
        ("pods", pod("one", terminationGracePeriodSeconds="soon")),
        ("apps/v1/deployments", deployment("one", replicas=1.5)),
        ("apps/v1/deployments", deployment("one", replicas="3")),
        ("pods", pod("one", containers=[container(resources={"limits": {"cpu": "lots"}})])),
    ],
    ids=range(11),
)
def test_values_of_the_wrong_type(ns: Namespace, resource: str, body: Json) -> None:
    """What does not decode into the type is a bad request, before validation."""
    with refused(400, "BadRequest"):
        ns(resource).create(body)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "null", "1", '{"a":1}x'], ids=range(7))
def test_bodies_that_are_no_object(maps: Resource, text: str) -> None:
    """An empty, broken or other body is a bad request."""
    response = send(maps, text)
    assert response.status_code in {400, 422}, response.text
    assert response.json()["kind"] == "Status"


def test_deep_nesting_is_refused(maps: Resource) -> None:
    """A body nested ten thousand deep costs no stack: it is refused."""
    response = send(maps, '{"data":' * 20_000 + "{}" + "}" * 20_000)
    assert response.status_code in {400, 413}


def test_large_numbers_survive(widgets: Resource, widgets_group: str) -> None:
    """64-bit integers and floats of custom resources come back as they were; integers stay integers."""
    spec = {"max": 2**63 - 1, "min": -(2**63), "float": 1.5, "whole": 3, "tiny": 1e-9}
    widgets.create(custom(widgets_group, "one", spec))
    assert widgets.get("one")["spec"] == spec
    assert re.search(r'"whole":3[,}]', widgets.api.request("GET", widgets.at("one")).text)


# Metadata


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"labels": {"-bad": "x"}}, "metadata.labels"),
        ({"labels": {"ok": "bad value"}}, "metadata.labels"),
        ({"labels": {"ok": "x" * 64}}, "metadata.labels"),
        ({"labels": {"a/b/c": "x"}}, "metadata.labels"),
        ({"labels": {"x" * 64: "x"}}, "metadata.labels"),
        ({"annotations": {"bad key": "x"}}, "metadata.annotations"),
        ({"annotations": {"big": "x" * 262_145}}, "metadata.annotations"),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "", "name": "n", "uid": "u"}]}, "metadata.ownerReferences"),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": ""}]}, "metadata.ownerReferences"),
        ({"finalizers": ["nodomain"]}, "metadata.finalizers"),
    ],
    ids=range(10),
)
def test_metadata_rules(maps: Resource, change: Json, field: str) -> None:
    """Labels, annotations, owner references and finalizers have rules; the cause names the field."""
    with refused(422, "Invalid") as error:
        maps.create(config_map("one", **change))
    assert error.causes[0][0].startswith(field)


def test_annotation_values_are_free(maps: Resource) -> None:
    """Any text is an annotation's value, and a key's prefix may have capitals, unlike a label's."""
    annotations = {"example.com/x": 'any text {"a": [1]}\n', "UPPER/lower_1.2": ""}
    assert maps.create(config_map("one", annotations=annotations))["metadata"]["annotations"] == annotations
    with refused(422, "Invalid"):
        maps.create(config_map("two", labels={"UPPER/lower_1.2": ""}))


def test_two_controllers_are_one_too_many(maps: Resource) -> None:
    """At most one owner reference is the controller."""

    def owner(name: str) -> Json:
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name * 4, "controller": True}

    with refused(422, "Invalid", "Only one reference can have Controller set to true") as error:
        maps.create(config_map("one", ownerReferences=[owner("a"), owner("b")]))
    assert error.causes == [("metadata.ownerReferences", "FieldValueInvalid")]


# ConfigMaps and Secrets


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (config_map("one", {"bad key": "x"}), "data[bad key]"),
        (config_map("one", {"..": "x"}), "data[..]"),
        (config_map("one", {"k" * 254: "x"}), "data[" + "k" * 254 + "]"),
        (config_map("one", {"a": "x"}) | {"binaryData": {"a": "AA=="}}, "data[a]"),
    ],
    ids=["space", "dots", "long", "both"],
)
def test_config_map_keys(maps: Resource, body: Json, field: str) -> None:
    """Keys are file names, and in data or binaryData, not both."""
    with refused(422, "Invalid") as error:
        maps.create(body)
    assert error.causes[0] == (field, "FieldValueInvalid")


def test_config_maps_have_a_size(maps: Resource) -> None:
    """More than 1 MiB of data is too much."""
    with refused(422, "Invalid") as error:
        maps.create(config_map("one", {"a": "x" * (1024 * 1024 + 1)}))
    assert [reason for _, reason in error.causes] == ["FieldValueTooLong"]


def test_secret_string_data(ns: Namespace) -> None:
    """stringData is written into data, wins over it, and is never read back."""
    secrets = ns("secrets")
    made = secrets.create(secret("one", {"a": "b2xk", "b": "Yg=="}, stringData={"a": "new"}))
    assert made["data"] == {"a": "bmV3", "b": "Yg=="}
    assert made["type"] == "Opaque"
    assert "stringData" not in secrets.get("one")


def test_a_secret_may_hold_nothing(ns: Namespace) -> None:
    """An empty value is a value."""
    assert ns("secrets").create(secret("one", {"a": ""}, stringData={"b": ""}))["data"] == {"a": "", "b": ""}


@pytest.mark.parametrize(
    ("type_", "data", "field"),
    [
        ("kubernetes.io/basic-auth", {}, "data[%s]"),
        ("kubernetes.io/tls", {"tls.crt": "AA=="}, "data[tls.key]"),
        ("kubernetes.io/dockerconfigjson", {}, "data[.dockerconfigjson]"),
        ("kubernetes.io/dockerconfigjson", {".dockerconfigjson": "e2JhZA=="}, "data[.dockerconfigjson]"),
        ("kubernetes.io/ssh-auth", {}, "data[ssh-privatekey]"),
        ("kubernetes.io/service-account-token", {}, "metadata.annotations[kubernetes.io/service-account.name]"),
    ],
    ids=range(6),
)
def test_secret_types(ns: Namespace, type_: str, data: Json, field: str) -> None:
    """Known types of Secret have keys that must be there."""
    with refused(422, "Invalid") as error:
        ns("secrets").create(secret("one", data, type=type_))
    assert error.causes[0][0].split("[")[0] == field.split("[", maxsplit=1)[0]


def test_secret_type_is_immutable(ns: Namespace) -> None:
    """A Secret keeps its type."""
    ns("secrets").create(secret("one", type="example.com/a"))
    with refused(422, "Invalid", "field is immutable") as error:
        ns("secrets").patch("one", {"type": "example.com/b"})
    assert error.causes == [("type", "FieldValueInvalid")]


def test_immutable_secret(ns: Namespace) -> None:
    """An immutable Secret takes no other data."""
    ns("secrets").create(secret("one", {"a": "AA=="}, immutable=True))
    with refused(422, "Invalid", "field is immutable when `immutable` is set"):
        ns("secrets").patch("one", {"data": {"a": "AQ=="}})


# All errors at once


def test_all_errors_come_at_once(pods: Resource) -> None:
    """Every wrong field is a cause, and the message lists them all."""
    bad = pod(
        "Bad_Name", restartPolicy="Sometimes", containers=[{"name": "c"}, container("c", ports=[{"containerPort": 0}])]
    )
    with refused(422, "Invalid", 'Pod "Bad_Name" is invalid: [') as error:
        pods.create(bad)
    assert error.details["kind"] == "Pod"
    assert error.details["name"] == "Bad_Name"
    assert set(error.causes) >= {
        ("metadata.name", "FieldValueInvalid"),
        ("spec.containers[0].image", "FieldValueRequired"),
        ("spec.containers[1].name", "FieldValueDuplicate"),
        ("spec.containers[1].ports[0].containerPort", "FieldValueRequired"),
        ("spec.restartPolicy", "FieldValueNotSupported"),
    }
    for field, _ in error.causes:
        assert field in error.message


def test_quantities_are_canonical(pods: Resource) -> None:
    """Quantities are stored in their canonical form."""
    resources = {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"cpu": "2000m", "memory": "1.5Gi"}}
    made = pods.create(pod("one", schedulerName="none", containers=[container(resources=resources)]))
    got = made["spec"]["containers"][0]["resources"]
    assert got == {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1536Mi"}}


def test_warnings_of_doubtful_things(ns: Namespace) -> None:
    """What works but is hardly meant draws a Warning header of the 299 kind: a variable or a port given twice."""
    body = job("one")
    main = body["spec"]["template"]["spec"]["containers"][0]
    main["env"] = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    main["ports"] = [{"containerPort": 80}, {"containerPort": 80}]
    response = send(ns("batch/v1/jobs"), json.dumps(body))
    assert response.status_code == 201
    assert any("hides previous definition" in text for text in warnings(response))
    assert any("duplicate port definition" in text for text in warnings(response))


def test_selectors_are_checked(ns: Namespace) -> None:
    """A workload's selector must match its template's labels; it cannot be empty."""
    deployments = ns("apps/v1/deployments")
    with refused(422, "Invalid", "`selector` does not match template `labels`") as error:
        deployments.create(deployment("web", selector={"matchLabels": {"other": "1"}}))
    assert error.causes == [("spec.template.metadata.labels", "FieldValueInvalid")]
    with refused(422, "Invalid"):
        deployments.create(deployment("web", selector={"matchLabels": {}}))
    expressions = {"matchExpressions": [{"key": "app", "operator": "In", "values": [WEB_LABELS["app"]]}]}
    assert deployments.create(deployment("web", selector=expressions))["spec"]["selector"] == expressions
