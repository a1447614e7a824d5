"""The workers of one endpoint in virtual time: asked for, on their way, ready, gone; and what they cost."""

import heapq
from collections.abc import Callable

from mizzen.simulate.outcome import Outcome


class Fleet:
    """`time_to_ready_s` is asked for each worker that is started."""

    __slots__ = ("_outcome", "_since", "_starting", "_time_to_ready_s", "ready", "starts_done")

    def __init__(self, outcome: Outcome, time_to_ready_s: Callable[[], float], ready: int = 0) -> None:
        self._outcome = outcome
        self._time_to_ready_s = time_to_ready_s
        self._starting: list[tuple[float, float]] = []
        """A heap: when it will be ready, and how long it takes in all."""
        self._since = 0.0
        self.ready = ready
        outcome.replicas_max = ready
        self.starts_done: list[float] = []
        """Seconds that those took which became ready since somebody looked: to be emptied by who looks."""

    @property
    def wanted(self) -> int:
        """Workers asked for: ready or on their way."""
        return self.ready + len(self._starting)

    def next_ready(self) -> float | None:
        """When the next worker will be ready."""
        return self._starting[0][0] if self._starting else None

    def advance(self, now: float) -> None:
        """Time passes: workers become ready, and all cost."""
        outcome = self._outcome
        outcome.replica_s += (now - self._since) * self.wanted
        self._since = now
        while self._starting and self._starting[0][0] <= now:
            _, seconds = heapq.heappop(self._starting)
            self.ready += 1
            self.starts_done.append(seconds)

    def scale(self, now: float, desired: int) -> None:
        """Asks for so many. Of those that are too many, the ones that are furthest from ready go first."""
        self.advance(now)
        while self.wanted < desired:
            seconds = self._time_to_ready_s()
            heapq.heappush(self._starting, (now + seconds, seconds))
            self._outcome.starts += 1
        while self.wanted > desired:
            if self._starting:
                self._starting.remove(max(self._starting))
                heapq.heapify(self._starting)
            else:
                self.ready -= 1
        self._outcome.replicas_max = max(self._outcome.replicas_max, self.wanted)

    def lose(self, now: float) -> None:
        """A ready worker dies; another is started in its place, as a Deployment does."""
        self.advance(now)
        if self.ready:
            wanted = self.wanted
            self.ready -= 1
            self.scale(now, wanted)
