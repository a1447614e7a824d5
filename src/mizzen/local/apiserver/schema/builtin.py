"""Kubernetes' own types that are served, as rows of a table; their schemas are made when first used.

`BUILTIN_TYPES` are the resources. `SUBRESOURCE_TYPES` are what some subresources take and give instead of their
resource's own kind: `pods/eviction` takes an `Eviction`, `deployments/scale` gives a `Scale`.
"""

import functools

from mizzen.local.apiserver.schema import models
from mizzen.local.apiserver.types import ResourceType, ScalePaths

_ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_NAMESPACE_VERBS = ("create", "delete", "get", "list", "patch", "update", "watch")
_REPLICAS = ScalePaths(".spec.replicas", ".status.replicas", ".status.selector")

_PREFIXES = {
    "": "io.k8s.api.core",
    "apps": "io.k8s.api.apps",
    "batch": "io.k8s.api.batch",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "authentication.k8s.io": "io.k8s.api.authentication",
    "authorization.k8s.io": "io.k8s.api.authorization",
    "autoscaling": "io.k8s.api.autoscaling",
    "coordination.k8s.io": "io.k8s.api.coordination",
    "discovery.k8s.io": "io.k8s.api.discovery",
    "events.k8s.io": "io.k8s.api.events",
    "policy": "io.k8s.api.policy",
    "rbac.authorization.k8s.io": "io.k8s.api.rbac",
}


def definition_name(group: str, version: str, kind: str) -> str | None:
    """The OpenAPI definition of a built-in kind, or `None` where the group has none."""
    prefix = _PREFIXES.get(group)
    return f"{prefix}.{version}.{kind}" if prefix else None


def _type(
    group: str,
    kind: str,
    plural: str,
    short_names: tuple[str, ...] = (),
    subresources: tuple[str, ...] = (),
    *,
    namespaced: bool = True,
    categories: tuple[str, ...] = (),
    verbs: tuple[str, ...] = _ALL,
    scale: ScalePaths | None = None,
) -> ResourceType:
    name = definition_name(group, "v1", kind)
    assert name is not None
    return ResourceType(
        group=group,
        version="v1",
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        namespaced=namespaced,
        load_schema=functools.partial(models.expanded, name),
        short_names=short_names,
        categories=categories,
        verbs=verbs,
        subresources=frozenset(subresources),
        scale=scale,
        stored=verbs != ("create",),
    )


def _review(group: str, kind: str, *, namespaced: bool = False) -> ResourceType:
    return _type(group, kind, f"{kind.lower()}s", namespaced=namespaced, verbs=("create",))


_RBAC, _AUTHORIZATION, _AUTHENTICATION = "rbac.authorization.k8s.io", "authorization.k8s.io", "authentication.k8s.io"
_IN_ALL = ("all",)

BUILTIN_TYPES: tuple[ResourceType, ...] = (
    _type("", "Binding", "bindings", verbs=("create",)),
    _type("", "ConfigMap", "configmaps", ("cm",)),
    _type("", "Event", "events", ("ev",)),
    _type("", "Namespace", "namespaces", ("ns",), ("status", "finalize"), namespaced=False, verbs=_NAMESPACE_VERBS),
    _type("", "Node", "nodes", ("no",), ("status",), namespaced=False),
    _type("", "Pod", "pods", ("po",), ("status", "log", "binding", "eviction"), categories=_IN_ALL),
    _type("", "Secret", "secrets"),
    _type("", "Service", "services", ("svc",), ("status",), categories=_IN_ALL),
    _type("", "ServiceAccount", "serviceaccounts", ("sa",), ("token",)),
    _type("apps", "Deployment", "deployments", ("deploy",), ("status", "scale"), categories=_IN_ALL, scale=_REPLICAS),
    _type("apps", "ReplicaSet", "replicasets", ("rs",), ("status", "scale"), categories=_IN_ALL, scale=_REPLICAS),
    _type("batch", "Job", "jobs", (), ("status",), categories=_IN_ALL),
    _type("coordination.k8s.io", "Lease", "leases"),
    _type("discovery.k8s.io", "EndpointSlice", "endpointslices"),
    _type("events.k8s.io", "Event", "events", ("ev",)),
    _type(_RBAC, "ClusterRole", "clusterroles", namespaced=False),
    _type(_RBAC, "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    _type(_RBAC, "Role", "roles"),
    _type(_RBAC, "RoleBinding", "rolebindings"),
    _type(
        "apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", ("crd", "crds"), ("status",),
        namespaced=False, categories=("api-extensions",),
    ),
    _review(_AUTHENTICATION, "SelfSubjectReview"),
    _review(_AUTHENTICATION, "TokenReview"),
    _review(_AUTHORIZATION, "LocalSubjectAccessReview", namespaced=True),
    _review(_AUTHORIZATION, "SelfSubjectAccessReview"),
    _review(_AUTHORIZATION, "SelfSubjectRulesReview"),
    _review(_AUTHORIZATION, "SubjectAccessReview"),
)  # fmt: skip

SUBRESOURCE_TYPES: dict[str, ResourceType] = {
    "binding": next(rtype for rtype in BUILTIN_TYPES if rtype.kind == "Binding"),
    "eviction": _type("policy", "Eviction", "evictions", verbs=("create",)),
    "scale": _type("autoscaling", "Scale", "scales", verbs=("get", "patch", "update")),
    "token": _type(_AUTHENTICATION, "TokenRequest", "tokenrequests", verbs=("create",)),
}
"""By subresource: the type of its body where that is not the resource's own."""

SUBRESOURCE_VERBS: dict[str, tuple[str, ...]] = {
    "binding": ("create",),
    "eviction": ("create",),
    "finalize": ("update",),
    "log": ("get",),
    "scale": ("get", "patch", "update"),
    "status": ("get", "patch", "update"),
    "token": ("create",),
}
