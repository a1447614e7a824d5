"""Knative's autoscaler (KPA) exactly: the baseline.

Average concurrency over the stable and panic windows, divided by 70 % of what a worker may have at once (100 where it
has no limit), followed by `reactive`. The last worker goes once the stable window shows nothing, which is what its
controller does after a grace in which the activator takes over; an activator that answers at once is assumed.

The excess burst capacity (EBC), by which Knative decides whether its activator stays in the path, is told beside: our
gateway is always in the path.

Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go and pkg/reconciler/autoscaling/kpa/scaler.go.
"""

import math
from collections import deque
from dataclasses import dataclass

from mizzen.policy.scaling.decision import NEVER_S, TICK_S, Decision, Seen
from mizzen.policy.scaling.meter import Flow, Meter
from mizzen.policy.scaling.reactive import CALM, KNATIVE, Panic, Windows, begin, follow


@dataclass(frozen=True, slots=True)
class KpaSettings:
    """Knative's own, with its defaults."""

    container_concurrency: float = 0.0
    """How many requests a worker may have at once; 0: no limit."""
    min_replicas: int = 0
    max_replicas: int = 1000
    windows: Windows = KNATIVE
    scale_down_delay_s: float = 0.0
    activation_scale: int = 1
    target_utilisation: float = 0.7
    target_burst_capacity: float = 211.0

    @property
    def capacity(self) -> float:
        return self.container_concurrency or 100.0

    @property
    def target(self) -> float:
        return self.capacity * self.target_utilisation


class DelayWindow:
    """The largest number of the last `delay_s` seconds."""

    __slots__ = ("_delay_s", "_falling")

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._falling: deque[tuple[float, int]] = deque()
        """Only what may still be the largest: later ones are smaller."""

    def add(self, now: float, number: int) -> int:
        """The largest, with the new one."""
        falling = self._falling
        while falling and falling[-1][1] <= number:
            falling.pop()
        falling.append((now, number))
        while falling[0][0] <= now - self._delay_s and len(falling) > 1:
            falling.popleft()
        return falling[0][1]


class Kpa:
    """One endpoint under Knative's rule."""

    def __init__(self, settings: KpaSettings) -> None:
        self.settings = settings
        self._meter = Meter(settings.windows.stable_s)
        self._panic: Panic | None = None
        self._delay = DelayWindow(settings.scale_down_delay_s) if settings.scale_down_delay_s > 0 else None
        self.excess_burst_capacity = 0.0

    def report(self, now: float, wall_s: float, flow: Flow) -> None:  # noqa: ARG002 - it knows no time of day
        self._meter.add(now, flow)

    def started(self, seconds: float) -> None:
        """It does not look at that."""

    def decide(self, now: float, wall_s: float, seen: Seen) -> Decision:  # noqa: ARG002 - it knows no time of day
        settings, windows = self.settings, self.settings.windows
        stable = self._meter.over(windows.stable_s, now).concurrency
        burst = self._meter.over(windows.panic_s, now).concurrency
        panic = begin(seen.ready, now) if self._panic is None else self._panic
        need, need_burst = stable / settings.target, burst / settings.target
        self._panic, wanted = follow(windows, panic, seen.ready, need, need_burst, now, settings.activation_scale)
        if self._delay is not None:
            wanted = self._delay.add(now, wanted)
        self.excess_burst_capacity = math.floor(seen.ready * settings.capacity - settings.target_burst_capacity - burst)
        desired = min(max(wanted, settings.min_replicas), settings.max_replicas)
        if seen.waiting and not desired:
            # What the activator does, which tells the autoscaler at once of the request that it holds.
            desired = min(1, settings.max_replicas)
        if not seen.reporting:
            desired = max(desired, min(seen.wanted, settings.max_replicas))
        rule = "panic" if self._panic.since is not None else "concurrency"
        why = (
            f"{stable:.3g} in the system over {windows.stable_s:g} s and {burst:.3g} over {windows.panic_s:g} s, "
            f"{settings.target:g} aimed at for each worker"
        )
        settled = desired == seen.ready == seen.wanted and stable == 0 and self._panic == CALM
        return Decision(desired, rule, why, NEVER_S if settled else TICK_S)


class Fixed:
    """A fixed fleet."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def report(self, now: float, wall_s: float, flow: Flow) -> None:
        """It does not look at that."""

    def started(self, seconds: float) -> None:
        """It does not look at that."""

    def decide(self, now: float, wall_s: float, seen: Seen) -> Decision:  # noqa: ARG002 - it is always the same
        return Decision(self.replicas, "fixed", f"fixed at {self.replicas}", NEVER_S)
