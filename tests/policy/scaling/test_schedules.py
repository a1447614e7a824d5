"""Schedules: local time, over midnight, over the change of the clocks; and what the kinds refuse."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from mizzen.kinds import InferenceEndpoint
from mizzen.kinds.scaling import Scaling, ScalingSchedule
from mizzen.policy.scaling.schedules import Bounds, Window, bounds

BERLIN = "Europe/Berlin"


def window(**fields) -> Window:
    return Window.of(ScalingSchedule.model_validate({"timeZone": BERLIN, "minReplicas": 3, **fields}))


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def least(one: Window, moment: str, ahead_s: float = 0.0) -> int:
    return bounds(1, 4, [one], at(moment), ahead_s).least


def test_a_window_is_in_local_time() -> None:
    office = window(start="08:00", end="18:00", days=["Mon", "Tue", "Wed", "Thu", "Fri"])
    assert least(office, "2026-01-05T06:59") == 1, "a Monday in winter: 07:59 in Berlin"
    assert least(office, "2026-01-05T07:00") == 3
    assert least(office, "2026-01-05T16:59") == 3
    assert least(office, "2026-01-05T17:00") == 1
    assert least(office, "2026-07-06T06:00") == 3, "a Monday in summer: 08:00 in Berlin"
    assert least(office, "2026-01-04T12:00") == 1, "a Sunday"


def test_a_window_over_midnight_belongs_to_the_day_it_begins() -> None:
    night = window(start="22:00", end="02:00", days=["Fri"])
    assert least(night, "2026-01-09T21:30") == 3, "Friday 22:30"
    assert least(night, "2026-01-10T00:30") == 3, "Saturday 01:30"
    assert least(night, "2026-01-10T01:00") == 1, "Saturday 02:00"
    assert least(night, "2026-01-09T00:30") == 1, "Friday 01:30 belongs to Thursday"


def test_the_hour_that_is_skipped_is_passed_over_and_the_one_that_comes_twice_holds_twice() -> None:
    small_hours = window(start="02:00", end="03:00")
    assert [least(small_hours, f"2026-03-29T{hour:02}:30") for hour in range(4)] == [1, 1, 1, 1], "02:30 is not there"
    assert [least(small_hours, f"2026-10-25T{hour:02}:30") for hour in range(4)] == [3, 3, 1, 1], "02:30 comes twice"


def test_workers_are_there_when_the_window_begins() -> None:
    office = window(start="08:00", end="18:00")
    assert least(office, "2026-01-05T06:58", ahead_s=180.0) == 3
    assert least(office, "2026-01-05T06:58", ahead_s=60.0) == 1
    assert least(office, "2026-01-05T16:59", ahead_s=180.0) == 3, "and not gone before it ends"


def test_of_several_the_highest_count_and_a_roof_is_never_below_the_floor() -> None:
    low, high = window(start="00:00", end="00:00"), window(start="08:00", end="18:00", minReplicas=9)
    found = bounds(1, 4, [low, high], at("2026-01-05T10:00"))
    assert found == Bounds(9, 9, "08:00 to 18:00 every day Europe/Berlin")
    raised = window(start="08:00", end="18:00", minReplicas=None, maxReplicas=20)
    assert bounds(1, 4, [raised], at("2026-01-05T10:00")) == Bounds(1, 20, "08:00 to 18:00 every day Europe/Berlin")
    assert bounds(1, 4, [], at("2026-01-05T10:00")) == Bounds(1, 4)


REFUSED = {
    "a zone that is none": ({"schedules": [{"timeZone": "Mars/Olympus", "start": "08:00", "end": "18:00", "minReplicas": 1}]}, "expected an IANA time zone"),
    "a way out of the zones' folder": ({"schedules": [{"timeZone": "../etc/passwd", "start": "08:00", "end": "18:00", "minReplicas": 1}]}, "expected an IANA time zone"),
    "a time that is none": ({"schedules": [{"start": "25:00", "end": "18:00", "minReplicas": 1}]}, "start"),
    "a window without bounds": ({"schedules": [{"start": "08:00", "end": "18:00"}]}, "expected minReplicas or maxReplicas"),
    "minimum above maximum": ({"minReplicas": 5, "maxReplicas": 3}, r"expected maxReplicas \(3\) to be at least minReplicas \(5\)"),
    "a window's minimum above its maximum": ({"schedules": [{"start": "08:00", "end": "18:00", "minReplicas": 5, "maxReplicas": 3}]}, r"\(3\) to be at least minReplicas"),
    "a target of zero": ({"targetConcurrency": 0}, "greater than or equal"),
    "a target of no time": ({"targetQueueDelay": "0s"}, "more than 0s"),
    "a target that is no number": ({"targetConcurrency": float("nan")}, "finite|greater|less"),
    "a panic longer than the stable window": ({"stableWindow": "10s", "panicWindow": "20s"}, "expected a panicWindow"),
    "a window of nothing": ({"stableWindow": "1s"}, "expected a stableWindow of 6s to 1h"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(case: str) -> None:
    scaling, message = REFUSED[case]
    with pytest.raises(ValidationError, match=message):
        Scaling.model_validate(scaling)
    with pytest.raises(ValidationError):
        InferenceEndpoint.model_validate({"spec": {"model": "late@production", "scaling": scaling}})
