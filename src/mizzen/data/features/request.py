"""Features that only a request can tell: functions of its columns and of stored features, on whole columns.

A function takes NumPy arrays by the names of its inputs and returns one of the same length; numbers that are missing
are NaN, text and times that are missing are None and NaT. The same function runs on the rows of a training set and on
those of a request, so that it cannot come to mean two things. `VIEW.FEATURE` as an input is handed over as
`VIEW_FEATURE`, with dashes as underscores: a name that Python can take.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from mizzen.data.features.columns import Array
from mizzen.data.features.definition import Definition, RequestFunction
from mizzen.data.features.errors import RequestUnfit

Function = Callable[..., Any]
Loader = Callable[[str], Function]
"""From `module:function` to the function, of the view's code bundle."""


class RequestFeatures:
    """The request features of a view, with their functions loaded."""

    def __init__(self, definition: Definition, load: Loader) -> None:
        self._definition = definition
        self._functions = {feature.function: load(feature.function) for feature in definition.request}

    @property
    def inputs(self) -> list[str]:
        """What must be given: inputs that are not request features themselves."""
        made = {feature.name for feature in self._definition.request}
        named = dict.fromkeys(name for feature in self._definition.request for name in feature.inputs)
        return [name for name in named if name not in made]

    def of(self, given: Mapping[str, pa.ChunkedArray | pa.Array], rows: int) -> dict[str, pa.Array]:
        """The features for as many rows as the given columns have.

        Raises `RequestUnfit` where an input is missing, or a function returns something else than a value for each row.
        """
        columns: dict[str, Array] = {}
        found: dict[str, pa.Array] = {}
        for feature in self._definition.request:
            for name in feature.inputs:
                if name not in columns:
                    columns[name] = self._input(name, given, rows)
            made = self._called(feature, {as_argument(n): columns[n] for n in feature.inputs}, rows)
            found[feature.name] = made
            columns[feature.name] = as_numpy(made)
        return found

    def _input(self, name: str, given: Mapping[str, Any], rows: int) -> Array:
        if name not in given:
            there = ", ".join(given) or "nothing"
            raise RequestUnfit(f"FeatureView {self._definition.name}: expected {name} with the request, found {there}")
        column = as_numpy(given[name])
        if len(column) != rows:
            raise RequestUnfit(
                f"FeatureView {self._definition.name}: expected {rows} values of {name}, found {len(column)}"
            )
        return column

    def _called(self, feature: RequestFunction, arguments: Mapping[str, Array], rows: int) -> pa.Array:
        where = f"FeatureView {self._definition.name}: {feature.name}"
        result = self._functions[feature.function](**arguments)
        try:
            column = _as_arrow(result, feature.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
            raise RequestUnfit(
                f"{where}: expected {feature.function} to return values of type {feature.type}: {error}"
            ) from error
        if len(column) != rows:
            raise RequestUnfit(f"{where}: expected {feature.function} to return {rows} values, found {len(column)}")
        default = self._definition.defaults.get(feature.name)
        return column if default is None else pc.fill_null(column, pa.scalar(default, column.type))


def with_request_features(
    rows: pa.Table, definition: Definition, load: Loader, columns: Mapping[str, str] | None = None
) -> pa.Table:
    """A joined table with the request features as further columns; `columns` says where an input is."""
    features = RequestFeatures(definition, load)
    places = columns or {}
    given = {
        name: rows.column(places.get(name, name))
        for name in features.inputs
        if places.get(name, name) in rows.column_names
    }
    for name, column in features.of(given, len(rows)).items():
        rows = rows.append_column(name, column)
    return rows


def as_argument(name: str) -> str:
    """The name by which a function is given an input."""
    return name.replace(".", "_").replace("-", "_")


def as_numpy(column: Any) -> Array:
    """A column as an array: floats with NaN for what is missing, else the closest that NumPy has."""
    if isinstance(column, np.ndarray):
        return column
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pt.is_boolean(whole.type) and not whole.null_count:
        return np.asarray(whole)
    if (pt.is_integer(whole.type) or pt.is_boolean(whole.type)) and whole.null_count:
        whole = whole.cast(pa.float64())
    if pt.is_fixed_size_list(whole.type) and not whole.null_count:
        flat: Array = np.asarray(whole.flatten())
        return flat.reshape(len(whole), whole.type.list_size)
    if pt.is_timestamp(whole.type) and whole.type.tz is not None:
        whole = whole.cast(pa.timestamp(whole.type.unit))
    array: Array = whole.to_numpy(zero_copy_only=False)
    return array


def _as_arrow(result: Any, type_: pa.DataType) -> pa.Array:
    if isinstance(result, pa.ChunkedArray):
        result = result.combine_chunks()
    if isinstance(result, np.ndarray) and result.ndim == 2 and pt.is_fixed_size_list(type_):
        flat = pa.array(np.ascontiguousarray(result).reshape(-1), type_.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type_.list_size)
    column = result if isinstance(result, pa.Array) else pa.array(result, from_pandas=True)
    return column if column.type == type_ else pc.cast(column, type_)
