"""The benchmark of elasticity: a part that was measured replaces its own rows alone, and distributions are what they say."""

import json
import statistics
from pathlib import Path

import pytest
from benchmarks.elasticity import __main__ as program
from benchmarks.elasticity.machine import distributed
from hypothesis import given
from hypothesis import strategies as st


def written(path: Path) -> list[tuple[str, float]]:
    return [(row["part"], row["value"]) for row in json.loads(path.read_text())["rows"]]


def test_what_was_measured_before_stays_but_for_the_part_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results" / "elasticity.json"
    pages: list[str] = []
    monkeypatch.setattr(program, "RESULTS", results)
    monkeypatch.setattr(program, "DOCS", tmp_path / "docs.md")
    monkeypatch.setattr(program, "page", lambda: pages.append("made") or "a page")
    monkeypatch.setattr(program, "over_budget", list)
    monkeypatch.setattr(program, "table", str)
    value = [0.0]

    def broken() -> list[dict[str, object]]:
        raise OSError("no machine")

    parts = {name: lambda: [{"what": "x", "value": value[0]}] for name in ("starts", "updown", "many")}
    monkeypatch.setattr(program, "PARTS", {**parts, "swaps": broken})

    def run(*only: str) -> int:
        monkeypatch.setattr("sys.argv", ["benchmarks.elasticity", "--only", *only])
        return program.main()

    assert run("many", "starts") == 0
    assert written(results) == [("starts", 0.0), ("many", 0.0)], "in the order of the parts, whatever was asked first"
    value[0] = 1.0
    assert run("swaps", "many") == 1, "a part that ends with an error is told at the end"
    assert written(results) == [("starts", 0.0), ("many", 1.0)], "and loses nothing of the others"
    assert set(json.loads(results.read_text())["seconds"]) == {"starts", "many"}


@given(st.lists(st.floats(0.001, 100.0), min_size=1, max_size=300))
def test_a_distribution_is_of_values_that_were_measured(seconds: list[float]) -> None:
    median, p99 = distributed("it", seconds, "told")
    found = median["distribution"]
    assert found == p99["distribution"]
    assert found["count"] == len(seconds)
    assert (found["min"], found["max"]) == (min(seconds), max(seconds))
    assert min(seconds) <= found["p50"] <= found["p90"] <= found["p99"] <= max(seconds)
    assert set(found.values()) - {found["count"]} <= set(seconds)
    assert statistics.median_low(seconds) <= median["value"] <= statistics.median_high(seconds)
