"""Memory over ten million requests: what each of Mizzen's processes has after the first hundred thousand, and at the end.

All that the serving benchmark switches on is on; JSON, binary tensors and gRPC take turns, on 32 connections. Memory is
what is resident. `python -m benchmarks.serving.soak [--requests N]`; rows go to `results/serving.soak.json`.
"""

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

import mizzen
from benchmarks.__main__ import DOCS, HERE, Row, machine, page, table
from benchmarks.serving.asking import Ask, check
from benchmarks.serving.load import h2load, wrk
from benchmarks.serving.measuring import write_models
from benchmarks.serving.own import AS_IT_IS
from benchmarks.serving.systems import Place, await_answer, free_port

REQUESTS = 10_000_000
WARM = 100_000
CONNECTIONS = 32
TURNS_S = (("json", 10.0), ("binary", 2.0), ("grpc", 2.0))
ROLES = {
    "mizzen.serving.gateway.process": "gateway",
    "mizzen.serving.worker": "workers",
    "mizzen.serving.predictionlog.process": "log writer",
}
"""What a process's command line has, and what it is called here."""
COUNTED = "mizzen_gateway_requests_total{"


def run(requests: int = REQUESTS) -> list[Row]:
    """The rows."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mz-", ignore_cleanup_errors=True)))
        place = Place(folder, folder / "models", free_port(), free_port())
        place.models.mkdir()
        expected = write_models(place.models)
        AS_IT_IS.start(stack, place)
        asks = {ask.protocol: ask for ask in AS_IT_IS.asks if ask.model != "heavy"}
        for ask in asks.values():
            await_answer(lambda ask=ask: check(ask, place.port, place.grpc_port, expected), AS_IT_IS.start_timeout_s)
        sizes = {name: len(check(ask, place.port, place.grpc_port, expected)) for name, ask in asks.items()}
        return _rows(list(_samples(place, asks, sizes["grpc"], requests)))


Sample = tuple[int, dict[str, float]]
"""Requests so far, and MiB by role."""


def _samples(place: Place, asks: dict[str, Ask], answer_size: int, requests: int) -> Iterator[Sample]:
    """The first after the warm-up, then one after each round."""
    wanted = WARM
    while True:
        for protocol, seconds in TURNS_S:
            if protocol == "grpc":
                h2load(asks[protocol], place.grpc_port, CONNECTIONS, seconds, place.folder, answer_size)
            else:
                wrk(asks[protocol], place.port, CONNECTIONS, seconds, place.folder)
        done = _answered(place.port)
        if done >= wanted:
            wanted = done
            found = _memory_mib()
            print(
                f"{done:>12,} requests: {', '.join(f'{name} {mib:.1f} MiB' for name, mib in found.items())}", flush=True
            )
            yield done, found
        if done >= requests:
            return


def _answered(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30.0) as page_:
        lines = page_.read().decode().splitlines()
    return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(COUNTED)))


def _memory_mib() -> dict[str, float]:
    found = dict.fromkeys(ROLES.values(), 0.0)
    for process in psutil.Process().children(recursive=True):
        command = process.cmdline()
        role = next((name for module, name in ROLES.items() if module in command), None)
        if role is not None:
            found[role] += process.memory_info().rss / (1 << 20)
    return found


def _rows(samples: list[Sample]) -> list[Row]:
    (first, before), (last, after) = samples[0], samples[-1]
    rows: list[Row] = []
    for role in ROLES.values():
        largest = max(found[role] for _, found in samples)
        conditions = (
            f"{first:,} requests to {last:,}; JSON, binary and gRPC in turn; largest in between {largest:.1f} MiB"
        )
        common: dict[str, Any] = {"system": "mizzen", "version": mizzen.__version__, "conditions": conditions}
        rows += [
            {**common, "what": f"{role}: memory before", "unit": "MiB", "value": before[role]},
            {**common, "what": f"{role}: memory after", "unit": "MiB", "value": after[role]},
            {**common, "what": f"{role}: growth for a million requests", "unit": "MiB", "value": _slope(samples, role)},
        ]
    return rows


def _slope(samples: list[Sample], role: str) -> float:
    """Between the first half's median and the second's, so that one garbage collection more or less means nothing."""
    half = max(1, len(samples) // 2)

    def middle(part: list[Sample]) -> tuple[float, float]:
        return sorted(done for done, _ in part)[len(part) // 2], sorted(found[role] for _, found in part)[
            len(part) // 2
        ]

    (early, low), (late, high) = middle(samples[:half]), middle(samples[half:] or samples)
    return 0.0 if late == early else 1e6 * (high - low) / (late - early)


def main() -> int:
    parser = argparse.ArgumentParser("benchmarks.serving.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    began_s = time.monotonic()
    rows = run(parser.parse_args().requests)
    (HERE / "results" / "serving.soak.json").write_text(
        json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n"
    )
    DOCS.write_text(page())
    print(table(rows))
    print(f"{time.monotonic() - began_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
