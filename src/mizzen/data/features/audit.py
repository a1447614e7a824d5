"""Whether what was read online is what the offline computation gives, for the same entities at the same moments.

Each read is a row of a spine, asked at the moment of the read with what was known then, and joined as a training set
is.
A value *differs* where it is another one; it is *missing* where it was not there online and is offline, *extra* in the
reverse. Numbers are equal within a relative 1e-9, since sums may be merged in another order; sketches (quantiles,
approximate counts) within twice their bound, since a sketch that was merged is another one than a sketch of everything.
What differs although the kernel is one is data that came late, was pushed and never loaded, or is not online yet.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from mizzen.data.features.definition import Definition
from mizzen.data.features.pointintime import Clocks, Use, join

ASKED = "\0asked"
RELATIVE = 1e-9
SKETCHES = {"approximate_distinct": 0.033, "quantile": 0.033}
"""Twice the bounds of HyperLogLog and KLL; of a quantile, of its rank, for which its value stands in."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What was read: of each, the entity's keys, the moment and the values by feature."""

    keys: pa.Table
    at_us: Sequence[int]
    values: Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Compared:
    """How one feature came out."""

    feature: str
    values: int = 0
    differing: int = 0
    missing: int = 0
    extra: int = 0
    deltas: list[float] = field(default_factory=list)
    """Of numbers that differ, how far."""

    def quantile(self, share: float) -> float | None:
        """Of the deltas; the nearest rank."""
        if not self.deltas:
            return None
        ordered = sorted(self.deltas)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1 if share else 0)]


def audited(reads: Reads, use: Use) -> list[Compared]:
    """Each stored feature compared."""
    times = pa.array(reads.at_us, pa.int64()).cast(pa.timestamp("us", "UTC"))
    spine = reads.keys.append_column(ASKED, times)
    joined = join(spine, [use], Clocks(ASKED))
    found = []
    for name in use.definition.stored:
        compared = Compared(name)
        bound = _bound(use.definition, name)
        for read, offline in zip(reads.values, as_read(joined.column(use.prefix + name)), strict=True):
            _compare(compared, read.get(name), offline, bound)
        found.append(compared)
    return found


def as_read(column: pa.ChunkedArray) -> list[Any]:
    """Values as a recorded read has them: times as microseconds, bytes as hex, what is not finite as text."""
    if pt.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    elif pt.is_date32(column.type):
        column = column.cast(pa.int32())
    return [_plain(value) for value in column.to_pylist()]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value


def _bound(definition: Definition, name: str) -> float:
    function = next((a.function for a in definition.aggregations if a.name == name), "")
    return SKETCHES.get(function, RELATIVE)


def _compare(compared: Compared, online: Any, offline: Any, bound: float) -> None:
    compared.values += 1
    if _same(online, offline, bound):
        return
    compared.differing += 1
    if online is None:
        compared.missing += 1
    elif offline is None:
        compared.extra += 1
    elif _is_number(online) and _is_number(offline):
        compared.deltas.append(abs(float(online) - float(offline)))


def _same(online: Any, offline: Any, bound: float) -> bool:
    if _is_number(online) and _is_number(offline):
        return math.isclose(online, offline, rel_tol=bound, abs_tol=bound)
    if isinstance(online, list) and isinstance(offline, list) and len(online) == len(offline):
        return all(_same(mine, theirs, bound) for mine, theirs in zip(online, offline, strict=True))
    return bool(online == offline)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
