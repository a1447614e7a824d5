"""Pods: what is filled in, what is refused, what may change, how they are bound and evicted."""

import pytest

from .client import Api, Json, Refused, Resource, refused
from .objects import container, node, pod


def test_defaults(pods: Resource) -> None:
    """A Pod of one container gets all the defaults that a node relies on."""
    made = pods.create(pod("one", containers=[container("main", ports=[{"containerPort": 80}])]))
    spec = made["spec"]
    expected = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
        "priority": 0,
    }
    assert {key: spec.get(key) for key in expected} == expected
    first = dict(spec["containers"][0])
    assert first.pop("volumeMounts")
    assert first == {
        "name": "main",
        "image": "registry.invalid/none:1",
        "ports": [{"containerPort": 80, "protocol": "TCP"}],
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_tolerations_by_default(pods: Resource) -> None:
    """A Pod stays five minutes on a node that is not ready or not reachable."""
    tolerations = pods.create(pod("one"))["spec"]["tolerations"]
    assert {(one["key"], one["effect"], one["tolerationSeconds"]) for one in tolerations} == {
        ("node.kubernetes.io/not-ready", "NoExecute", 300),
        ("node.kubernetes.io/unreachable", "NoExecute", 300),
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [("a", "Always"), ("a:latest", "Always"), ("a:1", "IfNotPresent"), ("a@sha256:" + "0" * 64, "IfNotPresent")],
)
def test_image_pull_policy(pods: Resource, image: str, policy: str) -> None:
    """No tag and `latest` are pulled always."""
    made = pods.create(pod("one", containers=[container(image=image)]))
    assert made["spec"]["containers"][0]["imagePullPolicy"] == policy


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}, "Burstable"),
    ],
    ids=range(5),
)
def test_quality_of_service(pods: Resource, resources: Json, qos: str) -> None:
    """The class follows from requests and limits; a limit without a request is one."""
    made = pods.create(pod("one", containers=[container(resources=resources)]))
    assert made["status"]["qosClass"] == qos
    if "limits" in resources:
        assert made["spec"]["containers"][0]["resources"]["requests"].keys() >= resources["limits"].keys()


def test_probe_defaults(pods: Resource) -> None:
    """Probes get their periods and thresholds, HTTP probes their path and scheme."""
    probe = {"httpGet": {"port": 80}}
    made = pods.create(
        pod("one", containers=[container(readinessProbe=probe, livenessProbe={"exec": {"command": ["true"]}})])
    )
    main = made["spec"]["containers"][0]
    periods = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    assert main["readinessProbe"] == {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}} | periods
    assert main["livenessProbe"] == {"exec": {"command": ["true"]}} | periods


