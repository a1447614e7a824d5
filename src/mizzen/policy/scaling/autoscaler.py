"""One endpoint's autoscaler: what it saw and learned, and the rules in their order.

1. The load over the stable and the panic window asks for workers (`targets`), and Knative's rule follows it
   (`reactive`). While no worker is ready, what waits says how long nobody served and not how much comes: then the load
   is the arrival rate times what a request used to take, and one worker where that is not known. So a burst to zero
   starts one.
2. The forecast asks for workers for the load at the horizon, the measured time to ready, by the same targets. It only
   adds, within the same limits. Where workers are ready sooner than the panic window would show a burst, it has nothing
   to add and is not asked.
3. Hysteresis: a number is not lowered for a load that is just below the step.
4. Scale-down delay: fewer must have been enough for a while.
5. Zero: the last worker stays while anything is in the system, and for its keep-alive; it comes back for what waits,
   and shortly before a request is expected (`keepalive`). Where another endpoint's worker has no room, it goes before
   (`giveway`), and comes back for the next request.
6. What is not reported is not known: until every gateway has reported for a stable window, nothing is taken away.
7. Schedules and bounds. They are last, so that no rule leads out of them.

An endpoint with nothing to follow asks for no tick: `Decision.again_s` is when its keep-alive ends, a schedule may
open, or never.
"""

import math
from dataclasses import dataclass

from mizzen.policy.scaling.decision import NEVER_S, TICK_S, Decision, Seen
from mizzen.policy.scaling.forecast import Forecaster
from mizzen.policy.scaling.keepalive import IdleTimes, KeepAlive
from mizzen.policy.scaling.kpa import DelayWindow
from mizzen.policy.scaling.meter import Flow, Load, Meter
from mizzen.policy.scaling.pace import Pace
from mizzen.policy.scaling.reactive import CALM, Panic, begin, follow
from mizzen.policy.scaling.readiness import Readiness
from mizzen.policy.scaling.schedules import Bounds, bounds
from mizzen.policy.scaling.settings import Settings
from mizzen.policy.scaling.targets import Need, Work, need

STANDARD_KEEP_S = 300.0
MINUTE_S = 60.0
UNKNOWN_AGAIN_S = 5.0
AGAIN_S_MIN = 0.01
"""A timer may go off a little early: the moment it was set for is then looked for once more, not at once for ever."""


@dataclass(slots=True)
class _Proposal:
    """A number on its way through the rules, with the last rule that changed it."""

    desired: int
    rule: str
    why: str

    def become(self, desired: int, rule: str, why: str) -> None:
        if desired != self.desired:
            self.desired, self.rule, self.why = desired, rule, why


