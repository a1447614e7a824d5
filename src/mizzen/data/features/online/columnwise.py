"""The records of many entities read at once, as Arrow columns, as Python lists or as one matrix.

The fixed parts of all records are joined into one array of bytes. Features of one type that lie side by side are a
*run*: one copy out of that array has all of their values, feature by feature, and one of the bits has which of them are
there. So a read costs a few steps for each run, and none for each value. What has no fixed width (text, lists) is read
one by one from the tails, vectors a feature at a time.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from mizzen.data.features.columns import Array
from mizzen.data.features.online.layout import Layout, Slot, from_tail, is_time, vector_length

_MATRICES_KEPT = 64


@dataclass(frozen=True, slots=True)
class Together:
    """The fixed parts of some records, and the records."""

    records: Sequence[Any]
    fixed: Array
    """One row of the layout's dtype for each."""
    valid: Array | None
    """Of shape (features, records): which have a value; `None`: all of them."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Features side by side, of one type of fixed width; or one that is not of such a type."""

    slots: Sequence[Slot]
    first: int
    """The number of the first feature."""
    offset: int
    """The byte at which it begins in a record."""
    is_block: bool

    @property
    def features(self) -> slice:
        return slice(self.first, self.first + len(self.slots))


class _Part(NamedTuple):
    """What a matrix has of one run: columns of the run's block, and which of the matrix they become."""

    run: _Run
    taken: Any
    into: Any


