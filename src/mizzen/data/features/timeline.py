"""Events by entity and time, and what a request may see of them.

There are three clocks: an event's own time, when it came to be known, and the time of the request. A request at T, with
knowledge as of K (usually T itself), for a window that begins after S sees the events of its entity with

    S < event time <= T   and   known-at <= K.

Sorted by event time the second condition leaves holes: late events. So the events are parted into *chains*, in which
event time and known-at rise together; in each chain, what a request sees is one range, found by binary searches.
Events that were known in the order in which they happened, at whatever delay, are one chain; a batch that came late
adds one. What would need more than `CHAINS_MAX` is copied out for each request (`Timeline.rest`): slower, as exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mizzen.data.features.aggregates.base import Run
from mizzen.data.features.columns import Array, Values
from mizzen.data.features.searching import Stretches

NEVER_US = int(np.iinfo(np.int64).max)
"""Known-at of what is not known yet."""
EVER_US = int(np.iinfo(np.int64).min)
"""The beginning of a window without a beginning."""
CHAINS_MAX = 12
_COPIED_MAX = 4_000_000
"""Events that are copied out at a time."""


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked for: `entity[i]` as of `time_us[i]`, with what was known at `known_us[i]`."""

    entity: Array
    """The entity's number; -1 where no event has that entity."""
    time_us: Array
    known_us: Array

    def __len__(self) -> int:
        return len(self.entity)

    def take(self, at: Array) -> "Requests":
        """Those, in that order."""
        return Requests(self.entity[at], self.time_us[at], self.known_us[at])

    def part(self, start: int, stop: int) -> "Requests":
        """Some of them."""
        return Requests(self.entity[start:stop], self.time_us[start:stop], self.known_us[start:stop])


class Chain:
    """Events in the order of entity, event time and known-at; `rows` says which of the source they are.

    With `all_known`, requests know all of them, and known-at only orders what happened at one moment.
    """

    def __init__(
        self, rows: Array, entity: Array, time_us: Array, known_us: Array, entities: int, *, all_known: bool = False
    ) -> None:
        self.rows, self.entity, self.time_us, self.known_us = rows, entity, time_us, known_us
        self._all_known = all_known
        self.starts = np.searchsorted(entity, np.arange(entities + 1))
        self._by_time = Stretches(entity, time_us, self.starts)
        self._by_known = Stretches(entity, known_us, self.starts)

    def __len__(self) -> int:
        return len(self.rows)

    def begins(self, asked: Requests, since_us: Array) -> Array:
        """For each request, its entity's first event after `since`."""
        return self._by_time.after(np.maximum(asked.entity, 0), since_us)

    def ends(self, asked: Requests, until_us: Array) -> Array:
        """For each request, the place after its entity's last event up to `until` that it may know; 0 of nobody's."""
        entity = np.maximum(asked.entity, 0)
        ends = self._by_time.after(entity, until_us)
        punctual = self.known_us is self.time_us and not (asked.known_us < until_us).any()
        if not self._all_known and not punctual:
            ends = np.minimum(ends, self._by_known.after(entity, asked.known_us))
        return np.where(asked.entity >= 0, ends, 0)

    def run(self, values: Values | None, mask: Array | None) -> tuple[Run, Array]:
        """The values that are there, and for each event how many of them come before it (one longer than the chain)."""
        kept = np.ones(len(self), dtype=bool) if values is None else values.valid[self.rows]
        if mask is not None:
            kept = kept & mask[self.rows]
        before = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(kept, out=before[1:])
        every = int(before[-1]) == len(self)
        at = slice(None) if every else np.flatnonzero(kept)
        time_us, known_us, starts = self.time_us[at], self.known_us[at], before[self.starts[:-1]]
        if values is None:
            return Run(time_us, known_us, np.zeros(len(time_us), dtype=np.int64), starts), before
        value = values.data[self.rows[at]]
        return Run(time_us, known_us, _ties_by_value(self.entity[at], time_us, known_us, value), starts), before


