"""A view's stored features for requests: the newest row, and windows, as of each request.

`features_of` is the computation of backfill and of the online store alike: events in, one value a request and feature
out, in the order of the requests. It knows nothing of where events come from or where values go.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mizzen.data.features.columns import Array, Domain, Values
from mizzen.data.features.definition import Definition
from mizzen.data.features.events import Events
from mizzen.data.features.searching import sorting
from mizzen.data.features.timeline import Requests, Timeline
from mizzen.data.features.windows import Aggregation, Source, Window, evaluate, states

_NEWEST = "newest row"
BLOCK = 262_144
"""Requests that are computed at a time: few enough for what is worked out of them to stay in a processor's cache."""
THREADS = min(4, os.cpu_count() or 1)
"""That compute at once: the arithmetic on arrays leaves the interpreter alone."""


_Computed = tuple[pa.Array | None, dict[str, pa.Array]]
"""Of some requests: which rows are their newest, and the aggregations by name."""


def source_of(definition: Definition, events: Events, entity: Array, entities: int, *, online: bool = False) -> Source:
    """The events for the kernel; `entity` numbers them. Online, all of them are known, and no dictionary is shared."""
    timeline = Timeline(entity, events.time_us, events.known_us, entities, all_known=online)
    wanted = {a.column for a in definition.aggregations if a.column is not None}
    columns = {name: Values.of(events.values.column(name), shared=not online) for name in wanted}
    masks = {name: np.asarray(events.values.column(name).combine_chunks()).astype(bool) for name in definition.masks}
    if definition.rows:
        number = _row_numbers(events, timeline, [feature.name for feature in definition.rows])
        columns[_NEWEST] = Values(number, np.ones(len(number), dtype=bool), Domain(pa.int64()))
    return Source(timeline, columns, masks)


def features_of(
    definition: Definition, events: Events, entity: Array, entities: int, requests: Requests, wanted: Sequence[str]
) -> dict[str, pa.ChunkedArray]:
    """The wanted stored features for each request, with defaults."""
    source = source_of(definition, events, entity, entities)
    aggregations = [aggregation for aggregation in definition.aggregations if aggregation.name in wanted]
    rows = [feature.name for feature in definition.rows if feature.name in wanted]
    parts: dict[str, list[pa.Array]] = {aggregation.name: [] for aggregation in aggregations}
    newest: list[pa.Array] = []
    # In the order of the events each request is found next to the one before.
    order = sorting(requests.entity, requests.time_us)
    ordered = requests.take(order)

    def computed(start: int) -> _Computed:
        part = ordered.part(start, start + BLOCK)
        at = newest_row(definition, source, part) if rows else None
        return at, evaluate(source, aggregations, part)

    for at, columns_of_part in _each(computed, range(0, max(1, len(requests)), BLOCK)):
        newest += [] if at is None else [at]
        for name, column in columns_of_part.items():
            parts[name] += _chunks(column)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    back = pa.array(place)
    columns: dict[str, pa.ChunkedArray] = {}
    if rows:
        at = pa.chunked_array(newest).take(back)
        columns = {name: pa.chunked_array(_chunks(events.values.column(name).take(at))) for name in rows}
    columns |= {name: pa.chunked_array(parts.pop(name)).take(back) for name in [*parts]}
    return {name: with_default(definition, name, columns[name]) for name in definition.stored if name in columns}


def newest_row(definition: Definition, source: Source, requests: Requests) -> pa.Array:
    """Which event is each request's newest within ttl; null where there is none."""
    newest = Aggregation(_NEWEST, "last", Window(definition.ttl_us), _NEWEST)
    state = states(source, newest, requests)
    row_of = np.empty(len(source.columns[_NEWEST].data), dtype=np.int64)
    row_of[source.columns[_NEWEST].data] = np.arange(len(row_of))
    there = state[0] > 0
    at = np.zeros(len(requests), dtype=np.int64)
    at[there] = row_of[state[3][there]]
    return pa.array(at, pa.int64(), mask=~there)


def with_default(definition: Definition, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with the feature's default where it has no value."""
    default = definition.defaults.get(name)
    if default is None or not column.null_count:
        return column
    return pc.fill_null(column, pa.scalar(default, column.type))


def _each(work: Callable[[int], _Computed], starts: Sequence[int]) -> Iterator[_Computed]:
    """The work of each, in order; the first alone, since what it derives from the events all share."""
    yield work(starts[0])
    if len(starts) > 1:
        with ThreadPoolExecutor(THREADS) as threads:
            yield from threads.map(work, starts[1:])


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]


def _row_numbers(events: Events, timeline: Timeline, names: list[str]) -> Array:
    """Numbers that rise with the rows of an entity; of events alike in both times, the greater row has the greater.

    What is taken of the newest row then does not hang on the order in which such events arrived.
    """
    number = np.arange(len(events), dtype=np.int64)
    for chain in (*timeline.chains, *([timeline.rest] if timeline.rest is not None else [])):
        # Events that are alike are neighbours in one chain.
        alike = (chain.time_us[1:] == chain.time_us[:-1]) & (chain.known_us[1:] == chain.known_us[:-1])
        alike &= chain.entity[1:] == chain.entity[:-1]
        if not alike.any():
            continue
        is_tied = np.concatenate((alike, [False])) | np.concatenate(([False], alike))
        group = np.concatenate(([0], np.cumsum(~alike)))[is_tied].tolist()
        tied = chain.rows[is_tied]
        rows = events.values.select(names).take(pa.array(tied)).to_pylist()
        rank = sorted(range(len(tied)), key=lambda i: (group[i], repr(tuple(rows[i].values()))))
        number[tied[rank]] = np.array(
            sorted(tied.tolist(), key=dict(zip(tied.tolist(), group, strict=True)).__getitem__)
        )
    return number
