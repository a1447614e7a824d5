"""How Go writes what is zero: most of Kubernetes' own fields are left out then, some are kept, some become null.

A field that need not be given is left out when it is empty, 0 or false, unless it is a pointer in Go, for which zero is
something said. A time that is no pointer, and a list that Go does not omit, are null instead. The tables are read off
Kubernetes' Go types; a type that is not in them has nothing unusual.
"""

from mizzen.local.apiserver.types import Json

_SCALARS = frozenset({"string", "integer", "number", "boolean"})

_POINTERS: dict[str, frozenset[str]] = {
    "apiextensions.v1.CustomResourceDefinitionVersion": frozenset({"deprecationWarning"}),
    "apiextensions.v1.CustomResourceSubresourceScale": frozenset({"labelSelectorPath"}),
    "apiextensions.v1.ServiceReference": frozenset({"path", "port"}),
    "apiextensions.v1.WebhookClientConfig": frozenset({"url"}),
    "apps.v1.DeploymentCondition": frozenset({"status", "type"}),
    "apps.v1.DeploymentSpec": frozenset({"progressDeadlineSeconds", "replicas", "revisionHistoryLimit"}),
    "apps.v1.DeploymentStatus": frozenset({"collisionCount", "terminatingReplicas"}),
    "apps.v1.ReplicaSetCondition": frozenset({"status", "type"}),
    "apps.v1.ReplicaSetSpec": frozenset({"replicas"}),
    "apps.v1.ReplicaSetStatus": frozenset({"terminatingReplicas"}),
    "authentication.v1.TokenRequestSpec": frozenset({"expirationSeconds"}),
    "authentication.v1.TokenRequestStatus": frozenset({"token"}),
    "batch.v1.JobSpec": frozenset(
        {
            "activeDeadlineSeconds",
            "backoffLimit",
            "backoffLimitPerIndex",
            "completionMode",
            "completions",
            "managedBy",
            "manualSelector",
            "maxFailedIndexes",
            "parallelism",
            "podReplacementPolicy",
            "suspend",
            "ttlSecondsAfterFinished",
        }
    ),
    "batch.v1.JobStatus": frozenset({"failedIndexes", "ready", "terminating"}),
    "batch.v1.PodFailurePolicyOnExitCodesRequirement": frozenset({"containerName"}),
    "batch.v1.PodFailurePolicyOnPodConditionsPattern": frozenset({"status"}),
    "batch.v1.SuccessPolicyRule": frozenset({"succeededCount", "succeededIndexes"}),
    "coordination.v1.LeaseSpec": frozenset(
        {"holderIdentity", "leaseDurationSeconds", "leaseTransitions", "preferredHolder", "strategy"}
    ),
    "core.v1.AppArmorProfile": frozenset({"localhostProfile"}),
    "core.v1.AzureDiskVolumeSource": frozenset({"cachingMode", "fsType", "kind", "readOnly"}),
    "core.v1.CSIVolumeSource": frozenset({"fsType", "readOnly"}),
    "core.v1.ClientIPConfig": frozenset({"timeoutSeconds"}),
    "core.v1.ClusterTrustBundleProjection": frozenset({"name", "optional", "signerName"}),
    "core.v1.ConfigMap": frozenset({"immutable"}),
    "core.v1.ConfigMapEnvSource": frozenset({"optional"}),
    "core.v1.ConfigMapKeySelector": frozenset({"optional"}),
    "core.v1.ConfigMapProjection": frozenset({"optional"}),
    "core.v1.ConfigMapVolumeSource": frozenset({"defaultMode", "optional"}),
    "core.v1.Container": frozenset({"restartPolicy"}),
    "core.v1.ContainerStatus": frozenset({"started", "stopSignal"}),
    "core.v1.DownwardAPIVolumeFile": frozenset({"mode"}),
    "core.v1.DownwardAPIVolumeSource": frozenset({"defaultMode"}),
    "core.v1.EphemeralContainer": frozenset({"restartPolicy"}),
    "core.v1.Event": frozenset({"reportingComponent", "reportingInstance"}),
    "core.v1.FCVolumeSource": frozenset({"lun"}),
    "core.v1.FileKeySelector": frozenset({"optional"}),
    "core.v1.GRPCAction": frozenset({"service"}),
    "core.v1.HostPathVolumeSource": frozenset({"type"}),
    "core.v1.ISCSIVolumeSource": frozenset({"initiatorName"}),
    "core.v1.KeyToPath": frozenset({"mode"}),
    "core.v1.Lifecycle": frozenset({"stopSignal"}),
    "core.v1.LoadBalancerIngress": frozenset({"ipMode"}),
    "core.v1.NodeFeatures": frozenset({"supplementalGroupsPolicy"}),
    "core.v1.NodeRuntimeHandler": frozenset({"name"}),
    "core.v1.NodeRuntimeHandlerFeatures": frozenset({"recursiveReadOnlyMounts", "userNamespaces"}),
    "core.v1.NodeSwapStatus": frozenset({"capacity"}),
    "core.v1.PersistentVolumeClaimSpec": frozenset({"storageClassName", "volumeAttributesClassName", "volumeMode"}),
    "core.v1.PodCertificateProjection": frozenset({"maxExpirationSeconds"}),
    "core.v1.PodDNSConfigOption": frozenset({"value"}),
    "core.v1.PodResourceClaim": frozenset({"resourceClaimName", "resourceClaimTemplateName"}),
    "core.v1.PodResourceClaimStatus": frozenset({"resourceClaimName"}),
    "core.v1.PodSchedulingGroup": frozenset({"podGroupName"}),
    "core.v1.PodSecurityContext": frozenset(
        {
            "fsGroup",
            "fsGroupChangePolicy",
            "runAsGroup",
            "runAsNonRoot",
            "runAsUser",
            "seLinuxChangePolicy",
            "supplementalGroupsPolicy",
        }
    ),
    "core.v1.PodSpec": frozenset(
        {
            "activeDeadlineSeconds",
            "automountServiceAccountToken",
            "enableServiceLinks",
            "hostUsers",
            "hostnameOverride",
            "preemptionPolicy",
            "priority",
            "runtimeClassName",
            "setHostnameAsFQDN",
            "shareProcessNamespace",
            "terminationGracePeriodSeconds",
        }
    ),
    "core.v1.PortStatus": frozenset({"error"}),
    "core.v1.Probe": frozenset({"terminationGracePeriodSeconds"}),
    "core.v1.ProjectedVolumeSource": frozenset({"defaultMode"}),
    "core.v1.ResourceHealth": frozenset({"message"}),
    "core.v1.SeccompProfile": frozenset({"localhostProfile"}),
    "core.v1.Secret": frozenset({"immutable"}),
    "core.v1.SecretEnvSource": frozenset({"optional"}),
    "core.v1.SecretKeySelector": frozenset({"optional"}),
    "core.v1.SecretProjection": frozenset({"optional"}),
    "core.v1.SecretVolumeSource": frozenset({"defaultMode", "optional"}),
    "core.v1.SecurityContext": frozenset(
        {
            "allowPrivilegeEscalation",
            "privileged",
            "procMount",
            "readOnlyRootFilesystem",
            "runAsGroup",
            "runAsNonRoot",
            "runAsUser",
        }
    ),
    "core.v1.ServiceAccount": frozenset({"automountServiceAccountToken"}),
    "core.v1.ServiceAccountTokenProjection": frozenset({"expirationSeconds"}),
    "core.v1.ServicePort": frozenset({"appProtocol"}),
    "core.v1.ServiceSpec": frozenset(
        {
            "allocateLoadBalancerNodePorts",
            "internalTrafficPolicy",
            "ipFamilyPolicy",
            "loadBalancerClass",
            "trafficDistribution",
        }
    ),
    "core.v1.Toleration": frozenset({"tolerationSeconds"}),
    "core.v1.TopologySpreadConstraint": frozenset({"minDomains", "nodeAffinityPolicy", "nodeTaintsPolicy"}),
    "core.v1.TypedLocalObjectReference": frozenset({"apiGroup"}),
    "core.v1.TypedObjectReference": frozenset({"apiGroup", "namespace"}),
    "core.v1.VolumeMount": frozenset({"mountPropagation", "recursiveReadOnly"}),
    "core.v1.VolumeMountStatus": frozenset({"recursiveReadOnly"}),
    "core.v1.WindowsSecurityContextOptions": frozenset(
        {"gmsaCredentialSpec", "gmsaCredentialSpecName", "hostProcess", "runAsUserName"}
    ),
    "discovery.v1.Endpoint": frozenset({"hostname", "nodeName", "zone"}),
    "discovery.v1.EndpointConditions": frozenset({"ready", "serving", "terminating"}),
    "discovery.v1.EndpointPort": frozenset({"appProtocol", "name", "port", "protocol"}),
    "meta.v1.DeleteOptions": frozenset(
        {
            "gracePeriodSeconds",
            "ignoreStoreReadErrorWithClusterBreakingPotential",
            "orphanDependents",
            "propagationPolicy",
        }
    ),
    "meta.v1.ObjectMeta": frozenset({"deletionGracePeriodSeconds"}),
    "meta.v1.OwnerReference": frozenset({"blockOwnerDeletion", "controller"}),
    "meta.v1.Preconditions": frozenset({"resourceVersion", "uid"}),
    "rbac.v1.RoleRef": frozenset({"apiGroup"}),
}
"""Fields that are kept when they are zero, by type."""