class Autoscaler:
    """Decides for one endpoint. `standard_keep_s`: the keep-alive while idle times are not known."""

    def __init__(self, settings: Settings, standard_keep_s: float = STANDARD_KEEP_S) -> None:
        self.settings = settings
        self.idle_times = IdleTimes()
        self.readiness = Readiness()
        self._standard_keep_s = standard_keep_s
        self._meter = Meter(settings.windows.stable_s)
        self._forecaster = Forecaster() if settings.policy == "forecast" else None
        self._panic: Panic | None = None
        self._delay = DelayWindow(settings.scale_down_delay_s) if settings.scale_down_delay_s > 0 else None
        self._active_at: float | None = None
        """When anything was last in the system; `None`: never seen."""
        self._gave_way = ""
        """For whom its workers went, until the next request."""
        self._known_since: float | None = None
        """Since when every gateway reports; `None`: not all do."""
        self._pace = Pace()
        self._bounds: tuple[int, Bounds] | None = None
        """The minute, and the bounds in it."""

    def change(self, settings: Settings) -> None:
        """The endpoint is declared so from now on; what was learned stays."""
        old, self.settings = self.settings, settings
        if old.windows.stable_s != settings.windows.stable_s:
            self._meter = Meter(settings.windows.stable_s)
        if old.scale_down_delay_s != settings.scale_down_delay_s:
            self._delay = DelayWindow(settings.scale_down_delay_s) if settings.scale_down_delay_s > 0 else None
        if settings.policy != "forecast":
            self._forecaster = None
        elif self._forecaster is None:
            self._forecaster = Forecaster()
        self._bounds = None

    def report(self, now: float, wall_s: float, flow: Flow) -> None:
        """What happened since the last report."""
        self._meter.add(now, flow)
        self._pace.add(now, flow)
        if self._forecaster is not None:
            self._forecaster.add(now, wall_s, flow.arrivals, self._horizon_s)
        if flow.arrivals > 0 or flow.concurrency_s > 0:
            self._gave_way = ""
            if self._active_at is not None and flow.arrivals > 0 and now - self._active_at > 1.0:
                self.idle_times.add(now - self._active_at)
            self._active_at = now if self._active_at is None else max(now, self._active_at)

    def started(self, seconds: float) -> None:
        """A worker was ready so long after it was asked for."""
        self.readiness.add(seconds)

    def may_give_way(self, wall_s: float) -> bool:
        """Whether it may have no worker now."""
        return self._limits(wall_s).least == 0

    def give_way(self, whom: str) -> None:
        """Its workers are to make room for another endpoint's, unless a request has come meanwhile."""
        self._gave_way = whom

    def decide(self, now: float, wall_s: float, seen: Seen) -> Decision:
        """How many workers there should be now."""
        windows, known = self.settings.windows, self._is_known(now, seen)
        if self._active_at is None or seen.waiting or seen.running or not seen.reporting:
            self._active_at = now
        stable, burst = self._meter.over(windows.stable_s, now), self._meter.over(windows.panic_s, now)
        proposal, asked = self._reactive(now, seen, stable, burst)
        if self._forecaster is not None:
            self._expect(proposal, seen)
        if proposal.desired < seen.wanted:
            self._hold(proposal, seen, asked)
        if self._delay is not None:
            delayed = self._delay.add(now, proposal.desired)
            proposal.become(delayed, "delay", "fewer have not been enough for long enough")
        again_s = self._rest_or_zero(proposal, now, seen, stable)
        if proposal.desired < seen.wanted and not known and not (self._gave_way and seen.reporting):
            proposal.become(seen.wanted, "notReported", "not every gateway has reported for a stable window")
            again_s = min(again_s, UNKNOWN_AGAIN_S)
        limits = self._limits(wall_s)
        within = min(max(proposal.desired, limits.least), limits.most)
        if within != proposal.desired:
            side = f"at least {limits.least}" if within > proposal.desired else f"at most {limits.most}"
            because = f" from {limits.words}" if limits.words else ""
            rule = "schedule" if limits.words else "bounds"
            proposal.become(within, rule, f"{side}{because}; {proposal.desired} by {proposal.rule}: {proposal.why}")
        settled = proposal.desired == seen.wanted == seen.ready and self._panic == CALM and stable.concurrency == 0
        if not settled or seen.waiting or seen.running:
            again_s = min(again_s, TICK_S)
        elif self.settings.schedules:
            again_s = min(again_s, MINUTE_S)
        return Decision(proposal.desired, proposal.rule, proposal.why, again_s)

    # The rules

    def _reactive(self, now: float, seen: Seen, stable: Load, burst: Load) -> tuple[_Proposal, Need]:
        """1. Follows the load."""
        targets, windows, work = self.settings.targets, self.settings.windows, self._work
        cold = seen.ready == 0
        if cold:
            stable = burst = _expected(burst.rate_per_s, work)
        waiting = 0.0 if cold else float(seen.waiting)
        steady = need(targets, stable, work, waiting, self._horizon_s)
        sudden = need(targets, burst, work, waiting, self._horizon_s)
        panic = begin(seen.ready, now) if self._panic is None else self._panic
        self._panic, desired = follow(windows, panic, seen.ready, steady.workers, sudden.workers, now)
        if cold and (seen.waiting or seen.running):
            desired = max(desired, 1)
        desired = max(desired, min(math.ceil(sudden.workers), math.ceil(windows.scale_up_rate * max(1, seen.ready))))
        if desired > math.ceil(steady.workers) and sudden.workers > steady.workers:
            rule = "panic" if self._panic.since is not None else sudden.by
            return _Proposal(desired, rule, f"over {windows.panic_s:g} s: {sudden.words}"), steady
        if self._panic.since is not None and desired > math.ceil(steady.workers):
            return _Proposal(desired, "panic", "a burst has not passed for long enough"), steady
        if desired == 1 and not steady.workers:
            return _Proposal(desired, "waiting", f"{seen.waiting} requests wait and no worker is ready"), steady
        return _Proposal(desired, steady.by, steady.words), steady

    def _expect(self, proposal: _Proposal, seen: Seen) -> None:
        """2. Adds what the forecast asks for. It starts no first worker: that is `_rest_or_zero`'s."""
        if self._horizon_s <= self.settings.windows.panic_s or self._forecaster is None or not seen.wanted:
            return
        forecast, work = self._forecaster.ahead(), self._work
        if forecast is None or work.at_worker_s is None:
            return
        expected = need(self.settings.targets, _expected(forecast.rate_per_s, work), work)
        limit = math.ceil(self.settings.windows.scale_up_rate * max(1, seen.ready))
        desired = min(math.ceil(expected.workers), limit)
        if desired > proposal.desired:
            why = (
                f"{forecast.rate_per_s:.3g} requests a second expected in {self._horizon_s:.3g} s, when a worker "
                f"would be ready (by {forecast.expert}); {expected.words}"
            )
            proposal.become(desired, "forecast", why)

    def _hold(self, proposal: _Proposal, seen: Seen, asked: Need) -> None:
        """3. Lowers only as far as a tenth more load would fit."""
        enough = math.ceil(asked.workers * (1.0 + self.settings.hysteresis))
        if enough > proposal.desired:
            proposal.become(
                min(enough, seen.wanted), "hysteresis", f"{proposal.desired} would be just enough: {asked.words}"
            )

    def _rest_or_zero(self, proposal: _Proposal, now: float, seen: Seen, stable: Load) -> float:
        """5. Whether there is a worker at all; when to ask again."""
        if seen.waiting or seen.running:
            self._gave_way = ""
            if proposal.desired < 1:
                proposal.become(1, "busy", f"{seen.running} requests run and {seen.waiting} wait")
            return TICK_S
        if self._gave_way:
            proposal.desired, proposal.rule = 0, "givesWay"
            proposal.why = f"idle, and a worker of {self._gave_way} has no room"
            return NEVER_S
        if proposal.desired > 1 or self.settings.min_replicas > 0:
            return NEVER_S if stable.concurrency == 0 else TICK_S
        active_at = self._active_at if self._active_at is not None else now
        idle_s, keep = now - active_at, self._keep_alive()
        lead_s = self.readiness.time_to_ready_s or 0.0
        comes_back_s = max(0.0, keep.prewarm_s - lead_s)
        rests = comes_back_s > 0 and idle_s < comes_back_s and idle_s >= self.settings.windows.panic_s
        learned = ", as its idle times have it" if keep.learned else ""
        if idle_s >= keep.keep_s or rests:
            proposal.desired, proposal.rule = 0, "idle"
            proposal.why = f"no request for {idle_s:.0f} s{learned}"
        elif not seen.wanted and not 0 < comes_back_s <= idle_s:
            # Who begins, or is told of no requests, does not know when the last one came: that starts nothing.
            proposal.rule, proposal.why = "idle", "no worker runs and no request waits"
        elif proposal.desired < 1:
            proposal.become(1, "keepAlive", f"a worker stays for {keep.keep_s:.0f} s after the last request{learned}")
        rested = proposal.desired == seen.wanted == 0
        moments = (comes_back_s,) if rested else (self.settings.windows.panic_s, comes_back_s, keep.keep_s)
        return min((max(moment - idle_s, AGAIN_S_MIN) for moment in moments if moment > idle_s), default=NEVER_S)

    # What it knows

    @property
    def _horizon_s(self) -> float:
        return self.readiness.time_to_ready_s or 0.0

    def _is_known(self, now: float, seen: Seen) -> bool:
        """Whether a whole stable window was reported."""
        if not seen.reporting:
            self._known_since = None
            return False
        if self._known_since is None:
            self._known_since = now
        return now - self._known_since >= self.settings.windows.stable_s or self._known_since > now

    @property
    def _work(self) -> Work:
        return Work(self._pace.at_worker_s, self._pace.busy_s)

    def _keep_alive(self) -> KeepAlive:
        fixed_s = self.settings.scale_to_zero_after_s
        return KeepAlive(0.0, fixed_s) if fixed_s is not None else self.idle_times.keep(self._standard_keep_s)

    def _limits(self, wall_s: float) -> Bounds:
        settings = self.settings
        minute = int(wall_s // MINUTE_S)
        if self._bounds is None or self._bounds[0] != minute:
            found = bounds(settings.min_replicas, settings.max_replicas, settings.schedules, wall_s, self._horizon_s) \
                if settings.schedules else Bounds(settings.min_replicas, settings.max_replicas)  # fmt: skip
            self._bounds = (minute, found)
        return self._bounds[1]


def _expected(rate_per_s: float, work: Work) -> Load:
    """The load that this rate makes where nobody waits."""
    concurrency = rate_per_s * (work.at_worker_s or 0.0)
    return Load(rate_per_s, concurrency, rate_per_s * (work.busy_s or 0.0), rate_per_s, 0.0, 0.0)
