"""What is held of an entity as bytes, and back.

    state     msgpack of [events, others, tiles]; a zero and the events where there is nothing else; empty where nothing
              is held at all
    events    rows of one structured dtype: both clocks, whether in a tile, and every column of fixed width
    others    a list for each column of text, bytes, booleans and lists
    tiles     [number of the aggregation, rows] for each that has some: of one structured dtype, time and partial, or of
              partials that are objects a list of both

All entities of a batch are packed and unpacked together: an entity costs a slice and a join, not an array of its own.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from mizzen.data.features.aggregates.base import Aggregate, State
from mizzen.data.features.columns import Array
from mizzen.data.features.events import Events
from mizzen.data.features.online.held import Held, Holding, Tiles
from mizzen.data.features.windows import Aggregation

_NOTHING: list[Any] = [b"", [], []]
_EVENTS_ALONE = b"\0"
"""No array of msgpack begins so. A list an entity would cost more than the events in it."""


class Packing:
    """The bytes of a view's states; `keys` are the types of its keys."""

    def __init__(self, holding: Holding, keys: Sequence[pa.DataType]) -> None:
        self._holding, self._keys = holding, keys
        self._plain = [field for field in holding.values if _plain_type(field.type) is not None]
        self._others = [field for field in holding.values if _plain_type(field.type) is None]
        fields: list[Any] = [("time", "<i8"), ("known", "<i8"), ("fresh", "?")]
        for number, field in enumerate(self._plain):
            fields += [(f"v{number}", "?"), (f"c{number}", _plain_type(field.type))]
        self._dtype = np.dtype(fields)
        self._tile_dtypes = [_tile_dtype(holding.kernel(aggregation)) for aggregation in holding.tiled]

    def pack(self, held: Held, wanted: Array) -> list[bytes]:
        """The state of each entity; empty where it is not wanted or nothing is held."""
        order = np.argsort(held.entity, kind="stable")
        order = order[wanted[held.entity[order]]]
        bounds = (np.searchsorted(held.entity[order], np.arange(held.entities + 1)) * self._dtype.itemsize).tolist()
        events = held.events.take(order)
        rows = self._rows(events, held.fresh[order]).tobytes()
        others = [events.values.column(field.name).to_pylist() for field in self._others]
        tiles = self._tiles(held)
        packed = [b""] * held.entities
        for entity in np.flatnonzero(wanted).tolist():
            start, stop = bounds[entity], bounds[entity + 1]
            if start == stop and entity not in tiles:
                continue
            if not others and entity not in tiles:
                packed[entity] = _EVENTS_ALONE + rows[start:stop]
                continue
            first, after = start // self._dtype.itemsize, stop // self._dtype.itemsize
            parts = [rows[start:stop], [values[first:after] for values in others], tiles.get(entity, [])]
            packed[entity] = msgspec.msgpack.encode(parts)
        return packed

    def _rows(self, events: Events, fresh: Array) -> Array:
        rows = np.empty(len(events), dtype=self._dtype)
        rows["time"], rows["known"], rows["fresh"] = events.time_us, events.since_us, fresh
        for number, field in enumerate(self._plain):
            column = events.values.column(field.name).combine_chunks()
            if pt.is_temporal(field.type):
                column = column.view(pa.int32() if field.type.bit_width == 32 else pa.int64())
            rows[f"v{number}"] = np.asarray(column.is_valid())
            rows[f"c{number}"] = np.asarray(column.fill_null(0))
        return rows

    def _tiles(self, held: Held) -> dict[int, list[Any]]:
        """The packed tiles of the entities that have some."""
        packed: dict[int, list[Any]] = {}
        for number, aggregation in enumerate(self._holding.tiled):
            tiles = held.tiles.get(aggregation.name)
            if tiles is None or not len(tiles.entity):
                continue
            kernel, dtype = self._holding.kernel(aggregation), self._tile_dtypes[number]
            raw = _tile_rows(tiles, dtype).tobytes() if dtype is not None else b""
            entities, starts = np.unique(tiles.entity, return_index=True)
            stops = [*starts[1:].tolist(), len(tiles.entity)]
            for entity, start, stop in zip(entities.tolist(), starts.tolist(), stops, strict=True):
                if dtype is not None:
                    own: Any = raw[start * dtype.itemsize : stop * dtype.itemsize]
                else:
                    own = [tiles.time_us[start:stop].tobytes(), kernel.pack(tiles.state, slice(start, stop))]
                packed.setdefault(entity, []).append([number, own])
        return packed

    def unpack(self, states: Sequence[Any]) -> Held:
        """What `pack` wrote, for as many entities."""
        unpacked: list[list[Any]] = []
        events_of: list[Any] = []
        for state in states:
            alone = len(state) == 0 or state[:1] == _EVENTS_ALONE
            parts = _NOTHING if alone else msgspec.msgpack.decode(state)
            unpacked.append(parts)
            events_of.append(state[1:] if alone else parts[0])
        rows = np.frombuffer(b"".join(events_of), dtype=self._dtype)
        counts = [len(events) // self._dtype.itemsize for events in events_of]
        columns = {field.name: self._column(rows, number, field.type) for number, field in enumerate(self._plain)}
        for number, field in enumerate(self._others):
            values = [value for parts in unpacked if parts[1] for value in parts[1][number]]
            columns[field.name] = pa.array(values, field.type)
        names = self._holding.values.names
        ordered = [columns[name] for name in names]
        table = pa.Table.from_arrays(ordered, schema=self._holding.values) if names else _no_columns(len(rows))
        keys = [pa.nulls(len(rows), type_) for type_ in self._keys]
        time_us, known_us = (np.ascontiguousarray(rows[name]) for name in ("time", "known"))
        events = Events(keys, time_us, known_us, table)
        entity = np.repeat(np.arange(len(states)), counts)
        return Held(len(states), entity, events, np.ascontiguousarray(rows["fresh"]), self._unpacked_tiles(unpacked))

    def _column(self, rows: Array, number: int, type_: pa.DataType) -> pa.Array:
        column = pa.array(np.ascontiguousarray(rows[f"c{number}"]), mask=~rows[f"v{number}"])
        return column.view(type_) if pt.is_temporal(type_) else column

    def _unpacked_tiles(self, unpacked: Sequence[list[Any]]) -> dict[str, Tiles]:
        found: dict[int, tuple[list[int], list[Any]]] = {}
        for owner, parts in enumerate(unpacked):
            for number, own in parts[2]:
                owners, pieces = found.setdefault(number, ([], []))
                owners.append(owner)
                pieces.append(own)
        tiles = {}
        for number, (owners, pieces) in found.items():
            aggregation, dtype = self._holding.tiled[number], self._tile_dtypes[number]
            if dtype is None:
                tiles[aggregation.name] = self._of_objects(aggregation, owners, pieces)
                continue
            rows = np.frombuffer(b"".join(pieces), dtype=dtype)
            entity = np.repeat(owners, [len(piece) // dtype.itemsize for piece in pieces])
            state: State = tuple(np.ascontiguousarray(rows[name]) for name in (dtype.names or ())[1:])
            tiles[aggregation.name] = Tiles(entity, np.ascontiguousarray(rows["time"]), state)
        return tiles

    def _of_objects(self, aggregation: Aggregation, owners: list[int], pieces: list[Any]) -> Tiles:
        kernel = self._holding.kernel(aggregation)
        times = [np.frombuffer(packed, dtype=np.int64) for packed, _ in pieces]
        states = [kernel.unpack(partials) for _, partials in pieces]
        entity = np.repeat(owners, [len(each) for each in times])
        state: State = tuple(np.concatenate(arrays) for arrays in zip(*states, strict=True))
        return Tiles(entity, np.concatenate(times), state)


def _tile_dtype(kernel: Aggregate) -> Any:
    """Of the rows of an aggregate's tiles; `None` where a partial is an object."""
    parts = [array.dtype for array in kernel.empty(0)]
    if any(part.hasobject for part in parts):
        return None
    return np.dtype([("time", "<i8"), *((f"s{number}", part.newbyteorder("<")) for number, part in enumerate(parts))])


def _tile_rows(tiles: Tiles, dtype: Any) -> Array:
    rows = np.empty(len(tiles.time_us), dtype=dtype)
    rows["time"] = tiles.time_us
    for number, array in enumerate(tiles.state):
        rows[f"s{number}"] = array
    return rows


def _plain_type(type_: pa.DataType) -> str | None:
    """The dtype of a column of fixed width; `None` where it has another."""
    if pt.is_temporal(type_) and type_.bit_width in {32, 64}:
        return "<i4" if type_.bit_width == 32 else "<i8"
    if pt.is_integer(type_) or pt.is_float32(type_) or pt.is_float64(type_):
        return str(np.dtype(type_.to_pandas_dtype()).str)
    return None


def _no_columns(rows: int) -> pa.Table:
    return pa.table({"": pa.nulls(rows)}).select([])
