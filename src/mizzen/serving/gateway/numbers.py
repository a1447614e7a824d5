"""The numbers of one gateway process, and of several added up.

Counters and histograms (`Measures`) of all processes are added, of those that have died too: they were counted. Gauges
(`Standing`) are those of the living, and are added but for what all processes see alike (each is connected to every
worker), where the largest counts.
"""

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from mizzen.serving.gateway.measures import Histogram, Measures

STALE_AFTER_S = 5.0
"""What stands now (gauges) in numbers older than this is that of a process that is gone."""
SEEN_ALIKE = frozenset({"workers", "cache_machine_bytes", "log_lost", "log_waiting_bytes", "log_age_s", "feature_skew"})


class Standing(msgspec.Struct):
    """What stands now at one endpoint."""

    rows_waiting: int = 0
    requests_waiting: int = 0
    batches_running: int = 0
    workers: int = 0
    bytes_waiting: int = 0
    requests_running: int = 0
    credits: int = 0
    cache_bytes: int = 0
    cache_machine_bytes: int = 0
    log_lost: int = 0
    log_waiting_bytes: int = 0
    log_age_s: float = 0.0
    feature_skew: float = 0.0


class Numbers(msgspec.Struct):
    """All numbers of one process, or of several added up."""

    written_s: float = 0.0
    """Wall clock: other processes' files are compared with it."""
    measures: dict[tuple[str, str], Measures] = {}
    standing: dict[tuple[str, str], Standing] = {}
    refusals: dict[str, int] = {}
    processes: int = 1


def added(parts: Iterable[Numbers]) -> Numbers:
    """The numbers of several processes as if they were one."""
    total = Numbers(processes=0)
    now_s = time.time()
    for part in parts:
        for key, measures in part.measures.items():
            _add(total.measures.setdefault(key, Measures()), measures)
        _add_named(total.refusals, part.refusals)
        if now_s - part.written_s > STALE_AFTER_S:
            continue
        total.processes += 1
        for key, standing in part.standing.items():
            _add(total.standing.setdefault(key, Standing()), standing)
    return total


def _add(total: msgspec.Struct, part: msgspec.Struct) -> None:
    """Field by field: numbers, numbers by name, and histograms of equal bounds."""
    for field in part.__struct_fields__:
        sum_, value = getattr(total, field), getattr(part, field)
        if isinstance(value, dict):
            _add_named(sum_, value)
        elif isinstance(value, Histogram):
            sum_.counts = [a + b for a, b in zip(sum_.counts, value.counts, strict=True)]
            sum_.total += value.total
        else:
            setattr(total, field, max(sum_, value) if field in SEEN_ALIKE else sum_ + value)


def _add_named(total: dict[Any, Any], part: dict[Any, Any]) -> None:
    """Counts, or numbers of their own, by name."""
    for name, value in part.items():
        if isinstance(value, msgspec.Struct):
            _add(total.setdefault(name, type(value)()), value)
        else:
            total[name] = total.get(name, 0) + value
