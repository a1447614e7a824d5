"""Variance and standard deviation of a sample (divided by n - 1), by Chan's merge.

A partial is the count, the mean and M2, the sum of squared distances from the mean. Partials merge as

    d = mean_b - mean_a,  mean = mean_a + d n_b / n,  M2 = M2_a + M2_b + d^2 n_a n_b / n

(Chan, Golub, LeVeque 1979; with n_b = 1 it is Welford's update). The mean is a double-double, so that d is right where
values lie far from zero and close together. Fewer than two values have no variance; an infinite value makes it NaN for
as long as it is in the window. A variance above the largest float is infinite, and so is its root.
"""

import numpy as np
import pyarrow as pa

from mizzen.data.features.aggregates.base import Aggregate, Asked, Run, State
from mizzen.data.features.aggregates.sums import add_pairs, two_sum
from mizzen.data.features.columns import Array


class Variance(Aggregate):
    """The sample variance; null below two values."""

    function = "variance"
    result_type = pa.float64()

    def empty(self, n: int) -> State:
        return np.zeros(n, dtype=np.int64), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64)

    def prepare(self, run: Run) -> State:
        n = len(run)
        values = run.value.astype(np.float64)
        finite = np.isfinite(values)
        high = np.where(finite, values, 0.0)
        # A whole number above 2^53 is a float and a remainder.
        low = (run.value - high.astype(np.int64)).astype(np.float64) if run.value.dtype == np.int64 else np.zeros(n)
        return np.ones(n, dtype=np.int64), high, low, np.zeros(n), (~finite).astype(np.int64)

    def merge(self, a: State, b: State) -> State:
        n = a[0] + b[0]
        share = b[0] / np.maximum(n, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            high, low = two_sum(b[1], -a[1])
            distance = high + (low + (b[2] - a[2]))
            step = distance * share
            mean_high, mean_low = add_pairs(a[1], a[2], step, _lost(distance, share, step))
            second = a[3] + b[3] + distance * step * a[0]
        only_a, only_b = b[0] == 0, a[0] == 0
        merged = (mean_high, mean_low, second)
        picked = (
            np.where(only_a, mine, np.where(only_b, theirs, both))
            for mine, theirs, both in zip(a[1:4], b[1:4], merged, strict=True)
        )
        return n, *picked, a[4] + b[4]

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        return pa.array(self.variance(state), pa.float64(), mask=state[0] < 2)

    def variance(self, state: State) -> Array:
        """The variances; NaN where an infinite value went in."""
        return np.where(state[4] > 0, np.nan, state[3] / np.maximum(state[0] - 1, 1))


class StandardDeviation(Variance):
    """The square root of the sample variance."""

    function = "std"
    summed_as = "variance"

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        return pa.array(np.sqrt(self.variance(state)), pa.float64(), mask=state[0] < 2)


def _lost(a: Array, b: Array, product: Array) -> Array:
    """What rounding lost of a product (Dekker's TwoProduct); 0 where that overflows."""
    split = 134_217_729.0  # 2^27 + 1
    a_high = a * split - (a * split - a)
    b_high = b * split - (b * split - b)
    a_low, b_low = a - a_high, b - b_high
    lost = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return np.where(np.isfinite(lost), lost, 0.0)
