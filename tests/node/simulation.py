"""A Pod in virtual time: containers that behave as scripted, and the real life cycle deciding about them.

What happens is recorded as `(time, what)`. Nothing here waits: the clock jumps to whatever comes next.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.node.builders import moment

from mizzen.local.node import podstate
from mizzen.local.node.lifecycle import End, Finish, Prepare, Probe, Start, Stop, decide
from mizzen.local.node.podspec import PodSpec
from mizzen.local.node.podstate import Exit, Phase, PodState, Refusal, Stopping
from mizzen.local.node.podstatus import SETTLED, pod_phase

STUCK = 100_000


@dataclass(frozen=True)
class Behaviour:
    """How one attempt at a container goes."""

    runs_s: float | None = None
    """How long it runs by itself; `None`: until it is stopped."""
    code: int = 0
    heeds_stop_after_s: float | None = 0.0
    """How long after a stop it ends; `None`: it must be killed."""
    starts_after_s: float = 0.01
    refused: bool = False


Script = Callable[[str, int], Behaviour]
"""(container, attempt) -> how it goes."""
Answers = Callable[[str, str, float], bool]
"""(container, kind of probe, seconds since the container started) -> whether the probe succeeds."""


@dataclass
class Simulation:
    """Runs one Pod. `trace` is what happened."""

    pod: PodSpec
    script: Script = lambda name, attempt: Behaviour()
    answers: Answers = lambda name, kind, age_s: True
    now: float = 0.0
    trace: list[tuple[float, str]] = field(default_factory=list)
    finished: bool = False
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _number: itertools.count = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.state: PodState = podstate.first_seen(self.pod, moment(self.now))
        self._ends: dict[str, int] = {}

    # -- running

    def run(self, until: float) -> "Simulation":
        """Lets time pass up to `until`, or to the Pod's end."""
        for _ in range(STUCK):
            wake = self._decide()
            times = [self._events[0][0]] if self._events else []
            times += [wake] if wake is not None else []
            if self.finished or not times or min(times) > until:
                self.now = until if not self.finished else self.now
                return self
            self.now = max(self.now, min(times))
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
        raise AssertionError(f"the life cycle does not come to rest: {self.trace[-20:]}")

    def at(self, time: float, change: Callable[[PodSpec], PodSpec]) -> "Simulation":
        """At that time the API server has another version of the Pod."""

        def happen() -> None:
            self.pod = change(self.pod)

        self._later(time - self.now, happen)
        return self

    def _decide(self) -> float | None:
        for _ in range(100):
            self.state = podstate.must_end(self.pod, self.state, self.now)
            phase = pod_phase(self.pod, self.state)
            if not self.state.settled and phase in SETTLED and not self.state.any_alive:
                self.state = replace(self.state, settled=phase)
                self._note(phase)
            decision = decide(self.pod, self.state, moment(self.now))
            assert decision.wake is None or decision.wake > self.now
            for action in decision.actions:
                self._do(action)
            if not decision.actions:
                return decision.wake
        raise AssertionError(f"the same action is asked for again and again: {decision.actions}")

    def _do(self, action: object) -> None:
        match action:
            case Prepare():
                self.state = replace(self.state, busy=True)
                self._later(0.0, lambda: self._change(busy=False, prepared=True))
            case Start(name):
                self._start(name)
            case Stop(name, grace_s, _):
                self._note(f"stop {name} {grace_s:g}")
                container = self.state.containers[name]
                assert container.phase is Phase.RUNNING
                deadline = self.now + grace_s
                self._set(name, replace(container, stopping=Stopping("", deadline)))
                how = self.script(name, container.attempt)
                if how.heeds_stop_after_s is not None and how.heeds_stop_after_s < grace_s:
                    self._later(how.heeds_stop_after_s, self._ender(name, container.attempt, 143))
                else:
                    self._later(grace_s, self._ender(name, container.attempt, 137))
            case Probe(name, kind):
                container = self.state.containers[name]
                assert container.phase is Phase.RUNNING
                self._set(name, podstate.trying(container, kind))
                self._later(0.001, lambda: self._answer(name, kind, container.attempt))
            case End(verdict):
                self._note(verdict.reason)
                self._change(verdict=verdict)
            case Finish():
                self._note("finish")
                self._change(busy=True)
                self.finished = True

    # -- containers

    def _start(self, name: str) -> None:
        container = self.state.containers[name]
        assert not container.alive, "a container was started that runs"
        assert self.state.prepared
        attempt, delay_s = container.attempt + 1, podstate.next_delay_s(container)
        how = self.script(name, attempt)
        self._note(f"start {name}")
        self._set(name, podstate.starting(container))

        def run() -> None:
            state = self.state.containers[name]
            if how.refused:
                refusal = Refusal("CreateContainerConfigError", "missing", self.now + 10.0)
                self._set(name, podstate.refused(state, refusal))
                self._note(f"refuse {name}")
                return
            spec = self.pod.container(name)
            assert spec is not None
            self._set(name, podstate.running(state, spec, attempt, delay_s, moment(self.now)))
            if how.runs_s is not None:
                self._later(how.runs_s, self._ender(name, attempt, how.code))

        self._later(how.starts_after_s, run)

    def _ender(self, name: str, attempt: int, code: int) -> Callable[[], None]:
        def end() -> None:
            container = self.state.containers[name]
            if container.phase is not Phase.RUNNING or container.attempt != attempt:
                return
            assert container.started is not None
            reason = "Completed" if code == 0 else "Error"
            exit_ = Exit(attempt, code, 0, reason, "", container.started, moment(self.now))
            self._set(name, podstate.exited(container, exit_, container.delay_s))
            self._note(f"end {name} {code}")

        return end

    def _answer(self, name: str, kind: str, attempt: int) -> None:
        container = self.state.containers[name]
        if container.phase is not Phase.RUNNING or container.attempt != attempt:
            return
        spec = self.pod.container(name)
        assert spec is not None
        assert container.started is not None
        was = (container.is_started, container.is_ready)
        ok = self.answers(name, kind, self.now - container.started.steady)
        container = podstate.probed(container, spec, kind, ok, self.now)
        self._set(name, container)
        for word, before, after in zip(
            ("started", "ready"), was, (container.is_started, container.is_ready), strict=True
        ):
            if before != after:
                self._note(f"{'' if after else 'not '}{word} {name}")

    # -- small things

    def _set(self, name: str, container: podstate.ContainerState) -> None:
        self.state = self.state.with_container(name, container)

    def _change(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)

    def _later(self, after_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + after_s, next(self._number), what))

    def _note(self, what: str) -> None:
        self.trace.append((round(self.now, 6), what))

    def times(self, what: str) -> list[float]:
        """When something happened."""
        return [time for time, noted in self.trace if noted == what]

    def words(self) -> list[str]:
        """What happened, in order."""
        return [what for _, what in self.trace]
