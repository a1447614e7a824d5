"""Example rows, in the forms that people have them, and how they become a model's inputs.

A model of numbers takes one matrix, whose columns are named in the signature; a model that looks at columns by name, or
at text, takes one input for each column. The types follow the rows: whole numbers INT64, 32-bit floats FP32, other
floats FP64, text BYTES. A matrix is FP32 only where every column fits it exactly, so that no value is rounded on its
way in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mizzen.kinds.build import Datatype, Signature, Tensor
from mizzen.registry.errors import ModelUnfit

MATRIX_INPUT = "input"
LABEL, PROBABILITIES, PREDICTION = "label", "probabilities", "prediction"
OUTPUTS = frozenset({LABEL, PROBABILITIES, PREDICTION})
"""What the outputs of every converted model are called; see `graph.py`."""
_EXPECTED = "a pandas data frame, an Arrow table or a two-dimensional numpy array"


class Rows:
    """Rows as the model was trained on them (`native`), column by column (`column`)."""

    def __init__(self, value: Any, what: str = "example") -> None:
        self.native = value.to_pandas() if isinstance(value, pa.Table | pa.RecordBatch) else value
        self._frame = hasattr(self.native, "iloc") and hasattr(self.native, "columns")
        if not self._frame:
            if hasattr(self.native, "iloc") or np.ndim(value) != 2 or isinstance(value, list | tuple):
                raise ModelUnfit(f"{what}: expected {_EXPECTED}, got {_shown(value)}")
            self.native = np.asarray(value)
        if len(self.native) == 0:
            raise ModelUnfit(f"{what}: expected at least one row, got none")
        self.width: int = self.native.shape[1]
        self.names: list[str] = [str(name) for name in self.native.columns] if self._frame else []

    def __len__(self) -> int:
        return len(self.native)

    def take(self, positions: NDArray[np.int64]) -> "Rows":
        """Some of the rows."""
        return Rows(self.native.iloc[positions] if self._frame else self.native[positions])

    def column(self, index: int) -> NDArray[Any]:
        """One column as numbers, booleans or text (object array of str)."""
        if not self._frame:
            return _plain(self.native[:, index], f"column {index}")
        return _plain(self.native.iloc[:, index].to_numpy(), f"column {self.names[index]!r}")

    def codes(self, index: int) -> list[Any] | None:
        """The categories of a data frame column of categories, in their order; `None` for other columns."""
        if not self._frame or str(self.native.dtypes.iloc[index]) != "category":
            return None
        return list(self.native.iloc[:, index].cat.categories)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model takes, and how rows become it."""

    tensors: tuple[Tensor, ...]
    columns: tuple[str, ...]
    """Of a matrix; empty where the inputs are the columns."""
    matrix: bool

    def feed(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """The rows as the model's inputs."""
        if self.matrix:
            (tensor,) = self.tensors
            values = np.empty((len(rows), rows.width), NUMPY[tensor.datatype])
            for index in range(rows.width):
                values[:, index] = rows.column(index)
            return {tensor.name: values}
        return {
            tensor.name: _as_datatype(rows.column(rows.names.index(tensor.name)), tensor).reshape(-1, 1)
            for tensor in self.tensors
        }


NUMPY: dict[str, Any] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip


def matrix_inputs(rows: Rows) -> Inputs:
    """One matrix of all columns, which must be numbers."""
    dtypes = [rows.column(index).dtype for index in range(rows.width)]
    for index, dtype in enumerate(dtypes):
        if dtype.kind not in "biuf":
            name = rows.names[index] if rows.names else str(index)
            raise ModelUnfit(
                f"example: column {name!r}: expected numbers, found {dtype}: encode it in a pipeline before"
            )
    exact = all(np.can_cast(dtype, np.float32) for dtype in dtypes)
    tensor = Tensor(name=MATRIX_INPUT, datatype="FP32" if exact else "FP64", shape=[-1, rows.width])
    return Inputs((tensor,), tuple(rows.names), matrix=True)


def column_inputs(rows: Rows) -> Inputs:
    """One input for each column; the rows have names."""
    taken = sorted(OUTPUTS.intersection(rows.names))
    if taken:
        raise ModelUnfit(f"example: column {taken[0]!r} is called as an output of the model is: rename it")
    tensors = [
        Tensor(name=name, datatype=_datatype(rows.column(index)), shape=[-1, 1])
        for index, name in enumerate(rows.names)
    ]
    return Inputs(tuple(tensors), (), matrix=False)


def inputs_of(signature: Signature, rows: Rows) -> Inputs:
    """How rows become the inputs of a model that exists: its one matrix, or its inputs by the columns' names."""
    tensors = tuple(signature.inputs)
    if len(tensors) == 1 and len(tensors[0].shape) == 2:
        width = tensors[0].shape[1]
        if width not in {-1, rows.width}:
            raise ModelUnfit(
                f"example: expected {width} columns, as the model's input {tensors[0].name}, got {rows.width}"
            )
        return Inputs(tensors, tuple(rows.names), matrix=True)
    missing = [tensor.name for tensor in tensors if tensor.name not in rows.names]
    if missing:
        raise ModelUnfit(
            f"example: expected columns named as the model's inputs; {', '.join(missing)} are not among them"
        )
    return Inputs(tensors, (), matrix=False)


def all_numbers(rows: Rows) -> bool:
    """Whether every column is of numbers or booleans."""
    return all(rows.column(index).dtype.kind in "biuf" for index in range(rows.width))


def signature_of(inputs: Inputs, outputs: Sequence[Tensor]) -> Signature:
    """The signature of a model with those inputs and outputs."""
    return Signature(inputs=list(inputs.tensors), outputs=list(outputs), columns=list(inputs.columns))


def _datatype(column: NDArray[Any]) -> Datatype:
    if column.dtype.kind == "b":
        return "BOOL"
    if column.dtype.kind in "iu":
        return "INT64"
    if column.dtype.kind == "f":
        return "FP64" if column.dtype.itemsize > 4 else "FP32"
    return "BYTES"


def _as_datatype(column: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    """The column as the input takes it. Raises `ModelUnfit` where a value would become another."""
    if tensor.datatype == "BYTES":
        if column.dtype.kind != "O":
            raise ModelUnfit(f"column {tensor.name!r}: expected text, as in the example, found {column.dtype}")
        return column
    kind = np.dtype(NUMPY[tensor.datatype])
    if column.dtype.kind == "O" or (kind.kind in "biu" and column.dtype.kind == "f" and not _whole(column)):
        found = "text" if column.dtype.kind == "O" else "missing values or fractions"
        raise ModelUnfit(f"column {tensor.name!r}: expected {tensor.datatype}, as in the example, found {found}")
    return column.astype(kind)


def _whole(column: NDArray[Any]) -> bool:
    return bool(np.isfinite(column).all() and (column == np.floor(column)).all())


def _plain(column: NDArray[Any], what: str) -> NDArray[Any]:
    if column.dtype.kind in "biuf":
        return column
    if column.dtype.kind in "USOT":
        values = column.astype(object)
        missing = np.array([value is None or value != value for value in values], bool)  # noqa: PLR0124 - NaN alone differs from itself
        present = values[~missing]
        if all(isinstance(value, str) for value in present):
            return np.where(missing, "", values)
        if all(isinstance(value, bool | int | float | np.number | np.bool_) for value in present):
            numbers = np.where(missing, np.nan, values).astype(np.float64)
            return numbers if missing.any() or not all(_is_whole(v) for v in present) else numbers.astype(np.int64)
    raise ModelUnfit(f"{what}: expected numbers, booleans or text, found {column.dtype}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
