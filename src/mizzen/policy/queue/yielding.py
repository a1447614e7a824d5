"""How much of its workers' time the background of one model version gets while others come.

An answer is *slow* that took more than `TOLERATED` times the 99th percentile of those that met nothing of the
background, and `SLACK_S` more than that. What may be added to it is how long a batch of the background is to take, and
never more than `BACKGROUND_S` (`batch_s`). Yet batches cannot be made as short as one likes, and the gateway's own work
for them takes time as well. So the background rests after each batch, for so long that it is at work for no more than
its `share` of the time. Where more than one in a hundred answers are slow the share is halved, else it grows by a
tenth, so that it stays a little below what is too much. It never reaches one: there always are answers that met
nothing, in the same minute on the same machine, to compare with.

Where nobody else came for `QUIET_S` the background does not rest at all.
"""

import math
from collections import deque

from mizzen.policy.queue.rules import BACKGROUND_S

SHARE_FIRST, SHARE_MIN, SHARE_MAX = 0.25, 0.005, 0.5
GROWTH = 1.1
TOLERATED = 1.25
SLACK_S = 0.0002
"""Less than clients can tell from what lies between them and the gateway."""
SLOW_MAX = 0.01
DECIDE_EVERY = 256
"""Answers after which the share is looked at."""
CLEAR_MIN, CLEAR_MAX = 64, 512
"""Answers that met nothing: fewer than these tell no 99th percentile, and of more the last count."""
QUIET_S = 10.0


class Yielding:
    """The background of one lane."""

    __slots__ = ("_came_s", "_clear_s", "_ended_s", "_running", "_taken_s", "batch_s", "resume_s", "share")

    def __init__(self) -> None:
        self.share = SHARE_FIRST
        self.batch_s = BACKGROUND_S
        self._came_s = -math.inf
        """When somebody else came last."""
        self.resume_s = -math.inf
        """Before then no batch of the background begins."""
        self._running = 0
        self._ended_s = -math.inf
        self._clear_s: deque[float] = deque(maxlen=CLEAR_MAX)
        self._taken_s: list[float] = []
        """What answers to others took since the last decision, whatever they met."""

    def began(self) -> None:
        """A worker was given a batch of the background."""
        self._running += 1

    def ended(self, now: float, took_s: float, workers: int) -> None:
        """It has none any more, after `took_s`; one of so many workers."""
        self._running -= 1
        self._ended_s = now
        if now - self._came_s < QUIET_S:
            self.resume_s = now + took_s * (1 / self.share - 1) / max(1, workers)

    def answered(self, came_s: float, now: float) -> None:
        """Somebody else, who came then, is answered."""
        self._came_s = max(self._came_s, came_s)
        if not self._running and self._ended_s <= came_s:
            self._clear_s.append(now - came_s)
        self._taken_s.append(now - came_s)
        if len(self._taken_s) >= DECIDE_EVERY:
            self._decide()

    def _decide(self) -> None:
        taken_s, self._taken_s = self._taken_s, []
        if len(self._clear_s) < CLEAR_MIN:
            self.share = max(SHARE_MIN, self.share / 2)  # nothing to compare with: let there be
            return
        clear_s_p99 = sorted(self._clear_s)[int(0.99 * len(self._clear_s))]
        added_s = max((TOLERATED - 1) * clear_s_p99, SLACK_S)
        self.batch_s = min(added_s, BACKGROUND_S)
        limit_s = clear_s_p99 + added_s
        slow = sum(each_s > limit_s for each_s in taken_s)
        if slow > SLOW_MAX * len(taken_s):
            self.share = max(SHARE_MIN, self.share / 2)
        else:
            self.share = min(SHARE_MAX, self.share * GROWTH)
