"""Tensors as they travel: a datatype, a shape and raw little-endian bytes.

From the moment a request is decoded until a runtime takes it, a tensor is the bytes that the binary tensor extension
and our frames carry: row-major, little endian, no padding. Rows of several requests are put together by putting their
bytes one after the other, and taken apart by slicing, so the gateway never copies an element and needs no array
library.

`BYTES` elements are a little-endian `u32` length followed by that many bytes, as the binary tensor extension has them;
these too concatenate. Only taking them apart needs a walk (`element_ends`).
"""

import functools
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

_NATIVE = sys.byteorder == "little"
"""Whether elements travel as this machine has them, so that they need not be turned around."""
Buffer = bytes | bytearray | memoryview


class Datatype(msgspec.Struct, frozen=True):
    """An element type of the Open Inference Protocol."""

    name: str
    size: int
    """Bytes of one element; 0 for `BYTES`, whose elements differ."""
    code: str
    """The element in the notation of `struct`, for `BF16` its bits; empty for `BYTES`."""
    json: str
    """What an element is in JSON: `number`, `integer`, `boolean` or `string`."""


DATATYPES: Final = {
    datatype.name: datatype
    for datatype in (
        Datatype("BOOL", 1, "?", "boolean"),
        Datatype("UINT8", 1, "B", "integer"),
        Datatype("UINT16", 2, "H", "integer"),
        Datatype("UINT32", 4, "I", "integer"),
        Datatype("UINT64", 8, "Q", "integer"),
        Datatype("INT8", 1, "b", "integer"),
        Datatype("INT16", 2, "h", "integer"),
        Datatype("INT32", 4, "i", "integer"),
        Datatype("INT64", 8, "q", "integer"),
        Datatype("FP16", 2, "e", "number"),
        Datatype("BF16", 2, "H", "number"),
        Datatype("FP32", 4, "f", "number"),
        Datatype("FP64", 8, "d", "number"),
        Datatype("BYTES", 0, "", "string"),
    )
}


class TensorSpec(msgspec.Struct, frozen=True):
    """A named input or output of a model. -1 in the shape stands where any length goes."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Signature(msgspec.Struct, frozen=True):
    """What a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    columns: tuple[str, ...] = ()
    """Names of the columns of a single two-dimensional input, for people; empty where the inputs are the columns."""

    @property
    def batchable(self) -> bool:
        """Whether requests can be put together: the first dimension of every input and output counts rows."""
        return all(spec.shape[:1] == (-1,) for spec in (*self.inputs, *self.outputs))


