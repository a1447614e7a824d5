"""What the queue tells its shell to do. Together with `Batch` (send it to its worker) these are all commands."""

from dataclasses import dataclass
from enum import Enum

from mizzen.policy.queue.request import Batch, Request


class Reason(Enum):
    """Why a request is refused."""

    FULL = "full"
    """As much waits as may, and others are no less entitled to their place."""
    PUSHED_OUT = "pushed out"
    """It waited, and its place was needed by a request of a higher priority or of a tenant with less than its share."""
    TOO_LATE = "too late"
    """What waits before it takes longer than it has."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It is worth coming again after `retry_after_s`."""

    request: Request
    reason: Reason
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A request has no answer, for a reason of the model's or its workers'."""

    request: Request
    message: str
    lost: bool = False
    """Whether the reason is that workers were lost, and not what the model said."""
    invalid: bool = False
    """Whether it is that the inputs are none that the model takes."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A request's time is over. `worker_seen`: whether its lane had a worker then."""

    request: Request
    worker_seen: bool
    needed_s: float = 0.0
    """Where it was given up before its deadline: what the worker would have needed; else 0."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Tell the worker that the batch need not be run if it has not begun: some or all that wanted it have gone.

    The batch is still answered, failed or returned.
    """

    batch: Batch


Command = Batch | Refused | Failed | Expired | GiveUp


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """One model version's part, and what was learned of it. Costs are rows, or bytes where rows are not alike."""

    lane: str
    rows_waiting: int
    workers: int
    fixed_s: float
    """A batch's duration is about `fixed_s + cost_s * cost`; both 0 while that is not known."""
    cost_s: float
    spread: float
    """What few batches exceed, as a multiple of that."""
    batch_cost_max: float
    """The largest batch under the latency target; infinity without one."""
    drain_per_s: float
    """Cost answered each second while more waited; 0 while that is not known."""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """What `Queue.statistics` tells."""

    rows_waiting: int
    requests_waiting: int
    """The parts of a request that is larger than a batch count each."""
    batches_running: int
    workers: int
    batches_halved: int
    workers_lost: int
    """While they ran something."""
    bytes_waiting: int = 0
    requests_running: int = 0
    credits: int = 0
    """Batches that workers would take now."""
    pushed_out: int = 0
    lanes: tuple[LaneStatistics, ...] = ()
