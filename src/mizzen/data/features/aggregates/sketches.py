"""Quantiles by Apache DataSketches' KLL, and the most frequent values by Misra and Gries.

KLL (Karnin, Lang, Liberty 2016) with k = 200 is within 1.65 % of the wanted rank with 99 % confidence, and exact while
no more than about k values went in. Its choices are random: two paths to one window agree within the bound.

Misra and Gries (1982), merged as Agarwal et al. (2012, "Mergeable summaries") show: counters for at most `CAPACITY`
values; where there are more, the smallest counter is taken off all of them. Counts are exact up to that many different
values, and too low by at most n / CAPACITY beyond. Ties are broken by the value, so that the answer is one.
"""

from typing import Any

import datasketches
import numpy as np
import pyarrow as pa

from mizzen.data.features.aggregates.base import Asked, OfKValues, OfObjects, Run, State
from mizzen.data.features.aggregates.ordered import lists_of
from mizzen.data.features.columns import Domain

KLL_K = 200
CAPACITY = 1024


class Quantile(OfObjects):
    """The value below or at which the share `q` of the values lies, by a sketch; null where there is none."""

    function = "quantile"
    result_type = pa.float64()

    def __init__(self, domain: Domain, q: float) -> None:
        super().__init__(domain)
        self.q = q

    def make(self, run: Run, start: int, stop: int) -> Any:
        sketch = datasketches.kll_doubles_sketch(KLL_K)
        sketch.update(run.value[start:stop].astype(np.float64))
        return sketch

    def join(self, a: Any, b: Any) -> Any:
        joined = datasketches.kll_doubles_sketch(KLL_K)
        joined.merge(a)
        joined.merge(b)
        return joined

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        return pa.array(self.column(state, lambda sketch: sketch.get_quantile(self.q, True)), pa.float64())

    def dump(self, one: Any) -> Any:
        return bytes(one.serialize())

    def load(self, packed: Any) -> Any:
        return datasketches.kll_doubles_sketch.deserialize(packed)


class TopK(OfKValues):
    """The k most frequent values, the most frequent first; of equally frequent ones the smaller first."""

    function = "top_k"

    def make(self, run: Run, start: int, stop: int) -> dict[Any, int]:
        values = run.value[start:stop]
        if values.dtype == object:
            counts: dict[Any, int] = {}
            for value in values.tolist():
                counts[value] = counts.get(value, 0) + 1
            return _within_capacity(counts)
        different, times = np.unique(values, return_counts=True)
        return _within_capacity(dict(zip(different.tolist(), times.tolist(), strict=True)))

    def join(self, a: dict[Any, int], b: dict[Any, int]) -> dict[Any, int]:
        joined = dict(a)
        for value, count in b.items():
            joined[value] = joined.get(value, 0) + count
        return _within_capacity(joined)

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        return lists_of(self.domain, self.column(state, self._most_frequent, []))

    def _most_frequent(self, counts: dict[Any, int]) -> list[Any]:
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [value for value, _ in ranked[: self.k]]

    def dump(self, one: dict[Any, int]) -> Any:
        values = sorted(one)  # alike in every process
        return [values, [one[value] for value in values]]

    def load(self, packed: Any) -> dict[Any, int]:
        return dict(zip(packed[0], packed[1], strict=True))


def _within_capacity(counts: dict[Any, int]) -> dict[Any, int]:
    if len(counts) <= CAPACITY:
        return counts
    taken = sorted(counts.values(), reverse=True)[CAPACITY]
    return {value: count - taken for value, count in counts.items() if count > taken}