class Tensor(msgspec.Struct):
    """A value: `data` holds exactly the elements of `shape`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer


class BadTensorError(ValueError):
    """The bytes are not those of a tensor of that datatype and shape; the message says what was expected and found."""


def element_count(shape: tuple[int, ...]) -> int:
    """How many elements a shape holds; 1 for a scalar."""
    count = 1
    for length in shape:
        count *= length
    return count


def element_ends(data: Buffer) -> list[int]:
    """Where each `BYTES` element ends in `data`.

    Raises `BadTensorError` where the lengths do not add up to the data.

    >>> element_ends(pack_strings([b"ab", b""]))
    [6, 10]
    """
    ends: list[int] = []
    position, size = 0, len(data)
    unpack = struct.Struct("<I").unpack_from
    while position + 4 <= size:
        position += 4 + unpack(data, position)[0]
        ends.append(position)
    if position != size:
        raise BadTensorError(
            f"expected BYTES elements, each a 4-byte length and its bytes; they end {position} of {size}"
        )
    return ends


def pack_strings(values: list[bytes]) -> bytes:
    """`BYTES` elements as they travel."""
    pack = struct.Struct("<I").pack
    return b"".join([part for value in values for part in (pack(len(value)), value)])


def unpack_strings(data: Buffer) -> list[bytes]:
    """The `BYTES` elements in `data`. Raises `BadTensorError` as `element_ends` does."""
    view = memoryview(data)
    start, values = 0, []
    for end in element_ends(data):
        values.append(bytes(view[start + 4 : end]))
        start = end
    return values


def pack_elements(datatype: Datatype, values: Sequence[Any]) -> bytes:
    """Numbers or booleans as they travel: the nearest value of the datatype.

    Raises `struct.error` or `OverflowError` where one is beyond its range.
    """
    if datatype.name == "BF16":
        return struct.pack(f"<{len(values)}H", *map(_bfloat16_bits, values))
    return _packer(datatype.code, len(values))(*values)


def unpack_elements(datatype: Datatype, count: int, data: Buffer) -> Sequence[Any]:
    """The numbers or booleans in `data`. Raises `struct.error` where it does not hold exactly `count`.

    >>> list(unpack_elements(DATATYPES["BF16"], 2, pack_elements(DATATYPES["BF16"], [1.0, 3.14159])))
    [1.0, 3.140625]
    """
    code = datatype.code
    if _NATIVE and code != "e" and len(data) == count * datatype.size:
        view: Any = memoryview(data)
        values: Sequence[Any] = view.cast(code).tolist()
    else:
        values = struct.unpack(f"<{count}{code}", data)
    if datatype.name == "BF16":  # the upper half of a float's bits
        return struct.unpack(f"<{count}f", struct.pack(f"<{count}I", *[bits << 16 for bits in values]))
    return values


@functools.lru_cache(maxsize=256)
def _packer(code: str, count: int) -> Callable[..., bytes]:
    """Packs so many elements: kept, since most requests have as many as the last.

    In standard sizes even where the machine's are the same: these alone are checked for being beyond the range.
    """
    return struct.Struct(f"<{count}{code}").pack


def _bfloat16_bits(value: float) -> int:
    """The nearest bfloat16, ties to even. A double is rounded once and not by way of a float, where the float lies
    halfway between two of them.
    """
    packed = struct.pack("<f", value)
    bits = int.from_bytes(packed, "little")
    if value != value:  # noqa: PLR0124 - NaN
        return bits >> 16 | 0x40
    lower, upper = bits & 0xFFFF, bits >> 16
    if lower == 0x8000:
        beyond = abs(value) - abs(struct.unpack("<f", packed)[0])
        lower += 1 if beyond > 0 or (beyond == 0 and upper & 1) else -1
    upper += lower > 0x8000
    if upper & 0x7FFF == 0x7F80 and abs(value) != float("inf"):
        raise OverflowError("float too large to pack with BF16 format")
    return upper


def checked_size(datatype: Datatype, shape: tuple[int, ...], data: Buffer) -> None:
    """Raises `BadTensorError` where `data` does not hold exactly the elements of `shape`."""
    count = element_count(shape)
    if datatype.size:
        if len(data) != count * datatype.size:
            raise BadTensorError(
                f"expected {count * datatype.size} bytes for {datatype.name} of shape {list(shape)}, got {len(data)}"
            )
    elif (found := len(element_ends(data))) != count:
        raise BadTensorError(f"expected {count} BYTES elements for shape {list(shape)}, got {found}")


def row_slices(tensor: Tensor, rows: list[int]) -> list[Tensor]:
    """The tensor taken apart along its first dimension: `rows[i]` rows for the i-th part.

    Raises `BadTensorError` where the tensor has not exactly that many rows, or its data does not fit its shape.
    """
    total = sum(rows)
    if tensor.shape[:1] != (total,):
        raise BadTensorError(f"output {tensor.name!r}: expected {total} rows, got shape {list(tensor.shape)}")
    rest = tensor.shape[1:]
    per_row = element_count(rest)
    datatype = DATATYPES[tensor.datatype]
    checked_size(datatype, tensor.shape, tensor.data)
    ends = None if datatype.size else element_ends(tensor.data)
    view = memoryview(tensor.data)
    parts, row, start = [], 0, 0
    for count in rows:
        row += count
        elements = row * per_row
        end = elements * datatype.size if ends is None else ends[elements - 1] if elements else 0
        parts.append(Tensor(tensor.name, tensor.datatype, (count, *rest), view[start:end]))
        start = end
    return parts
