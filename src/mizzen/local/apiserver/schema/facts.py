"""What Kubernetes knows of its own types and Python's models of them do not say.

The models give names, JSON types, which fields must be there, and descriptions. How lists are keyed and merged, which
strings are one of a few, which integers are wide and what an untyped map holds is written down here, as `Type.field`,
from the OpenAPI document that Kubernetes publishes. What it checks in Go and publishes nowhere is in `rules`.
"""

from typing import NamedTuple


class ListMap(NamedTuple):
    """A list of objects told apart by `keys`; strategic merge patches go by `merge_key` and `strategy` (empty:
    replaced)."""

    keys: tuple[str, ...]
    merge_key: str
    strategy: str = "merge"


_BY_NAME, _BY_TYPE, _BY_IP = ListMap(("name",), "name"), ListMap(("type",), "type"), ListMap(("ip",), "ip")
_BY_NAME_RETAINING = ListMap(("name",), "name", "merge,retainKeys")
_BY_MOUNT_PATH, _BY_DEVICE_PATH = ListMap(("mountPath",), "mountPath"), ListMap(("devicePath",), "devicePath")
_BY_CONTAINER_PORT = ListMap(("containerPort", "protocol"), "containerPort")

LIST_MAPS: dict[str, ListMap] = {
    "Container.env": _BY_NAME,
    "Container.ports": _BY_CONTAINER_PORT,
    "Container.volumeDevices": _BY_DEVICE_PATH,
    "Container.volumeMounts": _BY_MOUNT_PATH,
    "ContainerStatus.allocatedResourcesStatus": _BY_NAME,
    "ContainerStatus.volumeMounts": _BY_MOUNT_PATH,
    "CustomResourceDefinitionStatus.conditions": ListMap(("type",), "", ""),
    "DeploymentStatus.conditions": _BY_TYPE,
    "EphemeralContainer.env": _BY_NAME,
    "EphemeralContainer.ports": _BY_CONTAINER_PORT,
    "EphemeralContainer.volumeDevices": _BY_DEVICE_PATH,
    "EphemeralContainer.volumeMounts": _BY_MOUNT_PATH,
    "JSONSchemaProps.x-kubernetes-validations": ListMap(("rule",), "rule"),
    "NamespaceStatus.conditions": _BY_TYPE,
    "NodeStatus.addresses": _BY_TYPE,
    "NodeStatus.conditions": _BY_TYPE,
    "ObjectMeta.ownerReferences": ListMap(("uid",), "uid"),
    "PodSpec.containers": _BY_NAME,
    "PodSpec.ephemeralContainers": _BY_NAME,
    "PodSpec.hostAliases": _BY_IP,
    "PodSpec.imagePullSecrets": _BY_NAME,
    "PodSpec.initContainers": _BY_NAME,
    "PodSpec.resourceClaims": _BY_NAME_RETAINING,
    "PodSpec.schedulingGates": _BY_NAME,
    "PodSpec.topologySpreadConstraints": ListMap(("topologyKey", "whenUnsatisfiable"), "topologyKey"),
    "PodSpec.volumes": _BY_NAME_RETAINING,
    "PodStatus.conditions": _BY_TYPE,
    "PodStatus.podIPs": _BY_IP,
    "PodStatus.resourceClaimStatuses": _BY_NAME_RETAINING,
    "ReplicaSetStatus.conditions": _BY_TYPE,
    "ResourceRequirements.claims": ListMap(("name",), "", ""),
    "ResourceStatus.resources": ListMap(("resourceID",), "", ""),
    "ServiceAccount.secrets": _BY_NAME,
    "ServiceSpec.ports": ListMap(("port", "protocol"), "port"),
    "ServiceStatus.conditions": _BY_TYPE,
}
"""Lists that server-side apply takes as maps. Every other list is atomic, but for `LIST_SETS`."""

LIST_SETS = frozenset({
    "ContainerRestartRuleOnExitCodes.values",
    "Endpoint.addresses",
    "NodeAllocatableResourceClaimStatus.containers",
    "NodeSpec.podCIDRs",
    "ObjectMeta.finalizers",
    "PodFailurePolicyOnExitCodesRequirement.values",
    "UncountedTerminatedPods.failed",
    "UncountedTerminatedPods.succeeded",
})  # fmt: skip

PATCHED_OTHERWISE: dict[str, tuple[str, str]] = {
    "DeploymentSpec.strategy": ("retainKeys", ""),
    "JobStatus.conditions": ("merge", "type"),
    "NodeSpec.podCIDRs": ("merge", ""),
    "ObjectMeta.finalizers": ("merge", ""),
    "PodStatus.hostIPs": ("merge", "ip"),
}
"""Strategy and merge key of strategic merge patches where server-side apply goes another way."""

ATOMIC = frozenset({
    "ConfigMapKeySelector", "EndpointPort", "FileKeySelector", "LabelSelector", "LocalObjectReference", "NodeSelector",
    "NodeSelectorTerm", "ObjectFieldSelector", "ObjectReference", "OwnerReference", "PodSpec.nodeSelector",
    "ResourceFieldSelector", "RoleRef", "SecretKeySelector", "ServiceSpec.selector", "Subject",
    "TypedLocalObjectReference",
})  # fmt: skip
"""Objects (all of a type, or one field) that server-side apply takes as one value."""

