"""A Pod's status in Kubernetes' words: pure, from what the node has seen. The words and rules are the kubelet's.

One thing is said that a kubelet would not say: the image was recorded and not used (`imageID`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from mizzen.local.node.lifecycle import ended, has_completed, is_initialized, restarts
from mizzen.local.node.moments import Moment
from mizzen.local.node.podspec import ContainerSpec, PodSpec
from mizzen.local.node.podstate import Exit, Phase, PodState

RUNTIME = "mizzen"
IMAGE_ID = "mizzen://image-not-used.this-node-runs-processes"
"""What stands where the digest of the image would: `kubectl describe pod` shows it."""

Status = dict[str, Any]
SETTLED = frozenset({"Succeeded", "Failed"})


def pod_status(pod: PodSpec, state: PodState, address: str, before: Mapping[str, Any], now: Moment) -> Status:
    """The whole status. `before` is the last one known, which keeps the times of conditions that did not change."""
    phase = pod_phase(pod, state)
    status: Status = {
        "phase": phase,
        "startTime": state.started.rfc3339(),
        "hostIP": address,
        "hostIPs": [{"ip": address}],
        "conditions": _conditions(pod, state, phase, before.get("conditions") or (), now),
        "containerStatuses": [container_status(pod, spec, state, now) for spec in pod.in_role("main")],
    }
    if pod.in_role("init", "sidecar"):
        status["initContainerStatuses"] = [
            container_status(pod, spec, state, now) for spec in pod.in_role("init", "sidecar")
        ]
    if state.prepared:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    if state.verdict is not None:
        status |= {"reason": state.verdict.reason, "message": state.verdict.message}
    if pod.generation:
        status["observedGeneration"] = pod.generation
    return status


def pod_phase(pod: PodSpec, state: PodState) -> str:
    """Pending, Running, Succeeded or Failed. A Pod that has ended stays as it ended."""
    if state.settled:
        return state.settled
    if state.any_alive and state.verdict is None and not is_initialized(pod, state):
        return "Pending"
    main = [(spec, state.containers[spec.name]) for spec in pod.in_role("main")]
    if state.any_alive:
        waiting = any(container.phase is not Phase.RUNNING and container.exit is None for _, container in main)
        return "Pending" if waiting else "Running"
    if state.verdict is not None or _init_failed(pod, state):
        return "Failed"
    if any(container.exit is None for _, container in main):
        return "Pending"
    ends = [container.exit for _, container in main if container.exit is not None]
    restarting = any(restarts(pod, spec, end) for (spec, _), end in zip(main, ends, strict=True))
    if restarting and pod.deletion_grace_s is None:
        return "Running"
    return "Succeeded" if all(end.ok for end in ends) else "Failed"


def _init_failed(pod: PodSpec, state: PodState) -> bool:
    states = ((spec, state.containers[spec.name]) for spec in pod.in_role("init"))
    return any(ended(pod, spec, init) and init.exit is not None and not init.exit.ok for spec, init in states)


# -- containers


def container_id(pod: PodSpec, name: str, attempt: int) -> str:
    return f"{RUNTIME}://{pod.uid}/{name}/{attempt}"


def container_status(pod: PodSpec, spec: ContainerSpec, state: PodState, now: Moment) -> Status:
    """One entry of `containerStatuses` or `initContainerStatuses`."""
    container = state.containers[spec.name]
    shown, last = _container_states(pod, spec, state, now)
    ready = container.is_ready
    if spec.role == "init":
        ready = container.phase is Phase.EXITED and container.exit is not None and container.exit.ok
    status: Status = {
        "name": spec.name,
        "state": shown,
        "lastState": {} if last is None else {"terminated": _terminated(pod, spec, last)},
        "ready": ready,
        "restartCount": max(container.attempt, 0),
        "image": spec.image,
        "imageID": IMAGE_ID if container.attempt >= 0 else "",
        "started": container.is_started,
    }
    if container.attempt >= 0:
        status["containerID"] = container_id(pod, spec.name, container.attempt)
    return status


def _container_states(pod: PodSpec, spec: ContainerSpec, state: PodState, now: Moment) -> tuple[Status, Exit | None]:
    """(state, the exit that lastState shows)."""
    container = state.containers[spec.name]
    if container.phase is Phase.RUNNING and container.started is not None:
        return {"running": {"startedAt": container.started.rfc3339()}}, container.previous
    end = container.exit
    ending = pod.deletion_grace_s is not None or state.verdict is not None or bool(state.settled)
    if end is None:
        return {"waiting": _waiting(pod, spec, state)}, container.previous
    if ending or not restarts(pod, spec, end):
        return {"terminated": _terminated(pod, spec, end)}, container.previous
    if container.refusal is not None:
        return {"waiting": _waiting(pod, spec, state)}, end
    until = container.backoff_until
    if container.phase is Phase.EXITED and until is not None and until > now.steady:
        message = (
            f"back-off {_duration(container.delay_s)} restarting failed container={spec.name} "
            f"pod={pod.name}_{pod.namespace}({pod.uid})"
        )
        return {"waiting": {"reason": "CrashLoopBackOff", "message": message}}, end
    return {"terminated": _terminated(pod, spec, end)}, container.previous


def _waiting(pod: PodSpec, spec: ContainerSpec, state: PodState) -> Status:
    refusal = state.containers[spec.name].refusal
    if refusal is not None:
        return {"reason": refusal.reason, "message": refusal.message}
    initializing = bool(pod.in_role("init", "sidecar")) and spec.role == "main" and not is_initialized(pod, state)
    return {"reason": "PodInitializing" if initializing else "ContainerCreating"}


def _terminated(pod: PodSpec, spec: ContainerSpec, end: Exit) -> Status:
    terminated: Status = {
        "exitCode": end.code,
        "reason": end.reason,
        "startedAt": end.started.rfc3339(),
        "finishedAt": end.finished.rfc3339(),
        "containerID": container_id(pod, spec.name, end.attempt),
    }
    if end.message:
        terminated["message"] = end.message
    return terminated | ({"signal": end.signal} if end.signal else {})


def _duration(seconds: float) -> str:
    """As Go prints it: `10s`, `2m40s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


# -- conditions


def _conditions(pod: PodSpec, state: PodState, phase: str, before: Iterable[Status], now: Moment) -> list[Status]:
    known = {condition["type"]: condition for condition in before}
    ready = _containers_ready(pod, state, phase)
    found = {
        "PodReadyToStartContainers": {"status": _truth(state.prepared and phase not in SETTLED)},
        "Initialized": _initialized(pod, state, phase),
        "Ready": _pod_ready(pod, ready, known),
        "ContainersReady": ready,
        "PodScheduled": {"status": "True"},
    }
    conditions = []
    for kind, condition in found.items():
        old = known.get(kind)
        changed = old is None or old.get("status") != condition["status"]
        # `None` takes a field out in a strategic merge patch: the list is merged by type, field by field.
        entry: Status = {"type": kind, "lastProbeTime": None, "reason": None, "message": None} | condition
        entry["lastTransitionTime"] = now.rfc3339() if changed else (old or {}).get("lastTransitionTime")
        if pod.generation:
            entry["observedGeneration"] = pod.generation
        conditions.append(entry)
    return conditions


def _truth(value: bool) -> str:
    return "True" if value else "False"


def _initialized(pod: PodSpec, state: PodState, phase: str) -> Status:
    if phase == "Succeeded":
        return {"status": "True", "reason": "PodCompleted"}
    if is_initialized(pod, state):
        return {"status": "True"}
    first = ((spec, state.containers[spec.name]) for spec in pod.in_role("init", "sidecar"))
    waiting = [spec.name for spec, container in first if not has_completed(spec, container)]
    message = f"containers with incomplete status: [{' '.join(waiting)}]"
    return {"status": "False", "reason": "ContainersNotInitialized", "message": message}


def _containers_ready(pod: PodSpec, state: PodState, phase: str) -> Status:
    if phase in SETTLED:
        return {"status": "False", "reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
    unready = [spec.name for spec in pod.in_role("sidecar", "main") if not state.containers[spec.name].is_ready]
    if not unready and is_initialized(pod, state):
        return {"status": "True"}
    message = f"containers with unready status: [{' '.join(unready)}]"
    return {"status": "False", "reason": "ContainersNotReady", "message": message}


def _pod_ready(pod: PodSpec, containers: Status, known: Mapping[str, Status]) -> Status:
    if containers["status"] != "True":
        return containers
    missing = [
        f'corresponding condition of pod readiness gate "{gate}" '
        + ("does not exist." if gate not in known else 'is not "True".')
        for gate in (entry["conditionType"] for entry in pod.spec.get("readinessGates") or ())
        if known.get(gate, {}).get("status") != "True"
    ]
    if missing:
        return {"status": "False", "reason": "ReadinessGatesNotReady", "message": ", ".join(missing)}
    return containers
