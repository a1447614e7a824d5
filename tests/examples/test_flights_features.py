"""No feature of a flight uses anything at or after its scheduled departure, or its own end; and each is what it says.

Two independent proofs, on real flights and on generated ones: everything that happens from a moment on is changed, and
the rows of the flights due until then stay the same; and the features of single rows are computed again by loops that
look at every flight.
"""

import datetime as dt
from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from flights import ATLANTIC, DAY, FACTS, HOUR, NEVER, Flown, Tables, features, flown, raw, scheduled
from hypothesis import given, settings
from hypothesis import strategies as st

RAW = raw()
NEW_YORK = ZoneInfo("America/New_York")


def sample(days: int, month: int = 2, first: int = 8) -> Tables:
    """Some days of real flights; the eighth of February and after: a snow storm, with hundreds cancelled."""
    day = pd.to_datetime(RAW.flights[["year", "month", "day"]])
    start = pd.Timestamp(2013, month, first)
    chosen = (day >= start) & (day < start + pd.Timedelta(days=days))
    return Tables(RAW.flights[chosen].reset_index(drop=True), RAW.weather, RAW.planes, RAW.airports)


def row_columns(tables: Tables) -> pd.DataFrame:
    """The features in the order of the flights' table."""
    rows = features(tables).drop(columns=["arr_delay", "late"])
    keys = ["scheduled_at", "carrier", "flight", "origin"]
    times = pd.to_datetime(flown(tables).due, unit="s", utc=True).astype("datetime64[us, UTC]")
    order = pd.DataFrame({"scheduled_at": times, **{k: tables.flights[k] for k in keys[1:]}})
    return order.merge(rows, on=keys, how="left", validate="one_to_one")


# -- proof by perturbation


def changed_from(tables: Tables, moment: int, random: np.random.Generator) -> Tables:
    """The same world until `moment`; from then on other departures, landings, cancellations, diversions and weather."""
    times, flights = flown(tables), tables.flights.copy()
    leaves_later = (times.left >= moment) | (times.left == NEVER)
    delay = np.maximum(random.integers(-20, 300, len(flights)), np.ceil((moment - times.due) / 60)).astype(np.float64)
    cancelled = random.random(len(flights)) < 0.2
    flights.loc[leaves_later, "dep_delay"] = np.where(cancelled, np.nan, delay)[leaves_later]
    flights.loc[leaves_later, "arr_time"] = np.where(cancelled, np.nan, random.integers(0, 24, len(flights)) * 100.0)[
        leaves_later
    ]
    lands_later = leaves_later | (times.landed >= moment) | (times.landed == NEVER)
    flights.loc[lands_later, "arr_delay"] = np.where(cancelled, np.nan, random.normal(0, 90, len(flights)))[lands_later]
    flights.loc[lands_later & ~leaves_later & cancelled, "arr_time"] = np.nan
    weather = tables.weather.copy()
    observed = pd.to_datetime(weather["time_hour"], utc=True).astype("datetime64[s, UTC]").astype("int64").to_numpy()
    for name in ("temp", "wind_speed", "precip", "visib", "pressure"):
        weather.loc[observed >= moment, name] = random.normal(0, 100, int((observed >= moment).sum()))
    return Tables(flights, weather, tables.planes, tables.airports)


def expect_unchanged_until(tables: Tables, moment: int, seed: int) -> int:
    """Returns how many rows of later flights did change."""
    before, after = row_columns(tables), row_columns(changed_from(tables, moment, np.random.default_rng(seed)))
    until = flown(tables).due <= moment
    pd.testing.assert_frame_equal(before[until], after[until])
    return int((before[~until] != after[~until]).any(axis=1).sum())


