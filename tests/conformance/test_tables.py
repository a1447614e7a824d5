"""Tables: what `kubectl get` prints comes from the server."""

import re

import pytest

from .client import TABLE, Api, Json, Resource
from .objects import config_map, container, custom, deployment, fields, job, lease, pod, schema, secret, service
from .surroundings import Namespace


def columns(table: Json) -> list[str]:
    return [column["name"] for column in table["columnDefinitions"]]


def rows(table: Json) -> list[Json]:
    """Each row as a mapping from column to cell."""
    return [dict(zip(columns(table), row["cells"], strict=True)) for row in table["rows"]]


def table_of(resource: Resource, name: str = "", **query: object) -> Json:
    return resource.api.table(resource.at(name) if name else resource.path, **query)


def test_the_shape_of_a_table(maps: Resource) -> None:
    """columnDefinitions describe, rows hold cells and the object's metadata, the list's version is there."""
    made = maps.create(config_map("one", {"a": "1", "b": "2"}))
    table = table_of(maps, fieldSelector="metadata.name=one")
    assert columns(table) == ["Name", "Data", "Age"]
    assert table["columnDefinitions"][0].keys() == {"name", "type", "format", "description", "priority"}
    assert (table["columnDefinitions"][0]["type"], table["columnDefinitions"][0]["format"]) == ("string", "name")
    assert table["metadata"]["resourceVersion"]
    (row,) = table["rows"]
    assert row["cells"][:2] == ["one", 2]
    assert re.match(r"^\d+s$", row["cells"][2])
    assert (row["object"]["kind"], row["object"]["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    assert row["object"]["metadata"]["uid"] == made["metadata"]["uid"]


def test_a_table_of_one_object(maps: Resource) -> None:
    """GET of one object as a table is a table of one row."""
    maps.create(config_map("one"))
    assert [row["Name"] for row in rows(table_of(maps, "one"))] == ["one"]


def test_an_empty_table(ns: Namespace) -> None:
    """No objects: the columns and no rows."""
    table = table_of(ns("coordination.k8s.io/v1/leases"))
    assert columns(table) == ["Name", "Holder", "Age"]
    assert table["rows"] == []


@pytest.mark.parametrize(
    ("include", "expected"), [("Object", "ConfigMap"), ("Metadata", "PartialObjectMetadata"), ("None", None)]
)
def test_what_rows_include(maps: Resource, include: str, expected: str | None) -> None:
    """includeObject says how much of the object a row carries."""
    maps.create(config_map("one", {"a": "1"}))
    (row,) = table_of(maps, fieldSelector="metadata.name=one", includeObject=include)["rows"]
    assert (row.get("object") or {}).get("kind") == expected


def test_tables_have_pages(ns: Namespace) -> None:
    """limit and continue work on tables."""
    resource = ns("secrets")
    for number in range(5):
        resource.create(secret(f"s{number}"))
    first = table_of(resource, limit=3)
    second = table_of(resource, limit=3, **{"continue": first["metadata"]["continue"]})
    assert [row["Name"] for row in rows(first) + rows(second)] == ["s0", "s1", "s2", "s3", "s4"]
    assert first["metadata"]["remainingItemCount"] == 2


def test_pods(pods: Resource) -> None:
    """Ready containers of all, status, restarts, age; more with low priority."""
    pods.create(pod("one", schedulerName="none", containers=[container("a"), container("b")]))
    table = table_of(pods)
    assert columns(table) == [
        "Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates",
    ]  # fmt: skip
    assert [column["priority"] for column in table["columnDefinitions"]] == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    row = rows(table)[0]
    assert (row["Name"], row["Ready"], row["Status"], row["Restarts"]) == ("one", "0/2", "Pending", "0")
    assert (row["IP"], row["Node"], row["Nominated Node"], row["Readiness Gates"]) == ("<none>",) * 4


def container_status(name: str, state: Json, **fields_: object) -> Json:
    return {"name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state} | fields_


@pytest.mark.parametrize(
    ("phase", "statuses", "ready", "status", "restarts"),
    [
        ("Running", [container_status("a", {"running": {}}, ready=True, restartCount=3)], "1/1", "Running", "3"),
        (
            "Pending",
            [container_status("a", {"waiting": {"reason": "ContainerCreating"}})],
            "0/1",
            "ContainerCreating",
            "0",
        ),
        (
            "Running",
            [container_status("a", {"waiting": {"reason": "CrashLoopBackOff"}})],
            "0/1",
            "CrashLoopBackOff",
            "0",
        ),
        (
            "Succeeded",
            [container_status("a", {"terminated": {"exitCode": 0, "reason": "Completed"}})],
            "0/1",
            "Completed",
            "0",
        ),
        ("Failed", [container_status("a", {"terminated": {"exitCode": 7, "reason": "Error"}})], "0/1", "Error", "0"),
        ("Failed", [container_status("a", {"terminated": {"exitCode": 9}})], "0/1", "ExitCode:9", "0"),
        ("Failed", [container_status("a", {"terminated": {"exitCode": 0, "signal": 9}})], "0/1", "Signal:9", "0"),
    ],
    ids=["running", "creating", "crash-loop", "completed", "error", "exit-code", "signal"],
)
def test_status_of_pods(
    pods: Resource, phase: str, statuses: list[Json], ready: str, status: str, restarts: str
) -> None:
    """The status column says what the containers say."""
    pods.create(pod("one", schedulerName="none", containers=[container("a")]))
    pods.patch("one", {"status": {"phase": phase, "containerStatuses": statuses}}, subresource="status")
    row = rows(table_of(pods))[0]
    assert (row["Ready"], row["Status"], row["Restarts"]) == (ready, status, restarts)


def test_a_terminating_pod(pods: Resource) -> None:
    """A Pod that waits for its node to stop it is Terminating."""
    pods.create(pod("one", nodeName="nowhere"))
    pods.delete("one")
    assert rows(table_of(pods))[0]["Status"] == "Terminating"
    assert rows(table_of(pods))[0]["Node"] == "nowhere"
    pods.delete("one", gracePeriodSeconds=0)


@pytest.mark.parametrize(
    ("resource", "body", "expected"),
    [
        (
            "apps/v1/deployments",
            deployment("one", replicas=0),
            {
                "Name": "one",
                "Ready": "0/0",
                "Up-to-date": 0,
                "Available": 0,
                "Containers": "main",
                "Images": "registry.invalid/none:1",
                "Selector": "app=web",
            },
        ),
        (
            "services",
            service(
                "one", clusterIP="None", ports=[{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"}]
            ),
            {
                "Name": "one",
                "Type": "ClusterIP",
                "Cluster-IP": "None",
                "External-IP": "<none>",
                "Port(s)": "80/TCP,53/UDP",
                "Selector": "app=web",
            },
        ),
        (
            "batch/v1/jobs",
            job("one", suspend=True),
            {
                "Name": "one",
                "Status": "Suspended",
                "Completions": "0/1",
                "Duration": "",
                "Containers": "main",
                "Images": "registry.invalid/none:1",
            },
        ),
        ("secrets", secret("one", {"a": "AA=="}), {"Name": "one", "Type": "Opaque", "Data": 1}),
        ("coordination.k8s.io/v1/leases", lease("one", holderIdentity="me"), {"Name": "one", "Holder": "me"}),
        (
            "serviceaccounts",
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "one"}},
            {"Name": "one"},
        ),
    ],
    ids=["deployment", "service", "job", "secret", "lease", "serviceaccount"],
)
def test_built_in_kinds(ns: Namespace, resource: str, body: Json, expected: Json) -> None:
    """Each built-in kind has the columns kubectl's users know."""
    things = ns(resource)
    things.create(body)
    if resource == "batch/v1/jobs":
        expected = {key: value for key, value in expected.items() if key not in {"Status", "Duration"}}
    row = rows(table_of(things, fieldSelector="metadata.name=one"))[0]
    assert {key: value for key, value in row.items() if key in expected} == expected


def test_namespaces(api: Api, ns: Namespace) -> None:
    """A namespace shows its phase."""
    (row,) = rows(api.table("/api/v1/namespaces", fieldSelector=f"metadata.name={ns.name}"))
    assert (row["Name"], row["Status"]) == (ns.name, "Active")


def test_default_columns_of_a_custom_kind(widgets: Resource, widgets_group: str) -> None:
    """Without printer columns: name and age."""
    widgets.create(custom(widgets_group, "one"))
    table = table_of(widgets)
    assert columns(table) == ["Name", "Age"]
    assert rows(table)[0]["Name"] == "one"


PRINTED = [
    {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "how big"},
    {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
    {"name": "Ok", "type": "boolean", "jsonPath": ".spec.ok"},
    {"name": "Ready", "type": "string", "jsonPath": '.spec.conditions[?(@.type=="Ready")].status'},
    {"name": "Ratio", "type": "number", "jsonPath": ".spec.ratio"},
    {"name": "Names", "type": "string", "jsonPath": ".spec.items[*].name"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]


def test_printer_columns(define, ns: Namespace) -> None:
    """additionalPrinterColumns follow the name: types, priority and JSON paths as declared; absent is null."""
    group = define(version={"additionalPrinterColumns": PRINTED})
    things = ns(f"{group}/v1/widgets")
    spec = {
        "size": 3,
        "color": "red",
        "ok": False,
        "conditions": [{"type": "Odd", "status": "False"}, {"type": "Ready", "status": "True"}],
        "ratio": 0.5,
        "items": [{"name": "x"}, {"name": "y"}],
    }
    things.create(custom(group, "full", spec))
    things.create(custom(group, "none", {}))
    table = table_of(things)
    assert columns(table) == ["Name", "Size", "Color", "Ok", "Ready", "Ratio", "Names", "Age"]
    definition = table["columnDefinitions"][1]
    assert (definition["type"], definition["description"], definition["priority"]) == ("integer", "how big", 0)
    assert table["columnDefinitions"][2]["priority"] == 1
    full, none = rows(table)
    assert (full["Size"], full["Color"], full["Ok"], full["Ready"], full["Ratio"]) == (3, "red", False, "True", 0.5)
    assert full["Names"] == "x"
    assert re.match(r"^\d+s$", full["Age"])
    assert (none["Size"], none["Color"], none["Ok"], none["Ready"]) == (None, None, None, None)


def test_tables_are_watched(maps: Resource) -> None:
    """A watch as a table sends one-row tables; only the first names the columns."""
    start = maps.list()["metadata"]["resourceVersion"]
    for name in ("a", "b"):
        maps.create(config_map(name, labels={"mine": "1"}))
    query = {"resourceVersion": start, "labelSelector": "mine"}
    with maps.api.watch(maps.path, headers={"Accept": TABLE}, **query) as watch:
        first, second = watch.take(2)
    assert first.object["kind"] == second.object["kind"] == "Table"
    assert columns(first.object) == ["Name", "Data", "Age"]
    assert not second.object.get("columnDefinitions")
    assert [event.object["rows"][0]["cells"][0] for event in (first, second)] == ["a", "b"]
    assert first.object["rows"][0]["object"]["metadata"]["name"] == "a"


def test_a_table_watch_has_bookmarks(ns: Namespace) -> None:
    """The end of the initial events comes as a table whose row carries the version and the annotation."""
    leases = ns("coordination.k8s.io/v1/leases")
    leases.create(lease("one"))
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    with leases.api.watch(leases.path, headers={"Accept": TABLE}, **query) as watch:
        watch.next()
        end = watch.next()
    assert end.type == "BOOKMARK"
    meta = end.object["rows"][0]["object"]["metadata"]
    assert meta["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(meta["resourceVersion"]) > 0


def test_a_type_nobody_can_print(maps: Resource) -> None:
    """A table version that is not known is not acceptable, unless the client also takes JSON."""
    maps.create(config_map("one"))
    strange = "application/json;as=Table;v=v9;g=meta.k8s.io"
    assert maps.api.request("GET", maps.path, headers={"Accept": strange}).status_code == 406
    got = maps.api.request("GET", maps.path, headers={"Accept": f"{strange},application/json"})
    assert got.json()["kind"] == "ConfigMapList"


def test_definitions_as_tables(api: Api, define) -> None:
    """CRDs are printed with name and time."""
    group = define(schema(fields(a={"type": "string"})))
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    (row,) = rows(api.table(path, fieldSelector=f"metadata.name=widgets.{group}"))
    assert row["Name"] == f"widgets.{group}"
    assert "Created At" in row
