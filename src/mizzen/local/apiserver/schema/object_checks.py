"""What Kubernetes checks of workloads, configuration, RBAC and leases; in its words."""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema import names
from mizzen.local.apiserver.schema.causes import duplicate, forbidden, invalid, not_supported, required, too_long
from mizzen.local.apiserver.schema.metadata import contents
from mizzen.local.apiserver.schema.pod_checks import INT32_MAX, at, in_range, non_negative
from mizzen.local.apiserver.types import Json

_PERCENT = re.compile(r"^[0-9]+%$")
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)
_SECRET_BYTES_MAX = 1024 * 1024
_REQUIRED_KEYS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_JSON_KEYS = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}
_STRATEGIES = ("Recreate", "RollingUpdate")
_RBAC = "rbac.authorization.k8s.io"


def selects(selector: Json, labels: Json) -> bool:
    """Whether a label selector matches these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or ():
        operator, values, present = rule.get("operator"), rule.get("values") or [], rule.get("key") in labels
        value = labels.get(rule.get("key"))
        holds = {
            "In": present and value in values,
            "NotIn": not present or value not in values,
            "Exists": present,
            "DoesNotExist": not present,
        }
        if not holds.get(operator, False):
            return False
    return True


def label_selector(value: Json) -> Iterator[Cause]:
    for key, text in (value.get("matchLabels") or {}).items():
        yield from (invalid("matchLabels", key, reason) for reason in names.qualified_name(key))
        yield from (invalid("matchLabels", text, reason) for reason in names.label_value(text))


def label_requirement(value: Json) -> Iterator[Cause]:
    operator, values = value.get("operator") or "", value.get("values") or []
    if operator not in {"In", "NotIn", "Exists", "DoesNotExist"}:
        yield invalid("operator", operator, "not a valid selector operator")
    if operator in {"In", "NotIn"} and not values:
        yield required("values", "must be specified when `operator` is 'In' or 'NotIn'")
    if operator in {"Exists", "DoesNotExist"} and values:
        yield forbidden("values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    yield from (invalid("key", value.get("key", ""), reason) for reason in names.qualified_name(value.get("key") or ""))


def _template(spec: Json, *, always: bool) -> Iterator[Cause]:
    """The Pod template of a Deployment or ReplicaSet."""
    selector, template = spec.get("selector"), spec.get("template")
    labels = ((template or {}).get("metadata") or {}).get("labels") or {}
    if selector is None:
        yield required("selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid("selector", selector, "empty selector is invalid for deployment")
    if not selector or not selects(selector, labels):
        yield invalid("template.metadata.labels", labels or None, "`selector` does not match template `labels`")
    if not template or not template.get("spec"):
        yield required("template.spec.containers")
        return
    restart = template["spec"].get("restartPolicy")
    if always and restart in {"OnFailure", "Never"}:
        yield not_supported("template.spec.restartPolicy", restart, ("Always",))
    if always and template["spec"].get("activeDeadlineSeconds") is not None:
        yield forbidden("template.spec.activeDeadlineSeconds", "activeDeadlineSeconds in ReplicaSet is not Supported")


def pod_template(value: Json) -> Iterator[Cause]:
    yield from contents(value.get("metadata") or {}, "metadata")
    if (value.get("spec") or {}).get("ephemeralContainers"):
        yield forbidden("spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


def deployment_spec(value: Json) -> Iterator[Cause]:
    yield from _template(value, always=True)
    yield from non_negative(value, "replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    deadline, ready = value.get("progressDeadlineSeconds"), value.get("minReadySeconds") or 0
    if deadline is not None and deadline <= ready:
        yield invalid("progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def replica_set_spec(value: Json) -> Iterator[Cause]:
    yield from _template(value, always=True)
    yield from non_negative(value, "replicas", "minReadySeconds")


def deployment_strategy(value: Json) -> Iterator[Cause]:
    if value.get("type") not in _STRATEGIES:
        yield not_supported("", value, _STRATEGIES)
    if value.get("type") == "Recreate" and value.get("rollingUpdate") is not None:
        yield forbidden("rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")


def rolling_update(value: Json) -> Iterator[Cause]:
    for field in ("maxUnavailable", "maxSurge"):
        amount = value.get(field)
        if isinstance(amount, str) and not _PERCENT.match(amount):
            yield invalid(field, amount, _PERCENT_TEXT)
        elif isinstance(amount, int):
            yield from non_negative(value, field)
        if field == "maxUnavailable" and isinstance(amount, str) and _PERCENT.match(amount) and int(amount[:-1]) > 100:
            yield invalid(field, amount, "must not be greater than 100%")
    if all(str(value.get(field, "")) in {"0", "0%"} for field in ("maxUnavailable", "maxSurge")):
        yield invalid("maxUnavailable", value["maxUnavailable"], "may not be 0 when `maxSurge` is 0")


def job_spec(value: Json) -> Iterator[Cause]:
    yield from non_negative(
        value, "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
        "backoffLimitPerIndex", "maxFailedIndexes",
    )  # fmt: skip
    indexed = value.get("completionMode") == "Indexed"
    if indexed and value.get("completions") is None:
        yield required("completions", "when completion mode is Indexed")
    if indexed and (value.get("parallelism") or 0) > 100_000:
        detail = "must be less than or equal to 100000 when completion mode is Indexed"
        yield invalid("parallelism", value["parallelism"], detail)
    for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
        if not indexed and value.get(field) is not None:
            yield invalid(field, value[field], "requires indexed completion mode")
    if not indexed and value.get("successPolicy") is not None:
        yield invalid("successPolicy", value["successPolicy"], "requires indexed completion mode")
    template = value.get("template") or {}
    spec = template.get("spec")
    if value.get("manualSelector"):
        labels, selector = (template.get("metadata") or {}).get("labels") or {}, value.get("selector")
        if selector is None:
            yield required("selector")
        if not selector or not selects(selector, labels):
            yield invalid("template.metadata.labels", labels or None, "`selector` does not match template `labels`")
    if not spec:
        yield required("template.spec.containers")
        spec = {}
    policy, restart = value.get("podFailurePolicy"), spec.get("restartPolicy")
    if policy is not None:
        yield from at("podFailurePolicy", _failure_policy(policy, spec, indexed=indexed))
        if value.get("podReplacementPolicy") not in {None, "Failed"}:
            yield not_supported("podReplacementPolicy", value["podReplacementPolicy"], ("Failed",))
    if restart in {None, "", "Always"}:
        yield required("template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    elif policy is not None and restart == "OnFailure":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        yield invalid("template.spec.restartPolicy", restart, detail)


def _failure_policy(policy: Json, spec: Json, *, indexed: bool) -> Iterator[Cause]:
    containers = {c.get("name") for c in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]}
    for index, rule in enumerate(policy.get("rules") or ()):
        place, codes, conditions = f"rules[{index}]", rule.get("onExitCodes"), rule.get("onPodConditions") or []
        if rule.get("action") == "FailIndex" and not indexed:
            yield invalid(f"{place}.action", "FailIndex", "requires the backoffLimitPerIndex to be set")
        if codes is not None and conditions:
            detail = "specifying both OnExitCodes and OnPodConditions is not supported"
            yield Cause("FieldValueInvalid", f"Invalid value: {detail}", place)
        if codes is None and not conditions:
            detail = "specifying one of OnExitCodes and OnPodConditions is required"
            yield Cause("FieldValueInvalid", f"Invalid value: {detail}", place)
        if codes is not None:
            yield from at(f"{place}.onExitCodes", _exit_codes(codes, containers))


def _exit_codes(codes: Json, containers: set[Any]) -> Iterator[Cause]:
    name, values = codes.get("containerName"), codes.get("values") or []
    if name is not None and name not in containers:
        yield invalid("containerName", name, "must be one of the container or initContainer names in the pod template")
    if not values:
        yield invalid("values", values, "at least one value is required")
    if codes.get("operator") == "In" and 0 in values:
        yield invalid(f"values[{values.index(0)}]", 0, "must not be 0 for the In operator")
    yield from (duplicate(f"values[{i}]", v) for i, v in enumerate(values) if v in values[:i])
    if values != sorted(values):
        yield invalid("values", values, "must be ordered")


def secret(value: Json) -> Iterator[Cause]:
    data = value.get("data") or {}
    yield from (invalid(f"data[{key}]", key, reason) for key in data for reason in names.config_key(key))
    if sum(len(text) * 3 // 4 for text in data.values()) > _SECRET_BYTES_MAX:
        yield too_long("data", _SECRET_BYTES_MAX)
    kind = value.get("type", "")
    yield from (required(f"data[{key}]") for key in _REQUIRED_KEYS.get(kind, ()) if key not in data)
    if kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        yield required("data[ssh-privatekey]")
    if kind == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
        yield required("data[username]")
        yield required("data[password]")
    if (key := _JSON_KEYS.get(kind, "")) in data and not _is_json_object(data[key]):
        yield invalid(f"data[{key}]", "<secret contents redacted>", "must be a JSON object")
    if kind == "kubernetes.io/service-account-token":
        account = ((value.get("metadata") or {}).get("annotations") or {}).get("kubernetes.io/service-account.name")
        if not account:
            yield required("metadata.annotations[kubernetes.io/service-account.name]")


def _is_json_object(encoded: str) -> bool:
    try:
        return isinstance(json.loads(base64.b64decode(encoded)), dict)
    except ValueError:
        return False


def config_map(value: Json) -> Iterator[Cause]:
    data, binary = value.get("data") or {}, value.get("binaryData") or {}
    for place, keys in (("data", data), ("binaryData", binary)):
        yield from (invalid(f"{place}[{key}]", key, reason) for key in keys for reason in names.config_key(key))
    for key in data:
        if key in binary:
            yield invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    size = sum(len(text.encode()) for text in data.values()) + sum(len(text) * 3 // 4 for text in binary.values())
    if size > _SECRET_BYTES_MAX:
        yield too_long("", _SECRET_BYTES_MAX)


def policy_rule(value: Json) -> Iterator[Cause]:
    if not value.get("verbs"):
        yield required("verbs", "verbs must contain at least one value")
    urls, groups, resources = value.get("nonResourceURLs"), value.get("apiGroups"), value.get("resources")
    if urls:
        if groups or resources or value.get("resourceNames"):
            detail = "rules cannot apply to both regular resources and non-resource URLs"
            yield invalid("nonResourceURLs", urls, detail)
        return
    if not groups:
        yield required("apiGroups", "resource rules must supply at least one api group")
    if not resources:
        yield required("resources", "resource rules must supply at least one resource")


def role(value: Json) -> Iterator[Cause]:
    for index, rule in enumerate(value.get("rules") or ()):
        if rule.get("nonResourceURLs"):
            detail = "namespaced rules cannot apply to non-resource URLs"
            yield invalid(f"rules[{index}].nonResourceURLs", rule["nonResourceURLs"], detail)


def role_binding(value: Json) -> Iterator[Cause]:
    ref, kinds = value.get("roleRef") or {}, ("Role", "ClusterRole")
    yield from _role_ref(ref, kinds)
    for index, subject in enumerate(value.get("subjects") or ()):
        yield from at(f"subjects[{index}]", _subject(subject, in_namespace=True))


def cluster_role_binding(value: Json) -> Iterator[Cause]:
    yield from _role_ref(value.get("roleRef") or {}, ("ClusterRole",))
    for index, subject in enumerate(value.get("subjects") or ()):
        yield from at(f"subjects[{index}]", _subject(subject, in_namespace=False))


def _role_ref(ref: Json, kinds: tuple[str, ...]) -> Iterator[Cause]:
    if ref.get("apiGroup") != _RBAC:
        yield not_supported("roleRef.apiGroup", ref.get("apiGroup", ""), (_RBAC,))
    if ref.get("kind") not in kinds:
        yield not_supported("roleRef.kind", ref.get("kind", ""), kinds)
    if not ref.get("name"):
        yield required("roleRef.name")
    else:
        yield from (invalid("roleRef.name", ref["name"], reason) for reason in names.path_segment(ref["name"]))


def _subject(value: Json, *, in_namespace: bool) -> Iterator[Cause]:
    if not value.get("name"):
        yield required("name")
    kind, group = value.get("kind", ""), value.get("apiGroup") or ""
    if kind == "ServiceAccount":
        yield from (
            invalid("name", value.get("name", ""), r)
            for r in names.dns_subdomain(value.get("name") or "")
            if value.get("name")
        )
        if group:
            yield not_supported("apiGroup", group, ("",))
        if not in_namespace and not value.get("namespace"):
            yield required("namespace")
    elif kind in {"User", "Group"}:
        if group != _RBAC:
            yield not_supported("apiGroup", group, (_RBAC,))
    else:
        yield not_supported("kind", kind, ("ServiceAccount", "User", "Group"))


def lease_spec(value: Json) -> Iterator[Cause]:
    duration, transitions = value.get("leaseDurationSeconds"), value.get("leaseTransitions")
    if duration is not None and duration <= 0:
        yield invalid("leaseDurationSeconds", duration, "must be greater than 0")
    if transitions is not None and transitions < 0:
        yield invalid("leaseTransitions", transitions, "must be greater than or equal to 0")


def binding(value: Json) -> Iterator[Cause]:
    target = value.get("target") or {}
    if target.get("kind") not in {None, "", "Node"}:
        yield not_supported("target.kind", target["kind"], ("Node", "<empty>"))
    if not target.get("name"):
        yield required("target.name")


def token_request_spec(value: Json) -> Iterator[Cause]:
    seconds = value.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        yield invalid("expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds is not None and seconds > 1 << 32:
        yield invalid("expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")


def scale_spec(value: Json) -> Iterator[Cause]:
    yield from in_range("replicas", value["replicas"], 0, INT32_MAX) if (value.get("replicas") or 0) < 0 else ()


CHECKS: dict[str, Callable[[Json], Iterable[Cause]]] = {
    "apps.v1.DeploymentSpec": deployment_spec,
    "apps.v1.DeploymentStrategy": deployment_strategy,
    "apps.v1.ReplicaSetSpec": replica_set_spec,
    "apps.v1.RollingUpdateDeployment": rolling_update,
    "authentication.v1.TokenRequestSpec": token_request_spec,
    "autoscaling.v1.ScaleSpec": scale_spec,
    "batch.v1.JobSpec": job_spec,
    "coordination.v1.LeaseSpec": lease_spec,
    "core.v1.Binding": binding,
    "core.v1.ConfigMap": config_map,
    "core.v1.PodTemplateSpec": pod_template,
    "core.v1.Secret": secret,
    "meta.v1.LabelSelector": label_selector,
    "meta.v1.LabelSelectorRequirement": label_requirement,
    "rbac.v1.ClusterRoleBinding": cluster_role_binding,
    "rbac.v1.PolicyRule": policy_rule,
    "rbac.v1.Role": role,
    "rbac.v1.RoleBinding": role_binding,
}