_PROTOCOL = ("SCTP", "TCP", "UDP")
_PULL_POLICY = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICY = ("File", "FallbackToLogsOnError")
_PROFILE = ("Localhost", "RuntimeDefault", "Unconfined")
_TAINT_EFFECT = ("NoExecute", "NoSchedule", "PreferNoSchedule")

ENUMS: dict[str, tuple[str, ...]] = {
    "AppArmorProfile.type": _PROFILE,
    "Container.imagePullPolicy": _PULL_POLICY,
    "Container.terminationMessagePolicy": _MESSAGE_POLICY,
    "ContainerPort.protocol": _PROTOCOL,
    "CustomResourceDefinitionSpec.scope": ("Cluster", "Namespaced"),
    "DeploymentStrategy.type": ("Recreate", "RollingUpdate"),
    "EndpointPort.protocol": _PROTOCOL,
    "EndpointSlice.addressType": ("FQDN", "IPv4", "IPv6"),
    "EphemeralContainer.imagePullPolicy": _PULL_POLICY,
    "EphemeralContainer.terminationMessagePolicy": _MESSAGE_POLICY,
    "HTTPGetAction.scheme": ("HTTP", "HTTPS"),
    "HostPathVolumeSource.type": (
        "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
    ),
    "ImageVolumeSource.pullPolicy": _PULL_POLICY,
    "JobSpec.completionMode": ("Indexed", "NonIndexed"),
    "JobSpec.podReplacementPolicy": ("Failed", "TerminatingOrFailed"),
    "NamespaceStatus.phase": ("Active", "Terminating"),
    "NodeSelectorRequirement.operator": ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"),
    "NodeStatus.phase": ("Pending", "Running", "Terminated"),
    "PersistentVolumeClaimSpec.volumeMode": ("Block", "Filesystem"),
    "PodFailurePolicyOnExitCodesRequirement.operator": ("In", "NotIn"),
    "PodFailurePolicyRule.action": ("Count", "FailIndex", "FailJob", "Ignore"),
    "PodSecurityContext.fsGroupChangePolicy": ("Always", "OnRootMismatch"),
    "PodSecurityContext.supplementalGroupsPolicy": ("Merge", "Strict"),
    "PodSpec.dnsPolicy": ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
    "PodSpec.preemptionPolicy": ("Never", "PreemptLowerPriority"),
    "PodSpec.restartPolicy": ("Always", "OnFailure", "Never"),
    "PodStatus.phase": ("Failed", "Pending", "Running", "Succeeded", "Unknown"),
    "PodStatus.qosClass": ("BestEffort", "Burstable", "Guaranteed"),
    "PortStatus.protocol": _PROTOCOL,
    "SeccompProfile.type": _PROFILE,
    "SecurityContext.procMount": ("Default", "Unmasked"),
    "ServicePort.protocol": _PROTOCOL,
    "ServiceSpec.externalTrafficPolicy": ("Cluster", "Local"),
    "ServiceSpec.internalTrafficPolicy": ("Cluster", "Local"),
    "ServiceSpec.ipFamilyPolicy": ("PreferDualStack", "RequireDualStack", "SingleStack"),
    "ServiceSpec.sessionAffinity": ("ClientIP", "None"),
    "ServiceSpec.type": ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
    "Taint.effect": _TAINT_EFFECT,
    "Toleration.effect": _TAINT_EFFECT,
    "Toleration.operator": ("Equal", "Exists"),
    "TopologySpreadConstraint.nodeAffinityPolicy": ("Honor", "Ignore"),
    "TopologySpreadConstraint.nodeTaintsPolicy": ("Honor", "Ignore"),
    "TopologySpreadConstraint.whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
    "VolumeMount.mountPropagation": ("Bidirectional", "HostToContainer", "None"),
}  # fmt: skip

CHECKED_ELSEWHERE = frozenset({"DeploymentStrategy.type", "NodeSelectorRequirement.operator"})
"""Enums that Kubernetes publishes and whose field it checks in other words."""

_WIDE_FIELDS = frozenset({
    "activeDeadlineSeconds", "deletionGracePeriodSeconds", "expirationSeconds", "fsGroup", "generation",
    "gid", "gracePeriodSeconds", "maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties",
    "observedGeneration", "runAsGroup", "runAsUser", "seconds", "sizeBytes", "terminationGracePeriodSeconds",
    "tolerationSeconds", "uid",
})  # fmt: skip
_WIDE_ITEMS = frozenset({"PodSecurityContext.supplementalGroups", "LinuxContainerUser.supplementalGroups"})

_QUANTITIES = frozenset(
    {"allocatable", "allocatedResources", "capacity", "limits", "overhead", "requests", "resources"}
)
_BYTES = frozenset({"Secret.data", "ConfigMap.binaryData"})
BYTE_FIELDS = frozenset({"WebhookClientConfig.caBundle"})


def integer_format(type_name: str, field: str) -> str:
    """`int64` or `int32`."""
    place = f"{type_name}.{field}"
    wide = field in _WIDE_FIELDS or place in _WIDE_ITEMS or place == "NodeSwapStatus.capacity"
    return "int64" if wide else "int32"


def map_values(type_name: str, field: str) -> str:
    """What an untyped map holds: `Quantity`, `byte`, `strings` (a list of them), `JSONSchemaProps`, `JSON` or
    `string`."""
    if type_name == "JSONSchemaProps":
        return "JSON" if field == "dependencies" else "JSONSchemaProps"
    if field == "extra":
        return "strings"
    if f"{type_name}.{field}" in _BYTES:
        return "byte"
    return "Quantity" if field in _QUANTITIES else "string"
