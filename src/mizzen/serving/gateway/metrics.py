"""The metrics page: the numbers of all gateway processes of this machine, added up.

Each process writes its numbers to a file of its own once a second, by renaming a complete one into place. Whichever
process is asked for the page adds what it has counted itself, as of now, to the others' files, which are at most a
second old. A process that is started again in the place of one that died takes up the numbers it left, so that a
counter never goes back; what was counted in the second before a kill is lost.
"""

import asyncio
import ipaddress
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from mizzen.serving.gateway.exchange import Headers
from mizzen.serving.gateway.gateway import Gateway
from mizzen.serving.gateway.measures import ROWS_BUCKETS, SECONDS_BUCKETS, Histogram, Measures

log = logging.getLogger("mizzen.gateway")
WRITE_EVERY_S = 1.0
STALE_AFTER_S = 5.0
"""What stands now (gauges) in a file older than this is that of a process that is gone."""
PAGE_HEADERS: Headers = [("content-type", "text/plain; version=0.0.4; charset=utf-8")]
TEXT_HEADERS: Headers = [("content-type", "application/json")]


class Standing(msgspec.Struct):
    """What stands now at one endpoint."""

    rows_waiting: int = 0
    requests_waiting: int = 0
    batches_running: int = 0
    workers: int = 0
    cache_bytes: int = 0
    cache_machine_bytes: int = 0


class Numbers(msgspec.Struct):
    """All numbers of one process, or of several added up."""

    written_s: float = 0.0
    """Wall clock: other processes' files are compared with it."""
    measures: dict[tuple[str, str], Measures] = {}
    standing: dict[tuple[str, str], Standing] = {}
    refusals: dict[str, int] = {}
    processes: int = 1


class MetricsFiles:
    """Writes this process's numbers, and makes the page of all."""

    def __init__(self, directory: Path, slot: int, gateway: Gateway, *, for_all: bool) -> None:
        self._directory = directory
        self._own = directory / f"{slot}.numbers"
        self._gateway = gateway
        self._for_all = for_all
        left = _read(self._own)
        if left is not None:
            gateway.measures.update(left.measures)
            gateway.refusals.update(left.refusals)

    async def run(self) -> None:
        """Writes now and then, until cancelled."""
        while True:
            self.write()
            await asyncio.sleep(WRITE_EVERY_S)

    def write(self) -> None:
        """A full disk costs numbers, not answers."""
        partial = self._own.with_suffix(".partial")
        try:
            partial.write_bytes(msgspec.msgpack.encode(self.numbers()))
            partial.replace(self._own)
        except OSError as error:
            log.warning("%s: %s", self._own, error)

    def numbers(self) -> Numbers:
        """This process's, as of now."""
        standing = {}
        for key, service in self._gateway.services.items():
            queue = service.statistics()
            cache = service.cache
            standing[key] = Standing(
                queue.rows_waiting, queue.requests_waiting, queue.batches_running, queue.workers,
                cache.bytes_used if cache is not None else 0, cache.machine_bytes if cache is not None else 0,
            )  # fmt: skip
        return Numbers(time.time(), self._gateway.measures, standing, self._gateway.refusals)

    def page(self, client: str) -> tuple[int, Headers, bytes]:
        """What a client at that address is answered."""
        if not self._for_all and not _is_local(client):
            return 403, TEXT_HEADERS, b'{"error":"metrics are for callers on this machine; see --metrics"}'
        others = (_read(path) for path in self._directory.glob("*.numbers") if path != self._own)
        total = added([self.numbers(), *(other for other in others if other is not None)])
        return 200, PAGE_HEADERS, exposition(total).encode()


def _read(path: Path) -> Numbers | None:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Numbers)
    except (OSError, msgspec.DecodeError):
        return None


def _is_local(client: str) -> bool:
    """`client` is `address:port`, as granian writes it: an IPv6 address in brackets."""
    address = client.rpartition(":")[0].strip("[]")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def added(parts: Iterable[Numbers]) -> Numbers:
    """The numbers of several processes as if they were one."""
    total = Numbers(processes=0)
    now_s = time.time()
    for part in parts:
        for key, measures in part.measures.items():
            _add_measures(total.measures.setdefault(key, Measures()), measures)
        for name, count in part.refusals.items():
            total.refusals[name] = total.refusals.get(name, 0) + count
        if now_s - part.written_s > STALE_AFTER_S:
            continue
        total.processes += 1
        for key, standing in part.standing.items():
            sum_ = total.standing.setdefault(key, Standing())
            sum_.rows_waiting += standing.rows_waiting
            sum_.requests_waiting += standing.requests_waiting
            sum_.batches_running += standing.batches_running
            sum_.workers = max(sum_.workers, standing.workers)
            sum_.cache_bytes += standing.cache_bytes
            sum_.cache_machine_bytes = max(sum_.cache_machine_bytes, standing.cache_machine_bytes)
    return total


