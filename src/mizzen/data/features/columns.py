"""Columns as the kernel computes with them: an array of numbers, which of them count, and the way back to Arrow.

Integers, booleans, times and dates become int64, floating numbers float64. Text and anything else with an order becomes
codes: places in a sorted dictionary, so that the order of the codes is the order of the values. Online, where rows come
a few at a time and no dictionary is shared, the values themselves are kept in an array of objects; the kernel compares
and picks, and does not care.

Null and NaN both count as missing: an aggregate skips them. Infinity is a value like any other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mizzen.data.features.errors import RowsUnfit

Array = npt.NDArray[Any]

US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True)
class Domain:
    """What the numbers of a column stand for."""

    type: pa.DataType
    dictionary: pa.Array | None = None
    """Sorted, where the numbers are places in it."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the kernel's array: int64, float64 or object."""
        if self.dictionary is not None or is_whole(self.type):
            return np.dtype(np.int64)
        return np.dtype(np.float64) if is_floating(self.type) else np.dtype(object)

    @property
    def is_number(self) -> bool:
        """Whether values can be added."""
        return self.dictionary is None and (
            pt.is_integer(self.type) or pt.is_boolean(self.type) or is_floating(self.type)
        )

    def decode(self, data: Array, valid: Array) -> pa.Array:
        """The kernel's numbers as a column; null where not valid."""
        if self.dictionary is not None:
            return self.dictionary.take(pa.array(data, pa.int64(), mask=~valid))
        if data.dtype == object:
            return pa.array(
                [value if is_there else None for value, is_there in zip(data, valid, strict=True)], self.type
            )
        if pt.is_date32(self.type):
            return pa.array(data.astype(np.int32), pa.int32(), mask=~valid).cast(self.type)
        if pt.is_decimal(self.type):
            return pa.array(data, pa.float64(), mask=~valid)
        return pa.array(data, mask=~valid).cast(self.type, safe=False)


def is_floating(type_: pa.DataType) -> bool:
    """Whether the kernel computes with such values as float64."""
    return bool(pt.is_floating(type_) or pt.is_decimal(type_))


def is_whole(type_: pa.DataType) -> bool:
    """Whether the kernel computes with such values as int64."""
    return bool(pt.is_integer(type_) or pt.is_boolean(type_) or pt.is_temporal(type_))


@dataclass(frozen=True, slots=True)
class Values:
    """One column: `data[i]` counts where `valid[i]`."""

    data: Array
    valid: Array
    domain: Domain

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray, *, shared: bool = True) -> "Values":
        """The column for the kernel; with `shared` text becomes codes, else it stays as it is."""
        column = _whole(column)
        type_ = column.type
        valid = np.asarray(pc.is_valid(column))
        if is_floating(type_):
            data = pc.fill_null(pc.cast(column, pa.float64()), 0.0).to_numpy(zero_copy_only=False)
            missing = np.isnan(data)
            if missing.any():
                valid = valid & ~missing
                data = np.where(missing, 0.0, data)
            return cls(data, valid, Domain(type_))
        if is_whole(type_):
            return cls(_as_int64(column), valid, Domain(type_))
        if not shared or not (pt.is_string(type_) or pt.is_large_string(type_) or pt.is_binary(type_)):
            data = np.empty(len(column), dtype=object)
            data[:] = column.to_pylist()
            return cls(data, valid, Domain(type_))
        codes, dictionary = _sorted_codes(column)
        return cls(codes, valid, Domain(type_, dictionary))


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):  # no chunk at all
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    return whole.dictionary_decode() if pt.is_dictionary(whole.type) else whole


def _as_int64(column: pa.Array) -> Array:
    type_ = column.type
    if pt.is_timestamp(type_) or pt.is_duration(type_) or pt.is_time64(type_) or pt.is_date64(type_):
        column = column.view(pa.int64())
    elif pt.is_date32(type_) or pt.is_time32(type_):
        column = column.view(pa.int32())
    try:
        numbers: Array = pc.fill_null(pc.cast(column, pa.int64()), 0).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise RowsUnfit(f"expected whole numbers that fit int64, found {type_}: {error}") from error
    return numbers


def _sorted_codes(column: pa.Array) -> tuple[Array, pa.Array]:
    encoded = pc.dictionary_encode(column)
    order = pc.array_sort_indices(encoded.dictionary)
    rank = np.empty(len(order), dtype=np.int64)
    rank[np.asarray(order)] = np.arange(len(order))
    codes = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)
    ranked = rank[codes] if len(rank) else np.zeros(len(codes), dtype=np.int64)
    return ranked, encoded.dictionary.take(order)


def times_us(column: pa.Array | pa.ChunkedArray) -> tuple[Array, Array]:
    """Times as microseconds since 1970 (UTC), whatever their unit; and which are there.

    A part of a second below the microsecond is cut towards the past, so that no event moves into the future.
    """
    whole = _whole(column)
    type_ = whole.type
    valid = np.asarray(pc.is_valid(whole))
    if pt.is_date32(type_):
        days = pc.fill_null(whole.view(pa.int32()), 0).to_numpy(zero_copy_only=False)
        return days.astype(np.int64) * (86_400 * US_PER_S), valid
    if not pt.is_timestamp(type_):
        raise TypeError(f"expected times, found {type_}")
    raw = pc.fill_null(whole.view(pa.int64()), 0).to_numpy(zero_copy_only=False)
    if type_.unit == "ns":
        return raw // 1000, valid
    return raw * {"s": US_PER_S, "ms": 1000, "us": 1}[type_.unit], valid
