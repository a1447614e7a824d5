"""Sums of floats in limbs: exact, whatever else is in the run."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.data.features.aggregates.base import Asked, Run
from mizzen.data.features.aggregates.sums import Sum, _limbs
from mizzen.data.features.columns import Domain

FLOATS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e305, max_value=1e305)


@settings(deadline=None)
@given(st.lists(FLOATS, max_size=30))
def test_limbs_are_the_values(values: list[float]) -> None:
    """Added up again, to the last bit, down to the smallest float there is; each below 2^31."""
    made = list(_limbs(np.array(values)))
    total = sum((int(n) * Fraction(2) ** power for limb, power in made for n in limb), Fraction(0))
    assert total == sum(map(Fraction, values), Fraction(0))
    assert all(abs(int(n)) < 2**31 for limb, _ in made for n in limb)


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=20), st.data())
def test_a_sum_hangs_on_its_own_values_alone(values: list[float], data: st.DataObject) -> None:
    """The same bits with anything before and after it, and the rounded true sum."""
    others = data.draw(st.lists(FLOATS | st.sampled_from([np.inf, -np.inf]), max_size=20))
    kernel = Sum(Domain(pa.float64()))

    def over(run: list[float], start: int, stop: int) -> float:
        clock = np.arange(len(run))
        state = kernel.over(Run(clock, clock, np.array(run)), np.array([start]), np.array([stop]))
        found: float = kernel.finalize(state, Asked(clock, clock))[0].as_py()
        return found

    alone = over(values, 0, len(values))
    assert alone == over([*others, *values, *others], len(others), len(others) + len(values))
    assert alone == pytest.approx(float(sum(map(Fraction, values))), rel=1e-15, abs=0)
