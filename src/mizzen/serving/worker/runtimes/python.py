"""A user's own class, from a code bundle.

    class Model:
        inputs = {"x": ("FP32", [-1, 4])}                 # what it takes and gives, unless told at the registration
        outputs = {"score": ("FP32", [-1])}

        def load(self, context): ...                      # context.folder, .code, .parameters, .threads; may be absent
        def predict(self, batch): ...                     # arrays by name -> arrays by name, or the only one
        def generate(self, inputs, parameters): ...       # may be absent: yields what predict would return, in parts

`predict` is given several requests' rows at once and gives as many; where it raises, the rows are tried in halves until
the one at fault is alone, and its client gets the exception's words. `BYTES` are `bytes` in arrays of objects; text is
taken as well in an output. What an output is, is checked: a wrong shape is the model's fault and named, and is never
sent as if it were right.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mizzen.data.entrypoint import described, load_function
from mizzen.data.lake.errors import CodeError
from mizzen.registry.package import CODE, FILES, Package
from mizzen.serving.frames import Parameter
from mizzen.serving.tensors import DATATYPES, Signature, TensorSpec
from mizzen.serving.worker.arrays import DTYPES, Array
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.runtimes.runtime import MESSAGE_CHARACTERS_MAX, Runtime

_DATATYPE_OF = {dtype.str[1:]: name for name, dtype in reversed(DTYPES.items())}
"""By numpy's name without the byte order; of several datatypes with one such name, the first."""


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What `load` is given."""

    folder: Path
    """The files that were registered with the model."""
    code: Path
    """The unpacked code bundle."""
    parameters: Mapping[str, Any]
    threads: int
    """Processors that the worker may use."""


class PythonRuntime(Runtime):
    """An object of the user's class."""

    def __init__(self, package: Package, folder: Path, threads: int) -> None:
        """Imports, makes and loads it. Raises `TaskError` with the exception and its place."""
        self._folder = folder / CODE
        self._entrypoint = package.entrypoint or ""
        kind = imported(self._folder, self._entrypoint)
        self._kind = kind
        self.streams = callable(getattr(kind, "generate", None))
        self.signature = signature_of(package, kind, self._entrypoint)
        context = LoadContext(folder / FILES, self._folder, package.parameters, threads)
        self._threads = threads
        try:
            self._model = kind()
            if callable(getattr(kind, "load", None)):
                self._model.load(context)
        except (Exception, SystemExit) as error:
            raise TaskError(f"{self._entrypoint}: load raised {self._told(error)}") from error

    @property
    def facts(self) -> dict[str, str]:
        return {"runtime": f"python {self._entrypoint}", "provider": "CPU", "threads": str(self._threads)}

    def own_example(self) -> dict[str, Array] | None:
        """The rows that the class has as `example`; `None` where it has none. Raises `TaskError` for other things."""
        found = getattr(self._kind, "example", None)
        if found is None:
            return None
        expected = {spec.name: DTYPES.get(spec.datatype) for spec in self.signature.inputs}
        try:
            return {str(name): _example_array(values, expected.get(name)) for name, values in dict(found).items()}
        except (TypeError, ValueError) as error:
            raise TaskError(f"{self._entrypoint}: example: expected arrays by input name, got {found!r}") from error

    def complete_signature(self, example: dict[str, Array]) -> None:
        """What the class does not say of itself is seen from what it is given and what it gives. The first dimension
        is that of rows.
        """
        signature = self.signature
        inputs = signature.inputs or tuple(_seen(name, values) for name, values in example.items())
        outputs = signature.outputs
        if not outputs:
            try:
                found = self._model.predict(example)
            except (Exception, SystemExit) as error:
                raise TaskError(f"{self._entrypoint}: predict raised {self._told(error)}") from error
            named = found if isinstance(found, Mapping) else {"output": found}
            outputs = tuple(_seen(str(name), np.asarray(values)) for name, values in named.items())
        self.signature = Signature(inputs, outputs)

    def run(self, inputs: dict[str, Array]) -> Sequence[Array]:
        missing = [spec.name for spec in self.signature.inputs if spec.name not in inputs]
        if missing:
            raise BatchError(f"expected inputs {', '.join(missing)}, got {', '.join(inputs) or 'none'}")
        rows = next(iter(inputs.values())).shape[:1] if self.signature.batchable else None
        try:
            found = self._model.predict(inputs)
        except (Exception, SystemExit) as error:
            raise BatchError(f"{self._entrypoint}: predict raised {self._told(error)}") from error
        return self._outputs(found, rows, "predict")

    def generate(self, inputs: dict[str, Array], parameters: Mapping[str, Parameter]) -> Iterator[Sequence[Array]]:
        parts = None
        try:
            parts = iter(self._model.generate(inputs, dict(parameters)))
            for found in parts:
                yield self._outputs(found, None, "generate")
        except BatchError:
            raise
        except (Exception, SystemExit) as error:
            raise BatchError(f"{self._entrypoint}: generate raised {self._told(error)}") from error
        finally:
            if inspect.isgenerator(parts):
                self._close(parts)

    def _close(self, parts: Any) -> None:
        """Ends a generator that was left before its end; what it raises on its way out is nobody's."""
        try:
            parts.close()
        except (Exception, SystemExit) as error:
            raise BatchError(f"{self._entrypoint}: generate raised at its end {self._told(error)}") from error

    def _outputs(self, found: Any, rows: tuple[int, ...] | None, what: str) -> Sequence[Array]:
        specs = self.signature.outputs
        if isinstance(found, Mapping):
            missing = [spec.name for spec in specs if spec.name not in found]
            if missing:
                raise BatchError(
                    f"{self._entrypoint}: {what} returned {sorted(map(str, found))}, without {', '.join(missing)}"
                )
            values = [found[spec.name] for spec in specs]
        elif len(specs) == 1:
            values = [found]
        elif isinstance(found, tuple | list) and len(found) == len(specs):
            values = list(found)
        else:
            names = ", ".join(spec.name for spec in specs)
            raise BatchError(f"{self._entrypoint}: {what}: expected {names} by name, got a {type(found).__name__}")
        return [self._fitting(spec, value, rows, what) for spec, value in zip(specs, values, strict=True)]

    def _fitting(self, spec: TensorSpec, value: Any, rows: tuple[int, ...] | None, what: str) -> Array:
        """The value as the output that it is to be. Raises `BatchError` where it is another."""
        dtype = DTYPES.get(spec.datatype)
        place = f"{self._entrypoint}: {what}: output {spec.name!r}"
        try:
            array = np.asarray(value) if dtype is not None else np.asarray(value, dtype=object)
            if dtype is not None and array.dtype != dtype:
                if not np.can_cast(array.dtype, dtype, "same_kind"):
                    raise BatchError(f"{place}: expected {spec.datatype}, got {array.dtype}")
                array = array.astype(dtype)
        except (ValueError, TypeError) as error:
            raise BatchError(f"{place}: expected {spec.datatype} of shape {list(spec.shape)}: {error}") from error
        fits = len(array.shape) == len(spec.shape) and all(
            expected in {-1, length} for expected, length in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            raise BatchError(f"{place}: expected shape {list(spec.shape)}, got {list(array.shape)}")
        if rows is not None and array.shape[:1] != rows:
            raise BatchError(f"{place}: expected {rows[0]} rows, as many as it was given, got {array.shape[0]}")
        return array

    def _told(self, error: BaseException) -> str:
        return described(error, self._folder)[:MESSAGE_CHARACTERS_MAX]


def imported(folder: Path, entrypoint: str) -> Any:
    """The class. Raises `TaskError` where it is not there, has no `predict`, or its module cannot be imported."""
    try:
        kind = load_function(folder, entrypoint, "class")
    except CodeError as error:
        raise TaskError(str(error)) from error
    except (Exception, SystemExit) as error:
        raise TaskError(f"{entrypoint}: its module cannot be imported: {described(error, folder)}") from error
    if not callable(getattr(kind, "predict", None)):
        raise TaskError(f"{entrypoint}: expected a class with predict(self, batch), found none")
    return kind


def signature_of(package: Package, kind: Any, entrypoint: str) -> Signature:
    """As registered, or else as the class says it. Raises `TaskError`."""
    if package.inputs:
        return Signature(
            tuple(TensorSpec(one.name, one.datatype, one.shape) for one in package.inputs),
            tuple(TensorSpec(one.name, one.datatype, one.shape) for one in package.outputs),
        )
    return Signature(declared(kind, "inputs", entrypoint), declared(kind, "outputs", entrypoint))


def declared(kind: Any, which: str, entrypoint: str) -> tuple[TensorSpec, ...]:
    """A class's `inputs` or `outputs`; empty where it has none. Raises `TaskError` where they cannot be read."""
    found = getattr(kind, which, None)
    if found is None:
        return ()
    try:
        return tuple(_spec(str(name), *entry) for name, entry in dict(found).items())
    except (TypeError, ValueError) as error:
        raise TaskError(
            f'{entrypoint}: {which}: expected {{"name": ("FP32", [-1, 4])}}, got {found!r}: {error}'
        ) from error


def _seen(name: str, values: Array) -> TensorSpec:
    known = "BYTES" if values.dtype.kind in "OUS" else _DATATYPE_OF.get(values.dtype.str[1:])
    if known is None or not values.shape:
        raise TaskError(
            f"{name}: expected an array of numbers, booleans or text with a dimension of rows, got {values!r}"
        )
    return TensorSpec(name, known, (-1, *values.shape[1:]))


def _example_array(values: Any, dtype: Any) -> Array:
    array = np.asarray(values, dtype)
    if array.dtype.kind in "US":
        elements = [one.encode() if isinstance(one, str) else one for one in array.ravel().tolist()]
        array = np.array(elements, dtype=object).reshape(array.shape)
    return array


def _spec(name: str, datatype: Any, shape: Sequence[int]) -> TensorSpec:
    known = str(datatype) if datatype in DATATYPES else _DATATYPE_OF.get(np.dtype(datatype).str[1:])
    if known is None:
        raise ValueError(f"{name}: expected one of {', '.join(DATATYPES)}, got {datatype!r}")
    lengths = tuple(int(length) for length in shape)
    if any(length < -1 for length in lengths):
        raise ValueError(f"{name}: expected lengths, or -1 where any goes, got {list(shape)}")
    return TensorSpec(name, known, lengths)
