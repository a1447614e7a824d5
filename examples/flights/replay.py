"""Replays a month of flights against an endpoint: one request for each flight, as they would have been asked.

A request names the flight: its keys, what comes with it, and when it is due. The endpoint looks up what was known then,
which a feed brings on ten minutes at a time (`feed.py`): boards, landings, weather. Within those ten minutes a few
connections are kept open, and each has one request under way. What is counted is what a caller would see: a request
that is refused for now (429, 503) or loses its connection is sent again, and its latency is from the first attempt to
the answer; an error is a flight that got none.

    MIZZEN_API_KEY=... python replay.py --url http://127.0.0.1:7080/v2/models/late-arrival
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
import numpy as np
import uvloop
from feed import Feed
from flights import FACTS, FEED_S, KEYS, Seconds, raw, timetable
from http_lane import Answer, Lane
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

MONTH = 11
CONNECTIONS = 16
PATIENCE_S = 60.0
"""After which a flight that got no answer is an error."""
DATATYPES = {str: "BYTES", int: "INT64", float: "FP64"}
RETRIED = frozenset({429, 503})
PAUSE_S = 0.05
"""Before a request is sent again, where the server does not say how long."""


@dataclass(frozen=True, slots=True)
class Questions:
    """A month of flights: what is asked of each, and what then happened."""

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    """Each flight's values, in the order in which they were due."""
    due_s: Seconds
    late: NDArray[np.float64]
    """1 late, 0 not, NaN where the flight was cancelled or diverted."""


class Moves(Protocol):
    """What becomes known as time goes on."""

    async def bring(self, to_s: int, then_s: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a replay went."""

    requests: int
    """Flights that were asked about."""
    pushed: int
    """Events that became known between requests, in each view that has them."""
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


def asked_in(month: int = MONTH) -> Questions:
    """The flights of one month."""
    rows = timetable(raw())
    rows = rows[rows["month"] == month]
    numbers = [name for name in rows.columns if name not in FACTS]
    moments = rows["scheduled_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    columns = ["scheduled_at", *KEYS, *numbers]
    values = zip(moments, *(rows[name].tolist() for name in columns[1:]), strict=True)
    due_s = rows["scheduled_at"].dt.as_unit("s").astype("int64").to_numpy()
    return Questions(columns, list(values), due_s, rows["late"].astype("Float64").to_numpy(np.float64, na_value=np.nan))


async def replay(
    url: str,
    asked: Questions,
    *,
    api_key: str | None = None,
    connections: int = CONNECTIONS,
    feed: Moves | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Asks the endpoint at `url` about each flight; `told(answered, all)` is called every thousand answers."""
    run = _Replay(url, asked, api_key, told)
    start = perf_counter()
    first = 0
    reads = asked.due_s // FEED_S
    while first < len(reads):
        until = int(np.searchsorted(reads, reads[first], side="right"))
        if feed is not None:
            then = reads[min(until, len(reads) - 1)]
            run.pushed += await feed.bring(int(reads[first]) * FEED_S, int(then) * FEED_S)
        run.next_rows = iter(range(first, until))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(connections, until - first)):
                group.create_task(run.call())
        first = until
    run.close()
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
    pushed: int = 0
    lanes: list[Lane] = field(default_factory=list)
    """Open connections that nobody uses now."""
    inputs: list[tuple[str, str]] = field(init=False)
    """Name and datatype of each column."""
    next_rows: Iterator[int] = field(init=False)
    latency_s: NDArray[np.float64] = field(init=False)
    probability: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.asked.rows)
        self.next_rows = iter(())
        first = self.asked.rows[0]
        self.inputs = [(name, DATATYPES[type(value)]) for name, value in zip(self.asked.columns, first, strict=True)]
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
        lane = self.lanes.pop() if self.lanes else None
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
        if lane is not None and lane.is_open:
            self.lanes.append(lane)

    def close(self) -> None:
        """Closes the connections."""
        for lane in self.lanes:
            lane.close()

    def _body(self, row: int) -> bytes:
        return msgspec.json.encode({
            "inputs": [
                {"name": name, "shape": [1, 1], "datatype": datatype, "data": [value]}
                for (name, datatype), value in zip(self.inputs, self.asked.rows[row], strict=True)
            ]
        })  # fmt: skip

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
            pushed=self.pushed,
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


async def november(url: str, api_key: str | None, connections: int) -> Outcome:
    """Replays the month with the views as they were."""
    asked = asked_in()
    with closing(await Feed.open(int(asked.due_s[0]))) as feed:
        return await replay(url, asked, api_key=api_key, connections=connections, feed=feed)


def main() -> None:
    """Replays November and prints how it went."""
    parser = argparse.ArgumentParser(description="One request for each flight of November.")
    parser.add_argument("--url", required=True, help="the endpoint's, to which /infer is appended")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    outcome = uvloop.run(november(arguments.url, os.environ.get("MIZZEN_API_KEY"), arguments.connections))
    measured = {**asdict(outcome), "requests_per_s": outcome.requests / outcome.seconds}
    for error in outcome.first_errors:
        print(error, file=sys.stderr)
    if arguments.json:
        print(json.dumps(measured))
    else:
        print("\n".join(f"{name:15} {value}" for name, value in measured.items()))


if __name__ == "__main__":
    main()
