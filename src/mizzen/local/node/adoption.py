"""What a Pod's worker starts from: what its folder and the API server say about it. Nothing is started twice.

The folder comes first: attempts that run are taken back, attempts that ended count. Where it knows nothing about a
container that the API server has seen (the home was lost), the container counts as ended, not as never begun: a Job
must not run again because a disk did not survive.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from mizzen.kube.times import parse_time
from mizzen.local.node import podstate
from mizzen.local.node.attempts import LOST, Attempt
from mizzen.local.node.containers import Containers
from mizzen.local.node.moments import Moment
from mizzen.local.node.podspec import ContainerSpec, PodSpec
from mizzen.local.node.podstate import ContainerState, Exit, PodState
from mizzen.local.node.podstatus import SETTLED, container_id

_UNKNOWN = "The container could not be located when the node came back"


@dataclass(frozen=True, slots=True)
class Found:
    """What was there already."""

    state: PodState
    attempts: Mapping[str, Attempt]
    alive: tuple[str, ...]
    """Containers whose shim lives: to be watched."""
    adopted: tuple[str, ...]


def take_back(containers: Containers, pod: PodSpec, state: PodState) -> Found:
    """Reads the folder and the Pod's status. Blocks on the disk."""
    present = containers.host.clock()
    states: dict[str, ContainerState] = {}
    attempts: dict[str, Attempt] = {}
    alive = []
    for spec in pod.containers:
        status = _status_of(pod, spec)
        last, before = containers.latest(spec)
        if last is None:
            states[spec.name] = _from_status(status, present)
            continue
        attempts[spec.name] = last
        previous = None if before is None else replace(before.exit(containers.host.clock), message="")
        if last.alive():
            alive.append(spec.name)
            states[spec.name] = _running(pod, spec, last, previous, status, present)
        else:
            end = containers.collect_now(spec, last)
            delay_s = 0.0 if last.was_taken_down else last.delay_s()
            states[spec.name] = podstate.exited(ContainerState(previous=previous), end, delay_s)
    phase = pod.status.get("phase")
    state = replace(
        state,
        containers=MappingProxyType(states),
        prepared=bool(alive) and containers.folder.ports() is not None,
        settled=phase if phase in SETTLED else "",
    )
    return Found(state, attempts, tuple(alive), tuple(alive))


def _running(
    pod: PodSpec, spec: ContainerSpec, last: Attempt, previous: Exit | None, status: Mapping[str, Any], present: Moment
) -> ContainerState:
    """A container that runs. Its probes go on where they were: what was ready is not unready because we were away."""
    running = last.running()
    started = present if running is None else running.started
    state = podstate.running(ContainerState(previous=previous), spec, last.number, last.delay_s(), started)
    if state.hook_pending:
        state = podstate.hook_done(state, spec, present.steady)
    if status.get("containerID") != container_id(pod, spec.name, last.number):
        return state
    passed = {"startup": bool(status.get("started")), "readiness": bool(status.get("ready"))}
    for kind in ("startup", "readiness"):
        if passed[kind] and kind in state.probes:
            state = podstate.confirm(state, spec, kind, present.steady)
    return state


def _status_of(pod: PodSpec, spec: ContainerSpec) -> Mapping[str, Any]:
    """What the API server has about a container."""
    known = [*(pod.status.get("containerStatuses") or ()), *(pod.status.get("initContainerStatuses") or ())]
    return next((status for status in known if status.get("name") == spec.name), {})


def _from_status(status: Mapping[str, Any], present: Moment) -> ContainerState:
    """A container of which there is nothing here."""
    shown = status.get("state") or {}
    attempt = int(status.get("restartCount") or 0)
    if "running" in shown:
        started = _moment(shown["running"].get("startedAt"), present)
        return podstate.exited(
            ContainerState(),
            Exit(attempt, LOST, 0, "ContainerStatusUnknown", _UNKNOWN, started, present),
            podstate.BACKOFF_FIRST_S,
        )
    ended = shown.get("terminated") or (status.get("lastState") or {}).get("terminated")
    if ended is None:
        return ContainerState()
    end = Exit(
        attempt, int(ended.get("exitCode") or 0), int(ended.get("signal") or 0), str(ended.get("reason") or "Error"),
        str(ended.get("message") or ""), _moment(ended.get("startedAt"), present),
        _moment(ended.get("finishedAt"), present),
    )  # fmt: skip
    return podstate.exited(ContainerState(), end, podstate.BACKOFF_FIRST_S)


def _moment(text: str | None, present: Moment) -> Moment:
    found = parse_time(text)
    if found is None:
        return present
    return Moment(found.timestamp(), present.steady - max(present.wall - found.timestamp(), 0.0))
