"""Reads: the features of entities at a moment, in microseconds.

A record says from when until when its values hold. In that time a read is one look-up and one unpacking. Outside of it
(an event has left a window since, or one that lay ahead has happened) the values are worked out from what the record
holds, by the same kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array
from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.online.layout import HEAD
from mizzen.data.features.online.store import OnlineStore
from mizzen.data.features.online.view import OnlineView


@dataclass(frozen=True, slots=True)
class Vectors:
    """The features of some entities."""

    view: OnlineView
    records: list[bytes]
    found: Array
    """Which entities somebody has seen."""
    event_us: Array
    """Of the newest row of each; 0 where there is none."""

    def to_arrow(self) -> pa.Table:
        """A column for each stored feature."""
        return pa.table(dict(zip(self.view.layout.names, self.view.layout.columns(self.records), strict=True)))

    def matrix(self, names: Sequence[str], dtype: Any = np.float32) -> Array:
        """Numeric features as a matrix of shape (entities, names); NaN where there is no value and no default."""
        into = np.empty((len(self.records), len(names)), dtype=dtype)
        self.view.layout.matrix(self.records, [self.view.layout.names.index(name) for name in names], into)
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
        self._moving = [
            a.name for a in view.definition.aggregations
            if a.function == "time_since_last" or (a.function == "rate" and a.window.hop_us > 1)
        ]  # fmt: skip

    def one(self, entity: Sequence[Any], at_us: int | None = None) -> dict[str, Any]:
        """The features of one entity by name; as nobody's where it is unknown."""
        at_us = self._now_us() if at_us is None else at_us
        return self._view.layout.values(self._records([entity], at_us)[0][0])

    def many(self, entities: Sequence[Sequence[Any]], at_us: int | None = None) -> Vectors:
        """The features of many entities, in their order."""
        at_us = self._now_us() if at_us is None else at_us
        records, found = self._records(entities, at_us)
        event_us = np.array([HEAD.unpack_from(record)[0] for record in records], dtype=np.int64)
        return Vectors(self._view, records, found, event_us)

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
        for number, record in enumerate(stored):
            if record is None:
                records.append(nobody)
                continue
            head = unpack(record)
            if self._moving or not head[2] <= at_us < head[3]:
                stale.append(number)
            records.append(record)
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
        computed = self._view.computed(held, np.full(len(stale), at_us))
        clocks = (computed.event_us, computed.known_us, computed.from_us, computed.until_us)
        fresh = self._view.layout.encode(computed.columns, clocks, [b""] * len(stale))
        for number, record in zip(stale, fresh, strict=True):
            records[number] = record
