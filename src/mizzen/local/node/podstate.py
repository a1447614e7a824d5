"""What the node has seen of a Pod: immutable values, and the few steps by which they change.

    waiting -> starting -> running -> exited -> starting -> …
                 \\------------------->/            (could not be started: an exit too, `StartError`)

`lifecycle` decides on these values, `podstatus` puts them into Kubernetes' words, and the functions here are the only
places where they are made anew. What must outlive the node (attempts, exits, back-off) is in the Pod's folder; the
rest (probe verdicts, refusals) is found out again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from mizzen.local.node.moments import Moment
from mizzen.local.node.podspec import ContainerSpec, PodSpec, ProbeKind
from mizzen.local.node.probes import ProbeState, answered, attempted, begun, confirmed

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0
"""The kubelet's shorter back-off (its feature ReduceDefaultCrashLoopBackOffDecay): one machine has no fleet to protect,
and its owner waits."""
BACKOFF_RESET_S = 600.0
"""A container that ran this long starts again at once when it ends, as if for the first time."""


class Phase(StrEnum):
    """Where one container is."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Exit:
    """How one attempt at running a container ended."""

    attempt: int
    code: int
    signal: int
    reason: str
    """`Completed`, `Error`, `OOMKilled`, `StartError` or `ContainerStatusUnknown`."""
    message: str
    started: Moment
    finished: Moment

    @property
    def ok(self) -> bool:
        return self.code == 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a container, or the Pod's volumes, cannot be made ready now; tried again at `retry`, or after a change."""

    reason: str
    message: str
    retry: float
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Stopping:
    """A container has been asked to end."""

    reason: str
    """Why, as the event says it."""
    deadline: float
    """When it is killed; steady clock."""
    count_as_restart: bool = False


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container, through all its attempts."""

    phase: Phase = Phase.WAITING
    attempt: int = -1
    """The number of the present or last attempt, which is also how often it was restarted; -1: never tried."""
    started: Moment | None = None
    exit: Exit | None = None
    """How the last attempt ended; set while `exited`, and while `starting` anew."""
    previous: Exit | None = None
    """How the attempt before that ended."""
    delay_s: float = 0.0
    """How long to wait after the end of this attempt before the next."""
    refusal: Refusal | None = None
    stopping: Stopping | None = None
    hook_pending: bool = False
    """The postStart hook has not ended yet."""
    probes: Mapping[ProbeKind, ProbeState] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def alive(self) -> bool:
        return self.phase in {Phase.STARTING, Phase.RUNNING}

    @property
    def is_started(self) -> bool:
        """Running, its postStart hook done and its startup probe passed."""
        if self.phase is not Phase.RUNNING or self.hook_pending:
            return False
        startup = self.probes.get("startup")
        return startup is None or startup.passing is True

    @property
    def is_ready(self) -> bool:
        readiness = self.probes.get("readiness")
        return self.is_started and (readiness is None or readiness.passing is True)

    @property
    def backoff_until(self) -> float | None:
        """The steady time before which an ended container is not started again."""
        if self.phase is not Phase.EXITED or self.exit is None:
            return None
        ran_s = self.exit.finished.steady - self.exit.started.steady
        return self.exit.finished.steady + (0.0 if ran_s > BACKOFF_RESET_S else self.delay_s)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The node itself ended the Pod: `DeadlineExceeded`."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PodState:
    """One Pod on this node."""

    started: Moment
    """When the node first saw it: `status.startTime`."""
    containers: Mapping[str, ContainerState]
    prepared: bool = False
    """Folders, ports and volumes are there."""
    refusal: Refusal | None = None
    """Why they are not."""
    verdict: Verdict | None = None
    settled: str = ""
    """`Succeeded` or `Failed` once that was reported: a Pod that has ended stays ended."""
    deadline: float | None = None
    """When what is left of a Pod that must end is killed; steady clock."""
    busy: bool = False
    """Preparing or finishing is under way."""

    @property
    def any_alive(self) -> bool:
        return any(container.alive for container in self.containers.values())

    def with_container(self, name: str, container: ContainerState) -> "PodState":
        return replace(self, containers=MappingProxyType({**self.containers, name: container}))


def first_seen(pod: PodSpec, now: Moment) -> PodState:
    """A Pod of which nothing has been done yet. Its start time is kept from the API server where it has one."""
    started = now
    if pod.start_time is not None:
        started = Moment(pod.start_time, now.steady - max(now.wall - pod.start_time, 0.0))
    states = {container.name: ContainerState() for container in pod.containers}
    return PodState(started, MappingProxyType(states))


def must_end(pod: PodSpec, state: PodState, now: float) -> PodState:
    """Notes by when the Pod must be gone, if it must: the grace counts once, and a shorter one replaces it."""
    if pod.deletion_grace_s is None and state.verdict is None:
        return state
    deadline = now + (pod.grace_s if pod.deletion_grace_s is None else pod.deletion_grace_s)
    return replace(state, deadline=deadline if state.deadline is None else min(state.deadline, deadline))


def next_delay_s(state: ContainerState) -> float:
    """The back-off that the next attempt will bring at its end: none, 1 s, 2 s, … 1 min."""
    if state.exit is None:
        return 0.0
    if state.delay_s == 0.0 or state.exit.finished.steady - state.exit.started.steady > BACKOFF_RESET_S:
        return BACKOFF_FIRST_S
    return min(state.delay_s * 2, BACKOFF_MAX_S)


def starting(state: ContainerState) -> ContainerState:
    """The next attempt is being made. A refusal stays until it is known whether this one goes better."""
    return replace(state, phase=Phase.STARTING, stopping=None, probes=MappingProxyType({}), hook_pending=False)


def refused(state: ContainerState, refusal: Refusal) -> ContainerState:
    """The attempt could not even be made: nothing was run, nothing counts as a restart."""
    phase = Phase.WAITING if state.exit is None else Phase.EXITED
    tries = 1 if state.refusal is None else state.refusal.tries + 1
    return replace(state, phase=phase, refusal=replace(refusal, tries=tries))


def running(
    state: ContainerState, spec: ContainerSpec, attempt: int, delay_s: float, started: Moment
) -> ContainerState:
    """The command runs."""
    hook = spec.hook("postStart") is not None
    state = replace(
        state, phase=Phase.RUNNING, attempt=attempt, delay_s=delay_s, started=started, refusal=None,
        exit=None, previous=state.exit or state.previous, hook_pending=hook, stopping=None,
    )  # fmt: skip
    return state if hook else _with_probes(state, spec, started.steady)


def hook_done(state: ContainerState, spec: ContainerSpec, now: float) -> ContainerState:
    """The postStart hook has ended well: probing begins."""
    return _with_probes(replace(state, hook_pending=False), spec, now)


def _with_probes(state: ContainerState, spec: ContainerSpec, now: float) -> ContainerState:
    wanted = ("startup",) if "startup" in spec.probes else ("readiness", "liveness")
    begin = {kind: begun(probe, now) for kind, probe in spec.probes.items() if kind in wanted}
    return replace(state, probes=MappingProxyType({**state.probes, **begin}))


def exited(state: ContainerState, end: Exit, delay_s: float) -> ContainerState:
    """The command has ended, or could not be started."""
    return replace(
        state, phase=Phase.EXITED, attempt=end.attempt, delay_s=delay_s, started=None, refusal=None, stopping=None,
        exit=end, previous=state.exit if state.exit is not None else state.previous,
        probes=MappingProxyType({}), hook_pending=False,
    )  # fmt: skip


def trying(state: ContainerState, kind: ProbeKind) -> ContainerState:
    return replace(state, probes=MappingProxyType({**state.probes, kind: attempted(state.probes[kind])}))


def probed(
    state: ContainerState, spec: ContainerSpec, kind: ProbeKind, ok: bool, now: float, message: str = ""
) -> ContainerState:
    """A probe answered."""
    if kind not in state.probes:
        return state  # the attempt belonged to a run that has ended
    state = _with_probe(state, spec, kind, answered(spec.probes[kind], state.probes[kind], ok, now, message), now)
    return _heard(state, spec, now) if kind == "startup" and state.probes[kind].passing else state


def _heard(state: ContainerState, spec: ContainerSpec, now: float) -> ContainerState:
    """A probe that asks just what the startup probe has asked need not ask again: it was answered a moment ago."""
    startup = spec.probes["startup"]
    probes = dict(state.probes)
    for kind, probe in spec.probes.items():
        if kind != "startup" and probe.action == startup.action and not probe.initial_delay_s:
            probes[kind] = answered(probe, probes[kind], True, now)
    return replace(state, probes=MappingProxyType(probes))


def confirm(state: ContainerState, spec: ContainerSpec, kind: ProbeKind, now: float) -> ContainerState:
    """A probe is known to have passed before."""
    return _with_probe(state, spec, kind, confirmed(spec.probes[kind], now), now)


def _with_probe(
    state: ContainerState, spec: ContainerSpec, kind: ProbeKind, probe: ProbeState, now: float
) -> ContainerState:
    """When the startup probe has passed, the other two begin."""
    probes = {**state.probes, kind: probe}
    if kind == "startup" and probe.passing is True:
        probes |= {other: begun(spec.probes[other], now) for other in spec.probes if other not in probes}
    return replace(state, probes=MappingProxyType(probes))