@pytest.mark.parametrize("hour", [9, 14, 20, 33])
def test_real_flights_do_not_know_what_happens_later(hour: int) -> None:
    """At four moments of a storm; and the change is real: most later rows are other ones."""
    tables = sample(2)
    start = int(dt.datetime(2013, 2, 8, tzinfo=NEW_YORK).timestamp())
    changed = expect_unchanged_until(tables, start + hour * HOUR, seed=hour)
    assert changed > 100


def test_no_flight_knows_how_it_went_itself() -> None:
    """A flight may leave before it is due: its own delay is the answer, and no feature may tell it."""
    tables = sample(1)
    before = row_columns(tables)
    early = np.flatnonzero((tables.flights["dep_delay"] < 0).to_numpy())
    for index in np.random.default_rng(0).choice(early, 6, replace=False):
        flights = tables.flights.copy()
        flights.loc[index, ["dep_delay", "arr_delay"]] = [200.0, 240.0]
        after = row_columns(Tables(flights, tables.weather, tables.planes, tables.airports))
        pd.testing.assert_series_equal(before.loc[index], after.loc[index])


@st.composite
def worlds(draw: st.DrawFn) -> Tables:
    """A day of few flights between few places, with ties, early departures, cancellations and diversions."""
    count = draw(st.integers(2, 14))
    minutes = draw(st.lists(st.integers(0, 20 * 60 // 15), min_size=count, max_size=count))
    pick = st.sampled_from
    rows = []
    for number, quarter in enumerate(minutes):
        minute = quarter * 15
        left = draw(st.one_of(st.none(), st.integers(-30, 200)))
        landed = None if left is None else draw(st.one_of(st.none(), st.integers(0, 23)))
        due = dt.datetime(2013, 7, 1, minute // 60, minute % 60, tzinfo=NEW_YORK)
        hour = due.replace(minute=0).astimezone(dt.UTC)
        rows.append({
            "year": 2013, "month": 7, "day": 1, "hour": minute // 60, "minute": minute % 60,
            "sched_dep_time": minute // 60 * 100 + minute % 60, "sched_arr_time": draw(st.integers(0, 23)) * 100 + 30,
            "dep_delay": np.nan if left is None else float(left),
            "arr_time": np.nan if landed is None else float(landed * 100 + 15),
            "arr_delay": np.nan if landed is None else float(draw(st.integers(-30, 100))),
            "carrier": draw(pick(["AA", "UA"])), "flight": number, "tailnum": draw(pick(["N1", "N2", None])),
            "origin": draw(pick(["EWR", "JFK"])), "dest": draw(pick(["LAX", "SJU"])), "distance": 1000,
            "time_hour": hour.strftime("%Y-%m-%dT%H:%M:%SZ"),
        })  # fmt: skip
    weather = RAW.weather[RAW.weather["time_hour"].str.startswith(("2013-07-01", "2013-07-02"))].reset_index(drop=True)
    return Tables(pd.DataFrame(rows), weather, RAW.planes.head(2).assign(tailnum=["N1", "N3"]), RAW.airports)


@given(worlds(), st.integers(0, 24 * 4), st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_generated_flights_do_not_know_what_happens_later(tables: Tables, quarter: int, seed: int) -> None:
    """The same on worlds that real ones do not come near."""
    start = int(dt.datetime(2013, 7, 1, tzinfo=NEW_YORK).timestamp())
    expect_unchanged_until(tables, start + quarter * HOUR // 4, seed)


# -- proof by an oracle


class Oracle:
    """The features of one row at a time, by looking at every flight."""

    def __init__(self, tables: Tables) -> None:
        self.tables, self.times = tables, flown(tables)
        self.rows = tables.flights.to_dict("records")

    def features(self, index: int) -> dict[str, float]:
        row, t = self.rows[index], int(self.times.due[index])
        found: dict[str, float] = {}
        everyone: Callable[[dict], bool] = lambda other: True
        at = lambda *names: lambda other: all(other[name] == row[name] for name in names)
        for name, same, hours in (
            ("city", everyone, [1]), ("origin", at("origin"), [1, 3]), ("carrier", at("carrier"), [2]),
            ("origin_carrier", at("origin", "carrier"), [2, 6]), ("dest", at("dest"), [3]),
        ):  # fmt: skip
            for hour in hours:
                left = self.left(index, same, t - hour * HOUR, t)
                delays = [min(max(self.times.departure_delay[j], -30), 240) for j in left]
                late = [self.times.departure_delay[j] > 15 for j in left]
                found[f"{name}_delay_{hour}h"] = sum(delays) / (len(left) + 1)
                found[f"{name}_late_{hour}h"] = (sum(late) + 0.2) / (len(left) + 1)
        found["city_left_1h"] = len(self.left(index, everyone, t - HOUR, t))
        for name, same in (("origin", at("origin")), ("origin_carrier", at("origin", "carrier")), ("dest", at("dest"))):
            found[f"{name}_overdue"] = sum(self.overdue(j, t) for j in range(len(self.rows)) if same(self.rows[j]))
        for name, same in (
            ("carrier", at("carrier")), ("dest", at("dest")), ("route", at("origin", "dest", "carrier")),
            ("flight", at("carrier", "flight", "origin")), ("hour", at("origin", "hour")),
        ):  # fmt: skip
            landed = self.landed(index, same, t - 28 * DAY, t)
            late = [self.times.arrival_delay[j] > 15 for j in landed]
            found[f"{name}_record"] = (sum(late) + 2.2) / (len(landed) + 10)
        due = [self.times.due[j] for j in range(len(self.rows)) if self.rows[j]["origin"] == row["origin"]]
        found["due_next_hour"] = sum(t <= moment < t + HOUR for moment in due)
        found["due_last_hour"] = sum(t - HOUR <= moment < t for moment in due)
        return found | self.plane(index, t) | self.weather(row["origin"], t)

    def left(self, index: int, same: Callable[[dict], bool], start: int, end: int) -> list[int]:
        return [
            j for j, other in enumerate(self.rows) if j != index and same(other) and start <= self.times.left[j] < end
        ]

    def landed(self, index: int, same: Callable[[dict], bool], start: int, end: int) -> list[int]:
        arrived = ~np.isnan(self.times.arrival_delay)
        return [
            j for j, other in enumerate(self.rows)
            if j != index and same(other) and arrived[j] and max(start, 0) <= self.times.landed[j] < end
        ]  # fmt: skip

    def overdue(self, j: int, t: int) -> bool:
        due, left = self.times.due[j], self.times.left[j]
        return bool(due < t <= due + 3 * HOUR and (left == NEVER or left >= t))

    def plane(self, index: int, t: int) -> dict[str, float]:
        tail = self.rows[index]["tailnum"]
        mine = [
            j for j, other in enumerate(self.rows) if j != index and isinstance(tail, str) and other["tailnum"] == tail
        ]
        left = max(((self.times.left[j], j) for j in mine if t - DAY < self.times.left[j] < t), default=None)
        landed = max(((self.times.landed[j], j) for j in mine if t - DAY < self.times.landed[j] < t), default=None)
        return {
            "plane_hours_since_left": -1.0 if left is None else (t - left[0]) / HOUR,
            "plane_last_departure_delay": 0.0 if left is None else self.times.departure_delay[left[1]],
            "plane_hours_since_landed": -1.0 if landed is None else (t - landed[0]) / HOUR,
            "plane_last_arrival_delay": 0.0
            if landed is None
            else float(np.nan_to_num(self.times.arrival_delay[landed[1]])),
        }

    def weather(self, origin: str, t: int) -> dict[str, float]:
        mine = self.tables.weather[self.tables.weather["origin"] == origin]
        at = pd.to_datetime(mine["time_hour"], utc=True).map(lambda moment: int(moment.timestamp()))
        before = mine[(at < t) & (at >= t - 3 * HOUR)]
        rain = mine[(at < t) & (at >= t - 6 * HOUR)]["precip"].clip(lower=0).sum()
        if before.empty:
            return {"temp": -1.0, "visib": -1.0, "rain_6h": float(rain)}
        last = before.loc[at[before.index].idxmax()]
        return {
            "temp": float(np.nan_to_num(last["temp"], nan=-1.0)),
            "visib": float(last["visib"]),
            "rain_6h": float(rain),
        }


def expect_oracle(tables: Tables, indices: list[int]) -> None:
    rows, oracle = row_columns(tables), Oracle(tables)
    for index in indices:
        expected = oracle.features(index)
        found = {name: float(rows.loc[index, name]) for name in expected}
        assert found == pytest.approx(expected, abs=1e-9)


def test_features_of_real_flights_are_what_they_say() -> None:
    """Twenty flights of three days of the storm."""
    tables = sample(3)
    expect_oracle(tables, np.random.default_rng(1).choice(len(tables.flights), 20, replace=False).tolist())


@given(worlds())
@settings(max_examples=10, deadline=None)
def test_features_of_generated_flights_are_what_they_say(tables: Tables) -> None:
    """Every flight of worlds that real ones do not come near."""
    expect_oracle(tables, list(range(len(tables.flights))))


# -- times


def local_landing(flight: dict, left: int, clock: float) -> int:
    """The first moment after `left` whose clock at the destination reads `clock`, minute by minute."""
    airports = dict(zip(RAW.airports["faa"], RAW.airports["tzone"], strict=True)) | ATLANTIC
    zone = ZoneInfo(airports[flight["dest"]])
    hour, minute = divmod(int(clock), 100)
    moment = left
    while True:
        local = dt.datetime.fromtimestamp(moment, zone)
        if (local.hour, local.minute) == (hour % 24, minute):
            return moment
        moment += 60


@pytest.mark.parametrize(("month", "day"), [(2, 8), (3, 10), (11, 3), (7, 22)])
def test_times_are_those_of_the_calendar(month: int, day: int) -> None:
    """Past midnight, across zones, on the days when clocks change: against Python's own calendar."""
    tables = sample(1, month, day)
    times = flown(tables)
    for index in np.random.default_rng(2).choice(len(tables.flights), 60, replace=False):
        flight = tables.flights.iloc[index].to_dict()
        due = dt.datetime(2013, flight["month"], flight["day"], flight["hour"], flight["minute"], tzinfo=NEW_YORK)
        assert times.due[index] == due.timestamp()
        if times.left[index] != NEVER:
            local = dt.datetime.fromtimestamp(times.left[index], NEW_YORK)
            assert local.hour * 100 + local.minute == flight["dep_time"] % 2400
        if times.landed[index] != NEVER:
            assert times.landed[index] == local_landing(flight, times.left[index], flight["arr_time"])


def test_landings_agree_with_time_in_the_air() -> None:
    """Over all flights: from departure to landing is a little more than the time in the air."""
    times: Flown = flown(RAW)
    ground = (times.landed - times.left) / 60 - RAW.flights["air_time"].to_numpy()
    known = ~np.isnan(ground) & (times.landed != NEVER)
    share = np.mean((ground[known] > 0) & (ground[known] < 240))
    assert share > 0.995


def test_the_dataset_is_whole() -> None:
    """Every flight, in order, without a gap in a feature; `late` is null where the flight did not arrive."""
    months = list(scheduled())
    rows = pd.concat(months, ignore_index=True)
    assert len(months) == 12
    assert len(rows) == 336_776
    assert rows["scheduled_at"].is_monotonic_increasing
    assert not rows.drop(columns=list(FACTS)).isna().to_numpy().any()
    assert int(rows["late"].isna().sum()) == int(RAW.flights["arr_delay"].isna().sum()) == 9430
    assert int(rows["late"].sum()) == int((RAW.flights["arr_delay"] > 15).sum())
