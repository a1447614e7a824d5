"""Combiners against loops over single elements; splits by their shares."""

import statistics

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mizzen.policy.graph.combining import combine, combined_type
from mizzen.policy.graph.ports import Type
from mizzen.policy.graph.splitting import ways
from mizzen.policy.traffic import Shares, key_of, point_of

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
members = st.integers(1, 4).flatmap(
    lambda rows: st.lists(
        st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=rows, max_size=rows),
        min_size=1,
        max_size=4,
    )
)


def voted(values, weights):
    best, most = values[0], 0.0
    for candidate in values:
        votes = sum(weight for value, weight in zip(values, weights, strict=True) if value == candidate)
        if votes > most:
            best, most = candidate, votes
    return best


def averaged(values, weights):
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


NAIVE = {
    "mean": averaged,
    "median": lambda values, weights: statistics.median(values),
    "min": lambda values, weights: min(values),
    "max": lambda values, weights: max(values),
    "sum": lambda values, weights: sum(v * w for v, w in zip(values, weights, strict=True)),
    "vote": voted,
}


@UNHURRIED
@given(members, st.sampled_from(sorted(NAIVE)), st.data())
def test_each_element_is_what_a_loop_says(given_members, combiner, data):
    weights = data.draw(
        st.lists(st.sampled_from([1.0, 2.0, 0.5]), min_size=len(given_members), max_size=len(given_members))
    )
    arrays = [np.array(member, np.float64) for member in given_members]
    found = combine(combiner, arrays, weights)
    expected = [
        [NAIVE[combiner]([member[row][column] for member in given_members], weights) for column in range(2)]
        for row in range(len(given_members[0]))
    ]
    assert np.allclose(found, expected)


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", "f2"), ("FP32", "f4"), ("FP64", "f8"), ("INT32", "i4")])
@pytest.mark.parametrize("combiner", ["mean", "median", "min", "max", "sum", "vote", "concat"])
def test_what_comes_out_is_of_the_type_that_was_told(combiner, datatype, dtype):
    types = [Type(datatype, (-1, 2)), Type(datatype, (-1, 2))]
    told = combined_type(combiner, types)
    found = combine(combiner, [np.ones((3, 2), dtype), np.ones((3, 2), dtype)], [1.0, 2.0])
    assert isinstance(told, Type)
    numpy_name = {"FP16": "f2", "FP32": "f4", "FP64": "f8", "INT32": "i4"}[told.datatype]
    assert (found.dtype, found.shape[1:]) == (np.dtype(numpy_name), told.shape[1:])


def test_text_is_voted_on():
    labels = [np.array([b"a", b"b"], object), np.array([b"b", b"b"], object), np.array([b"c", b"a"], object)]
    assert combine("vote", labels, [1.0, 1.0, 1.0]).tolist() == [b"a", b"b"], "of equal votes the first member's"
    assert combine("vote", labels, [1.0, 1.0, 3.0]).tolist() == [b"c", b"a"]


@pytest.mark.parametrize(
    ("combiner", "types", "reason"),
    [
        ("mean", [Type("FP32", (-1, 2)), Type("FP64", (-1, 2))], "expected members that give the same"),
        ("mean", [Type("BYTES", (-1,))], "expected numbers for mean, found BYTES"),
        ("sum", [Type("BOOL", (-1,))], "expected numbers for sum, found BOOL"),
        ("concat", [Type("FP32", (-1,))], "expected at least two dimensions for concat"),
        ("concat", [Type("FP32", (-1, 2)), Type("FP32", (-1, 2, 2))], "expected members of one datatype"),
        ("concat", [Type("FP32", (-1, 3, 2)), Type("FP32", (-1, 4, 2))], "expected members whose shapes differ in their last"),
    ],
)  # fmt: skip
def test_what_cannot_be_combined_is_told(combiner, types, reason):
    found = combined_type(combiner, types)
    assert isinstance(found, str)
    assert found.startswith(reason)


def test_units_are_spread_by_weight_stay_where_they_are_and_move_only_between_neighbours():
    points = [point_of(key_of("g/split"), str(unit).encode()) for unit in range(20_000)]
    before, after = ways([50, 30, 20], points), ways([60, 20, 20], points)
    assert np.allclose(np.bincount(before) / 20_000, [0.5, 0.3, 0.2], atol=0.015)
    assert before.tolist() == ways([50, 30, 20], points).tolist()
    moved = before != after
    assert set(zip(before[moved].tolist(), after[moved].tolist(), strict=True)) == {(1, 0)}
    others = [point_of(key_of("g/other"), str(unit).encode()) for unit in range(20_000)]
    assert abs(np.corrcoef(points, others)[0, 1]) < 0.03, "two splitters divide independently"


def test_nobody_goes_a_way_without_weight():
    points = [0.0, 0.2, 0.999999, np.nextafter(1.0, 0.0)]
    assert ways([0, 1, 0], points).tolist() == [1, 1, 1, 1]
    assert ways([3, 7, 0], [0.2999, 0.3, 0.99]).tolist() == [0, 1, 1]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any), st.integers(0, 1000))
def test_one_unit_goes_the_way_that_arrays_of_units_go(weights, unit):
    """Versions that share an endpoint's traffic divide it as a graph's splitter does."""
    shares = Shares("ns/endpoint", weights)
    point = point_of(key_of("ns/endpoint"), str(unit).encode())
    assert shares.of(str(unit)) == shares.at(point) == ways(weights, [point])[0]
    assert weights[shares.of(str(unit))] > 0