def _add_measures(total: Measures, part: Measures) -> None:
    for name, count in part.outcomes.items():
        total.outcomes[name] = total.outcomes.get(name, 0) + count
    for name, count in part.cache.items():
        total.cache[name] = total.cache.get(name, 0) + count
    total.rows += part.rows
    total.rows_unwanted += part.rows_unwanted
    total.workers_lost += part.workers_lost
    for sum_, histogram in (
        (total.request_s, part.request_s), (total.queue_s, part.queue_s), (total.compute_s, part.compute_s),
        (total.batch_rows, part.batch_rows),
    ):  # fmt: skip
        sum_.counts = [a + b for a, b in zip(sum_.counts, histogram.counts, strict=True)]
        sum_.total += histogram.total


def exposition(numbers: Numbers) -> str:
    """Prometheus' text format."""
    lines = list(
        _family("mizzen_gateway_processes", "gauge", "Gateway processes that answer.", [("", numbers.processes)])
    )
    measures, standing = sorted(numbers.measures.items()), sorted(numbers.standing.items())
    lines += _family(
        "mizzen_gateway_requests_total", "counter", "Inference requests by how they ended.",
        [(_labels(key, outcome=name), n) for key, m in measures for name, n in sorted(m.outcomes.items())],
    )  # fmt: skip
    lines += _family(
        "mizzen_gateway_refusals_total", "counter", "Requests to no endpoint, or by callers who may not know of it.",
        [(f'{{outcome="{name}"}}', n) for name, n in sorted(numbers.refusals.items())],
    )  # fmt: skip
    lines += _family(
        "mizzen_gateway_cache_requests_total", "counter", "Requests by where the cache found their answer, or a miss.",
        [(_labels(key, found=name), n) for key, m in measures for name, n in sorted(m.cache.items())],
    )  # fmt: skip
    lines += _family(
        "mizzen_gateway_rows_total", "counter", "Rows answered.", [(_labels(key), m.rows) for key, m in measures]
    )
    lines += _family(
        "mizzen_gateway_rows_unwanted_total", "counter", "Rows computed for which nobody waited any more.",
        [(_labels(key), m.rows_unwanted) for key, m in measures],
    )  # fmt: skip
    lines += _family(
        "mizzen_gateway_workers_lost_total", "counter", "Workers lost while they ran something.",
        [(_labels(key), m.workers_lost) for key, m in measures],
    )  # fmt: skip
    for name, meaning in (
        ("rows_waiting", "Rows in the queue."),
        ("requests_waiting", "Requests in the queue."),
        ("batches_running", "Batches that workers have."),
        ("workers", "Workers connected."),
        ("cache_bytes", "Answers kept in memory."),
        ("cache_machine_bytes", "Answers kept for all gateway processes of the machine."),
    ):
        series = [(_labels(key), getattr(stands, name)) for key, stands in standing]
        lines += _family(f"mizzen_gateway_{name}", "gauge", meaning, series)
    for name, meaning, bounds, histograms in (
        ("request_seconds", "From a request to its answer.", SECONDS_BUCKETS, [(k, m.request_s) for k, m in measures]),
        ("queue_seconds", "From a request to its worker.", SECONDS_BUCKETS, [(k, m.queue_s) for k, m in measures]),
        ("compute_seconds", "A batch in the runtime.", SECONDS_BUCKETS, [(k, m.compute_s) for k, m in measures]),
        ("batch_rows", "Rows of a batch.", ROWS_BUCKETS, [(k, m.batch_rows) for k, m in measures]),
    ):
        lines += _histograms(f"mizzen_gateway_{name}", meaning, bounds, histograms)
    return "\n".join(lines) + "\n"


def _labels(key: tuple[str, str], **more: str) -> str:
    pairs = {"namespace": key[0], "endpoint": key[1], **more}
    return "{" + ",".join(f'{name}="{value}"' for name, value in pairs.items()) + "}"


def _family(name: str, kind: str, meaning: str, series: Iterable[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for labels, value in series:
        yield f"{name}{labels} {value}"


def _histograms(
    name: str, meaning: str, bounds: tuple[float, ...], series: list[tuple[tuple[str, str], Histogram]]
) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} histogram"
    for key, histogram in series:
        so_far = 0
        for bound, count in zip((*map(str, bounds), "+Inf"), histogram.counts, strict=True):
            so_far += count
            yield f"{name}_bucket{_labels(key, le=bound)} {so_far}"
        yield f"{name}_sum{_labels(key)} {histogram.total}"
        yield f"{name}_count{_labels(key)} {so_far}"
