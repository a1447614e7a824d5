"""Recorded arrivals, in the formats that public traces have. Which one a file has is told from its first line.

    counts        a number a line: requests of each second (Twitter 2018, from the IPA artifacts)
    azure-llm     CSV TIMESTAMP,ContextTokens,GeneratedTokens (Azure LLM inference 2023)
    mooncake      JSON lines with timestamp (ms), input_length, output_length (Mooncake)
    gentd26       CSV gmt_create,...,exec_time_seconds,...,checkpoint_model_version_id (Alibaba GenTD26): an endpoint a
    model azure-func    CSV app,func,end_timestamp,duration (Azure Functions 2021): an endpoint a function

A language model's request takes `PREFILL_S_PER_TOKEN` for each token of its context and `DECODE_S_PER_TOKEN` for each
that it generates, in a slot of a worker that runs many at once: round numbers for one accelerator, and only that.
"""

import csv
import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

PREFILL_S_PER_TOKEN = 1 / 5000
DECODE_S_PER_TOKEN = 1 / 40


class TraceError(ValueError):
    """The file is no trace that we know; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of each second of one endpoint."""

    counts: Sequence[int]
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Requests:
    """Each request: when it came (seconds from the beginning, in order), and how long it takes at a worker; by
    endpoint.
    """

    endpoints: dict[str, tuple[list[float], list[float]]]
    wall_s: float
    seconds: float
    """How long the trace is."""


Trace = Counts | Requests
_Rows = list[tuple[str, float, float]]
"""Endpoint, when it came, how long it takes."""


def read(path: Path) -> Trace:
    """Raises `TraceError` where it is none, and `OSError` where it cannot be read."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            first = next(iter(lines), "")
            for begins, reader in _FORMATS:
                if first.startswith(begins):
                    return reader(path, chain([first], lines))
            if first.strip().isdigit():
                return Counts([int(line) for line in chain([first], lines) if line.strip()])
    except (UnicodeDecodeError, ValueError, KeyError, csv.Error, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: {error}") from error
    known = ", ".join(repr(begins) for begins, _ in _FORMATS)
    found = first[:60]
    raise TraceError(f"{path}: expected a number a line, or a first line like {known}, found {found!r}")


def load_times(path: Path) -> list[float]:
    """Seconds that starts took: the column `value` of a CSV, in milliseconds, as GenTD26 has them."""
    with path.open(encoding="utf-8") as lines:
        try:
            found = [float(row["value"]) / 1000 for row in csv.DictReader(lines)]
        except (KeyError, ValueError) as error:
            raise TraceError(f"{path}: expected a CSV with a column value in milliseconds: {error}") from error
    if not found or min(found) < 0:
        raise TraceError(f"{path}: expected at least one load time, and none below 0")
    return found


def _azure_llm(path: Path, lines: Iterable[str]) -> Trace:
    rows = [
        ("endpoint", _moment(row["TIMESTAMP"]), _tokens(int(row["ContextTokens"]), int(row["GeneratedTokens"])))
        for row in csv.DictReader(lines)
    ]
    return _requests(path, rows)


def _mooncake(path: Path, lines: Iterable[str]) -> Trace:
    parsed = (json.loads(line) for line in lines if line.strip())
    return _requests(
        path,
        [("endpoint", one["timestamp"] / 1000, _tokens(one["input_length"], one["output_length"])) for one in parsed],
    )


def _gentd26(path: Path, lines: Iterable[str]) -> Trace:
    rows = [
        (row["checkpoint_model_version_id"], _moment(row["gmt_create"]), float(row["exec_time_seconds"]))
        for row in csv.DictReader(lines)
        if row["exec_time_seconds"]
    ]
    return _requests(path, rows)


def _azure_functions(path: Path, lines: Iterable[str]) -> Trace:
    rows = [
        (f"{row['app'][:8]}/{row['func'][:8]}", float(row["end_timestamp"]) - float(row["duration"]),
         float(row["duration"]))
        for row in csv.DictReader(lines)
    ]  # fmt: skip
    return _requests(path, rows)


_FORMATS: tuple[tuple[str, Callable[[Path, Iterable[str]], Trace]], ...] = (
    ("TIMESTAMP,ContextTokens", _azure_llm),
    ('{"timestamp"', _mooncake),
    ("gmt_create,", _gentd26),
    ("app,func,", _azure_functions),
)


def _requests(path: Path, rows: _Rows) -> Requests:
    if not rows:
        raise TraceError(f"{path}: expected at least one request")
    begin = min(came for _, came, _ in rows)
    by_endpoint: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for endpoint, came, takes in rows:
        if takes < 0:
            raise TraceError(f"{path}: expected a duration of at least 0, found {takes}")
        by_endpoint[endpoint].append((came - begin, max(takes, 0.001)))
    endpoints = {}
    for endpoint, pairs in sorted(by_endpoint.items()):
        pairs.sort()
        endpoints[endpoint] = ([came for came, _ in pairs], [takes for _, takes in pairs])
    seconds = max(came for _, came, _ in rows) - begin
    return Requests(endpoints, begin, seconds)


def _tokens(context: int, generated: int) -> float:
    return context * PREFILL_S_PER_TOKEN + generated * DECODE_S_PER_TOKEN


def _moment(text: str) -> float:
    # Seven digits of a second are one more than Python reads.
    return datetime.fromisoformat(text.strip()[:26]).replace(tzinfo=UTC).timestamp()


def counted(requests: Requests) -> Iterator[tuple[str, int]]:
    """Requests of each endpoint."""
    return ((name, len(arrivals)) for name, (arrivals, _) in requests.endpoints.items())
