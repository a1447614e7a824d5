"""A model's explanations, served as a model is: its inputs in, Shapley values out (`mizzen.serving.explaining`).

    shap_values   FP64 (n, features, outputs)   what each feature adds, compared with the background
    base_values   FP64 (n, outputs)             the mean over the background
    explained     FP64 (n, outputs)             what they add up to

Features are the columns of a model with one input, or the inputs of a model with an input for each column. A forest is
explained exactly from its trees (their sum, before the link), any other model by coalitions: its `probabilities`, or
`prediction`, or first output of floating point.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.serving.explaining import kernel, trees
from mizzen.serving.tensors import Signature, TensorSpec
from mizzen.serving.worker.arrays import Array
from mizzen.serving.worker.errors import BatchError, TaskError
from mizzen.serving.worker.runtimes.runtime import Runtime

ROWS_AT_ONCE = 4096
"""Rows of one run of the model: what is mixed is run in parts of this size."""
PREFERRED = ("probabilities", "prediction")
Rows = Mapping[str, NDArray[Any]]


def rows_of(data: bytes) -> Rows:
    """The background from its file. Raises `TaskError` where it is none."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: _text(file[name]) for name in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise TaskError(f"the background is no file of arrays: {error}") from error


def forest_of(data: bytes) -> trees.Forest:
    """The forest from its file. Raises `TaskError` where it is none."""
    try:
        return trees.Forest.unpacked(data)
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise TaskError(f"the forest is no file of trees: {error}") from error


class ExplainerRuntime(Runtime):
    """Explains the model of another runtime."""

    def __init__(self, model: Runtime, background: Rows, forest: trees.Forest | None, coalitions: int) -> None:
        """Raises `TaskError` where the model is not one that can be explained against that background."""
        self.text = model.text
        self._model = model
        self._forest = forest
        self._coalitions = coalitions
        self._widths = [_width(spec) for spec in model.signature.inputs]
        self._features = sum(self._widths)
        self._output = _explained(model.signature)
        missing = [spec.name for spec in model.signature.inputs if spec.name not in background]
        if missing:
            raise TaskError(f"the background lacks {', '.join(missing)}")
        self._background = [background[spec.name] for spec in model.signature.inputs]
        outputs = forest.leaf_values.shape[1] if forest is not None else self._worth_of(self._background).shape[1]
        self.signature = Signature(
            model.signature.inputs,
            (
                TensorSpec("shap_values", "FP64", (-1, self._features, outputs)),
                TensorSpec("base_values", "FP64", (-1, outputs)),
                TensorSpec("explained", "FP64", (-1, outputs)),
            ),
        )

    @property
    def facts(self) -> dict[str, str]:
        method = "exact, of the trees" if self._forest is not None else f"{self._coalitions} coalitions"
        return {**self._model.facts, "explains by": method, "background rows": str(len(self._background[0]))}

    def run(self, inputs: dict[str, Array]) -> Sequence[Array]:
        rows = [inputs[spec.name] for spec in self.signature.inputs]
        if self._forest is not None:
            values, base = trees.explain(self._forest, rows[0], self._background[0])
        else:
            values = np.array([self._by_coalitions([part[number] for part in rows]) for number in range(len(rows[0]))])
            base = self._worth_of(self._background).mean(axis=0)
        bases = np.repeat(base[None], len(rows[0]), axis=0)
        return [values, bases, bases + values.sum(axis=1)]

    def _by_coalitions(self, row: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        def worth(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
            count = len(self._background[0])
            step = max(1, ROWS_AT_ONCE // count)
            found = []
            for begin in range(0, len(masks), step):
                part = masks[begin : begin + step]
                outputs = self._worth_of(self._mixed(row, part))
                found.append(outputs.reshape(len(part), count, -1).mean(axis=1))
            return np.concatenate(found)

        return kernel.explain(self._features, worth, self._coalitions, np.random.default_rng(0))

    def _mixed(self, row: Sequence[NDArray[Any]], masks: NDArray[np.bool_]) -> list[NDArray[Any]]:
        """For each coalition the background's rows, with its features from the row."""
        mixed, first = [], 0
        for values, background, width in zip(row, self._background, self._widths, strict=True):
            mask = masks[:, first : first + width]
            first += width
            whole = np.where(mask[:, None, :], values.reshape(1, 1, width), background.reshape(1, -1, width))
            mixed.append(whole.reshape(-1, *background.shape[1:]).astype(background.dtype))
        return mixed

    def _worth_of(self, rows: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """The output that is explained, shape (rows, outputs)."""
        names = [spec.name for spec in self._model.signature.inputs]
        outputs = self._model.run(dict(zip(names, rows, strict=True)))
        found = np.asarray(outputs[self._output], np.float64)
        if not np.isfinite(found).all():
            raise BatchError("the model's output is not a finite number for a row that was made to explain it")
        return found.reshape(len(rows[0]), -1)


def _width(spec: TensorSpec) -> int:
    shape = spec.shape
    if shape[:1] != (-1,) or len(shape) > 2 or -1 in shape[1:]:
        raise TaskError(
            f"input {spec.name!r}: expected rows with a fixed number of columns to explain, got {list(shape)}"
        )
    return shape[1] if len(shape) == 2 else 1


def _explained(signature: Signature) -> int:
    floats = [n for n, spec in enumerate(signature.outputs) if spec.datatype in {"FP16", "FP32", "FP64"}]
    if not floats:
        names = ", ".join(f"{spec.name} {spec.datatype}" for spec in signature.outputs)
        raise TaskError(f"expected an output of floating point to explain, the model gives {names}")
    by_name = {signature.outputs[number].name: number for number in floats}
    return next((by_name[name] for name in PREFERRED if name in by_name), floats[0])


def _text(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(object) if values.dtype.kind == "U" else values
