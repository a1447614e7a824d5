"""One read of all views for all rows of a request, and what becomes of what is not there.

An entity that nobody has seen is *missing*; one whose newest row is older than the view's ttl is *stale*; a view whose
store does not answer, or is empty, is *unavailable*. For each the use says whether the request is refused, gets what a
training set has of nobody (`default`), or nulls (`empty`). What happened is counted by view.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mizzen.data.features.errors import StoreUnavailable
from mizzen.data.features.online.layout import HEAD
from mizzen.data.features.online.reader import OnlineReader, Vectors
from mizzen.data.features.online.store import OnlineStore
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.features.columns import Used
from mizzen.serving.gateway.measures import Measures

Entity = tuple[Any, ...]
NOTHING: frozenset[int] = frozenset()
RETRY_S = 1.0


class Read(NamedTuple):
    """What was read of one view for the rows of a request."""

    records: list[bytes]
    nulls: frozenset[int]
    """Rows whose features are null, whatever the record says."""
    status: list[str]
    """Of each row: `present`, `missing`, `stale` or `unavailable`."""
    at_us: int


class Audit(Protocol):
    """Who records a sample of what was read."""

    def note(self, entities: Sequence[Entity], records: Sequence[bytes], found: Sequence[bool], at_us: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Looked:
    """A view to look up in."""

    used: Used
    reader: OnlineReader
    digest: str
    """Of the view's version."""
    audit: Audit | None = None

    def vectors(self, read: Read) -> Vectors:
        """What was read of it, as columns; of rows that are to be null too."""
        return self.reader.vectors(read.records, [True] * len(read.records), read.at_us)

    def table(self, read: Read) -> pa.Table:
        """What was read of it, as a training set has it."""
        rows = self.vectors(read).to_arrow()
        if not read.nulls:
            return rows
        absent = np.zeros(len(rows), dtype=bool)
        absent[list(read.nulls)] = True
        kept = [pc.if_else(pa.array(absent), pa.scalar(None, column.type), column) for column in rows.columns]
        return pa.table(kept, names=rows.column_names)


class Lookup:
    """Looks up in some views at once."""

    def __init__(
        self, store: OnlineStore, views: Sequence[Looked], now_us: Callable[[], int], measures: Measures
    ) -> None:
        self.store, self.views = store, views
        self._now_us, self._measures = now_us, measures

    def read(self, entities: Sequence[Sequence[Entity]], at_us: int | None = None) -> list[Read]:
        """What each view has for its entities at a moment, or now, in one read of the store.

        Raises `HttpError` where a use says so, and `RequestUnfit` where a key is of another type.
        """
        while True:
            keys = self.asked(entities)
            try:
                stored = self.store.get([key for asked in keys for key in asked])
            except StoreUnavailable as error:
                return self.without(entities, error)
            found = self.found(entities, keys, stored, at_us)
            if found is not None:
                return found

    def asked(self, entities: Sequence[Sequence[Entity]]) -> list[list[bytes]]:
        """For each view, the keys to be looked up. Raises `RequestUnfit`."""
        return [looked.reader.asked(rows) for looked, rows in zip(self.views, entities, strict=True)]

    def found(
        self,
        entities: Sequence[Sequence[Entity]],
        keys: Sequence[Sequence[bytes]],
        stored: Sequence[bytes | None],
        at_us: int | None = None,
    ) -> list[Read] | None:
        """What the store had for those keys means; `None`: ask again, a view was filled anew. Raises `HttpError`."""
        of_now, start, reads = at_us is None, 0, []
        at_us = self._now_us() if at_us is None else at_us
        for looked, rows, asked in zip(self.views, entities, keys, strict=True):
            mine = stored[start : start + len(asked)]
            start += len(asked)
            try:
                read = looked.reader.read(mine, at_us)
            except StoreUnavailable as error:
                reads.append(self._without(looked, rows, error, at_us))
                continue
            if read is None:
                return None
            if of_now and looked.audit is not None:  # of another moment less may be kept than there was
                looked.audit.note(rows, *read, at_us)
            reads.append(self._judged(looked, rows, *read, at_us))
        return reads

    def without(self, entities: Sequence[Sequence[Entity]], error: StoreUnavailable) -> list[Read]:
        """What there is while the store does not answer. Raises `HttpError`."""
        at_us = self._now_us()
        return [self._without(looked, rows, error, at_us) for looked, rows in zip(self.views, entities, strict=True)]

    def _without(self, looked: Looked, rows: Sequence[Entity], error: StoreUnavailable, at_us: int) -> Read:
        use = looked.used.use
        _count(self._measures.features_unavailable, use.view, len(rows))
        if use.unavailable == "error":
            raise HttpError(503, str(error), "features_unavailable", retry_after_s=RETRY_S)
        nulls = frozenset(range(len(rows))) if use.unavailable == "empty" else NOTHING
        return Read([looked.reader.view.nobody] * len(rows), nulls, ["unavailable"] * len(rows), at_us)

    def _judged(
        self, looked: Looked, rows: Sequence[Entity], records: list[bytes], found: list[bool], at_us: int
    ) -> Read:
        use, view = looked.used.use, looked.reader.view
        _count(self._measures.features_read, use.view, len(rows))
        ages = view.definition.ttl_us is not None and bool(view.definition.rows)
        if not ages and False not in found:
            return Read(records, NOTHING, ["present"] * len(rows), at_us)
        status, nulls = [], []
        for number, (record, is_found) in enumerate(zip(records, found, strict=True)):
            stale = is_found and ages and HEAD.unpack_from(record)[0] == 0
            what = "missing" if not is_found else "stale" if stale else "present"
            status.append(what)
            if what == "present":
                continue
            _count(self._measures.features_stale if stale else self._measures.features_missing, use.view, 1)
            otherwise = use.stale if stale else use.missing
            if otherwise == "error":
                raise _refusal(looked, rows[number], number, stale=stale)
            if otherwise == "empty":
                nulls.append(number)
        return Read(records, frozenset(nulls), status, at_us)


def _refusal(looked: Looked, entity: Entity, row: int, *, stale: bool) -> HttpError:
    definition = looked.reader.view.definition
    named = ", ".join(f"{key}={value!r}" for key, value in zip(looked.used.keys, entity, strict=True))
    if stale:
        return HttpError(
            503, f"row {row}: FeatureView {definition.name}: the newest row of {named} is older than the view's ttl",
            "features_stale",
        )  # fmt: skip
    return HttpError(
        400, f"row {row}: FeatureView {definition.name}: expected an entity that was seen, found {named}",
        "features_missing",
    )  # fmt: skip


def _count(counts: dict[str, int], view: str, rows: int) -> None:
    counts[view] = counts.get(view, 0) + rows
