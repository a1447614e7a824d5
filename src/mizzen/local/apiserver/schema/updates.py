"""What an update of a built-in type may not change, in Kubernetes' words.

Custom resources and definitions have their own (`structural.validate` with `old`, `crd.check_crd`); metadata is in
`metadata.check_update`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from mizzen.local.apiserver.errors import Cause
from mizzen.local.apiserver.schema.causes import forbidden, invalid
from mizzen.local.apiserver.schema.nodes import same
from mizzen.local.apiserver.types import Json, ResourceType

_IMMUTABLE = "field is immutable"
_POD_UPDATABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_SCHEDULING = frozenset({"affinity", "nodeSelector", "tolerations", "schedulingGates"})
Check = Callable[[Json, Json], Iterator[Cause]]


def check_update(rtype: ResourceType, obj: Json, old: Json) -> list[Cause]:
    """What this update of an object's main resource may not change; both are complete and defaulted."""
    check = _CHECKS.get((rtype.group, rtype.kind))
    return list(check(obj, old)) if check is not None else []


def _fixed(path: str, new: Any, old: Any) -> Iterator[Cause]:
    if not same(new, old):
        yield invalid(path, new, _IMMUTABLE)


def _spec_fields(*names: str) -> Check:
    def check(obj: Json, old: Json) -> Iterator[Cause]:
        for name in names:
            yield from _fixed(f"spec.{name}", (obj.get("spec") or {}).get(name), (old.get("spec") or {}).get(name))

    return check


def _pod(obj: Json, old: Json) -> Iterator[Cause]:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    gates = {gate.get("name") for gate in before.get("schedulingGates") or ()}
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        if gate.get("name") not in gates:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            yield forbidden(f"spec.schedulingGates[{index}].name", detail)
    for name in ("containers", "initContainers"):
        if len(spec.get(name) or ()) != len(before.get(name) or ()):
            yield forbidden(f"spec.{name}", "pod updates may not add or remove containers")
            return
    deadline, earlier = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if deadline is not None and earlier is not None and deadline > earlier:
        yield invalid("spec.activeDeadlineSeconds", deadline, "must be less than or equal to previous value")
        return
    if deadline is None and earlier is not None:
        yield invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")
    kept = [_but_seconds(item) for item in spec.get("tolerations") or ()]
    if any(not any(same(_but_seconds(item), other) for other in kept) for item in before.get("tolerations") or ()):
        yield forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
    changed = [
        name for name in sorted({*spec, *before}) if not same(_comparable(spec, name), _comparable(before, name))
    ]
    if gates and "nodeSelector" in changed:  # a Pod that waits at a gate may still be told where to go
        changed.remove("nodeSelector")
        yield from _only_more("spec.nodeSelector", spec.get("nodeSelector") or {}, before.get("nodeSelector") or {})
    if changed:
        yield forbidden("spec", f"{_POD_UPDATABLE}\nchanged: {', '.join(changed)}")


def _but_seconds(toleration: Json) -> Json:
    return {name: value for name, value in toleration.items() if name != "tolerationSeconds"}


def _only_more(path: str, new: Json, old: Json) -> Iterator[Cause]:
    if not old.items() <= new.items():
        yield invalid(path, new, f"only additions to {path} are allowed (no mutations or deletions)")


def _comparable(spec: Json, name: str) -> Any:
    """A field of a Pod's spec without what an update may change in it."""
    value = spec.get(name)
    if name in {"containers", "initContainers"}:
        return [{key: item for key, item in container.items() if key != "image"} for container in value or ()]
    if name == "terminationGracePeriodSeconds":
        return 1 if isinstance(value, int) and value < 0 else value
    return None if name in {"activeDeadlineSeconds", "tolerations", "schedulingGates"} else value


def _job(obj: Json, old: Json) -> Iterator[Cause]:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if not (elastic and spec.get("completions") is not None):
        yield from _fixed("spec.completions", spec.get("completions"), before.get("completions"))
    names = ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")
    yield from _spec_fields(*names)(obj, old)
    template, earlier = spec.get("template") or {}, before.get("template") or {}
    if _is_held(old):
        template, earlier = _fixed_in_template(template), _fixed_in_template(earlier)
    if not same(template, earlier):
        yield invalid("spec.template", spec.get("template"), _IMMUTABLE)


def _is_held(job: Json) -> bool:
    """Whether none of a suspended Job's Pods can be there, yet or any more."""
    status = job.get("status") or {}
    conditions = {(one.get("type"), one.get("status")) for one in status.get("conditions") or ()}
    is_still = not status.get("startTime") or ("Suspended", "True") in conditions
    return bool((job.get("spec") or {}).get("suspend")) and is_still and not status.get("active")


def _fixed_in_template(template: Json) -> Json:
    """What of a held Job's template cannot change: all but where its Pods may run and what they ask for."""
    spec, metadata = template.get("spec") or {}, template.get("metadata") or {}
    affinity = {name: value for name, value in (spec.get("affinity") or {}).items() if name != "nodeAffinity"}
    fixed = {name: value for name, value in spec.items() if name not in _SCHEDULING}
    for field in ("containers", "initContainers"):
        fixed[field] = [{**one, "resources": None} for one in spec.get(field) or ()]
    return {
        "metadata": {name: value for name, value in metadata.items() if name not in {"labels", "annotations"}},
        "spec": {**fixed, "affinity": affinity},
    }


def _config(obj: Json, old: Json) -> Iterator[Cause]:
    """Secrets and ConfigMaps that say `immutable`; a Secret's type always."""
    if obj.get("type") != old.get("type"):
        yield invalid("type", obj.get("type"), _IMMUTABLE)
    if not old.get("immutable"):
        return
    if not obj.get("immutable"):
        yield forbidden("immutable", "field is immutable when `immutable` is set")
    for name in ("data", "binaryData"):
        if not same(obj.get(name), old.get(name)):
            yield forbidden(name, "field is immutable when `immutable` is set")


def _binding(obj: Json, old: Json) -> Iterator[Cause]:
    if not same(obj.get("roleRef"), old.get("roleRef")):
        yield invalid("roleRef", obj.get("roleRef"), "cannot change roleRef")


def _service(obj: Json, old: Json) -> Iterator[Cause]:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    if spec.get("type") != "ExternalName" and before.get("type") != "ExternalName" and before.get("clusterIP"):
        yield from _fixed("spec.clusterIP", spec.get("clusterIP", ""), before["clusterIP"])


def _endpoint_slice(obj: Json, old: Json) -> Iterator[Cause]:
    yield from _fixed("addressType", obj.get("addressType"), old.get("addressType"))


_RBAC = "rbac.authorization.k8s.io"
_CHECKS: dict[tuple[str, str], Check] = {
    ("", "Pod"): _pod,
    ("", "Secret"): _config,
    ("", "ConfigMap"): _config,
    ("", "Service"): _service,
    ("apps", "Deployment"): _spec_fields("selector"),
    ("apps", "ReplicaSet"): _spec_fields("selector"),
    ("batch", "Job"): _job,
    ("discovery.k8s.io", "EndpointSlice"): _endpoint_slice,
    (_RBAC, "RoleBinding"): _binding,
    (_RBAC, "ClusterRoleBinding"): _binding,
}
