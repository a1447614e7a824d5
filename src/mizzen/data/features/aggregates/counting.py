"""Counts, and rates: a count over the length of its window."""

import numpy as np
import pyarrow as pa

from mizzen.data.features.aggregates.base import Aggregate, Asked, Run, State
from mizzen.data.features.columns import US_PER_S, Array


class Count(Aggregate):
    """How many values there are; without a column, how many events."""

    function = "count"
    subtractable = True
    result_type = pa.int64()

    def empty(self, n: int) -> State:
        return (np.zeros(n, dtype=np.int64),)

    def prepare(self, run: Run) -> State:
        return (np.ones(len(run), dtype=np.int64),)

    def merge(self, a: State, b: State) -> State:
        return (a[0] + b[0],)

    def subtract(self, total: State, part: State) -> State:
        return (total[0] - part[0],)

    def over(self, run: Run, lo: Array, hi: Array) -> State:
        return (np.maximum(hi - lo, 0),)

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        return pa.array(state[0], pa.int64())


class Rate(Count):
    """Values per second of the window, from its tail (which may hop) to the request."""

    function = "rate"
    summed_as = "count"
    result_type = pa.float64()

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        length_s = (asked.time_us - asked.since_us) / US_PER_S
        return pa.array(state[0] / length_s, pa.float64())
