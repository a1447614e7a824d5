"""What Kubernetes' own types hold that their JSON does not show.

They are Go structs. A field of struct type (not a pointer to one) is there even when JSON leaves it out, and so
nobody comes to own it: a manager who sets `spec.replicas` owns that, not `spec`. And an element of some lists is
known by a key that JSON may leave out, by its default. The tables are Kubernetes' published OpenAPI documents, in
which such fields have `default: {}` or the key's default; types are named by the last part of their definition.
"""

from typing import Any

from mizzen.local.apiserver.schema import zeros
from mizzen.local.apiserver.schema.rules import DEFINITION, short_name
from mizzen.local.apiserver.types import Json

STRUCT_FIELDS: dict[str, tuple[str, ...]] = {
    "Binding": ("target",),
    "ClusterRoleBinding": ("roleRef",),
    "Container": ("resources",),
    "ContainerStatus": ("lastState", "state"),
    "CronJobSpec": ("jobTemplate",),
    "CustomResourceDefinition": ("spec", "status"),
    "CustomResourceDefinitionSpec": ("names",),
    "CustomResourceDefinitionStatus": ("acceptedNames",),
    "Deployment": ("spec", "status"),
    "DeploymentSpec": ("strategy", "template"),
    "Endpoint": ("conditions",),
    "EphemeralContainer": ("resources",),
    "Event": ("deprecatedSource", "involvedObject", "regarding", "source"),
    "Job": ("spec", "status"),
    "JobSpec": ("template",),
    "JobTemplateSpec": ("metadata", "spec"),
    "Lease": ("spec",),
    "LocalSubjectAccessReview": ("spec", "status"),
    "Namespace": ("spec", "status"),
    "Node": ("spec", "status"),
    "NodeDaemonEndpoints": ("kubeletEndpoint",),
    "NodeStatus": ("daemonEndpoints", "nodeInfo"),
    "PersistentVolumeClaimTemplate": ("metadata", "spec"),
    "Pod": ("spec", "status"),
    "PodDisruptionBudget": ("spec", "status"),
    "PodTemplateSpec": ("metadata", "spec"),
    "PreferredSchedulingTerm": ("preference",),
    "ReplicaSet": ("spec", "status"),
    "ReplicaSetSpec": ("template",),
    "RoleBinding": ("roleRef",),
    "Scale": ("spec", "status"),
    "SelfSubjectAccessReview": ("spec", "status"),
    "SelfSubjectReview": ("status",),
    "SelfSubjectReviewStatus": ("userInfo",),
    "SelfSubjectRulesReview": ("spec", "status"),
    "Service": ("spec", "status"),
    "ServiceStatus": ("loadBalancer",),
    "SubjectAccessReview": ("spec", "status"),
    "TokenRequest": ("spec", "status"),
    "TokenReview": ("spec", "status"),
    "TokenReviewStatus": ("user",),
    "WeightedPodAffinityTerm": ("podAffinityTerm",),
}

ALWAYS_WRITTEN: dict[str, dict[str, Any]] = {
    "Event": {"eventTime": None, "reportingComponent": "", "reportingInstance": ""},
}
"""Fields that need not be given and are there all the same."""

KEY_DEFAULTS: dict[str, dict[str, Any]] = {
    "ContainerPort": {"protocol": "TCP"},
    "ServicePort": {"protocol": "TCP"},
}


def name_of(schema: Json) -> str:
    """`PodSpec`; empty for what is none of Kubernetes' own types."""
    return str(schema.get(DEFINITION, "")).rpartition(".")[2]


def zeros_of(schema: Json) -> dict[str, Any]:
    """What the fields hold that JSON may leave out: an empty struct, or the zero of a field that must be given."""
    name = name_of(schema)
    if not name:
        return {}
    fields = schema.get("properties", {})
    required = ((field, fields.get(field, {}).get("type")) for field in schema.get("required", ()))
    found = {field: _ZEROS[kind] for field, kind in required if kind in _ZEROS}
    found |= {field: {} for field in STRUCT_FIELDS.get(name, ())} | ALWAYS_WRITTEN.get(name, {})
    return found | dict.fromkeys(zeros.null(short_name(schema[DEFINITION])))


_ZEROS: dict[str, Any] = {"array": [], "boolean": False, "integer": 0, "number": 0, "string": ""}
