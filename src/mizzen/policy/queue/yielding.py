"""How much of its workers' time the background of one model version gets while others come.

An answer is *slow* that took more than `TOLERATED` times the 99th percentile of those that met nothing of the
background, and `SLACK_S` more than that. What may be added to it is how long a batch of the background is to take, and
never more than `BACKGROUND_S` (`batch_s`). Yet batches cannot be made as short as one likes, and the gateway's own work
for them takes time as well. So the background rests after each batch, for so long that it is at work for no more than
its `share` of the time. As soon as more than one in a hundred of `DECIDE_EVERY` answers were slow the share is halved;
where that many have come and were not, it grows by a quarter: so it stays a little below what is too much. It never
reaches one: there always are answers that met nothing, in the same minute on the same machine, to compare with.

So many, because some answers are slow by themselves, one in two hundred or so, and a percentile of few says little: of
256 answers three were slow by chance so often that the share could only fall.

Where nobody else came for `QUIET_S` the background does not rest at all.
"""

import math
from collections import deque

from mizzen.policy.queue.rules import BACKGROUND_S

SHARE_FIRST, SHARE_MIN, SHARE_MAX = 0.25, 0.02, 0.5
GROWTH = 1.25
TOLERATED = 1.25
SLACK_S = 0.0002
"""Less than clients can tell from what lies between them and the gateway."""
SLOW_MAX = 0.01
DECIDE_EVERY = 1024
"""Answers among which the slow ones are counted."""
COMPARE_EVERY = 128
"""Answers after which it is looked at what slow is."""
CLEAR_MIN, CLEAR_MAX = 64, 2048
"""Answers that met nothing: fewer than these tell no 99th percentile, and of more the last count."""
QUIET_S = 10.0


class Yielding:
    """The background of one lane."""

    __slots__ = (
        "_answers",
        "_came_s",
        "_clear_s",
        "_ended_s",
        "_limit_s",
        "_running",
        "_slow",
        "batch_s",
        "resume_s",
        "share",
    )

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
        self._limit_s = math.inf
        """Answers that took longer are slow; not known at first."""
        self._answers = self._slow = 0
        """To others, since the last decision, whatever they met."""

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
        took_s = now - came_s
        if not self._running and self._ended_s <= came_s:
            self._clear_s.append(took_s)
        self._answers += 1
        self._slow += took_s > self._limit_s
        if self._answers % COMPARE_EVERY == 0:
            self._compare()
        if self._slow > SLOW_MAX * DECIDE_EVERY:
            self._decide(0.5)
        elif self._answers >= DECIDE_EVERY:
            self._decide(GROWTH)

    def _compare(self) -> None:
        """What is slow follows from those that met nothing; where there are too few of them, let there be more."""
        if len(self._clear_s) < CLEAR_MIN:
            self._decide(0.5)
            return
        clear_s_p99 = sorted(self._clear_s)[int(0.99 * len(self._clear_s))]
        added_s = max((TOLERATED - 1) * clear_s_p99, SLACK_S)
        self.batch_s = min(added_s, BACKGROUND_S)
        self._limit_s = clear_s_p99 + added_s

    def _decide(self, factor: float) -> None:
        self.share = min(SHARE_MAX, max(SHARE_MIN, self.share * factor))
        self._answers = self._slow = 0
