"""What a simulated worker can do, what counts as late, and the policies that are compared."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mizzen.policy.scaling.autoscaler import Autoscaler
from mizzen.policy.scaling.decision import Policy
from mizzen.policy.scaling.kpa import Fixed, Kpa, KpaSettings
from mizzen.policy.scaling.settings import Settings
from mizzen.policy.scaling.targets import Targets

POLICIES = ("forecast", "reactive", "kpa", "fixed")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One worker, one endpoint. Times in seconds."""

    slots: int = 1
    """Requests that one worker runs at the same time."""
    service_s: float = 0.1
    """How long each takes, where the trace does not say."""
    time_to_ready_s: float = 30.0
    load_times_s: Sequence[float] = ()
    """Measured starts: each start takes one of them, by chance. Empty: all take `time_to_ready_s`."""
    wait_s_max: float = 1.0
    """A request that waits longer for a worker is late."""
    timeout_s: float = 30.0
    """A request that has waited so long goes unanswered."""
    utilisation: float = 0.7
    """How much of its slots a worker should have in use: the same for all policies."""
    min_replicas: int = 1
    max_replicas: int = 1000
    scale_to_zero_after_s: float | None = None
    standard_keep_s: float = 300.0
    seed: int = 7
    ready_at_start: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(7), repr=False, compare=False)  # noqa: S311

    def fresh(self) -> "Scenario":
        """The same with its chances at their beginning: each policy meets the same world."""
        return replace(self, _random=random.Random(self.seed))  # noqa: S311 - a simulation, not a secret

    def starting_with(self, ready: int) -> "Scenario":
        """The same with so many workers ready when the trace begins."""
        return replace(self, ready_at_start=ready)

    def time_to_ready(self) -> float:
        """How long the next worker takes."""
        return self._random.choice(self.load_times_s) if self.load_times_s else self.time_to_ready_s

    @property
    def target_concurrency(self) -> float:
        return self.slots * self.utilisation

    def settings(self, policy: str) -> Settings:
        """Our policy's, for this worker."""
        return Settings(
            min_replicas=self.min_replicas,
            max_replicas=self.max_replicas,
            targets=Targets(concurrency=self.target_concurrency, slots=self.slots),
            policy=policy,
            scale_to_zero_after_s=self.scale_to_zero_after_s,
        )

    def policy(self, name: str, fixed_replicas: int) -> Callable[[], Policy]:
        """Makes a policy by its name; `fixed_replicas` for the fixed fleet. Raises `ValueError` for others."""
        if name in {"forecast", "reactive"}:
            return lambda: Autoscaler(self.settings(name), self.standard_keep_s)
        if name == "kpa":
            kpa = KpaSettings(
                container_concurrency=float(self.slots),
                min_replicas=self.min_replicas,
                max_replicas=self.max_replicas,
                target_utilisation=self.utilisation,
            )
            return lambda: Kpa(kpa)
        if name == "fixed":
            return lambda: Fixed(fixed_replicas)
        raise ValueError(f"expected a policy of {', '.join(POLICIES)}, got {name!r}")

    def fleet_for(self, concurrency: float) -> int:
        """The workers whose slots are in use as much as aimed at."""
        return min(max(math.ceil(concurrency / self.target_concurrency), 1), self.max_replicas)
