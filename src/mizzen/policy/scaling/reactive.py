"""Knative's stable and panic windows, over any need.

The need for workers over the stable window (60 s) decides; the need over the panic window (6 s) decides, too, while it
is twice what is ready or more, and until a stable window has passed since it last was. During a panic the number only
grows (the ratchet). It grows to at most `scale_up_rate` times what is ready, and shrinks to no less than what is ready
divided by `scale_down_rate`, at once.

Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go. `kpa` is this with Knative's own need; a straightforward
transcription of the source is the oracle in its test.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Windows:
    """How the need is followed. Knative's defaults."""

    stable_s: float = 60.0
    panic_s: float = 6.0
    panic_threshold: float = 2.0
    scale_up_rate: float = 1000.0
    scale_down_rate: float = 2.0


KNATIVE = Windows()


class Panic(NamedTuple):
    """Since when (the last time the threshold was crossed), and the ratchet. `None`: no panic."""

    since: float | None = None
    most: int = 0


CALM = Panic()


def begin(ready: int, now: float) -> Panic:
    """Where this process takes over workers that are there already: it knows no history, so it takes none away before a
    stable window has passed.
    """
    return Panic(now, ready) if ready > 1 else CALM


def follow(
    windows: Windows, panic: Panic, ready: int, stable: float, burst: float, now: float, activation: int = 1
) -> tuple[Panic, int]:
    """The new state and the number wanted, for the needs `stable` and `burst` over the two windows. `activation`: where
    anything is needed at all, at least so many.
    """
    there = max(1, ready)
    up = math.ceil(windows.scale_up_rate * there)
    down = math.floor(there / windows.scale_down_rate)
    wanted = _within(math.ceil(stable), down, up, activation)
    over = math.ceil(burst) / there >= windows.panic_threshold
    if over:
        panic = Panic(now, panic.most)
    elif panic.since is not None and panic.since + windows.stable_s < now:
        panic = CALM
    if panic.since is not None:
        wanted = max(wanted, _within(math.ceil(burst), down, up, activation), panic.most)
        panic = Panic(panic.since, wanted)
    return panic, wanted


def _within(need: int, down: int, up: int, activation: int) -> int:
    wanted = min(max(need, down), up)
    return max(wanted, activation) if need > 0 and activation > 1 else wanted
