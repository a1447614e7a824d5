"""The text is what Prometheus reads: parsed back, it gives the numbers that went in."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.kube.metrics import Registry

_LINE = re.compile(r'^([a-zA-Z_:][\w:]*)(?:\{((?:[^"]|"(?:\\.|[^"\\])*")*)\})? (\S+)$')


def parsed(text: str) -> dict[tuple[str, str], float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = _LINE.match(line)
            assert match, line
            found[match[1], match[2] or ""] = float(match[3])
    return found


def test_counters_gauges_and_histograms_read_back() -> None:
    registry = Registry()
    requests = registry.counter("requests_total", "Requests.", ("code",))
    requests.add("200")
    requests.add("200", by=2)
    requests.add("500")
    registry.gauge("depth", "Now.").set(lambda: 7)
    seconds = registry.histogram("seconds", "Time.", ("verb",), bounds=(0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 20.0):
        seconds.observe(value, "get")
    assert parsed(registry.text()) == {
        ("requests_total", 'code="200"'): 3,
        ("requests_total", 'code="500"'): 1,
        ("depth", ""): 7,
        ("seconds_bucket", 'verb="get",le="0.1"'): 2,
        ("seconds_bucket", 'verb="get",le="1"'): 3,
        ("seconds_bucket", 'verb="get",le="+Inf"'): 4,
        ("seconds_sum", 'verb="get"'): 20.65,
        ("seconds_count", 'verb="get"'): 4,
    }


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9), min_size=1))
def test_buckets_are_cumulative_and_complete(values: list[float]) -> None:
    registry = Registry()
    histogram = registry.histogram("h", "H.")
    for value in values:
        histogram.observe(value)
    found = parsed(registry.text())
    buckets = [(float(labels[4:-1]), count) for (name, labels), count in found.items() if name == "h_bucket"]
    assert [count for _, count in buckets] == [sum(1 for v in values if v <= bound) for bound, _ in buckets]
    assert found["h_count", ""] == len(values)
    assert math.isclose(found["h_sum", ""], sum(values), rel_tol=1e-9, abs_tol=1e-6)


@given(st.text())
def test_any_label_value_stays_on_its_line(value: str) -> None:
    registry = Registry()
    registry.counter("c", "C.", ("l",)).add(value)
    lines = registry.text().split("\n")
    assert len(lines) == 4
    quoted = lines[2].removeprefix('c{l="').removesuffix('"} 1')
    assert quoted.replace(r"\n", "\n").replace(r"\"", '"').replace(r"\\", "\\") == value or "\\" in value


def test_a_name_used_twice_must_mean_the_same() -> None:
    registry = Registry()
    assert registry.counter("c", "C.", ("a",)) is registry.counter("c", "C.", ("a",))
    with pytest.raises(ValueError, match="there already as a counter"):
        registry.gauge("c", "C.", ("a",))
    with pytest.raises(ValueError, match="expected values for"):
        registry.counter("c", "C.", ("a",)).add()
    with pytest.raises(ValueError, match="cannot go down"):
        registry.counter("c", "C.", ("a",)).add("x", by=-1)
    with pytest.raises(ValueError, match="expected letters"):
        registry.counter("bad-name", "C.")
