"""How many requests will come when a worker that is asked for now is ready.

The arrival rate is averaged over buckets of `BUCKET_S`. For the horizon, a number of buckets, the base is the mean of
the last minute and a margin: in units of the mean error at this horizon, it follows the share of times that the load
was above the forecast, growing when that is more than 1 - `COVERAGE` (quantile tracking, as in Gibbs and Candes,
Adaptive Conformal Inference, 2021). Nothing is assumed of how errors are distributed, and a bad forecast is known by
its margin.

Two experts may ask for more than the base:

    ramp      the last bucket is above those before by more than chance has it (Poisson): the rise goes on as it is
    season    the same minute of the day on earlier days, times how today compares with them over the last half hour.
              A minute is remembered quickly when it was high and forgotten slowly, so that a peak of most days is kept

Each is heard only while it has been worth it: what it adds to the base is judged at the horizon by the pinball loss at
`WORTH` = 0.95, which counts load above the forecast nineteen times as much as workers that stood by, and must lose less
than the base alone, with a half-life of a day. So an expert is silent where it does not help, whatever the trace.

Not here: days of the week, and what moves several endpoints at once. A sudden event is nobody's forecast; the reactive
rule answers it, with the forecast or without.
"""

import math
from array import array
from collections import deque
from typing import NamedTuple

BUCKET_S = 10.0
DAY_S = 86400.0
MINUTES = 1440
SEASON_RISE, SEASON_FALL = 0.6, 0.15
SEASON_REACH = 1
"""Minutes before and after: what came a minute earlier or later on other days is expected, too."""
TODAY_DECAY = 0.5 ** (BUCKET_S / 1800.0)
TODAY_MIN, TODAY_MAX = 0.5, 2.0
ERROR_DECAY = 0.5 ** (BUCKET_S / DAY_S)
RECENT, BEFORE = 6, 3
"""Buckets of the last minute; buckets that a ramp is seen against."""
RAMP_SIGNIFICANCE = 3.0
RAMP_MAX = 3.0
"""A rise is followed to so many times the present rate at most."""
COVERAGE = 0.7
MARGIN_STEP, MARGIN_MAX = 0.05, 6.0
WORTH = 0.95
TRIALS_MIN = 10
"""Forecasts that must have come due before anyone is believed."""


class Forecast(NamedTuple):
    """Requests a second, `ahead_s` from now, and who asks for so many."""

    rate_per_s: float
    expert: str
    ahead_s: float


class _Due(NamedTuple):
    bucket: int
    last: float
    base: float
    """With the margin."""
    words: tuple[float | None, ...]
    """What each expert said, in the order of `_EXPERTS`."""


_EXPERTS = ("ramp", "season")


class _Worth:
    """Whether an expert's word was worth it: its loss against that of the base on the same forecasts."""

    __slots__ = ("_base", "_with_it", "trials")

    def __init__(self) -> None:
        self.trials = 0
        self._base = self._with_it = 0.0

    def judge(self, rate: float, base: float, word: float) -> None:
        self.trials += 1
        self._base = ERROR_DECAY * self._base + _loss(rate, base)
        self._with_it = ERROR_DECAY * self._with_it + _loss(rate, max(base, word))

    def is_given(self) -> bool:
        return self.trials >= TRIALS_MIN and self._with_it < self._base


def _loss(rate: float, forecast: float) -> float:
    return WORTH * (rate - forecast) if rate > forecast else (1.0 - WORTH) * (forecast - rate)


