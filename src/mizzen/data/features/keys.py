"""Entities as numbers: codes within one computation, hashes that are the same on every machine.

Codes number the entities that occur among the events and the requests at hand, whatever their keys' types and however
many keys they have. Hashes say to which part of a split computation or of a store an entity belongs; they are of the
values alone (not of a library's version), so that parts computed anywhere fit together.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mizzen.data.features.columns import Array
from mizzen.data.features.errors import RowsUnfit

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)


def as_key(column: pa.Array | pa.ChunkedArray, wanted: str | None, where: str) -> pa.Array:
    """A key column as int64 or text. Raises `RowsUnfit` where it is neither, or not of the wanted type.

    A column that holds nothing but nulls is of either type.
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.array([], whole.type)
    if pt.is_dictionary(whole.type):
        whole = whole.dictionary_decode()
    type_ = whole.type
    if pt.is_integer(type_):
        found = "int64"
    elif pt.is_string(type_) or pt.is_large_string(type_) or pt.is_string_view(type_):
        found = "text"
    elif pt.is_null(type_):
        found = wanted or "text"
    else:
        raise RowsUnfit(f"{where}: expected a key of whole numbers or text, found {type_}")
    if wanted is not None and wanted != found:
        raise RowsUnfit(f"{where}: expected a key of type {wanted}, found {type_}; cast it in the source")
    try:
        return pc.cast(whole, pa.int64() if found == "int64" else pa.string())
    except pa.ArrowInvalid as error:
        raise RowsUnfit(f"{where}: expected keys that fit int64, found {type_}: {error}") from error


def encode(events: Sequence[pa.Array], asked: Sequence[pa.Array]) -> tuple[Array, Array, int]:
    """The entity numbers of events and of requests (-1 where a key is null), and how many there are.

    Each is given as its key columns, in the same order and of the same types.
    """
    split, total = len(events[0]), len(events[0]) + len(asked[0])
    codes = np.zeros(total, dtype=np.int64)
    missing = np.zeros(total, dtype=bool)
    size = 1
    for mine, theirs in zip(events, asked, strict=True):
        both = pc.dictionary_encode(pa.chunked_array([mine, theirs]).combine_chunks())
        missing |= np.asarray(pc.is_null(both.indices))
        inner = pc.fill_null(both.indices, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        codes = codes * max(1, len(both.dictionary)) + inner
        size *= max(1, len(both.dictionary))
        if size > total:  # close the gaps, so that further keys cannot overflow
            dense = pc.dictionary_encode(pa.array(codes))
            codes, size = dense.indices.to_numpy().astype(np.int64), len(dense.dictionary)
    codes[missing] = -1
    return codes[:split], codes[split:], size


def numbered(keys: Sequence[pa.Array]) -> tuple[Array, Array]:
    """Each row's entity as a number from 0, and where each entity comes first. No key is null."""
    codes, _, _ = encode(keys, [key.slice(0, 0) for key in keys])
    if len(keys) > 1:  # numbers of combinations that do not occur are left out
        codes = pc.dictionary_encode(pa.array(codes)).indices.to_numpy().astype(np.int64)
    first = np.empty(int(codes.max(initial=-1)) + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return codes, first


def hashes(columns: Sequence[pa.Array]) -> Array:
    """64 bits of each row's keys: splitmix64 of whole numbers, a polynomial of the bytes of text, mixed together."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        numbers = column if pt.is_integer(column.type) else None
        if numbers is not None:
            own = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False).astype(np.uint64)
        else:
            own = _text_hashes(column)
        mixed = _mixed(own ^ (mixed * _STEP + _STEP))
    return mixed


def _mixed(x: Array) -> Array:
    """splitmix64's finaliser (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed


def _text_hashes(column: pa.Array) -> Array:
    encoded = pc.dictionary_encode(pc.fill_null(column, ""))
    words = encoded.dictionary
    buffers = words.buffers()
    offsets = np.frombuffer(buffers[1], dtype=np.int32)[words.offset : words.offset + len(words) + 1].astype(np.int64)
    text = np.frombuffer(buffers[2] or b"", dtype=np.uint8)
    lengths = np.diff(offsets)
    hashed = lengths.astype(np.uint64)
    for place in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > place)
        hashed[longer] = _mixed(hashed[longer] * _STEP + text[offsets[longer] + place])
    own: Array = hashed[encoded.indices.to_numpy()]
    return own