class Columnwise:
    """Reads many records of one layout."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._runs = _runs(layout)
        self._number = {name: number for number, name in enumerate(layout.names)}
        self._parts = lru_cache(_MATRICES_KEPT)(self._parts_of)

    def together(self, records: Sequence[Any]) -> Together:
        """The records, ready to be read."""
        layout = self._layout
        size = layout.dtype.itemsize
        joined = b"".join([record[:size] for record in records])
        fixed = np.frombuffer(joined, dtype=layout.dtype)
        flags = np.ascontiguousarray(fixed["valid"])
        if flags.tobytes() == layout.all_valid * len(records):
            return Together(records, fixed, None)
        bits = flags.view(np.uint8).reshape(len(records), -1)
        valid = np.unpackbits(bits, axis=1, bitorder="little")[:, : len(layout.slots)]
        return Together(records, fixed, np.ascontiguousarray(valid.T).astype(bool))

    def columns(self, read: Together, *, defaults: bool = True) -> list[pa.Array]:
        """The features as columns, with the default where there is no value."""
        made: list[pa.Array] = []
        for run in self._runs:
            if run.is_block:
                made += self._block_columns(read, run, defaults=defaults)
                continue
            slot, column, absent = run.slots[0], read.fixed[f"f{run.first}"], _absent(read, run.first)
            if slot.in_tail:
                values = _from_tails(slot, column, absent, read.records, self._layout.dtype.itemsize)
                whole = _list_of_times(slot, values) if _has_times(slot) else pa.array(values, slot.type)
            else:
                flat = pa.array(np.ascontiguousarray(column).reshape(-1))
                whole = pa.FixedSizeListArray.from_arrays(flat, vector_length(slot.type), mask=pa.array(absent))
            if defaults and slot.name in self._layout.defaults and whole.null_count:
                whole = whole.fill_null(pa.scalar(self._layout.defaults[slot.name], slot.type))
            made.append(whole)
        return made

    def lists(self, read: Together, *, defaults: bool = True) -> dict[str, list[Any]]:
        """The features as Python values, as `Layout.values` has them: the default or `None` where there is none."""
        made: list[list[Any]] = []
        for run in self._runs:
            if run.is_block:
                made += self._block(read, run).tolist()
                continue
            slot, column = run.slots[0], read.fixed[f"f{run.first}"]
            if slot.in_tail:
                absent = _absent(read, run.first)
                made.append(_from_tails(slot, column, absent, read.records, self._layout.dtype.itemsize))
            else:
                made.append(column.tolist())
        if read.valid is not None:
            fallback = [self._layout.defaults.get(name) if defaults else None for name in self._layout.names]
            numbers, rows = np.nonzero(~read.valid)
            for number, row in zip(numbers.tolist(), rows.tolist(), strict=True):
                made[number][row] = fallback[number]
        return dict(zip(self._layout.names, made, strict=True))

    def matrix(self, read: Together, names: Sequence[str], into: Array, *, defaults: bool = True) -> None:
        """Numeric features as the columns of a float matrix; the default or NaN where there is none."""
        for part in self._parts(tuple(names)):
            into[:, part.into] = self._rows(read, part.run)[:, part.taken]
        if read.valid is not None:
            known: Mapping[str, Any] = self._layout.defaults if defaults else {}
            fallback = np.array([known.get(name, np.nan) for name in names], dtype=into.dtype)
            valid = read.valid[[self._number[name] for name in names]].T
            np.copyto(into, fallback, where=~valid)

    def _rows(self, read: Together, run: _Run) -> Array:
        """The values of a run, of shape (records, features)."""
        raw = read.fixed.view(np.uint8).reshape(len(read.fixed), self._layout.dtype.itemsize)
        dtype = np.dtype(run.slots[0].dtype)
        width = len(run.slots) * dtype.itemsize
        return np.ascontiguousarray(raw[:, run.offset : run.offset + width]).view(dtype)

    def _block(self, read: Together, run: _Run) -> Array:
        """The values of a run, of shape (features, records)."""
        return np.ascontiguousarray(self._rows(read, run).T)

    def _block_columns(self, read: Together, run: _Run, *, defaults: bool) -> list[pa.Array]:
        values, rows, type_ = self._block(read, run), len(read.fixed), run.slots[0].type
        valid = None if read.valid is None else read.valid[run.features]
        if valid is not None and defaults:
            values, valid = values.copy(), valid.copy()
            for at, slot in enumerate(run.slots):
                if slot.name in self._layout.defaults:
                    values[at, ~valid[at]] = _stored(slot, self._layout.defaults[slot.name])
                    valid[at] = True
        whole = pa.array(values.reshape(-1), mask=None if valid is None or valid.all() else ~valid.reshape(-1))
        if whole.type != type_:
            whole = whole.view(type_) if is_time(type_) else whole.cast(type_)
        return [whole.slice(at * rows, rows) for at in range(len(run.slots))]

    def _parts_of(self, names: tuple[str, ...]) -> list[_Part]:
        """Of which runs a matrix of features is put together."""
        wanted = [(self._number[name], at) for at, name in enumerate(names)]
        parts = []
        for run in self._runs:
            mine = [(number - run.first, at) for number, at in wanted if 0 <= number - run.first < len(run.slots)]
            if mine:
                taken, into = zip(*mine, strict=True)
                parts.append(_Part(run, _as_slice(taken), _as_slice(into)))
        return parts


def _runs(layout: Layout) -> list[_Run]:
    def kind(numbered: tuple[int, Slot]) -> tuple[Any, ...]:
        number, slot = numbered
        alone = slot.in_tail or vector_length(slot.type) > 0
        return (number,) if alone else (slot.type,)

    fields: Mapping[str, Any] = layout.dtype.fields or {}
    found = []
    for _, group in itertools.groupby(enumerate(layout.slots), key=kind):
        numbers, slots = zip(*group, strict=True)
        offset = fields[f"f{numbers[0]}"][1]
        is_block = not slots[0].in_tail and not vector_length(slots[0].type)
        found.append(_Run(slots, numbers[0], offset, is_block))
    return found


def _absent(read: Together, number: int) -> Array:
    return np.zeros(len(read.records), dtype=bool) if read.valid is None else ~read.valid[number]


def _stored(slot: Slot, default: Any) -> Any:
    """A default as the record has such values: times as whole numbers."""
    if not is_time(slot.type):
        return default
    whole = pa.int32() if pt.is_date32(slot.type) else pa.int64()
    return pa.scalar(default, slot.type).cast(whole).as_py()


def _from_tails(slot: Slot, places: Array, absent: Array, records: Sequence[Any], start: int) -> list[Any]:
    return [
        None if gone else from_tail(slot, bytes(record[start + place : start + place + length]))
        for record, (place, length), gone in zip(records, places.tolist(), absent.tolist(), strict=True)
    ]


def _has_times(slot: Slot) -> bool:
    return bool(pt.is_list(slot.type) and pt.is_temporal(slot.type.value_type))


def _list_of_times(slot: Slot, values: list[Any]) -> pa.Array:
    return pa.array(values, pa.list_(pa.int64())).cast(slot.type)


def _as_slice(numbers: Sequence[int]) -> Any:
    """The numbers as a slice where they follow one another: a view costs less than a choice."""
    first, count = numbers[0], len(numbers)
    return slice(first, first + count) if list(numbers) == list(range(first, first + count)) else list(numbers)
