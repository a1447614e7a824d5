"""Numbers for Prometheus: counters, gauges and histograms, and their text.

A `Registry` is a plain value that its owner passes on; there is no global one. `text` is the exposition format 0.0.4,
what a scraper expects under `/metrics` with `CONTENT_TYPE`.
"""

import bisect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds that tell a millisecond from a minute."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
M = TypeVar("M", bound="Metric")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _labelled(name: str, labels: Sequence[str], values: Sequence[str], *more: tuple[str, str]) -> str:
    pairs = [*zip(labels, values, strict=True), *more]
    inner = ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in pairs)
    return f"{name}{{{inner}}}" if inner else name


class Metric:
    """A named family of series, one for each combination of label values."""

    type = "untyped"

    def __init__(self, name: str, help_: str, labels: Sequence[str]) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"metric {name!r}: expected letters, digits, _ and :")
        for label in labels:
            if not _LABEL.fullmatch(label):
                raise ValueError(f"metric {name}: label {label!r}: expected letters, digits and _")
        self.name, self.help, self.labels = name, help_, tuple(labels)

    def _checked(self, values: Sequence[str]) -> tuple[str, ...]:
        if len(values) != len(self.labels):
            raise ValueError(f"metric {self.name}: expected values for {self.labels}, got {tuple(values)}")
        return tuple(values)

    def lines(self) -> Iterator[str]:
        raise NotImplementedError


class Counter(Metric):
    """A number that only grows."""

    type = "counter"

    def __init__(self, name: str, help_: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, help_, labels)
        self._series: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float = 1.0) -> None:
        if by < 0:
            raise ValueError(f"metric {self.name}: a counter cannot go down, got {by}")
        values = self._checked(labels)
        self._series[values] = self._series.get(values, 0.0) + by

    def value(self, *labels: str) -> float:
        return self._series.get(self._checked(labels), 0.0)

    def lines(self) -> Iterator[str]:
        for values, number in self._series.items():
            yield f"{_labelled(self.name, self.labels, values)} {_number(number)}"


class Gauge(Metric):
    """A number that goes up and down: set, or asked for when the text is made."""

    type = "gauge"

    def __init__(self, name: str, help_: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, help_, labels)
        self._series: dict[tuple[str, ...], float | Callable[[], float]] = {}

    def set(self, value: float | Callable[[], float], *labels: str) -> None:
        self._series[self._checked(labels)] = value

    def lines(self) -> Iterator[str]:
        for values, number in self._series.items():
            now = number() if callable(number) else number
            yield f"{_labelled(self.name, self.labels, values)} {_number(now)}"


class Histogram(Metric):
    """How values are spread: counts up to each bound, their sum and their number."""

    type = "histogram"

    def __init__(self, name: str, help_: str, labels: Sequence[str] = (), bounds: Iterable[float] = SECONDS) -> None:
        super().__init__(name, help_, labels)
        self._bounds = tuple(sorted(bounds))
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        """Counts in each bucket, not yet summed up, and [sum]."""

    def observe(self, value: float, *labels: str) -> None:
        series = self._series.get(labels)
        if series is None:
            series = self._series[self._checked(labels)] = ([0] * (len(self._bounds) + 1), [0.0])
        counts, total = series
        counts[bisect.bisect_left(self._bounds, value)] += 1
        total[0] += value

    def count(self, *labels: str) -> int:
        series = self._series.get(self._checked(labels))
        return 0 if series is None else sum(series[0])

    def lines(self) -> Iterator[str]:
        for values, (counts, (total,)) in self._series.items():
            so_far = 0
            for bound, count in zip((*self._bounds, math.inf), counts, strict=True):
                so_far += count
                bucket = _labelled(f"{self.name}_bucket", self.labels, values, ("le", _number(bound)))
                yield f"{bucket} {so_far}"
            yield f"{_labelled(f'{self.name}_sum', self.labels, values)} {_number(total)}"
            yield f"{_labelled(f'{self.name}_count', self.labels, values)} {so_far}"


class Registry:
    """The metrics of one process. Asking twice for the same one gives the same."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def counter(self, name: str, help_: str, labels: Sequence[str] = ()) -> Counter:
        return self._add(Counter(name, help_, labels))

    def gauge(self, name: str, help_: str, labels: Sequence[str] = ()) -> Gauge:
        return self._add(Gauge(name, help_, labels))

    def histogram(
        self, name: str, help_: str, labels: Sequence[str] = (), bounds: Iterable[float] = SECONDS
    ) -> Histogram:
        return self._add(Histogram(name, help_, labels, bounds))

    def text(self) -> str:
        """All metrics in the exposition format."""
        lines: list[str] = []
        for metric in self._metrics.values():
            lines.append(f"# HELP {metric.name} {metric.help.replace(chr(10), ' ')}")
            lines.append(f"# TYPE {metric.name} {metric.type}")
            lines += metric.lines()
        return "\n".join(lines) + "\n" if lines else ""

    def _add(self, metric: M) -> M:
        there = self._metrics.setdefault(metric.name, metric)
        if type(there) is not type(metric) or there.labels != metric.labels:
            raise ValueError(f"metric {metric.name} is there already as a {there.type} with labels {there.labels}")
        return there
