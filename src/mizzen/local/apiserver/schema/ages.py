"""Times and durations as Kubernetes prints them: `45s`, `5m12s`, `3h`, `2d4h`, `400d`."""

import re
from datetime import UTC, datetime

_TIME = re.compile(r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d+))?(Z|[+-]\d{2}:\d{2})$")
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def parsed_time(text: str | None) -> datetime | None:
    """The time an RFC 3339 text says; `None` where it says none."""
    match = _TIME.match(text or "")
    if match is None:
        return None
    fraction = (match[2] or "0")[:6].ljust(6, "0")
    zone = "+00:00" if match[3] == "Z" else match[3]
    try:
        return datetime.fromisoformat(f"{match[1]}.{fraction}{zone}").astimezone(UTC)
    except ValueError:
        return None


def human_duration(duration_s: float) -> str:
    """A duration with two or three significant figures, as `kubectl get` shows it.

    >>> human_duration(90), human_duration(200), human_duration(90000), human_duration(200000)
    ('90s', '3m20s', '25h', '2d7h')
    """
    seconds = int(duration_s)
    if seconds < -1:
        return "<invalid>"
    if seconds < 2 * _MINUTE:
        return f"{max(seconds, 0)}s"
    for limit, unit, name, part, part_name in (
        (10 * _MINUTE, _MINUTE, "m", 1, "s"), (3 * _HOUR, _MINUTE, "m", 0, ""), (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
        (2 * _DAY, _HOUR, "h", 0, ""), (8 * _DAY, _DAY, "d", _HOUR, "h"), (2 * _YEAR, _DAY, "d", 0, ""),
        (8 * _YEAR, _YEAR, "y", _DAY, "d"),
    ):  # fmt: skip
        if seconds < limit:
            rest = seconds % unit // part if part else 0
            return f"{seconds // unit}{name}{f'{rest}{part_name}' if rest else ''}"
    return f"{seconds // _YEAR}y"


def age(text: str | None, now: datetime) -> str:
    """How long ago that time was; `<unknown>` where there is none."""
    then = parsed_time(text)
    return "<unknown>" if then is None else human_duration((now - then).total_seconds())
