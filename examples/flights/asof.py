"""What was known by a moment: sums over events of one key before a time, for many questions at once.

Events are sorted once by (key, time), their values summed up cumulatively; each question is then two binary searches. A
window `[from, to)` never holds an event at `to` itself or later, which is what keeps the future out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Seconds = NDArray[np.int64]
Codes = NDArray[np.int64]

_SPAN = 1 << 40
"""Larger than any time in seconds since 1970, so that key * _SPAN + time sorts by key and then by time."""


@dataclass(frozen=True, slots=True)
class Window:
    """What the events of a window come to, for each question: how many, and the sum of each of their values."""

    count: Numbers
    sums: tuple[Numbers, ...]

    def mean(self, value: int, prior: float = 0.0, weight: float = 0.0) -> Numbers:
        """The mean of one value, drawn towards `prior` as if `weight` events more had had it."""
        total = self.count + weight
        return np.where(total > 0, (self.sums[value] + prior * weight) / np.maximum(total, 1e-9), prior)


class Events:
    """Events with a key, a time (seconds) and values. Those with a negative time never happened."""

    def __init__(self, keys: Codes, times: Seconds, values: Sequence[Numbers] = ()) -> None:
        self._times = times
        self._numbers = np.flatnonzero(times >= 0)
        ranks = keys[self._numbers] * _SPAN + times[self._numbers]
        order = np.argsort(ranks, kind="stable")
        self._ranks, self._numbers = ranks[order], self._numbers[order]
        self._all_values = values
        self._cumulated = [np.concatenate([[0.0], np.cumsum(value[self._numbers])]) for value in values]

    def between(self, keys: Codes, start: Seconds, end: Seconds, *, leave_out: Codes | None = None) -> Window:
        """The events of each key with `start <= time < end`.

        `leave_out` numbers, for each question, one event of its key that does not count: the question's own.
        """
        first = np.searchsorted(self._ranks, keys * _SPAN + np.maximum(start, 0))
        last = np.searchsorted(self._ranks, keys * _SPAN + end)
        count = (last - first).astype(np.float64)
        sums = [cumulated[last] - cumulated[first] for cumulated in self._cumulated]
        if leave_out is not None:
            own_time = self._times[leave_out]
            own = (own_time >= np.maximum(start, 0)) & (own_time < end)
            count -= own
            sums = [total - own * value[leave_out] for total, value in zip(sums, self._all_values, strict=True)]
        return Window(count, tuple(sums))

    def last_before(self, keys: Codes, end: Seconds, *, leave_out: Codes | None = None) -> Codes:
        """The number of each key's last event with `time < end`; -1 where there is none."""
        if not len(self._ranks):
            return np.full(len(keys), -1, np.int64)
        position = np.searchsorted(self._ranks, keys * _SPAN + end) - 1
        if leave_out is not None:
            own = (position >= 0) & (self._numbers[np.maximum(position, 0)] == leave_out)
            position -= own
        safe = np.maximum(position, 0)
        found = (position >= 0) & (self._ranks[safe] >= keys * _SPAN)
        return np.where(found, self._numbers[safe], -1)
