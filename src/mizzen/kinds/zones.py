"""Local time in IANA time zones: what a schedule's "08:00 in Berlin" means. Pure: the moment comes in as an argument.

The zones are those of the machine (`/usr/share/zoneinfo`, or the package `tzdata` where that is absent).
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_S = 86400.0


class LocalMinute(NamedTuple):
    """A minute of a local week: `day` 0 is Monday, `minute` since midnight as the clock on the wall shows it."""

    day: int
    minute: int


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """The time zone. Raises `ValueError` where there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("expected an IANA time zone such as Europe/Berlin, Asia/Tokyo or UTC") from error


def local_minute(wall_s: float, name: str) -> LocalMinute:
    """The local minute at a moment (seconds since 1970, UTC).

    >>> local_minute(1767225600.0, "Asia/Tokyo")  # midnight of 1 January 2026 in UTC
    LocalMinute(day=3, minute=540)
    """
    local = datetime.fromtimestamp(wall_s, UTC).astimezone(zone(name))
    return LocalMinute(local.weekday(), local.hour * 60 + local.minute)
