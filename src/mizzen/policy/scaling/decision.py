"""What every policy is asked and answers: the face that the live controller and the simulator see."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mizzen.policy.scaling.meter import Flow

TICK_S = 2.0
"""How often a policy is asked while there is something to follow. Knative's."""
NEVER_S = math.inf


class Seen(NamedTuple):
    """An endpoint as it stands now."""

    ready: int
    """Workers that are ready."""
    wanted: int
    """Workers that were asked for."""
    waiting: int = 0
    """Requests that wait in the gateways' queues."""
    running: int = 0
    """Requests that workers have."""
    reporting: bool = True
    """Whether every gateway has told lately. What is not told is not known: it is not nothing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """So many workers, and why."""

    desired: int
    rule: str
    """What decided, in one word."""
    why: str
    """The decision as a sentence with its numbers."""
    again_s: float = TICK_S
    """When to ask again, at the latest, where nothing is reported before; infinite: not at all."""


class Policy(Protocol):
    """Decides for one endpoint. It keeps what it was told; times never come from anywhere but the arguments."""

    def report(self, now: float, wall_s: float, flow: Flow) -> None:
        """What happened since the last report."""

    def started(self, seconds: float) -> None:
        """A worker was ready so long after it was asked for."""

    def decide(self, now: float, wall_s: float, seen: Seen) -> Decision:
        """How many workers there should be now."""
