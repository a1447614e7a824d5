"""A trained model in its own library's format, for what has no conversion to ONNX, or is not to have one.

LightGBM's text, XGBoost's UBJSON, and skops for everything else of scikit-learn: none of them is a pickle. What was
stored is loaded again by the code that will serve it, in a process of its own, and its answers to the held-out rows are
compared with the original's as a converted model's are.

A model file that someone brings (`.txt`, `.ubj`, `.json`, `.pt2`) goes the same way, without an original: what it takes
and gives the library says.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mizzen.data.lake.objects import Store
from mizzen.kinds.build import ConversionCheck, Datatype, Signature, Tensor
from mizzen.registry.check import check_answers, sampled
from mizzen.registry.convert import EXAMPLE_ROWS_MAX, holdout_of
from mizzen.registry.errors import ConversionFailed, ModelUnfit
from mizzen.registry.graph import is_text
from mizzen.registry.onnx_file import Feed
from mizzen.registry.originals import Answers, Family, Original
from mizzen.registry.package import FORMATS, Format, Package, TensorEntry
from mizzen.registry.prepared import Prepared
from mizzen.registry.rows import (
    LABEL,
    PREDICTION,
    PROBABILITIES,
    Inputs,
    Rows,
    all_numbers,
    column_inputs,
    matrix_inputs,
    signature_of,
)
from mizzen.registry.skops_file import dumped
from mizzen.registry.trying import Part, Tried, entry_of, lay_out, try_out


def prepare_native(
    original: Original, example: Any, holdout: Any | None = None, code: tuple[Store, str] | None = None
) -> Prepared:
    """The model as its library stores it, checked on `holdout`, or on the example where there is none.

    `code`: the store, and the digest of a code bundle in it which holds types of the user's own; it goes with a model
    that has any. Raises `ModelUnfit` where it cannot be stored so, or does not answer as before.
    """
    rows = Rows(example)
    held_out = sampled(holdout_of(rows, holdout))
    form, name, data, untrusted = _stored(original)
    inputs = _inputs(rows, form)
    expected = original.answers(held_out)
    parts = [(entry_of(name, data), data)]
    store, bundle = code if code is not None and untrusted else (None, None)
    package = _package(original, form, rows, inputs, expected, parts, bundle)
    tried = _tried(package, parts, inputs.feed(held_out), untrusted, store)
    found = check_answers(original.source_type, expected, tried.answers, tried.alone, f"the stored {form} model")
    first = inputs.feed(rows.take(np.arange(min(len(rows), EXAMPLE_ROWS_MAX))))
    signature = signature_of(inputs, tried.signature.outputs)
    return _prepared(package, signature, first, found, original.source_type, parts, untrusted)


def prepare_native_file(path: Path, example: Any | None = None) -> Prepared:
    """A model file in its library's format. Raises `ModelUnfit` where the library does not load it."""
    form = FORMATS[path.suffix]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelUnfit(f"{path}: cannot be read: {error.strerror}") from error
    parts: list[Part] = [(entry_of(f"model{path.suffix}", data), data)]
    package = Package(format=form, files=(parts[0][0],))
    tried = _tried(package, parts, None if example is None else _feed_of(example), ())
    signature = tried.signature
    package = Package(
        format=form, files=package.files, inputs=_entries(signature.inputs), outputs=_entries(signature.outputs),
        classes=_counted(signature), probabilities=any(one.name == PROBABILITIES for one in signature.outputs),
    )  # fmt: skip
    return _prepared(package, signature, tried.rows, None, form, parts, ())


def _feed_of(example: Any) -> Feed:
    if isinstance(example, dict):
        return {str(name): np.asarray(values) for name, values in example.items()}
    rows = Rows(example)
    return matrix_inputs(rows).feed(rows)


def _counted(signature: Signature) -> tuple[int, ...] | None:
    """A classifier's labels where nobody named them: 0, 1, …"""
    widths = [one.shape[1] for one in signature.outputs if one.name == PROBABILITIES]
    if widths:
        return tuple(range(widths[0]))
    return () if any(one.name == LABEL for one in signature.outputs) else None


def _tried(
    package: Package, parts: Sequence[Part], rows: Feed | None, untrusted: Sequence[str], store: Store | None = None
) -> Tried:
    with tempfile.TemporaryDirectory(prefix="mizzen-native-") as place:
        folder = Path(place) / "model"
        lay_out(folder, package, parts, store)
        return try_out(folder, rows, trusted=untrusted)


def _stored(original: Original) -> tuple[Format, str, bytes, tuple[str, ...]]:
    """(format, file name, its bytes, types in it that nobody vouches for)."""
    model = original.model
    library = type(model).__module__.partition(".")[0]
    if library == "lightgbm":
        booster = getattr(model, "booster_", model)
        if getattr(booster, "pandas_categorical", None):
            raise ConversionFailed("LightGBM on data frame columns of categories is served as ONNX only")
        return "lightgbm", "model.txt", booster.model_to_string().encode(), ()
    if library == "xgboost":
        booster = model if original.family is Family.XGBOOST else model.get_booster()
        return "xgboost", "model.ubj", bytes(booster.save_raw("ubj")), ()
    data, untrusted = dumped(model)
    return "skops", "model.skops", data, untrusted


def _inputs(rows: Rows, form: Format) -> Inputs:
    if form == "skops" and rows.names and not all_numbers(rows):
        return column_inputs(rows)
    return matrix_inputs(rows)


def _package(
    original: Original,
    form: Format,
    rows: Rows,
    inputs: Inputs,
    expected: Answers,
    parts: Sequence[Part],
    code: str | None,
) -> Package:
    iterations = getattr(original.model, "best_iteration", None) if form == "xgboost" else None
    if original.family is Family.XGBOOST:
        iterations = None  # a booster uses all its trees unless it is told
    labels = None
    if original.classes is not None:
        text = is_text(original.classes)
        labels = tuple(str(one) if text else int(one) for one in original.classes)
    return Package(
        format=form,
        inputs=_entries(inputs.tensors),
        outputs=_entries(_outputs(original, expected)),
        files=tuple(entry for entry, _ in parts),
        code=code,
        classes=labels,
        probabilities=original.has_probabilities,
        columns=tuple(rows.names) if form == "skops" and rows.names else None,
        iterations=None if iterations is None else iterations + 1,
    )


def _outputs(original: Original, expected: Answers) -> list[Tensor]:
    if original.classes is None:
        return [Tensor(name=PREDICTION, datatype="FP64", shape=[-1, *expected[PREDICTION].shape[1:]])]
    kind: Datatype = "BYTES" if is_text(original.classes) else "INT64"
    outputs = [Tensor(name=LABEL, datatype=kind, shape=[-1])]
    if original.has_probabilities:
        outputs.append(Tensor(name=PROBABILITIES, datatype="FP32", shape=[-1, len(original.classes)]))
    return outputs


def _entries(tensors: Sequence[Tensor]) -> tuple[TensorEntry, ...]:
    return tuple(TensorEntry(one.name, one.datatype, tuple(one.shape)) for one in tensors)


def _prepared(
    package: Package,
    signature: Signature,
    example: Feed | None,
    check: ConversionCheck | None,
    source_type: str,
    parts: Sequence[Part],
    untrusted: Sequence[str],
) -> Prepared:
    return Prepared(
        package.encode(), signature, example, check, source_type, package.format, tuple(parts), package.code,
        untrusted=tuple(untrusted),
    )  # fmt: skip
