"""The time of day, for what is written into objects. Waits and durations use the event loop's own clock."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Says what time it is, in UTC."""


def utc_now() -> datetime:
    return datetime.now(UTC)
