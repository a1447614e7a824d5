"""What a policy cost and what its users saw."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """Of one endpoint, or of several added up. A request is late where it waited for a worker longer than the scenario
    allows, or was never answered.
    """

    policy: str
    requests: float = 0.0
    late: float = 0.0
    unanswered: float = 0.0
    """Of the late ones: those whose time was over before a worker took them."""
    cold: float = 0.0
    """Requests that came while no worker was ready."""
    starts: int = 0
    """Workers started."""
    cold_starts: int = 0
    """Of them: the first of an endpoint that had none, because a request came."""
    replica_s: float = 0.0
    """Worker-seconds, from being asked for to being gone."""
    busy_s: float = 0.0
    """Of them: seconds of work, in units of whole workers."""
    replicas_max: int = 0
    waits_s: dict[float, float] = field(default_factory=dict)
    """Requests by the upper bound of their wait, for quantiles."""
    series: list[tuple[float, float, int]] = field(default_factory=list)
    """For the plot: time, workers needed for what was being worked on and waited, workers there."""

    @property
    def late_share(self) -> float:
        return self.late / self.requests if self.requests else 0.0

    @property
    def cold_share(self) -> float:
        return self.cold / self.requests if self.requests else 0.0

    @property
    def replica_hours(self) -> float:
        return self.replica_s / 3600.0

    @property
    def idle_share(self) -> float:
        """How much of the worker-seconds nothing was done in."""
        return 1.0 - self.busy_s / self.replica_s if self.replica_s else 0.0

    def waited(self, wait_s: float, count: float = 1.0) -> None:
        """Counts requests that waited so long."""
        bound = _bound(wait_s)
        self.waits_s[bound] = self.waits_s.get(bound, 0.0) + count

    def wait_s(self, quantile: float) -> float:
        """An upper bound of the wait that such a share of the answered requests did not exceed."""
        total = sum(self.waits_s.values())
        so_far = 0.0
        for bound in sorted(self.waits_s):
            so_far += self.waits_s[bound]
            if so_far >= quantile * total:
                return bound
        return 0.0

    def add(self, other: "Outcome") -> None:
        """Adds another endpoint's."""
        for name in ("requests", "late", "unanswered", "cold", "starts", "cold_starts", "replica_s", "busy_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.replicas_max = max(self.replicas_max, other.replicas_max)
        for bound, count in other.waits_s.items():
            self.waits_s[bound] = self.waits_s.get(bound, 0.0) + count


_BOUNDS = [0.0, *(round(10 ** (k / 10), 6) for k in range(-30, 51))]
"""From 1 ms to a day, ten to a power of ten: a quantile is told to a quarter of itself."""


def _bound(wait_s: float) -> float:
    low, high = 0, len(_BOUNDS) - 1
    while low < high:
        middle = (low + high) // 2
        if _BOUNDS[middle] >= wait_s:
            high = middle
        else:
            low = middle + 1
    return _BOUNDS[low]
