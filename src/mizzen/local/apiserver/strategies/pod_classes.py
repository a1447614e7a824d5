"""The admission plugins Priority and RuntimeClass, as far as they go where no such classes can be made: the two
priorities of the system, and else none."""

from mizzen.local.apiserver.errors import Forbidden
from mizzen.local.apiserver.types import AdmissionContext, Json

_SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_PREEMPTION = "PreemptLowerPriority"


def pod_classes(context: AdmissionContext, pod: Json) -> Json:
    """Gives each Pod its priority; a class that is not there is refused."""
    if context.rtype.key != ("", "pods") or context.subresource or context.operation != "CREATE":
        return pod
    spec = pod.get("spec") or {}
    priority, runtime = spec.get("priorityClassName") or "", spec.get("runtimeClassName") or ""
    preemption = spec.get("preemptionPolicy") or _PREEMPTION
    if priority and priority not in _SYSTEM:
        raise _forbidden(context, f"no PriorityClass with name {priority} was found")
    if preemption != _PREEMPTION:
        raise _forbidden(
            context,
            f"the string value of PreemptionPolicy ({preemption}) must not be provided in pod spec; priority admission "
            f"controller computed {_PREEMPTION} from the given PriorityClass name",
        )
    if runtime:
        raise _forbidden(context, f'pod rejected: RuntimeClass "{runtime}" not found')
    return {**pod, "spec": {**spec, "priority": _SYSTEM.get(priority, 0), "preemptionPolicy": preemption}}


def _forbidden(context: AdmissionContext, why: str) -> Forbidden:
    return Forbidden(f'pods "{context.name}" is forbidden: {why}', name=context.name, kind="pods")
