"""The kinds that the cluster's controllers work on, as plain JSON.

They are untyped on purpose: a Pod template goes from a Deployment to a ReplicaSet to a Pod as it is, and a field that
no class of ours knows must not be lost on the way.
"""

from collections.abc import Mapping
from typing import Any

from mizzen.kube.resources import Json, ResourceInfo, Untyped, meta_of, untyped

Object = Mapping[str, Any]
"""An object as read from an informer: shared, never changed in place."""


def _kind(group: str, version: str, kind: str, plural: str, *, namespaced: bool = True) -> type[Untyped]:
    return untyped(ResourceInfo(group, version, kind, plural, namespaced))


ConfigMap = _kind("", "v1", "ConfigMap", "configmaps")
Namespace = _kind("", "v1", "Namespace", "namespaces", namespaced=False)
Node = _kind("", "v1", "Node", "nodes", namespaced=False)
Pod = _kind("", "v1", "Pod", "pods")
Service = _kind("", "v1", "Service", "services")
ServiceAccount = _kind("", "v1", "ServiceAccount", "serviceaccounts")
Deployment = _kind("apps", "v1", "Deployment", "deployments")
ReplicaSet = _kind("apps", "v1", "ReplicaSet", "replicasets")
Job = _kind("batch", "v1", "Job", "jobs")
Lease = _kind("coordination.k8s.io", "v1", "Lease", "leases")
EndpointSlice = _kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
CustomResourceDefinition = _kind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)


def name_of(obj: Object) -> str:
    """`metadata.name`."""
    return str(obj["metadata"]["name"])


def namespace_of(obj: Object) -> str:
    """`metadata.namespace`; empty for kinds without namespaces."""
    return str(obj["metadata"].get("namespace") or "")


def uid_of(obj: Object) -> str:
    """`metadata.uid`."""
    return str(obj["metadata"].get("uid") or "")


def labels_of(obj: Object) -> Mapping[str, str]:
    """`metadata.labels`; empty where there are none."""
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations_of(obj: Object) -> Mapping[str, str]:
    """`metadata.annotations`; empty where there are none."""
    return (obj.get("metadata") or {}).get("annotations") or {}


def spec_of(obj: Object) -> Mapping[str, Any]:
    """`spec`; empty where there is none."""
    return obj.get("spec") or {}


def status_of(obj: Object) -> Mapping[str, Any]:
    """`status`; empty where there is none."""
    return obj.get("status") or {}


def is_deleted(obj: Object) -> bool:
    """Whether its deletion was asked for."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def controller_uid(obj: Object) -> str | None:
    """The uid of the owner that controls the object."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((reference.get("uid") for reference in references if reference.get("controller")), None)


def owner_uids(obj: Object) -> list[str]:
    """The uids of all owners: an index function."""
    return [reference["uid"] for reference in obj["metadata"].get("ownerReferences") or () if "uid" in reference]


def controlled_by(obj: Object) -> Json:
    """An owner reference by which `obj` controls another object, as every Kubernetes controller writes it."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": name_of(obj),
        "uid": uid_of(obj),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def age_key(obj: Object) -> tuple[str, str]:
    """Sorts the oldest first, and those of one second by name."""
    return str(obj["metadata"].get("creationTimestamp") or ""), name_of(obj)


def described(obj: Object) -> str:
    """`Pod default/web-1`, for messages."""
    return f"{obj.get('kind', '')} {meta_of(dict(obj)).key}"
