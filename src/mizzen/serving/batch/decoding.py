"""A model's outputs as columns of the output dataset: their types beforehand, and their values.

An output of one value for each row is a column of it; one of several is a column of lists, of which `name[1]` takes the
second. A row that has no answer has nulls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mizzen.data.lake.errors import RowsUnfit
from mizzen.data.lake.rows import storable_schema, storable_type
from mizzen.data.pod import Failure
from mizzen.kinds.batch import ERROR_COLUMN, BatchOutput, PredictedColumn
from mizzen.kinds.build import Signature
from mizzen.kinds.build import Tensor as Output
from mizzen.serving.batch.encoding import NUMPY, Refused
from mizzen.serving.tensors import Tensor, unpack_strings

RUN_COLUMN, REASON_COLUMN = "_run", "_failed"
"""Of rows that are set aside, as loads have them."""


@dataclass(frozen=True, slots=True)
class _Predicted:
    """A column that an output becomes."""

    output: Output
    index: int | None
    name: str

    @property
    def single(self) -> bool:
        return self.index is not None or self.output.shape[1:] in ([], [1])

    @property
    def type(self) -> pa.DataType:
        if self.output.datatype == "BYTES":
            element: pa.DataType = pa.string()
        else:
            element = pa.from_numpy_dtype(NUMPY[self.output.datatype].newbyteorder("="))
        return element if self.single else pa.list_(pa.field("element", storable_type(element)))


class Decoder:
    """Outputs of one signature to rows of the output dataset."""

    def __init__(self, output: BatchOutput, signature: Signature, schema: pa.Schema, what: str) -> None:
        """`schema` is the input dataset's; `what` names that. Raises `Failure`."""
        kept = list(schema.names if output.keep is None else output.keep)
        missing = [name for name in kept if name not in schema.names]
        if missing:
            found = ", ".join(schema.names)
            raise Failure("MissingColumns", f"spec.output.keep: expected columns of {what} ({found}), got {missing[0]}")
        self.kept = kept
        """The input's columns that the output has too."""
        self._with_errors = output.errors == "column"
        self._predicted = _predicted(output, signature)
        fields = [schema.field(name) for name in kept]
        fields += [pa.field(column.name, column.type) for column in self._predicted]
        if self._with_errors:
            fields.append(pa.field(ERROR_COLUMN, pa.string()))
        try:
            self.schema = storable_schema(pa.schema([pa.field(field.name, field.type) for field in fields]))
        except RowsUnfit as error:
            hint = "name the columns in spec.output.predictions, or leave some out with spec.output.keep"
            raise Failure("OutputUnfit", f"spec.output: {error}; {hint}") from error
        aside = [pa.field(name, schema.field(name).type) for name in schema.names]
        taken = {name.casefold() for name in schema.names}
        self.aside_schema = storable_schema(
            pa.schema([*aside, *(pa.field(_free(name, taken), pa.string()) for name in (REASON_COLUMN, RUN_COLUMN))])
        )

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the input that it needs."""
        return self.kept if self._with_errors else self.aside_schema.names[:-2]

    def rows(
        self, given: pa.Table, answers: Sequence[Sequence[Tensor]], refused: Refused, run: str
    ) -> tuple[pa.Table, pa.Table | None]:
        """The output's rows, and those set aside. `answers` are of the rows that were not refused, in order."""
        good = np.ones(given.num_rows, bool)
        good[list(refused)] = False
        aside = None
        if refused and not self._with_errors:
            aside = self._aside(given, refused, run)
            given = given.filter(pa.array(good))
            good = np.ones(given.num_rows, bool)
        columns = [given.column(name) for name in self.kept]
        columns += [_spread(_column(column, answers), good) for column in self._predicted]
        if self._with_errors:
            columns.append(
                pa.chunked_array([pa.array([refused.get(row) for row in range(given.num_rows)], pa.string())])
            )
        cast = [column.cast(field.type) for column, field in zip(columns, self.schema, strict=True)]
        return pa.Table.from_arrays(cast, schema=self.schema), aside

    def _aside(self, given: pa.Table, refused: Refused, run: str) -> pa.Table:
        places = sorted(refused)
        rows = given.select(self.aside_schema.names[:-2]).take(pa.array(places, pa.int64()))
        columns = [
            *rows.columns,
            pa.array([refused[place] for place in places]),
            pa.array([run] * len(places), pa.string()),
        ]
        cast = [column.cast(field.type) for column, field in zip(columns, self.aside_schema, strict=True)]
        return pa.Table.from_arrays(cast, schema=self.aside_schema)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = "_" + name
    return name


