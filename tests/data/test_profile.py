"""Profiles: exact counts, quantiles and distinct values within their bounds, merged or at once; no personal value."""

import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.project import Project

from mizzen.data.lake.profile import QUANTILES, Profile, without_sketches


def profile(*tables: pa.Table, personal: frozenset[str] = frozenset()) -> Profile:
    return Profile.of(tables, tables[0].schema, personal)


def shown(found: Profile) -> dict[str, Any]:
    return without_sketches(found.to_json())


NUMBERS = st.lists(
    st.one_of(st.none(), st.floats(width=32), st.sampled_from([0.0, 1.0, math.nan, math.inf])), max_size=300
)


@given(NUMBERS, NUMBERS)
@settings(max_examples=40, deadline=None)
def test_counts_and_extremes_are_exact_and_merging_is_as_good_as_one_pass(first: Any, second: Any) -> None:
    """Rows, nulls, not finite, extremes, mean; and every quantile is a value within the rank error."""
    type_ = pa.float64()
    one, other = (pa.table({"x": pa.array(values, type_, from_pandas=False)}) for values in (first, second))
    whole, merged = profile(one, other), profile(other).merged_with(profile(one))
    values = np.array([value for value in first + second if value is not None], dtype=float)
    finite = np.sort(values[np.isfinite(values)])
    for found in (whole, merged, Profile.from_json(json.loads(json.dumps(merged.to_json())))):
        column = shown(found)["columns"]["x"]  # type: ignore[arg-type]
        assert (column["rows"], column["nulls"]) == (len(first + second), (first + second).count(None))
        assert column.get("notFinite", 0) == len(values) - len(finite)
        if len(finite):
            assert (column["min"], column["max"]) == (finite[0], finite[-1])
            assert math.isclose(column["mean"], finite.mean(), rel_tol=1e-9, abs_tol=1e-9 * abs(finite).max() + 1e-300)
            for rank in QUANTILES:
                value = column["quantiles"][f"{rank:g}"]
                below, upto = np.searchsorted(finite, value, "left"), np.searchsorted(finite, value, "right")
                assert below / len(finite) - 0.03 <= rank <= upto / len(finite) + 0.03


@pytest.mark.parametrize("count", [10, 1000, 100_000])
def test_distinct_values_are_within_their_bound(count: int) -> None:
    """Of numbers and of text, each value several times, in several batches: 5 % at this size of sketch, with room."""
    numbers = np.random.default_rng(count).permutation(np.repeat(np.arange(count), 3))
    table = pa.table({"i": numbers, "s": [f"v{number}" for number in numbers]})
    found = shown(profile(*(table.slice(start, 10_000) for start in range(0, len(numbers), 10_000))))["columns"]
    for name in ("i", "s"):
        assert abs(found[name]["distinct"] - count) <= 0.05 * count


def test_the_most_frequent_values_are_found_among_many() -> None:
    """Three heavy values among 50,000 that occur once, spread over batches."""
    rng = np.random.default_rng(7)
    values = [f"only{index}" for index in range(50_000)] + ["a"] * 9000 + ["b"] * 6000 + ["c"] * 3000
    rng.shuffle(values)
    table = pa.table({"s": values})
    top = shown(profile(*(table.slice(start, 8192) for start in range(0, len(values), 8192))))["columns"]["s"]["top"]
    assert [item["value"] for item in top[:3]] == ["a", "b", "c"]
    assert abs(top[0]["count"] - 9000) < 1500


def test_every_type_has_a_profile() -> None:
    """Booleans, days, times, decimals, bytes, lists: what can be said of each."""
    table = pa.table({
        "b": [True, None, True], "d": pa.array([0, 1, 2], pa.date32()), "t": pa.array([0, 10**6, None], pa.timestamp("us", "UTC")),
        "m": pa.array([Decimal(1), Decimal(2), Decimal(3)], pa.decimal128(10, 2)), "y": [b"\x00", b"\x01", None], "l": [[1], None, []],
    })  # fmt: skip
    found = shown(profile(table))["columns"]
    assert found["b"]["top"] == [{"value": "true", "count": 2}]
    assert (found["d"]["min"], found["d"]["max"], found["t"]["max"], found["m"]["mean"]) == (0.0, 2.0, 1.0, 2.0)
    assert (found["y"]["distinct"], found["l"]["nulls"]) == (2, 1)


def test_no_value_of_personal_data_is_kept() -> None:
    """Counts alone, whatever form they are kept in."""
    secret = "ada@example.org"
    kept = profile(pa.table({"email": [secret] * 5, "age": [31.0] * 5}), personal=frozenset({"email", "age"})).to_json()
    assert set(kept["columns"]["email"]["sketches"]) == {"hll", "total"}
    assert not {"top", "min", "max", "quantiles", "mean"} & (
        set(kept["columns"]["email"]) | set(kept["columns"]["age"])
    )
    assert secret not in json.dumps(kept)
    assert kept["columns"]["email"]["distinct"] == 1


def test_each_version_has_the_profile_of_its_rows(project: Project) -> None:
    """Appended to: merged. Upserted: of what is left. A check's message shows no personal value."""

    def load(run: str, rows: str, **more: Any) -> dict[str, Any]:
        project.write(source=f"def rows(): return {rows}")
        project.load(run, source={"python": "source:rows"}, **more)
        found: dict[str, Any] = without_sketches(project.table.at().attachment["profile"])
        return found

    load("r1", "[{'k': 1, 'v': 1.0}, {'k': 2, 'v': 2.0}]", load={"mode": "append"})
    appended = load("r2", "[{'k': 3, 'v': None}]", load={"mode": "append"})
    assert (appended["rows"], appended["columns"]["v"]["nulls"], appended["columns"]["k"]["max"]) == (3, 1, 3.0)
    upserted = load("r3", "[{'k': 1, 'v': 9.0}]", load={"mode": "upsert", "key": ["k"]})
    assert (upserted["rows"], upserted["columns"]["v"]["min"], upserted["columns"]["v"]["max"]) == (3, 2.0, 9.0)
    assert "approximate" not in upserted
    assert project.table.at(1).attachment["profile"]["rows"] == 2
