"""Cron schedules: the notation, and each moment against a naive clock that is looked at every minute."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mizzen.kinds.cron import Cron

MINUTE = timedelta(minutes=1)

TURNS = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),  # half an hour back
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),  # a day without a midnight
    ("America/Sao_Paulo", datetime(2018, 2, 18, 2, tzinfo=UTC)),  # midnight twice
    ("America/St_Johns", datetime(1990, 10, 28, 2, 31, tzinfo=UTC)),  # back across midnight
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),  # a whole day skipped
    ("Asia/Kolkata", datetime(2026, 1, 1, tzinfo=UTC)),
]
"""Moments around which clocks change, each in its own way."""


def naive(cron: Cron, begin: datetime, end: datetime, zone: ZoneInfo) -> list[datetime]:
    """Looks at the clock on the wall every minute, and remembers what it has shown and what it has skipped."""
    found = []
    shown: set[datetime] = set()
    moment = begin - timedelta(days=2)
    last = moment.astimezone(zone).replace(tzinfo=None)
    while moment <= end:
        wall = moment.astimezone(zone).replace(tzinfo=None)
        skipped = []
        if wall > last + MINUTE:
            count = int((wall - last) / MINUTE)
            skipped = [last + number * MINUTE for number in range(1, count)]
        again = wall in shown
        due = _matches(cron, wall) and (cron.of_intervals or not again)
        due = due or (not cron.of_intervals and any(_matches(cron, each) for each in skipped))
        if due and begin < moment:
            found.append(moment)
        shown.add(wall)
        last, moment = wall, moment + MINUTE
    return found


def _matches(cron: Cron, wall: datetime) -> bool:
    return wall.minute in cron.minutes and wall.hour in cron.hours and cron.falls_on(wall.date())


def each(cron: Cron, begin: datetime, end: datetime, zone: ZoneInfo) -> list[datetime]:
    found, moment = [], begin
    while (following := cron.after(moment, zone)) is not None and following <= end:
        found.append(following)
        moment = following
    return found


fields = st.tuples(
    st.sampled_from(["0", "30", "*/20", "15,45", "59", "7-9"]),
    st.sampled_from(["0", "1", "2", "*", "*/3", "0-3", "23", "1,2"]),
    st.sampled_from(["*", "1", "28-31", "?", "4,30"]),
    st.sampled_from(["*", "3", "oct-dec", "*/2"]),
    st.sampled_from(["*", "0", "mon-fri", "sun"]),
).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(text=fields, turn=st.sampled_from(TURNS), offset=st.integers(0, 1800))
def test_every_moment_is_that_of_a_naive_clock(text: str, turn: tuple[str, datetime], offset: int) -> None:
    """Around each change of a clock `after` and `latest` find just the moments that a minute-by-minute watch finds."""
    name, middle = turn
    cron, zone = Cron.parse(text), ZoneInfo(name)
    begin, end = middle - timedelta(minutes=offset + 60), middle + timedelta(hours=30)
    expected = naive(cron, begin, end, zone)
    assert each(cron, begin, end, zone) == expected
    assert cron.latest(end, begin, zone) == (expected[-1] if expected else None)


@pytest.mark.parametrize(
    ("text", "zone", "since", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:59", ["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00"]),
        ("0 0 29 2 *", "UTC", "2096-03-01T00:00", ["2104-02-29T00:00"]),
        ("@weekly", "UTC", "2026-01-01T00:00", ["2026-01-04T00:00"]),
        ("0 12 13 * fri", "UTC", "2026-02-01T00:00", ["2026-02-06T12:00", "2026-02-13T12:00"]),
        ("0 12 */2 * fri", "UTC", "2026-02-01T00:00", ["2026-02-01T12:00", "2026-02-03T12:00", "2026-02-05T12:00", "2026-02-06T12:00"]),
        ("5/20 3 * * *", "UTC", "2026-02-01T00:00", ["2026-02-01T03:05", "2026-02-01T03:25", "2026-02-01T03:45"]),
    ],
)  # fmt: skip
def test_schedules_of_which_the_moments_are_known(text: str, zone: str, since: str, expected: list[str]) -> None:
    """Daylight saving, leap years over a century, the two kinds of days, as they are on paper."""
    cron, moment = Cron.parse(text), datetime.fromisoformat(since).replace(tzinfo=UTC)
    for wanted in expected:
        found = cron.after(moment, ZoneInfo(zone))
        assert found == datetime.fromisoformat(wanted).replace(tzinfo=UTC)
        moment = found


def test_the_last_moment_is_found_at_once_over_years() -> None:
    """A machine that was off for ten years asks for the last of five million moments."""
    until, after = datetime(2026, 1, 1, tzinfo=UTC), datetime(2016, 1, 1, tzinfo=UTC)
    assert Cron.parse("* * * * *").latest(until, after, ZoneInfo("Asia/Tokyo")) == until
    assert Cron.parse("0 0 29 2 *").latest(until, after, ZoneInfo("UTC")) == datetime(2024, 2, 29, tzinfo=UTC)
    assert Cron.parse("0 0 29 2 *").latest(until, datetime(2024, 3, 1, tzinfo=UTC), ZoneInfo("UTC")) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "five fields"),
        ("* * * *", "found 4"),
        ("60 * * * *", "expected minute of 0 to 59 (found '60')"),
        ("0 24 * * *", "hour of 0 to 23"),
        ("0 0 0 * *", "day of the month of 1 to 31"),
        ("0 0 * 13 *", "month of 1 to 12"),
        ("0 0 * * 7", "Sunday is 0"),
        ("0 0 * * moon", "day of the week of 0 to 6 (found 'moon')"),
        ("*/0 * * * *", "a step of at least 1"),
        ("9-3 * * * *", "a range that rises"),
        ("*-3 * * * *", "a range between numbers"),
        ("0 0 31 2 *", "a day that its month has"),
        ("every day", "five fields"),
        ("@dayly", "or one of @yearly"),
        ("TZ=UTC 0 0 * * *", "the time zone in timeZone"),
        ("-1 0 * * *", "minute as *, a number"),
    ],
)
def test_what_is_no_schedule_is_told_with_its_field(text: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        Cron.parse(text)
    assert said in str(error.value)