def _predicted(output: BatchOutput, signature: Signature) -> list[_Predicted]:
    known = {tensor.name: tensor for tensor in signature.outputs}
    have = ", ".join(known)
    wanted = output.predictions or [PredictedColumn(output=name, name=name) for name in known]
    found = []
    for place, column in enumerate(wanted):
        path = f"spec.output.predictions[{place}].output"
        name, index = column.source
        if column.output in known:  # a name that ends in brackets of its own
            name, index = column.output, None
        if name not in known:
            raise Failure("UnknownOutputs", f"{path}: expected an output of the model ({have}), got {name}")
        tensor = known[name]
        shape = tensor.shape[1:]
        if len(shape) > 1:
            raise Failure("OutputUnfit", f"{path}: expected an output of one value or one list for each row, "
                                         f"found shape {tensor.shape}")  # fmt: skip
        if index is not None and shape and shape[0] != -1 and index >= shape[0]:
            raise Failure("UnknownOutputs", f"{path}: expected a place of 0 to {shape[0] - 1}, got {index}")
        if index is not None and not shape:
            raise Failure("UnknownOutputs", f"{path}: expected no place, since {name} has one value for each row")
        found.append(_Predicted(tensor, index, column.name))
    return found


def _column(column: _Predicted, answers: Sequence[Sequence[Tensor]]) -> pa.Array:
    """The column of the rows that have an answer. Raises `Failure` where the model gave something else than it said."""
    tensors = [next(tensor for tensor in outputs if tensor.name == column.output.name) for outputs in answers]
    if not tensors:
        return pa.array([], column.type)
    arrays = [_array(tensor) for tensor in tensors]
    if column.single:
        place = column.index or 0
        arrays = [array if array.ndim == 1 else _taken(array, place, column) for array in arrays]
        return pa.concat_arrays([pa.array(array, column.type, from_pandas=False) for array in arrays])
    lists = []
    for array in arrays:
        width = array.shape[1] if array.ndim > 1 else 1
        offsets = pa.array(np.arange(len(array) + 1, dtype=np.int32) * width)
        values = pa.array(array.ravel(), from_pandas=False).cast(column.type.value_type)
        lists.append(pa.ListArray.from_arrays(offsets, values).cast(column.type))
    return pa.concat_arrays(lists)


def _taken(array: NDArray[Any], place: int, column: _Predicted) -> NDArray[Any]:
    if place >= array.shape[1]:
        found = f"the model gave {array.shape[1]} for a row"
        raise Failure("UnknownOutputs", f"output {column.output.name}: expected a value in place {place}, {found}")
    return np.ascontiguousarray(array[:, place])


def _array(tensor: Tensor) -> NDArray[Any]:
    if tensor.datatype == "BYTES":
        texts = [value.decode(errors="replace") for value in unpack_strings(tensor.data)]
        return np.array(texts, dtype=object).reshape(tensor.shape)
    if tensor.datatype == "BF16":
        halves = np.frombuffer(tensor.data, "<u2").astype("<u4") << 16
        return halves.view("<f4").reshape(tensor.shape)
    return np.frombuffer(tensor.data, NUMPY[tensor.datatype]).reshape(tensor.shape)


def _spread(values: pa.Array, good: NDArray[np.bool_]) -> pa.ChunkedArray:
    """The values at the places of the good rows, nulls at the others."""
    if len(values) == len(good):
        return pa.chunked_array([values])
    places = np.cumsum(good) - 1
    return pa.chunked_array([values.take(pa.array(places, pa.int64(), mask=~good))])
