"""Columns of a dataset as the inputs of a model, for many rows at once.

The dataset's types are matched with the signature's once, before any row is read, so that a column that is missing or
of another kind is told before work begins. Of values, those that an input cannot take refuse their row alone: a null
where it takes whole numbers or truth, a fraction or a number beyond its range. A null is NaN in floating point and the
empty text in text, as it was when the model was trained on such a frame.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray

from mizzen.data.pod import Failure
from mizzen.kinds.build import Signature
from mizzen.kinds.build import Tensor as Input
from mizzen.serving.tensors import Tensor, pack_strings

NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"), "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"), "INT8": np.dtype("i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"), "FP16": np.dtype("<f2"), "BF16": np.dtype("<f4"), "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}  # fmt: skip
"""How elements are in memory; those of `BF16` become the upper half of a float's bits on their way."""
Refused = dict[int, str]
"""Rows that the model cannot be asked for, by their place, each with the reason."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the dataset on its way to an input."""

    name: str
    """In the dataset."""
    datatype: str
    length: int | None
    """How many values a row has: a list; `None`: a single value. -1: as many as its first row."""
    hidden: bool = False
    """Whether its values are personal data, which no message shows."""


class Encoder:
    """Rows of one schema to inputs of one signature."""

    def __init__(
        self,
        signature: Signature,
        schema: pa.Schema,
        names: Mapping[str, str],
        what: str,
        personal: frozenset[str] = frozenset(),
    ) -> None:
        """`names` are the dataset's columns for the model's, `personal` those whose values no message shows; `what`
        names the dataset. Raises `Failure`.
        """
        _expect_batchable(signature)
        self._inputs = signature.inputs
        self._matrix = len(signature.inputs) == 1 and signature.inputs[0].shape == [-1, len(signature.columns)]
        taken = signature.columns if self._matrix else [tensor.name for tensor in signature.inputs]
        unknown = sorted(set(names) - set(taken))
        if unknown:
            raise Failure(
                "UnknownColumns",
                f"spec.input.columns: expected columns of the model ({', '.join(taken)}), found {unknown[0]}"
                + _meant(unknown[0], taken),
            )
        pairs = [(names.get(name, name), tensor) for name, tensor in self._pairs(signature)]
        self._columns = [_column(name, tensor, hidden=name in personal) for name, tensor in pairs]
        for column in self._columns:
            _expect_fitting(column, schema, what)

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the dataset that it reads."""
        return list(dict.fromkeys(column.name for column in self._columns))

    def encode(self, rows: pa.Table) -> tuple[list[Tensor], Refused]:
        """The inputs of the rows that are not refused, in their order."""
        refused: Refused = {}
        values = [_values(column, rows.column(column.name), refused) for column in self._columns]
        if refused:
            good = np.ones(rows.num_rows, bool)
            good[list(refused)] = False
            values = [value[good] for value in values]
        count = rows.num_rows - len(refused)
        if self._matrix:
            (tensor,) = self._inputs
            matrix = np.stack(values, axis=1) if values else np.empty((count, 0), NUMPY[tensor.datatype])
            return [Tensor(tensor.name, tensor.datatype, matrix.shape, _bytes(matrix, tensor.datatype))], refused
        return [_tensor(tensor, value) for tensor, value in zip(self._inputs, values, strict=True)], refused

    def _pairs(self, signature: Signature) -> list[tuple[str, Input]]:
        """The model's columns, each with the input that it is of."""
        if not self._matrix:
            return [(tensor.name, tensor) for tensor in signature.inputs]
        (tensor,) = signature.inputs
        single = tensor.model_copy(update={"shape": [-1]})
        return [(name, single) for name in signature.columns]


def _expect_batchable(signature: Signature) -> None:
    for tensor in (*signature.inputs, *signature.outputs):
        if tensor.shape[:1] != [-1]:
            raise Failure(
                "NotBatchable",
                f"the model's {tensor.name}: expected a first dimension that counts rows (-1), found {tensor.shape}",
            )
    for tensor in signature.inputs:
        if len(tensor.shape) > 2:
            raise Failure(
                "UnsupportedInput",
                f"the model's input {tensor.name}: expected one value or one list for each row, found {tensor.shape}",
            )


def _column(name: str, tensor: Input, *, hidden: bool) -> _Column:
    shape = tensor.shape[1:]
    return _Column(name, tensor.datatype, None if shape in ([], [1]) else shape[0], hidden)


def _expect_fitting(column: _Column, schema: pa.Schema, what: str) -> None:
    """Raises `Failure` where the dataset has no such column, or one of another kind."""
    if column.name not in schema.names:
        raise Failure(
            "MissingColumns",
            f"spec.input: expected a column {column.name} in {what}, found {', '.join(schema.names)}"
            + _meant(column.name, schema.names)
            + "; spec.input.columns says which column is taken for which of the model's",
        )
    type_ = schema.field(column.name).type
    if column.length is not None:
        if not (pt.is_list(type_) or pt.is_large_list(type_) or pt.is_fixed_size_list(type_)):
            raise Failure("WrongColumns", f"{what}: column {column.name}: expected lists of numbers, found {type_}")
        type_ = type_.value_type
    if not _fits(column.datatype, type_):
        expected = {"BYTES": "text", "BOOL": "true or false"}.get(column.datatype, "numbers")
        raise Failure("WrongColumns", f"{what}: column {column.name}: expected {expected} for the model's "
                                      f"{column.datatype}, found {type_}")  # fmt: skip


