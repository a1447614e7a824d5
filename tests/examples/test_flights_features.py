"""No feature of a flight uses what was not known at its scheduled departure, nor its own end; and each is what it says.

Independent proofs, on real flights and on generated ones. Everything that happens from a moment on is changed, and the
rows of the flights due until then stay the same. Everything that becomes known later, though it happened before, is
changed in the sources of the views, and they stay the same too. And the features of single rows are computed again by
loops that look at every flight.
"""

import datetime as dt
from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from flights import (
    ATLANTIC,
    DAY,
    FACTS,
    FEED_S,
    HOUR,
    NEVER,
    Flown,
    Tables,
    flown,
    raw,
    scheduled,
    timetable,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.examples.known import Sources, as_known, sources_of, table, views

from mizzen.data.features.definition import definition_of
from mizzen.data.features.pointintime import Clocks, InMemory, Use, join

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
    rows = as_known(tables).drop(columns=["arr_delay", "late"])
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
    arrival_delay = np.round(random.normal(0, 90, len(flights)))
    flights.loc[lands_later, "arr_delay"] = np.where(cancelled, np.nan, arrival_delay)[lands_later]
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


# -- proof by the second clock


def changed_where_known_later(sources: Sources, moment: int, random: np.random.Generator) -> tuple[Sources, int]:
    """Other values wherever they became known after `moment`, though they happened before; and in how many rows."""
    changed, late = {}, 0
    for name, rows in sources.items():
        known = rows["known_at"].astype("datetime64[s, UTC]").astype("int64").to_numpy() > moment
        for column in ("waiting", "delay", "late", "dep_delay", "arr_delay", "temp", "precip"):
            if column in rows:
                other = pd.array(random.integers(-20, 200, len(rows)), rows[column].dtype)
                rows = rows.assign(**{column: rows[column].mask(known, pd.Series(other, rows.index))})  # noqa: PLW2901
        happened = rows.select_dtypes("datetimetz").drop(columns=["known_at", "published_at"], errors="ignore")
        late += int((known & (happened.iloc[:, 0].astype("datetime64[s, UTC]").astype("int64") <= moment)).sum())
        changed[name] = rows
    return changed, late


@pytest.mark.parametrize("hour", [9, 14, 20, 33])
def test_real_flights_do_not_know_what_is_told_later(hour: int) -> None:
    """Cancelled and late flights of a storm were due before, and nobody knew; neither do the features."""
    tables = sample(2)
    moment = int(dt.datetime(2013, 2, 8, tzinfo=NEW_YORK).timestamp()) + hour * HOUR
    sources = sources_of(tables)
    changed, late = changed_where_known_later(sources, moment, np.random.default_rng(hour))
    before, after = as_known(tables, sources), as_known(tables, changed)
    until = (before["scheduled_at"] <= pd.Timestamp(moment, unit="s", tz="UTC")).to_numpy()
    pd.testing.assert_frame_equal(before[until], after[until])
    assert late > 0
    assert (before[~until] != after[~until]).any(axis=1).sum() > 100


def test_without_the_second_clock_they_would_know() -> None:
    """The proof can fail: with event time alone, the overdue flights of an ordinary day are those that never left."""
    tables = sample(1, month=9, first=17)
    rows = {name: InMemory(table(frame)) for name, frame in sources_of(tables).items()}
    uses = [Use(definition_of(view), rows[view.spec.source.dataset or ""]) for view in views()]
    spine = table(timetable(tables))
    honest, leaking = (
        join(spine, uses, Clocks("scheduled_at", everything=everything)).to_pandas()["origin_overdue_3h"]
        for everything in (False, True)
    )
    assert honest.mean() > 3 * leaking.mean()


# -- proof by an oracle


class Oracle:
    """The features of one row at a time, by looking at every flight."""

    def __init__(self, tables: Tables) -> None:
        self.tables, self.times = tables, flown(tables)
        self.rows = tables.flights.to_dict("records")
        self.read = lambda moment: (moment // FEED_S + 1) * FEED_S

    def features(self, index: int) -> dict[str, float]:
        row, t = self.rows[index], int(self.times.due[index])
        at = lambda *names: lambda other: all(other[name] == row[name] for name in names)
        everyone: Callable[[dict], bool] = lambda other: True
        found: dict[str, float] = {
            "city_overdue_1h": self.overdue(everyone, t, 1),
            "city_overdue_3h": self.overdue(everyone, t, 3),
            "city_delay": mean(self.gone(everyone, t, 1), 0.0),
            "origin_overdue_3h": self.overdue(at("origin"), t, 3),
            "origin_delay_1h": mean(self.gone(at("origin"), t, 1), 0.0),
            "origin_delay_3h": mean(self.gone(at("origin"), t, 3), 0.0),
            "origin_late": mean([delay > 15 for delay in self.gone(at("origin"), t, 3)], 0.2),
            "carrier_overdue": self.overdue(at("origin", "carrier"), t, 3),
            "carrier_delay_6h": mean(self.gone(at("origin", "carrier"), t, 6), 0.0),
            "carrier_left": len(self.gone(at("origin", "carrier"), t, 2)),
        }
        for name, same in (
            ("carrier_record", at("carrier")),
            ("route_record", at("origin", "dest", "carrier")),
            ("flight_record", at("carrier", "flight", "origin")),
        ):
            found[name] = mean(self.published(same, t), 0.22)
        return found | self.plane(row["tailnum"], t) | self.weather(row["origin"], t)

    def known_left(self, j: int, t: int) -> bool:
        left, due = self.times.left[j], self.times.due[j]
        return bool(left != NEVER and self.read(max(left, due)) <= t)

    def overdue(self, same: Callable[[dict], bool], t: int, hours: int) -> int:
        return sum(
            bool(same(other) and t - hours * HOUR < self.times.due[j] <= t and self.read(self.times.due[j]) <= t)
            - bool(same(other) and t - hours * HOUR < self.times.due[j] <= t and self.known_left(j, t))
            for j, other in enumerate(self.rows)
        )

    def gone(self, same: Callable[[dict], bool], t: int, hours: int) -> list[float]:
        """Delays of those that were due within the hours and are known to have left."""
        return [
            float(np.clip(self.times.departure_delay[j], -30, 240)) for j, other in enumerate(self.rows)
            if same(other) and t - hours * HOUR < self.times.due[j] <= t and self.known_left(j, t)
        ]  # fmt: skip

    def published(self, same: Callable[[dict], bool], t: int) -> list[bool]:
        """Whether those were late that landed within four whole days and weeks, as far as it is published."""
        tail = (t - 28 * DAY) // DAY * DAY
        return [
            bool(self.times.arrival_delay[j] > 15) for j, other in enumerate(self.rows)
            if same(other) and not np.isnan(self.times.arrival_delay[j]) and self.times.landed[j] != NEVER
            and tail < self.times.landed[j] <= t
            and (max(self.times.landed[j], self.times.due[j]) // DAY + 1) * DAY <= t
        ]  # fmt: skip

    def plane(self, tail: object, t: int) -> dict[str, float]:
        mine = [j for j, other in enumerate(self.rows) if isinstance(tail, str) and other["tailnum"] == tail]
        left = [(self.times.left[j], self.times.departure_delay[j]) for j in mine
                if self.known_left(j, t) and t - DAY < self.times.left[j] <= t]  # fmt: skip
        landed = [(self.times.landed[j], self.times.arrival_delay[j]) for j in mine
                  if self.times.landed[j] != NEVER and t - DAY < self.times.landed[j] <= t
                  and self.read(max(self.times.landed[j], self.times.due[j])) <= t]  # fmt: skip
        return {
            "plane_left_s": t - max(left)[0] if left else -1.0,
            "plane_landed_s": t - max(landed)[0] if landed else -1.0,
        }

    def weather(self, origin: str, t: int) -> dict[str, float]:
        mine = self.tables.weather[self.tables.weather["origin"] == origin]
        at = pd.to_datetime(mine["time_hour"], utc=True).map(lambda moment: int(moment.timestamp()))
        known = at.map(self.read) <= t
        before = mine[known & (at > t - 3 * HOUR)]
        rain = mine[known & (at > t - 6 * HOUR)]["precip"].clip(lower=0).sum()
        if before.empty:
            return {"temp": -1.0, "visib": -1.0, "rain_6h": float(rain)}
        last = before.loc[at[before.index].idxmax()]
        return {
            "temp": float(np.nan_to_num(last["temp"], nan=-1.0)),
            "visib": float(last["visib"]),
            "rain_6h": float(rain),
        }


def mean(values: list, otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


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
    assert not rows.drop(columns=list(FACTS), errors="ignore").isna().to_numpy().any()
    assert int(rows["late"].isna().sum()) == int(RAW.flights["arr_delay"].isna().sum()) == 9430
    assert int(rows["late"].sum()) == int((RAW.flights["arr_delay"] > 15).sum())
