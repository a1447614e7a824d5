"""Schedules in cron's notation, on the clock of a time zone: when they fall due, and what daylight saving does to them.

The notation is CronJob's: five fields (minute, hour, day of the month, month, day of the week), each `*`, `?`, a
number, a name (`jan`, `mon`), a range, a step (`*/5`, `8-18/2`, `5/10`: from 5 to the end) or a list of these; or one
of `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`. Where both days are given (neither
is `*` or `?`), one of them is enough.

**Daylight saving.** CronJob leaves a run out that falls into the hour that is skipped, and makes two of one that falls
into the hour that is repeated: a nightly batch at 02:30 is missing once a year, and there twice once. Here it is as in
the crons that people have on their machines (cronie, Debian's):

* A schedule of fixed hours comes once for each time on the clock: of a time that is skipped, at the end of the gap; of
  one that is repeated, the first time.
* A schedule whose hour begins with `*` is one of intervals and goes by the clock as it runs: nothing in a gap, and in
  an hour that is repeated all of it twice.

Pure: the moment comes in as an argument.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

YEARS_MAX = 8
"""So far is looked for the next moment: 29 February may be eight years away."""
MACROS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(r"^(?P<from>[*?]|[0-9]+|[a-z]+)(-(?P<to>[0-9]+|[a-z]+))?(/(?P<step>[0-9]+))?$")
_DAY = timedelta(days=1)


class _Bounds(NamedTuple):
    name: str
    least: int
    most: int
    names: Mapping[str, int]


_FIELDS = (
    _Bounds("minute", 0, 59, {}),
    _Bounds("hour", 0, 23, {}),
    _Bounds("day of the month", 1, 31, {}),
    _Bounds("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Bounds("day of the week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule; days of the week count from Sunday, 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    """Whether the day of the month is `*` or `?`."""
    any_weekday: bool
    of_intervals: bool
    """Whether the hour begins with `*`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `ValueError` where the text is no schedule, or one of days that there are never.

        >>> Cron.parse("*/30 8-9 * * mon").minutes
        (0, 30)
        """
        said = text.strip().lower()
        if said.startswith(("tz=", "cron_tz=")):
            raise ValueError("expected the time zone in timeZone, not in the schedule")
        if said.startswith("@") and said not in MACROS:
            raise ValueError(f"expected five fields or one of {', '.join(MACROS)}")
        words = MACROS.get(said, said).split()
        if len(words) != len(_FIELDS):
            fields = ", ".join(bounds.name for bounds in _FIELDS)
            raise ValueError(f"expected five fields ({fields}; found {len(words)})")
        values = [_values(word, bounds) for word, bounds in zip(words, _FIELDS, strict=True)]
        minutes, hours, days, months, weekdays = values
        any_day, any_weekday = _is_any(words[2]), _is_any(words[4])
        made = cls(
            tuple(sorted(minutes)), tuple(sorted(hours)), days, months, weekdays, any_day, any_weekday,
            words[1][0] in "*?",
        )  # fmt: skip
        if any_weekday and not any(day <= _LONGEST[month] for day in days for month in months):
            raise ValueError(f"expected a day that its month has (found day {min(days)} of month {min(months)})")
        return made

    def falls_on(self, day: date) -> bool:
        """Whether that day is one of its days."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_month and by_week if self.any_day or self.any_weekday else by_month or by_week

    def after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """The first time it falls due after `moment`, in UTC; `None` where that is never within eight years.

        >>> berlin = ZoneInfo("Europe/Berlin")
        >>> print(Cron.parse("30 2 * * *").after(datetime(2026, 3, 28, 12, tzinfo=UTC), berlin))  # 02:30 is skipped
        2026-03-29 01:00:00+00:00
        """
        start = moment.astimezone(zone).date() - _DAY
        days = (start + timedelta(days=number) for number in range(366 * YEARS_MAX + 2))
        return next((found for found in self._by_day(days, zone) if found > moment), None)

    def latest(self, until: datetime, after: datetime, zone: ZoneInfo) -> datetime | None:
        """The last time it fell due, at `until` at the latest and later than `after`; `None` where it did not."""
        first, last = after.astimezone(zone).date() - _DAY, until.astimezone(zone).date() + _DAY
        days = (last - timedelta(days=number) for number in range((last - first).days + 1))
        found = [moment for moment in self._latest_day(days, until, zone) if after < moment <= until]
        return max(found, default=None)

    def _by_day(self, days: Iterator[date], zone: ZoneInfo) -> Iterator[datetime]:
        """Its moments in order. Clocks set back across midnight mix those of two days, so two are looked at at once."""
        held: list[datetime] = []
        for day in days:
            here = self._moments(day, zone) if self.falls_on(day) else []
            yield from sorted(set(held) | {moment for moment in here if held and moment < held[-1]})
            held = [moment for moment in here if not held or moment > held[-1]]
        yield from held

    def _latest_day(self, days: Iterator[date], until: datetime, zone: ZoneInfo) -> list[datetime]:
        """The moments of the last day that has any until then, and of the day before that."""
        found: list[datetime] = []
        left = 2
        for day in days:
            if not left:
                break
            if self.falls_on(day):
                found += [moment for moment in self._moments(day, zone) if moment <= until]
            left -= bool(found)
        return found

    def _moments(self, day: date, zone: ZoneInfo) -> list[datetime]:
        """When it falls due on a day of its own, in UTC, in order."""
        found: set[datetime] = set()
        for hour in self.hours:
            for minute in self.minutes:
                wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                first, second = wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)
                if first > second:  # the clock never shows that time
                    if not self.of_intervals:
                        found.add(_end_of_gap(second, first, zone))
                    continue
                found.add(first)
                if self.of_intervals:
                    found.add(second)
        return sorted(found)


_LONGEST = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}


def _is_any(word: str) -> bool:
    return any(item in {"*", "?", "*/1"} for item in word.split(","))


def _values(word: str, bounds: _Bounds) -> frozenset[int]:
    values: set[int] = set()
    for item in word.split(","):
        match = _ITEM.match(item)
        if match is None:
            raise ValueError(f"expected {bounds.name} as *, a number, a range or a step such as */5 (found {item!r})")
        step = int(match["step"]) if match["step"] is not None else 1
        if step < 1:
            raise ValueError(f"expected {bounds.name} with a step of at least 1 (found {step})")
        if match["from"] in {"*", "?"}:
            if match["to"] is not None:
                raise ValueError(f"expected {bounds.name} as a range between numbers (found {item!r})")
            low, high = bounds.least, bounds.most
        else:
            low = _number(match["from"], bounds)
            open_end = bounds.most if match["step"] is not None else low
            high = _number(match["to"], bounds) if match["to"] is not None else open_end
        if low > high:
            raise ValueError(f"expected {bounds.name} as a range that rises (found {item!r})")
        values.update(range(low, high + 1, step))
    return frozenset(values)


def _number(word: str, bounds: _Bounds) -> int:
    value = bounds.names.get(word) if word.isalpha() else int(word)
    if value is None or not bounds.least <= value <= bounds.most:
        hint = "; Sunday is 0" if bounds.most == 6 and word == "7" else ""
        raise ValueError(f"expected {bounds.name} of {bounds.least} to {bounds.most} (found {word!r}{hint})")
    return value


def _end_of_gap(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The moment between the two (UTC) at which the clock jumps ahead."""
    offset = after.astimezone(zone).utcoffset()
    low, high = int(before.timestamp()), int(after.timestamp())
    while low < high:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            high = middle
        else:
            low = middle + 1
    return datetime.fromtimestamp(high, UTC)
