"""What an endpoint's owner may say of its queue: frozen, replaced as a whole when the endpoint is changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PRIORITY_LEVELS_MAX = 10
BACKGROUND = 255
"""The priority that who is in no hurry asks for: behind all levels there are."""
BACKGROUND_S = 0.001
"""How long a batch of such requests is to take at most: what anybody else's may have to wait for it."""
BACKGROUND_SHARE = 0.1
"""And so much of the latency target at most, where there is one."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The bounds and shares of one queue. The defaults are those of an endpoint that says nothing."""

    rows_max: int = 8192
    """Rows that may wait."""
    bytes_max: int = 256 << 20
    """Bytes of inputs that may wait."""
    batch_rows_max: int = 256
    """Rows of one batch; a request of more is run in parts."""
    batch_bytes_max: int = 32 << 20
    """Bytes of inputs of one batch; a request of more is run in parts, of a row at least."""
    batch_delay_s: float = 0.0
    """How long an idle worker waits for a batch to fill; 0: it is given what waits at once."""
    latency_target_s: float | None = None
    """How long a request should take while the workers keep up; batches are kept small enough for it. `None`: any."""
    priority_levels: int = 1
    """Requests may say 1 (most urgent) to this, or `BACKGROUND`; what says something else has `priority_default`."""
    priority_default: int = 1
    weights: Mapping[str, float] = field(default_factory=dict)
    """Tenants' shares of the workers while several wait; 1 for who is not named."""
    priority_floors: Mapping[str, int] = field(default_factory=dict)
    """The most urgent level that a tenant's requests may have; 1 for who is not named."""

    def priority(self, asked: int, tenant: str) -> int:
        """The level that a request has; that of the background is below all that there are.

        >>> Rules(priority_levels=3, priority_default=2).priority(0, "")
        2
        >>> Rules(priority_levels=3, priority_floors={"nightly": 3}).priority(1, "nightly")
        3
        >>> Rules(priority_levels=3).priority(255, "")
        4
        """
        if asked == BACKGROUND:
            return self.priority_levels + 1
        level = asked if 1 <= asked <= self.priority_levels else self.priority_default
        floor = self.priority_floors.get(tenant, 1)
        return min(max(level, floor), self.priority_levels)