def test_volume_defaults(pods: Resource) -> None:
    """Secret, ConfigMap and downward volumes get their modes; a field reference its version."""
    volumes = [
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "e", "emptyDir": {}},
        {"name": "h", "hostPath": {"path": "/x"}},
        {"name": "d", "downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    env = [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    made = pods.create(pod("one", volumes=volumes, containers=[container(env=env)], automountServiceAccountToken=False))
    by_name = {one["name"]: one for one in made["spec"]["volumes"]}
    assert by_name["s"]["secret"]["defaultMode"] == 420
    assert by_name["c"]["configMap"]["defaultMode"] == 420
    assert by_name["d"]["downwardAPI"]["defaultMode"] == 420
    assert by_name["d"]["downwardAPI"]["items"][0]["fieldRef"] == {"apiVersion": "v1", "fieldPath": "metadata.name"}
    assert by_name["h"]["hostPath"] == {"path": "/x", "type": ""}
    assert made["spec"]["containers"][0]["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"


EMPTY = {"name": "v", "emptyDir": {}}
MOUNT = {"name": "v", "mountPath": "/x"}
NAME_FIELD = {"fieldRef": {"fieldPath": "metadata.name"}}

WRONG_SPECS: dict[str, tuple[Json, str, str]] = {
    "no-containers": ({"containers": []}, "containers", "Required"),
    "no-name": ({"containers": [{"image": "a"}]}, "containers[0].name", "Required"),
    "two-of-a-name": ({"containers": [container("a"), container("a")]}, "containers[1].name", "Duplicate"),
    "init-of-the-same-name": ({"initContainers": [container()]}, "initContainers[0].name", "Duplicate"),
    "secret-of-no-name": ({"volumes": [{"name": "v", "secret": {}}]}, "volumes[0].secret.secretName", "Required"),
    "volume-of-two": ({"volumes": [EMPTY | {"secret": {"secretName": "s"}}]}, "volumes[0].secret", "Forbidden"),
    "volume-twice": ({"volumes": [EMPTY, EMPTY]}, "volumes[1].name", "Duplicate"),
    "mount-twice": (
        {"volumes": [EMPTY], "containers": [container(volumeMounts=[MOUNT, MOUNT])]},
        "containers[0].volumeMounts[1].mountPath",
        "Invalid",
    ),
    "restart-policy": ({"restartPolicy": "Sometimes"}, "restartPolicy", "NotSupported"),
    "dns-policy": ({"dnsPolicy": "Sometimes"}, "dnsPolicy", "NotSupported"),
    "deadline": ({"activeDeadlineSeconds": 0}, "activeDeadlineSeconds", "Invalid"),
    "node-selector": ({"nodeSelector": {"-bad": "x"}}, "nodeSelector", "Invalid"),
    "toleration": ({"tolerations": [{"key": "a", "operator": "Maybe"}]}, "tolerations[0].operator", "NotSupported"),
    "toleration-value": (
        {"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]},
        "tolerations[0].operator",
        "Invalid",
    ),
    "hostname": ({"hostname": "Bad_Host"}, "hostname", "Invalid"),
    "dns": ({"dnsPolicy": "None"}, "dnsConfig", "Required"),
    "os": ({"os": {"name": "plan9"}}, "os", "NotSupported"),
    "ephemeral": ({"ephemeralContainers": [{"name": "e", "image": "i"}]}, "ephemeralContainers", "Forbidden"),
    "gate-twice": ({"schedulingGates": [{"name": "a"}, {"name": "a"}]}, "schedulingGates[1]", "Duplicate"),
    "readiness-gate": ({"readinessGates": [{"conditionType": "a b"}]}, "readinessGates[0].conditionType", "Invalid"),
    "user": ({"securityContext": {"runAsUser": -1}}, "securityContext.runAsUser", "Invalid"),
    "no-node-terms": (
        {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}},
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
        "Required",
    ),
    "skew": (
        {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]},
        "topologySpreadConstraints[0].maxSkew",
        "Invalid",
    ),
}
WRONG_CONTAINERS: dict[str, tuple[Json, str, str]] = {
    "no-image": ({"image": ""}, "image", "Required"),
    "image-with-spaces": ({"image": " i:1 "}, "image", "Invalid"),
    "name": ({"name": "A_b"}, "name", "Invalid"),
    "hook-of-none": ({"lifecycle": {"preStop": {}}}, "lifecycle.preStop", "Required"),
    "privileged": (
        {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
        "securityContext",
        "Invalid",
    ),
    "port": ({"ports": [{"containerPort": 70000}]}, "ports[0].containerPort", "Invalid"),
    "port-name": ({"ports": [{"containerPort": 80, "name": "much-too-long-a-name"}]}, "ports[0].name", "Invalid"),
    "protocol": ({"ports": [{"containerPort": 80, "protocol": "ICMP"}]}, "ports[0].protocol", "NotSupported"),
    "env-name": ({"env": [{"name": "a=b", "value": "1"}]}, "env[0].name", "Invalid"),
    "env-both": ({"env": [{"name": "A", "value": "1", "valueFrom": NAME_FIELD}]}, "env[0].valueFrom", "Invalid"),
    "field-path": (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]},
        "env[0].valueFrom.fieldRef.fieldPath",
        "Invalid",
    ),
    "mount-of-nothing": ({"volumeMounts": [MOUNT]}, "volumeMounts[0].name", "NotFound"),
    "request-above-limit": (
        {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
        "resources.requests",
        "Invalid",
    ),
    "negative-request": ({"resources": {"requests": {"cpu": "-1"}}}, "resources.requests[cpu]", "Invalid"),
    "odd-resource": ({"resources": {"requests": {"apples": "1"}}}, "resources.requests[apples]", "Invalid"),
    "probe-of-two": (
        {"livenessProbe": {"tcpSocket": {"port": 1}, "exec": {"command": ["x"]}}},
        "livenessProbe.tcpSocket",
        "Forbidden",
    ),
    "probe-of-none": ({"livenessProbe": {}}, "livenessProbe", "Required"),
    "probe-success": (
        {"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}},
        "livenessProbe.successThreshold",
        "Invalid",
    ),
    "pull-policy": ({"imagePullPolicy": "Perhaps"}, "imagePullPolicy", "NotSupported"),
    "message-policy": ({"terminationMessagePolicy": "Never"}, "terminationMessagePolicy", "NotSupported"),
}
"""name -> (fields, the field that is wrong, below `spec` or the container; the reason without `FieldValue`)"""


@pytest.mark.parametrize("case", [*WRONG_SPECS, *WRONG_CONTAINERS])
def test_pods_that_are_wrong(pods: Resource, case: str) -> None:
    """Each rule names its field and says what kind of wrong it is."""
    if case in WRONG_SPECS:
        spec, field, reason = WRONG_SPECS[case]
    else:
        fields, field, reason = WRONG_CONTAINERS[case]
        spec, field = {"containers": [container() | fields]}, f"containers[0].{field}"
    with refused(422, "Invalid") as error:
        pods.create(pod("one", **spec))
    assert (f"spec.{field}", f"FieldValue{reason}") in error.causes


def test_host_ports_follow_the_host_network(pods: Resource) -> None:
    """On the host's network a container's port is the host's."""
    made = pods.create(pod("one", hostNetwork=True, containers=[container(ports=[{"containerPort": 8080}])]))
    assert made["spec"]["containers"][0]["ports"] == [{"containerPort": 8080, "hostPort": 8080, "protocol": "TCP"}]


def test_a_negative_grace_is_a_second(pods: Resource) -> None:
    """terminationGracePeriodSeconds below zero is taken as one."""
    assert pods.create(pod("one", terminationGracePeriodSeconds=-5))["spec"]["terminationGracePeriodSeconds"] == 1


def test_a_spec_hardly_changes(pods: Resource) -> None:
    """Images, deadlines, tolerations (more of them) may change; the rest of a Pod's spec may not."""
    made = pods.create(pod("one", schedulerName="none"))
    for change in (
        {"restartPolicy": "Never"},
        {"nodeSelector": {"a": "b"}},
        {"terminationGracePeriodSeconds": 5},
        {"serviceAccountName": "other"},
    ):
        with refused(422, "Invalid", "pod updates may not change fields other than") as error:
            pods.patch("one", {"spec": change})
        assert ("spec", "FieldValueForbidden") in error.causes
    with refused(422, "Invalid"):
        pods.patch("one", {"spec": {"containers": [container("other")]}})
    change = {"containers": [{"name": "main", "image": "new:2"}], "activeDeadlineSeconds": 50}
    got = pods.patch("one", {"spec": change}, "strategic")
    assert (got["spec"]["containers"][0]["image"], got["spec"]["activeDeadlineSeconds"]) == ("new:2", 50)
    more = [*made["spec"]["tolerations"], {"key": "x", "operator": "Exists"}]
    assert pods.patch("one", {"spec": {"tolerations": more}})["spec"]["tolerations"] == more


def test_a_node_name_is_not_patched(pods: Resource) -> None:
    """Only a binding puts a Pod on a node."""
    pods.create(pod("one", schedulerName="none"))
    with refused(422, "Invalid"):
        pods.patch("one", {"spec": {"nodeName": "n1"}})


def bind(pods: Resource, name: str, node_name: str) -> Json:
    target = {"apiVersion": "v1", "kind": "Node", "name": node_name}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
    return pods.post(name, "binding", body)


def test_binding(pods: Resource) -> None:
    """A binding sets nodeName and the condition PodScheduled, once."""
    pods.create(pod("one", schedulerName="none"))
    answer = bind(pods, "one", "nowhere")
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    got = pods.get("one")
    assert got["spec"]["nodeName"] == "nowhere"
    conditions = {one["type"]: one["status"] for one in got["status"]["conditions"]}
    assert conditions["PodScheduled"] == "True"
    with refused(409, "Conflict", "is already assigned to node"):
        bind(pods, "one", "elsewhere")
    pods.delete("one", gracePeriodSeconds=0)


def test_bindings_that_are_wrong(pods: Resource) -> None:
    """Of a Pod that is not there, to something that is no node."""
    with refused(404, "NotFound"):
        bind(pods, "absent", "nowhere")
    pods.create(pod("one", schedulerName="none"))
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "one"}, "target": {"kind": "Node", "name": ""}}
    with pytest.raises(Refused, match=r"target.name"):
        pods.post("one", "binding", body)
    assert "nodeName" not in pods.get("one")["spec"]


