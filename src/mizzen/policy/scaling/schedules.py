"""Bounds by local time: of all windows that hold now, or will when a worker asked for now is ready, the highest.

The upper bound of the endpoint is raised by a window, never lowered below the lower one; a window without a bound of
its own leaves that bound as it is. Looking ahead by the time to ready, the workers of a window are there when it
begins.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mizzen.kinds.scaling import ScalingSchedule
from mizzen.kinds.zones import DAYS, LocalMinute, local_minute


@dataclass(frozen=True, slots=True)
class Window:
    """A schedule in numbers: `days` 0 is Monday; minutes since local midnight."""

    zone: str
    days: frozenset[int]
    start: int
    end: int
    min_replicas: int | None
    max_replicas: int | None
    words: str

    @classmethod
    def of(cls, schedule: ScalingSchedule) -> "Window":
        days = frozenset(DAYS.index(day) for day in schedule.days)
        named = "every day" if len(days) == len(DAYS) else ",".join(DAYS[day] for day in sorted(days))
        return cls(
            schedule.time_zone, days, _minutes(schedule.start), _minutes(schedule.end),
            schedule.min_replicas, schedule.max_replicas,
            f"{schedule.start} to {schedule.end} {named} {schedule.time_zone}",
        )  # fmt: skip

    def holds(self, at: LocalMinute) -> bool:
        """Whether the window is open in that minute of the local week."""
        if self.start < self.end:
            return at.day in self.days and self.start <= at.minute < self.end
        after, before = at.day in self.days and at.minute >= self.start, (at.day - 1) % 7 in self.days
        return after or (before and at.minute < self.end)


@dataclass(frozen=True, slots=True)
class Bounds:
    """From, to, and the window that says so, in words."""

    least: int
    most: int
    words: str = ""


def bounds(
    least: int,
    most: int,
    windows: Sequence[Window],
    wall_s: float,
    ahead_s: float = 0.0,
    local: Callable[[float, str], LocalMinute] = local_minute,
) -> Bounds:
    """The bounds that hold now, for workers that will be ready `ahead_s` from now."""
    moments = (wall_s, wall_s + ahead_s) if ahead_s > 0 else (wall_s,)
    now = [one for one in windows if one.holds(local(wall_s, one.zone))]
    soon = [one for one in windows if any(one.holds(local(at, one.zone)) for at in moments)]
    floor = _highest((one.min_replicas, one.words) for one in soon)
    roof = _highest((one.max_replicas, one.words) for one in now)
    least_now, words = max((least, ""), floor, key=lambda pair: pair[0]) if floor is not None else (least, "")
    if roof is not None:
        most, words = roof[0], words or roof[1]
    return Bounds(least_now, max(most, least_now), words)


def _highest(pairs: Iterable[tuple[int | None, str]]) -> tuple[int, str] | None:
    found = [(number, words) for number, words in pairs if number is not None]
    return max(found, key=lambda pair: pair[0], default=None)


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
