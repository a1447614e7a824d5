"""The admission plugin Priority, as far as it goes without PriorityClasses: the two classes of the system, and none."""

from mizzen.local.apiserver.errors import Forbidden
from mizzen.local.apiserver.types import AdmissionContext, Json

_SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def priority(context: AdmissionContext, pod: Json) -> Json:
    """Gives each Pod its priority; a class that is not there is refused."""
    if context.rtype.key != ("", "pods") or context.subresource or context.operation != "CREATE":
        return pod
    spec = pod.get("spec") or {}
    name: str = spec.get("priorityClassName") or ""
    if name and name not in _SYSTEM:
        raise Forbidden(
            f'pods "{context.name}" is forbidden: no PriorityClass with name {name} was found',
            name=context.name,
            kind="pods",
        )
    given = {
        "priority": _SYSTEM.get(name, 0),
        "preemptionPolicy": spec.get("preemptionPolicy") or "PreemptLowerPriority",
    }
    return {**pod, "spec": {**spec, **given}}
