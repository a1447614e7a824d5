"""The model's inputs, made of what was read and of what the request gave.

A request of a few rows is put together as Python values, which costs least for it; many rows as whole columns.
"""

import itertools
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from mizzen.data.features.columns import Array
from mizzen.data.features.online.reader import OnlineReader
from mizzen.data.features.request import as_numpy
from mizzen.serving.gateway.errors import HttpError
from mizzen.serving.gateway.features.columns import Plan
from mizzen.serving.gateway.features.lookup import Read
from mizzen.serving.tensors import (
    DATATYPES,
    Tensor,
    TensorSpec,
    pack_strings,
    unpack_elements,
    unpack_strings,
)

FEW_ROWS = 4
"""Where putting whole columns together begins to cost less."""
_NUMPY = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


class Assembly:
    """Makes the inputs of one model."""

    def __init__(self, plan: Plan, readers: Sequence[OnlineReader]) -> None:
        self.plan, self._readers = plan, readers
        self._getters = [_getter(part) for part in plan.parts]
        self._order = None if plan.order == tuple(range(len(plan.order))) else _getter(plan.order)
        bounds = list(itertools.accumulate((len(part) for part in plan.parts), initial=0))
        self._bounds = list(itertools.pairwise(bounds))

    def inputs(
        self, reads: Sequence[Read], made: Sequence[pa.Array], asked: Sequence[Tensor], rows: int
    ) -> list[Tensor]:
        """The model's inputs, in the signature's order; `made` are the features of the request.

        Raises `HttpError` where a value is missing that the model's input cannot go without.
        """
        matrix = self.plan.matrix
        if matrix is not None and rows > FEW_ROWS and matrix.datatype.startswith("FP"):
            return [_tensor(matrix, self._matrix(reads, made, asked, rows), rows)]
        given = [asked[at] for at in self.plan.given]
        lines = self.lines(reads, made, given, rows)
        if matrix is not None:
            return [_tensor(matrix, _numbers(lines, matrix, self.plan.model.columns), rows)]
        columns = zip(*lines, strict=True)
        through = {tensor.name: tensor for tensor in given}
        return [
            through[spec.name] if spec.name in through and through[spec.name].datatype == spec.datatype
            else _column(spec, values, rows)
            for spec, values in zip(self.plan.model.inputs, columns, strict=True)
        ]  # fmt: skip

    def lines(
        self, reads: Sequence[Read], made: Sequence[pa.Array], given: Sequence[Tensor], rows: int
    ) -> list[tuple[Any, ...]]:
        """Each row's values in the order of the model's columns."""
        parts = [
            self._rows_of(view, read, getter)
            for view, read, getter in zip(self._readers, reads, self._getters, strict=True)
        ]
        if made or given:
            columns = [*(column.to_pylist() for column in made), *map(values_of, given)]
            parts.append(list(zip(*columns, strict=True)))
        joined = parts[0] if len(parts) == 1 else [sum(line, ()) for line in zip(*parts, strict=True)]
        assert len(joined) == rows, "every part has a value for each row"
        return joined if self._order is None else [self._order(line) for line in joined]

    def _rows_of(self, reader: OnlineReader, read: Read, getter: Any) -> list[tuple[Any, ...]]:
        at_us, nulls = read.at_us, read.nulls
        lines = [getter(reader.values(record, at_us)) for record in read.records]
        for row in nulls:
            lines[row] = (None,) * len(lines[row])
        return lines

    def _matrix(self, reads: Sequence[Read], made: Sequence[pa.Array], asked: Sequence[Tensor], rows: int) -> Array:
        joined = np.empty((rows, len(self.plan.order)), dtype=np.float64)
        for (start, stop), part, reader, read in zip(self._bounds, self.plan.parts, self._readers, reads, strict=True):
            vectors = reader.vectors(read.records, [True] * rows, read.at_us)
            joined[:, start:stop] = vectors.matrix(part, np.float64)
            if read.nulls:
                joined[list(read.nulls), start:stop] = np.nan
        at = self._bounds[-1][1]
        for column in (
            *(as_numpy(c) for c in made),
            *(np.array(values_of(asked[number])) for number in self.plan.given),
        ):
            joined[:, at] = column
            at += 1
        return joined if self._order is None else joined[:, self.plan.order]


def values_of(tensor: Tensor) -> list[Any]:
    """The values of a column of a request: one for each row."""
    datatype = DATATYPES[tensor.datatype]
    if not datatype.size:
        return [value.decode(errors="replace") for value in unpack_strings(tensor.data)]
    return list(unpack_elements(datatype, len(tensor.data) // datatype.size, tensor.data))


def _getter(wanted: Sequence[Any]) -> Any:
    """Like `itemgetter`, but of one thing a tuple too, and of none."""
    if len(wanted) > 1:
        return itemgetter(*wanted)
    return (lambda found: (found[wanted[0]],)) if wanted else lambda _: ()


def _numbers(lines: Sequence[Sequence[Any]], spec: TensorSpec, columns: Sequence[str]) -> Array:
    """Numbers as a matrix; what is missing is NaN, where that is a number of the type."""
    if spec.datatype not in _NUMPY or spec.datatype.startswith("FP"):
        return np.array(lines, dtype=np.float64)
    for row, line in enumerate(lines):
        if None in line:
            raise _missing(row, columns[line.index(None)], spec)
    return np.array(lines)


def _column(spec: TensorSpec, values: Sequence[Any], rows: int) -> Tensor:
    """One input of the values of each row."""
    if spec.datatype == "BYTES":
        if None in values:
            raise _missing(values.index(None), spec.name, spec)
        data = pack_strings([value if isinstance(value, bytes) else str(value).encode() for value in values])
        return Tensor(spec.name, spec.datatype, (rows, *spec.shape[1:]), data)
    if spec.datatype.startswith("FP"):
        length = spec.shape[1] if len(spec.shape) == 2 else 1
        missing = (np.nan,) * length if length > 1 else np.nan
        return _tensor(spec, np.array([missing if v is None else v for v in values], dtype=np.float64), rows)
    if None in values:
        raise _missing(values.index(None), spec.name, spec)
    return _tensor(spec, np.array(values), rows)


def _tensor(spec: TensorSpec, values: Array, rows: int) -> Tensor:
    with np.errstate(over="ignore"):  # beyond a float32 is infinite, as in the training set's own cast
        data = values.astype(_NUMPY[spec.datatype]).tobytes()
    return Tensor(spec.name, spec.datatype, (rows, *spec.shape[1:]), data)


def _missing(row: int, name: str, spec: TensorSpec) -> HttpError:
    return HttpError(
        400, f"row {row}: expected a value of the feature {name}, since {spec.datatype} has no null, found none; give "
        "the feature a default", "features_missing",
    )  # fmt: skip