def test_scheduling_gates(pods: Resource) -> None:
    """A gated Pod says so and cannot be bound until the gates are lifted; gates are never added."""
    made = pods.create(pod("one", schedulerName="none", schedulingGates=[{"name": "example.com/wait"}]))
    assert [(one["type"], one["status"], one["reason"]) for one in made["status"]["conditions"]] == [
        ("PodScheduled", "False", "SchedulingGated")
    ]
    with refused(409, "Conflict"):
        bind(pods, "one", "nowhere")
    with refused(422, "Invalid"):
        pods.patch("one", {"spec": {"schedulingGates": [{"name": "example.com/more"}]}})
    assert "schedulingGates" not in pods.patch("one", {"spec": {"schedulingGates": []}})["spec"]


def test_eviction(pods: Resource) -> None:
    """An eviction is a polite delete."""
    pods.create(pod("one", schedulerName="none"))
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "one"}}
    assert pods.post("one", "eviction", body)["status"] == "Success"
    assert not pods.exists("one")
    with refused(404, "NotFound"):
        pods.post("one", "eviction", body)


def test_the_log_of_a_pod_on_no_node(pods: Resource) -> None:
    """There is nobody to ask, so nothing to tell; a Pod that is not there is not found."""
    pods.create(pod("one", schedulerName="none"))
    response = pods.api.request("GET", pods.at("one", "log"))
    assert (response.status_code in {200, 204}, response.content) == (True, b"")
    with refused(404, "NotFound", 'pods "absent" not found'):
        pods.get("absent", "log")


