"""A PyTorch program, as `torch.export` makes it, into a model: stored as `.pt2` and checked by what it answers."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mizzen.kinds.build import ConversionCheck
from mizzen.registry.check import TOLERANCE
from mizzen.registry.errors import ConversionDiffers, ConversionFailed, ModelUnfit
from mizzen.registry.onnx_file import Feed
from mizzen.registry.package import Package, TensorEntry
from mizzen.registry.prepared import Prepared
from mizzen.registry.rows import Rows
from mizzen.registry.trying import Part, Tried, entry_of, lay_out, try_out

EXAMPLE_ROWS_MAX = 16


def prepare_program(program: Any, example: Any, holdout: Any | None = None) -> Prepared:
    """Raises `ModelUnfit` where it cannot be stored without pickles, or does not answer the same from there."""
    rows = _feed(program, holdout if holdout is not None else example)
    file = io.BytesIO()
    try:
        torch.export.save(program, file)
        expected = _answers(program, rows)
    except Exception as error:  # exporting raises what it likes, and so does the user's graph
        text = " ".join(str(error).split())
        raise ConversionFailed(f"torch.export: {type(error).__name__}: {text[:300]}") from error
    data = file.getvalue()
    parts: list[Part] = [(entry_of("model.pt2", data), data)]
    with tempfile.TemporaryDirectory(prefix="mizzen-torch-") as place:
        folder = Path(place) / "model"
        lay_out(folder, Package(format="torch", files=(parts[0][0],)), parts)
        tried = try_out(folder, rows)
    signature = tried.signature
    package = Package(
        format="torch", files=(parts[0][0],),
        inputs=tuple(TensorEntry(one.name, one.datatype, tuple(one.shape)) for one in signature.inputs),
        outputs=tuple(TensorEntry(one.name, one.datatype, tuple(one.shape)) for one in signature.outputs),
    )  # fmt: skip
    first = {name: values[:EXAMPLE_ROWS_MAX] for name, values in rows.items()}
    check = _checked(expected, tried)
    return Prepared(package.encode(), signature, first, check, "torch.export", "torch", tuple(parts))


def _feed(program: Any, given: Any) -> Feed:
    names = [str(name) for name in program.graph_signature.user_inputs]
    if isinstance(given, torch.Tensor):
        given = given.numpy()
    if isinstance(given, Mapping):
        missing = [name for name in names if name not in given]
        if missing:
            raise ModelUnfit(f"example: expected arrays for {', '.join(names)}; {', '.join(missing)} is not among them")
        return {name: np.asarray(given[name]) for name in names}
    if len(names) != 1:
        raise ModelUnfit(f"example: expected arrays by name, for {', '.join(names)}")
    matrix = given if isinstance(given, np.ndarray) else Rows(given).native
    kinds = {node.name: node.meta["val"].dtype for node in program.graph.nodes if node.op == "placeholder"}
    return {names[0]: torch.as_tensor(np.asarray(matrix)).to(kinds[names[0]]).numpy()}


def _answers(program: Any, rows: Feed) -> list[np.ndarray[Any, Any]]:
    with torch.inference_mode():
        found = program.module()(*(torch.from_numpy(np.array(values)) for values in rows.values()))
    return [value.numpy() for value in torch.utils._pytree.tree_leaves(found)]  # noqa: SLF001 - torch's own, and stable


def _checked(expected: list[np.ndarray[Any, Any]], tried: Tried) -> ConversionCheck:
    largest, tolerance = 0.0, TOLERANCE
    for spec, wanted in zip(tried.signature.outputs, expected, strict=True):
        found = tried.answers[spec.name]
        tolerance = max(tolerance, TOLERANCE * float(np.max(np.abs(wanted), initial=0.0)))
        for got, part in [(found, wanted), *((one[spec.name], wanted[i : i + 1]) for i, one in enumerate(tried.alone))]:
            difference = np.max(np.abs(got.astype(np.float64) - part.astype(np.float64)), initial=0.0)
            if not difference <= tolerance:
                raise ConversionDiffers(f"the stored program differs: {spec.name} by {difference:.3g}")
            largest = max(largest, float(difference))
    return ConversionCheck(rows=len(expected[0]), max_abs_difference=largest, tolerance=tolerance)
