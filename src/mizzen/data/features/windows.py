"""Window aggregations for many requests at once: the one path that backfill, increments and online reads take.

A window of length W that hops by H, asked at T, holds the events in `(floor((T - W) / H) * H, T]`: its head slides with
every request and is exact to the event, its tail moves in steps (a sawtooth). A window without a hop slides at both
ends. A window without a length holds everything up to T. A label's window looks ahead instead: `(T, T + W]`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.data.features.aggregates.base import Aggregate, Asked, Run, State
from mizzen.data.features.aggregates.distinct import Distinct
from mizzen.data.features.aggregates.registry import Parameters, aggregate_for
from mizzen.data.features.columns import Array, Domain, Values
from mizzen.data.features.timeline import EVER_US, Chain, Requests, Timeline, copied_out

_NO_PARAMETERS = Parameters()
EVENTS = Domain(pa.int64())
"""What is counted where no column is named."""


@dataclass(frozen=True, slots=True)
class Window:
    """A reach of time before the request, or after it."""

    length_us: int | None = None
    """`None`: since ever."""
    hop_us: int = 1
    """How far the tail moves at a time; a microsecond is a tail that slides."""
    ahead: bool = False
    """Whether it lies after the request, as a label's does."""

    def since_us(self, time_us: Array) -> Array:
        """Where it begins (exclusive), for requests at those times."""
        if self.ahead:
            return time_us
        if self.length_us is None:
            return np.full(len(time_us), EVER_US)
        return (time_us - self.length_us) // self.hop_us * self.hop_us

    def until_us(self, time_us: Array) -> Array:
        """Where it ends (inclusive)."""
        return time_us + self.length_us if self.ahead and self.length_us is not None else time_us


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One feature: a function of the values of a column in a window."""

    name: str
    function: str
    window: Window
    column: str | None = None
    """`None`: of the events themselves."""
    where: str | None = None
    """Which events count, as SQL over the row; a key of the masks."""
    parameters: Parameters = _NO_PARAMETERS

    def aggregate(self, domain: Domain) -> Aggregate:
        """The kernel's aggregate over such a column.

        Raises `DefinitionError` where it cannot be of such values.
        """
        return aggregate_for(self.function, domain, self.parameters)


class Source:
    """Events with the columns that aggregations are of; what is derived from them is kept for the next aggregation."""

    def __init__(self, timeline: Timeline, columns: Mapping[str, Values], masks: Mapping[str, Array]) -> None:
        self.timeline, self.columns, self.masks = timeline, columns, masks
        self._runs: dict[tuple[int, str | None, str | None], tuple[Run, Array]] = {}

    def domain(self, aggregation: Aggregation) -> Domain:
        """Of the aggregation's column."""
        return EVENTS if aggregation.column is None else self.columns[aggregation.column].domain

    def run(self, chain: Chain, aggregation: Aggregation, *, keep: bool = True) -> tuple[Run, Array]:
        """The values of a chain that the aggregation is of, and where each event's begin."""
        key = (id(chain), aggregation.column, aggregation.where)
        if key in self._runs:
            return self._runs[key]
        values = None if aggregation.column is None else self.columns[aggregation.column]
        made = chain.run(values, None if aggregation.where is None else self.masks[aggregation.where])
        if keep:
            self._runs[key] = made
        return made


class _Reaches:
    """Where windows begin and end in every chain, for the requests at hand; each is looked for once."""

    def __init__(self, timeline: Timeline, requests: Requests) -> None:
        self._timeline, self._requests = timeline, requests
        self._ends: dict[int | None, list[Array]] = {}
        self._known: dict[Window, _Reach] = {}

    def of(self, window: Window) -> "_Reach":
        """A window's."""
        if window not in self._known:
            chains, time_us = self._timeline.chains, self._requests.time_us
            since_us, until_us = window.since_us(time_us), window.until_us(time_us)
            ahead_us = window.length_us if window.ahead else None
            if ahead_us not in self._ends:
                self._ends[ahead_us] = [chain.ends(self._requests, until_us) for chain in chains]
            begins = [chain.begins(self._requests, since_us) for chain in chains]
            ranges = [(lo, np.maximum(hi, lo)) for lo, hi in zip(begins, self._ends[ahead_us], strict=True)]
            self._known[window] = _Reach(since_us, until_us, ranges)
        return self._known[window]


@dataclass(frozen=True, slots=True)
class _Reach:
    """A window's ranges in every chain, [lo, hi), for each request."""

    since_us: Array
    until_us: Array
    ranges: list[tuple[Array, Array]]


def evaluate(
    source: Source,
    aggregations: Sequence[Aggregation],
    requests: Requests,
    held: Mapping[str, State] = MappingProxyType({}),
) -> dict[str, pa.Array]:
    """The value of each aggregation for each request; `held` are states of further events, by aggregation.

    Fastest where the requests are ordered by entity and time.
    """
    reaches = _Reaches(source.timeline, requests)
    seen: dict[tuple[Any, ...], State] = {}
    results: dict[str, pa.Array] = {}
    for aggregation in aggregations:
        reach = reaches.of(aggregation.window)
        kernel = aggregation.aggregate(source.domain(aggregation))
        if isinstance(kernel, Distinct) and aggregation.name not in held and source.timeline.is_one_chain:
            run, before = source.run(source.timeline.chains[0], aggregation)
            lo, hi = reach.ranges[0]
            results[aggregation.name] = kernel.counted(run, before[lo], before[hi])
            continue
        # What sums up alike (a sum and a mean) is summed up once.
        partials = kernel.summed_as or kernel.function
        alike = (partials, aggregation.parameters, aggregation.column, aggregation.where, aggregation.window)
        if alike not in seen:
            seen[alike] = _state(source, aggregation, kernel, requests, reach)
        state = seen[alike]
        if aggregation.name in held:
            state = kernel.merge(held[aggregation.name], state)
        results[aggregation.name] = kernel.finalize(state, Asked(requests.time_us, reach.since_us))
    return results


def states(source: Source, aggregation: Aggregation, requests: Requests) -> State:
    """The unfinished states, to be merged with others."""
    reach = _Reaches(source.timeline, requests).of(aggregation.window)
    return _state(source, aggregation, aggregation.aggregate(source.domain(aggregation)), requests, reach)


def _state(source: Source, aggregation: Aggregation, kernel: Aggregate, requests: Requests, reach: _Reach) -> State:
    state: State | None = None
    for chain, (lo, hi) in zip(source.timeline.chains, reach.ranges, strict=True):
        run, before = source.run(chain, aggregation)
        seen = kernel.over(run, before[lo], before[hi])
        state = seen if state is None else kernel.merge(state, seen)
    if state is None:
        state = kernel.empty(len(requests))
    if source.timeline.rest is None:
        return state
    parts = []
    for part, copy, starts in copied_out(source.timeline.rest, requests, reach.since_us, reach.until_us):
        run, before = source.run(copy, aggregation, keep=False)
        seen = kernel.over(run, before[starts[:-1]], before[starts[1:]])
        parts.append(kernel.merge(tuple(array[part] for array in state), seen))
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True)) if parts else state
