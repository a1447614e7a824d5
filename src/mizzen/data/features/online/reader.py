"""Reads: the features of entities at a moment, in microseconds.

A record says from when until when its values hold, and holds those that follow when events leave their windows, as far
ahead as was worked out. So a read is one look-up and one unpacking. Beyond that the values are worked out from what the
record holds, by the same kernel.
"""

from collections.abc import Callable, Sequence
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


class Vectors:
    """The features of some entities, of records that hold at a moment."""

    def __init__(
        self, view: OnlineView, records: Sequence[bytes], found: Sequence[bool], moving: Sequence[Moving], at_us: int
    ) -> None:
        self.view, self.at_us = view, at_us
        self.found = found
        """Which of the entities somebody has seen."""
        self._moving = moving
        self._read = view.columnwise.together(records)

    def to_arrow(self) -> pa.Table:
        """A column for each stored feature."""
        many, names = self.view.columnwise, self.view.layout.names
        columns = dict(zip(names, many.columns(self._read, defaults=not self._moving), strict=True))
        for feature in self._moving:
            column = columns[feature.name]
            now = feature.at(np.asarray(column.fill_null(0.0)), self._read.fixed["from"], self.at_us)
            columns[feature.name] = pa.array(now, mask=~np.asarray(column.is_valid()))
        if self._moving:
            columns = {name: with_default(self.view.definition, name, column) for name, column in columns.items()}
        return pa.table(columns)

    def to_pydict(self) -> dict[str, list[Any]]:
        """A list for each stored feature, of values as `OnlineReader.one` has them: times are microseconds."""
        found = self.view.columnwise.lists(self._read, defaults=not self._moving)
        then_us = self._read.fixed["from"].tolist() if self._moving else []
        for feature in self._moving:
            values = zip(found[feature.name], then_us, strict=True)
            found[feature.name] = [feature.one_at(value, then, self.at_us) for value, then in values]
        for name, default in self.view.layout.defaults.items() if self._moving else ():
            if name in found:
                found[name] = [default if value is None else value for value in found[name]]
        return found

    def matrix(self, names: Sequence[str], dtype: Any = np.float32) -> Array:
        """Numeric features as a matrix of shape (entities, names); NaN where there is no value and no default."""
        into = np.empty((len(self._read.records), len(names)), dtype=dtype)
        self.view.columnwise.matrix(self._read, names, into, defaults=not self._moving)
        for feature in self._moving:
            if feature.name in names:
                at = names.index(feature.name)
                into[:, at] = feature.at(into[:, at].astype(np.float64), self._read.fixed["from"], self.at_us)
        for at, name in enumerate(names if self._moving else ()):
            default = self.view.layout.defaults.get(name)
            if default is not None:
                into[np.isnan(into[:, at]), at] = default
        return into


class OnlineReader:
    """Reads one view; `now_us` gives the time where a read does not."""

    def __init__(
        self, store: OnlineStore, view: OnlineView, now_us: Callable[[], int], namespace: str = "default"
    ) -> None:
        self._store, self.view, self._now_us, self._namespace = store, view, now_us, namespace
        self._served_key = view.served(namespace)
        self._prefix = view.prefix(namespace, 0)
        self._served: bytes | None = None
        self._moving = moving_features(view.definition)

    def one(self, entity: Sequence[Any], at_us: int | None = None) -> dict[str, Any]:
        """The features of one entity by name; as nobody's where it is unknown."""
        at_us = self._now_us() if at_us is None else at_us
        return self.values(self._records([entity], at_us)[0][0], at_us)

    def values(self, record: bytes, at_us: int) -> dict[str, Any]:
        """The features by name, of a record that holds at the time."""
        layout = self.view.layout
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
        return self.vectors(records, found, at_us)

    def vectors(self, records: Sequence[bytes], found: Sequence[bool], at_us: int) -> Vectors:
        """The same of records that hold at the time."""
        return Vectors(self.view, records, found, self._moving, at_us)

    def _records(self, entities: Sequence[Sequence[Any]], at_us: int) -> tuple[list[bytes], list[bool]]:
        """Records whose values hold at the time, and which of the entities somebody has seen."""
        while True:
            found = self.read(self._store.get(self.asked(entities)), at_us)
            if found is not None:
                return found

    def asked(self, entities: Sequence[Sequence[Any]]) -> list[bytes]:
        """The keys to be looked up for entities: what the store has there goes to `read`.

        Raises `RequestUnfit` where a value is of another type than the view's key.
        """
        return [self._served_key, *self.view.keys(self._prefix, entities)]

    def read(self, stored: Sequence[bytes | None], at_us: int) -> tuple[list[bytes], list[bool]] | None:
        """Records whose values hold at the time, and which of the entities somebody has seen.

        `None` where another generation is served by now: ask again. Raises `StoreUnavailable` where there is none.
        """
        served = stored[0]
        if served != self._served and not self._is_current(served):
            return None
        records: list[bytes] = []
        stale: list[int] = []
        nobody, unpack = self.view.nobody, HEAD.unpack_from
        holding_at = self.view.layout.holding_at
        for number, record in enumerate(stored[1:]):
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
        return records, [record is not None for record in stored[1:]]

    def _is_current(self, served: bytes | None) -> bool:
        """Whether the generation that was read is the one that is served now."""
        if served is None:
            raise StoreUnavailable(
                f"FeatureView {self.view.definition.name}: the online store is empty now; materialise again"
            )
        prefix = self.view.prefix(self._namespace, int.from_bytes(served, "little"))
        same = prefix == self._prefix
        self._prefix, self._served = prefix, served
        return same

    def _renew(self, records: list[bytes], stale: list[int], at_us: int) -> None:
        held = self.view.held([records[number] for number in stale])
        computed = self.view.computed(held, np.arange(len(stale)), np.full(len(stale), at_us))
        clocks = (computed.event_us, computed.known_us, computed.from_us, computed.until_us)
        fresh = self.view.layout.encode(computed.columns, clocks, [b""] * len(stale))
        for number, record in zip(stale, fresh, strict=True):
            records[number] = record
