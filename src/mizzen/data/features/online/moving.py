"""Features that move with the clock: the time since the last event, and rates over a window whose tail hops.

A record holds their values at the moment it begins to hold. What they are later follows from that, exactly: the age
grows by the time that went by, and the number of events behind a rate stays while the length of the window changes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mizzen.data.features.columns import US_PER_S, Array
from mizzen.data.features.definition import Definition
from mizzen.data.features.windows import Window


@dataclass(frozen=True, slots=True)
class Moving:
    """One such feature."""

    name: str
    window: Window
    is_rate: bool

    def at(self, values: Array, then_us: Array, now_us: int) -> Array:
        """The values now, of values then."""
        if not self.is_rate:
            age_us: Array = np.rint(values * US_PER_S) + (now_us - then_us)
            return age_us / US_PER_S
        now = np.full(len(values), now_us)
        events = np.rint(values * ((then_us - self.window.since_us(then_us)) / US_PER_S))
        rates: Array = events / ((now - self.window.since_us(now)) / US_PER_S)
        return rates

    def one_at(self, value: Any, then_us: int, now_us: int) -> Any:
        """The same of one value."""
        if value is None or then_us == now_us:
            return value
        if not self.is_rate:
            return (round(value * US_PER_S) + now_us - then_us) / US_PER_S
        return float(self.at(np.array([value]), np.array([then_us]), now_us)[0])


def moving_features(definition: Definition) -> list[Moving]:
    """Those of a view."""
    found = []
    for aggregation in definition.aggregations:
        is_rate = aggregation.function == "rate" and aggregation.window.hop_us > 1
        if is_rate or aggregation.function == "time_since_last":
            found.append(Moving(aggregation.name, aggregation.window, is_rate))
    return found
