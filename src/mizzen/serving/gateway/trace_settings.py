"""Which requests are traced: as the gateway was started, and as clients set it since (the protocol's extension).

What is set of a model counts before what is set of its namespace, and that before what the gateway was started with; a
setting that is set to null counts no more. The words are Triton's:

    trace_level     OFF, or TIMESTAMPS: one span a request, with spans of its waiting and computing
    trace_rate      one request in so many, of those whose caller says nothing of it (`traceparent`); 0: of these none
    trace_count     so many more, and then none; -1: no end
    log_frequency   0: spans go to the collector each second, and to no file that could be full

All gateway processes of a machine have them in common, in a file: each looks at it once in `LOOK_EVERY_S`, and at once
where it is asked what they are. Requests are counted there only while `trace_count` is no -1. They last as long as the
gateway runs; for good they are said where it is started.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mizzen.serving.gateway.directory import EndpointKey
from mizzen.serving.gateway.errors import HttpError

LEVEL, RATE, COUNT, FREQUENCY = NAMES = "trace_level", "trace_rate", "trace_count", "log_frequency"
OFF, TIMESTAMPS = "OFF", "TIMESTAMPS"
LOOK_EVERY_S = 1.0
Settings = dict[str, list[str]]
_DRAWN = 1 << 64
_Layers = dict[str, dict[str, Any]]
"""What was set, by `namespace/` and `namespace/endpoint`."""


class TraceSettings:
    """The settings of one gateway process, and of those it shares a file with."""

    def __init__(self, ratio: float, path: Path | None = None, clock: Callable[[], float] = lambda: 0.0) -> None:
        """`ratio`: the share of requests that is traced where nothing is set; `path`: what processes share; `None`:
        nothing can be set, since nobody takes traces.
        """
        self._ratio = ratio
        self._path, self._clock = path, clock
        self._layers: _Layers = {}
        self._seen: tuple[int, int] | None = None
        self._looked_s = -LOOK_EVERY_S
        rate = round(1 / ratio) if round(ratio * _DRAWN) else 0
        level = TIMESTAMPS if path is not None else OFF
        self._first: dict[str, Any] = {LEVEL: level, RATE: rate, COUNT: -1, FREQUENCY: 0}

    def draws(self, endpoint: EndpointKey, drawn: int | None) -> bool:
        """Whether a request there is traced: `drawn` of 64 bits by chance, or `None` where its caller traces it."""
        if self._path is not None and self._clock() - self._looked_s >= LOOK_EVERY_S:
            self._look()
        if not self._layers:
            return drawn is None or drawn < round(self._ratio * _DRAWN)
        found, owner = self._of(endpoint)
        if found[LEVEL] == OFF or found[COUNT] == 0:
            return False
        ratio = self._ratio if found[RATE] == self._first[RATE] else 1 / found[RATE] if found[RATE] else 0.0
        if drawn is not None and drawn >= round(ratio * _DRAWN):
            return False
        return found[COUNT] < 0 or self._counted(owner)

    def told(self, namespace: str, name: str | None) -> Settings:
        """The settings of an endpoint, or of a namespace, in Triton's words."""
        self._look()
        found, _ = self._of((namespace, name or ""))
        return {key: [str(found[key])] for key in NAMES}

    def change(self, namespace: str, name: str | None, wanted: Mapping[str, Any]) -> Settings:
        """Sets those of an endpoint or a namespace, and tells them. Raises `HttpError`, and then sets none."""
        given = {key: None if value is None else _checked(key, value) for key, value in wanted.items()}
        told = self.told(namespace, name)
        if all(value is None or [str(value)] == told[key] for key, value in given.items()) and self._path is None:
            return told
        if self._path is None:
            message = f"{next(iter(given))}: expected a gateway that has a collector of traces (--traces), found none"
            raise HttpError(400, message, "bad_request")
        with self._locked() as layers:
            layer = layers.setdefault(f"{namespace}/{name or ''}", {})
            layer.update(given)
            for key in [key for key, value in layer.items() if value is None]:
                del layer[key]
        return self.told(namespace, name)

    def _of(self, endpoint: EndpointKey) -> tuple[dict[str, Any], str]:
        """What counts there, and which layer says how many more."""
        keys = (f"{endpoint[0]}/", f"{endpoint[0]}/{endpoint[1]}")
        found, owner = dict(self._first), ""
        for key in keys:
            layer = self._layers.get(key, {})
            owner = key if COUNT in layer else owner
            found.update(layer)
        return found, owner

    def _counted(self, owner: str) -> bool:
        """One more is traced, if there still is one to be."""
        with self._locked() as layers:
            left = layers.get(owner, {}).get(COUNT, 0)
            if left > 0:
                layers[owner][COUNT] = left - 1
        return bool(left)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[_Layers]:
        """What is set, to be changed; one process at a time."""
        assert self._path is not None, "there is a file where something is set"
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._look()
            yield self._layers
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps({key: layer for key, layer in self._layers.items() if layer}))
            new.replace(self._path)
            self._look()

    def _look(self) -> None:
        """Reads what any process has set."""
        self._looked_s = self._clock()
        if self._path is None:
            return
        try:
            with self._path.open() as file:
                status = os.fstat(file.fileno())
                if (status.st_ino, status.st_mtime_ns) != self._seen:
                    self._layers = json.load(file)
                    self._seen = status.st_ino, status.st_mtime_ns
        except FileNotFoundError:
            self._layers = {}


def _checked(name: str, value: object) -> str | int:
    """The value of a setting. Raises `HttpError` where it is none."""
    words = [str(word) for word in value] if isinstance(value, list) else [str(value)]
    word = words[0] if len(words) == 1 else ",".join(words)
    if name == LEVEL:
        if word in {OFF, TIMESTAMPS}:
            return word
        raise _wrong(name, f"{OFF} or {TIMESTAMPS} (tensors are in no trace: the prediction log has them)", word)
    least = {RATE: 0, COUNT: -1, FREQUENCY: 0}.get(name)
    if least is None:
        raise _wrong(name, f"one of {', '.join(NAMES)} (traces go to the gateway's collector)", word)
    try:
        number = int(word)
    except ValueError:
        number = least - 1
    if number < least:
        raise _wrong(name, f"an integer of at least {least}", word)
    if name == FREQUENCY and number:
        raise _wrong(name, "0: spans go to the collector each second, and to no file", word)
    return number


def _wrong(name: str, expected: str, found: str) -> HttpError:
    return HttpError(400, f"{name}: expected {expected}, got {found[:100]!r}", "bad_request")
