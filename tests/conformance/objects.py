"""Builders of the objects the tests send: the least that a server accepts, with overrides by keyword."""

from typing import Any

from .client import Json

WEB_LABELS = {"app": "web"}


def meta(name: str, **metadata: Any) -> Json:
    return {"name": name, **metadata}


def config_map(name: str, data: Json | None = None, **metadata: Any) -> Json:
    body: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta(name, **metadata)}
    return body if data is None else body | {"data": data}


def secret(name: str, data: Json | None = None, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta(name), "data": data or {}} | fields


def namespace(name: str, **metadata: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta(name, **metadata)}


def container(name: str = "main", **fields: Any) -> Json:
    return {"name": name, "image": "registry.invalid/none:1"} | fields


def pod(name: str, *, labels: Json | None = None, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, labels=labels or {}),
        "spec": {"containers": [container()]} | spec,
    }


def template(labels: Json | None = None, **spec: Any) -> Json:
    """A Pod template that no scheduler takes, so that a test may play the kubelet beside a real one."""
    return {
        "metadata": {"labels": labels or WEB_LABELS},
        "spec": {"containers": [container()], "schedulerName": "none"} | spec,
    }


def deployment(name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name),
        "spec": {"selector": {"matchLabels": WEB_LABELS}, "template": template()} | spec,
    }


def replica_set(name: str, **spec: Any) -> Json:
    return deployment(name, **spec) | {"kind": "ReplicaSet"}


def job(name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(name),
        "spec": {"template": {"spec": template(restartPolicy="Never")["spec"]}} | spec,
    }


def service(name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name),
        "spec": {"selector": WEB_LABELS, "ports": [{"port": 80}]} | spec,
    }


def service_account(name: str, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name)} | fields


def node(name: str, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta(name)} | fields


def lease(name: str, **spec: Any) -> Json:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta(name), "spec": spec}


RBAC = "rbac.authorization.k8s.io"


def role(name: str, *rules: Json, cluster: bool = False, **fields: Any) -> Json:
    kind = "ClusterRole" if cluster else "Role"
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": meta(name), "rules": list(rules)} | fields


def rule(verbs: str, resources: str, groups: str = "", **fields: Any) -> Json:
    """Words separated by commas; `groups=""` is the core group."""
    return {"verbs": verbs.split(","), "resources": resources.split(","), "apiGroups": groups.split(",")} | fields


def binding(name: str, role_name: str, *subjects: Json, cluster: bool = False, role_kind: str = "") -> Json:
    kind = "ClusterRole" if cluster else "Role"
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": meta(name),
        "roleRef": {"apiGroup": RBAC, "kind": role_kind or kind, "name": role_name},
        "subjects": list(subjects),
    }


def user(name: str) -> Json:
    return {"kind": "User", "apiGroup": RBAC, "name": name}


def account(name: str, namespace_name: str) -> Json:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace_name}


def crd(group: str, schema: Json | None = None, **changes: Any) -> Json:
    """A namespaced kind `Widget`. `version` changes its one version, `names` its names, the rest its spec."""
    version: Json = {"name": "v1", "served": True, "storage": True}
    version["schema"] = {"openAPIV3Schema": schema or OPEN_SCHEMA}
    version |= changes.pop("version", {})
    names: Json = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    names |= changes.pop("names", {})
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": meta(f"{names['plural']}.{group}"),
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]} | changes,
    }


def schema(spec: Json | None = None, **top: Any) -> Json:
    """A structural schema whose `spec` and `status` are given; each open when it is not."""
    return {
        "type": "object",
        "properties": {"spec": spec or ANYTHING, "status": ANYTHING} | top.pop("properties", {}),
    } | top


def fields(required: list[str] | None = None, **properties: Json) -> Json:
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


ANYTHING: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
OPEN_SCHEMA: Json = schema()


def custom(
    group: str, name: str, spec: Json | None = None, *, version: str = "v1", kind: str = "Widget", **rest: Any
) -> Json:
    body: Json = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": meta(name)}
    return (body if spec is None else body | {"spec": spec}) | rest