_NULL: dict[str, frozenset[str]] = {
    "apiextensions.v1.CustomResourceDefinitionCondition": frozenset({"lastTransitionTime"}),
    "apiextensions.v1.CustomResourceDefinitionSpec": frozenset({"versions"}),
    "apiextensions.v1.CustomResourceDefinitionStatus": frozenset({"conditions", "storedVersions"}),
    "apiextensions.v1.WebhookConversion": frozenset({"conversionReviewVersions"}),
    "apps.v1.DeploymentCondition": frozenset({"lastTransitionTime", "lastUpdateTime"}),
    "apps.v1.ReplicaSetCondition": frozenset({"lastTransitionTime"}),
    "authentication.v1.TokenRequestSpec": frozenset({"audiences"}),
    "authentication.v1.TokenRequestStatus": frozenset({"expirationTimestamp"}),
    "authorization.v1.NonResourceRule": frozenset({"verbs"}),
    "authorization.v1.ResourceRule": frozenset({"verbs"}),
    "authorization.v1.SubjectRulesReviewStatus": frozenset({"nonResourceRules", "resourceRules"}),
    "batch.v1.JobCondition": frozenset({"lastProbeTime", "lastTransitionTime"}),
    "batch.v1.PodFailurePolicy": frozenset({"rules"}),
    "batch.v1.PodFailurePolicyOnExitCodesRequirement": frozenset({"values"}),
    "batch.v1.SuccessPolicy": frozenset({"rules"}),
    "core.v1.CephFSVolumeSource": frozenset({"monitors"}),
    "core.v1.ContainerImage": frozenset({"names"}),
    "core.v1.ContainerStateRunning": frozenset({"startedAt"}),
    "core.v1.ContainerStateTerminated": frozenset({"finishedAt", "startedAt"}),
    "core.v1.Event": frozenset({"eventTime", "firstTimestamp", "lastTimestamp"}),
    "core.v1.EventSeries": frozenset({"lastObservedTime"}),
    "core.v1.NamespaceCondition": frozenset({"lastTransitionTime"}),
    "core.v1.NodeCondition": frozenset({"lastHeartbeatTime", "lastTransitionTime"}),
    "core.v1.NodeSelector": frozenset({"nodeSelectorTerms"}),
    "core.v1.PodCondition": frozenset({"lastProbeTime", "lastTransitionTime"}),
    "core.v1.PodExtendedResourceClaimStatus": frozenset({"requestMappings"}),
    "core.v1.PodSpec": frozenset({"containers"}),
    "core.v1.ProjectedVolumeSource": frozenset({"sources"}),
    "core.v1.RBDVolumeSource": frozenset({"monitors"}),
    "discovery.v1.Endpoint": frozenset({"addresses"}),
    "discovery.v1.EndpointSlice": frozenset({"endpoints", "ports"}),
    "events.v1.Event": frozenset({"deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"}),
    "events.v1.EventSeries": frozenset({"lastObservedTime"}),
    "meta.v1.Condition": frozenset({"lastTransitionTime"}),
    "rbac.v1.ClusterRole": frozenset({"rules"}),
    "rbac.v1.PolicyRule": frozenset({"verbs"}),
    "rbac.v1.Role": frozenset({"rules"}),
}
"""Fields that are null when they are zero, by type."""


def left_out(definition: str, schema: Json) -> frozenset[str]:
    """The fields of that type (`core.v1.PodSpec`) that are not written when they are zero."""
    kept = _POINTERS.get(definition, frozenset()) | _NULL.get(definition, frozenset()) | set(schema.get("required", ()))
    return frozenset(
        name for name, sub in schema.get("properties", {}).items() if name not in kept and _can_be_zero(sub)
    )


def null(definition: str) -> frozenset[str]:
    """The fields of that type that are written as null when they are zero."""
    return _NULL.get(definition, frozenset())


def _can_be_zero(schema: Json) -> bool:
    """Whether the schema is of text, numbers, lists or maps: a struct is there or not, and says so itself."""
    return schema.get("type") in _SCALARS | {"array"} or "additionalProperties" in schema
