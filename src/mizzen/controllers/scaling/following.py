"""One endpoint that is followed: its autoscaler, and how long its workers take to be ready.

A start is timed from when the number was raised to when one more worker is seen ready, by this process's own monotonic
clock: Kubernetes' timestamps are whole seconds, and a start may be less than one.
"""

from collections import deque

from mizzen.policy.scaling.autoscaler import Autoscaler
from mizzen.policy.scaling.decision import Decision, Policy, Seen
from mizzen.policy.scaling.kpa import Kpa, KpaSettings
from mizzen.policy.scaling.meter import Flow
from mizzen.policy.scaling.settings import Settings


class Followed:
    """The state of one endpoint in the controller."""

    def __init__(self, settings: Settings, now: float = 0.0) -> None:
        self.settings = settings
        self.scaler: Policy = _policy(settings)
        self.decided_s = float("-inf")
        self.wanted: int | None = None
        """The number that was last decided."""
        self.used_s = now
        """When requests were last there, or, where none came yet, since when it is followed."""
        self._asked: deque[float] = deque()
        """When the workers that are not ready yet were asked for."""
        self._ready = 0

    def change(self, settings: Settings) -> None:
        """The endpoint is declared so now."""
        if settings == self.settings:
            return
        if isinstance(self.scaler, Autoscaler) and settings.policy != "kpa":
            self.scaler.change(settings)
        else:
            self.scaler = _policy(settings)
        self.settings = settings

    def report(self, now: float, wall_s: float, flow: Flow) -> None:
        if flow.arrivals > 0 or flow.concurrency_s > 0:
            self.used_s = now
        self.scaler.report(now, wall_s, flow)

    def decide(self, now: float, wall_s: float, seen: Seen) -> Decision:
        """How many there should be; the caller asks for them."""
        while self._asked and seen.ready > self._ready:
            self.scaler.started(now - self._asked.popleft())
            self._ready += 1
        self._ready = seen.ready
        if seen.waiting or seen.running:
            self.used_s = now
        decision = self.scaler.decide(now, wall_s, seen)
        self.decided_s, self.wanted = now, decision.desired
        return decision

    def asked(self, now: float, before: int, desired: int) -> None:
        """The number was changed."""
        for _ in range(desired - before):
            self._asked.append(now)
        for _ in range(min(before - desired, len(self._asked))):
            self._asked.pop()

    def idle_s(self, now: float, wall_s: float) -> float | None:
        """How long it has been idle, where it may give way; `None` where it may not."""
        if not isinstance(self.scaler, Autoscaler) or not self.wanted or not self.scaler.may_give_way(wall_s):
            return None
        return now - self.used_s

    def give_way(self, whom: str) -> None:
        """Its workers go, unless a request comes first. Only where `idle_s` says that they may."""
        assert isinstance(self.scaler, Autoscaler), "others do not give way"
        self.scaler.give_way(whom)

    @property
    def time_to_ready_s(self) -> float | None:
        return self.scaler.readiness.time_to_ready_s if isinstance(self.scaler, Autoscaler) else None


def _policy(settings: Settings) -> Policy:
    if settings.policy != "kpa":
        return Autoscaler(settings)
    target = settings.targets.concurrency
    return Kpa(
        KpaSettings(
            container_concurrency=target or 0.0,
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            windows=settings.windows,
            scale_down_delay_s=settings.scale_down_delay_s,
            target_utilisation=1.0 if target else 0.7,
        )
    )
