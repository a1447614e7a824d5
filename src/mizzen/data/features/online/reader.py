"""Reads: the features of entities at a moment, in microseconds.

A record says from when until when its values hold, and holds those that follow when events leave their windows, as far
ahead as was worked out. So a read is one look-up and one unpacking. Beyond that the values are worked out from what the
record holds, by the same kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array
from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.online.layout import HEAD
from mizzen.data.features.online.moving import Moving, moving_features
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.view import OnlineView
from mizzen.data.features.view import with_default


@dataclass(frozen=True, slots=True)
class Vectors:
    """The features of some entities."""

    view: OnlineView
    records: list[bytes]
    found: Array
    """Which entities somebody has seen."""
    event_us: Array
    """Of the newest row of each; 0 where there is none."""
    moving: list[Moving]
    then_us: Array
    """The moments that the records' values are of."""
    at_us: int

    def to_arrow(self) -> pa.Table:
        """A column for each stored feature."""
        layout = self.view.layout
        columns = dict(zip(layout.names, layout.columns(self.records, defaults=not self.moving), strict=True))
        for feature in self.moving:
            column = columns[feature.name]
            now = feature.at(np.asarray(column.fill_null(0.0)), self.then_us, self.at_us)
            columns[feature.name] = pa.array(now, mask=~np.asarray(column.is_valid()))
        if self.moving:
            columns = {name: with_default(self.view.definition, name, column) for name, column in columns.items()}
        return pa.table(columns)

    def matrix(self, names: Sequence[str], dtype: Any = np.float32) -> Array:
        """Numeric features as a matrix of shape (entities, names); NaN where there is no value and no default."""
        into = np.empty((len(self.records), len(names)), dtype=dtype)
        layout = self.view.layout
        layout.matrix(self.records, [layout.names.index(name) for name in names], into, defaults=not self.moving)
        for feature in self.moving:
            if feature.name in names:
                at = names.index(feature.name)
                into[:, at] = feature.at(into[:, at].astype(np.float64), self.then_us, self.at_us)
        for at, name in enumerate(names if self.moving else ()):
            default = layout.defaults.get(name)
            if default is not None:
                into[np.isnan(into[:, at]), at] = default
        return into


class OnlineReader:
    """Reads one view; `now_us` gives the time where a read does not."""

    def __init__(
        self, store: OnlineStore, view: OnlineView, now_us: Callable[[], int], namespace: str = "default"
    ) -> None:
        self._store, self._view, self._now_us, self._namespace = store, view, now_us, namespace
        self._served_key = view.served(namespace)
        self._prefix = view.prefix(namespace, 0)
        self._served: bytes | None = None
        self._moving = moving_features(view.definition)

    def one(self, entity: Sequence[Any], at_us: int | None = None) -> dict[str, Any]:
        """The features of one entity by name; as nobody's where it is unknown."""
        at_us = self._now_us() if at_us is None else at_us
        record = self._records([entity], at_us)[0][0]
        layout = self._view.layout
        if not self._moving:
            return layout.values(record)
        found = layout.values(record, defaults=False)
        for feature in self._moving:
            found[feature.name] = feature.one_at(found[feature.name], HEAD.unpack_from(record)[2], at_us)
        return {name: layout.defaults.get(name) if value is None else value for name, value in found.items()}

    def many(self, entities: Sequence[Sequence[Any]], at_us: int | None = None) -> Vectors:
        """The features of many entities, in their order."""
        at_us = self._now_us() if at_us is None else at_us
        records, found = self._records(entities, at_us)
        heads = [HEAD.unpack_from(record) for record in records]
        event_us, then_us = (np.array([head[i] for head in heads], dtype=np.int64) for i in (0, 2))
        return Vectors(self._view, records, found, event_us, self._moving, then_us, at_us)

    def _records(self, entities: Sequence[Sequence[Any]], at_us: int) -> tuple[list[bytes], Array]:
        """Records whose values hold at the time."""
        while True:
            keys = self._view.keys(self._prefix, entities)
            served, *stored = self._store.get([self._served_key, *keys])
            if served == self._served or self._is_current(served):
                break
        records: list[bytes] = []
        stale: list[int] = []
        nobody, unpack = self._view.nobody, HEAD.unpack_from
        holding_at = self._view.layout.holding_at
        for number, record in enumerate(stored):
            if record is None:
                records.append(nobody)
                continue
            head = unpack(record)
            if head[2] <= at_us < head[3]:
                records.append(record)
                continue
            now = holding_at(record, at_us)
            if now is None:
                stale.append(number)
            records.append(record if now is None else now)
        if stale:
            self._renew(records, stale, at_us)
        return records, np.array([record is not None for record in stored])

    def _is_current(self, served: bytes | None) -> bool:
        """Whether the generation that was read is the one that is served now."""
        if served is None:
            raise StoreUnavailable(
                f"FeatureView {self._view.definition.name}: the online store is empty now; materialise again"
            )
        prefix = self._view.prefix(self._namespace, int.from_bytes(served, "little"))
        same = prefix == self._prefix
        self._prefix, self._served = prefix, served
        return same

    def _renew(self, records: list[bytes], stale: list[int], at_us: int) -> None:
        held = self._view.held([records[number] for number in stale])
        computed = self._view.computed(held, np.arange(len(stale)), np.full(len(stale), at_us))
        clocks = (computed.event_us, computed.known_us, computed.from_us, computed.until_us)
        fresh = self._view.layout.encode(computed.columns, clocks, [b""] * len(stale))
        for number, record in zip(stale, fresh, strict=True):
            records[number] = record
