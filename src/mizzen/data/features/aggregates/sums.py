"""Sums and means, exact for whole numbers and right to the last bit for floating ones.

Whole numbers are summed in two halves of 32 bits, so that no partial sum overflows; a sum that does not fit int64 is
null. Floating numbers are summed in double-double arithmetic (Knuth's TwoSum; Dekker 1971): a high part and what it
lost. Infinities are counted aside, since `inf - inf` must be NaN for as long as both are in the window and no longer.

Many windows at once need neither order nor tree: a float is a sum of three whole multiples of powers of two on one
grid, and such multiples are added exactly, as whole numbers. Differences of running totals then give each window in one
step, whatever lies outside of it: an exact sum, rounded once.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mizzen.data.features.aggregates.base import Aggregate, Asked, Run, State
from mizzen.data.features.columns import Array, Domain

_LOW = (1 << 32) - 1
_LIMB_BITS = 31
_ROWS_MAX = 1 << 31
"""Events of one run whose limbs can be added without overflow."""
_FLOAT_ROWS_MAX = 1 << (53 - _LIMB_BITS)
"""Events whose limbs add up to what a float holds exactly."""
_EXPONENT_MAX = 900
"""Powers of two up to here, and limbs times them, are floats of full precision."""


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded sum of two floats and what rounding lost, exactly (Knuth, TAOCP 2, 4.2.2)."""
    total = a + b
    virtual = total - a
    lost = (a - (total - virtual)) + (b - virtual)
    return total, np.where(np.isfinite(lost), lost, 0.0)


def add_pairs(a_high: Array, a_low: Array, b_high: Array, b_low: Array) -> tuple[Array, Array]:
    """The sum of two double-doubles."""
    high, low = two_sum(a_high, b_high)
    with np.errstate(invalid="ignore", over="ignore"):
        return two_sum(high, low + (a_low + b_low))


class Sum(Aggregate):
    """The sum of the values; null where there is none. Of booleans, how many are true."""

    function = "sum"

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain)
        self._whole = domain.dtype == np.int64

    @property
    def result_type(self) -> pa.DataType:
        return pa.int64() if self._whole else pa.float64()

    def empty(self, n: int) -> State:
        counts = np.zeros((2 if not self._whole else 0, n), dtype=np.int64)
        numbers = np.zeros((2, n), dtype=np.int64 if self._whole else np.float64)
        return np.zeros(n, dtype=np.int64), *numbers, *counts

    def prepare(self, run: Run) -> State:
        ones = np.ones(len(run), dtype=np.int64)
        if self._whole:
            return ones, run.value >> 32, run.value & _LOW
        finite = np.isfinite(run.value)
        up, down = run.value == np.inf, run.value == -np.inf
        values = np.where(finite, run.value, 0.0)
        return ones, values, np.zeros(len(run)), up.astype(np.int64), down.astype(np.int64)

    def merge(self, a: State, b: State) -> State:
        if self._whole:
            return a[0] + b[0], a[1] + b[1], a[2] + b[2]
        with np.errstate(over="ignore", invalid="ignore"):
            high, low = add_pairs(a[1], a[2], b[1], b[2])
        return a[0] + b[0], high, low, a[3] + b[3], a[4] + b[4]

    def over(self, run: Run, lo: Array, hi: Array) -> State:
        if len(run) >= _ROWS_MAX:
            return super().over(run, lo, hi)
        if "totals" not in run.kept:
            run.kept["totals"] = self._totals(run)
        totals: _Totals = run.kept["totals"]
        n = np.maximum(hi - lo, 0)
        counts = [_difference(running, lo, hi) for running in totals.counts]
        if self._whole:
            return n, *counts
        return n, *_sums(totals.limbs, lo, hi, n), *counts

    def _totals(self, run: Run) -> "_Totals":
        _, *parts = self.prepare(run)
        if self._whole:
            return _Totals([], [_running(part) for part in parts])
        values, _, *counts = parts
        limbs = [(_running(limb), exponent) for limb, exponent in _limbs(values) if limb.any()]
        return _Totals(limbs, [_running(count) for count in counts])

    def whole_sum(self, state: State) -> tuple[Array, Array]:
        """The integer sums, and which of them fit int64."""
        high = state[1] + (state[2] >> 32)
        fits = (high >= -(1 << 31)) & (high < (1 << 31))
        return (np.where(fits, high, 0) << 32) | (state[2] & _LOW), fits & (state[0] > 0)

    def as_floats(self, state: State) -> Array:
        """The sums as floats, infinities and all."""
        if self._whole:
            return state[1] * 2.0**32 + state[2]
        infinite = np.where(state[3] > 0, np.where(state[4] > 0, np.nan, np.inf), -np.inf)
        return np.where(state[3] + state[4] > 0, infinite, state[1] + state[2])

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        if self._whole:
            total, there = self.whole_sum(state)
            return pa.array(total, pa.int64(), mask=~there)
        return pa.array(self.as_floats(state), pa.float64(), mask=state[0] == 0)


