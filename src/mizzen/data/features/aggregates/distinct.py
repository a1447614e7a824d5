"""How many different values there are: exactly, or by a HyperLogLog sketch whose size does not grow.

Exactly, within one run: a value counts in the range [lo, hi) where its previous occurrence lies before lo. So the
number is #{i < hi: previous(i) < lo} - lo, since every i < lo has previous(i) < i < lo. Such counts come from a wavelet
matrix (Claude, Navarro, Ordonez 2015): one step a bit, for all ranges together.

The sketch is Apache DataSketches' HLL with 2^12 registers: 1.6 % relative standard error, the same register contents
whatever the order of updates and merges.
"""

import itertools
from typing import Any

import datasketches
import numpy as np
import pyarrow as pa

from mizzen.data.features.aggregates.base import Asked, OfObjects, Run, State
from mizzen.data.features.columns import Array

LG_REGISTERS = 12


class Distinct(OfObjects):
    """How many different values there are, exactly."""

    function = "distinct"
    result_type = pa.int64()

    def make(self, run: Run, start: int, stop: int) -> frozenset[Any]:
        return frozenset(run.value[start:stop].tolist())

    def join(self, a: frozenset[Any], b: frozenset[Any]) -> frozenset[Any]:
        return a | b

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        return pa.array(self.column(state, len, 0), pa.int64())

    def counted(self, run: Run, lo: Array, hi: Array) -> pa.Array:
        """The values of the ranges of one run, without their sets."""
        previous = _previous_occurrence(run.value)
        hi = np.maximum(hi, lo)
        return pa.array(_count_below(previous + 1, hi, lo) - lo, pa.int64())

    def dump(self, one: frozenset[Any]) -> Any:
        return sorted(one)  # alike in every process

    def load(self, packed: Any) -> frozenset[Any]:
        return frozenset(packed)


class ApproximateDistinct(OfObjects):
    """How many different values there are, by a sketch."""

    function = "approximate_distinct"
    result_type = pa.int64()

    def make(self, run: Run, start: int, stop: int) -> Any:
        sketch = datasketches.hll_sketch(LG_REGISTERS, datasketches.tgt_hll_type.HLL_8)
        values = run.value[start:stop]
        if self.domain.dictionary is not None:
            values = np.array(self.domain.dictionary.take(pa.array(values)).to_pylist(), dtype=object)
        elif values.dtype == np.float64:
            values = values + 0.0  # -0.0 is 0.0
        for value in values.tolist():
            # The library leaves empty text out.
            sketch.update(value if isinstance(value, int | float) else f"={value}")
        return sketch

    def join(self, a: Any, b: Any) -> Any:
        union = datasketches.hll_union(LG_REGISTERS)
        union.update(a)
        union.update(b)
        return union.get_result(datasketches.tgt_hll_type.HLL_8)

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        return pa.array(self.column(state, self._estimate, 0), pa.int64())

    def _estimate(self, sketch: Any) -> int:
        # Through a union, the estimate is of the registers alone and not of the order in which they were filled.
        union = datasketches.hll_union(LG_REGISTERS)
        union.update(sketch)
        union.update(datasketches.hll_sketch(LG_REGISTERS))
        estimate: float = union.get_estimate()
        return round(estimate)

    def dump(self, one: Any) -> Any:
        return bytes(one.serialize_compact())

    def load(self, packed: Any) -> Any:
        return datasketches.hll_sketch.deserialize(packed)


def _previous_occurrence(values: Array) -> Array:
    """Where each value occurred before; -1 where it did not."""
    previous = np.full(len(values), -1, dtype=np.int64)
    if values.dtype == object:
        codes: dict[Any, int] = {}
        counter = itertools.count()
        values = np.array([codes[v] if v in codes else codes.setdefault(v, next(counter)) for v in values.tolist()])
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    return previous


def _count_below(values: Array, stop: Array, below: Array) -> Array:
    """For each i, how many of `values[:stop[i]]` are at most `below[i]`; values and bounds are not negative."""
    bits = max(1, int(max(values.max(initial=0), below.max(initial=0))).bit_length())
    at, count, alive = stop.copy(), np.zeros(len(stop), dtype=np.int64), values
    begin = np.zeros(len(stop), dtype=np.int64)
    for bit in range(bits - 1, -1, -1):
        ones = (alive >> bit) & 1
        rank = np.zeros(len(alive) + 1, dtype=np.int64)
        np.cumsum(ones, out=rank[1:])
        zeros_all = len(alive) - rank[-1]
        is_one = ((below >> bit) & 1) == 1
        zeros_begin, zeros_at = begin - rank[begin], at - rank[at]
        count += np.where(is_one, zeros_at - zeros_begin, 0)
        begin = np.where(is_one, zeros_all + rank[begin], zeros_begin)
        at = np.where(is_one, zeros_all + rank[at], zeros_at)
        alive = np.concatenate((alive[ones == 0], alive[ones == 1]))
    return count + (at - begin)
