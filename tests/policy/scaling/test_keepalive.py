"""Keep-alive: learned from idle times that have a shape; the standard where nothing is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.policy.scaling.keepalive import BINS, CV_MIN, IdleTimes, KeepAlive

STANDARD = KeepAlive(0.0, 300.0)


def learned(idle_times: list[float]) -> KeepAlive:
    times = IdleTimes()
    for idle_s in idle_times:
        times.add(idle_s)
    return times.keep(300.0)


def test_nothing_is_learned_from_a_few_idle_times() -> None:
    assert learned([600.0] * 9) == STANDARD


def test_a_request_every_half_hour_is_expected_shortly_before() -> None:
    """29.5 minutes each time: gone at once, back a tenth before, kept until a tenth after."""
    assert learned([1770.0] * 20) == KeepAlive(29 * 60 * 0.9, pytest.approx(30 * 60 * 1.1), learned=True)


def test_short_idle_times_keep_the_worker_until_the_longest_but_one_in_a_hundred() -> None:
    assert learned([30.0] * 95 + [900.0] * 5) == KeepAlive(0.0, pytest.approx(16 * 60 * 1.1), learned=True)


def test_idle_times_all_over_the_place_teach_nothing() -> None:
    assert learned([60.0 * minute for minute in range(BINS)]) == STANDARD


def test_idle_times_mostly_beyond_the_range_teach_nothing() -> None:
    assert learned([5 * 3600.0] * 30 + [60.0] * 20) == STANDARD


def test_a_new_habit_is_learned_in_the_end() -> None:
    times = IdleTimes()
    for _ in range(5000):
        times.add(30.0)
    for _ in range(20_000):
        times.add(3000.0)
    assert times.keep(300.0).keep_s > 3000.0


def test_what_was_learned_can_be_kept_and_taken_up() -> None:
    times, other = IdleTimes(), IdleTimes()
    for minute in (1, 1, 1, 1, 2, 2, 30, 30, 30, 30, 300):
        times.add(minute * 60.0)
    other.take_up(times.counts())
    assert other.keep(300.0) == times.keep(300.0)
    assert other.counts() == times.counts()
    with pytest.raises(ValueError, match="expected 241 counts"):
        other.take_up([1, 2])


@given(st.lists(st.floats(0, 20_000), min_size=10, max_size=200))
def test_it_agrees_with_the_paper_read_naively(idle_times: list[float]) -> None:
    bins = [0] * BINS
    for idle_s in idle_times:
        if idle_s // 60 < BINS:
            bins[int(idle_s // 60)] += 1
    seen = sum(bins)
    mean = seen / BINS
    deviation = math.sqrt(sum((count - mean) ** 2 for count in bins) / BINS)
    if seen * 2 < len(idle_times) or abs(deviation - CV_MIN * mean) < 1e-9:
        return
    found = learned(idle_times)
    if deviation < CV_MIN * mean:
        assert found == STANDARD
        return
    flat = [index for index, count in enumerate(bins) for _ in range(count)]
    head, tail = flat[max(0, math.ceil(0.05 * seen) - 1)], flat[max(0, math.ceil(0.99 * seen) - 1)]
    assert found == KeepAlive(pytest.approx(head * 54.0), pytest.approx((tail + 1) * 66.0), learned=True)