def _fits(datatype: str, type_: pa.DataType) -> bool:
    if datatype == "BYTES":
        return bool(
            pt.is_string(type_) or pt.is_large_string(type_) or pt.is_binary(type_) or pt.is_large_binary(type_)
        )
    if datatype == "BOOL":
        return bool(pt.is_boolean(type_))
    return bool(pt.is_integer(type_) or pt.is_floating(type_) or pt.is_boolean(type_) or pt.is_decimal(type_))


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _values(column: _Column, values: pa.ChunkedArray, refused: Refused) -> NDArray[Any]:
    """One value, or list of values, for each row; whatever, where the row is refused."""
    array = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    if column.length is None:
        return _plain(column, array, refused)
    return _lists(column, array, refused)


def _plain(column: _Column, array: pa.Array, refused: Refused) -> NDArray[Any]:
    if column.datatype == "BYTES":
        binary = array.cast(pa.large_binary()).fill_null(b"")
        return np.array(binary.to_pylist(), dtype=object)
    if pt.is_decimal(array.type):
        array = array.cast(pa.float64())
    dtype = NUMPY[column.datatype]
    if dtype.kind == "f":
        if not pt.is_floating(array.type):
            array = array.cast(pa.float64(), safe=False)
        numbers: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            return numbers.astype(dtype, copy=False)
    if array.null_count:
        for place in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)):
            refused.setdefault(
                int(place), f"{column.name}: expected a value for the model's {column.datatype}, found null"
            )
        array = array.fill_null(False if pt.is_boolean(array.type) else 0)
    whole: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if dtype.kind == "b":
        return whole
    bounds = np.iinfo(dtype)
    wrong = _beyond(whole, bounds)
    for place in np.flatnonzero(wrong):
        found = "another (personal data is not shown)" if column.hidden else str(whole[place])
        why = f"{column.name}: expected a whole number of {bounds.min} to {bounds.max}, found {found}"
        refused.setdefault(int(place), why)
    return np.where(wrong, 0, whole).astype(dtype)


def _beyond(numbers: NDArray[Any], bounds: np.iinfo[Any]) -> NDArray[np.bool_]:
    """Which of them are no whole number within the bounds."""
    if numbers.dtype.kind == "b":
        return np.zeros(len(numbers), bool)
    if numbers.dtype.kind == "f":
        # The largest integers have no float of their own: `< max + 1` is exact where `<= max` is not.
        inside = (numbers >= float(bounds.min)) & (numbers < float(bounds.max) + 1.0)
        fits: NDArray[np.bool_] = inside & (numbers == np.floor(numbers))
        return ~fits
    info = np.iinfo(numbers.dtype)
    wrong: NDArray[np.bool_] = np.zeros(len(numbers), bool)
    if info.min < bounds.min:
        wrong |= numbers < bounds.min
    if info.max > bounds.max:
        wrong |= numbers > bounds.max
    return wrong


def _lists(column: _Column, array: pa.Array, refused: Refused) -> NDArray[Any]:
    """An array of shape (rows, length)."""
    if pt.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    lengths = array.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
    known = lengths[lengths >= 0]
    wanted = column.length if column.length != -1 else int(known[0]) if len(known) else 0
    assert wanted is not None, "lists have a length"
    wrong = lengths != wanted
    for place in np.flatnonzero(wrong):
        found = "null" if lengths[place] < 0 else f"{lengths[place]}"
        refused.setdefault(int(place), f"{column.name}: expected a list of {wanted} values, found {found}")
    good = np.flatnonzero(~wrong)
    inner: Refused = {}
    flat = _plain(replace(column, length=None), pc.list_flatten(array.take(pa.array(good))), inner)
    for element, why in inner.items():
        refused.setdefault(int(good[element // max(1, wanted)]), why)
    shaped = np.zeros((len(array), wanted), flat.dtype)
    shaped[good] = flat.reshape(len(good), wanted)
    return shaped


def _tensor(tensor: Input, values: NDArray[Any]) -> Tensor:
    shape = (len(values), 1) if tensor.shape[1:] == [1] else values.shape
    return Tensor(tensor.name, tensor.datatype, shape, _bytes(values, tensor.datatype))


def _bytes(values: NDArray[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        return pack_strings(values.ravel().tolist())
    if datatype == "BF16":  # the upper half of a float's bits, rounded to nearest, ties to even
        bits = np.ascontiguousarray(values).view("<u4")
        rounded = np.where(np.isnan(values), 0x7FC0, (bits + (0x7FFF + (bits >> 16 & 1))) >> 16)
        return rounded.astype("<u2").tobytes()
    return np.ascontiguousarray(values).tobytes()
