"""The converted model against the original on held-out rows.

What must hold: probabilities and predictions differ by no more than `TOLERANCE` times the scale of the output (1 for
probabilities, the largest absolute value for predictions), and labels are the same wherever the two best classes are
further apart than that. Rows are run in one batch and the first ones also alone, since a runtime may take another path
for a single row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from mizzen.kinds.build import ConversionCheck
from mizzen.registry.errors import ConversionDiffers, ConversionFailed
from mizzen.registry.onnx_file import RUNTIME_ERRORS
from mizzen.registry.originals import Answers
from mizzen.registry.rows import LABEL, PREDICTION, PROBABILITIES, Inputs, Rows

TOLERANCE = 1e-5
"""Relative to the output's scale: some hundred roundings to 32 bits, and far less than one leaf of a tree."""
ROWS_MAX = 10_000
_ALONE = 8


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the two models are furthest apart."""

    output: str
    row: int
    expected: Any
    found: Any


def sampled(rows: Rows) -> Rows:
    """At most `ROWS_MAX` of the rows, taken evenly."""
    if len(rows) <= ROWS_MAX:
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, ROWS_MAX).astype(np.int64))


def check(source: str, expected: Answers, session: ort.InferenceSession, inputs: Inputs, rows: Rows) -> ConversionCheck:
    """How far the converted model's answers are from `expected`, the original's on the same rows.

    Raises `ConversionDiffers` where that is more than the tolerance.
    """
    feed = inputs.feed(rows)
    alone = [
        _run(session, {name: values[index : index + 1] for name, values in feed.items()})
        for index in range(min(_ALONE, len(rows)))
    ]
    return check_answers(source, expected, _run(session, feed), alone, "the ONNX model")


def check_answers(
    source: str, expected: Answers, found: Answers, alone: Sequence[Answers], what: str
) -> ConversionCheck:
    """How far `found`, the answers to all rows at once, and `alone`, those to the first rows one by one, are from
    `expected`. Raises `ConversionDiffers` where that is more than the tolerance.
    """
    rows = len(next(iter(expected.values())))
    largest, tolerance, worst = _compared(expected, found)
    for index, single in enumerate(alone):
        one, _, where = _compared({name: values[index : index + 1] for name, values in expected.items()}, single)
        if one > largest:
            largest, worst = one, Difference(where.output, index, where.expected, where.found)
    if not largest <= tolerance:  # NaN differs too
        raise ConversionDiffers(
            f"{what} differs from {source}: {worst.output} of row {worst.row} is {worst.found}, "
            f"expected {worst.expected} within {tolerance:.1g} ({rows} rows compared)"
        )
    return ConversionCheck(rows=rows, max_abs_difference=float(largest), tolerance=float(tolerance))


def _run(session: ort.InferenceSession, feed: dict[str, NDArray[Any]]) -> Answers:
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, feed), strict=True))
    except RUNTIME_ERRORS as error:
        text = " ".join(str(error).split())
        raise ConversionFailed(f"the ONNX model cannot be run on the rows: {text[:300]}") from error


def _compared(expected: Answers, found: Answers) -> tuple[float, float, Difference]:
    """(the largest difference, how large it may be, where it is)."""
    values = PREDICTION if PREDICTION in expected else PROBABILITIES
    if values not in expected:
        wrong = _wrong_labels(expected[LABEL], found[LABEL], np.ones(len(expected[LABEL]), bool))
        row = int(wrong[0]) if len(wrong) else 0
        return float(len(wrong) > 0), 0.0, Difference(LABEL, row, expected[LABEL][row], found[LABEL][row])
    wanted = np.asarray(expected[values], np.float64)
    got = np.asarray(found[values], np.float64).reshape(wanted.shape)
    scale = 1.0 if values == PROBABILITIES else max(1.0, float(np.nanmax(np.abs(wanted), initial=0.0)))
    tolerance = TOLERANCE * scale
    difference = np.where(np.isnan(wanted) & np.isnan(got), 0.0, np.abs(got - wanted))
    difference = np.where(np.isnan(difference) & (wanted == got), 0.0, difference)  # infinities that agree
    position = np.unravel_index(int(np.argmax(difference)), difference.shape)
    worst = Difference(values, int(position[0]), wanted[position], got[position])
    if values == PROBABILITIES:
        best = np.sort(wanted, axis=1)
        clear = best[:, -1] - best[:, -2] > 2 * tolerance
        wrong = _wrong_labels(expected[LABEL], found[LABEL], clear)
        if len(wrong):
            row = int(wrong[0])
            return np.inf, tolerance, Difference(LABEL, row, expected[LABEL][row], found[LABEL][row])
    return float(difference[position]), tolerance, worst


def _wrong_labels(expected: NDArray[Any], found: NDArray[Any], clear: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows whose label differs, of those whose label is not a matter of rounding."""
    text = expected.dtype.kind in "OUST"
    same = (
        (expected.astype(str) == found.astype(str)) if text else (expected.astype(np.int64) == found.astype(np.int64))
    )
    return np.flatnonzero(~same & clear)
