"""How long an idle worker stays: the hybrid histogram of the endpoint's own idle times.

An idle time runs from the end of the last request to the next one. They are counted in bins of a minute, up to four
hours. From the counts:

* **Learned.** Where the counts have a shape, an idle time is expected between the 5th and the 99th percentile of those
  seen. Where the 5th is later than a few minutes, the worker goes at once and is started again shortly before
  (pre-warm); it stays until shortly after the 99th. "Shortly" is a tenth.
* **Standard.** Where there are too few (`IDLE_TIMES_MIN`), where most are longer than the range, or where they are
  spread evenly (coefficient of variation of the bins below 2), nothing is known: the worker stays for `standard_s`.

The paper fits an ARIMA model where most idle times are out of range; here such an endpoint is simply let go after
`standard_s`, because our cold start is short.

Source: Shahrad et al., Serverless in the Wild, USENIX ATC 2020, section 4.2. There the standard is the whole range.
"""

import math
from typing import NamedTuple

BIN_S = 60.0
BINS = 240
HEAD, TAIL = 0.05, 0.99
MARGIN = 0.1
CV_MIN = 2.0
IDLE_TIMES_MIN = 10
IDLE_TIMES_KEPT = 4096
"""With more than these, all counts are halved, so that a new habit is learned."""


class KeepAlive(NamedTuple):
    """After the last request: no worker until `prewarm_s`, then one until `keep_s`. `learned`: from idle times."""

    prewarm_s: float
    keep_s: float
    learned: bool = False


class IdleTimes:
    """The histogram of one endpoint."""

    __slots__ = ("_bins", "_changed", "_out_of_range", "_squares", "_total", "_verdict")

    def __init__(self) -> None:
        self._bins = [0] * BINS
        self._out_of_range = 0
        self._total = 0
        self._squares = 0
        """Sum of the squared counts."""
        self._verdict: KeepAlive | None = None
        """What was learned; `None`: nothing. Made anew after `_changed`."""
        self._changed = False

    def add(self, idle_s: float) -> None:
        """The endpoint was idle for so long."""
        index = int(max(0.0, idle_s) // BIN_S)
        self._total += 1
        if index >= BINS:
            self._out_of_range += 1
        else:
            self._squares += 2 * self._bins[index] + 1
            self._bins[index] += 1
        if self._total > IDLE_TIMES_KEPT:
            self._halve()
        self._changed = True

    def keep(self, standard_s: float) -> KeepAlive:
        """For how long the last worker stays."""
        if self._changed:
            self._verdict, self._changed = self._learned(), False
        return self._verdict or KeepAlive(0.0, standard_s)

    @property
    def total(self) -> int:
        """Idle times counted."""
        return self._total

    def counts(self) -> list[int]:
        """By minute, the last for what was longer: to be kept elsewhere and taken up again (`take_up`)."""
        return [*self._bins, self._out_of_range]

    def take_up(self, counts: list[int]) -> None:
        """Goes on from counts that were kept. Raises `ValueError` where they are none."""
        if len(counts) != BINS + 1 or any(count < 0 for count in counts):
            raise ValueError(f"expected {BINS + 1} counts of at least 0, got {len(counts)}")
        self._bins, self._out_of_range = list(counts[:-1]), counts[-1]
        self._total = sum(counts)
        self._squares = sum(count * count for count in self._bins)
        self._changed = True

    def _learned(self) -> KeepAlive | None:
        seen = self._total - self._out_of_range
        if self._total < IDLE_TIMES_MIN or seen * 2 < self._total:
            return None
        mean = seen / BINS
        deviation = math.sqrt(max(0.0, self._squares / BINS - mean * mean))
        if deviation < CV_MIN * mean:
            return None
        head, tail = self._bin_at(HEAD), self._bin_at(TAIL)
        keep_s = (tail + 1) * BIN_S * (1 + MARGIN)
        return KeepAlive(head * BIN_S * (1 - MARGIN), keep_s, learned=True)

    def _bin_at(self, quantile: float) -> int:
        """The bin in which that share of the idle times within the range is reached."""
        enough = quantile * (self._total - self._out_of_range)
        so_far = 0
        for index, count in enumerate(self._bins):
            so_far += count
            if so_far >= enough and so_far:
                return index
        return BINS - 1

    def _halve(self) -> None:
        self._bins = [count // 2 for count in self._bins]
        self._out_of_range //= 2
        self._total = sum(self._bins) + self._out_of_range
        self._squares = sum(count * count for count in self._bins)
