"""Where requests wait outside the queue: while it is not known what the model takes, they cannot be decoded."""

from collections import deque

from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.exchange import Exchange


class Parking:
    """The parked requests of one endpoint, in order."""

    def __init__(self) -> None:
        self._parked: deque[Exchange] = deque()

    def __len__(self) -> int:
        return len(self._parked)

    def put(self, exchange: Exchange, most: int, now: float) -> None:
        """It waits. Raises `HttpError` where so many do already."""
        if len(self._parked) >= most:
            raise HttpError(
                429, f"the queue is full: {len(self._parked)} requests wait for a model", "queue_full",
                retry_after_s=max(0.0, self._parked[0].deadline_s - now),
            )  # fmt: skip
        self._parked.append(exchange)

    def leave(self) -> list[Exchange]:
        """All that still wait: they wait here no more."""
        parked, self._parked = self._parked, deque()
        return [exchange for exchange in parked if not exchange.done]

    def late(self, now: float) -> list[Exchange]:
        """Those whose time is over: they wait here no more."""
        late = [exchange for exchange in self._parked if exchange.deadline_s <= now and not exchange.done]
        self._parked = deque(exchange for exchange in self._parked if not exchange.done and exchange.deadline_s > now)
        return late

    def deadline_s(self) -> float | None:
        """The first of all; `None` while nothing is parked."""
        return min((exchange.deadline_s for exchange in self._parked), default=None)
