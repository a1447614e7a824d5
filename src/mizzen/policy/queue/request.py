"""What waits and what runs: requests, their parts, batches. A part of `mizzen.policy.queue`, which has the theory."""

import enum
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mizzen.policy.queue.fairness import Line


class Phase(enum.Enum):
    """Where a request stands."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"
    """Answered, failed, expired, refused or cancelled: the queue has nothing to do with it any more."""


WAITING, RUNNING, GONE = Phase.WAITING, Phase.RUNNING, Phase.GONE


class Request:
    """What waits: `rows` rows, `size` bytes, of one `group`, until `deadline_s`. `payload` is the caller's and never
    looked at.

    `cost` is what its share of the workers and a batch's duration are counted in: its rows where all rows are alike,
    its bytes (`by_size`) where they are not. A request that is larger than a batch waits as `parts`, which are requests
    of their own; the request itself, their `whole`, is then in no line and no batch.
    """

    __slots__ = (
        "alone", "arrival", "batch", "by_size", "came_s", "cost", "deadline_s", "group", "home", "index", "lane",
        "left", "lost", "parts", "payload", "phase", "priority", "rows", "size", "tenant", "whole",
    )  # fmt: skip

    def __init__(
        self, rows: int, deadline_s: float, group: Hashable, payload: Any = None, *, size: int = 0,
        by_size: bool = False, tenant: str = "", priority: int = 0, alone: bool = False,
    ) -> None:  # fmt: skip
        self.rows = rows
        self.deadline_s = deadline_s
        self.group = group
        self.payload = payload
        self.size = size
        self.by_size = by_size
        self.cost = size if by_size else rows
        self.tenant = tenant
        self.priority = priority
        """As asked for until it is offered, then the level it has."""
        self.alone = alone
        """Never put together with others: the model is not batchable, or a worker was lost while it ran."""
        self.phase = WAITING
        self.arrival = 0.0
        """Its number among those that came; of parts with a fraction, so that they are in order."""
        self.came_s = 0.0
        """When it was offered."""
        self.lane = ""
        self.home: Line | None = None
        """Where it waits to be put together with others; `None` where it waits as part of a batch to be run again."""
        self.batch: Batch | None = None
        self.lost = False
        """Whether a worker was lost while it ran."""
        self.whole: Request | None = None
        self.index = 0
        """Which part of its whole it is."""
        self.parts: list[Request] | None = None
        self.left = 0
        """Parts that are not answered yet."""

    def __repr__(self) -> str:
        return f"<Request {self.arrival} {self.phase.value} rows={self.rows} deadline_s={self.deadline_s}>"

    def split(self, rows_max: int, bytes_max: int) -> None:
        """Makes parts where it is larger than a batch may be: in order, as equal as can be, of a row at least."""
        self.parts, self.left = None, 0
        rows_of_bytes = max(1, bytes_max * self.rows // self.size) if self.size > bytes_max else self.rows
        count = -(-self.rows // min(rows_max, rows_of_bytes))
        if self.alone or count <= 1:
            return
        parts, row = [], 0
        for index in range(count):
            end = self.rows * (index + 1) // count
            size = self.size * end // self.rows - self.size * row // self.rows
            part = Request(
                end - row, self.deadline_s, self.group, self.payload, size=size, by_size=self.by_size,
                tenant=self.tenant, priority=self.priority,
            )  # fmt: skip
            part.whole, part.index, part.arrival = self, index, self.arrival + index / count
            part.came_s = self.came_s
            parts.append(part)
            row = end
        self.parts, self.left = parts, count

    def unite(self) -> list["Request"]:
        """It has no parts any more. Returns what it had, or itself; none of them leads back to it."""
        parts, self.parts = self.parts, None
        if parts is None:
            return [self]
        for part in parts:
            part.whole = None
        return parts


class Batch:
    """What one worker is given at once: all rows of its requests, in their order."""

    __slots__ = ("background", "called_back", "cost", "lane", "requests", "rows", "sent_s", "suspect", "worker")

    def __init__(self, lane: str, worker: Hashable, requests: list[Request], sent_s: float = 0.0) -> None:
        self.lane = lane
        self.worker = worker
        self.requests = requests
        self.rows = self.cost = 0
        for request in requests:
            self.rows += request.rows
            self.cost += request.cost
        self.sent_s = sent_s
        self.suspect = requests[0].lost
        """Whether it is a request with which a worker was lost: it has its worker for itself."""
        self.called_back = False
        self.background = False
        """Whether it is headed by a request of the background."""

    def __repr__(self) -> str:
        return f"<Batch of {len(self.requests)} requests, {self.rows} rows, for {self.worker!r}>"

    def live(self) -> list[Request]:
        """Those that still wait for the answer."""
        return [request for request in self.requests if request.phase is RUNNING]

    def close(self) -> list[Request]:
        """It is over: returns the live ones. No request leads back to it, so that nothing is left for the collector."""
        for request in self.requests:
            request.batch = None
        return self.live()


def order(request: Request) -> tuple[float, float]:
    """Earliest deadline first, then arrival."""
    return request.deadline_s, request.arrival