class Mean(Sum):
    """The mean of the values; null where there is none."""

    function = "mean"
    summed_as = "sum"
    result_type = pa.float64()

    def finalize(self, state: State, asked: Asked) -> pa.Array:
        none = state[0] == 0
        return pa.array(self.as_floats(state) / np.where(none, 1, state[0]), pa.float64(), mask=none)


class _Totals(NamedTuple):
    """Running totals of a run, each one longer than it; `None` of nothing but zeros."""

    limbs: list[tuple[Array | None, int]]
    """Of each limb of the values, with the power of two that it is a multiple of."""
    counts: list[Array | None]


def _running(values: Array) -> Array | None:
    if not values.any():
        return None
    totals = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=totals[1:])
    return totals


def _difference(running: Array | None, lo: Array, hi: Array) -> Array:
    """Sums of ranges, of integers."""
    if running is None:
        return np.zeros(len(lo), dtype=np.int64)
    difference: Array = running[np.maximum(hi, lo)] - running[lo]
    return difference


def _sums(limbs: Sequence[tuple[Array | None, int]], lo: Array, hi: Array, n: Array) -> tuple[Array, Array]:
    """The sums of ranges as double-doubles."""
    high, low = np.zeros(len(lo)), np.zeros(len(lo))
    # A total of so many limbs is exact as one float; of more, its halves are, which have one sign.
    long = np.flatnonzero(n > _FLOAT_ROWS_MAX)
    with np.errstate(over="ignore", invalid="ignore"):
        for number, (running, exponent) in enumerate(limbs):
            total = _difference(running, lo, hi)
            part = _scaled(total, exponent)
            lost = np.zeros(len(part))
            if len(long):
                sign, size = np.sign(total[long]), np.abs(total[long])
                part[long], lost[long] = two_sum(
                    _scaled(sign * (size >> 32), exponent + 32), _scaled(sign * (size & _LOW), exponent)
                )
            if number == 0:
                high, low = part, lost
            else:
                high, low = add_pairs(high, low, part, lost)
    return high, low


def _scaled(whole: Array, exponent: int) -> Array:
    """The numbers times a power of two."""
    floats = whole.astype(np.float64)
    return floats * 2.0**exponent if abs(exponent) < _EXPONENT_MAX else np.ldexp(floats, exponent)


def _limbs(values: Array) -> Iterator[tuple[Array, int]]:
    """The values as sums of whole numbers below 2^31 times powers of two, the greatest powers first.

    The powers are multiples of 31 on one grid for all floats, whatever else is in the run: a sum hangs on the values
    that go into it and on nothing else. A float's 53 bits are in three neighbouring limbs.
    """
    _, exponent = np.frexp(values)
    highest = np.unique((exponent[values != 0.0] - 1) // _LIMB_BITS)
    rest = values
    for place in sorted({int(at) - below for at in highest for below in range(3)}, reverse=True):
        limb = np.trunc(np.ldexp(rest, -_LIMB_BITS * place))
        rest = rest - np.ldexp(limb, _LIMB_BITS * place)
        yield limb.astype(np.int64), _LIMB_BITS * place
