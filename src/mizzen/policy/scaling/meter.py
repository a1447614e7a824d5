"""What an endpoint does, second by second, and on average over windows.

Each report adds to the bucket of its second; sums are kept running, so that an average over any window up to the
longest costs two look-ups, whatever its length. Buckets are whole seconds, as Knative's are: an average at `now` is
over the last `window_s` buckets, the present one among them.
"""

import math
from typing import NamedTuple


class Flow(NamedTuple):
    """What happened since the last report. Sums of several gateways' flows are their common flow."""

    arrivals: float = 0.0
    """Requests that came."""
    concurrency_s: float = 0.0
    """Requests in the system (waiting or running), times seconds."""
    busy_s: float = 0.0
    """Seconds that workers spent computing."""
    answered: float = 0.0
    """Requests that were given to a worker and answered."""
    waiting_s: float = 0.0
    """Of the requests in the system, those that waited, times seconds."""


class Load(NamedTuple):
    """Averages over a window. `seconds`: how much of the window was seen."""

    rate_per_s: float
    concurrency: float
    busy: float
    """Workers that computed, on average."""
    answered_per_s: float
    waiting: float
    """Requests that waited, on average."""
    seconds: float


NOTHING = Load(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
_ZERO = Flow()


class Meter:
    """Sums by second over the last `window_s_max` seconds.

    A time before the last one counts as the last one: a clock that goes back moves nothing.
    """

    __slots__ = ("_began", "_second", "_size", "_sums")

    def __init__(self, window_s_max: float) -> None:
        self._size = math.ceil(window_s_max) + 1
        self._sums: list[Flow] = [_ZERO] * self._size
        """Sums of all flows up to the end of a second, at `second % size`."""
        self._second: int | None = None
        self._began = 0.0

    def add(self, now: float, flow: Flow) -> None:
        """Something happened at `now`."""
        self._advance(now)
        index = self._second % self._size  # type: ignore[operator]
        a, b = self._sums[index], flow
        self._sums[index] = Flow(a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4])

    def over(self, window_s: float, now: float) -> Load:
        """Averages over the window that ends now. Before a whole window was seen: over what was seen."""
        if self._second is None:
            return NOTHING
        self._advance(now)
        second, size = self._second, self._size
        span = min(max(1, round(window_s)), size - 1, second - int(self._began) + 1)
        a, b = self._sums[second % size], self._sums[(second - span) % size]
        return Load(
            (a[0] - b[0]) / span, (a[1] - b[1]) / span, (a[2] - b[2]) / span, (a[3] - b[3]) / span,
            (a[4] - b[4]) / span, float(span),
        )  # fmt: skip

    def _advance(self, now: float) -> None:
        second = int(now)
        last = self._second
        if last is None:
            self._second, self._began = second, now
            return
        if second <= last:
            return
        size, sums = self._size, self._sums
        total = sums[last % size]
        if second - last >= size:
            # Nothing of it is in any window any more: begin with small numbers again.
            self._sums = [_ZERO] * size
        else:
            for passed in range(last + 1, second + 1):
                sums[passed % size] = total
        self._second = second
