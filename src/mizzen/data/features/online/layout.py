"""How an entity's features lie in its record: a fixed part that is read in one step, a tail, and the state behind it.

    head      4 x int64, 2 x uint32    event time and known-at of the newest row; the requests for which the values hold
                                       [from, until); lengths of tail and state
    valid     1 bit a feature          clear where there is no value
    values    fixed widths             numbers, times, vectors; of text and lists, place and length in the tail
    tail      bytes                    text, bytes, lists (msgpack)
    next      the same once more       values after the next event has left a window; and so on, as far as worked out
    state     msgpack                  events and tiles from which the values follow (`held.py`)

All is little-endian and unaligned, so that a record is one `struct` to Python and one structured dtype to NumPy
(`columnwise.py` reads many of them by it).
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from mizzen.data.features.columns import Array
from mizzen.data.features.errors import DefinitionError

HEAD = struct.Struct("<qqqqII")
FORMAT = 2
"""Of records and of what they hold: part of their keys, so that no program reads what another wrote differently."""
_HEAD_FIELDS: list[Any] = [
    ("event", "<i8"), ("known", "<i8"), ("from", "<i8"), ("until", "<i8"), ("tail", "<u4"), ("state", "<u4"),
]  # fmt: skip
_CODES: tuple[tuple[Any, str, str], ...] = (
    (pt.is_boolean, "?", "?"), (pt.is_int8, "b", "i1"), (pt.is_int16, "h", "i2"), (pt.is_int32, "i", "i4"),
    (pt.is_int64, "q", "i8"), (pt.is_uint8, "B", "u1"), (pt.is_uint16, "H", "u2"), (pt.is_uint32, "I", "u4"),
    (pt.is_uint64, "Q", "u8"), (pt.is_float32, "f", "f4"), (pt.is_float64, "d", "f8"), (pt.is_timestamp, "q", "i8"),
    (pt.is_date32, "i", "i4"),
)  # fmt: skip


HEAD_DTYPE = np.dtype(_HEAD_FIELDS)


@dataclass(frozen=True, slots=True)
class Slot:
    """One feature's place in the fixed part."""

    name: str
    type: pa.DataType
    code: str
    """Of `struct`."""
    dtype: Any
    in_tail: bool