class Forecaster:
    """Learns one endpoint's arrivals."""

    def __init__(self) -> None:
        self._bucket: int | None = None
        self._arrivals = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._season = _Season()
        self._horizon = 0
        self._due: deque[_Due] = deque()
        self._error_sum = self._error_weight = 0.0
        self._margin = 1.0
        self._worth = tuple(_Worth() for _ in _EXPERTS)
        self._trials = 0
        self._said: Forecast | None = None

    def add(self, now: float, wall_s: float, arrivals: float, horizon_s: float) -> None:
        """So many requests came since the last call. `horizon_s`: how far ahead `ahead` is to look."""
        bucket = int(now // BUCKET_S)
        if self._bucket is None:
            self._bucket = bucket
        if bucket > self._bucket:
            horizon = max(1, math.ceil(horizon_s / BUCKET_S))
            if horizon != self._horizon:
                self._horizon = horizon
                self._due.clear()
            for passed in range(max(self._bucket, bucket - int(DAY_S / BUCKET_S)), bucket):
                # The wall clock at the bucket's middle, by how long ago that was.
                self._close(passed, wall_s - (now - (passed + 0.5) * BUCKET_S))
            self._bucket = bucket
        self._arrivals += arrivals

    def ahead(self) -> Forecast | None:
        """What is expected at the horizon; `None` while too little is known."""
        return self._said if self._trials >= TRIALS_MIN else None

    def _close(self, bucket: int, wall_s: float) -> None:
        rate, self._arrivals = self._arrivals / BUCKET_S, 0.0
        self._judge(bucket, rate)
        self._season.add(rate, wall_s)
        self._recent.append(rate)
        self._speak(bucket, wall_s)

    def _judge(self, bucket: int, rate: float) -> None:
        """The forecast made for this bucket against what came."""
        while self._due and self._due[0].bucket <= bucket:
            due = self._due.popleft()
            if due.bucket < bucket:
                continue
            self._trials += 1
            self._error_sum = ERROR_DECAY * self._error_sum + abs(rate - due.last)
            self._error_weight = ERROR_DECAY * self._error_weight + 1.0
            step = COVERAGE if rate > due.base else COVERAGE - 1.0
            self._margin = min(max(0.0, self._margin + MARGIN_STEP * step), MARGIN_MAX)
            for worth, word in zip(self._worth, due.words, strict=True):
                if word is not None:
                    worth.judge(rate, due.base, word)

    def _speak(self, bucket: int, wall_s: float) -> None:
        ahead_s = self._horizon * BUCKET_S
        last = sum(self._recent) / len(self._recent)
        error = self._error_sum / self._error_weight if self._error_weight else 0.0
        base = last + self._margin * error
        words = (self._ramp(ahead_s), self._season.at(wall_s + ahead_s))
        self._due.append(_Due(bucket + self._horizon, last, base, words))
        most, expert = base, "last"
        for name, worth, word in zip(_EXPERTS, self._worth, words, strict=True):
            if word is not None and word > most and worth.is_given():
                most, expert = word, name
        self._said = Forecast(most, expert, ahead_s)

    def _ramp(self, ahead_s: float) -> float | None:
        """Where the present rise leads; `None` where chance explains it."""
        if len(self._recent) <= BEFORE:
            return None
        newest = self._recent[-1]
        before = sum(list(self._recent)[-1 - BEFORE : -1]) / BEFORE
        chance = math.sqrt(newest / BUCKET_S + before / (BEFORE * BUCKET_S))
        if newest - before <= RAMP_SIGNIFICANCE * chance:
            return None
        slope = (newest - before) / ((BEFORE + 1) / 2 * BUCKET_S)
        return min(newest + slope * (ahead_s + BUCKET_S / 2), RAMP_MAX * newest)


class _Season:
    """What each minute of a day had, and how today compares."""

    def __init__(self) -> None:
        self._minutes: array[float] | None = None
        """Made when the first minute is over: an endpoint without traffic has none."""
        self._minute = -1
        self._sum = 0.0
        self._count = 0
        self._today = self._usual = 0.0

    def add(self, rate: float, wall_s: float) -> None:
        """A bucket had this rate."""
        usual = self._usually(wall_s)
        minute = int(wall_s % DAY_S // 60.0)
        if minute != self._minute:
            self._keep()
            self._minute, self._sum, self._count = minute, 0.0, 0
        self._sum += rate
        self._count += 1
        if usual is not None:
            self._today = TODAY_DECAY * self._today + rate
            self._usual = TODAY_DECAY * self._usual + usual

    def at(self, wall_s: float) -> float | None:
        """The rate expected then; `None` where no earlier day had that time."""
        if self._usual <= 0:
            return None
        near = [self._usually(wall_s + 60.0 * minutes) for minutes in range(-SEASON_REACH, SEASON_REACH + 1)]
        known = [usual for usual in near if usual is not None]
        return max(known) * min(max(self._today / self._usual, TODAY_MIN), TODAY_MAX) if known else None

    def _keep(self) -> None:
        if not self._count:
            return
        if self._minutes is None:
            self._minutes = array("d", [math.nan]) * MINUTES
        mean, old = self._sum / self._count, self._minutes[self._minute]
        share = SEASON_RISE if mean > old else SEASON_FALL
        self._minutes[self._minute] = mean if math.isnan(old) else old + share * (mean - old)

    def _usually(self, wall_s: float) -> float | None:
        """Between the middles of the two nearest minutes."""
        if self._minutes is None:
            return None
        position = wall_s % DAY_S / 60.0 - 0.5
        before = math.floor(position)
        a, b = self._minutes[before % MINUTES], self._minutes[(before + 1) % MINUTES]
        found = a + (position - before) * (b - a)
        return None if math.isnan(found) else found
