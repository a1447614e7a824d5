"""Conditions and events as a decision states them."""

from dataclasses import dataclass
from typing import Literal

from mizzen.kinds.meta import Condition, Status, with_condition

Truth = Literal["True", "False", "Unknown"]
MESSAGE_MAX = 4096


@dataclass(frozen=True, slots=True)
class Happened:
    """An event to record on the object."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Moment:
    """What every statement of one decision shares: the object's generation and the time, RFC 3339."""

    generation: int
    now: str

    def state(self, status: Status, type_: str, truth: Truth, reason: str, message: str = "") -> None:
        """Puts the condition into `status` (a copy that the decision owns)."""
        condition = Condition(
            type=type_,
            status=truth,
            reason=reason or "Unknown",
            message=message[:MESSAGE_MAX],
            last_transition_time=self.now,
            observed_generation=self.generation,
        )
        status.conditions = with_condition(status.conditions, condition)
        status.observed_generation = self.generation
