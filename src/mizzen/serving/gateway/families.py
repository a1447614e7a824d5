"""The metrics of the gateway: what each is called, means, and is made of; and Prometheus' text format.

This table is all there is to a metric but the adding up: the page and the Grafana dashboard
(`mizzen.serving.gateway.dashboard`) are made from it. Every series has the labels `namespace` and `endpoint`; a field
that is a dictionary gives one series for each key.

Bounds of histograms are powers of two or of its root, which are those of Prometheus' native histograms (schemas 0 and
1): a server that keeps native histograms converts these without loss.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from mizzen.serving.gateway.measures import ROWS_BUCKETS, SECONDS_BUCKETS, Histogram
from mizzen.serving.gateway.numbers import Numbers, Standing

PREFIX = "mizzen_gateway_"


class Family(NamedTuple):
    """A metric."""

    name: str
    """Without the prefix."""
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    field: str
    """Of `Standing`, or else of `Measures`."""
    label: str = ""
    """What the keys of a dictionary are."""
    bounds: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        return PREFIX + self.name


FAMILIES = (
    Family("requests_total", "counter", "Inference requests by how they ended: ok, or why not.", "outcomes", "outcome"),
    Family("rows_total", "counter", "Rows answered.", "rows"),
    Family("rows_unwanted_total", "counter", "Rows computed for which nobody waited any more.", "rows_unwanted"),
    Family("workers_lost_total", "counter", "Workers lost while they ran something.", "workers_lost"),
    Family("logged_total", "counter", "Records put into the prediction log: requests, and parts of answers.", "logged"),
    Family("features_read_total", "counter", "Entities looked up in a view.", "features_read", "view"),
    Family("features_missing_total", "counter", "Entities that a view has not seen.", "features_missing", "view"),
    Family("features_stale_total", "counter", "Entities whose row is older than its ttl.", "features_stale", "view"),
    Family(
        "features_unavailable_total",
        "counter",
        "Entities not looked up, since the store did not answer.",
        "features_unavailable",
        "view",
    ),
    Family("cache_requests_total", "counter", "Requests by where their answer was found.", "cache", "found"),
    Family("rows_waiting", "gauge", "Rows in the queue.", "rows_waiting"),
    Family("requests_waiting", "gauge", "Requests in the queue.", "requests_waiting"),
    Family("bytes_waiting", "gauge", "Bytes of inputs in the queue.", "bytes_waiting"),
    Family("requests_running", "gauge", "Requests that workers have.", "requests_running"),
    Family("batches_running", "gauge", "Batches that workers have.", "batches_running"),
    Family("credits", "gauge", "Batches that workers would take now.", "credits"),
    Family("workers", "gauge", "Workers connected.", "workers"),
    Family("cache_bytes", "gauge", "Answers kept in memory.", "cache_bytes"),
    Family(
        "cache_machine_bytes", "gauge", "Answers kept for all gateway processes of the machine.", "cache_machine_bytes"
    ),
    Family("log_lost_total", "counter", "Requests that found no room in the prediction log.", "log_lost"),
    Family("log_waiting_bytes", "gauge", "Of logged requests on their way to the table.", "log_waiting_bytes"),
    Family("log_age_seconds", "gauge", "Since the prediction log's last commit; 0 while there was none.", "log_age_s"),
    Family("feature_skew_ratio", "gauge", "Values that an audit found other online than offline.", "feature_skew"),
    Family("request_seconds", "histogram", "From a request to its answer.", "request_s", bounds=SECONDS_BUCKETS),
    Family("queue_seconds", "histogram", "From a request to its worker.", "queue_s", bounds=SECONDS_BUCKETS),
    Family("features_seconds", "histogram", "From keys to vectors.", "features_s", bounds=SECONDS_BUCKETS),
    Family("compute_seconds", "histogram", "A batch in the runtime.", "compute_s", bounds=SECONDS_BUCKETS),
    Family("batch_rows", "histogram", "Rows of a batch.", "batch_rows", bounds=ROWS_BUCKETS),
    Family("request_rows", "histogram", "Rows of a request.", "request_rows", bounds=ROWS_BUCKETS),
)


def exposition(numbers: Numbers) -> str:
    """The page."""
    lines = [
        *_heads("processes", "gauge", "Gateway processes that answer."),
        f"{PREFIX}processes {numbers.processes}",
        *_heads("refusals_total", "counter", "Requests to no endpoint, or by callers who may not know of it."),
        *(f'{PREFIX}refusals_total{{outcome="{name}"}} {n}' for name, n in sorted(numbers.refusals.items())),
    ]
    for family in FAMILIES:
        lines += _heads(family.name, family.kind, family.meaning)
        lines += _series(family, numbers)
    return "\n".join(lines) + "\n"


def _heads(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {meaning}"
    yield f"# TYPE {PREFIX}{name} {kind}"


def _series(family: Family, numbers: Numbers) -> Iterator[str]:
    name = family.full_name
    of_endpoints = numbers.standing if family.field in Standing.__struct_fields__ else numbers.measures
    for key, of in sorted(of_endpoints.items()):
        value = getattr(of, family.field)
        if isinstance(value, Histogram):
            yield from _histogram(name, key, family.bounds, value)
        elif isinstance(value, dict):
            for what, count in sorted(value.items()):
                yield f"{name}{_labels(key, **{family.label: what})} {count}"
        else:
            yield f"{name}{_labels(key)} {value}"


def _histogram(name: str, key: tuple[str, str], bounds: tuple[float, ...], histogram: Histogram) -> Iterator[str]:
    so_far = 0
    for bound, count in zip((*map(str, bounds), "+Inf"), histogram.counts, strict=True):
        so_far += count
        yield f"{name}_bucket{_labels(key, le=bound)} {so_far}"
    yield f"{name}_sum{_labels(key)} {histogram.total}"
    yield f"{name}_count{_labels(key)} {so_far}"


def _labels(key: tuple[str, str], **more: str) -> str:
    pairs = {"namespace": key[0], "endpoint": key[1], **more}
    return "{" + ",".join(f'{name}="{value}"' for name, value in pairs.items()) + "}"
