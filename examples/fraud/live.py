"""The days after the history, payment by payment: each is asked about as it is made, then booked.

An endpoint looks the customer and the terminal up, and answers with the probability of fraud. Minute by minute the
payments that were made are booked and pushed, and so is the nightly file of verdicts: the next request sees them. At
the end of a day the hundred payments with the highest probability are looked into.

    MIZZEN_API_KEY=$(mizzen token create live) python examples/fraud/live.py --days 7
"""

import argparse
import http.client
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from payments import (
    DAY_US,
    HISTORY_DAYS,
    LIVE_DAYS,
    MINUTE_US,
    PAYMENT_COLUMNS,
    VERDICT_COLUMNS,
    VERDICT_DAYS,
    World,
    day,
    days,
    us_of,
)
from scores import Scores, scored

import mizzen

NAME = "fraud"
SOURCES = {
    "customer-payments": PAYMENT_COLUMNS,
    "terminal-payments": PAYMENT_COLUMNS,
    "customer-verdicts": VERDICT_COLUMNS,
    "terminal-verdicts": VERDICT_COLUMNS,
}
WINDOW_DAYS = 30
"""The longest window of a view: what is older need not be there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How some days went."""

    scores: Scores
    probability: NDArray[np.float64]
    """Of each payment, in the order in which they were made."""
    latency_ms_p50: float
    latency_ms_p99: float
    pushed: int
    seconds: float


class Endpoint:
    """Asks about one payment at a time, over one connection."""

    def __init__(self, url: str, api_key: str | None) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=60)
        self._path = f"/v1/endpoints/{NAME}:predict"
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def probability(self, payment: dict[str, object]) -> float:
        """That the payment is a fraud. Raises `RuntimeError` with what the endpoint says."""
        body = json.dumps({"instances": [payment]})
        self._connection.request("POST", self._path, body, self._headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {answer.get('error', answer)}")
        return float(answer["predictions"][0]["probabilities"][1])


def known(world: World, until_day: int) -> dict[str, pa.Table]:
    """What the views' sources have until a day, as far back as they look."""
    everything = days(world, max(0, HISTORY_DAYS - WINDOW_DAYS - VERDICT_DAYS[1] - 1), until_day)
    return {view: everything.select(columns) for view, columns in SOURCES.items()}


def live(
    ask: Callable[[dict[str, object]], float],
    bring: Callable[[int], int],
    world: World,
    how_many: int,
    told: Callable[[str], None] = print,
) -> Outcome:
    """Asks about each payment of the days after the history; `bring` pushes what became known until a moment."""
    probability: list[float] = []
    latency_s: list[float] = []
    rows = [day(world, HISTORY_DAYS + number) for number in range(how_many)]
    pushed, began = 0, perf_counter()
    for number, today in enumerate(rows):
        begins_us = world.begins_us + (HISTORY_DAYS + number) * DAY_US
        minute = (us_of(today, "paid_at") - begins_us) // MINUTE_US
        first = len(probability)
        for index, payment in enumerate(today.select(["customer", "terminal", "amount", "paid_at"]).to_pylist()):
            if index and minute[index] != minute[index - 1]:
                pushed += bring(begins_us + int(minute[index]) * MINUTE_US)
            asked = perf_counter()
            probability.append(ask({**payment, "paid_at": payment["paid_at"].isoformat()}))
            latency_s.append(perf_counter() - asked)
        pushed += bring(begins_us + DAY_US)
        told(_line(number, today, np.array(probability[first:])))
    everything = pa.concat_tables(rows)
    of_day = np.repeat(np.arange(how_many), [len(today) for today in rows])
    fraud = everything.column("fraud").to_numpy()
    p50, p99 = np.percentile(np.array(latency_s) * 1000, (50, 99))
    scores = scored(fraud, np.array(probability), of_day)
    return Outcome(scores, np.array(probability), float(p50), float(p99), pushed, perf_counter() - began)


def _line(number: int, today: pa.Table, probability: NDArray[np.float64]) -> str:
    scores = scored(today.column("fraud").to_numpy(), probability, np.zeros(len(today), np.int64))
    return (
        f"day {HISTORY_DAYS + number}: {scores.payments:,} payments, {scores.frauds} frauds; "
        f"precision of 100 alerts {scores.precision:.2f} (at best {scores.best:.2f})"
    )


def main() -> None:
    """Runs some days and prints how they went."""
    parser = argparse.ArgumentParser(description="Card payments, one by one, with fresh features.")
    parser.add_argument("--url", default="http://127.0.0.1:7080", help="the gateway's")
    parser.add_argument("--days", type=int, default=LIVE_DAYS)
    arguments = parser.parse_args()
    world = World.of_environment()
    endpoint = Endpoint(arguments.url, os.environ.get("MIZZEN_API_KEY"))
    with mizzen.Client() as client, client.replays(known(world, HISTORY_DAYS + arguments.days)) as views:
        views.begin(world.begins_us + HISTORY_DAYS * DAY_US)
        outcome = live(endpoint.probability, views.bring, world, arguments.days)
    scores = outcome.scores
    print(f"precision at 100 alerts a day  {scores.precision:.3f} (at best {scores.best:.3f})")
    print(f"average precision              {scores.average_precision:.3f}")
    print(f"AUC                            {scores.roc_auc:.3f}")
    print(f"payments, frauds               {scores.payments:,}, {scores.frauds:,}")
    print(f"latency p50 / p99              {outcome.latency_ms_p50:.2f} ms / {outcome.latency_ms_p99:.2f} ms")
    print(f"pushed between requests        {outcome.pushed:,} events in {outcome.seconds:.0f} s, with the requests")


if __name__ == "__main__":
    sys.exit(main())
