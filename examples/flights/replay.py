"""Replays a month of flights against an endpoint: one request for each flight, as they would have been asked.

A few connections are kept open, and each has one request under way, so that the endpoint sees as many callers as there
are connections. What is counted is what a caller would see: a request that is refused for now (429, 503) or loses its
connection is sent again, and its latency is from the first attempt to the answer; an error is a flight that got none.

    MIZZEN_API_KEY=... python replay.py --url http://127.0.0.1:7080/v2/models/late-arrival
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pandas as pd
import pyarrow.dataset as pds
import uvloop
from flights import FACTS, features, raw
from http_lane import Answer, Lane
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mizzen.data.lake.objects import Store
from mizzen.data.lake.tables import Table, TableVersion

MONTH = 11
CONNECTIONS = 16
PATIENCE_S = 60.0
"""After which a flight that got no answer is an error."""
RETRIED = frozenset({429, 503})
PAUSE_S = 0.05
"""Before a request is sent again, where the server does not say how long."""


@dataclass(frozen=True, slots=True)
class Questions:
    """A month of flights: what is asked of each, and what then happened."""

    columns: Sequence[str]
    rows: NDArray[np.float64]
    """Shape (flights, columns)."""
    late: NDArray[np.float64]
    """1 late, 0 not, NaN where the flight was cancelled or diverted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a replay went."""

    requests: int
    """Flights that were asked about."""
    errors: int
    """Flights that got no answer."""
    retries: int
    """Requests that were sent again."""
    seconds: float
    latency_ms_p50: float
    latency_ms_p99: float
    roc_auc: float
    """Of the answers against what then happened, over the flights that arrived; NaN where none was answered."""
    scored: int
    """How many those are."""
    first_errors: tuple[str, ...]
    """Some of what went wrong."""


class _Tensor(msgspec.Struct):
    name: str
    data: list[float]


class _Response(msgspec.Struct):
    outputs: list[_Tensor]


_decode = msgspec.json.Decoder(_Response).decode


def from_table(table: TableVersion, month: int = MONTH) -> Questions:
    """The flights of one month from the dataset's table, in the order in which they were due."""
    return _questions(table.dataset().to_table(filter=pds.field("month") == month).to_pandas())


def from_raw(month: int = MONTH) -> Questions:
    """The same, computed anew from the raw tables."""
    rows = features(raw())
    return _questions(rows[rows["month"] == month])


def _questions(rows: pd.DataFrame) -> Questions:
    columns = [name for name in rows.columns if name not in FACTS]
    late = rows["late"].astype("Float64").to_numpy(np.float64, na_value=np.nan)
    return Questions(columns, rows[columns].to_numpy(np.float64), late)


async def replay(
    url: str,
    asked: Questions,
    *,
    api_key: str | None = None,
    connections: int = CONNECTIONS,
    told: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Asks the endpoint at `url` about each flight; `told(answered, all)` is called every thousand answers."""
    run = _Replay(url, asked, api_key, told)
    start = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(run.call())
    return run.outcome(perf_counter() - start)


@dataclass(slots=True)
class _Replay:
    url: str
    asked: Questions
    api_key: str | None
    told: Callable[[int, int], None] | None
    retries: int = 0
    answered: int = 0
    errors: list[str] = field(default_factory=list)
    next_rows: Iterator[int] = field(init=False)
    latency_s: NDArray[np.float64] = field(init=False)
    probability: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.asked.rows)
        self.next_rows = iter(range(count))
        self.latency_s, self.probability = np.full(count, np.nan), np.full(count, np.nan)

    async def call(self) -> None:
        """One caller: takes the next flight until there is none, on one connection as long as it holds."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "127.0.0.1", parts.port or 80
        key = f"Authorization: Bearer {self.api_key}\r\n" if self.api_key else ""
        head = (
            f"POST {parts.path}/infer HTTP/1.1\r\nHost: {parts.netloc}\r\n{key}"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        lane: Lane | None = None
        for row in self.next_rows:
            body, start = self._body(row), perf_counter()
            problem = "no answer"
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while True:
                        try:
                            lane = lane if lane is not None and lane.is_open else await Lane.open(host, port)
                            answer = await lane.post(head, body)
                        except OSError as error:
                            problem, pause_s = str(error), PAUSE_S
                        else:
                            if answer.status not in RETRIED:
                                self._take(row, answer, perf_counter() - start)
                                break
                            problem, pause_s = _shown(answer), answer.retry_after_s or PAUSE_S
                        self.retries += 1
                        await asyncio.sleep(pause_s)
            except TimeoutError:
                self.errors.append(f"{problem}, for {PATIENCE_S:.0f} s")
                if lane is not None:
                    lane.close()
        if lane is not None:
            lane.close()

    def _body(self, row: int) -> bytes:
        values = self.asked.rows[row].tolist()
        return msgspec.json.encode(
            {"inputs": [{"name": "input", "shape": [1, len(values)], "datatype": "FP64", "data": values}]}
        )

    def _take(self, row: int, answer: Answer, latency_s: float) -> None:
        if answer.status != 200:
            self.errors.append(_shown(answer))
            return
        outputs = {output.name: output.data for output in _decode(answer.body).outputs if output.name != "label"}
        self.probability[row] = outputs["probabilities"][1]
        self.latency_s[row] = latency_s
        self.answered += 1
        if self.told is not None and self.answered % 1000 == 0:
            self.told(self.answered, len(self.asked.rows))

    def outcome(self, seconds: float) -> Outcome:
        """What it all came to."""
        answered = ~np.isnan(self.probability)
        scored = answered & ~np.isnan(self.asked.late)
        latency_ms = 1000.0 * self.latency_s[answered] if answered.any() else np.array([np.nan])
        late = self.asked.late[scored]
        decided = len(np.unique(late)) == 2
        return Outcome(
            requests=len(self.asked.rows),
            errors=len(self.errors),
            retries=self.retries,
            seconds=seconds,
            latency_ms_p50=float(np.percentile(latency_ms, 50)),
            latency_ms_p99=float(np.percentile(latency_ms, 99)),
            roc_auc=float(roc_auc_score(late, self.probability[scored])) if decided else float("nan"),
            scored=int(scored.sum()),
            first_errors=tuple(dict.fromkeys(self.errors))[:5],
        )


def _shown(answer: Answer) -> str:
    return f"{answer.status}: {answer.body[:200].decode(errors='replace')}"


def main() -> None:
    """Replays November and prints how it went."""
    parser = argparse.ArgumentParser(description="One request for each flight of November.")
    parser.add_argument("--url", required=True, help="the endpoint's, to which /infer is appended")
    parser.add_argument("--store", help="take the rows from the dataset in this store; by default they are made anew")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    asked = from_table(Table(Store.open(arguments.store), "default", "flights").at()) if arguments.store else from_raw()
    key = os.environ.get("MIZZEN_API_KEY")
    outcome = uvloop.run(replay(arguments.url, asked, api_key=key, connections=arguments.connections))
    measured = {**asdict(outcome), "requests_per_s": outcome.requests / outcome.seconds}
    for error in outcome.first_errors:
        print(error, file=sys.stderr)
    if arguments.json:
        print(json.dumps(measured))
    else:
        print("\n".join(f"{name:15} {value}" for name, value in measured.items()))


if __name__ == "__main__":
    main()
