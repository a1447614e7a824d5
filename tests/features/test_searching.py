"""Places that are found at once are those that a search of each alone finds."""

import bisect

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mizzen.data.features.searching import Stretches, sorting

NEAR = st.integers(0, 20)
FAR = st.sampled_from([0, 1, 10**15, 10**17, -(10**17), 2**63 - 1, -(2**63)])
ANY = st.one_of(NEAR, FAR)
STRETCHES = st.lists(st.lists(NEAR, max_size=6) | st.lists(FAR, max_size=4), min_size=1, max_size=5)


@given(STRETCHES, st.lists(st.tuples(st.integers(0, 4), ANY), max_size=12), st.booleans())
def test_after(stretches: list[list[int]], asked: list[tuple[int, int]], in_order: bool) -> None:
    """In any order of the questions, and where entity and clock do not fit one number."""
    asked = [(entity % len(stretches), moment) for entity, moment in (sorted(asked) if in_order else asked)]
    stretches = [sorted(one) for one in stretches]
    starts = np.concatenate(([0], np.cumsum([len(one) for one in stretches])))
    entity = np.repeat(np.arange(len(stretches)), [len(one) for one in stretches])
    clock = np.array([moment for one in stretches for moment in one], dtype=np.int64)
    expected = [int(starts[e]) + bisect.bisect_right(stretches[e], moment) for e, moment in asked]
    entities = np.array([e for e, _ in asked], dtype=np.int64)
    moments = np.array([moment for _, moment in asked], dtype=np.int64)
    assert expected == Stretches(entity, clock, starts).after(entities, moments).tolist()


@given(st.lists(st.tuples(st.integers(-1, 3), ANY), max_size=20))
def test_sorting(pairs: list[tuple[int, int]]) -> None:
    entity, clock = (np.array([pair[n] for pair in pairs], dtype=np.int64) for n in (0, 1))
    order = sorting(entity, clock)
    assert sorted(order.tolist()) == list(range(len(pairs)))
    assert [pairs[at] for at in order] == sorted(pairs)