class Timeline:
    """The events of a view.

    `entity` numbers each event's entity from 0 to `entities`; `known_us` is `None` where each event was known at once.
    """

    def __init__(
        self, entity: Array, time_us: Array, known_us: Array | None, entities: int, *, all_known: bool = False
    ) -> None:
        self.entities = entities
        order = _order(entity, time_us, known_us)
        entity, time_us = entity[order], time_us[order]
        self.chains: list[Chain] = []
        self.rest: Chain | None = None
        if known_us is None:
            self.chains.append(Chain(order, entity, time_us, time_us, entities))
            return
        known_us = known_us[order]
        if all_known:
            self.chains.append(Chain(order, entity, time_us, known_us, entities, all_known=True))
            return
        left = np.arange(len(order))
        while len(left) and len(self.chains) < CHAINS_MAX:
            rising = _rising(entity[left], known_us[left])
            at = left[rising]
            self.chains.append(Chain(order[at], entity[at], time_us[at], known_us[at], entities))
            left = left[~rising]
        if len(left):
            self.rest = Chain(order[left], entity[left], time_us[left], known_us[left], entities)

    @property
    def is_one_chain(self) -> bool:
        """Whether each request sees one range of all events."""
        return len(self.chains) == 1 and self.rest is None

    def __len__(self) -> int:
        return sum(len(chain) for chain in self.chains) + (len(self.rest) if self.rest is not None else 0)


def copied_out(chain: Chain, asked: Requests, since_us: Array, until_us: Array) -> Iterator[tuple[slice, Chain, Array]]:
    """For some requests at a time: the events each sees, one after the other, and where each request's begin.

    The copied events are a chain whose entities are the requests.
    """
    anything = Requests(asked.entity, asked.time_us, np.full(len(asked), NEVER_US))
    lo = chain.begins(anything, since_us)
    hi = np.maximum(chain.ends(anything, until_us), lo)
    total = np.concatenate(([0], np.cumsum(hi - lo)))
    start = 0
    while start < len(asked):
        stop = max(start + 1, int(np.searchsorted(total, total[start] + _COPIED_MAX, side="right")) - 1)
        lengths = hi[start:stop] - lo[start:stop]
        request = np.repeat(np.arange(stop - start), lengths)
        within = np.arange(int(lengths.sum())) - np.repeat(total[start:stop] - total[start], lengths)
        at = np.repeat(lo[start:stop], lengths) + within
        seen = chain.known_us[at] <= asked.known_us[start:stop][request]
        at, request = at[seen], request[seen]
        copy = Chain(chain.rows[at], request, chain.time_us[at], chain.known_us[at], stop - start)
        yield slice(start, stop), copy, copy.starts
        start = stop


def _order(entity: Array, time_us: Array, known_us: Array | None) -> Array:
    """The order by entity, event time and known-at."""
    by_time = known_us is None and not (np.diff(time_us) < 0).any()
    if by_time:
        bits = max(1, len(entity) - 1).bit_length()
        if int(entity.max(initial=0)).bit_length() + bits < 63:
            # A stable sort of small keys, as a sort of numbers: several times faster than argsort.
            packed = (entity.astype(np.int64) << bits) | np.arange(len(entity), dtype=np.int64)
            packed.sort()
            return packed & ((1 << bits) - 1)
        return np.argsort(entity, kind="stable")
    return np.lexsort((time_us, entity) if known_us is None else (known_us, time_us, entity))


def _rising(entity: Array, known_us: Array) -> Array:
    """Which events were known no later than every later event of their entity."""
    _, rank = np.unique(known_us, return_inverse=True)
    key = entity.astype(np.int64) * (len(entity) + 1) + rank
    least_from = np.minimum.accumulate(key[::-1])[::-1]
    rising = np.ones(len(key), dtype=bool)
    rising[:-1] = key[:-1] <= least_from[1:]
    return rising


def _ties_by_value(entity: Array, time_us: Array, known_us: Array, value: Array) -> Array:
    """The values, with those of events that are alike in entity and both times in their own order."""
    if len(value) < 2:
        return value
    alike = (time_us[1:] == time_us[:-1]) & (known_us[1:] == known_us[:-1]) & (entity[1:] == entity[:-1])
    if not alike.any():
        return value
    group = np.concatenate(([0], np.cumsum(~alike)))
    tied = np.flatnonzero(np.concatenate((alike, [False])) | np.concatenate(([False], alike)))
    ordered = value.copy()
    if value.dtype == object:
        pairs = sorted(zip(group[tied].tolist(), value[tied].tolist(), strict=True))
        ordered[tied] = [one for _, one in pairs]
    else:
        ordered[tied] = value[tied][np.lexsort((value[tied], group[tied]))]
    return ordered
