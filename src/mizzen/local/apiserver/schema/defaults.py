"""What Kubernetes fills into its own types where nothing is said: constants by type, and small functions.

Each function takes the object (never changed) and gives the fields to add. They work on one type each and apply
wherever that type occurs, so that a Pod and the template of a Deployment agree.
"""

import base64
from collections.abc import Callable
from typing import Any

from mizzen.local.apiserver.types import Json

Fill = Callable[[Json], Json]

WHERE_ABSENT: dict[str, Json] = {
    "apps.v1.DeploymentSpec": {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": {},
    },
    "apps.v1.Deployment": {"spec": {}, "status": {}},
    "apps.v1.ReplicaSetSpec": {"replicas": 1},
    "apps.v1.ReplicaSet": {"spec": {}, "status": {}},
    "apps.v1.RollingUpdateDeployment": {"maxUnavailable": "25%", "maxSurge": "25%"},
    "core.v1.Container": {"resources": {}},
    "core.v1.EphemeralContainer": {"resources": {}},
    "core.v1.ConfigMapVolumeSource": {"defaultMode": 420},
    "core.v1.DownwardAPIVolumeSource": {"defaultMode": 420},
    "core.v1.ProjectedVolumeSource": {"defaultMode": 420},
    "core.v1.SecretVolumeSource": {"defaultMode": 420},
    "coordination.v1.Lease": {"spec": {}},
    "core.v1.ContainerStatus": {"state": {}, "lastState": {}},
    "core.v1.GRPCAction": {"service": ""},
    "core.v1.HostPathVolumeSource": {"type": ""},
    "core.v1.PodTemplateSpec": {"metadata": {}, "spec": {}},
    "core.v1.ResourceFieldSelector": {"divisor": "0"},
    "core.v1.Event": {"source": {}, "reportingComponent": "", "reportingInstance": ""},
    "core.v1.Namespace": {"spec": {}, "status": {}},
    "core.v1.Node": {"spec": {}, "status": {}},
    "core.v1.PodSpec": {"securityContext": {}, "terminationGracePeriodSeconds": 30},
    "core.v1.Service": {"spec": {}, "status": {"loadBalancer": {}}},
    "core.v1.ServiceAccountTokenProjection": {"expirationSeconds": 3600},
    "discovery.v1.Endpoint": {"conditions": {}},
    "discovery.v1.EndpointPort": {"name": "", "protocol": "TCP"},
}
"""By type: values of fields that are not there. (In Go these are pointers, so that 0 and "" are values.)"""

