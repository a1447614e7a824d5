"""First, last, the last k, and the time since the last event.

Order is by event time, then by when it was known, then by the value itself: of two events at one moment the one that
was learned later is the newer, and of two that are alike in both the greater value, so that the answer does not hang on
the order in which they arrived.
"""

import heapq
from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.data.features.aggregates.base import Aggregate, Asked, OfKValues, Run, State
from mizzen.data.features.columns import US_PER_S, Array, Domain


class Last(Aggregate):
    """The newest value; null where there is none."""

    function = "last"
    _newest = True

    @property
    def result_type(self) -> pa.DataType:
        return pa.float64() if pa.types.is_decimal(self.domain.type) else self.domain.type

    def empty(self, n: int) -> State:
        times = np.zeros((3, n), dtype=np.int64)
        return *times, np.full(n, None if self.domain.dtype == object else 0, dtype=self.domain.dtype)

    def prepare(self, run: Run) -> State:
        return np.ones(len(run), dtype=np.int64), run.time_us, run.known_us, run.value

    def merge(self, a: State, b: State) -> State:
        after = (b[1] > a[1]) | ((b[1] == a[1]) & (b[2] > a[2]))
        same = np.flatnonzero((a[0] > 0) & (b[0] > 0) & (b[1] == a[1]) & (b[2] == a[2]))
        after[same] = (b[3][same] > a[3][same]).astype(bool)
        if not self._newest:
            after = ~after
        take_b = (b[0] > 0) & ((a[0] == 0) | after)
        return a[0] + b[0], *(np.where(take_b, theirs, mine) for mine, theirs in zip(a[1:], b[1:], strict=True))

    def over(self, run: Run, lo: Array, hi: Array) -> State:
        state = self.empty(len(lo))
        some = np.flatnonzero(lo < hi)
        place = hi[some] - 1 if self._newest else lo[some]
        for part, source in zip(state[1:], (run.time_us, run.known_us, run.value), strict=True):
            part[some] = source[place]
        return np.maximum(hi - lo, 0), *state[1:]

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        return self.domain.decode(state[3], state[0] > 0)


class First(Last):
    """The oldest value; null where there is none."""

    function = "first"
    _newest = False


class TimeSinceLast(Aggregate):
    """Seconds from the newest event that has a value to the request; null where there is none."""

    function = "time_since_last"
    result_type = pa.float64()

    def empty(self, n: int) -> State:
        return np.zeros(n, dtype=np.int64), np.full(n, np.iinfo(np.int64).min, dtype=np.int64)

    def prepare(self, run: Run) -> State:
        return np.ones(len(run), dtype=np.int64), run.time_us

    def merge(self, a: State, b: State) -> State:
        return a[0] + b[0], np.maximum(a[1], b[1])

    def over(self, run: Run, lo: Array, hi: Array) -> State:
        newest = self.empty(len(lo))[1]
        some = lo < hi
        newest[some] = run.time_us[hi[some] - 1]
        return np.maximum(hi - lo, 0), newest

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        none = state[0] == 0
        since_us = asked.time_us - np.where(none, asked.time_us, state[1])
        return pa.array(since_us / US_PER_S, pa.float64(), mask=none)


class LastK(OfKValues):
    """The newest k values, the newest first."""

    function = "last_k"

    def make(self, run: Run, start: int, stop: int) -> list[tuple[int, int, Any]]:
        newest = slice(max(start, stop - self.k), stop)
        parts = (run.time_us[newest], run.known_us[newest], run.value[newest])
        return list(zip(*(part[::-1].tolist() for part in parts), strict=True))

    def join(self, a: list[tuple[int, int, Any]], b: list[tuple[int, int, Any]]) -> list[tuple[int, int, Any]]:
        return heapq.nlargest(self.k, [*a, *b])

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        lists = self.column(state, lambda newest: [value for _, _, value in newest], [])
        return lists_of(self.domain, lists)

    def dump(self, one: list[tuple[int, int, Any]]) -> Any:
        return one

    def load(self, packed: Any) -> list[tuple[int, int, Any]]:
        return [(time_us, known_us, value) for time_us, known_us, value in packed]


def lists_of(domain: Domain, lists: list[list[Any]]) -> pa.Array:
    """Lists of the kernel's numbers as a column of lists of what they stand for."""
    flat = [value for one in lists for value in one]
    data = np.empty(len(flat), dtype=domain.dtype)
    data[:] = flat
    offsets = np.zeros(len(lists) + 1, dtype=np.int32)
    np.cumsum([len(one) for one in lists], out=offsets[1:])
    return pa.ListArray.from_arrays(offsets, domain.decode(data, np.ones(len(flat), dtype=bool)))
