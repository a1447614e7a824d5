"""What a process counts for each endpoint: plain adds on the hot path, everything else when the page is asked for."""

from bisect import bisect_left as _bucket
from collections.abc import Sequence

import msgspec

SECONDS_BUCKETS = tuple(2.0 ** (step / 2) for step in range(-28, 11))
"""From 61 us to 32 s, each the root of 2 larger than the last."""
ROWS_BUCKETS = tuple(2.0**step for step in range(15))


class Histogram(msgspec.Struct):
    """Counts by bucket, the last for what is beyond all bounds."""

    counts: list[int]
    total: float = 0.0

    def add(self, bounds: tuple[float, ...], value: float) -> None:
        self.counts[_bucket(bounds, value)] += 1
        self.total += value


def _seconds() -> Histogram:
    return Histogram([0] * (len(SECONDS_BUCKETS) + 1))


def _rows() -> Histogram:
    return Histogram([0] * (len(ROWS_BUCKETS) + 1))


VERSIONS_MAX = 64


class VersionMeasures(msgspec.Struct):
    """One version's numbers at an endpoint in one process: totals alone, for the protocol's statistics."""

    ok: int = 0
    ok_s: float = 0.0
    """Of the requests answered well, from each one's being read to its answer."""
    rows: int = 0
    """Rows answered."""
    failed: int = 0
    """Requests refused while they waited for that version, or failed at it."""
    sent: int = 0
    sent_s: float = 0.0
    """Of the requests that were sent to a worker, from each one's being read until then."""
    batches: int = 0
    compute_s: float = 0.0


class Measures(msgspec.Struct):
    """One endpoint's numbers in one process."""

    outcomes: dict[str, int] = {}
    """Requests by how they ended: `ok`, or an error's name."""
    cache: dict[str, int] = {}
    """Requests to an endpoint with a cache, by where their answer was found: `memory`, `machine`, `remote`, `flight`
    (it was being computed), or `miss`; and `collision`: equal digests of different requests."""
    rows: int = 0
    """Rows answered."""
    rows_unwanted: int = 0
    """Rows computed for which nobody waited any more."""
    workers_lost: int = 0
    """Workers that were lost while they ran something."""
    request_s: Histogram = msgspec.field(default_factory=_seconds)
    """From the whole request read to its answer, of those answered well."""
    queue_s: Histogram = msgspec.field(default_factory=_seconds)
    """From the whole request read to its being sent to a worker."""
    compute_s: Histogram = msgspec.field(default_factory=_seconds)
    """A batch in the runtime."""
    batch_rows: Histogram = msgspec.field(default_factory=_rows)
    request_rows: Histogram = msgspec.field(default_factory=_rows)
    """Of requests answered well."""
    logged: int = 0
    """Records put into the prediction log: requests, and parts of answers."""
    features_read: dict[str, int] = {}
    """Entities that were looked up, by view; and those of them that …"""
    features_missing: dict[str, int] = {}
    """… nobody has seen."""
    features_stale: dict[str, int] = {}
    """… whose newest row is older than the view's ttl."""
    features_unavailable: dict[str, int] = {}
    """Entities that were not looked up since the store did not answer, by view."""
    features_s: Histogram = msgspec.field(default_factory=_seconds)
    """From a decoded request to the model's inputs."""
    versions: dict[int, VersionMeasures] = {}
    """By version number: the latest `VERSIONS_MAX`."""

    def version(self, number: int) -> VersionMeasures:
        """That version's own numbers."""
        found = self.versions.get(number)
        if found is None:
            found = self.versions[number] = VersionMeasures()
            if len(self.versions) > VERSIONS_MAX:
                del self.versions[next(other for other in self.versions if other != number)]
        return found

    def outcome(self, name: str) -> None:
        outcomes = self.outcomes
        try:
            outcomes[name] += 1
        except KeyError:
            outcomes[name] = 1

    def cached(self, where: str) -> None:
        self.cache[where] = self.cache.get(where, 0) + 1

    def answered(self, rows: int, seconds: float, version: VersionMeasures) -> None:
        self.outcome("ok")
        self.rows += rows
        version.ok += 1
        version.rows += rows
        version.ok_s += seconds
        histogram = self.request_rows  # what `add` does, twice for every request: calls cost more than their work here
        histogram.counts[_bucket(ROWS_BUCKETS, rows)] += 1
        histogram.total += rows
        histogram = self.request_s
        histogram.counts[_bucket(SECONDS_BUCKETS, seconds)] += 1
        histogram.total += seconds

    def waited(self, seconds: Sequence[float], version: VersionMeasures) -> None:
        """Requests that were sent to a worker together."""
        version.sent += len(seconds)
        version.sent_s += sum(seconds)
        histogram = self.queue_s
        counts = histogram.counts
        for waited_s in seconds:
            counts[_bucket(SECONDS_BUCKETS, waited_s)] += 1
            histogram.total += waited_s

    def batch(self, rows: int, compute_s: float, version: VersionMeasures) -> None:
        version.batches += 1
        version.compute_s += compute_s
        self.compute_s.add(SECONDS_BUCKETS, compute_s)
        self.batch_rows.add(ROWS_BUCKETS, rows)
