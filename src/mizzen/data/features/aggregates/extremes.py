"""The smallest and the largest value, of anything that has an order."""

from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.data.features.aggregates.base import Aggregate, Asked, Run, State
from mizzen.data.features.columns import Array, Domain


class Minimum(Aggregate):
    """The smallest value; null where there is none."""

    function = "min"
    _pick: np.ufunc = np.minimum
    _sign = 1

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain)
        self._identity = _largest(domain.dtype) if self._sign > 0 else _smallest(domain.dtype)

    @property
    def result_type(self) -> pa.DataType:
        return pa.float64() if pa.types.is_decimal(self.domain.type) else self.domain.type

    def empty(self, n: int) -> State:
        return np.zeros(n, dtype=np.int64), np.full(n, self._identity, dtype=self.domain.dtype)

    def prepare(self, run: Run) -> State:
        return np.ones(len(run), dtype=np.int64), run.value

    def merge(self, a: State, b: State) -> State:
        n = a[0] + b[0]
        if self._identity is not None:
            return n, self._pick(a[1], b[1])
        merged = np.where(a[0] > 0, a[1], b[1])
        both = np.flatnonzero((a[0] > 0) & (b[0] > 0))
        merged[both] = self._pick(a[1][both], b[1][both])
        return n, merged

    def over(self, run: Run, lo: Array, hi: Array) -> State:
        if self._identity is None:
            return super().over(run, lo, hi)
        values = run.value + 0.0 if run.value.dtype == np.float64 else run.value  # of two zeros neither is the smaller
        return np.maximum(hi - lo, 0), _of_ranges(values, lo, hi, self._pick, self.empty(len(lo))[1])

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        return self.domain.decode(state[1], state[0] > 0)


class Maximum(Minimum):
    """The largest value; null where there is none."""

    function = "max"
    _pick = np.maximum
    _sign = -1


def _of_ranges(values: Array, lo: Array, hi: Array, pick: np.ufunc, found: Array) -> Array:
    """The extremes of `values[lo[i]:hi[i]]`, put into `found` where there is one.

    A range of n values is covered by two of 2^k, which may overlap, with k = floor(log2(n)): a sparse table (Bender,
    Farach-Colton, "The LCA Problem Revisited", 2000), of which one row at a time is kept.
    """
    length = hi - lo
    some = length > 0
    if not some.any():
        return found
    first = int(lo[some].min())
    level, lo, hi = np.frexp(np.maximum(length, 0))[1] - 1, lo - first, hi - first
    row = values[first : first + int(hi[some].max())]
    for k in range(int(level.max()) + 1):
        if k:
            half = 1 << (k - 1)
            row = pick(row[:-half], row[half:])
        asked = np.flatnonzero(level == k)
        found[asked] = pick(row[lo[asked]], row[hi[asked] - (1 << k)])
    return found


def _largest(dtype: np.dtype[Any]) -> float | None:
    """What no value is above; `None` where there is no such thing."""
    if dtype == np.int64:
        return int(np.iinfo(np.int64).max)
    return np.inf if dtype == np.float64 else None


def _smallest(dtype: np.dtype[Any]) -> float | None:
    if dtype == np.int64:
        return int(np.iinfo(np.int64).min)
    return -np.inf if dtype == np.float64 else None
