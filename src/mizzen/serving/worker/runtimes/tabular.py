"""What models of rows have in common, whichever library they are of: one matrix or one input for each column in, and
`label` and `probabilities`, or `prediction`, out, as their conversions to ONNX have it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mizzen.registry.package import Package
from mizzen.serving.tensors import Signature, TensorSpec
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.runtimes.runtime import Runtime, first_line

INPUT, LABEL, PROBABILITIES, PREDICTION = "input", "label", "probabilities", "prediction"
MODEL_FILE = "model"
"""Every such package has one file, of this name and the library's own ending."""


class TabularRuntime(Runtime):
    """A model that a library predicts rows with."""

    text = True
    classes: Array | None
    """In the order of their probabilities; `None` of a regressor."""
    probabilities: bool

    def describe(self, package: Package, width: int, classes: int, *, probabilities: bool = True) -> None:
        """Takes over what the package says, or else what the library knows of a model that came as a file."""
        if package.inputs:
            self.classes = None if package.classes is None else _labels(package.classes)
            self.probabilities = package.probabilities
            self.signature = Signature(
                tuple(TensorSpec(one.name, one.datatype, one.shape) for one in package.inputs),
                tuple(TensorSpec(one.name, one.datatype, one.shape) for one in package.outputs),
            )
            return
        self.classes = np.arange(classes) if classes else None
        self.probabilities = probabilities
        outputs = [TensorSpec(PREDICTION, "FP64", (-1,))]
        if classes:
            outputs = [TensorSpec(LABEL, "INT64", (-1,))]
            if probabilities:
                outputs.append(TensorSpec(PROBABILITIES, "FP32", (-1, classes)))
        self.signature = Signature((TensorSpec(INPUT, "FP64", (-1, width)),), tuple(outputs))

    def given(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """The inputs, where they are those of the signature. Raises `BatchError`."""
        for spec in self.signature.inputs:
            found = inputs.get(spec.name)
            if found is None:
                raise BatchError(f"expected an input {spec.name!r}, got {', '.join(inputs) or 'none'}")
            width = spec.shape[1]
            if found.ndim != 2 or width not in {-1, found.shape[1]}:
                raise BatchError(f"input {spec.name!r}: expected shape {list(spec.shape)}, got {list(found.shape)}")
        return inputs

    def matrix(self, inputs: dict[str, Array]) -> Array:
        """The one input. Raises `BatchError` where it is not there, or of another width."""
        return self.given(inputs)[self.signature.inputs[0].name]

    def answers(self, raw: NDArray[np.float64]) -> Sequence[Array]:
        """The outputs, from what a boosted model gives: (n,) or (n, outputs)."""
        if self.classes is None:
            return [raw]
        if not self.probabilities:
            return [raw.astype(np.int64)]
        probabilities = np.column_stack([1.0 - raw, raw]) if raw.ndim == 1 else raw
        return [self.classes[probabilities.argmax(axis=1)], probabilities.astype(np.float32)]


def _labels(classes: Sequence[int | str]) -> Array:
    return np.array(classes, dtype=object if isinstance(classes[0], str) else np.int64)


def model_file(package: Package) -> str:
    """The name of its one file. Raises `TaskError` where there are others."""
    if len(package.files) != 1:
        raise TaskError(f"expected one file of a {package.format} model, found {len(package.files)}")
    return package.files[0].path


def refusal(package: Package, error: Exception) -> TaskError:
    """A library that does not load its model."""
    return TaskError(f"{package.format} cannot load the model: {type(error).__name__}: {first_line(error)}")
