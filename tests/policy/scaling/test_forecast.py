"""The forecast: it learns a daily peak, follows a ramp, is silent where it does not help, and is not hurt by clocks."""

import math
import random

from mizzen.policy.scaling.forecast import BUCKET_S, DAY_S, Forecaster

AHEAD_S = 120.0


def play(forecaster: Forecaster, rate_of, days: float, seed: int = 5) -> list[tuple[float, float, str]]:
    """Feeds arrivals by chance; (when, forecast for then, by whom)."""
    chance, said = random.Random(seed), []
    for bucket in range(int(days * DAY_S / BUCKET_S)):
        now = bucket * BUCKET_S
        mean = rate_of(now) * BUCKET_S
        arrivals = max(0.0, chance.gauss(mean, math.sqrt(mean)))
        forecaster.add(now, now, arrivals, AHEAD_S)
        ahead = forecaster.ahead()
        if ahead is not None:
            said.append((now + AHEAD_S, ahead.rate_per_s, ahead.expert))
    return said


def peaks(now: float) -> float:
    """20 a second, and 100 from 09:00 to 09:10 every day."""
    return 100.0 if 9 * 3600 <= now % DAY_S < 9 * 3600 + 600 else 20.0


def test_a_peak_of_every_day_is_expected_before_it_begins() -> None:
    said = play(Forecaster(), peaks, 2.4)
    begins = 2 * DAY_S + 9 * 3600
    before = [(rate, expert) for at, rate, expert in said if begins <= at < begins + 60]
    assert min(rate for rate, _ in before) > 80.0
    assert {expert for _, expert in before} == {"season"}
    first_day = [rate for at, rate, _ in said if 9 * 3600 <= at < 9 * 3600 + 60]
    assert max(first_day) < 30.0, "nobody could know"


def test_a_steady_load_is_forecast_a_little_high_and_not_more() -> None:
    said = [rate for at, rate, _ in play(Forecaster(), lambda _: 50.0, 1.0) if at > 3600]
    assert 50.0 < sum(said) / len(said) < 56.0


def test_a_ramp_is_followed_to_where_it_leads() -> None:
    """Every half hour the load rises from 20 to 220 within 200 s, and falls at once."""

    def ramps(now: float) -> float:
        return 20.0 + min(200.0, now % 1800.0 - 1000.0) if 1000.0 <= now % 1800.0 < 1600.0 else 20.0

    said = play(Forecaster(), ramps, 0.5)
    ramp = [rate for at, rate, expert in said if expert == "ramp" and at > 6 * 3600]
    assert ramp
    assert max(ramp) > 150.0


def test_what_no_day_repeats_is_not_expected() -> None:
    """Peaks at a time of their own each day: the season asks for more now and then, and is not listened to for long."""
    times = random.Random(3)
    begins = [times.uniform(0, DAY_S - 600) for _ in range(6)]

    def surprises(now: float) -> float:
        return 100.0 if 0 <= now % DAY_S - begins[int(now // DAY_S)] < 600 else 20.0

    said = [(at, rate) for at, rate, _ in play(Forecaster(), surprises, 6.0) if at > 3 * DAY_S]
    false = [rate for at, rate in said if rate > 40.0 and surprises(at) == surprises(at - 2 * AHEAD_S) == 20.0]
    assert len(false) * BUCKET_S < 1800, "of three days, less than half an hour"


def test_a_wall_clock_that_jumps_costs_a_peak_and_breaks_nothing() -> None:
    forecaster = Forecaster()
    play(forecaster, peaks, 2.0)
    base = 2 * DAY_S
    for bucket in range(720):
        now = base + bucket * BUCKET_S
        forecaster.add(now, now - 40 * DAY_S if bucket % 2 else now + 7 * 3600, 20.0 * BUCKET_S, AHEAD_S)
    ahead = forecaster.ahead()
    assert ahead is not None
    assert 0.0 <= ahead.rate_per_s < 250.0
    forecaster.add(base - 1000.0, 0.0, 5.0, AHEAD_S)


def test_a_gap_of_a_year_is_passed_over() -> None:
    forecaster = Forecaster()
    play(forecaster, peaks, 0.1)
    forecaster.add(365 * DAY_S, 365 * DAY_S, 1.0, AHEAD_S)
    ahead = forecaster.ahead()
    assert ahead is not None
    assert ahead.rate_per_s < 10.0
