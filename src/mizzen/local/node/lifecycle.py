"""What to do next about a Pod: `(pod, state, now) -> actions and when to look again`. Pure.

The rules, in order; the first that ends the matter ends it:

    settled     a Pod that has ended is left alone, and forgotten when its deletion is asked for
    ending      deletion, or its time is over: main containers stop, then sidecars, last first; then it is finished
    preparing   folders, ports and volumes come before any container
    containers  init containers one after the other, each sidecar up before what follows; then the main ones together;
                whatever has ended is started again as restartPolicy says, after its back-off
    over        when all main containers have ended for good, sidecars stop
    probes      whatever runs is probed; a container that fails liveness or startup is stopped (and so restarted)

The shell (`podworker`) does what is said here, tells the state what came of it, and asks again: after each thing that
happens and at `wake`. Asking twice does nothing twice: every action shows in the state before it is asked for again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mizzen.local.node.moments import Moment
from mizzen.local.node.podspec import ContainerSpec, PodSpec, ProbeKind
from mizzen.local.node.podstate import ContainerState, Exit, Phase, PodState, Verdict

SIDECAR_GRACE_MIN_S = 2.0
"""What a sidecar has left to end in when the main containers have used up the grace."""
DEADLINE = Verdict("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")

NODE_SHUTDOWN = Verdict("Terminated", "Pod was terminated in response to imminent node shutdown.")


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the Pod's folders, choose its ports, fill its volumes."""


@dataclass(frozen=True, slots=True)
class Start:
    """Make the next attempt at running a container."""

    container: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask a container to end, and kill it after the grace."""

    container: str
    grace_s: float
    message: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Try a probe once."""

    container: str
    kind: ProbeKind


@dataclass(frozen=True, slots=True)
class End:
    """The node's own judgement of the Pod: it has failed."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing of the Pod runs and its deletion was asked for: let the API server forget it."""


Action = Prepare | Start | Stop | Probe | End | Finish


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and the steady time at which to ask again if nothing happens (`None`: never)."""

    actions: tuple[Action, ...]
    wake: float | None = None


def decide(pod: PodSpec, state: PodState, now: Moment) -> Decision:
    """The next actions. See the module's docstring for the rules."""
    rules = _Rules(pod, state, now.steady)
    actions = tuple(rules.actions())
    future = [time for time in rules.wakes if time > now.steady]
    return Decision(actions, min(future, default=None))


def restarts(pod: PodSpec, spec: ContainerSpec, end: Exit) -> bool:
    """Whether a container that ended so is started again."""
    if spec.role == "sidecar":
        return True
    if spec.role == "init":
        return not end.ok and pod.restart_policy != "Never"
    return pod.restart_policy == "Always" or (pod.restart_policy == "OnFailure" and not end.ok)


def ended(pod: PodSpec, spec: ContainerSpec, state: ContainerState) -> bool:
    """Whether a container has ended for good."""
    return state.phase is Phase.EXITED and state.exit is not None and not restarts(pod, spec, state.exit)


def is_over(pod: PodSpec, state: PodState) -> bool:
    """Whether all main containers have ended for good, or none will ever start because an init container failed."""
    if any(
        ended(pod, spec, state.containers[spec.name]) and not _ok(state.containers[spec.name])
        for spec in pod.in_role("init")
    ):
        return True
    return all(ended(pod, spec, state.containers[spec.name]) for spec in pod.in_role("main"))


def _ok(state: ContainerState) -> bool:
    return state.exit is not None and state.exit.ok


def is_initialized(pod: PodSpec, state: PodState) -> bool:
    """Whether init containers have completed and sidecars have come up; stays so when a sidecar restarts later."""
    if any(state.containers[spec.name].attempt >= 0 for spec in pod.in_role("main")):
        return True
    return all(has_completed(spec, state.containers[spec.name]) for spec in pod.in_role("init", "sidecar"))


def has_completed(spec: ContainerSpec, state: ContainerState) -> bool:
    """Whether what follows an init container may start: it has ended well, or, a sidecar, is up."""
    return state.is_started if spec.role == "sidecar" else state.phase is Phase.EXITED and _ok(state)


