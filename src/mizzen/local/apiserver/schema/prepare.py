"""What Kubernetes adds to an object when it is created, beyond defaults: what depends on its name, its uid or its
service account.

`prepared` runs after `structural.default` and before validation, on an object that has its name and uid. It does what
the registry's strategies do (a Job's selector, a Pod's first status) and what the admission plugins that are on by
default do to Pods: priority, tolerations, and the token of the service account as a projected volume.
"""

from collections.abc import Callable
from typing import Any

from mizzen.local.apiserver.types import Json, ResourceType

_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path, not a secret
_TOLERATED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_JOB_NAME, _CONTROLLER_UID = "batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid"


def prepared(rtype: ResourceType, obj: Json, suffix: str) -> Json:
    """The object as it will be stored; `suffix` is five random letters, for names that must be new."""
    prepare = _PREPARE.get((rtype.group, rtype.kind))
    return prepare(obj, suffix) if prepare is not None else obj


def quality_of_service(spec: Json) -> str:
    """`Guaranteed` where every container's requests are its limits of CPU and memory, `BestEffort` where none says
    anything."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    told = [container.get("resources") or {} for container in containers]
    if not any(resources.get("limits") or resources.get("requests") for resources in told):
        return "BestEffort"
    for resources in told:
        limits = resources.get("limits") or {}
        requests = {**limits, **(resources.get("requests") or {})}
        if any(name not in limits or str(requests[name]) != str(limits[name]) for name in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"


def _pod(obj: Json, suffix: str) -> Json:
    spec = dict(obj.get("spec") or {})
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = account
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec["tolerations"] = _tolerations(spec.get("tolerations") or [])
    if spec.get("automountServiceAccountToken") is not False:
        _mount_token(spec, f"kube-api-access-{suffix}")
    status = {"phase": "Pending", "qosClass": quality_of_service(spec)}
    return {**obj, "spec": spec, "status": status}


def _tolerations(given: list[Json]) -> list[Json]:
    """A Pod stays for five minutes on a node that is lost, unless it says otherwise."""
    added = []
    for key in _TOLERATED:
        told = any(
            item.get("key") in {key, None, ""} and item.get("effect") in {"NoExecute", None, ""} for item in given
        )
        if not told:
            added.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    return [*given, *added]


def _mount_token(spec: Json, name: str) -> None:
    mount = {"name": name, "readOnly": True, "mountPath": _TOKEN_PATH}
    used = False
    for field in ("initContainers", "containers"):
        containers = []
        for container in spec.get(field) or ():
            mounts = container.get("volumeMounts") or []
            if any(item.get("mountPath") == _TOKEN_PATH for item in mounts):
                containers.append(container)
                continue
            used = True
            containers.append({**container, "volumeMounts": [*mounts, mount]})
        if containers:
            spec[field] = containers
    if used:
        spec["volumes"] = [*(spec.get("volumes") or ()), {"name": name, "projected": _token_volume()}]


def _token_volume() -> Json:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources: list[Json] = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"defaultMode": 420, "sources": sources}


def _job(obj: Json, _: str) -> Json:
    """Gives a Job the labels by which its Pods are its own, unless it says that it selects by itself."""
    spec = obj.get("spec") or {}
    if spec.get("manualSelector"):
        return {**obj, "status": {}}
    name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
    labels = {_CONTROLLER_UID: uid, _JOB_NAME: name, "controller-uid": uid, "job-name": name}
    template = spec.get("template") or {}
    meta = template.get("metadata") or {}
    labelled = {**template, "metadata": {**meta, "labels": {**(meta.get("labels") or {}), **labels}}}
    new_spec = {**spec, "template": labelled, "selector": {"matchLabels": {_CONTROLLER_UID: uid}}}
    own = {**(obj["metadata"].get("labels") or {}), **labels}
    return {**obj, "metadata": {**obj["metadata"], "labels": own}, "spec": new_spec, "status": {}}


def _namespace(obj: Json, _: str) -> Json:
    return {**obj, "spec": {**(obj.get("spec") or {}), "finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


def _service(obj: Json, _: str) -> Json:
    """Address families of a Service. There are no virtual addresses on one machine: `clusterIP` stays what was
    given."""
    spec: dict[str, Any] = dict(obj.get("spec") or {})
    if spec.get("type") != "ExternalName":
        if spec.get("clusterIP"):
            spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    return {**obj, "spec": spec, "status": {"loadBalancer": {}}}


def _without_status(obj: Json, _: str) -> Json:
    return {**obj, "status": {}}


_PREPARE: dict[tuple[str, str], Callable[[Json, str], Json]] = {
    ("", "Namespace"): _namespace,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("apps", "Deployment"): _without_status,
    ("apps", "ReplicaSet"): _without_status,
    ("batch", "Job"): _job,
}
