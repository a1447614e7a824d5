"""One system, from its start to its rows."""

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np

from benchmarks.serving.asking import Ask, check
from benchmarks.serving.load import CONNECTIONS_OPEN, Measured, h2load, open_loop, wrk
from benchmarks.serving.models import MODELS, answer, onnx_bytes
from benchmarks.serving.systems import Place, System, await_answer, free_port

Row = dict[str, Any]
CONNECTIONS = (1, 8, 32, 128)
PEAK_CONNECTIONS = 32
"""From here on, a closed loop's rate is taken as what a system can do at most."""
STEADY_PER_S = {"small": 1000.0, "heavy": 100.0}
"""A rate that every system should bear."""
DEADLINE_MS = {"small": 100.0, "heavy": 100.0}
OVERLOAD = 2.0
WATCH_EVERY_S = 0.1
SETTLED, SETTLE_TIMEOUT_S = 4, 20.0


class CannotRunError(Exception):
    """A system was not installed or did not start; in words."""


def write_models(folder: Path) -> dict[str, np.ndarray]:
    """Puts the models' files there; returns what each must answer."""
    for model in MODELS.values():
        (folder / f"{model.name}.onnx").write_bytes(onnx_bytes(model))
    return {name: answer(model) for name, model in MODELS.items()}


def measure(system: System, models: Path, expected: dict[str, np.ndarray], seconds: float) -> Iterator[Row]:
    """Starts it, checks its answers, and yields its rows. Raises `CannotRunError`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mz-", ignore_cleanup_errors=True)))
        place = Place(folder, models, free_port(), free_port())
        try:
            system.start(stack, place)
            await_answer(lambda: check(system.asks[0], place.port, place.grpc_port, expected), system.start_timeout_s)
        except subprocess.CalledProcessError as error:
            raise CannotRunError(f"it was not installed: {_last_line(error.stderr)}") from error
        except Exception as error:
            log = folder / "log"
            said = _last_line(log.read_text(errors="replace")) if log.exists() else ""
            raise CannotRunError(f"it did not answer: {error!r}; it said last: {said}") from error
        yield from _rows(system, place, expected, seconds)


def _last_line(text: str | None) -> str:
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _rows(system: System, place: Place, expected: dict[str, np.ndarray], seconds: float) -> Iterator[Row]:
    for ask in system.asks:
        try:
            await_answer(lambda ask=ask: check(ask, place.port, place.grpc_port, expected), 10.0)
        except Exception as error:
            yield {"system": system.name, "protocol": ask.protocol, "model": ask.model, "left_out": repr(error)[:300]}
            continue
        peak = 0.0
        for connections in CONNECTIONS if (ask.protocol, ask.model) != ("grpc", "heavy") else (PEAK_CONNECTIONS,):
            _settle(ask, place, expected)
            with Watch(ask, place, expected) as watch:
                measured = _closed(ask, place, connections, seconds, expected)
            if connections >= PEAK_CONNECTIONS:
                peak = max(peak, measured.requests_per_s)
            yield _row(system, ask, connections, measured, watch, loop="closed")
        if ask.protocol == "json":
            yield from _open(system, ask, place, peak, seconds, expected)


def _settle(ask: Ask, place: Place, expected: dict[str, np.ndarray]) -> None:
    """Waits until what the last window left in queues is answered: until a few in a row are answered well and at once."""
    for _ in range(SETTLED):
        await_answer(lambda: check(ask, place.port, place.grpc_port, expected), SETTLE_TIMEOUT_S)


def _closed(ask: Ask, place: Place, connections: int, seconds: float, expected: dict[str, np.ndarray]) -> Measured:
    if ask.protocol == "grpc":
        size = len(check(ask, place.port, place.grpc_port, expected))
        return h2load(ask, place.grpc_port, connections, seconds, place.folder, size)
    return wrk(ask, place.port, connections, seconds, place.folder)


def _open(
    system: System, ask: Ask, place: Place, peak: float, seconds: float, expected: dict[str, np.ndarray]
) -> Iterator[Row]:
    """At a rate that is the same for all, at three quarters of what the closed loop reached and at all of it, and at twice.

    What a system can do in an open loop is what it answers in time of a load that saturates it: the same instrument, which
    costs more than wrk, is used for both sides of `goodput_of_peak`.
    """
    deadline_ms, with_deadline = DEADLINE_MS[ask.model], system.deadline(ask, DEADLINE_MS[ask.model])
    reached = 0.0
    for load, rate, asked in (
        ("steady", STEADY_PER_S[ask.model], ask),
        ("near the peak", 0.75 * peak, with_deadline),
        ("saturating", peak, with_deadline),
        ("overload", OVERLOAD * peak, with_deadline),
    ):
        _settle(ask, place, expected)
        with Watch(asked, place, expected) as watch:
            measured = open_loop(asked, place.port, rate, seconds, place.folder, deadline_ms)
        of_peak = round(measured.in_time_per_s / reached, 4) if load == "overload" and reached else None
        reached = max(reached, measured.in_time_per_s)
        yield _row(
            system, ask, CONNECTIONS_OPEN, measured, watch, loop="open", load=load, offered_per_s=round(rate, 1),
            deadline_ms=deadline_ms, goodput_of_peak=of_peak,
        )  # fmt: skip


class Watch:
    """Asks now and then while the load runs, on connections of its own, and reads the answers: a system that answers well
    before and wrongly under load is found out. Refusals are the instruments' to count.
    """

    def __init__(self, ask: Ask, place: Place, expected: dict[str, np.ndarray]) -> None:
        self.checked = self.wrong = 0
        self._ask = partial(check, ask, place.port, place.grpc_port, expected)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(WATCH_EVERY_S):
            try:
                self._ask()
            except (OSError, grpc.RpcError):  # no answer, or a refusal (`HTTPError`)
                continue
            except (ValueError, LookupError, TypeError):
                self.wrong += 1
            self.checked += 1


def _row(system: System, ask: Ask, connections: int, measured: Measured, watch: Watch, **more: object) -> Row:
    return {
        "system": system.name, "protocol": ask.protocol, "model": ask.model, "connections": connections,
        **{name: round(value, 4) for name, value in asdict(measured).items()}, "checked": watch.checked,
        "wrong": watch.wrong, **more,
    }  # fmt: skip
