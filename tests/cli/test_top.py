"""What `mizzen top` makes of two metrics pages and the endpoints' status."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.cli.scrape import between, parse, quantile
from mizzen.cli.top import _cells, _row
from mizzen.serving.gateway.families import exposition
from mizzen.serving.gateway.measures import SECONDS_BUCKETS, Measures
from mizzen.serving.gateway.numbers import Numbers, Standing

KEY = ("team", "late")


def page(answered: list[float], failed: int = 0, **standing: int) -> str:
    """The gateway's own page after requests that took so long."""
    measures = Measures()
    for seconds in answered:
        measures.answered(1, seconds, measures.version(1))
    for _ in range(failed):
        measures.outcome("queue_full")
    measures.outcome("cancelled")
    return exposition(Numbers(measures={KEY: measures}, standing={KEY: Standing(**standing)}))


def test_rates_and_quantiles_are_of_what_happened_in_between():
    before = parse(page([5.0] * 50))
    after = parse(page([5.0] * 50 + [0.004] * 90 + [0.1] * 10, failed=4, rows_waiting=7, workers=2, log_lost=3))
    (seen,) = between(before, after, 2.0)
    assert (seen.namespace, seen.name) == KEY
    assert (seen.requests_per_s, seen.errors_per_s) == (52.0, 2.0)
    assert 0.0039 < seen.latency_s_p50 <= 0.0056
    assert 0.06 < seen.latency_s_p99 <= 0.126
    assert (seen.rows_waiting, seen.workers, seen.log_lost) == (7, 2, 3)


def test_a_gateway_that_began_anew_counts_from_zero():
    (seen,) = between(parse(page([0.01] * 100)), parse(page([0.01] * 20)), 1.0)
    assert seen.requests_per_s == 20.0, "not less than nothing"
    (first,) = between({}, parse(page([0.01] * 20)), 1.0)
    assert first.requests_per_s == 21.0


def test_of_thousands_of_endpoints_each_series_is_looked_at_once():
    """Each endpoint is told of its own requests; and a page is not gone through again for each."""

    class Counted(dict):
        looked = 0

        def items(self):
            Counted.looked += 1
            return super().items()

    keys = [("team", f"shop-{number}") for number in range(50)]
    after = Counted({(key, "requests_total", "ok"): float(number) for number, key in enumerate(keys)})
    seen = between({}, after, 1.0)
    assert [one.requests_per_s for one in seen] == [float(number) for number in reversed(range(50))]
    assert [one.name for one in seen[:2]] == ["shop-49", "shop-48"]
    assert Counted.looked == 1


def test_nothing_answered_has_no_latency():
    (seen,) = between(parse(page([0.01])), parse(page([0.01])), 1.0)
    assert (seen.latency_s_p50, seen.latency_s_p99, seen.requests_per_s) == (None, None, 0.0)
    assert quantile(0.5, []) is None


@given(st.lists(st.floats(1e-5, 25), min_size=1, max_size=80), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_is_in_the_bucket_where_it_belongs(values, q):
    """Against the sorted values: the estimate lies in the bucket of the value at that rank."""
    buckets = [(bound, sum(value <= bound for value in values)) for bound in (*SECONDS_BUCKETS, math.inf)]
    exact = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    upper = next(bound for bound in SECONDS_BUCKETS if exact <= bound)
    lower = max((bound for bound in SECONDS_BUCKETS if bound < exact), default=0.0)
    assert lower <= quantile(q, buckets) <= upper


@pytest.mark.parametrize(
    "text", ["", "garbage", "mizzen_gateway_processes 2", 'other_total{namespace="a",endpoint="b"} 1']
)
def test_what_is_of_no_endpoint_is_left_out(text):
    assert parse(text) == {}


def test_an_endpoint_that_nobody_asked_is_a_row_too():
    row = _row(KEY, None, None)
    assert _cells(row) == ["team/late", "", "0/0", "0.0", "0.0", "-", "-", "0", "0", "0"]
    (seen,) = between({}, parse(page([0.004] * 3, batches_running=2)), 1.0)
    assert _cells(_row(KEY, seen, None))[3:6] == ["4.0", "0.0", "4.72ms"]
