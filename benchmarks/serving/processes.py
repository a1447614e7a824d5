"""Whose processor time a request of the small model takes: each process's, and the load's, in microseconds.

Mizzen with everything on, and the peers that are nearest, one after the other under a closed loop, as in `serving`. User
and system time of each process is what the kernel counted while the load ran, for each request answered; it depends less
on what else the machine does than rates do. Processes of one program are added up. About three minutes. `mizzen` is left
out where `make native` was not done.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.serving.asking import Ask, check
from benchmarks.serving.load import WARM_S, Measured, h2load, wrk
from benchmarks.serving.measuring import CannotRunError, write_models
from benchmarks.serving.own import MIZZEN, MIZZEN_PYTHON
from benchmarks.serving.systems import PEERS, Place, System, await_answer, free_port

SYSTEMS = (MIZZEN, MIZZEN_PYTHON, *(peer for peer in PEERS if peer.name in {"triton", "mosec"}))
LOADS = (("json", 1), ("json", 32), ("json", 128), ("binary", 32), ("grpc", 1), ("grpc", 32))
SECONDS = 3.0
PROGRAMS = {
    "mizzen.serving.gateway": "gateway", "mizzen.serving.worker": "workers", "mizzen.serving.predictionlog": "log writer",
    "triton_python_backend_stub": "Python backends", "tritonserver": "tritonserver", "mosec": "front and workers",
}  # fmt: skip
"""By what a command line holds: the first that fits."""
Row = dict[str, Any]


def run() -> list[Row]:
    """The rows."""
    with tempfile.TemporaryDirectory(prefix="mm-") as models:
        expected = write_models(Path(models))
        rows: list[Row] = []
        for system in SYSTEMS:
            try:
                rows += _measured(system, Path(models), expected)
            except (CannotRunError, OSError) as error:
                print(f"{system.name}: left out, {error}")
        return rows


def _measured(system: System, models: Path, expected: dict[str, np.ndarray]) -> Iterator[Row]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mz-", ignore_cleanup_errors=True)))
        place = Place(folder, models, free_port(), free_port())
        system.start(stack, place)
        asks = {ask.protocol: ask for ask in reversed(system.asks) if ask.model != "heavy"}
        for protocol, connections in LOADS:
            ask = asks.get(protocol)
            if ask is None:
                continue
            await_answer(lambda ask=ask: check(ask, place.port, place.grpc_port, expected), system.start_timeout_s)
            before, load_before = _processor_s(), os.times()
            measured = _load(ask, place, connections, expected)
            after, load_after = _processor_s(), os.times()
            spent = Counter({name: after[name] - before[name] for name in after})
            spent["load"] = sum(load_after[2:4]) - sum(load_before[2:4])
            answered = measured.requests_per_s * (SECONDS + max(1, round(WARM_S)))
            for name, seconds in spent.items():
                yield {
                    "system": system.name, "version": system.version(), "unit": "us", "value": 1e6 * seconds / answered,
                    "what": f"{protocol}, {connections} connection(s): {name}",
                    "conditions": f"a request, at {measured.requests_per_s:,.0f} each second",
                }  # fmt: skip


def _load(ask: Ask, place: Place, connections: int, expected: dict[str, np.ndarray]) -> Measured:
    if ask.protocol == "grpc":
        size = len(check(ask, place.port, place.grpc_port, expected))
        return h2load(ask, place.grpc_port, connections, SECONDS, place.folder, size)
    return wrk(ask, place.port, connections, SECONDS, place.folder)


def _processor_s() -> Counter[str]:
    """Seconds so far of all processes that were started from here, by program."""
    spent: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        try:
            line, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        name = next((name for part, name in PROGRAMS.items() if part in line), process.name())
        spent[name] += times.user + times.system
    return spent


if __name__ == "__main__":
    for row in run():
        print(f"{row['system']:8} {row['what']:44} {row['value']:8.1f} {row['unit']}   {row['conditions']}")
