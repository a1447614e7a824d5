"""Tables: the cells that `kubectl get` shows for each kind, ages, and JSONPath."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.local.apiserver.schema.ages import age, human_duration, parsed_time
from mizzen.local.apiserver.schema.builtin import BUILTIN_TYPES
from mizzen.local.apiserver.schema.jsonpath import PathError, find, first
from mizzen.local.apiserver.schema.table import cells_of, columns_of, table
from mizzen.local.apiserver.types import Column, Json, ResourceType

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
TYPES = {(rtype.group, rtype.kind): rtype for rtype in BUILTIN_TYPES}
META = {"name": "a", "creationTimestamp": "2026-01-31T11:58:30Z"}
DAY_S = 86400


def cells(group: str, kind: str, **fields: Any) -> list[Any]:
    meta = {**META, **fields.pop("metadata", {})}
    return cells_of(TYPES[group, kind], {"metadata": meta, **fields}, NOW)


# -- Pods

RUNNING = {"name": "c", "ready": True, "restartCount": 0, "state": {"running": {}}}


def state(**told: Any) -> Json:
    return {"name": "c", "ready": False, "restartCount": told.pop("restarts", 0), "state": told}


def pod(statuses: list[Json], *, phase: str = "Running", spec: Json | None = None, **told: Any) -> list[Any]:
    metadata = told.pop("metadata", {})
    status = {"phase": phase, "containerStatuses": statuses, **told}
    body = {"containers": [{"name": "c"}] * max(1, len(statuses)), **(spec or {})}
    return cells("", "Pod", spec=body, status=status, metadata=metadata)[1:4]


READY = [{"type": "Ready", "status": "True"}]
PODS: list[tuple[list[Any], list[Any]]] = [
    (pod([RUNNING]), ["1/1", "Running", "0"]),
    (pod([], phase="Pending"), ["0/1", "Pending", "0"]),
    (pod([state(waiting={"reason": "ContainerCreating"})], phase="Pending"), ["0/1", "ContainerCreating", "0"]),
    (
        pod([state(waiting={"reason": "CrashLoopBackOff"}, restarts=3)]),
        ["0/1", "CrashLoopBackOff", "3"],
    ),
    (
        pod([{**RUNNING, "restartCount": 2, "lastState": {"terminated": {"finishedAt": "2026-01-31T11:57:00Z"}}}]),
        ["1/1", "Running", "2 (3m ago)"],
    ),
    (
        pod([state(terminated={"exitCode": 0, "reason": "Completed"})], phase="Succeeded"),
        ["0/1", "Completed", "0"],
    ),
    (pod([state(terminated={"exitCode": 1, "reason": "Error"})], phase="Failed"), ["0/1", "Error", "0"]),
    (pod([state(terminated={"exitCode": 137, "reason": "OOMKilled"})], phase="Failed"), ["0/1", "OOMKilled", "0"]),
    (pod([state(terminated={"exitCode": 3})], phase="Failed"), ["0/1", "ExitCode:3", "0"]),
    (pod([state(terminated={"exitCode": 1, "signal": 9})], phase="Failed"), ["0/1", "Signal:9", "0"]),
    (
        pod([state(terminated={"exitCode": 0, "reason": "Completed"}), RUNNING]),
        ["1/2", "NotReady", "0"],
    ),
    (
        pod([state(terminated={"exitCode": 0, "reason": "Completed"}), RUNNING], conditions=READY),
        ["1/2", "Running", "0"],
    ),
    (pod([RUNNING], metadata={"deletionTimestamp": "2026-01-31T12:00:00Z"}), ["1/1", "Terminating", "0"]),
    (pod([], phase="Failed", reason="Evicted"), ["0/1", "Evicted", "0"]),
    (
        pod([], phase="Pending", spec={"initContainers": [{"name": "i"}]}, initContainerStatuses=[
            {"name": "i", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
        ]),
        ["0/1", "Init:CrashLoopBackOff", "1"],
    ),
    (
        pod([], phase="Pending", spec={"initContainers": [{"name": "i"}, {"name": "j"}]}, initContainerStatuses=[
            {"name": "i", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
            {"name": "j", "restartCount": 0, "state": {"running": {}}},
        ]),
        ["0/1", "Init:1/2", "0"],
    ),
    (
        pod([RUNNING], spec={"initContainers": [{"name": "s", "restartPolicy": "Always"}]}, initContainerStatuses=[
            {"name": "s", "restartCount": 1, "started": True, "ready": True, "state": {"running": {}}},
        ]),
        ["2/2", "Running", "1"],
    ),
    (
        pod([], phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]),
        ["0/1", "SchedulingGated", "0"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("shown", "expected"), PODS, ids=[expected[1] for _, expected in PODS])
def test_pods(shown: list[Any], expected: list[Any]) -> None:
    assert shown == expected


def test_a_pod_says_where_it_is() -> None:
    spec = {"containers": [], "nodeName": "n1", "readinessGates": [{"conditionType": "g"}]}
    got = cells("", "Pod", spec=spec, status={"podIPs": [{"ip": "10.0.0.1"}]})
    assert got[4:] == ["90s", "10.0.0.1", "n1", "<none>", "0/1"]


# -- the other kinds

TEMPLATE = {"spec": {"containers": [{"name": "c", "image": "x"}, {"name": "d", "image": "y"}]}}
SELECTOR = {
    "matchLabels": {"b": "2", "a": "1"},
    "matchExpressions": [{"key": "t", "operator": "In", "values": ["y", "x"]}],
}
WIDE = ["c,d", "x,y", "a=1,b=2,t in (x,y)"]
SHOWN: list[tuple[str, str, Json, list[Any]]] = [
    (
        "apps", "Deployment",
        {"spec": {"replicas": 3, "template": TEMPLATE, "selector": SELECTOR},
         "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}},
        ["a", "1/3", 2, 1, "90s", *WIDE],
    ),
    (
        "apps", "ReplicaSet",
        {"spec": {"replicas": 3, "template": TEMPLATE, "selector": SELECTOR},
         "status": {"replicas": 3, "readyReplicas": 2}},
        ["a", 3, 3, 2, "90s", *WIDE],
    ),
    (
        "batch", "Job",
        {"spec": {"completions": 2, "template": TEMPLATE, "selector": SELECTOR},
         "status": {"succeeded": 2, "startTime": "2026-01-31T11:58:30Z", "completionTime": "2026-01-31T11:59:00Z",
                    "conditions": [{"type": "Complete", "status": "True"}]}},
        ["a", "Complete", "2/2", "30s", "90s", *WIDE],
    ),
    (
        "batch", "Job", {"spec": {"parallelism": 3}, "status": {"startTime": "2026-01-31T11:59:00Z"}},
        ["a", "Running", "0/1 of 3", "60s", "90s", "", "", "<none>"],
    ),
    (
        "", "Service",
        {"spec": {"type": "ClusterIP", "clusterIP": "None", "ports": [{"port": 80, "protocol": "TCP"}],
                  "selector": {"a": "b"}}},
        ["a", "ClusterIP", "None", "<none>", "80/TCP", "90s", "a=b"],
    ),
    (
        "", "Service",
        {"spec": {"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30000, "protocol": "UDP"}]},
         "status": {"loadBalancer": {"ingress": [{"hostname": "h"}]}}},
        ["a", "LoadBalancer", "<none>", "h", "80:30000/UDP", "90s", "<none>"],
    ),
    (
        "", "Node",
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": True},
         "status": {"conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "1"}],
                    "nodeInfo": {"kubeletVersion": "v1", "kernelVersion": "6", "architecture": "amd64"}}},
        ["a", "Ready,SchedulingDisabled", "control-plane", "90s", "v1", "1", "<none>", "<unknown>", "6 (amd64)",
         "<unknown>"],
    ),
    (
        "", "Event",
        {"involvedObject": {"kind": "Pod", "name": "p"}, "type": "Warning", "reason": "BackOff", "message": " m\n",
         "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": "2026-01-31T11:00:00Z",
         "lastTimestamp": "2026-01-31T11:59:55Z", "count": 4},
        ["5s", "Warning", "BackOff", "pod/p", "", "kubelet, n", "m", "60m", 4, "a"],
    ),
    (
        "events.k8s.io", "Event",
        {"regarding": {"kind": "Pod", "name": "p"}, "note": "m", "reportingController": "c",
         "eventTime": "2026-01-31T11:59:55.123456Z"},
        ["4s", "", "", "pod/p", "", "c", "m", "4s", 1, "a"],
    ),
    ("", "Namespace", {"status": {"phase": "Active"}}, ["a", "Active", "90s"]),
    ("", "Secret", {"type": "Opaque", "data": {"a": "", "b": ""}}, ["a", "Opaque", 2, "90s"]),
    ("", "ConfigMap", {"data": {"a": ""}, "binaryData": {"b": ""}}, ["a", 2, "90s"]),
    ("", "ServiceAccount", {}, ["a", "90s"]),
    ("coordination.k8s.io", "Lease", {"spec": {"holderIdentity": "h"}}, ["a", "h", "90s"]),
    (
        "discovery.k8s.io", "EndpointSlice",
        {"addressType": "IPv4", "ports": [{"port": 80}],
         "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3", "4", "5"]}]},
        ["a", "IPv4", "80", "1,2,3 + 2 more...", "90s"],
    ),
    ("discovery.k8s.io", "EndpointSlice", {"addressType": "IPv4"}, ["a", "IPv4", "<unset>", "<unset>", "90s"]),
    (
        "rbac.authorization.k8s.io", "RoleBinding",
        {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
        ]},
        ["a", "Role/r", "90s", "u", "g", "n/s"],
    ),
    ("rbac.authorization.k8s.io", "Role", {}, ["a", META["creationTimestamp"]]),
]  # fmt: skip


@pytest.mark.parametrize(("group", "kind", "fields", "expected"), SHOWN, ids=[kind for _, kind, _, _ in SHOWN])
def test_cells(group: str, kind: str, fields: Json, expected: list[Any]) -> None:
    assert cells(group, kind, **dict(fields)) == expected


@pytest.mark.parametrize("rtype", BUILTIN_TYPES, ids=lambda rtype: f"{rtype.group}/{rtype.kind}")
def test_there_is_a_cell_for_each_column(rtype: ResourceType) -> None:
    """Also of an object that says nothing about itself."""
    assert len(cells_of(rtype, {"metadata": {"name": "a"}}, NOW)) == len(columns_of(rtype))


CUSTOM = ResourceType(
    "example.com", "v1", "Widget", "widgets", "widget", True, dict, custom=True,
    columns=(
        Column("Size", "integer", ".spec.size"),
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Tags", "string", ".spec.tags", priority=1),
        Column("On", "boolean", ".spec.on"),
        Column("Load", "number", ".spec.load"),
        Column("Age", "date", ".metadata.creationTimestamp"),
    ),
)  # fmt: skip


def test_custom_columns_show_what_their_paths_name() -> None:
    spec = {"size": 3.7, "tags": ["a", {"b": 1}], "on": True, "load": 2}
    status = {"conditions": [{"type": "Other", "status": "x"}, {"type": "Ready", "status": "True"}]}
    assert cells_of(CUSTOM, {"metadata": META, "spec": spec, "status": status}, NOW) == [
        "a", 3, "True", '["a",{"b":1}]', True, 2, "90s",
    ]  # fmt: skip
    wrong = {"size": "x", "on": 1, "load": []}
    assert cells_of(CUSTOM, {"metadata": {"name": "a", "creationTimestamp": "?"}, "spec": wrong}, NOW) == [
        "a", None, None, None, None, None, "<invalid>",
    ]  # fmt: skip


def test_a_table_carries_as_much_of_each_object_as_is_asked_for() -> None:
    obj = {"metadata": META, "spec": {"size": 1}}
    whole = table(CUSTOM, [obj], "Object", NOW, {"resourceVersion": "5"})
    assert (whole["kind"], whole["apiVersion"], whole["metadata"]) == (
        "Table",
        "meta.k8s.io/v1",
        {"resourceVersion": "5"},
    )
    assert [column["name"] for column in whole["columnDefinitions"]][:2] == ["Name", "Size"]
    assert whole["columnDefinitions"][1] == {
        "name": "Size", "type": "integer", "format": "", "priority": 0,
        "description": "Custom resource definition column (in JSONPath format): .spec.size",
    }  # fmt: skip
    assert whole["rows"][0]["object"] is obj
    partial = table(CUSTOM, [obj], "Metadata", NOW, {})["rows"][0]["object"]
    assert partial == {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": META}
    assert "object" not in table(CUSTOM, [obj], "None", NOW, {})["rows"][0]
    assert table(CUSTOM, [obj], "None", NOW, {}, headers=False)["columnDefinitions"] is None


# -- ages and paths


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (599, "9m59s"), (600, "10m"),
        (3 * 3600 - 1, "179m"), (3 * 3600, "3h"), (8 * 3600 - 60, "7h59m"), (8 * 3600, "8h"), (2 * DAY_S - 1, "47h"),
        (2 * DAY_S, "2d"), (3 * DAY_S + 3600, "3d1h"), (8 * DAY_S, "8d"), (700 * DAY_S, "700d"), (730 * DAY_S, "2y"),
        (3 * 365 * DAY_S + 5 * DAY_S, "3y5d"), (9 * 365 * DAY_S, "9y"),
    ],
)  # fmt: skip
def test_durations_are_rounded_as_kubernetes_does(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_times_are_read_in_every_precision_and_zone(moment: datetime) -> None:
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    text = whole.strftime("%Y-%m-%dT%H:%M:%S")
    assert parsed_time(f"{text}Z") == parsed_time(f"{text}.000000000Z") == parsed_time(f"{text}+00:00") == whole
    assert parsed_time(f"{text}+01:00") == whole - timedelta(hours=1)


def test_what_is_no_time_has_no_age() -> None:
    assert [age(text, NOW) for text in (None, "", "yesterday", "2026-02-30T00:00:00Z")] == ["<unknown>"] * 4


OBJ = {
    "metadata": {"labels": {"app.kubernetes.io/name": "x", "a": "b"}},
    "items": [{"n": 1, "t": "a"}, {"n": 2, "t": "b", "on": True}, {"n": 3.5, "deep": {"t": "b"}}],
    "empty": {},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".items[0].n", [1]),
        (".items[-1].n", [3.5]),
        (".items[9].n", []),
        (".items[*].n", [1, 2, 3.5]),
        (".items[1:3].n", [2, 3.5]),
        (".items[::2].n", [1, 3.5]),
        (".items[:1].n", [1]),
        (r".metadata.labels.app\.kubernetes\.io/name", ["x"]),
        (".metadata.labels['app\\.kubernetes\\.io/name']", ["x"]),
        ("['metadata']['labels'].a", ["b"]),
        ('.items[?(@.t=="b")].n', [2]),
        ("$.items[?(@.t=='b')].n", [2]),
        ('.items[?(@.t!="b")].n', [1]),
        (".items[?(@.n>1)].n", [2, 3.5]),
        (".items[?(@.n<=1)].t", ["a"]),
        (".items[?(@.on)].n", [2]),
        (".items[?(@.on==true)].n", [2]),
        ('.items[?(@.deep.t=="b")].n', [3.5]),
        (".metadata.labels.*", ["x", "b"]),
        ("{.items[0].t}", ["a"]),
        (".nothing.here[0]", []),
        (".empty", [{}]),
        (".", [OBJ]),
    ],
)
def test_paths(path: str, expected: list[Any]) -> None:
    assert find(path, OBJ) == expected
    assert first(path, OBJ) == (expected[0] if expected else None)


@pytest.mark.parametrize("path", ["..a", ".a[", ".a[?(@.b==c)]", ".a]", ".a[x]", ".a[-:1]", ".a[::0]"])
def test_paths_that_cannot_be_read(path: str) -> None:
    with pytest.raises(PathError):
        find(path, OBJ)