def test_the_log_of_a_container_that_is_not_there(pods: Resource) -> None:
    """The container must be named where there are several, and must exist."""
    pods.create(pod("one", schedulerName="none", containers=[container("a"), container("b")]))
    with refused(400, "BadRequest", "a container name must be specified for pod one, choose one of: [a b]"):
        pods.get("one", "log")
    with refused(400, "BadRequest", "container c is not valid for pod one"):
        pods.get("one", "log", container="c")


def test_the_log_from_a_node_that_is_not_there(pods: Resource) -> None:
    """A Pod bound to an unknown node: the node is not found, or cannot be reached."""
    pods.create(pod("one", nodeName="nowhere"))
    response = pods.api.request("GET", pods.at("one", "log"))
    assert response.status_code in {404, 500, 502, 503}
    assert response.json()["kind"] == "Status"
    pods.delete("one", gracePeriodSeconds=0)


def test_status_of_a_pod(pods: Resource) -> None:
    """A node writes phase, conditions and containers; conditions merge by type under a strategic patch."""
    pods.create(pod("one", schedulerName="none"))
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [
            {"name": "main", "image": "i", "imageID": "", "ready": False, "restartCount": 1, "state": {"running": {}}}
        ],
    }
    pods.patch("one", {"status": status}, "strategic", "status")
    more = {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]}}
    got = pods.patch("one", more, "strategic", "status")["status"]
    assert {one["type"]: one["status"] for one in got["conditions"]} == {"Ready": "True", "Initialized": "True"}
    assert got["containerStatuses"][0]["restartCount"] == 1
    assert got["phase"] == "Running"


def test_nodes(api: Api, own, unique) -> None:
    """A node is registered, labelled, its status written, its pods found by it."""
    name = unique()
    made = own("nodes", node(name, spec={"podCIDR": "10.1.0.0/24"}))
    assert made["metadata"]["name"] == name
    nodes = api.resource("nodes")
    status = {
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "allocatable": {"cpu": "3900m", "memory": "7Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": "m"}],
        "addresses": [{"type": "Hostname", "address": name}],
    }
    got = nodes.patch(name, {"status": status}, "strategic", "status")
    assert got["status"]["capacity"] == status["capacity"]
    assert got["status"]["addresses"] == status["addresses"]
    got = nodes.patch(name, {"spec": {"unschedulable": True}}, "strategic")
    assert got["spec"]["unschedulable"] is True
    with refused(422, "Invalid"):
        nodes.patch(name, {"spec": {"podCIDR": "10.2.0.0/24"}})
