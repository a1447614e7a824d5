"""Time, twice: a wall clock for what people read, a steady one for what is counted.

The steady clock is that of the boot, the same in every process of it, so a moment that a shim wrote down is still exact
after the node was restarted, whatever happened to the wall clock meanwhile. After a reboot only the wall clock is left.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Moment(NamedTuple):
    """`wall`: seconds since the epoch. `steady`: seconds of the boot's monotonic clock."""

    wall: float
    steady: float

    def rfc3339(self) -> str:
        """As `metav1.Time` is written."""
        return datetime.fromtimestamp(self.wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Clock = Callable[[], Moment]


def now() -> Moment:
    """This moment, by the machine's clocks."""
    return Moment(time.time(), time.monotonic())


def recall(then: Moment, boot: str, present: Moment) -> Moment:
    """A moment that was written down in the boot `boot`, on today's clocks.

    In another boot the steady clock started anew: it is set by how long ago the wall clock says it was, and never in
    the future, so that a clock set back cannot make anything wait longer than it would from now.
    """
    if boot == boot_id() and then.steady <= present.steady:
        return then
    return Moment(then.wall, present.steady - max(present.wall - then.wall, 0.0))


def boot_id() -> str:
    """Tells one boot of the machine from another."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))
