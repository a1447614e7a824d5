"""What every feature should be, computed anew from the raw events for each request, in plain Python.

No sorting trick, no partial result, no array: each function looks at all events of the entity and keeps those that the
request may see. Sums are exact rationals. It shares no code with the kernel.
"""

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Event:
    entity: int
    time: int
    known: int
    value: Any
    kept: bool = True
    """Whether it passes the filter."""


@dataclass(frozen=True)
class Ask:
    entity: int
    time: int
    known: int


def is_there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def seen(events: list[Event], ask: Ask, length: int | None, hop: int, ahead: bool = False) -> list[Event]:
    if ahead:
        assert length is not None
        after, until = ask.time, ask.time + length
    else:
        after, until = -math.inf if length is None else ((ask.time - length) // hop) * hop, ask.time
    return [e for e in events if e.entity == ask.entity and after < e.time <= until and e.known <= ask.known]


def total(values: list[Any]) -> Any:
    if not all(math.isfinite(v) for v in values):
        infinite = {v for v in values if math.isinf(v)}
        return math.nan if len(infinite) == 2 else infinite.pop()
    return sum((Fraction(v) for v in values), Fraction(0))


def variance(values: list[Any]) -> Any:
    if not all(math.isfinite(v) for v in values):
        return math.nan
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    return sum((v - mean) ** 2 for v in exact) / (len(exact) - 1)


def value_of(function: str, events: list[Event], ask: Ask, length: int | None, hop: int, parameter: Any = None) -> Any:
    """The feature's value; rationals where the kernel may round."""
    window = [e for e in seen(events, ask, length, hop) if e.kept and is_there(e.value)]
    values = [e.value for e in window]
    ordered = [e.value for e in sorted(window, key=lambda e: (e.time, e.known, e.value))]
    match function:
        case "count":
            return len(values)
        case "rate":
            return len(values) * 1e6 / (ask.time - (ask.time - length) // hop * hop)
        case "sum":
            return total(values) if values else None
        case "mean":
            summed = total(values) if values else None
            return summed if summed is None or isinstance(summed, float) else summed / len(values)
        case "min":
            return min(values, default=None)
        case "max":
            return max(values, default=None)
        case "variance":
            return variance(values) if len(values) > 1 else None
        case "std":
            squared = variance(values) if len(values) > 1 else None
            if isinstance(squared, Fraction):  # of a variance that no float can hold, the root is not asked
                return math.inf if squared >= Fraction(10) ** 308 else math.sqrt(squared)
            return squared
        case "first":
            return ordered[0] if ordered else None
        case "last":
            return ordered[-1] if ordered else None
        case "last_k":
            return ordered[::-1][:parameter]
        case "time_since_last":
            return (ask.time - max(e.time for e in window)) / 1e6 if window else None
        case "distinct" | "approximate_distinct":
            return len(set(values))
        case "top_k":
            return [v for v, _ in sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))][:parameter]
        case "quantile":
            rank = max(1, math.ceil(parameter * len(values)))
            return float(sorted(values)[rank - 1]) if values else None
    raise AssertionError(function)
