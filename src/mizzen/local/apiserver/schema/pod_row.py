"""The row of a Pod as `kubectl get pods` shows it: how many containers are ready, and the one word for how it is."""

from datetime import datetime
from typing import Any

from mizzen.local.apiserver.schema.ages import age, parsed_time
from mizzen.local.apiserver.types import Json


def pod_cells(pod: Json, now: datetime) -> list[Any]:
    """Name, ready, status, restarts, age, IP, node, nominated node, readiness gates."""
    spec, status, meta = pod.get("spec", {}), pod.get("status", {}), pod["metadata"]
    ready, restarts, last, reason = _containers(spec, status)
    if meta.get("deletionTimestamp") and status.get("reason") == "NodeLost":
        reason = "Unknown"
    elif meta.get("deletionTimestamp") and status.get("phase") not in {"Succeeded", "Failed"}:
        reason = "Terminating"
    sidecars = sum(item.get("restartPolicy") == "Always" for item in spec.get("initContainers") or ())
    shown = f"{restarts} ({age(last, now)} ago)" if restarts and last else str(restarts)
    gates = spec.get("readinessGates") or []
    true = {item["type"] for item in status.get("conditions") or () if item.get("status") == "True"}
    passed = sum(gate.get("conditionType") in true for gate in gates)
    ips = status.get("podIPs") or []
    return [
        meta.get("name", ""),
        f"{ready}/{len(spec.get('containers') or ()) + sidecars}",
        reason,
        shown,
        age(meta.get("creationTimestamp"), now),
        (ips[0].get("ip") if ips else status.get("podIP")) or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        f"{passed}/{len(gates)}" if gates else "<none>",
    ]


def _later(one: str, other: str) -> str:
    """The later of two times; empty is never."""
    first, second = parsed_time(one), parsed_time(other)
    return other if second is not None and (first is None or first < second) else one


def _terminated_reason(state: Json) -> str:
    if state.get("reason"):
        return str(state["reason"])
    return f"Signal:{state['signal']}" if state.get("signal") else f"ExitCode:{state.get('exitCode', 0)}"


def _containers(spec: Json, status: Json) -> tuple[int, int, str, str]:
    """Ready containers, restarts, when the last restart was, and the status word."""
    reason = status.get("reason") or status.get("phase") or ""
    conditions = status.get("conditions") or []
    if any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in conditions):
        reason = "SchedulingGated"
    sidecars = {item.get("name") for item in spec.get("initContainers") or () if item.get("restartPolicy") == "Always"}
    ready = restarts = sidecar_restarts = 0
    last = sidecar_last = ""
    initializing = False
    for index, container in enumerate(status.get("initContainerStatuses") or ()):
        restarts += container.get("restartCount", 0)
        ended = (container.get("lastState") or {}).get("terminated") or {}
        last = _later(last, ended.get("finishedAt") or "")
        is_sidecar = container.get("name") in sidecars
        if is_sidecar:
            sidecar_restarts += container.get("restartCount", 0)
            sidecar_last = _later(sidecar_last, ended.get("finishedAt") or "")
        word = _init_word(container, index, len(spec.get("initContainers") or ()), is_sidecar=is_sidecar)
        if word is None:
            ready += bool(is_sidecar and container.get("ready") and container.get("started"))
            continue
        reason, initializing = word, True
        break
    initialized = any(c.get("type") == "Initialized" and c.get("status") == "True" for c in conditions)
    if initializing and not initialized:
        return ready, restarts, last, reason
    return _main_containers(status, conditions, (ready, sidecar_restarts, sidecar_last, reason))


def _init_word(container: Json, index: int, total: int, *, is_sidecar: bool) -> str | None:
    """What an init container says about the Pod; `None` where it is done (or, a sidecar, started)."""
    state = container.get("state") or {}
    terminated, waiting = state.get("terminated"), state.get("waiting")
    if terminated is not None and terminated.get("exitCode", 0) == 0:
        return None
    if is_sidecar and container.get("started"):
        return None
    if terminated is not None:
        return f"Init:{_terminated_reason(terminated)}"
    if waiting is not None and waiting.get("reason") not in {None, "", "PodInitializing"}:
        return f"Init:{waiting['reason']}"
    return f"Init:{index}/{total}"


def _main_containers(
    status: Json, conditions: list[Json], so_far: tuple[int, int, str, str]
) -> tuple[int, int, str, str]:
    ready, restarts, last, reason = so_far
    running, error = False, ""
    for container in reversed(status.get("containerStatuses") or []):
        restarts += container.get("restartCount", 0)
        ended = (container.get("lastState") or {}).get("terminated") or {}
        last = _later(last, ended.get("finishedAt") or "")
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if waiting is not None and waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            reason = _terminated_reason(terminated)
            error = reason if terminated.get("exitCode", 0) != 0 else error
        elif container.get("ready") and state.get("running") is not None:
            running = True
            ready += 1
    if reason == "Completed":
        pod_ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
        reason = "Running" if running and pod_ready else error or ("NotReady" if running else reason)
    return ready, restarts, last, reason