class Layout:
    """The record of one version of a view."""

    def __init__(self, features: Sequence[tuple[str, pa.DataType]], defaults: Mapping[str, Any]) -> None:
        self.defaults = defaults
        self.slots = [_slot(name, type_) for name, type_ in features]
        self.names = [slot.name for slot in self.slots]
        self._valid_bytes = -(-len(self.slots) // 8)
        fields: list[Any] = [*_HEAD_FIELDS, ("valid", f"V{max(1, self._valid_bytes)}")]
        fields += [(f"f{number}", slot.dtype) for number, slot in enumerate(self.slots)]
        self.dtype = np.dtype(fields)
        self._fixed = struct.Struct(
            f"<{HEAD.size}x{max(1, self._valid_bytes)}s" + "".join(slot.code for slot in self.slots)
        )
        assert self._fixed.size == self.dtype.itemsize, "both describe the same bytes"
        ones = np.packbits(np.ones(len(self.slots), dtype=bool), bitorder="little").tobytes()
        self.all_valid = ones or b"\0"
        """The bits of a record that has a value of every feature."""
        self._plain = not any(slot.in_tail or vector_length(slot.type) or is_time(slot.type) for slot in self.slots)

    def encode(
        self,
        columns: Sequence[pa.Array],
        clocks: tuple[Array, Array, Array, Array],
        states: Sequence[bytes],
    ) -> list[bytes]:
        """A record for each row of the columns; `clocks` are event time, known-at, from and until."""
        rows = len(states)
        fixed = np.zeros(rows, dtype=self.dtype)
        tails: list[list[bytes]] = [[] for _ in range(rows)] if any(slot.in_tail for slot in self.slots) else []
        ends = [0] * rows
        valid = np.zeros((rows, len(self.slots)), dtype=bool)
        for number, (slot, column) in enumerate(zip(self.slots, columns, strict=True)):
            valid[:, number] = np.asarray(column.is_valid())
            fixed[f"f{number}"] = _in_tails(slot, column, tails, ends) if slot.in_tail else _fixed_values(slot, column)
        if self.slots:
            bits = np.packbits(valid, axis=1, bitorder="little")
            fixed["valid"] = np.ascontiguousarray(bits).view(f"V{self._valid_bytes}").reshape(rows)
        for name, clock in zip(("event", "known", "from", "until"), clocks, strict=True):
            fixed[name] = clock
        fixed["tail"], fixed["state"] = ends, [len(state) for state in states]
        raw, size = fixed.tobytes(), self.dtype.itemsize
        plain = [raw[start : start + size] for start in range(0, rows * size, size)]
        if not tails and not any(states):
            return plain
        ending = tails or [[]] * rows
        return [b"".join((record, *tail, state)) for record, tail, state in zip(plain, ending, states, strict=True)]

    def joined(self, records: Sequence[bytes], state: bytes) -> bytes:
        """One record of several that hold one after the other, with the state behind them."""
        first = records[0]
        head = HEAD.pack(*HEAD.unpack_from(first)[:5], len(state))
        return b"".join((head, first[HEAD.size :], *records[1:], state))

    def holding_at(self, record: Any, at_us: int) -> Any:
        """The part of a record that holds at a moment; `None` where the state must tell."""
        place, end = 0, len(record) - HEAD.unpack_from(record)[5]
        while place < end:
            _, _, start_us, until_us, tail_bytes, _ = HEAD.unpack_from(record, place)
            if start_us <= at_us < until_us:
                return record[place:] if place else record
            place += self.dtype.itemsize + tail_bytes
        return None

    def state(self, record: Any) -> Any:
        """The bytes of the record's state."""
        length = HEAD.unpack_from(record)[5]
        return record[len(record) - length :]

    def values(self, record: Any, *, defaults: bool = True) -> dict[str, Any]:
        """The features as Python values, the default or `None` where there is none; times as microseconds."""
        unpacked = self._fixed.unpack_from(record)
        if self._plain:
            found = dict(zip(self.names, unpacked[1:], strict=False))
        else:
            found = self._complex_values(unpacked[1:], record)
        if unpacked[0] != self.all_valid:
            bits = unpacked[0]
            for number, name in enumerate(self.names):
                if not bits[number >> 3] & (1 << (number & 7)):
                    found[name] = self.defaults.get(name) if defaults else None
        return found

    def _complex_values(self, flat: tuple[Any, ...], record: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        at = 0
        for slot in self.slots:
            length = vector_length(slot.type)
            if slot.in_tail:
                start = self.dtype.itemsize + flat[at]
                found[slot.name] = from_tail(slot, bytes(record[start : start + flat[at + 1]]))
                at += 2
            elif length:
                found[slot.name] = list(flat[at : at + length])
                at += length
            else:
                found[slot.name] = flat[at]
                at += 1
        return found


def _slot(name: str, type_: pa.DataType) -> Slot:
    for matches, code, dtype in _CODES:
        if matches(type_):
            return Slot(name, type_, code, f"<{dtype}" if dtype != "?" else "?", in_tail=False)
    if (length := vector_length(type_)) > 0 and (pt.is_float32(type_.value_type) or pt.is_float64(type_.value_type)):
        code, dtype = ("f", "<f4") if pt.is_float32(type_.value_type) else ("d", "<f8")
        return Slot(name, type_, f"{length}{code}", (dtype, (length,)), in_tail=False)
    if pt.is_string(type_) or pt.is_large_string(type_) or pt.is_binary(type_) or pt.is_list(type_):
        return Slot(name, type_, "II", ("<u4", (2,)), in_tail=True)
    raise DefinitionError(
        f"feature {name}: expected a type that can be kept online, found {type_}; give it another type"
    )


def vector_length(type_: pa.DataType) -> int:
    """How many numbers a value has; 0 of what is no vector."""
    return int(type_.list_size) if pt.is_fixed_size_list(type_) else 0


def is_time(type_: pa.DataType) -> bool:
    """Whether values are kept as whole numbers of microseconds or days."""
    return bool(pt.is_timestamp(type_) or pt.is_date32(type_))


def _fixed_values(slot: Slot, column: pa.Array) -> Array:
    length = vector_length(slot.type)
    if length:
        flat = np.zeros((len(column), length))
        there = np.asarray(column.is_valid())
        flat[there] = np.asarray(column.drop_null().flatten()).reshape(-1, length)
        return flat
    if is_time(slot.type):
        column = column.view(pa.int32() if pt.is_date32(slot.type) else pa.int64())
    if column.null_count:
        column = column.fill_null(pa.scalar(0, column.type) if not pt.is_boolean(column.type) else False)
    return np.asarray(column)


def _in_tails(slot: Slot, column: pa.Array, tails: list[list[bytes]], ends: list[int]) -> Array:
    places = np.zeros((len(column), 2), dtype=np.uint32)
    for row, value in enumerate(column.to_pylist()):
        if value is not None:
            packed = _to_tail(slot, value)
            places[row] = ends[row], len(packed)
            tails[row].append(packed)
            ends[row] += len(packed)
    return places


def _to_tail(slot: Slot, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if pt.is_temporal(slot.type.value_type):
        value = pa.array(value, slot.type.value_type).cast(pa.int64()).to_pylist()
    return msgspec.msgpack.encode(value)


def from_tail(slot: Slot, packed: bytes) -> Any:
    """A value that lies in the tail."""
    if pt.is_binary(slot.type):
        return packed
    if pt.is_list(slot.type):
        return msgspec.msgpack.decode(packed) if packed else None
    return packed.decode()