WHERE_EMPTY: dict[str, Json] = {
    "core.v1.Container": {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"},
    "core.v1.EphemeralContainer": {
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    },
    "core.v1.ContainerPort": {"protocol": "TCP"},
    "core.v1.HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    "core.v1.NamespaceStatus": {"phase": "Active"},
    "core.v1.ObjectFieldSelector": {"apiVersion": "v1"},
    "core.v1.PodSpec": {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"},
    "core.v1.Probe": {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    "core.v1.Secret": {"type": "Opaque"},
    "batch.v1.PodFailurePolicyOnPodConditionsPattern": {"status": "True"},
}
"""By type: values of fields that are not there, empty or zero."""


def copied(value: Any) -> Any:
    """A JSON value that shares nothing with the one it is made from."""
    if value.__class__ is dict:
        return {key: copied(item) for key, item in value.items()}
    if value.__class__ is list:
        return [copied(item) for item in value]
    return value


def pull_policy(image: str) -> str:
    """`Always` where the tag is `latest` or none is given, else `IfNotPresent`."""
    name = image.rpartition("/")[2]
    tagged = "@" in name or ":" in name
    return "Always" if not tagged or (name.endswith(":latest") and "@" not in name) else "IfNotPresent"


def _container(value: Json) -> Json:
    return {} if value.get("imagePullPolicy") else {"imagePullPolicy": pull_policy(value.get("image") or "")}


def _volume(value: Json) -> Json:
    return {} if any(name != "name" and item is not None for name, item in value.items()) else {"emptyDir": {}}


def _pod(value: Json) -> Json:
    """Only for Pods, not for templates: requests are limits where only limits are given, a port is the host's where the
    network is, and a grace below zero is a second."""
    spec = value.get("spec") or {}
    more: Json = {"enableServiceLinks": True} if spec.get("enableServiceLinks") is None else {}
    for name in ("containers", "initContainers"):
        containers = spec.get(name)
        if isinstance(containers, list) and (spec.get("hostNetwork") or any(_limits(item) for item in containers)):
            shared = bool(spec.get("hostNetwork"))
            more[name] = [_with_requests(_on_host(item) if shared else item) for item in containers]
    if isinstance(grace := spec.get("terminationGracePeriodSeconds"), int) and grace < 0:
        more["terminationGracePeriodSeconds"] = 1
    status: Json = {"status": {}} if value.get("status") is None else {}
    return {"spec": {**spec, **more}, **status} if more else status


def _on_host(container: Any) -> Any:
    ports = container.get("ports") if isinstance(container, dict) else None
    if not isinstance(ports, list) or all(not isinstance(port, dict) or port.get("hostPort") for port in ports):
        return container
    bound = [
        {**port, "hostPort": port["containerPort"]}
        if isinstance(port, dict) and port.get("containerPort") and not port.get("hostPort")
        else port
        for port in ports
    ]
    return {**container, "ports": bound}


def _limits(container: Any) -> Json | None:
    resources = container.get("resources") if isinstance(container, dict) else None
    limits = resources.get("limits") if isinstance(resources, dict) else None
    return limits if isinstance(limits, dict) else None


def _with_requests(container: Json) -> Json:
    limits = _limits(container)
    if not limits:
        return container
    resources = container["resources"]
    requests = resources.get("requests") or {}
    return {**container, "resources": {**resources, "requests": {**limits, **requests}}}


def _secret(value: Json) -> Json:
    """`stringData` is a way to write `data`, and is never stored."""
    texts = value.get("stringData")
    if not isinstance(texts, dict):
        return _in_one_line(value, "data")
    encoded = {key: base64.b64encode((text or "").encode()).decode() for key, text in texts.items()}
    data = _in_one_line(value, "data").get("data") or value.get("data") or {}
    return {"data": {**data, **encoded}, "stringData": None}


def _config_map(value: Json) -> Json:
    return _in_one_line(value, "binaryData")


def _in_one_line(value: Json, field: str) -> Json:
    """Base64 may be written in several lines; it is stored in one."""
    encoded = value.get(field)
    if not isinstance(encoded, dict) or not any("\n" in text for text in encoded.values() if isinstance(text, str)):
        return {}
    return {
        field: {key: "".join(text.splitlines()) if isinstance(text, str) else text for key, text in encoded.items()}
    }


def _service_spec(value: Json) -> Json:
    more: Json = {}
    if not value.get("sessionAffinity"):
        more["sessionAffinity"] = "None"
    elif value["sessionAffinity"] == "ClientIP" and not value.get("sessionAffinityConfig"):
        more["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    kind = value.get("type") or "ClusterIP"
    if not value.get("type"):
        more["type"] = kind
    reached = kind in {"NodePort", "LoadBalancer"} or (kind == "ClusterIP" and value.get("externalIPs"))
    if reached and not value.get("externalTrafficPolicy"):
        more["externalTrafficPolicy"] = "Cluster"
    if kind != "ExternalName" and not value.get("internalTrafficPolicy"):
        more["internalTrafficPolicy"] = "Cluster"
    if kind == "LoadBalancer" and value.get("allocateLoadBalancerNodePorts") is None:
        more["allocateLoadBalancerNodePorts"] = True
    return more


def _service_port(value: Json) -> Json:
    more: Json = {} if value.get("protocol") else {"protocol": "TCP"}
    if not value.get("targetPort") and value.get("port"):
        more["targetPort"] = value["port"]
    return more


def _namespace(value: Json) -> Json:
    metadata = value.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        return {}
    labels = metadata.get("labels") or {}
    label = {"kubernetes.io/metadata.name": metadata["name"]}
    return {} if label.items() <= labels.items() else {"metadata": {**metadata, "labels": {**labels, **label}}}


def _node_status(value: Json) -> Json:
    capacity = value.get("capacity")
    return {"allocatable": capacity} if capacity and value.get("allocatable") is None else {}


def _deployment_strategy(value: Json) -> Json:
    more: Json = {} if value.get("type") else {"type": "RollingUpdate"}
    if (value.get("type") or "RollingUpdate") == "RollingUpdate" and value.get("rollingUpdate") is None:
        more["rollingUpdate"] = {}
    return more


def _labels_from_template(value: Json) -> Json:
    spec, metadata = value.get("spec"), value.get("metadata")
    template = spec.get("template") if isinstance(spec, dict) else None
    inner = template.get("metadata") if isinstance(template, dict) else None
    labels = inner.get("labels") if isinstance(inner, dict) else None
    if not labels or not isinstance(metadata, dict) or metadata.get("labels"):
        return {}
    return {"metadata": {**metadata, "labels": labels}}


def _job(value: Json) -> Json:
    return {**_labels_from_template(value), **{name: {} for name in ("spec", "status") if value.get(name) is None}}


def _job_spec(value: Json) -> Json:
    absent = {
        "backoffLimit": 2**31 - 1 if value.get("backoffLimitPerIndex") is not None else 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "podReplacementPolicy": "Failed" if value.get("podFailurePolicy") is not None else "TerminatingOrFailed",
        "manualSelector": False,
        "parallelism": 1,
    }
    if value.get("completions") is None and value.get("parallelism") is None:
        absent["completions"] = 1
    return {name: preset for name, preset in absent.items() if value.get(name) is None}


def _role_binding(value: Json) -> Json:
    ref = value.get("roleRef") or {}
    if ref.get("apiGroup"):
        return {}
    return {"roleRef": {**ref, "apiGroup": "rbac.authorization.k8s.io"}}


def _subject(value: Json) -> Json:
    known = value.get("kind") in {"User", "Group"} and not value.get("apiGroup")
    return {"apiGroup": "rbac.authorization.k8s.io"} if known else {}


def _definition(value: Json) -> Json:
    status = value.get("status") or {}
    versions = (value.get("spec") or {}).get("versions") or []
    storage = [version["name"] for version in versions if isinstance(version, dict) and version.get("storage")]
    if status.get("storedVersions") or not storage:
        return {}
    return {"status": {**status, "storedVersions": storage[:1]}}


def _definition_spec(value: Json) -> Json:
    names = value.get("names") or {}
    kind = names.get("kind") or ""
    more = {} if names.get("singular") else {"singular": kind.lower()}
    if kind and not names.get("listKind"):
        more["listKind"] = f"{kind}List"
    conversion = {} if value.get("conversion") else {"conversion": {"strategy": "None"}}
    return {**({"names": {**names, **more}} if more else {}), **conversion}


FUNCTIONS: dict[str, Fill] = {
    "core.v1.ConfigMap": _config_map,
    "core.v1.Container": _container,
    "core.v1.EphemeralContainer": _container,
    "core.v1.Namespace": _namespace,
    "core.v1.NodeStatus": _node_status,
    "core.v1.Pod": _pod,
    "core.v1.Secret": _secret,
    "core.v1.ServicePort": _service_port,
    "core.v1.ServiceSpec": _service_spec,
    "core.v1.Volume": _volume,
    "apps.v1.DeploymentStrategy": _deployment_strategy,
    "batch.v1.Job": _job,
    "batch.v1.JobSpec": _job_spec,
    "rbac.v1.ClusterRoleBinding": _role_binding,
    "rbac.v1.RoleBinding": _role_binding,
    "rbac.v1.Subject": _subject,
    "apiextensions.v1.CustomResourceDefinition": _definition,
    "apiextensions.v1.CustomResourceDefinitionSpec": _definition_spec,
}


def fill_of(short_name: str) -> Fill | None:
    """Everything that is filled into objects of that type, as one function; `None` where nothing is."""
    absent, empty = WHERE_ABSENT.get(short_name, {}), WHERE_EMPTY.get(short_name, {})
    function = FUNCTIONS.get(short_name)
    if not absent and not empty:
        return function

    def fill(value: Json) -> Json:
        more = {name: copied(preset) for name, preset in absent.items() if value.get(name) is None}
        more.update((name, preset) for name, preset in empty.items() if not value.get(name))
        if function is not None:
            more.update(function({**value, **more} if more else value))
        return more

    return fill
