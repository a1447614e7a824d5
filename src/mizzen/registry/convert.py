"""From a trained model to ONNX that answers the same.

Tree models go straight through `forests`; a LightGBM booster that was trained on data frame columns of categories takes
those columns by name and looks its codes up itself. Everything else of scikit-learn goes through skl2onnx, in the
precisions of `scikit.PRECISIONS`, and the first that passes the check is taken. The signature depends on the example's
columns alone, never on which precision it was, so that a retrained model fits its endpoint's clients.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mizzen.kinds.build import ConversionCheck, Signature
from mizzen.registry.background import ROWS_MAX, beside
from mizzen.registry.check import check, sampled
from mizzen.registry.errors import ConversionFailed, ModelUnfit
from mizzen.registry.extras import part
from mizzen.registry.forests.forest import add_forest, add_probabilities
from mizzen.registry.forests.read import forest_of, is_forest
from mizzen.registry.graph import Graph, is_text
from mizzen.registry.onnx_file import Feed, session_of, signature_of_session
from mizzen.registry.originals import Original
from mizzen.registry.rows import Inputs, Rows, all_numbers, column_inputs, matrix_inputs, signature_of

EXAMPLE_ROWS_MAX = 16


@dataclass(frozen=True, slots=True)
class Converted:
    """ONNX that was checked against the model it came from."""

    model: bytes
    signature: Signature
    check: ConversionCheck
    example: Feed
    """Some rows as the ONNX model takes them."""
    beside: tuple[tuple[str, bytes], ...] = ()
    """What it can be explained by (`background.py`)."""


def convert(original: Original, example: Any, holdout: Any | None = None) -> Converted:
    """Converts and checks on `holdout`, or on the example where there is none.

    Raises `ModelUnfit` of the kind that tells what is wrong: `ConversionFailed`, `ConversionDiffers`, or an example
    that is no rows.
    """
    rows = Rows(example)
    held_out = holdout_of(rows, holdout)
    attempts = [*_attempts(original, rows)]
    held_out = sampled(held_out)
    expected = original.answers(held_out)
    failure: ModelUnfit | None = None
    for inputs, attempt in attempts:
        try:
            model = attempt()
            session = session_of(model)
            checked = check(original.source_type, expected, session, inputs, held_out)
        except ModelUnfit as error:
            failure = failure or error  # the first is the one that was meant to work
            continue
        outputs = signature_of_session(session).outputs
        first = rows.take(np.arange(min(len(rows), EXAMPLE_ROWS_MAX)))
        some = np.linspace(0, len(held_out) - 1, min(len(held_out), ROWS_MAX)).astype(np.int64)
        usual = inputs.feed(held_out.take(some))
        files = beside(original.model, usual, one_matrix=len(inputs.tensors) == 1)
        return Converted(model, signature_of(inputs, outputs), checked, inputs.feed(first), files)
    raise failure if failure is not None else ConversionFailed(f"{original.source_type}: no converter")


def holdout_of(rows: Rows, holdout: Any | None) -> Rows:
    """The rows for the check: the example's where there are no others. Raises `ModelUnfit` for other columns."""
    held_out = Rows(holdout, "holdout") if holdout is not None else rows
    if held_out.width != rows.width or held_out.names != rows.names:
        raise ModelUnfit(
            f"holdout: expected the example's columns ({rows.names or rows.width}), "
            f"got {held_out.names or held_out.width}"
        )
    return held_out


def _attempts(original: Original, rows: Rows) -> Iterator[tuple[Inputs, Callable[[], bytes]]]:
    """(the model's inputs, what makes the model), the best way first."""
    if is_forest(original.model):
        categories = _categories(original.model)
        if categories:
            inputs = column_inputs(rows)
            yield inputs, partial(_forest_on_columns, original, rows, inputs, categories)
        else:
            inputs = matrix_inputs(rows)
            yield inputs, partial(_forest_on_matrix, original, inputs)
        return
    scikit = part("scikit")
    by_column = bool(rows.names) and (not all_numbers(rows) or scikit.looks_at_columns(original.model))
    inputs = column_inputs(rows) if by_column else matrix_inputs(rows)
    for precision in scikit.PRECISIONS:
        yield inputs, partial(scikit.to_onnx, original, inputs, precision)


def _categories(model: Any) -> list[list[Any]]:
    """Of a LightGBM model on data frame columns of categories: each column's categories, in their order."""
    booster = getattr(model, "booster_", model)
    return list(getattr(booster, "pandas_categorical", None) or [])


def _forest_on_matrix(original: Original, inputs: Inputs) -> bytes:
    graph = Graph()
    tensor = inputs.tensors[0]
    rows = graph.add_input(tensor.name, tensor.datatype, tensor.shape[1])
    return _answering(graph, original, rows)


def _forest_on_columns(original: Original, rows: Rows, inputs: Inputs, categories: list[list[Any]]) -> bytes:
    graph = Graph()
    columns, remaining = [], list(categories)
    for index, tensor in enumerate(inputs.tensors):
        column = graph.add_input(tensor.name, tensor.datatype, 1)
        known = remaining.pop(0) if rows.codes(index) is not None and remaining else None
        columns.append(graph.add_codes(column, known) if known is not None else graph.add_double(column))
    if remaining:
        raise ConversionFailed(
            f"example: expected {len(categories)} columns of categories, as in training, found fewer"
        )
    return _answering(graph, original, graph.add("Concat", columns, axis=1))


def _answering(graph: Graph, original: Original, rows: str) -> bytes:
    forest = forest_of(original.model)
    if original.classes is None:
        graph.add_prediction_output(add_forest(graph, forest, rows), forest.outputs)
    else:
        probabilities = add_probabilities(graph, forest, rows)
        graph.add_best_class(probabilities, original.classes, "best_class")
        graph.add_label_output("best_class", text=is_text(original.classes))
        if original.has_probabilities:
            graph.add_probabilities_output(probabilities, len(original.classes))
    return graph.to_onnx(original.source_type)