class _Rules:
    """One question: collects on the way the times at which the answer would change."""

    def __init__(self, pod: PodSpec, state: PodState, now: float) -> None:
        self.pod, self.state, self.now = pod, state, now
        self.wakes: list[float] = []

    def actions(self) -> Iterator[Action]:
        if self.state.settled and not self.state.any_alive:
            yield from self._finish()
            return
        if self.pod.deletion_grace_s is not None or self.state.verdict is not None or self.state.settled:
            yield from self._ending()
            return
        if self._time_is_over():
            yield End(DEADLINE)
            return
        if is_over(self.pod, self.state):
            yield from self._stop_all()
            return
        if not self.state.prepared:
            refusal = self.state.refusal
            if not self.state.busy and self._may_retry(None if refusal is None else refusal.retry):
                yield Prepare()
            return
        yield from self._containers()
        yield from self._probes()

    def _time_is_over(self) -> bool:
        if self.pod.active_limit_s is None or is_over(self.pod, self.state):
            return False
        end = self.state.started.steady + self.pod.active_limit_s
        self.wakes.append(end)
        return self.now >= end

    def _may_retry(self, retry: float | None) -> bool:
        if retry is None or self.now >= retry:
            return True
        self.wakes.append(retry)
        return False

    # -- ending

    def _ending(self) -> Iterator[Action]:
        if self.state.any_alive:
            yield from self._stop_all()
            yield from self._probes(("readiness",))
        else:
            yield from self._finish()

    def _finish(self) -> Iterator[Action]:
        if self.pod.deletion_grace_s is not None and not self.state.busy:
            yield Finish()

    def _grace_left_s(self) -> float:
        if self.state.deadline is not None:
            return max(self.state.deadline - self.now, 0.0)
        return self.pod.grace_s if self.pod.deletion_grace_s is None else self.pod.deletion_grace_s

    def _stop_all(self) -> Iterator[Action]:
        """Everything but sidecars at once; when that has ended, the sidecars one by one, last first."""
        first = [spec for spec in self.pod.in_role("init", "main") if self.state.containers[spec.name].alive]
        sidecars = [spec for spec in self.pod.in_role("sidecar") if self.state.containers[spec.name].alive]
        grace_s = self._grace_left_s()
        if not first and sidecars:
            first = [sidecars[-1]]
            if self.pod.deletion_grace_s != 0:
                grace_s = max(grace_s, SIDECAR_GRACE_MIN_S)
        for spec in first:
            yield from self._stop(spec, grace_s, f"Stopping container {spec.name}")

    def _stop(self, spec: ContainerSpec, grace_s: float, message: str) -> Iterator[Action]:
        """Once; and once more when less grace is given than at first."""
        container = self.state.containers[spec.name]
        if container.phase is not Phase.RUNNING:
            return  # what is just being started is stopped when it runs
        if container.stopping is None or container.stopping.deadline > self.now + grace_s + 1.0:
            yield Stop(spec.name, grace_s, message)

    # -- running

    def _containers(self) -> Iterator[Action]:
        initialized = is_initialized(self.pod, self.state)
        for spec in self.pod.in_role("init", "sidecar"):
            container = self.state.containers[spec.name]
            if spec.role == "init" and (initialized or has_completed(spec, container)):
                continue
            yield from self._start(spec)
            if not initialized and not has_completed(spec, container):
                return
        for spec in self.pod.in_role("main"):
            yield from self._start(spec)

    def _start(self, spec: ContainerSpec) -> Iterator[Action]:
        container = self.state.containers[spec.name]
        if container.alive or ended(self.pod, spec, container):
            return
        if container.refusal is not None and not self._may_retry(container.refusal.retry):
            return
        until = container.backoff_until
        if until is not None and self.now < until:
            self.wakes.append(until)
            return
        yield Start(spec.name)

    def _probes(self, kinds: tuple[ProbeKind, ...] = ("startup", "readiness", "liveness")) -> Iterator[Action]:
        for spec in self.pod.containers:
            container = self.state.containers[spec.name]
            if container.phase is not Phase.RUNNING:
                continue
            for kind, probe in container.probes.items():
                if kind not in kinds:
                    continue
                if kind != "readiness" and container.stopping is not None:
                    continue
                if kind != "readiness" and probe.passing is False:
                    yield from self._fail(spec, kind)
                elif probe.trying or (kind == "startup" and probe.passing is True):
                    continue
                elif self.now >= probe.due:
                    yield Probe(spec.name, kind)
                else:
                    self.wakes.append(probe.due)

    def _fail(self, spec: ContainerSpec, kind: ProbeKind) -> Iterator[Action]:
        grace_s = spec.probes[kind].grace_s
        message = f"Container {spec.name} failed {kind} probe, will be restarted"
        yield from self._stop(spec, self.pod.grace_s if grace_s is None else grace_s, message)
