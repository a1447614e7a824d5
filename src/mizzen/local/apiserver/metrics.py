"""What the server counts of itself, as Prometheus text. The names are kube-apiserver's where it has them."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from mizzen.local.apiserver.store import Store

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS_S) + 1))
    sum_s: float = 0.0


class Metrics:
    """Counted on the event loop."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, str, int], int] = {}
        self._durations: dict[tuple[str, str, str], _Histogram] = {}
        self.watches = 0
        self.inflight = 0

    def observe(self, verb: str, group: str, resource: str, code: int, seconds: float) -> None:
        counted = (verb, group, resource, code)
        self._requests[counted] = self._requests.get(counted, 0) + 1
        key = (verb, group, resource)
        histogram = self._durations.get(key)
        if histogram is None:
            histogram = self._durations[key] = _Histogram()
        histogram.counts[bisect_left(_BUCKETS_S, seconds)] += 1
        histogram.sum_s += seconds

    def text(self, store: Store) -> str:
        return "\n".join(self._lines(store)) + "\n"

    def _lines(self, store: Store) -> Iterator[str]:
        yield "# HELP apiserver_request_total Requests by verb, resource and code."
        yield "# TYPE apiserver_request_total counter"
        for (verb, group, resource, code), count in sorted(self._requests.items()):
            labels = f'verb="{verb}",group="{group}",resource="{resource}",code="{code}"'
            yield f"apiserver_request_total{{{labels}}} {count}"
        yield "# HELP apiserver_request_duration_seconds From the request's headers to the last byte of its answer."
        yield "# TYPE apiserver_request_duration_seconds histogram"
        for (verb, group, resource), histogram in sorted(self._durations.items()):
            labels = f'verb="{verb}",group="{group}",resource="{resource}"'
            total = 0
            for bound, count in zip((*_BUCKETS_S, "+Inf"), histogram.counts, strict=True):
                total += count
                yield f'apiserver_request_duration_seconds_bucket{{{labels},le="{bound}"}} {total}'
            yield f"apiserver_request_duration_seconds_sum{{{labels}}} {histogram.sum_s:.6f}"
            yield f"apiserver_request_duration_seconds_count{{{labels}}} {total}"
        yield "# TYPE apiserver_longrunning_requests gauge"
        yield f'apiserver_longrunning_requests{{verb="WATCH"}} {self.watches}'
        yield "# TYPE apiserver_current_inflight_requests gauge"
        yield f"apiserver_current_inflight_requests {self.inflight}"
        yield "# TYPE apiserver_storage_objects gauge"
        for group, plural in sorted(store.resources()):
            name = f"{plural}.{group}" if group else plural
            count = len(store.collection((group, plural)).records)
            yield f'apiserver_storage_objects{{resource="{name}"}} {count}'
        statistics = store.statistics()
        for name, kind, value in (
            ("revision", "gauge", statistics.revision),
            ("objects_bytes", "gauge", statistics.object_bytes),
            ("history_events", "gauge", statistics.events),
            ("history_superseded_bytes", "gauge", statistics.superseded_bytes),
            ("writes_total", "counter", statistics.writes),
            ("commits_total", "counter", statistics.commits),
            ("commit_seconds_total", "counter", f"{statistics.commit_s:.6f}"),
        ):
            yield f"# TYPE mizzen_store_{name} {kind}"
            yield f"mizzen_store_{name} {value}"
