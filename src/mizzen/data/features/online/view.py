"""A view as the online store knows it: the layout of its records, what is held, and the names of its entities.

A record's key is eight bytes of the view's name, version and generation, and the entity's keys after them. A generation
is one filling of the store: a view whose source was replaced as a whole is filled anew beside the old one. To the
version belong the types that the source gave: where a column's type changes, so do the records, and old and new ones
never meet.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array
from mizzen.data.features.definition import Definition
from mizzen.data.features.errors import RequestUnfit
from mizzen.data.features.events import Events, concatenated, events_of
from mizzen.data.features.online.columnwise import Columnwise
from mizzen.data.features.online.held import Held, Holding
from mizzen.data.features.online.layout import FORMAT, Layout
from mizzen.data.features.online.packing import Packing
from mizzen.data.features.timeline import NEVER_US, Requests
from mizzen.data.features.view import newest_row
from mizzen.data.features.windows import evaluate

GRACE_US = 60_000_000
"""How long ago a request may lie and still be answered to the event: clocks of machines differ by less."""
AHEAD_MAX = 32
"""So many changes that are to come are worked out when an entity is written, so that reads need not."""
AHEAD_ROWS = 20_000
"""And at most so many of all entities of one batch together, unless the writer says how many of each."""
_KEY_BYTES_MAX = 400
_INT = struct.Struct(">q")


@dataclass(frozen=True, slots=True)
class Computed:
    """Values of entities at a moment, ready to be laid out."""

    columns: list[pa.Array]
    event_us: Array
    known_us: Array
    from_us: Array
    until_us: Array


class OnlineView:
    """One version of a view over a source of a schema."""

    def __init__(self, definition: Definition, source: pa.Schema, *, grace_us: int = GRACE_US) -> None:
        self.definition = definition
        empty = events_of(definition, source.empty_table())
        self.key_types = [key.type for key in empty.keys]
        self.holding = Holding(definition, empty.values.schema)
        self._packing = Packing(self.holding, self.key_types)
        self._plain_keys = len(self.key_types) == 1 and pa.types.is_integer(self.key_types[0])
        self.rows_only = not definition.aggregations
        self.grace_us = 0 if self.rows_only else grace_us
        nobody = Held(1, np.zeros(0, dtype=np.int64), empty, np.zeros(0, dtype=bool))
        computed = self.computed(nobody, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
        types = [(name, column.type) for name, column in zip(definition.stored, computed.columns, strict=True)]
        self.layout = Layout(types, definition.defaults)
        self.columnwise = Columnwise(self.layout)
        self.identity = _identity(definition, self.key_types, empty.values.schema, types)
        self.nobody = self.layout.encode(computed.columns, _clocks(computed), [b""])[0]
        """The record of an entity that nobody has seen."""

    def computed(self, held: Held, entity: Array, time_us: Array) -> Computed:
        """The stored features of held entities at moments, without defaults; as for those moments only."""
        requests = Requests(entity, time_us, np.full(len(entity), NEVER_US))
        source = self.holding.source(held)
        windows = evaluate(source, self.holding.aggregations(), requests, self.holding.tile_states(held, requests))
        columns: list[pa.Array] = []
        event_us, known_us = np.zeros(len(entity), dtype=np.int64), np.zeros(len(entity), dtype=np.int64)
        if self.definition.rows:
            at = newest_row(self.definition, source, requests)
            there, place = np.asarray(at.is_valid()), np.asarray(at.fill_null(0))
            event_us[there] = held.events.time_us[place[there]]
            known_us[there] = held.events.since_us[place[there]]
            columns = [held.events.values.column(f.name).combine_chunks().take(at) for f in self.definition.rows]
        columns += [windows[aggregation.name] for aggregation in self.definition.aggregations]
        return Computed(columns, event_us, known_us, event_us if self.rows_only else time_us, time_us + 1)

    def records(self, held: Held, as_of_us: int, ahead: int | None = None) -> list[bytes]:
        """A record for each held entity, as of a moment; what no later request can need is left out.

        With `ahead`, so many of an entity's changes to come are worked out, and not what suits the batch.
        """
        closed_us = as_of_us - self.grace_us
        held = self.holding.pruned(self.holding.absorbed(held, closed_us), closed_us)
        everyone = np.arange(held.entities)
        most = max(1, min(AHEAD_MAX, AHEAD_ROWS // max(1, held.entities))) if ahead is None else ahead
        # One more than is laid out: where the last of them ends.
        entity, moment = self.holding.breakpoints(held, as_of_us, most + 1)
        entity = np.concatenate((everyone, entity))
        moment = np.concatenate((np.full(held.entities, as_of_us), moment))
        order = np.lexsort((moment, entity))
        entity, moment = entity[order], moment[order]
        starts = np.searchsorted(entity, everyone)
        until = np.full(len(entity), NEVER_US)
        until[:-1] = np.where(entity[1:] == entity[:-1], moment[1:], NEVER_US)
        kept = np.arange(len(entity)) - starts[entity] <= most
        entity, moment, until = entity[kept], moment[kept], until[kept]
        computed = replace(self.computed(held, entity, moment), until_us=until)
        wanted = np.ones(held.entities, dtype=bool)
        if self.rows_only:  # the newest row is the record itself; only rows of the future need a state
            wanted = np.bincount(held.entity[held.events.time_us > as_of_us], minlength=held.entities) > 0
        states = self._packing.pack(held, wanted)
        if len(entity) == held.entities:  # nobody's values are to change by themselves
            return self.layout.encode(computed.columns, _clocks(computed), states)
        laid = self.layout.encode(computed.columns, _clocks(computed), [b""] * len(entity))
        bounds = np.searchsorted(entity, np.arange(held.entities + 1)).tolist()
        return [self.layout.joined(laid[a:b], state) for a, b, state in zip(bounds, bounds[1:], states, strict=False)]

    def held(self, records: Sequence[Any]) -> Held:
        """What the records hold, numbered in their order."""
        held = self._packing.unpack([b"" if record is None else self.layout.state(record) for record in records])
        if not self.rows_only:
            return held
        plain = [n for n, r in enumerate(records) if r is not None and not len(self.layout.state(r))]
        return joined_held(held, self._rows_of(plain, [records[n] for n in plain])) if plain else held

    def _rows_of(self, entity: list[int], records: Sequence[Any]) -> tuple[Array, Events]:
        read = self.columnwise.together(records)
        columns = dict(zip(self.layout.names, self.columnwise.columns(read, defaults=False), strict=True))
        keys = [pa.nulls(len(records), type_) for type_ in self.key_types]
        event_us, known_us = (np.ascontiguousarray(read.fixed[name]) for name in ("event", "known"))
        values = pa.table({name: columns[name] for name in self.definition.expressions})
        return np.array(entity, dtype=np.int64), Events(keys, event_us, known_us, values)

    def keys(self, prefix: bytes, entities: Sequence[Sequence[Any]]) -> list[bytes]:
        """The records' keys of entities, each given as the values of its keys in order.

        Raises `RequestUnfit` where a value is of another type.
        """
        if self._plain_keys and all(len(entity) == 1 and type(entity[0]) is int for entity in entities):
            return [prefix + _INT.pack(key) for (key,) in entities]
        return [prefix + self._entity(entity) for entity in entities]

    def entity_keys(self, columns: Sequence[pa.Array]) -> list[bytes]:
        """What comes after the prefix in the keys of entities that are given as columns without nulls."""
        if self._plain_keys:
            packed = np.asarray(columns[0]).astype(">i8").tobytes()
            return [packed[start : start + _INT.size] for start in range(0, len(packed), _INT.size)]
        return [self._entity(values) for values in zip(*(column.to_pylist() for column in columns), strict=True)]

    def _entity(self, values: Sequence[Any]) -> bytes:
        if len(values) != len(self.key_types):
            names = ", ".join(key.name for key in self.definition.keys)
            raise RequestUnfit(
                f"FeatureView {self.definition.name}: expected the keys {names}, found {len(values)} values"
            )
        parts = []
        for key, type_, value in zip(self.definition.keys, self.key_types, values, strict=True):
            wanted = (int, np.integer) if pa.types.is_integer(type_) else (str,)
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise RequestUnfit(
                    f"FeatureView {self.definition.name}: expected a key {key.name} of type "
                    f"{'text' if wanted == (str,) else 'int64'}, found {value!r}"
                )
            if isinstance(value, int | np.integer):
                parts.append(_INT.pack(value))
            else:
                text = value.encode()
                parts.append(len(text).to_bytes(4, "big") + text)
        packed = b"".join(parts)
        return packed if len(packed) <= _KEY_BYTES_MAX else b"\xff" + hashlib.blake2b(packed, digest_size=32).digest()

    def prefix(self, namespace: str, generation: int) -> bytes:
        """The beginning of the keys of a generation's records."""
        text = f"{namespace}/{self.identity}#{generation}"
        return b"r" + hashlib.blake2b(text.encode(), digest_size=8).digest()

    def place(self, namespace: str) -> bytes:
        """The key of the view's place, which writers move."""
        return b"p" + self._named(namespace)

    def served(self, namespace: str) -> bytes:
        """The key of the generation that readers get."""
        return b"s" + self._named(namespace)

    def _named(self, namespace: str) -> bytes:
        text = f"{namespace}/{self.identity}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _identity(
    definition: Definition, keys: Sequence[pa.DataType], values: pa.Schema, features: Sequence[tuple[str, pa.DataType]]
) -> str:
    """What records can be read by: name, version, and the types that the source gave it."""
    types = [*(str(key) for key in keys), *(f"{field.name}:{field.type}" for field in values), str(features)]
    shape = hashlib.blake2b("\n".join(types).encode(), digest_size=8).hexdigest()
    return f"{definition.name}@{definition.digest}/{FORMAT}/{shape}"


def joined_held(held: Held, more: tuple[Array, Events]) -> Held:
    """With further events, which are in no tile."""
    entity, events = more
    both = concatenated(held.events, events)
    fresh = np.concatenate((held.fresh, np.ones(len(events), dtype=bool)))
    return Held(held.entities, np.concatenate((held.entity, entity)), both, fresh, held.tiles)


def _clocks(computed: Computed) -> tuple[Array, Array, Array, Array]:
    return computed.event_us, computed.known_us, computed.from_us, computed.until_us
