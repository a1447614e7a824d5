"""A gateway's metrics page, read twice: what happened in between.

Rates are differences of counters over the time between the pages; a counter that went back began anew and counts from
zero. A quantile is that of the histogram of what was added, by straight lines within a bucket, as Prometheus has it.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?P<labels>.*)\})? (?P<value>\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
PREFIX = "mizzen_gateway_"
FINE = frozenset({"ok", "cancelled"})
"""Outcomes that are no errors."""

Endpoint = tuple[str, str]
Series = dict[tuple[Endpoint, str, str], float]
"""By endpoint, name without the prefix, and the value of a third label (`outcome`, `le`), if there is one."""


@dataclass(frozen=True, slots=True)
class Activity:
    """One endpoint between two pages."""

    namespace: str
    name: str
    requests_per_s: float
    errors_per_s: float
    latency_s_p50: float | None
    """`None` where nothing was answered."""
    latency_s_p99: float | None
    rows_waiting: int
    batches_running: int
    workers: int
    log_lost: int


def parse(page: str) -> Series:
    """The series of endpoints on a page."""
    found: Series = {}
    for line in page.splitlines():
        match = _SAMPLE.match(line)
        if match is None or not match["name"].startswith(PREFIX) or match["labels"] is None:
            continue
        labels = dict(_LABEL.findall(match["labels"]))
        namespace, endpoint = labels.pop("namespace", None), labels.pop("endpoint", None)
        if namespace is not None and endpoint is not None:
            more = next(iter(labels.values()), "")
            found[(namespace, endpoint), match["name"].removeprefix(PREFIX), more] = float(match["value"])
    return found


def between(before: Series, after: Series, seconds: float) -> list[Activity]:
    """Each endpoint on the later page, the busiest first."""
    activities, grown = [], _grown(before, after)
    for endpoint in {key[0] for key in after}:
        ended = grown[endpoint, "requests_total"]
        added = grown[endpoint, "request_seconds_bucket"]
        buckets = sorted((_bound(le), count) for le, count in added.items())
        activities.append(
            Activity(
                *endpoint,
                requests_per_s=sum(ended.values()) / seconds,
                errors_per_s=sum(count for outcome, count in ended.items() if outcome not in FINE) / seconds,
                latency_s_p50=quantile(0.5, buckets),
                latency_s_p99=quantile(0.99, buckets),
                rows_waiting=_gauge(after, endpoint, "rows_waiting"),
                batches_running=_gauge(after, endpoint, "batches_running"),
                workers=_gauge(after, endpoint, "workers"),
                log_lost=_gauge(after, endpoint, "log_lost_total"),
            )
        )
    return sorted(activities, key=lambda one: (-one.requests_per_s, one.namespace, one.name))


def quantile(q: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """Of cumulative counts by upper bound, ascending; `None` where there are none. Beyond all bounds it is the last.

    >>> quantile(0.5, [(1.0, 0.0), (2.0, 10.0), (math.inf, 10.0)])
    1.5
    """
    all_ = list(buckets)
    if not all_ or all_[-1][1] <= 0:
        return None
    rank = q * all_[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in all_:
        if count >= rank and count > below:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def _grown(before: Series, after: Series) -> Mapping[tuple[Endpoint, str], Mapping[str, float]]:
    """What was added to each series, by endpoint and name: one pass, for there may be thousands of endpoints."""
    grown: defaultdict[tuple[Endpoint, str], dict[str, float]] = defaultdict(dict)
    for (endpoint, name, more), value in after.items():
        old = before.get((endpoint, name, more), 0.0)
        grown[endpoint, name][more] = value - old if value >= old else value
    return grown


def _gauge(series: Series, endpoint: Endpoint, name: str) -> int:
    return int(series.get((endpoint, name, ""), 0.0))


def _bound(text: str) -> float:
    return math.inf if text == "+Inf" else float(text)
