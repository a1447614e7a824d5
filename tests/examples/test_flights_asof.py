"""Windows and last events by cumulative sums against a loop over all events."""

import numpy as np
from asof import Events
from hypothesis import given, settings
from hypothesis import strategies as st

TIMES = st.integers(-1, 12)
EVENTS = st.lists(st.tuples(st.integers(0, 3), TIMES, st.integers(-5, 5)), min_size=1, max_size=25)


@given(EVENTS, st.integers(1, 8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_windows_and_last_events_are_those_of_a_loop(
    events: list[tuple[int, int, int]], length: int, leave_out: bool
) -> None:
    """Each event is also a question, at its key, at a time near its own; ties, repeats and events that never happened."""
    keys, times, values = (np.array(column, np.int64) for column in zip(*events, strict=True))
    asked_at = np.abs(times) + values % 3
    table = Events(keys, times, [values.astype(np.float64)])
    own = np.arange(len(events))
    window = table.between(keys, asked_at - length, asked_at, leave_out=own if leave_out else None)
    last = table.last_before(keys, asked_at, leave_out=own if leave_out else None)
    for index, (key, _, _) in enumerate(events):
        others = [
            (time, number, value)
            for number, (other, time, value) in enumerate(events)
            if other == key and time >= 0 and not (leave_out and number == index)
        ]
        end = asked_at[index]
        inside = [value for time, _, value in others if max(end - length, 0) <= time < end]
        assert (window.count[index], window.sums[0][index]) == (len(inside), sum(inside))
        assert window.mean(0, prior=2.0, weight=1.0)[index] == (sum(inside) + 2.0) / (len(inside) + 1)
        before = [(time, number) for time, number, _ in others if time < end]
        assert last[index] == (max(before)[1] if before else -1)
