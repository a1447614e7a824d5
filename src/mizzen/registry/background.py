"""What a model version can be explained by, stored beside it: `<hex>.background.npz`, of a forest `<hex>.forest.npz`.

The background is a sample of rows as the model takes them, by input name: an explanation says how a row differs from
these. The forest is the model's trees as `forests.literals` writes them. Both are read by explainer workers
(`mizzen.serving.worker.runtimes.explainer`); nothing in them is a pickle.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mizzen.registry.forests.literals import packed
from mizzen.registry.forests.read import forest_of, is_forest

BACKGROUND, FOREST = ".background.npz", ".forest.npz"
ROWS_MAX = 64
"""Enough for a steady mean, few enough that every coalition is worth as many runs of the model."""


def beside(model: Any, rows: Mapping[str, NDArray[Any]], *, one_matrix: bool) -> tuple[tuple[str, bytes], ...]:
    """The files, each with the ending of its name; `one_matrix`: whether features are the columns of one input."""
    files = [(BACKGROUND, _packed_rows(rows))]
    if one_matrix and is_forest(model):
        files.append((FOREST, packed(forest_of(model))))
    return tuple(files)


def _packed_rows(rows: Mapping[str, NDArray[Any]]) -> bytes:
    file = io.BytesIO()
    plain = {name: values.astype(str) if values.dtype == object else values for name, values in rows.items()}
    np.savez_compressed(file, allow_pickle=False, **plain)
    return file.getvalue()
