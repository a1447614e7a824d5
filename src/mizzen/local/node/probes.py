"""What a probe's results mean: pure, as the kubelet counts them, and eager until the first success.

A probe has a schedule, `start + initialDelay + k * period`, and only attempts on it can fail: `failureThreshold` and
`period` mean what they mean on any cluster. Between them, until the first success, readiness and startup probes are
also tried early (from 5 ms, each pause a quarter longer), and there only success counts: a container is found ready
within a quarter of the time it took, not at the next period. A liveness probe has nothing to be eager about.
"""

from dataclasses import dataclass, replace

from mizzen.local.node.podspec import ProbeSpec

EAGER_FIRST_S = 0.005
EAGER_FIRST_EXEC_S = 0.1
"""An exec probe starts a process: that is not done as often as that."""
EAGER_GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class ProbeState:
    """Where one probe of one running container stands. Times are of the steady clock."""

    passing: bool | None
    """The verdict; `None` while there is none. Liveness starts with `True`, readiness with `False`."""
    due: float
    """When to try next."""
    scheduled: float
    """The next time on the schedule, at which a failure counts."""
    pause_s: float
    """How long to wait before the next eager try; at least a period when eager tries are over."""
    run: int = 0
    """How many results in a row were like the last one."""
    last: bool | None = None
    trying: bool = False
    """An attempt is under way."""
    message: str = ""
    """What the last failure said."""

    @property
    def counts(self) -> bool:
        """Whether the attempt that is due now is on the schedule."""
        return self.due >= self.scheduled


def begun(spec: ProbeSpec, now: float) -> ProbeState:
    """A probe whose container has just started, or whose startup probe has just passed."""
    first = now + spec.initial_delay_s
    pause_s = spec.period_s
    if spec.kind != "liveness":
        pause_s = min(EAGER_FIRST_EXEC_S if "exec" in spec.action else EAGER_FIRST_S, spec.period_s)
    verdict = {"liveness": True, "readiness": False, "startup": None}[spec.kind]
    return ProbeState(verdict, due=first, scheduled=first, pause_s=pause_s)


def confirmed(spec: ProbeSpec, now: float) -> ProbeState:
    """A probe that is known to have passed: it goes on at its period, starting now."""
    return ProbeState(True, due=now, scheduled=now, pause_s=spec.period_s, run=spec.success_threshold, last=True)


def attempted(state: ProbeState) -> ProbeState:
    """An attempt has been started."""
    return replace(state, trying=True)


def answered(spec: ProbeSpec, state: ProbeState, ok: bool, now: float, message: str = "") -> ProbeState:
    """The attempt's result, and with it perhaps another verdict. A slow attempt skips the times it overran."""
    counted = state.counts
    scheduled = state.scheduled
    while counted and scheduled <= now:
        scheduled += spec.period_s
    eager = state.passing is not True and spec.kind != "liveness" and state.pause_s < spec.period_s and not ok
    due = min(now + state.pause_s, scheduled) if eager else scheduled
    state = replace(
        state,
        trying=False,
        due=due,
        scheduled=scheduled,
        pause_s=min(state.pause_s * EAGER_GROWTH, spec.period_s) if eager else spec.period_s,
        message="" if ok else message,
    )
    if not ok and not counted:
        return state
    run = state.run + 1 if state.last is ok else 1
    threshold = spec.success_threshold if ok else spec.failure_threshold
    return replace(state, run=run, last=ok, passing=ok if run >= threshold else state.passing)
