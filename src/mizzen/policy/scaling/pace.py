"""How long a request takes at a worker, whatever it waited before: measured over many requests, also in overload.

By Little's law, the mean time at a worker is the mean number there divided by the rate at which they are answered. Both
are summed with a half-life of ten minutes, so that requests that take longer than a window, and have not been answered
in it, do not make it look longer than it is.
"""

from mizzen.policy.scaling.meter import Flow

HALF_LIFE_S = 600.0
ANSWERED_MIN = 5.0
"""Requests that must have been answered before a mean is believed."""


class Pace:
    """What is known of one endpoint's requests."""

    __slots__ = ("_answered", "_at", "_busy_s", "_running_s")

    def __init__(self) -> None:
        self._at = 0.0
        self._answered = self._running_s = self._busy_s = 0.0

    def add(self, now: float, flow: Flow) -> None:
        """What happened since the last call."""
        if flow.answered <= 0 and flow.concurrency_s <= 0:
            return
        fading = 0.5 ** (max(0.0, now - self._at) / HALF_LIFE_S)
        self._at = max(self._at, now)
        self._answered = self._answered * fading + flow.answered
        self._running_s = self._running_s * fading + max(0.0, flow.concurrency_s - flow.waiting_s)
        self._busy_s = self._busy_s * fading + flow.busy_s

    @property
    def at_worker_s(self) -> float | None:
        """Seconds of a request at a worker; `None` while too few were answered."""
        return self._running_s / self._answered if self._answered >= ANSWERED_MIN else None

    @property
    def busy_s(self) -> float | None:
        """Seconds of a whole worker's compute for a request; `None` while too few were answered or it is not told."""
        return self._busy_s / self._answered if self._answered >= ANSWERED_MIN and self._busy_s > 0 else None
