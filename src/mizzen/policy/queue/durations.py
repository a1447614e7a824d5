"""How long a batch takes, learned from those that came back: `fixed_s + cost_s * cost`, and how far off that may be.

Durations have outliers (a pause of the collector, a neighbour's burst, the first batch after a load), their sizes are
far from uniform (thousands of single rows, now and then a full batch), and they drift. So:

* Samples are kept by size, the last `OCTAVE_SAMPLES` of each octave (1, 2-3, 4-7, … rows): many small batches do not
  push out what is known of large ones.
* Each octave counts as one point, the median of its durations at the mean of its costs. Up to half of an octave's
  samples may be outliers without effect.
* The line is the weighted least squares fit through these points, of relative errors (weight `m / t^2` for `m` samples
  of median `t`), with neither coefficient negative. An octave that was not seen lately weighs less: half for each
  `HALF_LIFE_S`. With one octave only all of its duration is taken as fixed: what
  was not measured is held against nobody.
* `spread` is the ratio of measured to fitted duration that all but one in twenty of the samples keep.

A fit costs some microseconds and is made for the first samples of all and of each octave, and then for each
`FIT_EVERY`th that comes `FIT_S` after the last.

What is learned is used to give requests up, so that it could keep itself from being corrected: after one slow spell
nothing would be run any more, and nothing learned. So it is trusted (`trusted`) only for a while after the last sample;
then the next requests are run as if nothing were known, and if they take less than half of what was known, that is
forgotten.
"""

from collections import deque
from math import fsum
from statistics import fmean, median

OCTAVE_SAMPLES = 16
SAMPLES_MIN = 4
"""Before these many nothing is said: the first batches of a process are its slowest."""
FIT_EVERY = 16
FIT_S = 0.02
HALF_LIFE_S = 60.0
SPREAD_MAX = 4.0
TRUST_S = 1.0
TRUST_BATCHES = 2.0
"""What is learned is trusted this long, and for the time of so many batches, after the last sample."""
TOOK_S_MIN = 1e-6
GROWTH = 2.0
"""A batch is not made larger than so many times the largest that was measured, on the strength of the fit alone."""


class Durations:
    """What is known of one model version's batches."""

    __slots__ = ("_count", "_fitted_s", "_octaves", "_seen_s", "cost_s", "fixed_s", "largest", "last_s", "spread")

    def __init__(self) -> None:
        self.fixed_s = 0.0
        self.cost_s = 0.0
        self.spread = 1.0
        self.last_s = float("-inf")
        self._octaves: dict[int, deque[tuple[int, float]]] = {}
        self._seen_s: dict[int, float] = {}
        self._count = 0
        self._fitted_s = float("-inf")
        self.largest = 0
        """The largest cost that was measured."""

    @property
    def known(self) -> bool:
        """Whether there is a fit."""
        return self._count >= SAMPLES_MIN

    def add(self, cost: int, took_s: float, now: float) -> bool:
        """A batch was answered `took_s` after its worker could begin it. Returns whether a fit was made."""
        if self.known and took_s < self.likely_s(cost) / 2 and not self.trusted(now):
            self._octaves.clear()
            self._count = self.largest = 0
        octave = cost.bit_length()
        samples = self._octaves.get(octave)
        if samples is None:
            samples = self._octaves[octave] = deque(maxlen=OCTAVE_SAMPLES)
        samples.append((cost, max(took_s, TOOK_S_MIN)))
        self.last_s = self._seen_s[octave] = now
        self._count += 1
        self.largest = max(self.largest, cost)
        few = len(samples) <= SAMPLES_MIN or self._count < FIT_EVERY
        if self.known and (few or (self._count % FIT_EVERY == 0 and now - self._fitted_s >= FIT_S)):
            self._fit(now)
            self._fitted_s = now
            return True
        return False

    def likely_s(self, cost: float) -> float:
        """What a batch of that cost takes; 0 while nothing is known."""
        return self.fixed_s + self.cost_s * cost

    def upper_s(self, cost: float) -> float:
        """What all but one in twenty batches of that cost keep; 0 while nothing is known.

        >>> durations = Durations()
        >>> for now in range(8):
        ...     _ = durations.add(1, 0.012, now), durations.add(101, 0.022, now)
        >>> round(durations.upper_s(51), 4)
        0.0169
        """
        return (self.fixed_s + self.cost_s * cost) * self.spread

    def trusted(self, now: float) -> bool:
        """Whether what is known is recent enough to give something up for it."""
        return self.known and now - self.last_s <= TRUST_S + TRUST_BATCHES * self.fixed_s

    def cost_max(self, duration_s: float) -> float:
        """The largest batch that takes `duration_s` at most; infinity while nothing is known.

        Never so small that more than half of its time is the fixed part: where the target cannot be met at all, small
        batches would only make all wait longer.
        """
        if not self.known:
            return float("inf")
        measured = self.largest
        if not self.cost_s:
            return GROWTH * measured
        fitted = (duration_s / self.spread - self.fixed_s) / self.cost_s
        return max(1.0, min(max(fitted, self.fixed_s / self.cost_s), GROWTH * measured))

    def _fit(self, now: float) -> None:
        points = []
        for octave, samples in self._octaves.items():
            took_s = median([took_s for _, took_s in samples])
            age = (now - self._seen_s[octave]) / HALF_LIFE_S
            weight = len(samples) * 0.5**age / took_s**2
            points.append((fmean([cost for cost, _ in samples]), took_s, weight))
        self.fixed_s, self.cost_s = _line(points)
        ratios = sorted(
            took_s / (self.fixed_s + self.cost_s * cost)
            for samples in self._octaves.values()
            for cost, took_s in samples
        )
        self.spread = min(max(1.0, ratios[int(0.95 * (len(ratios) - 1))]), SPREAD_MAX)


def _line(points: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Intercept and slope, neither negative, with the least weighted squares; points are (x, y, weight)."""
    total = fsum(w for _, _, w in points)
    x_mean = fsum(x * w for x, _, w in points) / total
    y_mean = fsum(y * w for _, y, w in points) / total
    if len(points) == 1:
        return y_mean, 0.0
    covariance = fsum((x - x_mean) * (y - y_mean) * w for x, y, w in points)
    slope = max(0.0, covariance / fsum((x - x_mean) ** 2 * w for x, _, w in points))
    intercept = y_mean - slope * x_mean
    if intercept >= 0:
        return intercept, slope
    return 0.0, fsum(x * y * w for x, y, w in points) / fsum(x * x * w for x, _, w in points)
