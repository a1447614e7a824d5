"""What is kept of entities so that their features can be worked out at any later moment, and as little of it as that
takes.

Events are kept while a window that slides at both ends, or a request that comes late, may still need them. For windows
that hop and for those without a length they are *absorbed* into tiles: one partial state for each aggregation and hop,
once no request can fall inside the tile any more. A tile counts as an event at the time of its newest one: windows
begin at whole hops, so that a tile is in a window or out of it, never in part.

    grace    how long ago a request may lie and still be answered to the event
    closed   the moment before which nothing new is asked: now - grace

`Held` holds any number of entities as columns, so that a batch of ten thousand is worked on at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.data.features.aggregates.base import Aggregate, State
from mizzen.data.features.columns import Array, Domain
from mizzen.data.features.definition import Definition
from mizzen.data.features.events import Events, concatenated, newest_rows
from mizzen.data.features.fold import fold_of_each
from mizzen.data.features.timeline import Chain, Requests
from mizzen.data.features.view import source_of
from mizzen.data.features.windows import EVENTS, Aggregation, Source, Window

_FRESH = "\0fresh"


@dataclass(frozen=True, slots=True)
class Tiles:
    """Partial states of one aggregation, ordered by entity and time."""

    entity: Array
    time_us: Array
    """Of the newest event in each."""
    state: State


@dataclass(frozen=True, slots=True)
class Held:
    """Events and tiles of `entities` entities, which are numbered."""

    entities: int
    entity: Array
    events: Events
    fresh: Array
    """Which events are in no tile."""
    tiles: dict[str, Tiles] = field(default_factory=dict)
    """By the aggregation that stands for those that share them."""


class Holding:
    """How a view's entities are held: what is packed, kept and absorbed follows from its definition."""

    def __init__(self, definition: Definition, values: pa.Schema) -> None:
        self.definition, self.values = definition, values
        tiled = [a for a in definition.aggregations if a.window.hop_us > 1 or a.window.length_us is None]
        self.sharing = _sharing(tiled)
        """The aggregations with tiles, each with the one whose tiles are its own too: that with the longest window."""
        self.tiled = [a for a in tiled if self.sharing[a.name] is a]
        self._kernels: dict[str, Aggregate] = {}
        self.exact_us = max(
            (a.window.length_us for a in definition.aggregations if a.name not in self.sharing and a.window.length_us),
            default=0,
        )

    def kernel(self, aggregation: Aggregation) -> Aggregate:
        """The aggregate that the view's column calls for."""
        made = self._kernels.get(aggregation.name)
        if made is None:
            column = aggregation.column
            made = aggregation.aggregate(EVENTS if column is None else Domain(self.values.field(column).type))
            self._kernels[aggregation.name] = made
        return made

    def source(self, held: Held) -> Source:
        """The events for the kernel, with masks of those in no tile."""
        source = source_of(self.definition, held.events, held.entity, held.entities, online=True)
        masks = {f"{name}{_FRESH}": mask & held.fresh for name, mask in source.masks.items()}
        return Source(source.timeline, source.columns, {**source.masks, **masks, _FRESH: held.fresh})

    def aggregations(self) -> list[Aggregation]:
        """The view's aggregations over the events; those with tiles look at events in none."""
        return [
            replace(a, where=f"{a.where or ''}{_FRESH}") if a.name in self.sharing else a
            for a in self.definition.aggregations
        ]

    def tile_states(self, held: Held, requests: Requests) -> dict[str, State]:
        """For each aggregation with tiles, the merged state of those in the requests' windows."""
        states = {}
        chains: dict[str, Chain] = {}
        for aggregation in self.definition.aggregations:
            shared = self.sharing.get(aggregation.name)
            tiles = None if shared is None else held.tiles.get(shared.name)
            if shared is None or tiles is None or not len(tiles.time_us):
                continue
            kernel = self.kernel(aggregation)
            if shared.name not in chains:
                rows = np.arange(len(tiles.time_us))
                chains[shared.name] = Chain(
                    rows, tiles.entity, tiles.time_us, tiles.time_us, held.entities, all_known=True
                )
            chain = chains[shared.name]
            lo = chain.begins(requests, aggregation.window.since_us(requests.time_us))
            hi = chain.ends(requests, requests.time_us)
            starts = chain.starts[:-1]
            states[aggregation.name] = fold_of_each(tiles.state, starts, lo, hi, kernel.merge, kernel.empty)
        return states

    def breakpoints(self, held: Held, after_us: int, most: int) -> tuple[Array, Array]:
        """When the values of each entity next change if nothing new comes in: entities, ordered, and moments.

        At most so many of each entity: events that leave a window, rows that outlive ttl, events that are ahead.
        """
        windows = {aggregation.window for aggregation in self.definition.aggregations}
        if self.definition.rows:
            windows.add(Window(self.definition.ttl_us))
        timed = [(held.entity, held.events.time_us), *((t.entity, t.time_us) for t in held.tiles.values())]
        entities, moments = [], []
        for entity, time_us in timed:
            ahead = time_us > after_us
            entities.append(entity[ahead])
            moments.append(time_us[ahead])
            for window in windows:
                if window.length_us is not None:
                    leaves = -(-time_us // window.hop_us) * window.hop_us + window.length_us
                    later = leaves > after_us
                    entities.append(entity[later])
                    moments.append(leaves[later])
        entity, moment = np.concatenate(entities), np.concatenate(moments)
        order = np.lexsort((moment, entity))
        entity, moment = entity[order], moment[order]
        first = _starts(entity, moment)
        entity, moment = entity[first], moment[first]
        rank = np.arange(len(entity)) - np.searchsorted(entity, entity)
        kept = rank < most
        return entity[kept], moment[kept]

    def absorbed(self, held: Held, closed_us: int) -> Held:
        """With the events that no request can part any more in tiles."""
        if not self.tiled:
            return held
        closing = held.fresh & (held.events.time_us <= closed_us)
        for hop_us in {aggregation.window.hop_us for aggregation in self.tiled} - {1}:
            closing &= -(-held.events.time_us // hop_us) * hop_us <= closed_us
        rows = np.flatnonzero(closing)
        if not len(rows):
            return held
        source = source_of(self.definition, held.events.take(rows), held.entity[rows], held.entities, online=True)
        tiles = {a.name: self._with_new_tiles(held.tiles.get(a.name), source, a) for a in self.tiled}
        return replace(held, fresh=held.fresh & ~closing, tiles=tiles)

    def _with_new_tiles(self, tiles: Tiles | None, source: Source, aggregation: Aggregation) -> Tiles:
        kernel = self.kernel(aggregation)
        (chain,) = source.timeline.chains
        run, before = source.run(chain, aggregation)
        starts = _starts(chain.entity, self._tile(aggregation, chain.time_us))
        stops = np.append(starts[1:], len(chain))
        summed = kernel.over(run, before[starts], before[stops])
        some = np.flatnonzero(before[starts] < before[stops])
        entity, time_us = chain.entity[starts][some], chain.time_us[stops - 1][some]
        state: State = tuple(part[some] for part in summed)
        made = Tiles(entity, time_us, state)
        return made if tiles is None else self._merged_tiles(tiles, made, aggregation)

    def _merged_tiles(self, a: Tiles, b: Tiles, aggregation: Aggregation) -> Tiles:
        """Tiles of both, with those of one stretch of time merged."""
        kernel = self.kernel(aggregation)
        entity, time_us = np.concatenate((a.entity, b.entity)), np.concatenate((a.time_us, b.time_us))
        state = tuple(np.concatenate(pair) for pair in zip(a.state, b.state, strict=True))
        order = np.lexsort((time_us, entity))
        entity, time_us, state = entity[order], time_us[order], tuple(part[order] for part in state)
        starts = _starts(entity, self._tile(aggregation, time_us))
        stops = np.append(starts[1:], len(entity))
        firsts = _starts(entity, np.zeros(len(entity), dtype=np.int64))
        merged = fold_of_each(state, firsts, starts, stops, kernel.merge, kernel.empty)
        return Tiles(entity[starts], time_us[stops - 1], merged)

    def merged(self, a: Held, b: Held) -> Held:
        """What both hold of the same entities: of each, the events and tiles of both."""
        events = concatenated(a.events, b.events)
        entity, fresh = np.concatenate((a.entity, b.entity)), np.concatenate((a.fresh, b.fresh))
        tiles = {**a.tiles, **b.tiles}
        for aggregation in self.tiled:
            mine, theirs = a.tiles.get(aggregation.name), b.tiles.get(aggregation.name)
            if mine is not None and theirs is not None:
                tiles[aggregation.name] = self._merged_tiles(mine, theirs, aggregation)
        return Held(a.entities, entity, events, fresh, tiles)

    def _tile(self, aggregation: Aggregation, time_us: Array) -> Array:
        """The number of the tile that an event is in."""
        if aggregation.window.length_us is None:
            return np.zeros(len(time_us), dtype=np.int64)
        return -(-time_us // aggregation.window.hop_us)

    def pruned(self, held: Held, closed_us: int) -> Held:
        """Without what no request can see any more."""
        needed = held.fresh.copy() if self.tiled else np.zeros(len(held.events), dtype=bool)
        needed |= held.events.time_us > closed_us - self.exact_us
        if self.definition.rows:
            needed |= newest_rows(held.entity, held.events.time_us, closed_us)
        rows = np.flatnonzero(needed)
        tiles = {
            a.name: self._pruned_tiles(held.tiles[a.name], a, closed_us) for a in self.tiled if a.name in held.tiles
        }
        if len(rows) == len(needed):
            return replace(held, tiles=tiles)
        return Held(held.entities, held.entity[rows], held.events.take(rows), held.fresh[rows], tiles)

    def _pruned_tiles(self, tiles: Tiles, aggregation: Aggregation, closed_us: int) -> Tiles:
        since = int(aggregation.window.since_us(np.array([closed_us]))[0])
        kept = np.flatnonzero(tiles.time_us > since)
        if len(kept) == len(tiles.time_us):
            return tiles
        return Tiles(tiles.entity[kept], tiles.time_us[kept], tuple(part[kept] for part in tiles.state))


def _sharing(tiled: Sequence[Aggregation]) -> dict[str, Aggregation]:
    """Windows of one feature that hop alike begin at the same moments, so that one row of tiles does for all."""
    longest: dict[tuple[Any, ...], Aggregation] = {}
    for a in tiled:
        shared = longest.setdefault(_alike(a), a)
        if (a.window.length_us or 0) > (shared.window.length_us or 0):
            longest[_alike(a)] = a
    return {a.name: longest[_alike(a)] for a in tiled}


def _alike(a: Aggregation) -> tuple[Any, ...]:
    return a.function, a.column, a.where, a.parameters, a.window.hop_us, a.window.length_us is None


def _starts(entity: Array, tile: Array) -> Array:
    """Where a new entity or tile begins, in a sequence that is ordered by both."""
    new = np.ones(len(entity), dtype=bool)
    new[1:] = (entity[1:] != entity[:-1]) | (tile[1:] != tile[:-1])
    return np.flatnonzero(new)
